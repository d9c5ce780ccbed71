"""What must hold for a folder of the dataset, for tools/datasets/verify.py."""

from functools import partial

from mtl_plugins.datasets.files import read_indices, read_lines, read_npy
from mtl_plugins.datasets.verification import (
    CheckJob,
    LayoutCheck,
    check_ids,
    check_npy,
    check_png,
    check_target,
    make_problem,
)
from projects.example_project.shapes import CLASSES, ShapesDataset, target_path


class ShapesCheck(LayoutCheck):
    """Folders, lists of ids, and every file."""

    NAME = ShapesDataset.NAME

    def structure(self):
        for split in ShapesDataset.SPLITS:
            if (self.root / f'{split}.txt').is_file():
                yield from check_ids(f'{split}.txt', read_lines(self.root / f'{split}.txt'), None)
            else:
                yield make_problem('missing file', f'{split}.txt', f'it lists the samples of the split {split}')

    def jobs(self):
        return [
            CheckJob(
                (f'images/{name}.png', *(str(target_path('', task, name)) for task in ShapesDataset.TASKS)),
                partial(check_sample, name=name),
            )
            for split in ShapesDataset.SPLITS
            if (self.root / f'{split}.txt').is_file()
            for name in read_lines(self.root / f'{split}.txt')
        ]

    def describe(self):
        return {'folder': str(self.root), 'samples': str(len(self.jobs()))}


def check_sample(root, name):
    """The image and the targets of one sample."""
    problems = check_png(root, f'images/{name}.png', channels=3, bits=8)
    for task in ShapesDataset.TASKS:
        path = str(target_path('', task, name))
        if task == 'outline_distance':
            problems += check_npy(root, path, dtypes=('float32',))
            problems += check_target(root, path, task, partial(read_npy, root / path))
        else:
            classes = len(CLASSES) if task == 'shape' else None
            problems += check_target(root, path, task, partial(read_indices, root / path), num_classes=classes)
    return problems
