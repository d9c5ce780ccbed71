"""Starting from a checkpoint with other tasks."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mtl_plugins.runtime.checkpoints import CheckpointMismatchError
from mtl_plugins.runtime.checkpoints.fitting import load_weights, task_of_weight
from mtl_plugins.runtime.hooks import LoadReportHook
from tests.engine.toy import ToyModel


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


def load(model, checkpoint, mismatch='raise', resume=False, training=True):
    """What the hook makes of it, and what it says."""
    logger, lines = logging.Logger('test'), Lines()
    logger.addHandler(lines)
    wrapper = SimpleNamespace(update_params=None) if training else dict(type='not built')
    runner = SimpleNamespace(model=model, _resume=resume, _load_from='old.pth', logger=logger, optim_wrapper=wrapper)
    LoadReportHook(mismatch).after_load_checkpoint(runner, checkpoint)
    return [(record.levelname, record.getMessage()) for record in lines.records]


def checkpoint_of(model, **meta):
    return dict(meta=dict(mtl=dict(meta)), state_dict={k: v.clone() for k, v in model.state_dict().items()})


def models(before, after, **kwargs):
    torch.manual_seed(0)
    return ToyModel(tasks=before, **kwargs), ToyModel(tasks=after, **kwargs)


def test_the_same_tasks():
    old, new = models('abc', 'abc')
    ((level, text),) = load(new, checkpoint_of(old))
    assert level == 'INFO'
    assert text == 'Weights from old.pth: 10 of 10 tensors of the model loaded\n  loaded: a, b, c'
    assert all(torch.equal(value, new.state_dict()[name]) for name, value in old.state_dict().items())


def test_tasks_come_and_go():
    old, new = models('abc', 'bcd')
    checkpoint, first = checkpoint_of(old, tasks=list('abc')), new.heads['d'][0].weight.clone()
    ((level, text),) = load(new, checkpoint)
    assert level == 'WARNING'
    assert text.splitlines() == [
        'Weights from old.pth: 8 of 10 tensors of the model loaded',
        '  loaded: b, c',
        '  d: not in the checkpoint, 2 tensors start from random weights (heads.d.0.weight, heads.d.0.bias)',
        '  a: not in this model, 2 tensors of the checkpoint ignored (heads.a.0.weight, heads.a.0.bias)',
    ]
    assert torch.equal(new.heads['d'][0].weight, first)
    assert torch.equal(new.heads['b'][0].weight, old.heads['b'][0].weight)
    assert torch.equal(new.backbone[0].weight, old.backbone[0].weight)
    # Nothing is left for MMEngine to complain about.
    assert checkpoint['state_dict'].keys() == new.state_dict().keys()


def other_classes():
    old, new = models('ab', 'ab')
    new.heads['b'][0] = nn.Conv2d(6, 7, 1)
    return old, new


def test_other_shapes_are_refused():
    old, new = other_classes()
    before = {name: value.clone() for name, value in new.state_dict().items()}
    message = (
        r'load_from=old.pth: 2 tensors have another shape .*\n  heads.b.0.weight \(1, 6, 1, 1\) -> \(7, 6, 1, 1\)\n'
        r'  heads.b.0.bias \(1,\) -> \(7,\)\n.*default_hooks.load_report.mismatch=skip'
    )
    with pytest.raises(CheckpointMismatchError, match=message):
        load(new, checkpoint_of(old))
    assert all(torch.equal(value, before[name]) for name, value in new.state_dict().items())


def test_other_shapes_are_left_out_on_demand():
    old, new = other_classes()
    first = new.heads['b'][0].weight.clone()
    ((level, text),) = load(new, checkpoint_of(old), 'skip')
    assert level == 'WARNING'
    assert '  loaded: a\n' in text
    assert 'b: 2 tensors have another shape, left out, random weights (heads.b.0.weight (1, 6, 1, 1) -> (7' in text
    assert torch.equal(new.heads['b'][0].weight, first)
    assert torch.equal(new.heads['a'][0].weight, old.heads['a'][0].weight)


def test_a_shared_part_that_is_missing_is_told():
    old, new = models('a', 'a', batch_norm=True)
    checkpoint = checkpoint_of(old)
    weights = checkpoint['state_dict']
    for name in ('backbone.0.weight', 'backbone.1.num_batches_tracked'):
        del weights[name]
    ((level, text),) = load(new, checkpoint)
    assert level == 'WARNING'
    assert 'shared: partly new, 1 tensors start from random weights (backbone.0.weight)' in text


def test_checkpoints_of_wrapped_models_and_bare_ones():
    old, new = models('a', 'a')
    weights = {f'module.{name}': value.clone() for name, value in old.state_dict().items()}
    load(new, weights)
    assert torch.equal(new.heads['a'][0].weight, old.heads['a'][0].weight)
    assert weights['state_dict'].keys() == new.state_dict().keys()


def test_a_checkpoint_of_something_else():
    with pytest.raises(CheckpointMismatchError, match=r'none of its 2 tensors fits .*is it a checkpoint of another'):
        load(ToyModel(), dict(state_dict=nn.Linear(2, 2).state_dict()))


def test_random_weights_are_not_evaluated():
    old, new = models('abc', 'bcd')
    message = r'old.pth has no weights for d: random weights would be evaluated.* \(--tasks b,c\)'
    with pytest.raises(CheckpointMismatchError, match=message):
        load(new, checkpoint_of(old), training=False)
    old, fewer = models('abc', 'bc')
    assert load(fewer, checkpoint_of(old), training=False)[0][0] == 'INFO'


def test_resuming_is_not_touched():
    old, new = models('ab', 'cd')
    checkpoint = checkpoint_of(old)
    assert load(new, checkpoint, resume=True) == []
    assert set(checkpoint['state_dict']) == set(old.state_dict())


def test_modules_convert_what_older_versions_wrote():
    class Renamed(nn.Linear):
        def _load_from_state_dict(self, state, prefix, *args):
            if f'{prefix}kernel' in state:
                state[f'{prefix}weight'] = state.pop(f'{prefix}kernel')
            super()._load_from_state_dict(state, prefix, *args)

    model = nn.ModuleDict(dict(a=Renamed(2, 2), b=nn.Linear(2, 2)))
    saved = {'a.kernel': torch.ones(2, 2), 'a.bias': torch.ones(2), 'c': torch.ones(1)}
    fit = load_weights(model, saved)
    assert torch.equal(model['a'].weight, torch.ones(2, 2))
    assert (fit.loaded, fit.new, fit.dropped) == (['a.weight', 'a.bias'], ['b.weight', 'b.bias'], ['c'])


@pytest.mark.parametrize(
    ('name', 'task'),
    [
        ('heads.depth.predictor.weight', 'depth'),
        ('heads.other.weight', 'other'),
        ('decoder.blocks.sal.conv.weight', 'sal'),
        ('decode_head.conv_seg.weight', 'decode'),
        ('backbone.depth_wise.weight', None),
    ],
)
def test_whose_a_weight_is(name, task):
    assert task_of_weight(name, ('depth', 'sal', 'decode')) == task


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"LoadReportHook\.mismatch must be one of \(.*\), but got 'ignore'"):
        LoadReportHook('ignore')
