"""The example project trains as it stands: own tasks, metric, dataset, head and method."""

import importlib.util
import json
import math

import numpy as np
import pytest
import torch

from mtl_plugins.cli import train
from mtl_plugins.cli.verify import main as verify
from mtl_plugins.config import load_config
from mtl_plugins.registry import AGGREGATORS, DATASETS, METRICS, MODELS
from mtl_plugins.task_specs import get_task_spec
from tests.support.tiny import MODEL, ROOT

FOLDER = ROOT / 'projects/example_project'
CONFIG = FOLDER / 'even-rows_vit-micro_8b-1k_shapes-96.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    spec = importlib.util.spec_from_file_location('make_shapes', FOLDER / 'make_shapes.py')
    make_shapes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_shapes)
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    assert make_shapes.main([str(folder), '--train', '6', '--val', '2', '--size', '48']) == 0
    return folder


def shrunk(data, tmp_path, iterations, **options):
    cfg = load_config(CONFIG, work_dir=str(tmp_path / 'run'), data_root=str(data), **options)
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.model.backbone.update(MODEL, img_size=(48, 48))
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.experiment_name = tmp_path.name
    return cfg


@pytest.mark.parametrize('method', [None, 'stgu'])
def test_it_trains_and_validates(data, tmp_path, method):
    train.build_runner(shrunk(data, tmp_path, 3, method=method)).train()
    (entry,) = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    assert {'shape/mIoU', 'outline_distance/within', 'edge/odsF_greedy'} <= set(entry['metrics'])
    saved = torch.load(tmp_path / 'run' / 'iter_3.pth', weights_only=True)['optimizer']['mtl']
    assert saved['method'] == (method or 'EvenRows')
    assert saved['tasks'] == ['shape', 'outline_distance', 'edge']
    assert list((tmp_path / 'run' / 'panels' / 'iter_000003').glob('*.png'))


def test_the_folder_is_verified_and_damage_is_found(data, tmp_path, monkeypatch, capsys):
    load_config(CONFIG)
    monkeypatch.setenv('MTL_PLUGINS_CACHE', str(tmp_path))
    name = 'projects.example_project.check:ShapesCheck'
    assert verify([name, str(data), '--jobs', '1']) == 0
    victim = data / 'outline_distance' / '0001.npy'
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    try:
        assert verify([name, str(data), '--jobs', '1']) == 1
    finally:
        victim.write_bytes(whole)
    assert 'outline_distance/0001.npy' in capsys.readouterr().out


def test_the_data_set_reads_what_was_drawn(data):
    load_config(CONFIG)
    dataset = DATASETS.build(
        dict(type='ShapesDataset', data_root=str(data.parent), split='val', pipeline=[dict(type='LoadSampleFiles')])
    )
    assert len(dataset) == 2
    sample = dataset[0]
    assert sample['img'].shape == (48, 48, 3)
    assert set(np.unique(sample['gt_shape'])) <= {0, 1, 2, 3}
    assert np.array_equal(sample['gt_outline_distance'] == 0, sample['gt_edge'] == 1)


def test_even_rows_have_one_length_and_the_geometric_mean_of_theirs():
    load_config(CONFIG)
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert AGGREGATORS.build(dict(type='EvenRows'))(rows).tolist() == pytest.approx([2, 2, 0])
    assert AGGREGATORS.build(dict(type='EvenRows', limit=1))(rows).tolist() == pytest.approx([1, 4, 0])
    with pytest.raises(ValueError, match='limit must be 1 or more'):
        AGGREGATORS.build(dict(type='EvenRows', limit=0.5))


def test_the_metric_counts_pixels_within_the_distance_and_only_labelled_ones():
    load_config(CONFIG)
    assert get_task_spec('outline_distance').headline_key == 'outline_distance/within'
    metric = METRICS.build(dict(type='WithinMetric', task='outline_distance', distance=2))
    gt = torch.tensor([[[0.0, 5.0, math.nan, 9.0]]])
    pred = torch.tensor([[[1.0, 7.0, 0.0, 6.0]]])
    metric.process(None, [dict(gt_outline_distance=dict(data=gt), pred_outline_distance=dict(data=pred))])
    assert metric.evaluate(1) == {'outline_distance/within': pytest.approx(200 / 3)}
    with pytest.raises(ValueError, match='must be positive'):
        METRICS.build(dict(type='WithinMetric', task='outline_distance', distance=0))


def test_the_head_keeps_the_place_of_every_feature():
    load_config(CONFIG)
    head = MODELS.build(dict(type='TwoLayerHead', in_channels=6, out_channels=3, hidden=8))
    assert head(torch.zeros(2, 6, 5, 7)).shape == (2, 3, 5, 7)
