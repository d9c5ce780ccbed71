"""A dataset in a folder of files: pictures of discs, squares and triangles."""

from pathlib import Path

from mtl_plugins.datasets import FilesDataset
from mtl_plugins.datasets.files import SampleReader, find_folder, read_indices, read_lines, read_npy
from mtl_plugins.registry import DATASETS
from projects.example_project import tasks  # noqa: F401  (importing registers them)

CLASSES = ('background', 'disc', 'square', 'triangle')


class ShapesReader(SampleReader):
    """How the files become arrays; the image is read by the base class."""

    def read_target(self, task, results):
        path = results['files'][task]
        if task == 'outline_distance':
            return read_npy(path).astype('float32')
        return read_indices(path)  # (H, W) uint8


@DATASETS.register_module()
class ShapesDataset(FilesDataset):
    """``images/<id>.png``, a folder of ``<id>.png`` or ``<id>.npy`` per task, and the ids in ``<split>.txt``."""

    NAME = 'projects.example_project.check:ShapesCheck'  # for tools/datasets/verify.py
    TASKS = ('shape', 'outline_distance', 'edge')
    SPLITS = ('train', 'val')
    CLASSES = {'shape': CLASSES}
    PALETTES = {'shape': ((40, 40, 40), (230, 159, 0), (86, 180, 233), (0, 158, 115))}

    def find_root(self, data_root):
        return find_folder(
            data_root,
            names=['shapes'],  # tried below data_root
            looks_right=lambda folder: (folder / 'train.txt').is_file(),
            looked_for='the file train.txt',
            verify=self.NAME,
        )

    def list_samples(self):
        return [
            dict(
                img_path=str(self.root / 'images' / f'{name}.png'),
                files={task: str(target_path(self.root, task, name)) for task in self.TASKS},
            )
            for name in read_lines(self.root / f'{self.split}.txt')
        ]

    def make_reader(self):
        return ShapesReader()


def target_path(root, task, name):
    """Where the target of a sample lies."""
    return Path(root) / task / (name + ('.npy' if task == 'outline_distance' else '.png'))
