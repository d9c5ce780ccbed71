"""The report of a comparison: Markdown with pictures, CSV, and one HTML page."""

from .comparison import Comparison, expected_keys
from .writing import write_report

__all__ = ['Comparison', 'expected_keys', 'write_report']
