"""Models of other projects: how they say that a batch has no label for a task, and what happens if they do not."""

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mtl_plugins.engine.step import silent_tasks
from mtl_plugins.engine.step.losses import LossTable
from mtl_plugins.errors import UserError

from .all_methods import ROWS, build
from .toy import flat

PLAIN = [
    key for key, row in ROWS.items() if row.wrapper in ('MultiTaskOptimWrapper', 'GradientAggregationOptimWrapper')
]


@pytest.fixture
def log_messages(monkeypatch):
    """What is said about silent tasks."""
    said = []
    monkeypatch.setattr(silent_tasks, 'print_log', lambda text, **kwargs: said.append(text))
    return said


class TwoTasks(BaseModel):
    """Reports its tasks ``wear`` and ``age`` as ``say`` does, which gets its loss (None: no label) and count."""

    def __init__(self, say):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
        self.heads = nn.ModuleDict({task: nn.Linear(6, 1) for task in ('wear', 'age')})
        self.say = say

    def forward(self, inputs, targets, mode='tensor'):
        features = self.backbone(inputs)
        out = {}
        for task, head in self.heads.items():
            target = targets.get(task)
            loss = None if target is None else (head(features)[:, 0] - target).square().mean()
            out.update(self.say(task, loss, 0 if target is None else len(target), features))
        return out


def mmpretrain(task, loss, count, features):
    """What ``MultiTaskHead`` of mmpretrain writes."""
    return {
        f'{task}_loss': (features[0] * 0).sum() if loss is None else loss,
        f'{task}_mask_size': torch.tensor(float(count)),
    }


def zero(task, loss, features):
    return features.sum() * 0 if loss is None else loss


IDIOMS = {
    'mask_size': (mmpretrain, None),
    'num_valid': (lambda t, x, n, f: {f'{t}_loss': zero(t, x, f), f'{t}_loss.num_valid': torch.tensor([n])}, None),
    'a key of its own': (lambda t, x, n, f: {f'{t}_loss': zero(t, x, f), f'n_{t}': torch.tensor(n)}, 'n_{}'),
    'a mask': (lambda t, x, n, f: {f'{t}_loss': zero(t, x, f), f'{t}/mask': torch.arange(8) < n}, '{}/mask'),
    'a NumPy mask': (lambda t, x, n, f: {f'{t}_loss': zero(t, x, f), f'n_{t}': np.arange(8) < n}, 'n_{}'),
    'float16': (lambda t, x, n, f: {f'{t}_loss': zero(t, x, f), f'n_{t}': torch.full((70000,), n).half()}, 'n_{}'),
    'a number': (lambda t, x, n, f: {f'{t}_loss': zero(t, x, f), f'{t}_count': n}, '{}_count'),
    'a name with loss': (lambda t, x, n, f: {f'{t}_loss': zero(t, x, f), f'{t}_loss_n': torch.tensor(n)}, '{}_loss_n'),
    'several counts': (lambda t, x, n, f: {f'{t}_loss': [zero(t, x, f)], f'{t}_n': [torch.tensor(n), 0]}, '{}_n'),
    'no loss': (lambda t, x, n, f: {} if x is None else {f'{t}_loss': x}, None),
    'None': (lambda t, x, n, f: {f'{t}_loss': x}, None),
    'an empty list': (lambda t, x, n, f: {f'{t}_loss': [] if x is None else [x]}, None),
    'an empty tensor': (lambda t, x, n, f: {f'{t}_loss': f[:0] if x is None else x}, None),
    'a constant': (lambda t, x, n, f: {f'{t}_loss': torch.tensor(0.0) if x is None else x}, None),
    'the number zero': (lambda t, x, n, f: {f'{t}_loss': 0 if x is None else x}, None),
    'an integer': (lambda t, x, n, f: {f'{t}_loss': torch.tensor(0) if x is None else x}, None),
    'a list with zero': (lambda t, x, n, f: {f'{t}_loss': [0.0, None] if x is None else [x, 0.0]}, None),
}  # fmt: skip


def wrapper_for(key, model, counter=None, **kwargs):
    names = {task: f'{task}_loss' for task in ('wear', 'age')}
    counts = None if counter is None else {task: counter.format(task) for task in names}
    return build(key, model, lr=0.05, tasks=names, num_valid=counts, **kwargs)


def batch(number, tasks=('wear', 'age')):
    generator = torch.Generator().manual_seed(number)
    inputs = torch.randn(8, 4, generator=generator)
    return dict(
        inputs=inputs, targets={task: inputs[:, k] + 1 for k, task in enumerate(('wear', 'age')) if task in tasks}
    )


@pytest.mark.parametrize('idiom', IDIOMS)
@pytest.mark.parametrize('key', ['gd', 'famo', 'gls', 'cagrad', 'stgu'])
def test_absence_is_understood(idiom, key):
    """A batch without labels for a task is the same as one whose model leaves the task out."""
    say, counter = IDIOMS[idiom]
    results = []
    for model in (TwoTasks(say), TwoTasks(IDIOMS['no loss'][0])):
        wrapper = wrapper_for(key, model, counter if model.say is say else None)
        for number, tasks in enumerate([('wear', 'age'), ('age',), ('wear', 'age')]):
            torch.manual_seed(number)
            log = model.train_step(batch(number, tasks), wrapper)
            assert np.isfinite(float(log['loss']))
        results.append(flat(model))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('key', PLAIN)
def test_a_task_that_mmpretrain_says_is_absent_does_not_stop_the_others(key):
    """Its loss is 0 with a graph, which ``famo`` and ``gls`` took for a task that is all but solved."""
    model = TwoTasks(mmpretrain)
    wrapper = wrapper_for(key, model)
    start = flat(model.backbone)
    for number in range(2):
        model.train_step(batch(number, ('age',)), wrapper)
    assert (flat(model.backbone) - start).norm() > 1e-4


def test_a_count_belongs_to_the_longest_name():
    ones = {
        key: torch.ones((), requires_grad=True) for key in ('wear_loss', 'wear_hat_loss', 'head.a_loss', 'head.b_loss')
    }
    counts = {'wear_mask_size': torch.tensor(3.0), 'wear_hat_mask_size': torch.tensor(5.0), 'head.num_valid': 7}
    tasks = dict(wear='wear_loss', hat='wear_hat_loss', a='head.a_loss', b='head.b_loss')
    found = LossTable(tasks).collect({**ones, **counts})
    assert {task: float(found.count(task)) for task in tasks} == dict(wear=3.0, hat=5.0, a=7.0, b=7.0)


@pytest.mark.parametrize(
    ('num_valid', 'message'),
    [
        (dict(waer='wear_count'), "num_valid names the unknown task 'waer'; the tasks are wear, age"),
        ('wear_count', r'num_valid must be a dict \{task: key of the count\}'),
        (dict(wear=3), r"num_valid\['wear'\] must be a key"),
        (dict(wear=[]), r"num_valid\['wear'\] must be a key"),
    ],
)
def test_wrong_mappings_are_refused_at_once(num_valid, message):
    with pytest.raises(UserError, match=message):
        LossTable(['wear', 'age'], num_valid)


def test_a_count_that_the_model_does_not_give_is_named():
    model = TwoTasks(IDIOMS['a number'][0])
    with pytest.raises(UserError, match=r"the loss of task 'wear', but no entry 'wear_cuont'.*near: wear_count"):
        model.train_step(batch(0), wrapper_for('gd', model, '{}_cuont'))


def test_counts_below_zero_are_refused():
    model = TwoTasks(lambda t, x, n, f: {f'{t}_loss': x, f'{t}_loss.num_valid': -1})
    with pytest.raises(UserError, match="number of labels of task 'wear' must be >= 0, but the model reports -1"):
        model.train_step(batch(0), wrapper_for('gd', model))


def test_what_is_no_loss_is_named():
    with pytest.raises(TypeError, match=r"the loss 'a\.loss' of the model must be a tensor, a number or a list"):
        LossTable().collect({'a.loss': 'three'})


@pytest.mark.parametrize('value', ['many', {'n': 3}, [object()]])
@pytest.mark.parametrize(
    ('name', 'message'), [('wear_n', 'counts labels, so that it must be a number'), ('note', 'must be a tensor')]
)
def test_what_is_no_count_and_what_the_log_cannot_take_is_named(value, name, message):
    model = TwoTasks(lambda t, x, n, f: {f'{t}_loss': x, f'{t}_n': n, name: value})
    with pytest.raises(UserError, match=f"the entry '{name}' of the model's output {message}"):
        model.train_step(batch(0), wrapper_for('gd', model, '{}_n'))


@pytest.mark.parametrize('accumulative_counts', [1, 2])
@pytest.mark.parametrize('key', ['gd', 'famo', 'cagrad', 'gradnorm', 'stgu', 'samo', 'ada_task'])
def test_a_loss_and_a_gradient_of_zero_are_worth_a_warning(key, accumulative_counts, log_messages):
    """Once per task, whatever the step looks like; the training goes on."""
    if accumulative_counts > 1 and not ROWS[key].accumulates_exactly:
        pytest.skip('refuses to accumulate')
    model = TwoTasks(lambda t, x, n, f: {f'{t}_loss': zero(t, x, f)})
    wrapper = wrapper_for(key, model, accumulative_counts=accumulative_counts)
    wrapper.initialize_count_status(model, 0, 100)
    silent = 2 if accumulative_counts == 1 else 0  # at first, or when batches are differentiated before they are read
    for number in range(4 * accumulative_counts):
        model.train_step(batch(number, ('age',) if number >= silent else ('wear', 'age')), wrapper)
    (said,) = [text for text in log_messages if 'exactly zero' in text]
    assert "the loss of task 'wear' and its gradient are exactly zero" in said
    assert "num_valid=dict(wear='KEY')" in said


def test_a_loss_of_zero_with_a_gradient_is_none(log_messages):
    """As with a loss whose value is taken off for the log; it is looked at a few times, not for ever."""
    model = TwoTasks(lambda t, x, n, f: {f'{t}_loss': x - x.detach()})
    wrapper = wrapper_for('gd', model)
    for number in range(6):
        model.train_step(batch(number), wrapper)
    assert not [text for text in log_messages if 'exactly zero' in text]
    assert not wrapper.silent.wants('wear')
