"""Models with a train_step, parse_losses or forward of their own: what a multi-task step would not see is refused."""

import copy
import io

import pytest
import torch
from mmengine.structures import BaseDataElement

from mtl_plugins.engine.step import silent_tasks
from mtl_plugins.engine.step.losses import TaskLosses
from mtl_plugins.errors import UserError

from .all_methods import build
from .toy import ToyModel, flat, toy_batch


class Own(ToyModel):
    """Its ``train_step`` is MMEngine's but for ``change``, which gets the losses within or behind the context."""

    where = 'within'
    unit = 1.0

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, *args, **kwargs):
        return {key: value * self.unit for key, value in super().forward(*args, **kwargs).items()}

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
    'a twentieth': (lambda model, total: total * 1.05, 'behind'),
    'half of next to nothing': (lambda model, total: total * 0.5, 'behind'),
    'one per cent of the sum': (lambda model, total: total * 1.01, 'behind'),
    'a small regulariser': (lambda model, total: total + 1e-3 * penalty(model).detach(), 'behind'),
    'one that is steeper than large': (lambda model, total: total + 1e-7 * penalty(model), 'behind'),
}


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('options', [dict(), dict(accumulative_counts=2)], ids=['one batch', 'two batches'])
def test_losses_that_change_after_the_forward_are_refused(change, options):
    torch.manual_seed(0)
    model = Own(CHANGES[change][0])
    model.where = CHANGES[change][1]
    model.unit = 1e-9 if 'next to nothing' in change else 1.0
    with pytest.raises(UserError, match=r'train_step or parse_losses changes or adds to the losses after the forward'):
        model.train_step(toy_batch(0), build('gd', model, **options))


def test_a_batch_may_be_made_in_inference_mode():
    model = ToyModel()
    batch = toy_batch(0)
    with torch.inference_mode():
        batch['targets'] = {task: target.clone() for task, target in batch['targets'].items()}
    before = flat(model)
    model.train_step(batch, build('gd', model))
    assert not torch.equal(before, flat(model))


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


@pytest.mark.parametrize('kind', ['lists', '16 bits', 'not finite', 'no loss', 'many', 'zero'])
def test_what_parse_losses_makes_of_odd_losses_is_no_change(kind):
    class Odd(ToyModel):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            odd = {'lists': lambda x: [x, 2 * x], '16 bits': lambda x: 70 * x.bfloat16(), 'no loss': lambda x: None}
            odd['not finite'] = lambda x: x * float('nan')
            odd.update(many=lambda x: [x * 10.0 ** (n % 7 - 3) for n in range(300)], zero=lambda x: 0 * x)
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


@pytest.mark.parametrize('key', ['gd', 'pcgrad', 'stgu', 'phases'])
def test_a_step_of_the_models_own_is_refused(key):
    """The method would have no part in it."""
    model = ToyModel()
    wrapper = build(key, model)
    model.parse_losses(model(**toy_batch(0), mode='loss'))[0].backward()
    for _ in range(2):
        before = flat(model)
        with pytest.raises(UserError, match=r'step\(\) was called outside of a multi-task step, so that .* would have'):
            wrapper.step()
        assert torch.equal(flat(model), before)
        model.train_step(toy_batch(0), wrapper)
        assert not torch.equal(flat(model), before)


@pytest.mark.parametrize('key', ['gd', 'pcgrad', 'stgu'])
def test_a_forward_is_watched_by_one_wrapper(key):
    """The second would see losses without a graph, and train nothing."""
    model = ToyModel()
    first, second = build(key, model), build(key, model)
    with (
        pytest.raises(UserError, match='two multi-task wrappers watch one forward'),
        first.optim_context(model),
        second.optim_context(model),
    ):
        model(**toy_batch(0), mode='loss')
    for wrapper in (first, second):
        model.train_step(toy_batch(0), wrapper)


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


# ---------------------------------------------------------------- loops of one's own
def one_step(key, change):
    """The weights after a step with the losses that ``change`` makes of two scalars."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 2)
    wrapper = build(key, layer, tasks=['a', 'b'])

    def closure(active=None, *, grad=True):
        a, b = layer(torch.tensor([[1.0, 2.0]])).square()[0]
        return change(a, b)

    wrapper.step_tasks(closure)
    return flat(layer)


SAME = {
    'a vector': (lambda a, b: {'a': a * torch.tensor([0.5, 1.5]), 'b': b}, lambda a, b: {'a': a, 'b': b}),
    'a list': (lambda a, b: {'a': [a, None, 0.5 * a], 'b': b}, lambda a, b: {'a': 1.5 * a, 'b': b}),
    'a number': (lambda a, b: {'a': 1.0, 'b': b}, lambda a, b: {'b': b}),
    'None': (lambda a, b: {'a': None, 'b': b}, lambda a, b: {'b': b}),
    'nothing': (lambda a, b: {'a': a[None][:0], 'b': b}, lambda a, b: {'b': b}),
}
WRONG = {
    'a tuple': (lambda a, b: (a, b), r'a closure must return a dict \{task: loss\}, but returned a tuple'),
    'another task': (lambda a, b: {'a': a, 'b': b, 'c': a}, "returned something for 'c', but the tasks are a, b"),
    'another count': (lambda a, b: TaskLosses({'a': a, 'b': b}, {'A': 3}), "returned something for 'A'"),
    'a complex loss': (lambda a, b: {'a': a + 0j, 'b': b}, "the loss 'a' of the model is complex"),
    'an array': (lambda a, b: {'a': a.detach().numpy(), 'b': b}, "the loss 'a' of the model must be a tensor"),
}


@pytest.mark.parametrize('key', ['gd', 'pcgrad', 'stgu'])
def test_losses_of_closures_are_taken_as_those_of_models(key):
    for given, same in SAME.values():
        torch.testing.assert_close(one_step(key, given), one_step(key, same))
    for given, words in WRONG.values():
        with pytest.raises(UserError, match=words):
            one_step(key, given)


@pytest.mark.parametrize('key', ['gd', 'pcgrad'])
@pytest.mark.parametrize('why', ['no_grad', 'no loss', 'labels'])
def test_batches_that_train_nothing_are_told_once(key, why, monkeypatch):
    said = []
    monkeypatch.setattr(silent_tasks, 'print_log', lambda text, **kwargs: said.append(text))
    torch.manual_seed(0)
    model = ToyModel()
    wrapper, before = build(key, model), flat(model)
    for number in range(2):
        batch = toy_batch(number, tasks=() if why == 'no loss' else ('a', 'b', 'c'), invalid=float(why == 'labels'))
        with torch.set_grad_enabled(why != 'no_grad'):
            model.train_step(batch, wrapper)
    assert torch.equal(before, flat(model))
    assert len(said) == 1
    assert said[0].startswith('no task has a loss with a graph and with labels in this batch')


def test_a_wrapper_and_what_it_logs_can_be_copied_and_saved():
    model = ToyModel()
    wrapper = build('gd', model)
    log = model.train_step(toy_batch(0), wrapper)
    copy.deepcopy(wrapper)
    file = io.BytesIO()
    torch.save(log, file)
    file.seek(0)
    for again in (copy.deepcopy(log), torch.load(file, weights_only=True)):
        assert {name: value.item() for name, value in again.items()} == {n: v.item() for n, v in log.items()}
