import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtl_plugins.datasets import RoomsDataset
from mtl_plugins.datasets.transforms import RandomLabelSubset

TASKS = ('semseg', 'depth', 'normals', 'edge')
NAMES = [f'/some/where/rooms/{number:06d}.npz' for number in range(2000)]


def sample(path, tasks=TASKS):
    fields = [f'gt_{task}' for task in tasks]
    return dict(img_path=path, seg_fields=fields, **dict.fromkeys(fields, np.zeros((2, 2))))


def kept(transform, path=NAMES[0], tasks=TASKS):
    results = transform(sample(path, tasks))
    assert {key for key in results if key.startswith('gt_')} == set(results['seg_fields'])
    return [key.removeprefix('gt_') for key in results['seg_fields']]


def test_a_share_of_each_label_is_kept_independently():
    subsets = [RandomLabelSubset(TASKS, keep=0.5, at_least=0).kept(name) for name in NAMES]
    kept_by = np.array([[task in subset for task in TASKS] for subset in subsets])
    assert np.abs(kept_by.mean(0) - 0.5).max() < 0.05
    for first, second in itertools.combinations(kept_by.T, 2):
        assert abs((first & second).mean() - 0.25) < 0.05


def test_shares_per_task():
    transform = RandomLabelSubset(TASKS, keep=dict(semseg=0.1, depth=0.0, normals=1.0), at_least=0)
    subsets = [transform.kept(name) for name in NAMES]
    assert 0.07 < np.mean(['semseg' in subset for subset in subsets]) < 0.13
    assert not any('depth' in subset for subset in subsets)
    assert all({'normals', 'edge'} <= subset for subset in subsets)


@pytest.mark.parametrize('at_least', [1, 2, 4])
def test_every_image_keeps_some(at_least):
    some, none = (RandomLabelSubset(TASKS, keep=0.3, at_least=n) for n in (at_least, 0))
    for name in NAMES[:300]:
        assert none.kept(name) <= some.kept(name)
        assert len(some.kept(name)) == max(at_least, len(none.kept(name)))


def test_depends_on_seed_and_image_alone(tmp_path):
    transform = RandomLabelSubset(TASKS, seed=3)
    first = [transform.kept(name) for name in NAMES[:50]]
    np.random.seed(1)  # noqa: NPY002
    assert [RandomLabelSubset(TASKS, seed=3).kept(name) for name in NAMES[:50]] == first
    assert [transform.kept(f'/else{name}') for name in NAMES[:50]] == first
    assert [RandomLabelSubset(TASKS, seed=4).kept(name) for name in NAMES[:50]] != first
    code = (
        'from mtl_plugins.datasets.transforms import RandomLabelSubset as R;'
        f"print([sorted(R({TASKS}, seed=3).kept(f'rooms/{{n:06d}}.npz')) for n in range(50)])"
    )
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2]), 'PYTHONHASHSEED': '7'}
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1] == str([sorted(subset) for subset in first])


def test_a_single_task_data_set_keeps_the_same_labels():
    transform = RandomLabelSubset(TASKS)
    for name in NAMES[:100]:
        together = kept(transform, name)
        assert [task for task in TASKS if kept(transform, name, (task,)) == [task]] == together


def test_other_tasks_stay():
    transform = RandomLabelSubset(('semseg', 'depth'), keep=0.0, at_least=0)
    assert kept(transform) == ['normals', 'edge']
    assert transform.remaining(NAMES[0], TASKS) == ('normals', 'edge')


def test_in_a_pipeline(tmp_path):
    tasks = ('depth', 'normals', 'sal')
    pipeline = [
        dict(type='mtl_plugins.LoadCachedSample'),
        dict(type='mtl_plugins.RandomLabelSubset', tasks=tasks),
        dict(type='mtl_plugins.CheckTargets'),
        dict(type='mtl_plugins.PackMultiTaskInputs'),
    ]
    dataset = RoomsDataset('train', 12, (16, 16), tasks, cache_dir=tmp_path, pipeline=pipeline)
    labels = [sorted(dataset[index]['data_samples'].keys()) for index in range(12)]
    assert labels == [sorted(dataset[index]['data_samples'].keys()) for index in range(12)]
    assert len(set(map(tuple, labels))) > 2
    assert all(labels)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(tasks='depth'), TypeError, "tasks must be a list of strings, but got 'depth'"),
        (dict(tasks=['depht']), KeyError, "did you mean 'depth'"),
        (
            dict(tasks=['depth'], keep=1.5),
            ValueError,
            r'keep must be a number in \[0, 1\] or a dict of .*, but got 1.5',
        ),
        (dict(tasks=['depth'], keep=dict(edge=0.5)), ValueError, r"keep names \['edge'\], but tasks are \['depth'\]"),
        (dict(tasks=['depth'], at_least=0.5), ValueError, 'at_least must be an integer >= 0, but got 0.5'),
        (dict(tasks=['depth'], at_least=2), ValueError, 'at_least must be 0 to 1, the number of tasks, but got 2'),
    ],
)
def test_mistakes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        RandomLabelSubset(**arguments)


def test_images_need_a_name():
    with pytest.raises(ValueError, match="sample 'number 4' has no 'img_path'"):
        RandomLabelSubset(TASKS)(dict(sample_idx=4, seg_fields=[]))
