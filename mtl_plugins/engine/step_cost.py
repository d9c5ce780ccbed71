"""What a training step costs, in numbers and in words."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from mtl_plugins.methods.weighting import EqualWeighting, Weighting


@dataclass(frozen=True)
class StepSetup:
    """What the work per batch depends on, beside the strategy.

    Args:
        num_tasks: Number of tasks K.
        num_groups: Number of groups M, for strategies with groups.
        probe_interval: Batches per extra forward that measures the last group; 0 for none.
        weighting: The loss weighting.
    """

    num_tasks: int
    num_groups: int = 1
    probe_interval: int = 0
    weighting: Weighting | type[Weighting] = EqualWeighting


@dataclass(frozen=True)
class StepCost:
    """Work per batch.

    Args:
        forwards: Forward passes with graph.
        backwards: Backward passes.
        steps: Steps of the optimizer.
        probes: Forward passes without graph, on average per batch.
        partial: Backward passes that end at the last shared layer.
    """

    forwards: int
    backwards: int
    steps: int
    probes: Fraction = Fraction(0)
    partial: int = 0

    @property
    def relative(self) -> float:
        """Rough cost in units of one ordinary step, a backward pass counted as two forward passes, no partial ones."""
        return float(self.forwards + 2 * self.backwards + self.probes) / 3


class Priced:
    """The part of a step strategy that says what a step costs, which the catalogue and the documents follow."""

    task_names: tuple[str, ...] | None

    @classmethod
    def cost(cls, setup: StepSetup) -> StepCost:
        """Work per optimizer step."""
        partial = setup.num_tasks if setup.weighting.needs_grad_norms else 0
        return StepCost(1, 1, 1, Fraction(setup.weighting.needs_after_step), partial)

    def cost_per_batch(self) -> StepCost:
        """Work per optimizer step as things stand now; for the line before training."""
        return self.cost(StepSetup(len(self.task_names or '?'), weighting=getattr(self, 'weighting', EqualWeighting)))


def in_words(cost: Callable[[int, int, int], StepCost]) -> str:
    """The cost of a step in words, with K tasks and M groups.

    Args:
        cost: ``(num_tasks, num_groups, probe_interval) -> StepCost``, linear in both numbers from two groups on.
    """

    def count(name: str, unit: str) -> str:
        tasks, groups, start = (getattr(cost(*case, 0), name) for case in ((4, 2), (3, 3), (3, 2)))
        factors = {'K': tasks - start, 'M': groups - start}
        constant = start - 3 * factors['K'] - 2 * factors['M']
        terms = [f'{factor} {letter}' if factor > 1 else letter for letter, factor in factors.items() if factor]
        terms = [str(constant)] * bool(constant) + terms
        return ' + '.join(terms) + f' {unit if terms == ["1"] else unit + "s"}' if terms else ''

    units = dict(forwards='forward', backwards='backward', probes='forward', partial='partial backward')
    counts = {name: count(name, unit) for name, unit in units.items()}
    words = f'{counts["forwards"]}, {counts["backwards"]}'
    if counts['probes']:
        words += f', {counts["probes"]} without graph'
    if counts['partial']:
        words += f', and {counts["partial"]} that end at the last shared layer'
    one, two, three = (cost(4, groups, 0).forwards for groups in (1, 2, 3))
    if two - one != three - two:
        words += f'; {one} of each where M = 1'
    if cost(4, 1, 7) != cost(4, 1, 0):
        words += '; 1 forward without graph every probe_interval batches'
    return words
