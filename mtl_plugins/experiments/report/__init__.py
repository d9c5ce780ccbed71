"""The report of a comparison: one HTML page, Markdown with pictures, and CSV."""

from mtl_plugins.errors import UserImportError

try:
    from .comparison import Comparison, expected_keys
    from .writing import write_report
except ModuleNotFoundError as error:
    raise UserImportError(f'the report of a comparison needs {error.name}: pip install {error.name}') from error

__all__ = ['Comparison', 'expected_keys', 'write_report']
