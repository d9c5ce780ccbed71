"""Trained models for programs without MMEngine: ONNX and ``torch.export``."""

from mtl_plugins.methods.exports import on_demand

FORMATS = ('onnx', 'pt2')

__getattr__, __all__ = on_demand(
    __name__,
    {
        'program': 'ExportedTasks export_program save_program',
        'verification': 'compare_with_file differences test_images',
    },
)
__all__ += ['FORMATS']
