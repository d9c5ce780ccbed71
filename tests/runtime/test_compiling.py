"""Compiled parts compute the same, under the same names; parts that nobody calls are told."""

import pytest
import torch

from mtl_plugins.config import build_runner, load_config
from mtl_plugins.errors import UserError
from mtl_plugins.runtime.hooks.compiling import CompileHook
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


@pytest.mark.slow
def test_code_that_torch_has_cached_for_one_backward_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setattr(torch._functorch.config, 'donated_buffer', True)  # torch's own default
    monkeypatch.setattr(torch.compiler.config, 'cache_key_tag', '')
    cfg = shrink(load_config(ROOMS, seed=0, work_dir=str(tmp_path / 'run')))
    runner = build_runner(cfg)
    model, batch = runner.model.train(), next(iter(runner.build_dataloader(cfg.train_dataloader)))
    parameters = list(model.backbone.parameters())

    def rows(tasks):
        torch.manual_seed(0)
        out = model(**model.data_preprocessor(batch, True), mode='loss')
        losses = [out[f'{task}.loss'] for task in tasks]
        keep = {loss: loss is not losses[-1] for loss in losses}
        return [torch.autograd.grad(loss, parameters, retain_graph=k, allow_unused=True) for loss, k in keep.items()]

    expected = rows(model.tasks)
    model.backbone.compile()
    rows(model.tasks[:1])  # what torch keeps on disk may overwrite what it was given
    torch._dynamo.reset()
    CompileHook(backend='inductor').before_train(runner)
    for found, plain_row in zip(rows(model.tasks), expected):
        for ours, theirs in zip(found, plain_row):
            if theirs is not None:
                torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()) + 1e-6)


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
