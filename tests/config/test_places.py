"""Configs name classes as texts or, in pure Python, as themselves; both are the same to what looks at them."""

import pytest

from mtl_plugins.config import load_config
from mtl_plugins.config.foreign_hooks import draws_by_itself, save_plain_checkpoints
from mtl_plugins.config.places import kind_of
from mtl_plugins.config.unavailable import sync_bn_places
from mtl_plugins.errors import UserError

PURE = """
from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.models import SegTTAModel
from torch.nn import SyncBatchNorm

default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=5), visualization=dict(type=SegVisualizationHook))
optim_wrapper = dict(type=AmpOptimWrapper, optimizer=dict(type='SGD', lr=0.1), loss_scale='dynamic')
model = dict(backbone=dict(norm_cfg=dict(type=SyncBatchNorm)), heads=dict(depth=dict()))
tta_model = dict(type=SegTTAModel)
"""


@pytest.fixture
def pure(tmp_path):
    path = tmp_path / 'pure.py'
    path.write_text(PURE)
    return path


def test_names_of_classes():
    assert [kind_of(dict(type=kind)) for kind in ('A', 'mmseg.A', UserError)] == ['A', 'A', 'UserError']
    assert [kind_of(entry) for entry in (None, [], 'A', {}, dict(type=None))] == [''] * 5


def test_classes_are_recognised(pure):
    cfg = load_config(pure, precision='fp32')
    assert (cfg.optim_wrapper.type, 'loss_scale' in cfg.optim_wrapper) == ('OptimWrapper', False)
    assert load_config(pure, precision='bf16').optim_wrapper.dtype == 'bfloat16'
    assert load_config(pure, method='pcgrad').optim_wrapper.precision
    assert draws_by_itself(cfg)
    assert sync_bn_places(cfg.model) == ['model.backbone.norm_cfg']
    save_plain_checkpoints(cfg)
    assert cfg.default_hooks.checkpoint == dict(type='mtl_plugins.SafeCheckpointHook', interval=5)
