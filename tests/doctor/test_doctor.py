import json
import re

import mmengine.logging
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image

from mtl_plugins.cli import doctor
from mtl_plugins.compat import repair_stack
from mtl_plugins.config import load_config
from mtl_plugins.config.hints import hint_for, where_in_config
from mtl_plugins.datasets import RoomsDataset
from mtl_plugins.runtime.memory import PeakMemory
from tests.support.tiny import PHOTOS, ROOMS, options, run_tool, shrink

STEPS = (
    'versions', 'config', 'model', 'training data', 'validation data', 'test data', 'start', 'optimizer', 'one batch',
    'training step', 'parameters', 'validation',
)  # fmt: skip


def examine(capsys, *arguments):
    code = doctor.main([str(argument) for argument in arguments])
    # Lines are wrapped at the width of the terminal.
    return code, re.sub(r'\s+', ' ', capsys.readouterr().out)


def test_as_a_user_runs_it(tmp_path):
    done = run_tool('doctor.py', *options(), ROOMS, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert [re.match(r'✓ ([\w ]+)', line)[1] for line in lines if line.startswith('✓')] == list(STEPS)
    assert lines[-1] == 'No error: this config is ready to train.'
    assert not list(tmp_path.iterdir())


def test_numbers_are_right(capsys, monkeypatch):
    # A command repairs MMEngine before importing it, which then tells of its own deprecations through the repair.
    monkeypatch.setattr(mmengine.logging, 'print_log', mmengine.logging.print_log)
    repair_stack()
    monkeypatch.setattr('mmengine.fileio.file_client.print_log', mmengine.logging.print_log)
    code, text = examine(capsys, *options(), ROOMS)
    assert code == 0, text
    assert '(!)' not in text
    cfg = shrink(load_config(ROOMS))
    model = MODELS.build(cfg.model)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.heads.items()}
    total = sum(p.numel() for p in model.parameters())
    for task, size in sizes.items():
        assert f'{task} alone 2 {size:,} heads.{task}.' in text
        assert re.search(rf'{task}\.loss {task} [\d.]+ [\d,]+', text)
    assert f' {total - sum(sizes.values()):,} backbone.vit.*' in text
    assert 'RoomsDataset, 4 samples' in text
    assert '2 per batch, 2 batches per epoch and process' in text
    assert re.search(r'depth depth 2 of 2 \d+% [\d.]+ \.\. [\d.]+ m', text)
    assert "method 'stgu' on 5 tasks: 5 forward, 5 backward" in text
    assert 'the learning rate starts at 5e-05 (configured: 0.0005)' in text
    assert re.search(r'activations [\d.]+ MB', text)


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'mtl_plugins.MultiTaskOptimWrapper'])
def test_other_wrappers_and_accumulation(wrapper, tmp_path, capsys):
    config = tmp_path / 'config.py'
    optim = f"optim_wrapper = dict(_delete_=True, type='{wrapper}', optimizer=dict(type='SGD', lr=0.1), "
    config.write_text(f'_base_ = {ROOMS!r}\n{optim}accumulative_counts=2)\n')
    code, text = examine(capsys, *options(), config)
    assert code == 0, text
    assert ('no multi-task method' in text) == (wrapper == 'OptimWrapper')
    assert 'shared ' in text


@pytest.mark.parametrize(
    ('changes', 'step', 'error', 'hint'),
    [
        (['model.type=mtl_plugins.MultiTaskSegmenter'], 'model', 'KeyError', "mean 'mtl_plugins.MultiTaskSegmentor'"),
        (['train_dataloader.sampler.type=AbsolutSampler'], 'training data', 'KeyError', 'AbsoluteSampler'),
        (['model.data_preprocessor.means=[1,1,1]'], 'config', 'KeyError', "mean 'model.data_preprocessor.mean'"),
        (['model.heads.semseg.num_classes=5'], 'training data', 'ValueError', 'set model.heads.semseg.num_classes=12'),
        (['optim_wrapper.tasks=[semseg,depth]'], 'training step', 'Error', "the loss key 'normals.loss'"),
        (['optim_wrapper.grouper.type=Singleton'], 'start', 'KeyError', 'did you mean Singletons'),
        (['load_from=gone.pth'], 'model', 'FileNotFoundError', 'comes from load_from;'),
        (['val_evaluator.baselines=no.json'], 'validation data', 'FileNotFoundError', 'from val_evaluator.baselines;'),
        (['param_scheduler.1.type=PolLR'], 'start', 'KeyError', "did you mean 'PolyLR'"),
        (['custom_hooks.0.type=mtl_plugins.CostHok'], 'model', 'KeyError', "did you mean 'mtl_plugins.CostHook'"),
        (['compile=True'], 'model', 'ValueError', 'Remove it'),
    ],
)  # fmt: skip
def test_first_error_with_advice(changes, step, error, hint, capsys):
    code, text = examine(capsys, *options(2, *changes), ROOMS)
    assert code == 1
    assert re.search(rf'✗ {step}.*{error}: ', text), text
    assert hint in text
    assert 'No error' not in text
    assert [name for name in STEPS if f'✓ {name}: ' in text] == list(STEPS[: STEPS.index(step)])


def test_infinite_inputs_are_reported_by_task(capsys):
    code, text = examine(
        capsys,
        *options(2, 'model.data_preprocessor.mean=[3e38,3e38,3e38]', 'model.data_preprocessor.std=[1e-9,1e-9,1e-9]'),
        ROOMS,
    )
    assert code == 1
    assert 'not finite at the first batch: semseg.loss, depth.loss' in text


def test_a_wrong_label_is_named(tmp_path, capsys):
    dataset = RoomsDataset(num_images=1, cache_dir=tmp_path)
    path = dataset.get_data_info(0)['img_path']
    with np.load(path) as file:
        arrays = dict(file)
    arrays['gt_semseg'][3, 4] = 77
    np.savez(path, **arrays)
    tiny = options(2, f'train_dataloader.dataset.cache_dir={tmp_path}', 'train_dataloader.dataset.num_images=1')
    code, text = examine(capsys, *tiny, ROOMS)
    assert code == 1
    assert (
        "task 'semseg' (classes): expected class ids 0..11 or 255 (not labelled), but found id 77 in 1 pixels" in text
    )
    assert 'tools/datasets/browse.py' in text


def test_missing_data_and_unknown_method(tmp_path, capsys):
    code, text = examine(capsys, PHOTOS, '--data-root', tmp_path / 'gone')
    assert code == 1
    assert 'the data are not where train_dataloader.dataset.root says' in text
    code, text = examine(capsys, ROOMS, '--method', 'stug')
    assert code == 1
    assert "unknown method 'stug': did you mean 'stgu'" in text


def test_traceback_on_demand(capsys):
    for arguments, shown in (([], False), (['--traceback'], True)):
        _, text = examine(capsys, 'gone.py', *arguments)
        assert ('Traceback (most recent call last)' in text) == shown


def test_notes_on_baselines_and_idle_heads(tmp_path, capsys):
    entry = dict(metric='depth/RMSE', value=1.0, higher_is_better=False)
    (tmp_path / 'base.json').write_text(json.dumps(dict(version=1, tasks=dict(depth=entry))))
    changes = [f'val_evaluator.baselines={tmp_path / "base.json"}', 'train_dataloader.dataset.tasks=[depth,normals]']
    code, text = examine(capsys, *options(2, *changes), ROOMS)
    assert code == 0, text
    assert 'no baseline for semseg, normals, edge, sal: delta_m will be nan' in text
    assert 'no data for semseg, edge, sal: these heads are not trained' in text
    assert 'no loss in this batch for semseg, edge, sal' in text
    assert 'trainable tensors are reached by no loss of this batch' in text


MMSEG = """
default_scope = 'mmseg'
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
dataset = dict(
    type='BaseSegDataset', data_root=ROOT, data_prefix=dict(img_path='images', seg_map_path='labels'),
    metainfo=dict(classes=('a', 'b', 'c', 'd'), palette=[[0, 0, 0]] * 4), img_suffix='.png', pipeline=pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=4, persistent_workers=True, dataset=dataset,
    sampler=dict(type='InfiniteSampler', shuffle=True))
val_dataloader = dict(batch_size=1, num_workers=4, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
head = dict(
    type='FCNHead', channels=8, num_classes=4, num_convs=1, align_corners=False, norm_cfg=dict(type='SyncBN'),
    loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
model = dict(
    type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32)),
    backbone=dict(type='ResNetV1c', depth=18, norm_cfg=dict(type='SyncBN')),
    decode_head=dict(in_index=3, in_channels=512, **head),
    auxiliary_head=dict(in_index=2, in_channels=256, **head),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=10, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=10, val_interval=5)
val_cfg = dict(type='ValLoop')
default_hooks = dict(visualization=dict(type='SegVisualizationHook', draw=True))
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
"""


def test_configs_of_mmseg(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for folder, shape in (('images', (32, 32, 3)), ('labels', (32, 32))):
        (tmp_path / folder).mkdir()
        for number in range(2):
            picture = rng.integers(0, 4, shape, dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / folder / f'{number}.png')
    config = tmp_path / 'fcn.py'
    config.write_text(MMSEG.replace('ROOT', repr(str(tmp_path))))
    code, text = examine(capsys, config, '--method', 'stgu')
    assert code == 0, text
    assert 'decode.loss_ce decode' in text
    assert 'aux.loss_ce aux' in text
    assert 'decode alone' in text
    assert "BatchNorm layers, bn_stats='first'" in text
    assert re.search(r'sem_seg ids 2 of 2 100% 0, 1, 2, 3', text)


def test_hints_of_common_errors():
    assert 'batch_size' in hint_for(torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'))
    assert "package 'wandb' is not installed" in hint_for(ModuleNotFoundError('No module', name='wandb.sdk'))
    assert 'one size' in hint_for(RuntimeError('stack expects each tensor to be equal size, but got'))
    assert 'local file' in hint_for(OSError('<urlopen error [Errno -3] Temporary failure in name resolution>'))
    assert hint_for(RuntimeError('something new')) == ''


def test_places_in_a_config():
    cfg = load_config(ROOMS, {'load_from': 'a/b.pth', 'train_dataloader.dataset.cache_dir': '/data/rooms'})
    assert where_in_config(cfg, 'a/b.pth') == 'load_from'
    assert where_in_config(cfg, '/data/rooms/x/1.npz', paths=True) == 'train_dataloader.dataset.cache_dir'
    assert where_in_config(cfg, '/data/rooms2/1.npz', paths=True) == ''
    assert where_in_config(cfg, 'drop_path_rate', keys=True) == 'model.backbone.drop_path_rate'


def test_peak_memory_sees_what_is_freed_again():
    with PeakMemory(torch.device('cpu')) as memory:
        torch.ones(40_000_000).sum()
    assert 160e6 <= memory.extra < 400e6
