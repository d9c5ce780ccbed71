"""Loss keys to tasks, and what is refused."""

import pytest
import torch

from mtl_plugins.engine import MultiTaskOptimWrapper
from mtl_plugins.engine.step.losses import LossTable, TaskLosses, losses_of_closure

from .toy import make_model, toy_batch


def one(value=1.0):
    return torch.tensor(float(value), requires_grad=True)


def test_mmseg_keys_are_split_at_the_first_dot():
    table = LossTable()
    losses = table.collect({'decode.loss_ce': one(2), 'decode.acc_seg': one(50), 'aux_0.loss_ce': one(3)})
    assert {task: loss.item() for task, loss in losses.items()} == {'decode': 2.0, 'aux_0': 3.0}


def test_longest_prefix_wins_and_losses_of_a_task_add_up():
    table = LossTable(dict(seg=['decode', 'extra_loss'], edge='decode.edge'))
    losses = table.collect(
        {
            'decode.loss_ce': one(1),
            'decode.edge_loss': one(2),
            'extra_loss': one(4),
            'decode.loss_list': [one(8), one(16)],
        }
    )
    assert table.tasks == ('seg', 'edge')
    assert {task: loss.item() for task, loss in losses.items()} == {'seg': 29.0, 'edge': 2.0}


def test_one_task_may_take_all_losses():
    losses = LossTable(dict(all='', depth='depth')).collect({'loss': one(1), 'x.loss': one(2), 'depth.loss': one(4)})
    assert {task: loss.item() for task, loss in losses.items()} == {'all': 3.0, 'depth': 4.0}


def test_counts_are_kept_apart():
    losses = LossTable().collect({'a.loss': one(), 'a.num_valid': torch.tensor(7.0), 'b.loss': one()})
    assert [float(losses.count(task)) for task in 'abc'] == [7.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ('tasks', 'key', 'counter'),
    [
        (None, 'seg.loss_ce', 'seg.num_valid'),
        (dict(seg='decode'), 'decode.loss_ce', 'decode.num_valid'),
        (dict(seg='decode'), 'decode.loss_ce', 'seg.num_valid'),
        (dict(seg='decode.loss_ce'), 'decode.loss_ce', 'decode.num_valid'),
        (dict(seg='decode'), 'decode_loss', 'decode_loss.num_valid'),
    ],
)
def test_a_count_goes_by_the_task_the_prefix_the_start_or_the_key(tasks, key, counter):
    losses = LossTable(tasks).collect({key: one(), counter: 7, 'other.num_valid': 3})
    assert losses.count('seg') == 7


def test_what_a_closure_counts_stays_with_its_losses():
    given = TaskLosses({'a': one(2), 'b': one(), 'c': None}, {'a': 3.0, 'b': 5.0}, ['b'])
    losses = losses_of_closure(given, 'abc')
    assert {task: loss.item() for task, loss in losses.items()} == {'a': 2.0, 'b': 1.0}
    assert [losses.count(task) for task in 'abc'] == [3.0, 0.0, 0.0]


def test_unclaimed_loss_is_an_error_with_near_matches():
    model = make_model()
    tasks = dict(first='a', second='bb', c='c')
    wrapper = MultiTaskOptimWrapper(torch.optim.SGD(model.parameters(), lr=1), tasks=tasks)
    message = r"no task claims the loss key 'b.loss' \(near: bb\).*Add it to optim_wrapper.tasks"
    with pytest.raises(ValueError, match=message):
        model.train_step(toy_batch(0), wrapper)


@pytest.mark.parametrize(
    ('tasks', 'error', 'message'),
    [
        ([], ValueError, 'at least one task'),
        (['a', 'a'], ValueError, 'each once'),
        ('semseg', TypeError, 'must be a list of names or a dict'),
        (5, TypeError, 'must be a list of names or a dict .* but got 5'),
        (dict(a='x', b='x'), ValueError, "the loss prefix 'x' is given to both 'a' and 'b'"),
    ],
)
def test_bad_task_lists_are_refused(tasks, error, message):
    with pytest.raises(error, match=message):
        LossTable(tasks)


def test_tensors_and_lists_are_averaged_as_the_log_averages_them():
    """MMEngine's ``parse_losses`` takes the mean of a tensor and the sum of the means of a list."""
    losses = LossTable(['a', 'b']).collect(
        {
            'a.loss': torch.tensor([1.0, 3.0]),
            'a.loss_other': torch.tensor(5.0),
            'b.losses': [torch.tensor([1.0, 2.0]), torch.tensor(4.0)],
            'b.accuracy': torch.tensor(99.0),
        }
    )
    assert {task: loss.item() for task, loss in losses.items()} == {'a': 7.0, 'b': 5.5}


def test_names_are_fixed_before_a_loss_is_unclaimed_and_the_known_ones_are_listed():
    assert set(LossTable().collect({'x.loss': one(), 'y.loss': one()})) == {'x', 'y'}
    with pytest.raises(
        ValueError, match=r"loss key 'semsg\.loss' \(near: semseg\)\. Known tasks: semseg, depth\..*semsg"
    ):
        LossTable(['semseg', 'depth']).collect({'semsg.loss': one()})
    with pytest.raises(ValueError, match=r"loss key 'q\.loss'\. Known prefixes: decode\."):
        LossTable(dict(semseg='decode')).collect({'q.loss': one()})


def test_complex_losses_are_refused_and_whole_numbers_are_not():
    with pytest.raises(TypeError, match=r"the loss 'a\.loss' of the model is complex"):
        LossTable().collect({'a.loss': [one(), torch.ones(2, dtype=torch.complex64)]})
    losses = LossTable().collect({'a.loss': torch.tensor([1, 2]), 'b.loss': [None, 3], 'c.loss': [None, []]})
    assert {task: loss.item() for task, loss in losses.items()} == {'a': 1.5, 'b': 3.0}


COUNTS = {
    'mask': (torch.tensor([[True, False], [True, True]]), 3.0),
    'one number in a row': (torch.tensor([[5]]), 5.0),
    'number': (2, 2.0),
    'list': ([torch.tensor(2), 3.0, None], 5.0),
    'none': (None, 0.0),
}


@pytest.mark.parametrize(('value', 'number'), COUNTS.values(), ids=COUNTS)
def test_counts_of_all_forms_are_numbers_here_and_in_the_log(value, number):
    table = LossTable(num_valid=dict(a=['n_a', 'a_loss_n']))
    out = {
        'a.loss': one(),
        'n_a': value,
        'a_loss_n': torch.tensor(2.0),
        'b.loss': None,
        'b.loss_other': one()[None][:0],
        'c.losses': [None],
        'd.loss': one(),
    }
    losses = table.collect(out)
    assert [float(losses.count(task)) for task in 'abcd'] == [number + 2, 0, 0, 1]
    log = table.detached(out)
    assert list(log) == ['a.loss', 'n_a', 'd.loss']
    assert log['n_a'].shape == ()
    assert log['n_a'].dtype == torch.float32
    assert log['n_a'].item() == number
