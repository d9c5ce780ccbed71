"""Which tasks to train together: the groupings that are best by a measured map of gains, exactly.

Sources: Fifty et al., "Efficiently Identifying Task Groupings for Multi-Task Learning" (TAG), NeurIPS 2021,
arXiv 2109.04617; "Principled Task Grouping for Multi-Task Learning" (PTG), arXiv 2402.15328. Both objectives are those
of PTG's program. A group here is a network of its own, so that groups may overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest

import numpy as np
from torch import Tensor

from .similarity import check_affinity

LARGEST = 12
"""Most tasks: there are 2^K - 1 groups to choose from."""
MOST = 20
"""Most groupings that are returned by default."""


@dataclass(frozen=True)
class TaskGrouping:
    """One way to group the tasks.

    Args:
        groups: Task numbers of each group in ascending order; the groups in the order of their members.
        score: Value of the objective.
    """

    groups: list[list[int]]
    score: float


def solve_ptg(
    gains: Tensor,
    num_groups: int | None = None,
    max_groups: int | None = None,
    overlap: bool = True,
    tolerance: float = 1e-9,
    most: int = MOST,
) -> list[TaskGrouping]:
    r"""Groupings that are best by PTG's objective.

    It maximises :math:`\sum_G \frac{1}{|G|} \sum_{i, k \in G} S_{ik}` over sets of different groups that contain every
    task. The diagonal counts, and since the sum is divided once, a group's value grows with its size.

    Args:
        gains: Map ``S`` of shape (K, K), row = source, column = target.
        num_groups: Number of groups.
        max_groups: Greatest number of groups, where ``num_groups`` is not given; None for K.
        overlap: Whether a task may be in several groups.
        tolerance: How far below the best score a grouping may lie to be returned as well.
        most: Greatest number of groupings that are returned.

    Returns:
        The best grouping, and those as good within the tolerance, best first.

    Raises:
        ValueError: If the map is not a finite square matrix of at most 12 tasks, or no grouping has that many groups.
    """
    matrix = check_affinity(gains).numpy()
    members = _all_groups(len(matrix))
    values = ((members @ matrix) * members).sum(1) / members.sum(1)
    span = _span(len(matrix), num_groups, max_groups, overlap)
    found = _best(values, members, span, overlap, tolerance, most)
    return _ranked({tuple(numbers): value for numbers, value in found}, members, tolerance, most)


def solve_tag(
    gains: Tensor,
    num_groups: int | None = None,
    max_groups: int | None = None,
    overlap: bool = True,
    single: float = -1e6,
    tolerance: float = 1e-9,
    most: int = MOST,
) -> list[TaskGrouping]:
    r"""Groupings that are best by TAG's objective.

    The score of task a in a group is the mean of the gains :math:`Z_{ba}` that the other members b bring it; a task
    takes the score of the best of its groups, and the mean over all tasks is maximised. With overlap the number of
    groups is a budget: a group that is nobody's best is left out.

    Args:
        gains: Map ``Z`` of shape (K, K), row = source, column = target (the transpose of the program's).
        num_groups: Number of groups; only without overlap.
        max_groups: Greatest number of groups, where ``num_groups`` is not given; None for K.
        overlap: Whether a task may be in several groups.
        single: Score of a task that is alone in its group; -1e6, as in the program, avoids such groups.
        tolerance: How far below the best score a grouping may lie to be returned as well.
        most: Greatest number of groupings that are returned.

    Returns:
        The best grouping, and those as good within the tolerance, best first.

    Raises:
        ValueError: As for :func:`solve_ptg`, or if ``num_groups`` is given together with overlap.
    """
    matrix = check_affinity(gains).numpy()
    if overlap and num_groups is not None:
        raise ValueError(f'TAG with overlap has a budget: give max_groups, but got num_groups={num_groups}')
    members = _all_groups(len(matrix))
    scores = _task_scores(matrix, members, single)
    # Low enough to be avoided, and high enough to leave the other digits to the solver.
    largest = np.abs(scores[members.sum(1) > 1]).max(initial=max(1e3 * tolerance * len(matrix), 1e-12))
    scores = np.maximum(scores, -1e3 * largest)
    # For each set of tasks: what each group gives it that may be the best one of all of them.
    offers = _offers(scores, members) if overlap else [{n: float(v)} for n, v in enumerate((scores * members).sum(1))]
    values = np.array([max(offer.values()) for offer in offers])
    slack = tolerance * len(matrix)
    found = _best(values, members, _span(len(matrix), num_groups, max_groups, overlap), False, slack, most)
    best = max(value for _, value in found)
    exact = _task_scores(matrix, members, single)
    groupings: dict[tuple[int, ...], float] = {}
    for sets, _ in found:
        if len(groupings) >= most:
            break  # best first: what follows is no better
        for numbers in _combinations([offers[number] for number in sets], best - slack, most):
            mine = np.where(members[list(numbers)] > 0, exact[list(numbers)], -np.inf)
            groupings[numbers] = float(mine.max(0).mean())
    return _ranked(groupings, members, tolerance, most)


def _all_groups(num_tasks: int) -> np.ndarray:
    """Bool rows ``[2^K - 1, K]`` as 0 and 1; row n is the group whose bits n + 1 has."""
    if num_tasks > LARGEST:
        raise ValueError(f'{num_tasks} tasks make 2^{num_tasks} groups; solved exactly are at most {LARGEST} tasks')
    return ((np.arange(1, 2**num_tasks)[:, None] >> np.arange(num_tasks)) & 1).astype(float)


def _span(num_tasks: int, num_groups: int | None, max_groups: int | None, overlap: bool) -> tuple[int, int]:
    for name, value in (('num_groups', num_groups), ('max_groups', max_groups)):
        if value is not None and value < 1:
            raise ValueError(f'{name} must be at least 1, but got {value}')
    greatest = 2**num_tasks - 1 if overlap else num_tasks
    if num_groups is not None:
        if num_groups > greatest:
            raise ValueError(f'{num_tasks} tasks do not make {num_groups} groups; num_groups must be <= {greatest}')
        return num_groups, num_groups
    return 1, min(max_groups or num_tasks, greatest)


def _task_scores(matrix: np.ndarray, members: np.ndarray, single: float) -> np.ndarray:
    """TAG's score of each task in each group ``[2^K - 1, K]``; of use only for members."""
    sizes = members.sum(1, keepdims=True)
    brought = members @ (matrix - np.diag(matrix.diagonal()))
    return np.where(sizes > 1, brought / np.maximum(sizes - 1, 1), single)


def _offers(scores: np.ndarray, members: np.ndarray) -> list[dict[int, float]]:
    """For each set of tasks, each group that holds it -> the sum of the set's scores there."""
    found: list[dict[int, float]] = [{} for _ in members]
    for group in range(len(members)):
        part = bits = group + 1
        while part:
            found[part - 1][group] = float(scores[group] @ members[part - 1])
            part = (part - 1) & bits
    return found


def _combinations(offers: Sequence[Mapping[int, float]], least: float, most: int) -> set[tuple[int, ...]]:
    """Ways to take one group of each offer with a sum of at least ``least``; the best ones where there are too many."""
    highest = [max(offer.values()) for offer in offers]
    partial: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for place, offer in enumerate(offers):
        rest = sum(highest[place + 1 :])
        ways = (
            ((*chosen, group), total + value)
            for chosen, total in partial
            for group, value in offer.items()
            if total + value + rest >= least - 1e-12 * abs(least)
        )
        partial = nlargest(most * len(offers), ways, key=lambda way: way[1])
    return {tuple(sorted(set(chosen))) for chosen, _ in partial}


def _best(
    values: np.ndarray, members: np.ndarray, span: tuple[int, int], overlap: bool, tolerance: float, most: int
) -> list[tuple[list[int], float]]:
    """Sets of rows with the greatest sum of values that hold every task, once or (``overlap``) at least once.

    A mixed-integer program gives the best one, and says which groups cannot be part of so good a set. Of the others all
    partitions are tried; where groups may overlap, forbidding the best set gives the next, until the sum falls too low.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    groups = np.arange(len(values))
    scale = 1e4 / max(float(np.abs(values).max()), 1e-300)  # HiGHS stops at an absolute gap of 1e-6
    scaled = values * scale
    rows = np.vstack([np.ones(len(values)), members.T])
    low = np.array([span[0], *([1.0] * members.shape[1])])
    high = np.array([span[1], *([np.inf if overlap else 1.0] * members.shape[1])])
    found: list[tuple[list[int], float]] = []
    while len(found) < most:
        result = milp(
            -scaled[groups],
            integrality=np.ones(len(groups)),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(rows[:, groups], low, high),
            options=dict(mip_rel_gap=0.0),
        )
        if result.x is None:
            break
        chosen = groups[result.x > 0.5]
        value = float(values[chosen].sum())
        if not found:
            # The last digits of the solver's sums are not certain: a little further, to be sorted out afterwards.
            least = (value - tolerance) * scale - 1e-3
            losses, spare = _losses(scaled, least, rows, low, high)
            groups = np.flatnonzero(losses <= spare)
            if not overlap:
                return _partitions(values.tolist(), dict(zip(groups.tolist(), losses[groups])), spare, span, most)
            rows, low, high = np.vstack([rows, scaled]), np.r_[low, least], np.r_[high, np.inf]
        found.append((chosen.tolist(), value))
        rows = np.vstack([rows, np.where(np.isin(np.arange(len(values)), chosen), 1.0, -1.0)])
        low, high = np.r_[low, -np.inf], np.r_[high, len(chosen) - 1]
    if not found:
        raise ValueError(f'no grouping of {members.shape[1]} tasks has {span[0]} to {span[1]} groups')
    return found


def _losses(
    values: np.ndarray, least: float, rows: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, float]:
    """What each group costs a set at least, and how much a set with a sum of at least ``least`` can lose in all.

    Where fractions of groups may be taken, the best sum is an upper bound; it falls by the reduced costs of the groups
    that are taken.
    """
    from scipy.optimize import linprog

    limits = np.r_[high, -low]
    finite = np.isfinite(limits)
    relaxed = linprog(-values, np.vstack([rows, -rows])[finite], limits[finite], bounds=(0, 1))
    if not relaxed.success:
        return np.zeros(len(values)), np.inf
    return relaxed.lower.marginals, 1e-3 - least - relaxed.fun


def _partitions(
    values: list[float], losses: Mapping[int, float], spare: float, span: tuple[int, int], most: int
) -> list[tuple[list[int], float]]:
    """The best partitions into groups of ``losses`` that lose no more than what is to spare."""
    begins: dict[int, list[tuple[int, int]]] = {}
    for number in losses:
        begins.setdefault((number + 1) & -(number + 1), []).append((number, number + 1))

    def ways(rest: int, left: float, chosen: list[int]) -> Iterator[list[int]]:
        if not rest and len(chosen) >= span[0]:
            yield chosen
        elif rest and len(chosen) < span[1]:
            for number, bits in begins.get(rest & -rest, ()):
                if bits & rest == bits and losses[number] <= left:
                    yield from ways(rest ^ bits, left - losses[number], [*chosen, number])

    scored = ((found, sum(values[number] for number in found)) for found in ways(len(values), spare, []))
    return nlargest(most, scored, key=lambda way: way[1])


def _ranked(
    groupings: Mapping[tuple[int, ...], float], members: np.ndarray, tolerance: float, most: int
) -> list[TaskGrouping]:
    best = max(groupings.values())
    kept = [
        TaskGrouping(sorted(np.flatnonzero(members[number]).tolist() for number in numbers), score)
        for numbers, score in groupings.items()
        if score >= best - tolerance
    ]
    return sorted(kept, key=lambda grouping: (-grouping.score, len(grouping.groups), grouping.groups))[:most]
