"""Trained models for programs without MMEngine: ONNX and ``torch.export``."""

from .program import FORMATS, ExportedTasks, export_program, save_program
from .verification import compare_with_file, differences, test_images

__all__ = [
    'FORMATS', 'ExportedTasks', 'compare_with_file', 'differences', 'export_program', 'save_program', 'test_images',
]  # fmt: skip
