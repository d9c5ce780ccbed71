"""The order of weights in memory changes nothing that is computed, also over a resume."""

import pytest
import torch

from mtl_plugins.config import build_runner, load_config
from tests.support.tiny import ROOMS, shrink

OURS = dict(type='mtl_plugins.ChannelsLastHook')


def train(work_dir, method, hooks, iterations=2, resume=False):
    cfg = shrink(load_config(ROOMS, method=method, seed=0, work_dir=str(work_dir)), iterations=iterations)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.custom_hooks = hooks
    cfg.resume = resume
    runner = build_runner(cfg)
    runner.train()
    return runner


@pytest.mark.parametrize('method', ['gd', 'stgu', 'upgrad'])
def test_the_same_is_learnt(method, tmp_path):
    ours = train(tmp_path / 'ours', method, [OURS])
    theirs = train(tmp_path / 'theirs', method, [])
    four = [p for p in ours.model.parameters() if p.ndim == 4 and min(p.shape) > 1]
    assert four
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in four)
    for name, value in theirs.model.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_a_training_goes_on_with_and_without_it(tmp_path):
    train(tmp_path / 'run', 'gd', [])
    resumed = train(tmp_path / 'run', 'gd', [OURS], iterations=4, resume=True)
    assert resumed.iter == 4
    whole = train(tmp_path / 'whole', 'gd', [], iterations=4)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
