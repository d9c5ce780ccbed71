import json
from pathlib import Path

import pytest
import torch

from mtl_plugins.methods import ProximalAffinity, ReleasedAffinity, normalised_similarity, released_similarity

TRACES = json.loads((Path(__file__).parents[1] / 'data' / 'stgu_affinity.json').read_text())


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def random_losses(generator, num_tasks, count):
    return [torch.rand(num_tasks, generator=generator, dtype=torch.float64) + 0.5 for _ in range(count)]


def obvious_update(matrix, group, before, after, decay, skip_negative_self=False):
    """The rule entry by entry, as it is stated."""
    matrix = [row[:] for row in matrix]
    gain = [(1 - a / b) / len(group) for a, b in zip(after, before)]
    for s in group:
        for t in range(len(before)):
            value = gain[t]
            if t == s:
                if skip_negative_self and value < 0:
                    continue
            elif t in group and gain[s] * gain[t] < 0:
                value = -max(gain[s], gain[t])
            matrix[s][t] = (1 - decay) * matrix[s][t] + decay * value
    return matrix


@pytest.mark.parametrize('case', TRACES, ids=lambda case: case['what'])
def test_released_affinity_equals_the_traces_of_the_released_program(case):
    affinity = ReleasedAffinity(len(case['tasks']), case['beta'])
    affinity.start_batch()
    compared = 0
    for entry in case['trace']:
        if isinstance(entry, str):
            assert entry == 'end of batch (init_pre_loss)'
            affinity.start_batch()
            continue
        group = [case['tasks'].index(task) for task in entry['group']]
        affinity.update(group, vector(*entry['losses_before_this_groups_step']))
        assert affinity.matrix.tolist() == entry['affinity_after_update']
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize('skip', [False, True])
@pytest.mark.parametrize('num_tasks', [1, 2, 5, 11, 32])
def test_observe_equals_the_rule_written_out(num_tasks, skip):
    generator = torch.Generator().manual_seed(num_tasks)
    affinity = ProximalAffinity(num_tasks, decay=0.3, skip_negative_self=skip)
    expected = affinity.matrix.tolist()
    for _ in range(20):
        size = int(torch.randint(1, num_tasks + 1, (1,), generator=generator))
        group = torch.randperm(num_tasks, generator=generator)[:size].tolist()
        before, after = random_losses(generator, num_tasks, 2)
        unchanged = torch.rand(num_tasks, generator=generator) < 0.2  # a change of zero is in conflict with nothing
        after = torch.where(unchanged, before, after)
        affinity.observe(group, before, after)
        expected = obvious_update(expected, group, before.tolist(), after.tolist(), 0.3, skip)
        assert affinity.matrix.tolist() == expected


def test_stepped_credit_goes_to_the_group_that_stepped_in_between():
    affinity = ProximalAffinity(3, decay=0.5)
    affinity.measure(vector(2.0, 1.0, 4.0), [0])
    affinity.measure(vector(1.0, 1.0, 5.0), [1, 2])
    assert affinity.matrix.tolist() == [[0.25, 0.0, -0.125], [0.0] * 3, [0.0] * 3]
    affinity.measure(vector(1.0, 0.5, 2.5))
    assert affinity.matrix.tolist() == [[0.25, 0.0, -0.125], [0.0, 0.125, 0.125], [0.0, 0.125, 0.125]]
    affinity.measure(vector(9.0, 9.0, 9.0), [0])
    assert affinity.matrix[0].tolist() == [0.25, 0.0, -0.125], 'nothing stepped between two measuring forwards'


def test_the_default_is_a_slow_average_of_every_change():
    for affinity in (ProximalAffinity(2), ReleasedAffinity(2)):
        affinity.observe([0], vector(2.0, 1.0), vector(1.0, 1.5))
        assert affinity.matrix.tolist() == [[1e-3 * 0.5, 1e-3 * -0.5], [0.0, 0.0]]
    affinity = ProximalAffinity(1)
    affinity.observe([0], vector(1.0), vector(2.0))
    assert affinity.matrix.tolist() == [[-1e-3]], 'only the released program leaves out what did not help'


def test_a_decay_of_one_keeps_the_newest_value_only():
    affinity = ProximalAffinity(2, decay=1.0)
    for after in (vector(1.0, 3.0), vector(1.5, 0.5)):
        affinity.observe([1], vector(2.0, 1.0), after)
    assert affinity.matrix.tolist() == [[0.0, 0.0], [0.25, 0.5]]


def test_losses_of_different_batches_are_never_compared():
    affinity = ProximalAffinity(2)
    affinity.measure(vector(2.0, 1.0), [0])
    affinity.start_batch()
    affinity.measure(vector(1.0, 1.0), [1])
    assert not affinity.matrix.any()
    saved = affinity.state_dict()
    affinity.load_state_dict(saved)
    affinity.measure(vector(0.5, 0.5), [0])
    assert not affinity.matrix.any(), 'the batch before a resume is another one'


def test_a_loss_counts_only_if_both_forwards_count_it():
    mask = torch.tensor([True, False])
    for first, second in ((mask, None), (None, mask), (mask, mask)):
        affinity = ProximalAffinity(2, decay=0.5)
        affinity.measure(vector(2.0, 2.0), [0], first)
        affinity.measure(vector(1.0, 1.0), None, second)
        assert affinity.matrix.tolist() == [[0.25, 0.0], [0.0, 0.0]]
        before = affinity.matrix
        affinity.measure(vector(1.0, 1.0), [1], mask)
        affinity.measure(vector(0.5, 0.5), [0])
        assert torch.equal(affinity.matrix, before), 'no member of the group counts'


def test_what_a_batch_said_about_a_task_can_be_taken_back():
    affinity = ProximalAffinity(3, decay=0.5)
    affinity.observe([0, 1], vector(2.0, 1.0, 1.0), vector(1.0, 0.5, 0.25))
    before = affinity.matrix
    affinity.start_batch()
    affinity.measure(vector(2.0, 1.0, 1.0), [0])
    affinity.measure(vector(1.5, 0.9, 0.8), [1])
    affinity.measure(vector(1.4, 0.7, 0.6))
    new = affinity.matrix
    affinity.forget([])
    assert torch.equal(affinity.matrix, new)
    affinity.forget([1])
    assert torch.equal(affinity.matrix[:, 1], before[:, 1])
    assert torch.equal(affinity.matrix[:, [0, 2]], new[:, [0, 2]])
    assert (new[:2] != before[:2]).all()


def test_an_empty_group_only_measures():
    for nobody in (None, [], ()):
        affinity = ProximalAffinity(2, decay=0.5)
        affinity.measure(vector(2.0, 1.0), nobody)
        affinity.measure(vector(1.0, 1.0), [0])
        assert not affinity.matrix.any()
        affinity.measure(vector(0.5, 1.0), nobody)
        assert affinity.matrix.tolist() == [[0.25, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize('credit', ['stepped', 'next'])
def test_a_skipped_step_leaves_the_map_untouched_and_the_following_one_counts(credit):
    affinity = ProximalAffinity(2, decay=0.5, credit=credit)
    affinity.measure(vector(2.0, 1.0), [0])
    affinity.step_skipped()
    affinity.measure(vector(1.0, 0.5), [1])
    assert not affinity.matrix.any()
    affinity.measure(vector(0.5, 0.5), [0])
    assert affinity.matrix.any()


def test_invalid_entries_neither_give_nor_get_credit():
    before, after = vector(2.0, 1.0, 4.0, 1.0), vector(1.0, 2.0, 3.0, 0.5)
    clean = ProximalAffinity(4, decay=0.5)
    clean.observe([0], before, after)
    clean_row = clean.matrix[0].tolist()
    for damage in ('mask', 'nan_before', 'nan_after', 'inf_after', 'zero_before', 'negative_before', 'overflow'):
        affinity = ProximalAffinity(4, decay=0.5)
        bad_before, bad_after, valid = before.clone(), after.clone(), torch.ones(4, dtype=torch.bool)
        if damage == 'mask':
            valid[1] = False
        elif damage == 'overflow':
            bad_before[1], bad_after[1] = 1e-300, 1e300
        else:
            value = {'nan': float('nan'), 'inf': float('inf'), 'zero': 0.0, 'negative': -1.0}[damage.split('_')[0]]
            (bad_before if damage.endswith('before') else bad_after)[1] = value
        affinity.observe([0, 1], bad_before, bad_after, valid)
        expected = [clean_row[0], 0.0, clean_row[2], clean_row[3]]
        assert affinity.matrix[0].tolist() == expected, damage
        assert not affinity.matrix[1:].any(), damage


def test_the_callers_buffers_are_copied():
    losses, valid = vector(2.0, 1.0), torch.tensor([True, True])
    affinity = ProximalAffinity(2, decay=0.5)
    affinity.measure(losses, [0], valid)
    losses.fill_(0.1)
    valid.fill_(False)
    affinity.measure(vector(1.0, 1.0), None)
    assert affinity.matrix[0].tolist() == [0.25, 0.0]
    affinity.matrix.fill_(7.0)
    assert affinity.matrix[0].tolist() == [0.25, 0.0]
    saved = affinity.state_dict()
    affinity.load_state_dict(saved)
    affinity.observe([0], vector(2.0, 1.0), vector(1.0, 0.5))
    assert saved['matrix'][0].tolist() == [0.25, 0.0]


def test_losses_of_low_precision_are_compared_in_double():
    before, after = torch.tensor([3.0, 0.7]), torch.tensor([2.9, 0.3])
    single, double = ProximalAffinity(2, decay=0.3), ProximalAffinity(2, decay=0.3)
    single.observe([0], before, after)
    double.observe([0], before.double(), after.double())
    assert torch.equal(single.matrix, double.matrix)


def test_accepts_float32_losses_with_graph():
    losses = torch.tensor([2.0, 1.0], requires_grad=True)
    affinity = ProximalAffinity(2, decay=0.5)
    affinity.measure(losses * 1, [0])
    affinity.measure(losses * 0.5, [1])
    assert affinity.matrix.dtype == torch.float64
    assert not affinity.matrix.requires_grad
    assert affinity.matrix[0].tolist() == [0.25, 0.25]


def test_state_round_trip_in_a_fresh_object_is_exact(tmp_path):
    generator = torch.Generator().manual_seed(3)
    losses = random_losses(generator, 5, 40)
    running = ProximalAffinity(5, decay=0.1)
    for step in range(20):
        running.observe([step % 5, (step + 2) % 5], losses[step], losses[step + 1])
    torch.save(running.state_dict(), tmp_path / 'state.pth')
    resumed = ProximalAffinity(5, decay=0.1)
    resumed.load_state_dict(torch.load(tmp_path / 'state.pth', weights_only=True))
    for step in range(20, 39):
        for affinity in (running, resumed):
            affinity.observe([step % 5], losses[step], losses[step + 1])
    assert torch.equal(running.matrix, resumed.matrix)


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda: ProximalAffinity(0), 'num_tasks must be at least 1, but got 0'),
        (lambda: ProximalAffinity(2, decay=0.0), r'decay must lie in \(0, 1\], but got 0.0'),
        (lambda: ProximalAffinity(2, decay=1.001), 'decay must lie'),
        (lambda: ProximalAffinity(2, decay=float('nan')), 'decay must lie'),
        (lambda: ProximalAffinity(2, credit='both'), "credit must be one of .* but got 'both'"),
        (lambda: ProximalAffinity(2).observe([2], vector(1, 1), vector(1, 1)), 'task numbers below 2'),
        (lambda: ProximalAffinity(2).observe([], vector(1, 1), vector(1, 1)), 'one or more different'),
        (lambda: ProximalAffinity(2).observe([0, 0], vector(1, 1), vector(1, 1)), 'one or more different'),
        (lambda: ProximalAffinity(2).observe([0, 7], vector(1, 1), vector(1, 1)), 'task numbers below 2'),
        (lambda: ProximalAffinity(2).observe([-1], vector(1, 1), vector(1, 1)), 'task numbers below 2'),
        (
            lambda: ProximalAffinity(2).observe(torch.tensor([1, 1]), vector(1, 1), vector(1, 1)),
            'one or more different',
        ),
        (lambda: ProximalAffinity(2).measure(vector(1, 1), [2]), 'task numbers below 2'),
        (lambda: ProximalAffinity(2).measure(vector(1, 1, 1), [0]), r'losses must have shape \(2,\), but got \(3,\)'),
        (lambda: ProximalAffinity(2).observe([0], vector(1, 1), vector(1)), r'after must have shape \(2,\)'),
        (lambda: ProximalAffinity(2).observe([0], vector(1, 1, 1), vector(1, 1)), r'before must have shape \(2,\)'),
        (lambda: ProximalAffinity(2).measure(vector(1, 1), [0], vector(1, 1)), 'valid must be a bool tensor'),
        (lambda: ProximalAffinity(2).measure(vector(1, 1), [0], torch.tensor([True] * 3)), r'valid must be .* \(3,\)'),
        (lambda: ProximalAffinity(2).similarity('mean'), "mode must be 'intended' or 'released'"),
        (lambda: ProximalAffinity(3).load_state_dict(ProximalAffinity(2).state_dict()), 'num_tasks=2.*load_from'),
        (lambda: ProximalAffinity(2).load_state_dict(ReleasedAffinity(2).state_dict()), "credit='next'.*'stepped'"),
        (
            lambda: ProximalAffinity(2).load_state_dict(dict(ProximalAffinity(2).state_dict(), matrix=torch.eye(3))),
            r'the saved affinity has shape \(3, 3\), not \(2, 2\)',
        ),
        (lambda: normalised_similarity(torch.eye(2), floor=0.0), r'floor must lie in \(0, 1\]'),
        (lambda: normalised_similarity(torch.zeros(2, 3)), r'shape \(K, K\) with K >= 1, but got \(2, 3\)'),
        (lambda: normalised_similarity(torch.full((2, 2), float('nan'))), 'affinity must be finite'),
    ],
)
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_similarity_is_the_mean_of_both_directions_relative_to_the_own_effect():
    matrix = torch.tensor([[0.5, 0.1], [-0.2, 0.25]], dtype=torch.float64)
    similarity = normalised_similarity(matrix)
    assert similarity[0, 1] == similarity[1, 0] == pytest.approx((0.1 / 0.25 + -0.2 / 0.5) / 2)
    assert similarity.diagonal().tolist() == [1.0, 1.0]


@pytest.mark.parametrize('num_tasks', [1, 2, 5, 32])
@pytest.mark.parametrize('scale', [1e-300, 1e-10, 1.0, 1e15, 1e300])
def test_similarity_is_finite_bounded_and_keeps_signs_on_any_map(num_tasks, scale):
    generator = torch.Generator().manual_seed(num_tasks)
    matrix = torch.randn(num_tasks, num_tasks, generator=generator, dtype=torch.float64)
    matrix[:, ::3] = 0.0
    matrix.diagonal()[::2] *= -1
    similarity = normalised_similarity(matrix * scale)
    assert torch.isfinite(similarity).all()
    assert similarity.abs().max() <= 10.0 + 1e-9
    assert torch.equal(similarity, similarity.T)
    assert torch.allclose(similarity, normalised_similarity(matrix), rtol=1e-9)
    both = (matrix > 0) & (matrix.T > 0)
    assert (similarity[both] > 0).all()


def test_similarity_does_not_depend_on_the_numbering_but_the_released_one_does():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(5, 5, generator=generator, dtype=torch.float64) + 0.1
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = matrix[order][:, order]
    assert torch.equal(normalised_similarity(shuffled), normalised_similarity(matrix)[order][:, order])
    assert not torch.allclose(released_similarity(shuffled), released_similarity(matrix)[order][:, order])


@pytest.mark.parametrize('num_tasks', [1, 2, 3, 5, 11])
def test_released_similarity_equals_a_division_by_a_view_of_the_diagonal(num_tasks):
    matrix = torch.rand(num_tasks, num_tasks, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1
    executed = matrix.tolist()
    for column in range(num_tasks):
        for row in range(num_tasks):
            # Rows are divided one after the other, by whatever stands on the diagonal at that moment.
            executed[row][column] /= executed[column][column]
    executed = torch.tensor(executed, dtype=torch.float64)
    assert torch.equal(released_similarity(matrix), (executed + executed.T) / 2)
    affinity = ReleasedAffinity(num_tasks)
    affinity.load_state_dict(dict(affinity.state_dict(), matrix=matrix))
    assert torch.equal(affinity.similarity('released'), released_similarity(matrix))
    assert torch.equal(affinity.similarity(), normalised_similarity(matrix))


def test_a_tiny_effect_on_itself_is_replaced_by_a_tenth_of_the_largest():
    similarity = normalised_similarity(torch.tensor([[0.001, 1.0], [1.0, 1.0]]))
    torch.testing.assert_close(similarity[0, 1].item(), (1 / 0.1 + 1 / 1) / 2)
