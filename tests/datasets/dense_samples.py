"""Random samples with regions that are not labelled, for tests of transforms."""

import numpy as np

from mtl_plugins.task_specs import TASK_SPECS, get_task_spec

ALL_TASKS = tuple(TASK_SPECS)


def make_target(task, height, width, rng, labelled=0.8):
    """A random target of ``task`` in which about ``1 - labelled`` of the pixels carry no label."""
    spec = get_task_spec(task)
    shape = (height, width) if spec.target_channels == 1 else (height, width, spec.target_channels)
    if spec.is_categorical:
        target = rng.integers(0, 2 if spec.kind == 'binary' else 7, shape, np.uint8)
    else:
        target = rng.normal(size=shape).astype(np.float32)
        if spec.kind == 'depth':
            target = np.abs(target) + np.float32(0.5)
        if spec.kind == 'normals':
            target /= np.linalg.norm(target, axis=-1, keepdims=True)
    target[rng.random((height, width)) >= labelled] = spec.fill
    return target


def make_sample(height=11, width=8, tasks=ALL_TASKS, seed=0, labelled=0.8):
    """An image and one target per task."""
    rng = np.random.default_rng(seed)
    sample = dict(img=rng.integers(0, 256, (height, width, 3), np.uint8), img_path=f'image{seed}', sample_idx=0)
    for task in tasks:
        sample[f'gt_{task}'] = make_target(task, height, width, rng, labelled)
    sample['seg_fields'] = [f'gt_{task}' for task in tasks]
    return sample


def arrays(sample):
    """Image and targets of a sample."""
    return {key: sample[key] for key in ('img', *sample['seg_fields'])}


def assert_same(actual, expected):
    """Both have the same arrays, bit for bit."""
    assert actual.keys() == expected.keys()
    for key in actual:
        assert actual[key].dtype == expected[key].dtype, key
        assert actual[key].shape == expected[key].shape, key
        assert np.ascontiguousarray(actual[key]).tobytes() == np.ascontiguousarray(expected[key]).tobytes(), key
