"""Models with a train_step, parse_losses or forward of their own: what a multi-task step would not see is refused."""

import pytest
import torch
from mmengine.structures import BaseDataElement

from mtl_plugins.errors import UserError

from .all_methods import build
from .toy import ToyModel, flat, toy_batch


class Own(ToyModel):
    """Its ``train_step`` is MMEngine's but for ``change``, which gets the losses within or behind the context."""

    where = 'within'

    def __init__(self, change):
        super().__init__()
        self.change = change

    def train_step(self, data, optim_wrapper):
        with optim_wrapper.optim_context(self):
            losses = self(**data, mode='loss')
            if self.where == 'within':
                losses = self.change(self, losses) or losses
        total, log = self.parse_losses(losses)
        optim_wrapper.update_params(total if self.where == 'within' else self.change(self, total))
        return log


def penalty(model):
    return sum(p.square().sum() for p in model.backbone.parameters())


CHANGES = {
    'a regulariser as an entry': (lambda model, losses: losses.update(loss_decay=penalty(model)), 'within'),
    'a regulariser on the sum': (lambda model, total: total + penalty(model), 'behind'),
    'a factor on one loss': (
        lambda model, losses: {k: 3 * v if k[0] == 'a' else v for k, v in losses.items()},
        'within',
    ),
    'a factor on the sum': (lambda model, total: total * 0.1, 'behind'),
    'a loss left out': (lambda model, losses: {k: v for k, v in losses.items() if k[0] != 'b'}, 'within'),
    'a constant': (lambda model, losses: losses.update(loss_more=torch.tensor(2.0)), 'within'),
}


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('options', [dict(), dict(accumulative_counts=2)], ids=['one batch', 'two batches'])
def test_losses_that_change_after_the_forward_are_refused(change, options):
    torch.manual_seed(0)
    model = Own(CHANGES[change][0])
    model.where = CHANGES[change][1]
    with pytest.raises(UserError, match=r'train_step or parse_losses changes or adds to the losses after the forward'):
        model.train_step(toy_batch(0), build('gd', model, **options))


def test_so_they_are_in_a_later_step_and_by_parse_losses():
    class Weighs(ToyModel):
        factor = 1.0

        def parse_losses(self, losses):
            return super().parse_losses({key: value * self.factor for key, value in losses.items()})

    model = Weighs()
    wrapper = build('pcgrad', model)
    model.train_step(toy_batch(0), wrapper)
    model.factor = 2.0
    with pytest.raises(UserError, match=r'add up to .*, but update_params\(\) was given'):
        model.train_step(toy_batch(1), wrapper)


@pytest.mark.parametrize('kind', ['lists', '16 bits', 'not finite', 'no loss'])
def test_what_parse_losses_makes_of_odd_losses_is_no_change(kind):
    class Odd(ToyModel):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            odd = {'lists': lambda x: [x, 2 * x], '16 bits': lambda x: 70 * x.bfloat16(), 'no loss': lambda x: None}
            odd['not finite'] = lambda x: x * float('nan')
            return {**out, **{key: odd[kind](out[key]) for key in ('a.loss', 'b.loss')}}

    model = Odd()
    before = flat(model)
    model.train_step(toy_batch(0), build('gd', model))
    assert not torch.equal(before, flat(model))


def test_a_backward_of_the_models_own_is_refused():
    model = ToyModel()
    wrapper = build('gd', model)
    with wrapper.optim_context(model):
        losses = model(**toy_batch(0), mode='loss')
    with pytest.raises(
        UserError, match=r'MultiTaskOptimWrapper .* must call update_params\(loss\) in place of backward'
    ):
        wrapper.backward(sum(losses.values()))


class InPlace(ToyModel):
    """Changes what it was given: a tensor, one within a sample, or a dict."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, inputs, targets, samples, mode='tensor'):
        if self.what == 'tensor':
            inputs.mul_(0.9)
        elif self.what == 'sample':
            samples[0].mask[0] = 1
        elif self.what == 'dict':
            targets = {'a': targets.pop('a'), **targets}
        return super().forward(inputs, targets, mode)


@pytest.mark.parametrize('what', ['tensor', 'sample', 'dict', ''])
@pytest.mark.parametrize(('key', 'options'), [('gd', {}), ('stgu', {}), ('gd', dict(accumulative_counts=2))])
def test_batches_that_the_forward_changes_are_refused_where_they_are_seen_again(what, key, options):
    torch.manual_seed(0)
    model = InPlace(what)
    wrapper = build(key, model, **options)
    batches = [dict(**toy_batch(n), samples=[BaseDataElement(mask=torch.zeros(2))]) for n in range(2)]
    if what and (key != 'gd' or options):
        with pytest.raises(UserError, match='the forward of InPlace changes its batch in place'):
            [model.train_step(batch, wrapper) for batch in batches]
    else:
        [model.train_step(batch, wrapper) for batch in batches]
