"""Runs of configs that know nothing of this package: checkpoints, resuming, testing, pictures."""

import json

import cv2
import pytest
import torch
from mmengine.config import Config

from mtl_plugins.cli import test as test_api
from mtl_plugins.cli import train as train_api
from mtl_plugins.config.foreign_hooks import save_plain_checkpoints

from .tiny import NOISE, small_config

pytestmark = [pytest.mark.filterwarnings(line) for line in NOISE]


def start(cfg, tmp_path, iterations, *arguments):
    cfg.train_cfg.update(max_iters=iterations, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.experiment_name = f'{tmp_path.name}_{iterations}'
    cfg.visualizer.name = cfg.experiment_name
    cfg.dump(tmp_path / 'config.py')
    return train_api.main([str(tmp_path / 'config.py'), '--work-dir', str(tmp_path / 'run'), *arguments])


def load(path):
    return torch.load(path, weights_only=True)


def test_stopped_resumed_and_tested(tmp_path):
    cfg = small_config('depth', tmp_path / 'run', method='stgu')
    assert start(cfg, tmp_path, 2) == 0
    assert start(cfg, tmp_path, 4, '--resume') == 0
    saved = load(tmp_path / 'run' / 'iter_4.pth')
    assert saved['optimizer']['mtl']['strategy']['num_steps'] == 4
    checkpoint, out, shown = str(tmp_path / 'run' / 'iter_4.pth'), tmp_path / 'metrics.json', tmp_path / 'shown'
    arguments = [str(tmp_path / 'config.py'), checkpoint, '--out', str(out), '--show-dir', str(shown)]
    again = ['--work-dir', str(tmp_path / 'test'), '--cfg-options', f'experiment_name={tmp_path.name}_test']
    again.append(f'visualizer.name={tmp_path.name}_test')
    assert test_api.main([*arguments, *again]) == 0
    metrics = json.loads(out.read_text())
    assert 0 < metrics['rmse'] < 10
    drawn = cv2.imread(str(shown / 'vis_data' / 'vis_image' / 'test_room_00001.png_2.png'))
    assert drawn.shape[0] * drawn.shape[1] >= 2 * 64 * 64  # truth and prediction


@pytest.mark.parametrize(
    ('hooks', 'expected'),
    [
        ({}, dict(type='mtl_plugins.SafeCheckpointHook')),
        (
            dict(checkpoint=dict(type='CheckpointHook', interval=7, save_best='mIoU')),
            dict(type='mtl_plugins.SafeCheckpointHook', interval=7, save_best='mIoU'),
        ),
        (dict(checkpoint=dict(type='mmengine.CheckpointHook')), dict(type='mtl_plugins.SafeCheckpointHook')),
        (dict(checkpoint=dict(type='OtherHook', interval=7)), dict(type='OtherHook', interval=7)),
        (dict(checkpoint=None), None),
    ],
)
def test_checkpoints_are_plain(hooks, expected):
    cfg = Config(dict(default_hooks=dict(timer=dict(type='IterTimerHook'), **hooks)))
    save_plain_checkpoints(cfg)
    assert cfg.default_hooks.checkpoint == expected
    assert cfg.default_hooks.timer == dict(type='IterTimerHook')


def test_a_config_without_hooks():
    cfg = Config(dict())
    save_plain_checkpoints(cfg)
    assert cfg.default_hooks == dict(checkpoint=dict(type='mtl_plugins.SafeCheckpointHook'))
