import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mtl_plugins.registry import HOOKS
from mtl_plugins.task_specs import TASK_SPECS
from mtl_plugins.visualization import PredictionPanelHook, image_from_inputs, prediction_panel

META = dict(tasks=('semseg', 'depth'), classes=dict(semseg=('wall', 'floor', 'a rather long name')), palettes={})


def _sample(size=(24, 32), seed=0, index=0):
    rng = np.random.default_rng(seed)
    sample = SegDataSample(metainfo=dict(sample_idx=index, img_path=f'/photos/room {index}.png'))
    for kind in ('gt', 'pred'):
        classes = torch.as_tensor(rng.integers(0, 3, (1, *size)).astype(np.uint8))
        sample.set_field(PixelData(data=classes), f'{kind}_semseg')
        sample.set_field(PixelData(data=torch.as_tensor(rng.uniform(1, 5, (1, *size)))), f'{kind}_depth')
    return sample


def test_small_maps_are_enlarged_and_both_rows_are_there():
    sample = _sample()
    panel = prediction_panel(sample, ['depth'])
    assert panel.dtype == np.uint8
    assert panel.shape[0] >= 2 * 160
    changed = _sample()
    changed.pred_depth.data = changed.gt_depth.data.clone()
    other = prediction_panel(changed, ['depth'])
    assert panel.shape == other.shape
    rows = np.flatnonzero((panel != other).any(axis=(1, 2)))
    assert rows.min() > panel.shape[0] * 0.3, 'only the lower row, the prediction, may change'


def test_all_tasks_wrap_into_bands():
    rng = np.random.default_rng(0)
    sample = {}
    for task, spec in TASK_SPECS.items():
        channels = 1 if spec.is_categorical else spec.channels
        sample[f'gt_{task}'] = rng.integers(0, 2, (channels, 20, 20)).astype(np.uint8 if spec.is_categorical else float)
        sample[f'pred_{task}'] = sample[f'gt_{task}'].copy()
    image = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    # Other tests may have registered further tasks.
    wide = prediction_panel(sample, list(TASK_SPECS), image=image, columns=len(TASK_SPECS) + 1)
    banded = prediction_panel(sample, list(TASK_SPECS), image=image, columns=5, title='all')
    assert banded.shape[0] > 2.5 * wide.shape[0]
    assert banded.shape[1] < 0.5 * wide.shape[1]


def test_the_data_set_may_set_the_range_of_the_colours():
    sample = dict(gt_edge_texture=np.full((1, 24, 32), -0.5, np.float32))
    lows = [
        prediction_panel(sample, ['edge_texture'], meta=dict(value_ranges=ranges))[120]
        for ranges in ({}, dict(edge_texture=(-1.0, 1.0)))
    ]
    assert (lows[0] == 0).all(axis=-1).any(), 'below the range of the task table: black'
    assert not (lows[1] == 0).all(axis=-1).any()
    assert (lows[1] == 64).all(axis=-1).any()


def test_a_long_title_stays_inside():
    panel = prediction_panel(_sample(), ['depth'], title='folder/' * 30 + 'WWW.png')
    assert (panel[:30, -4:] == 255).all()
    assert (panel[:30] < 100).any()


def test_large_maps_are_reduced():
    panel = prediction_panel(_sample((425, 560)), ['semseg', 'depth'])
    assert panel.shape[1] < 2 * 360 + 100


@pytest.mark.parametrize('size', [(1, 900), (900, 1), (2, 30), (3000, 4), (3, 5)])
def test_very_thin_maps_stay_of_a_size_to_look_at(size):
    panel = prediction_panel(_sample(size), ['semseg', 'depth'])
    assert max(panel.shape) < 3000


@pytest.mark.parametrize('missing', ['gt_depth', 'pred_depth'])
def test_what_is_missing_is_said_instead_of_drawn(missing):
    whole, sample = _sample(), _sample()
    sample.pop(missing)
    first, second = (prediction_panel(one, ['semseg', 'depth']) for one in (whole, sample))
    assert first.shape == second.shape
    assert (first != second).any()


def test_a_row_that_nothing_fills_is_left_out():
    whole, sample = _sample(), _sample()
    for task in ('semseg', 'depth'):
        sample.pop(f'gt_{task}')
    both, alone = (prediction_panel(one, ['semseg', 'depth']) for one in (whole, sample))
    cell = 168  # 24 rows, enlarged to at least 160
    assert alone.shape[0] == both.shape[0] - cell - 6
    assert alone.shape[1] == both.shape[1]


def test_nothing_at_all_is_an_error():
    with pytest.raises(ValueError, match='no target, no prediction and no image'):
        prediction_panel({}, ['depth'])
    with pytest.raises(KeyError, match="did you mean 'depth'"):
        prediction_panel(_sample(), ['dept'])


def test_packed_inputs_are_bgr():
    inputs = torch.zeros(3, 2, 2, dtype=torch.uint8)
    inputs[0] = 200
    assert image_from_inputs(inputs)[0, 0].tolist() == [0, 0, 200]


class _Stored(torch.utils.data.Dataset):
    metainfo = META

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return dict(inputs=torch.full((3, 24, 32), 20 * index, dtype=torch.uint8), data_samples=_sample(index=index))


class _Echo(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def train_step(self, data, optim_wrapper):
        return {}

    def val_step(self, data):
        return data['data_samples']

    test_step = val_step


def _runner(tmp_path, shuffle=False, **hook):
    loader = dict(
        dataset=_Stored(), batch_size=2, num_workers=0, collate_fn=dict(type='pseudo_collate'),
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
    )  # fmt: skip
    evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto')
    return Runner(
        model=_Echo(),
        work_dir=str(tmp_path),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        train_cfg=dict(by_epoch=False, max_iters=3, val_interval=1),
        val_cfg=dict(),
        test_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        custom_hooks=[dict(type='mtl_plugins.PredictionPanelHook', **hook)],
        default_hooks=dict(checkpoint=None),
        default_scope='mtl_plugins',
        experiment_name=f'panels-{tmp_path.name}',
    )


@pytest.mark.parametrize('shuffle', [False, True])
def test_validation_draws_the_same_images_each_time(tmp_path, shuffle):
    HOOKS.import_from_location()
    runner = _runner(tmp_path, shuffle, num_panels=3, interval=2)
    runner.train()
    folders = sorted(path.name for path in (tmp_path / 'panels').iterdir())
    assert len(folders) == 2, 'the first and the third validation'
    for folder in folders:
        files = sorted((tmp_path / 'panels' / folder).iterdir())
        assert [file.name for file in files] == ['000000_room_0.png', '000004_room_4.png', '000008_room_8.png']
        pixels = np.asarray(Image.open(files[0]))
        assert pixels.shape[0] > 320
        assert pixels.std() > 10


@pytest.mark.parametrize('world', [1, 2, 4])
def test_chosen_images_are_among_those_of_rank_0(monkeypatch, world):
    monkeypatch.setattr('mtl_plugins.visualization.hooks.get_world_size', lambda: world)
    chosen = PredictionPanelHook(num_panels=5)._choose(41)
    assert len(chosen) == 5
    assert all(index % world == 0 for index in chosen)
    assert 0 in chosen
    assert max(chosen) > 35
    assert len(PredictionPanelHook(num_panels=50)._choose(7)) == -(-7 // world)


def test_a_test_draws_only_with_a_folder(tmp_path):
    _runner(tmp_path / 'a').test()
    assert not (tmp_path / 'a' / 'panels').exists()
    _runner(tmp_path / 'b', show_dir=str(tmp_path / 'shown'), num_panels=None).test()
    assert len(list((tmp_path / 'shown').glob('*.png'))) == 9


def test_a_full_disk_does_not_end_the_run(monkeypatch, caplog, tmp_path):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mtl_plugins.visualization.hooks.save_image', full)
    runner = SimpleNamespace(
        iter=5,
        work_dir=str(tmp_path),
        logger=logging.getLogger('panels'),
        val_dataloader=SimpleNamespace(dataset=_Stored()),
    )
    hook = PredictionPanelHook(num_panels=None)
    hook.before_val_epoch(runner)
    item = _Stored()[1]
    hook.after_val_iter(runner, 0, dict(inputs=[item['inputs']]), [item['data_samples']])
    hook.after_val_epoch(runner)
    assert 'was not written: [Errno 28]' in caplog.text
    assert str(Path('panels') / 'iter_000005' / '000001_room_1.png') in caplog.text


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(interval=0), ValueError, 'must be positive, but got 0 and 4'),
        (dict(num_panels=0), ValueError, 'must be positive, but got 1 and 0'),
        (dict(tasks=['sall']), KeyError, "did you mean 'sal'"),
    ],
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        PredictionPanelHook(**options)
