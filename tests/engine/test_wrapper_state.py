"""The state that every wrapper carries, what it refuses to resume, and what it writes to the log."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper

from mtl_plugins.engine import MultiTaskOptimWrapper
from mtl_plugins.engine.optim_wrappers.saved_state import STATE_VERSION
from mtl_plugins.version import __version__
from tests.support.runs import differences

from .all_methods import ROWS, build
from .toy import TASKS, flat, make_model, toy_batch


def trained(key='gd', batches=2, **kwargs):
    model = make_model()
    wrapper = build(key, model, **kwargs)
    for number in range(batches):
        torch.manual_seed(number)
        model.train_step(toy_batch(number), wrapper)
    return model, wrapper


@pytest.mark.parametrize('key', ROWS)
def test_another_methods_state_is_refused(key):
    wrapper = build(key, make_model(), tasks=TASKS)
    saved = copy.deepcopy(wrapper.state_dict())
    assert (saved['mtl']['version'], saved['mtl']['written_by']) == (STATE_VERSION, __version__)
    assert saved['mtl']['tasks'] == list(TASKS)
    other = build('gd' if key != 'gd' else 'uw', make_model(), tasks=TASKS)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r'the checkpoint was trained with method .*this run uses .*load_from'):
        other.load_state_dict(saved)
    assert differences(other.state_dict(), before) == []


@pytest.mark.parametrize('tasks', [('a', 'b'), ('a', 'b', 'd'), ('c', 'b', 'a')])
def test_other_tasks_are_refused_whenever_they_become_known(tasks):
    _, wrapper = trained()
    saved = wrapper.state_dict()
    message = r"was trained on the tasks \['a', 'b', 'c'\], this run has \[.*\]; resuming would mix .*load_from"
    with pytest.raises(ValueError, match=message):
        build('gd', make_model(), tasks=tasks).load_state_dict(saved)
    # The Runner loads the state before the wrapper meets the model that names the tasks.
    model = make_model()
    model.tasks = tasks
    late = build('gd', model)
    late.load_state_dict(saved)
    with pytest.raises(ValueError, match=message):
        late.attach(model)


def test_a_state_without_tasks_fits_any():
    """Saved before the first batch of a model that does not name its tasks."""
    saved = build('uw', make_model()).state_dict()
    assert saved['mtl']['tasks'] == []
    assert saved['mtl']['strategy'] == {}
    for tasks in (TASKS, None):
        model = make_model()
        wrapper = build('uw', model, tasks=tasks)
        if tasks is None:
            wrapper.load_state_dict(saved)
            model.train_step(toy_batch(0), wrapper)
            assert wrapper.task_names == TASKS


@pytest.mark.parametrize('key', ['uw', 'stgu', 'cagrad'])
def test_a_state_that_comes_before_the_tasks_is_taken_when_they_are_known(key):
    model, wrapper = trained(key, batches=4)
    other = make_model(seed=1)
    other.load_state_dict(model.state_dict())
    early = build(key, other)
    early.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    assert early.task_names is None
    for each, of in ((model, wrapper), (other, early)):
        torch.manual_seed(4)
        each.train_step(toy_batch(4), of)
    assert torch.equal(flat(model), flat(other))
    assert differences(early.state_dict(), wrapper.state_dict()) == []


def test_a_plain_wrappers_state_brings_the_optimizer_only():
    plain = make_model()
    stock = OptimWrapper(torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9))
    plain.train_step(toy_batch(0), stock)
    model = make_model()
    wrapper = MultiTaskOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9), seed=3)
    generator = wrapper.generator.get_state()
    wrapper.load_state_dict(stock.state_dict())
    assert differences(wrapper.optimizer.state_dict(), stock.optimizer.state_dict()) == []
    assert torch.equal(wrapper.generator.get_state(), generator)


def test_the_seed_is_the_strategys_own_and_any_integer():
    model = make_model()

    def draws(seed):
        return torch.rand(3, generator=build('gd', model, seed=seed).generator).tolist()

    assert draws(5) == torch.rand(3, generator=torch.Generator().manual_seed(5)).tolist()
    assert draws(2**63 + 5) == draws(5)
    assert draws(-1) == draws(2**63 - 1)
    torch.manual_seed(11)
    assert draws(None) == draws(11) != draws(12)


def test_the_log_tells_passes_scale_and_what_was_left_out():
    hub = MessageHub.get_current_instance()
    hub.log_scalars.clear()
    trained('pcgrad')
    assert [hub.get_scalar(f'train/{name}').current() for name in ('forwards', 'backwards')] == [1, 3]
    assert 'train/loss_scale' not in hub.log_scalars
    assert not [name for name in hub.log_scalars if 'nonfinite' in name]

    model = make_model()
    wrapper = build('gd', model, precision=dict(precision='fp16', init_scale=2.0**9))
    batch = toy_batch(0)
    batch['targets']['b'].fill_(float('inf'))
    for _ in range(2):
        model.train_step(batch, wrapper)
    assert hub.get_scalar('train/loss_scale').current() == 2.0**9
    assert hub.get_scalar('train/nonfinite/b').current() == 2


@pytest.mark.parametrize('arguments', [dict(step_kwargs=dict(closure=None)), dict(zero_kwargs=dict(set_to_none=False))])
def test_arguments_of_a_single_step_are_refused(arguments):
    model = make_model()
    wrapper = build('gd', model)
    with wrapper.optim_context(model):
        losses = model(**toy_batch(0), mode='loss')
    with pytest.raises(ValueError, match='take no step_kwargs and zero_kwargs'):
        wrapper.update_params(sum(losses.values()), **arguments)


@pytest.mark.parametrize('counts', [0, -2, 1.5, '2'])
def test_counts_that_are_no_number_of_batches_are_refused(counts):
    for name in ('accumulative_counts', 'passes'):
        with pytest.raises(ValueError, match=f'{name} must be an integer >= 1, but got {counts!r}'):
            build('gd', make_model(), **{name: counts})


def test_a_step_without_any_gradient_moves_nothing_and_says_so():
    """Weight decay and momentum would move weights that no task trained."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    wrapper = MultiTaskOptimWrapper(optimizer, tasks=TASKS)
    before = flat(model)
    moved = []
    wrapper.finish_step = lambda finish=wrapper.finish_step: moved.append(finish()) or moved[-1]
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: None)
    wrapper.step_tasks(lambda active=None, *, grad=True: {task: torch.tensor(1.0) for task in TASKS})
    assert torch.equal(flat(model), before)
    model.train_step(toy_batch(0), wrapper)
    assert not torch.equal(flat(model), before)
