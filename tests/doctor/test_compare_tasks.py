from types import SimpleNamespace

import pytest

from mtl_plugins.doctor.data import compare_tasks


def test_heads_must_have_the_channels_of_the_data():
    dataset = SimpleNamespace(metainfo=dict(tasks=('reshading', 'depth'), channels=dict(reshading=3, depth=1)))
    notes = []
    step = SimpleNamespace(note=notes.append)

    def model(channels):
        heads = dict(reshading=SimpleNamespace(out_channels=channels))
        return SimpleNamespace(tasks=('reshading',), heads=heads)

    compare_tasks(step, model(3), dataset)
    assert notes == ['no head for depth: these targets are loaded and not used']
    with pytest.raises(ValueError, match=r'predicts 1 channels, the data have 3; set model.heads.reshading.channels=3'):
        compare_tasks(step, model(1), dataset)
