"""AdaTask with several tasks: as many base optimizers, each with the state of its own task, whose steps add up."""

import copy

import pytest
import torch

from mtl_plugins.engine.optimizers import AdaTask

GROUPS = {
    'Adam': [
        dict(lr=0.03, betas=(0.8, 0.95)),
        dict(lr=0.01, betas=(0.9, 0.5), eps=1e-3, weight_decay=0.2, amsgrad=True),
    ],
    'RMSprop': [dict(lr=0.03, alpha=0.8), dict(lr=0.01, eps=1e-3, weight_decay=0.2)],
    'Adagrad': [dict(lr=0.03), dict(lr=0.01, eps=1e-3, weight_decay=0.2)],
}
PRESENT = [(0, 1, 2), (0, 2), (1,), (2, 0), (0, 1, 2)]


class OneBasePerTask:
    """The definition, with an optimizer of torch for every task and a parameter of its own that it moves."""

    def __init__(self, base, start, options):
        self.value, self.decay = start.clone(), options.get('weight_decay', 0.0)
        options = {'eps': 1e-8, **{name: value for name, value in options.items() if name != 'weight_decay'}}
        self.shadows = [torch.nn.Parameter(start.clone()) for _ in range(3)]
        self.optimizers = [getattr(torch.optim, base)([shadow], **options) for shadow in self.shadows]

    def step(self, rows, tasks):
        moved = torch.zeros_like(self.value)
        for row, task in zip(rows, tasks):
            shadow = self.shadows[task]
            shadow.data.copy_(self.value)
            shadow.grad = row + self.decay / len(tasks) * self.value
            self.optimizers[task].step()
            moved += shadow.detach() - self.value
        self.value += moved


@pytest.mark.parametrize('base', GROUPS)
def test_each_task_has_its_own_state_and_each_group_its_own_settings(base):
    """While tasks come and go: the state of an absent one waits."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(2, 3, generator=generator, dtype=torch.float64)) for _ in range(2)]
    optimizer = AdaTask(
        [dict(params=[parameter], **options) for parameter, options in zip(parameters, GROUPS[base])], base=base
    )
    optimizer.record_updates = True
    expected = [OneBasePerTask(base, p.detach(), options) for p, options in zip(parameters, GROUPS[base])]
    for tasks in PRESENT:
        rows = [torch.randn(len(tasks), 2, 3, generator=generator, dtype=torch.float64) for _ in parameters]
        before = [parameter.detach().clone() for parameter in parameters]
        given = {parameter: row.clone() for parameter, row in zip(parameters, rows)}
        optimizer.step(task_grads=given, task_ids=tasks, num_tasks=3)
        for parameter, row, reference, former in zip(parameters, rows, expected, before):
            reference.step(row, tasks)
            torch.testing.assert_close(parameter.detach(), reference.value, rtol=1e-6, atol=1e-9)
            ids, squares = optimizer.update_squares[parameter]
            assert ids.tolist() == list(tasks)
            if len(tasks) == 1:
                torch.testing.assert_close(squares.sum(), (parameter.detach() - former).square().sum())


@pytest.mark.parametrize('base', GROUPS)
def test_accumulators_wait_while_the_tasks_step_together(base):
    """As under a schedule whose strategies step by rows and by one gradient; saved and loaded in between."""
    found = []
    for apart in (True, False):
        parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
        optimizer = AdaTask([parameter], base=base, lr=0.1)
        for number in range(6):
            together, optimizer.param_groups[0]['lr'] = number % 2 == 0, 0.1
            parameter.grad = torch.full((2,), 1.0 + number, dtype=torch.float64) if together else None
            rows = torch.full((2, 2), 3.0 - number, dtype=torch.float64)
            if apart and together:
                optimizer.param_groups[0]['lr'] = 0.0
            if apart or not together:
                given = {} if together else dict(task_grads={parameter: rows}, task_ids=[0, 1], num_tasks=2)
                optimizer.step(**given)
            fresh = AdaTask([parameter], base=base)
            fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            optimizer = fresh
        found.append(parameter.detach().clone())
    assert torch.equal(*found)


@pytest.mark.parametrize('base', GROUPS)
def test_accumulators_of_one_task_are_handed_over_and_others_start_anew(base):
    """Of a parameter that is one task's at first, and then shared."""
    options, generator = GROUPS[base][1], torch.Generator().manual_seed(0)
    for owners in (True, False):
        parameter = torch.nn.Parameter(torch.randn(2, 3, generator=generator, dtype=torch.float64))
        optimizer = AdaTask([dict(params=[parameter], **options)], base=base)
        reference, former = OneBasePerTask(base, parameter.detach(), options), (1,)
        for tasks in ((1,), (1,), (0, 1, 2), (0, 1, 2)):
            rows = torch.randn(len(tasks), 2, 3, generator=generator, dtype=torch.float64)
            if len(tasks) == 1:
                parameter.grad = rows[0].clone()
                given = {}
            else:
                given = dict(task_grads={parameter: rows.clone()}, task_ids=tasks, num_tasks=3)
                given.update(former_owners={parameter: 1} if owners else None)
            if tasks != former and not owners:
                reference = OneBasePerTask(base, parameter.detach(), options)
            former = tasks
            optimizer.step(**given)
            reference.step(rows, tasks)
            torch.testing.assert_close(parameter.detach(), reference.value, rtol=1e-6, atol=1e-9)


def test_updates_are_recorded_for_shared_parameters_and_on_request_only():
    shared, own = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = AdaTask([shared, own], lr=0.01)
    own.grad = torch.ones(2)
    options = dict(task_grads={shared: torch.ones(2, 2)}, task_ids=[0, 1], num_tasks=2)
    optimizer.step(**options)
    assert optimizer.update_squares == {}
    optimizer.record_updates = True
    optimizer.step(**options)
    assert list(optimizer.update_squares) == [shared]
    optimizer.record_updates = False
    optimizer.step(**options)
    assert optimizer.update_squares == {}, 'those of an earlier step must not be counted again'


def test_a_parameter_without_gradient_stays_and_a_closure_gives_the_loss():
    moved, idle = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = AdaTask([moved, idle], lr=0.01, weight_decay=0.5)

    def closure():
        loss = moved.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert torch.equal(idle, torch.ones(2))
    assert not torch.equal(moved, torch.ones(2))
    assert optimizer.step() is None


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(base='SGD'), r"base must be one of \('Adam', 'RMSprop', 'Adagrad'\), but got 'SGD'"),
        (dict(lr=-1e-9), 'lr must be >= 0, but got -1e-09'),
        (dict(lr=float('nan')), 'lr must be >= 0, but got nan'),
        (dict(eps=-1.0), 'eps must be >= 0'),
        (dict(weight_decay=-0.1), 'weight_decay must be >= 0'),
        (dict(betas=(1.0, 0.9)), r'betas\[0\] must lie in \[0, 1\), but got 1.0'),
        (dict(betas=(0.9, 1.0)), r'betas\[1\] must lie in'),
        (dict(betas=(-0.1, 0.9)), r'betas\[0\] must lie in'),
        (dict(alpha=1.0), r'alpha must lie in'),
        (dict(base='RMSprop', amsgrad=True), "amsgrad belongs to Adam, but base='RMSprop'"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=f'AdaTask: {message}'):
        AdaTask([torch.nn.Parameter(torch.zeros(1))], **options)
    AdaTask([torch.nn.Parameter(torch.zeros(1))], lr=0, eps=0, weight_decay=0, betas=(0, 0), alpha=0, amsgrad=True)
