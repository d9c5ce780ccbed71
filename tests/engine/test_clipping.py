"""``clip_grad`` acts on the averaged gradient that is stepped, and on that without the loss scale of fp16."""

from functools import cache

import pytest
import torch

from mtl_plugins.errors import UserError

from .all_methods import build
from .toy import flat, make_model, toy_batch

# One method for each way in which a gradient reaches the optimizer.
MECHANISMS = {
    'weighted sum': ('gd', {}),
    'gradient norms': ('gradnorm', {}),
    'group by group': ('stgu', {}),
    'kept gradients': ('stgu_released', {}),
    'rows': ('pcgrad', {}),
    'rows of features': ('mgda', dict(level='features')),
    'rows, heads weighted': ('nash_mtl', {}),
    'perturbed': ('f_mtl', {}),
    'mean and estimates': ('samo', {}),
    'accumulation': ('gd', dict(accumulative_counts=2)),
}
CLIPS = {'norm': dict(max_norm=0.05), 'value': dict(type='value', clip_value=0.01)}


@cache
def train(mechanism, scaled, clip):
    key, options = MECHANISMS[mechanism]
    model = make_model()
    precision = dict(precision='fp16', init_scale=2.0**10) if scaled else 'fp32'
    wrapper = build(key, model, precision=precision, clip_grad=CLIPS.get(clip), **options)
    # What is scaled and unscaled by a power of two comes out bit by bit, as long as no 16-bit number is involved.
    wrapper.precision.autocast = lambda device: torch.autocast(device, enabled=False)
    lengths, step = [], wrapper.optimizer.step

    def spy(*args, **kwargs):
        before = flat(model)
        step(*args, **kwargs)
        lengths.append((flat(model) - before) / wrapper.optimizer.param_groups[0]['lr'])

    wrapper.optimizer.step = spy
    for number in range(2 * wrapper._accumulative_counts):
        torch.manual_seed(number)
        model.train_step(toy_batch(number), wrapper)
    return flat(model), lengths


@pytest.mark.parametrize('kind', CLIPS)
@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_the_clip_sees_no_loss_scale(mechanism, kind):
    plain, steps = train(mechanism, scaled=False, clip=kind)
    scaled, scaled_steps = train(mechanism, scaled=True, clip=kind)
    free, _ = train(mechanism, scaled=False, clip=None)
    if MECHANISMS[mechanism][1].get('level') == 'features':
        # Where losses are scaled it takes another way to the same gradient.
        torch.testing.assert_close(plain, scaled, rtol=1e-6, atol=1e-8)
    else:
        assert torch.equal(plain, scaled)
    assert not torch.equal(plain, free), 'nothing was clipped, so the test shows nothing'
    for step in [*steps, *scaled_steps]:
        if kind == 'norm':
            assert step.norm() <= 0.05 * (1 + 1e-4)
        else:
            assert step.abs().max() <= 0.01 * (1 + 1e-4)


@pytest.mark.parametrize('base', ['Adam', 'RMSprop', 'Adagrad'])
def test_adaptive_steps_per_task_are_clipped_without_the_loss_scale(base):
    """Every task's row is scaled by the factor that the summed gradient was clipped by."""
    results = []
    for precision, clip_grad in (
        ('fp32', dict(max_norm=0.05)),
        (dict(precision='fp16', init_scale=2.0**10), dict(max_norm=0.05)),
        ('fp32', None),
    ):
        optimizer = dict(type='mtl_plugins.AdaTask', base=base, eps=0.1)
        fragment = dict(type='mtl_plugins.AdaTaskOptimWrapper', optimizer=optimizer)
        model = make_model()
        wrapper = build(fragment, model, precision=precision, clip_grad=clip_grad)
        wrapper.precision.autocast = lambda device: torch.autocast(device, enabled=False)
        for number in range(3):
            model.train_step(toy_batch(number), wrapper)
        results.append(flat(model))
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2], rtol=1e-3)


def test_heads_are_clipped_where_nothing_is_shared():
    model = make_model()
    model.backbone.requires_grad_(False)
    wrapper, before = build('ada_task', model, clip_grad=CLIPS['norm']), flat(model.heads)
    model.train_step(toy_batch(0), wrapper)
    assert not torch.equal(flat(model.heads), before)


@pytest.mark.parametrize(
    ('clip', 'message'),
    [
        (dict(max_norm=-1.0), 'max_norm must be a number above 0, but is -1.0'),
        (dict(max_norm=float('nan')), 'max_norm must be a number above 0, but is nan'),
        (dict(type='value', clip_value='1'), "clip_value must be a number above 0, but is '1'"),
        (dict(clip_value=1.0), "has an unknown entry 'clip_value'"),
        (dict(norm_type=1), "lacks 'max_norm'"),
        (5, 'must be a dict or None, but is 5'),
        (False, 'must be a dict or None, but is False'),
    ],
)
@pytest.mark.parametrize('key', ['gd', 'ada_task'])
def test_what_is_no_clip_is_refused_when_the_wrapper_is_built(key, clip, message):
    """In any Runner; a limit below 0 would have climbed the loss."""
    with pytest.raises(UserError, match=message):
        build(key, make_model(), clip_grad=clip)
