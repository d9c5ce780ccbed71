"""Rows of gradients, and what methods keep by their columns: exactly what a table by parameter would hold."""

import random
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mtl_plugins.engine.step.gradients import ParameterSplit, SharedLayout, accumulate, caught
from mtl_plugins.engine.step.kept_columns import KeptColumns
from mtl_plugins.engine.step.parameters import ParameterTable, parameters_behind
from mtl_plugins.engine.step.reduction import Reducer
from mtl_plugins.methods.aggregation.buffers import TaskBuffer

WIDTHS = dict(first=3, second=1, third=4, fourth=2)


def make_layout():
    """Parameters in both memory formats, some with a gradient that lay there before."""
    torch.manual_seed(0)
    shapes = [(4, 3, 2, 2), (5,), (6, 2, 3, 3), ()]
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    parameters[2].data = parameters[2].data.to(memory_format=torch.channels_last)
    before = [torch.randn(shapes[0]), None, torch.randn(shapes[2]), None]
    for parameter, gradient in zip(parameters, before):
        parameter.grad = gradient
    return parameters, before


def loss_of(parameters):
    return sum((parameter.sin() * (i + 1)).sum() for i, parameter in enumerate(parameters))


@pytest.mark.parametrize('fails', [False, True])
def test_gradients_are_added_to_the_row_and_those_from_before_stay(fails):
    parameters, before = make_layout()
    layout = SharedLayout(parameters)
    row = torch.ones(layout.width)
    wanted = torch.cat([((i + 1) * p.detach().cos()).reshape(-1) for i, p in enumerate(parameters)])
    for time in (1, 2):
        try:
            with layout.collect(row):
                loss_of(parameters).backward()
                if fails and time == 2:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            break
        torch.testing.assert_close(row, 1 + time * wanted)
    for parameter, gradient in zip(parameters, before):
        assert parameter.grad is gradient


@pytest.mark.parametrize('fails', [False, True])
def test_what_is_caught_adds_up_and_those_from_before_stay(fails):
    parameters, before = make_layout()
    found = {}
    for time in (1, 2):
        try:
            with caught(parameters[:3], found):
                loss_of(parameters[:2]).backward()
                if fails:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert list(map(id, found)) == list(map(id, parameters[:2]))
        for i, parameter in enumerate(parameters[:2]):
            torch.testing.assert_close(found[parameter], time * (i + 1) * parameter.detach().cos())
    for parameter, gradient in zip(parameters, before):
        assert parameter.grad is gradient


def test_a_row_is_written_where_its_parameters_are():
    parameters, _ = make_layout()
    parameters[1].data = parameters[1].data.double()
    layout = SharedLayout(iter(parameters))
    row = torch.randn(layout.width)
    layout.write(row)
    written = [p.grad.float().reshape(-1) for p in parameters]
    assert torch.equal(torch.cat(written), row)
    assert parameters[1].grad.dtype == torch.float64
    assert not layout.matches(row)
    assert not layout.matches(row.double())
    others = SharedLayout([parameters[0], parameters[2]])
    assert others.matches(row)
    assert not others.matches(row.to('meta'))
    assert not others.matches(row.bfloat16())


def test_accumulated_gradients_add_up_and_are_the_parameters_own():
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    given = torch.ones(2)
    for time in (1, 2):
        accumulate([first, second], [given, None])
        assert first.grad.tolist() == [time, time]
        assert second.grad is None
    assert given.tolist() == [1, 1]


@pytest.mark.parametrize('resumes', [False, True])
@pytest.mark.parametrize('seed', range(8))
def test_columns_come_and_go_with_their_parameters(seed, resumes):
    """Against a table by name; a method that keeps nothing yet gets zeros."""
    draw = random.Random(seed)
    buffer = TaskBuffer('Method')
    kept, table = KeptColumns(buffer), {}
    for step in range(12):
        columns = {name: width for name, width in WIDTHS.items() if draw.random() < 0.6} or dict(first=3)
        kept.fit(columns)
        rows = buffer.rows_for(2, torch.zeros(2, sum(columns.values())))
        expected = [table.get(name, torch.zeros(2, width)) for name, width in columns.items()]
        assert torch.equal(rows, torch.cat(expected, dim=1))
        rows.copy_(torch.randn(rows.shape, generator=torch.Generator().manual_seed(step)))
        for name, part in zip(columns, rows.split(list(columns.values()), dim=1)):
            table[name] = part.clone()
        waiting = [part.untyped_storage().nbytes() for part in kept.state_dict()['waiting'].values()]
        assert all(size <= 4 * 2 * max(WIDTHS.values()) for size in waiting), 'a view keeps all of a former buffer'
        if resumes and draw.random() < 0.4:
            state, data = kept.state_dict(), buffer.data.clone()
            buffer = TaskBuffer('Method')
            buffer.data, kept = data, KeptColumns(buffer)
            kept.load_state_dict(state)


def test_a_parameter_of_another_size_starts_anew():
    buffer = TaskBuffer('Method')
    kept = KeptColumns(buffer)
    kept.fit(dict(first=3, second=1))
    buffer.data = torch.ones(2, 4)
    kept.fit(dict(second=1))
    kept.fit(dict(first=2, second=1))
    assert buffer.data.tolist() == [[0, 0, 1]] * 2
    kept.fit(dict(first=3, second=1))
    assert buffer.data.tolist() == [[0, 0, 0, 1]] * 2


def test_a_state_is_a_copy_and_takes_effect_at_once():
    buffer, columns = TaskBuffer('Method'), dict(first=1)
    kept = KeptColumns(buffer)
    kept.fit(columns)
    buffer.data = torch.ones(1, 1)
    state = dict(columns=dict(second=1.0), waiting=dict(first=torch.full((1, 1), 5.0)))
    kept.load_state_dict(state)
    state['waiting']['first'].zero_()
    kept.fit(columns)
    assert buffer.data.tolist() == [[5]]
    assert list(kept.state_dict()['columns']) == ['first']
    assert kept.state_dict()['waiting']['second'].tolist() == [[1]]
    columns['third'] = 1  # whoever told the columns may go on with them
    assert list(kept.state_dict()['columns']) == ['first']


def test_a_buffer_without_names_is_kept_while_it_fits(monkeypatch):
    lines = []
    monkeypatch.setattr('mtl_plugins.engine.step.kept_columns.print_log', lambda text, **kwargs: lines.append(text))
    for width, stays in ((4, True), (5, False)):
        buffer = TaskBuffer('Method')
        kept = KeptColumns(buffer)
        kept.load_state_dict(None)
        assert kept.state_dict() == dict(columns={}, waiting={})
        buffer.data = torch.ones(2, width)
        kept.fit(dict(first=3, second=1))
        assert (buffer.data is not None) == stays
        if stays:
            kept.fit(dict(second=1))
            assert buffer.data.tolist() == [[1], [1]]
            assert lines == []
    (line,) = lines
    assert line.startswith('Method: ')
    assert line.endswith('its 5 numbers per task belong to, and there are 4 shared ones now: they start anew')


class Branches(nn.Module):
    """``shared`` serves both tasks, ``b_only`` the second; with ``uses_late`` the first task uses two more."""

    def __init__(self):
        super().__init__()
        for name in ('shared', 'a_only', 'b_only', 'late', 'idle'):
            self.register_parameter(name, nn.Parameter(torch.ones(2)))
        self.uses_late = False

    def losses(self):
        a = (self.shared * self.a_only).sum() + ((self.b_only * self.late).sum() if self.uses_late else 0)
        return dict(a=a, b=(self.shared * self.b_only).sum())


def make_split(known=None):
    model = Branches()
    table = ParameterTable(model)
    table.num_tasks = 2
    split = ParameterSplit(Reducer())
    split.restore(known or {})
    split.follow(table, list(model.parameters()))
    return model, table, split


def names(model, parameters):
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    return [own[id(parameter)] for parameter in parameters]


def parts(model, split):
    return dict(
        shared=names(model, split.shared.parameters),
        columns=list(split.columns),
        a=names(model, split.own('a')),
        b=names(model, split.own('b')),
        others_of_a=names(model, split.others('a')),
        others_of_b=names(model, split.others('b')),
        nobodys=names(model, split.nobodys()),
        former={name: split.former_owners[p] for name, p in model.named_parameters() if p in split.former_owners},
    )


def test_parameters_are_told_apart_as_they_are_found_frozen_and_shared():
    model, table, split = make_split()
    split.update(['a', 'b'], model.losses())
    first = dict(
        shared=['shared'],
        columns=['shared'],
        a=['a_only'],
        b=['b_only'],
        others_of_a=['b_only', 'late', 'idle'],
        others_of_b=['a_only', 'late', 'idle'],
        nobodys=['late', 'idle'],
        former={},
    )
    assert parts(model, split) == first
    layout, columns = split.shared, split.columns

    # A graph that was walked is not walked again; what arrives elsewhere is told.
    model.uses_late = True
    split._reducer = None  # no collective call either
    split.update(['a', 'b'], model.losses())
    assert parts(model, split) == first
    split._reducer = Reducer()
    split.learn({'a': [model.b_only, model.late]})
    later = dict(
        first,
        shared=['shared', 'b_only'],
        columns=['shared', 'b_only'],
        a=['a_only', 'late'],
        b=[],
        others_of_a=['idle'],
        others_of_b=['a_only', 'late', 'idle'],
        nobodys=['idle'],
        former={'b_only': 'b'},
    )
    assert parts(model, split) == later
    assert split.shared is not layout
    assert split.columns is not columns

    # Frozen parameters leave, and are known when they return.
    for frozen in (model.shared, model.late):
        frozen.requires_grad_(False)
    split.follow(table, [p for p in model.parameters() if p.requires_grad])
    assert parts(model, split) == dict(
        later, shared=['b_only'], columns=['b_only'], a=['a_only'], others_of_b=['a_only', 'idle']
    )
    assert split.known_shared() == ['shared', 'b_only']
    assert table.unused() == ['idle']
    model.idle.requires_grad_(False)
    assert table.unused() == []
    split.follow(table, [p for p in model.parameters() if p.requires_grad])
    model.requires_grad_(True)
    split.follow(table, list(model.parameters()))
    assert parts(model, split) == later
    layout = split.shared
    split.follow(table, list(model.parameters()))
    split.learn({})
    assert split.shared is layout
    assert table.exclusive_to(['a']) == {'a_only', 'late'}
    assert table.exclusive_to(['a', 'b']) == {'shared', 'a_only', 'b_only', 'late'}

    # An export is all that another process, or a resumed run, needs.
    other, _, resumed = make_split(split.export())
    assert parts(other, resumed) == dict(later, former={})
    other.uses_late = False
    resumed.update(['a', 'b'], other.losses())
    assert parts(other, resumed) == dict(later, former={})


def test_what_another_rank_saw_counts():
    model, _, split = make_split()
    split._reducer = SimpleNamespace(gather_objects=lambda export: [export, {'b': ['a_only', 'idle'], 'c': ['idle']}])
    split.update(['a', 'b', 'd'], {'a': model.losses()['a']})
    split._reducer = None  # no collective call
    split.update(['a', 'b', 'c', 'd'], {})  # all of them were looked for, here or there
    assert names(model, split.shared.parameters) == ['a_only', 'idle']
    assert names(model, split.own('a')) == ['shared']
    assert names(model, split.nobodys()) == ['b_only', 'late']


def test_parameters_outside_the_model_take_part():
    model = Branches()
    extra = nn.Parameter(torch.ones(2))
    table = ParameterTable(model)
    table.num_tasks = 2
    split = ParameterSplit(Reducer())
    split.follow(table, [*model.parameters(), extra])
    losses = model.losses()
    split.update(['a', 'b'], {task: loss + extra.sum() for task, loss in losses.items()})
    assert split.shared.parameters[-1] is extra
    assert split.shared.width == 4


def test_a_run_of_one_task_shares_what_it_uses():
    for number, shared in ((1, ['shared', 'a_only']), (2, []), (None, ['shared', 'a_only'])):
        model = Branches()
        table = ParameterTable(model)
        table.num_tasks = number
        table.observe({'a': model.losses()['a']})
        assert table.shared() == shared
        assert table.own('a') == ([] if shared else ['shared', 'a_only'])


def test_a_loss_without_graph_is_looked_at_again_when_it_has_one():
    model = Branches()
    table = ParameterTable(model)
    table.observe({'a': torch.tensor(0.0)})
    assert table.seen == set()
    table.observe(model.losses())
    assert table.shared() == ['shared']
    assert table.users('a_only') == {'a'}
    assert table.users('idle') == set()


def test_a_parameter_may_be_the_loss_itself():
    parameter = nn.Parameter(torch.ones(()))
    assert parameters_behind(parameter) == {id(parameter)}
    assert parameters_behind(parameter * 2) == {id(parameter)}


def test_sparse_gradients_stay_sparse():
    embedding = nn.Embedding(4, 2, sparse=True)
    gradient = torch.autograd.grad(embedding(torch.tensor([1, 3])).sum(), embedding.weight)[0]
    for time in (1, 2):
        accumulate([embedding.weight], [gradient])
        assert embedding.weight.grad.is_sparse
        assert embedding.weight.grad.to_dense()[:, 0].tolist() == [0, time, 0, time]
