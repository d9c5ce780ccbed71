import logging
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mtl_plugins.cli.browse import draw_sheet
from mtl_plugins.registry import HOOKS
from mtl_plugins.task_specs import TASK_SPECS
from mtl_plugins.visualization import PredictionPanelHook, image_from_inputs, panels, prediction_panel

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


def _circle(size, radius):
    rows, columns = np.indices(size)
    inside = (rows - size[0] / 2) ** 2 + (columns - size[1] / 2) ** 2 < radius**2
    return np.where(inside[..., None], np.uint8([255, 0, 255]), np.uint8(0))


def _extent(panel, colour):
    found = (np.abs(panel.astype(int) - colour) < 30).all(axis=-1)
    return [np.ptp(np.flatnonzero(found.any(axis=axis))) + 1 for axis in (1, 0)]


@pytest.mark.parametrize('offset', [(0, 0), (60, 40)])
@pytest.mark.parametrize('padded_targets', [False, True])
def test_a_padded_input_is_not_squashed_beside_targets_without_padding(offset, padded_targets):
    """As of PASCAL: 96 x 128 pixels of content, padded to 160 x 210."""
    image = np.full((160, 210, 3), 120, np.uint8)
    window = tuple(slice(start, start + side) for start, side in zip(offset, (96, 128)))
    image[window] = _circle((96, 128), 40)
    sample = _sample((96, 128))
    sample.set_metainfo(dict(img_shape=(96, 128), pad_offset=offset, pad_shape=(160, 210)))
    if padded_targets:  # as the pipeline for training does
        data = torch.zeros(1, 160, 210)
        data[:, window[0], window[1]] = sample.gt_depth.data
        sample.set_data(dict(gt_depth=PixelData(data=data)))
    panel = prediction_panel(sample, ['depth'], image=image)
    height, width = _extent(panel, [255, 0, 255])
    assert height == pytest.approx(width, rel=0.03)
    assert height > 100, 'the padding takes no room'
    plain = _sample((96, 128))
    np.testing.assert_array_equal(panel, prediction_panel(plain, ['depth'], image=image[window]))


@pytest.mark.parametrize('size', [(160, 210), (300, 90), (64, 640)])
def test_nothing_is_stretched(size):
    """An input of another aspect than the targets, without a word of padding, and a target of another aspect."""
    panel = prediction_panel(_sample((96, 128)), ['depth'], image=_circle(size, 0.45 * min(size)))
    height, width = _extent(panel, [255, 0, 255])
    assert height == pytest.approx(width, rel=0.03)
    edge = torch.as_tensor(_circle(size, 0.45 * min(size))[None, ..., 0] > 0).to(torch.uint8)
    sample = _sample((96, 128))
    sample.set_data(dict(gt_edge=PixelData(data=edge), pred_edge=PixelData(data=torch.zeros(1, 96, 128))))
    panel = prediction_panel(sample, ['depth', 'edge'])
    height, width = _extent(panel[: len(panel) // 2], [252, 253, 191])  # above the colour bar
    assert height == pytest.approx(width, rel=0.03)


def test_browsing_shows_image_and_targets_without_padding():
    sample = _sample((20, 40))
    sample.set_metainfo(dict(img_shape=(20, 40), pad_offset=(10, 0)))
    inputs = torch.zeros(3, 40, 40, dtype=torch.uint8)
    inputs[:, 10:30] = 200
    meta = dict(palettes=dict(semseg=[[9, 9, 9]] * 3))
    sheet = draw_sheet(dict(inputs=inputs, data_samples=sample), meta)
    plain = draw_sheet(dict(inputs=inputs[:, 10:30], data_samples=sample), meta)
    np.testing.assert_array_equal(sheet, plain)
    for key in ('gt_semseg', 'gt_depth'):  # padded along, as for training
        padded = torch.nn.functional.pad(sample.get(key).data, (0, 0, 10, 10))
        sample.set_data({key: PixelData(data=padded)})
    np.testing.assert_array_equal(draw_sheet(dict(inputs=inputs, data_samples=sample), meta), sheet)


@pytest.fixture
def texts(monkeypatch):
    """What is written into a panel."""
    written = []
    monkeypatch.setattr(panels, 'pixel_text', lambda figure, left, top, text, **_: written.append((top, text)))
    return written


def _classes(*counts):
    """A map ``(1, 40, n)`` with so many pixels of classes 0, 1, ...; the rest is not labelled."""
    values = np.repeat(np.arange(len(counts)), counts)
    side = max(40, -(-len(values) // 40))
    return np.pad(values, (0, 40 * side - len(values)), constant_values=255).reshape(1, 40, side).astype(np.uint8)


def test_what_a_panel_says_about_its_colours(texts):
    depth = np.full((1, 40, 40), 2.0, np.float32)
    depth[:, :3], depth[:, 5:9] = 0, 3
    wide = np.linspace(4.36e-06, 5, 1600, dtype=np.float32).reshape(1, 40, 40)
    code = np.linspace(4.36e-06, 0.5, 1600, dtype=np.float32).reshape(1, 40, 40)

    def told(**sample):
        texts.clear()
        prediction_panel(sample, sorted({key[key.index('_') + 1 :] for key in sample if key != 'img_path'}))
        return [text for _, text in texts]

    assert {'hatched: not labelled', '≤ 2 m', '≥ 3 m'} <= set(told(gt_depth=depth, pred_depth=wide))
    plain = told(gt_depth=wide, pred_depth=depth.clip(1))
    assert {'0 m', '5 m'} <= set(plain)
    assert not any('hatched' in text or '<' in text or 'log' in text for text in plain)
    assert {'log code', '0', '0.5'} <= set(told(gt_depth_euclidean=code))
    assert 'hatched: no number' in told(pred_depth=wide * np.where(wide > 4, np.nan, 1))


def test_browsing_names_the_image_and_the_classes(texts):
    inputs = torch.zeros(3, 24, 32, dtype=torch.uint8)
    draw_sheet(dict(inputs=inputs, data_samples=_sample()), META)
    assert {'photos/room 0.png', 'wall', 'floor'} <= {text for _, text in texts}


@pytest.mark.parametrize('count', [1, 8, 9, 25, 60])
def test_the_legend_names_every_class_of_the_target_first(texts, count):
    target = _classes(*([20] * (count - 1)), 1)  # the last with one pixel
    predicted = np.where(target == 255, 255, 254 - target).astype(np.uint8)
    names = [f'c{number}' for number in range(256)]
    sample, meta = dict(gt_semseg=target, pred_semseg=predicted), dict(classes=dict(semseg=names))
    panel = prediction_panel(sample, ['semseg'], meta=meta)
    told = [text for _, text in texts if text.startswith('c')]
    assert told[:count] == [f'c{number}' for number in range(count)]
    assert max(top for top, _ in texts) < panel.shape[0]


def test_the_legend_counts_what_only_the_prediction_has_and_nobody_sees(texts):
    target, predicted = _classes(9000, 1000), _classes(7000, 2000, *([50] * 20))
    predicted = predicted[:, :, : target.shape[2]]
    names = [f'c{number}' for number in range(30)]
    prediction_panel(dict(gt_semseg=target, pred_semseg=predicted), ['semseg'], meta=dict(classes=dict(semseg=names)))
    assert [text for _, text in texts if text.startswith('c')] == [f'c{number}' for number in range(7)]
    assert 'and 15 more predicted' in [text for _, text in texts]


def test_the_legend_of_a_prediction_alone_names_what_can_be_seen(texts):
    names = [f'c{number}' for number in range(30)]
    labels = _classes(*([200] * 12), 1, 1, 1)
    prediction_panel(dict(pred_semseg=labels), ['semseg'], meta=dict(classes=dict(semseg=names)))
    assert [text for _, text in texts if text.startswith('c')] == [f'c{number}' for number in range(13)]  # no gap
    assert 'and 2 more predicted' in [text for _, text in texts]


@pytest.mark.parametrize('name', ['\udcff', 'a$b$', r'$\frac{$', '\N{SNOWMAN}_^', '{}%'])
def test_names_are_written_as_they_are(texts, name):
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')  # of which the font has none
        meta = dict(classes=dict(semseg=[name]))
        prediction_panel(dict(pred_semseg=_classes(100)), ['semseg'], meta=meta, title=name)


def test_panels_of_one_size_whatever_they_show(texts):
    sizes = set()
    for count in (1, 8, 16, 17, 60):
        texts.clear()
        labels = np.arange(60 * 60).reshape(1, 60, 60).astype(np.int64) % count
        sample = dict(pred_semseg=labels.astype(np.uint8))
        names = [f'c{number}' for number in range(count)]
        panel = prediction_panel(sample, ['semseg'], meta=dict(classes=dict(semseg=names)), legend_lines=8)
        sizes.add(panel.shape)
        told = [text for _, text in texts if text.startswith('c')]
        assert told == (names if count <= 16 else names[:15])
        assert (f'and {count - 15} more predicted' in [text for _, text in texts]) == (count > 16)
        assert max(top for top, _ in texts) < panel.shape[0]
    assert len(sizes) == 1


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
    _runner(tmp_path / 'c', show_dir=str(tmp_path / 'shown'), num_panels=2).test()
    logs = [next((tmp_path / run).rglob('*.log')).read_text() for run in 'bc']
    told = f'{tmp_path / "shown"}: 7 files that were there before are not of this call'
    assert [told in log for log in logs] == [False, True]


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
        (dict(interval=0), ValueError, 'interval must be an integer >= 1, but got 0'),
        (dict(num_panels=0), ValueError, 'num_panels must be an integer >= 1 or None, but got 0'),
        (dict(num_panels=2.5), ValueError, 'num_panels must be an integer >= 1 or None, but got 2.5'),
        (dict(columns=1.5), ValueError, 'columns must be an integer >= 1, but got 1.5'),
        (dict(tasks=['sall']), KeyError, "did you mean 'sal'"),
    ],
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        PredictionPanelHook(**options)
