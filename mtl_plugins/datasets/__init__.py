"""Datasets, their samplers and their transforms."""

from mtl_plugins.methods.exports import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        'cache': 'CacheError SampleCache',
        'collate': 'collate_targets',
        'concat': 'MultiTaskConcatDataset',
        'files': 'DerivedCache FilesDataset LoadSampleFiles UnreadableFileError',
        'hold_out': 'HoldOut',
        'mixing': 'MixedSampler',
        'nyud': 'NYUDv2Dataset',
        'pascal_context': 'PascalContextMTDataset',
        'photo_files': 'UnreadablePhotoError',
        'photos': 'PhotosDataset',
        'presence': 'sample_tasks',
        'rooms': 'RoomsDataset',
        'samplers': 'AbsoluteSampler SamplePosition',
        'taskonomy': 'TaskonomyDataset',
        'transforms': 'CheckTargets LoadCachedSample MultiTaskPad MultiTaskRandomCrop MultiTaskRandomFlip '
        'MultiTaskRandomScale PackMultiTaskInputs RandomLabelSubset SeededTransforms',
    },
)
