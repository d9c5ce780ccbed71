"""NYUD-v2 at a size that two cores can train on: `python nyuv2_small.py data/NYUDv2 data/nyuv2_64x80`.

Six tasks: classes, depth, normals and edges of the source; texture edges and 2D keypoints of the images.
"""

import argparse
import os
import sys
from pathlib import Path

import cv2
import numpy as np
from joblib import Parallel, delayed

from mtl_plugins.datasets import FilesDataset, NYUDv2Dataset
from mtl_plugins.datasets.files import SampleReader, palette, read_lines
from mtl_plugins.datasets.filters import keypoint_heatmap, texture_edges, to_grey
from mtl_plugins.datasets.npz import read_npz
from mtl_plugins.datasets.transforms.resizing import resize_nearest
from mtl_plugins.registry import DATASETS

TASKS = ('semseg', 'depth', 'normals', 'edge', 'edge_texture', 'keypoints2d')
# The source that everyone can have does not tell class 40, "otherprop", from pixels without a label.
NAMES = NYUDv2Dataset.CLASSES['semseg'][:39]
SPLITS = ('train', 'val')


class Reader(SampleReader):
    """Reads the targets, which lie in one file per image."""

    def read_target(self, task, results):
        with open(results['files'][task], 'rb') as file:
            target = read_npz(file, [task])[task]
        return target if target.dtype == np.uint8 else target.astype(np.float32)


@DATASETS.register_module()
class SmallNYUv2(FilesDataset):
    """What :func:`main` wrote."""

    NAME = 'nyuv2_small'
    TASKS = TASKS
    CLASSES = {'semseg': NAMES}
    PALETTES = {'semseg': palette(len(NAMES))}

    def find_root(self, data_root):
        return Path(data_root)

    def list_samples(self):
        return [
            dict(
                img_path=str(self.root / 'images' / f'{name}.png'),
                files={task: str(self.root / 'targets' / f'{name}.npz') for task in self.tasks},
            )
            for name in read_lines(self.root / f'{self.split}.txt')
        ]

    def make_reader(self):
        return Reader()


def shrink(sample, size):
    """The image and targets of a sample at ``size`` (height, width)."""
    image = cv2.resize(sample['img'], size[::-1], interpolation=cv2.INTER_AREA)
    targets = {task: resize_nearest(sample[f'gt_{task}'], size) for task in ('semseg', 'depth', 'normals')}
    targets['semseg'] = np.where(targets['semseg'] < len(NAMES), targets['semseg'], 255).astype(np.uint8)
    # A line is one pixel wide here, too: a pixel is an edge if a good part of what it covers is.
    share = cv2.resize(sample['gt_edge'].astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    targets['edge'] = (share > 0.25).astype(np.uint8)
    grey = to_grey(image[..., ::-1])
    targets.update(edge_texture=texture_edges(grey), keypoints2d=keypoint_heatmap(grey))
    half = ('depth', 'normals', 'edge_texture', 'keypoints2d')
    return image, {task: target.astype(np.float16) if task in half else target for task, target in targets.items()}


def write(dataset, index, out, size):
    """Write one sample; one that is there already stays."""
    sample = dataset[index]
    name = Path(sample['img_path']).stem
    if not (out / 'targets' / f'{name}.npz').exists():
        image, targets = shrink(sample, size)
        cv2.imwrite(str(out / 'images' / f'{name}.png'), image)
        partial = out / 'targets' / f'{name}.part'
        with open(partial, 'wb') as file:
            np.savez_compressed(file, **targets)
        os.replace(partial, partial.with_suffix('.npz'))
    return name


def main(argv=None):
    """Make the small folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='folder made by tools/datasets/prepare_nyuv2.py')
    parser.add_argument('out', type=Path)
    parser.add_argument('--size', type=int, nargs=2, default=(64, 80), metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--every', type=int, default=2, help='use each n-th training image (default: %(default)s)')
    args = parser.parse_args(argv)
    for folder in ('images', 'targets'):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        dataset = NYUDv2Dataset(args.source, split=split, pipeline=[dict(type='mtl_plugins.LoadSampleFiles')])
        indices = range(0, len(dataset), args.every if split == 'train' else 1)
        jobs = (delayed(write)(dataset, index, args.out, tuple(args.size)) for index in indices)
        names = Parallel(n_jobs=-1)(jobs)
        (args.out / f'{split}.txt').write_text('\n'.join(names) + '\n')
        print(f'{split}: {len(names)} images')
    return 0


if __name__ == '__main__':
    sys.exit(main())
