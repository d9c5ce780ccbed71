"""The report of a comparison: one HTML page, Markdown with pictures, and CSV."""

from mtl_plugins.errors import UserImportError

try:
    from .comparison import Comparison, expected_keys
    from .views import shared_tables, tuning_tables
    from .writing import Setting, write_report
except ModuleNotFoundError as error:
    raise UserImportError(f'the report of a comparison needs {error.name}: pip install {error.name}') from error

__all__ = ['Comparison', 'Setting', 'expected_keys', 'shared_tables', 'tuning_tables', 'write_report']
