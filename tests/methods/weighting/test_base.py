import pytest
import torch

from mtl_plugins.methods import EqualWeighting, Weighting


class Halving(Weighting):
    """Weight 1/2 for every task, absent ones included."""

    def _weights(self, losses, present):
        return torch.full_like(losses, 0.5)


def test_equal_weighting_gives_one_per_present_task():
    weighting = EqualWeighting(tasks=3)
    losses = torch.tensor([1.0, float('nan'), 3.0], requires_grad=True)
    weights = weighting.weights(losses, torch.tensor([True, False, True]))
    assert weights.tolist() == [1.0, 0.0, 1.0]
    assert weights.dtype == torch.float32
    assert not weights.requires_grad
    assert EqualWeighting.accumulates_exactly
    assert not EqualWeighting.needs_after_step
    assert EqualWeighting.scale == 'sum'


def test_constants_follow_the_task_names():
    weighting = EqualWeighting(dict(depth=0.25, edge=50))
    present = torch.ones(3, dtype=torch.bool)
    for tasks, expected in [(['depth', 'semseg', 'edge'], [0.25, 1, 50]), (['edge', 'depth', 'sal'], [50, 0.25, 1])]:
        weighting.bind(tasks)
        assert weighting.weights(torch.rand(3, dtype=torch.float64), present).tolist() == expected


def test_the_base_class_masks_absent_tasks():
    weighting = Halving(['a', 'b'])
    assert weighting.weights(torch.ones(2), torch.tensor([False, True])).tolist() == [0.0, 0.5]


def test_state_round_trip_and_foreign_state():
    weighting = EqualWeighting(tasks=2)
    weighting.after_step(torch.ones(2), None, torch.ones(2, dtype=torch.bool))
    EqualWeighting(tasks=2).load_state_dict(weighting.state_dict())
    with pytest.raises(ValueError, match='EqualWeighting has no state, but got the entries log_variance'):
        weighting.load_state_dict(dict(log_variance=torch.zeros(2)))


@pytest.mark.parametrize(
    ('make', 'error', 'words'),
    [
        (lambda: EqualWeighting(dict(depth=-1)), ValueError, "weight of 'depth' must be finite and >= 0, but got -1"),
        (lambda: EqualWeighting(dict(depth=float('inf'))), ValueError, 'must be finite'),
        (lambda: EqualWeighting(dict(depht=1), tasks=['depth']), ValueError, "'depht': did you mean 'depth'?"),
        (lambda: EqualWeighting(tasks=0), ValueError, 'at least one task'),
        (lambda: EqualWeighting().weights(torch.ones(1), torch.ones(1) > 0), RuntimeError, 'call bind'),
        (lambda: EqualWeighting(tasks=2).weights(torch.ones(3), torch.ones(3) > 0), ValueError, 'losses must be'),
        (lambda: EqualWeighting(tasks=2).weights(torch.ones(2), torch.ones(2)), ValueError, 'present must be a bool'),
        (lambda: EqualWeighting(tasks=2).weights(torch.ones(2).long(), torch.ones(2) > 0), ValueError, 'losses must'),
    ],
)
def test_wrong_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()
