"""Compiled parts compute the same, under the same names; parts that nobody calls are told."""

import pytest
import torch

from mtl_plugins.config import build_runner, load_config
from mtl_plugins.errors import UserError
from tests.support.tiny import ROOMS, shrink


def train(work_dir, method, **hook):
    cfg = shrink(load_config(ROOMS, method=method, seed=0, work_dir=str(work_dir)), iterations=2)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.custom_hooks = [dict(type='mtl_plugins.CompileHook', **hook)] if hook else []
    runner = build_runner(cfg)
    runner.train()
    return runner.model.state_dict()


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    found = {}

    def trained(method):
        if method not in found:
            found[method] = train(tmp_path_factory.mktemp(method), method)
        return found[method]

    return trained


# What torch's own tracing of a block says, where warnings are errors.
pytestmark = pytest.mark.filterwarnings('ignore:The .grad attribute of a Tensor that is not a leaf')

CASES = [
    ('stgu', dict(parts='backbone', backend='eager')),
    ('gd', dict(parts=['backbone.vit.blocks.*'], backend='eager')),
    *[
        pytest.param(method, dict(parts=part, backend=backend), marks=pytest.mark.slow)
        for method in ('gd', 'stgu', 'upgrad')
        for part in ('backbone', 'backbone.vit.blocks.*')
        for backend in ('aot_eager', 'inductor')
    ],
]


@pytest.mark.parametrize(('method', 'hook'), CASES)
def test_compiled_parts_train_the_same(method, hook, plain, tmp_path):
    ours, theirs = train(tmp_path, method, **hook), plain(method)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (
            'backbone.vit',
            r'TimmViT.*: vit.compile\(\) changes nothing, .* compile the whole backbone, or each of vit.blocks',
        ),
        ('backbone.vit.head', 'CompileHook: backbone.vit.head of the model is not called .* name the part around it'),
        (['backbone.vit.norm.*', 'backbon'], "CompileHook: the model has no part 'backbon': .*backbone"),
    ],
)
def test_what_has_no_effect_is_told(parts, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train(tmp_path, 'gd', parts=parts, backend='eager')
