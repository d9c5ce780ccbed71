"""Which tasks to train together: the groupings that are best by a measured map of gains, exactly.

Sources: Fifty et al., "Efficiently Identifying Task Groupings for Multi-Task Learning" (TAG), NeurIPS 2021,
arXiv 2109.04617; "Principled Task Grouping for Multi-Task Learning" (PTG), arXiv 2402.15328. Both objectives are those
of PTG's program. A group here is a network of its own, so that groups may overlap.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, nlargest
from itertools import count, islice

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

    A mixed-integer program gives the best one. Where fractions of groups may be taken, the best sum is an upper bound,
    and its prices say what a group, or a task that is held once more, costs a set at least. That leaves so few sets
    that may be as good that they are searched one by one.
    """
    from scipy.optimize import Bounds, LinearConstraint, linprog, milp

    scale = 1e4 / max(float(np.abs(values).max()), 1e-300)  # HiGHS stops at an absolute gap of 1e-6
    scaled = values * scale
    rows = np.vstack([np.ones(len(values)), members.T])
    low = np.array([span[0], *([1.0] * members.shape[1])])
    high = np.array([span[1], *([np.inf if overlap else 1.0] * members.shape[1])])
    solved = milp(
        -scaled,
        integrality=np.ones(len(values)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, low, high),
        options=dict(mip_rel_gap=0.0),
    )
    if solved.x is None:
        raise ValueError(f'no grouping of {members.shape[1]} tasks has {span[0]} to {span[1]} groups')
    limits = np.r_[-low, high]
    finite = np.isfinite(limits)
    relaxed = linprog(-scaled, np.vstack([-rows, rows])[finite], limits[finite], bounds=(0, 1))
    # The last digits of the solver's sums are not certain: a little further, to be sorted out afterwards. No sum comes
    # near 1e9.
    spare = 2e-3 + min(scale * tolerance, 1e9) - relaxed.fun - float(scaled[solved.x > 0.5].sum())
    prices = -relaxed.ineqlin.marginals
    sets = _sets(
        scaled,
        bound=-relaxed.fun,
        spare=spare,
        losses=relaxed.lower.marginals,
        again=prices[1 : len(low)] if overlap else np.full(len(low) - 1, spare + 1),
        required=np.flatnonzero(-relaxed.upper.marginals > spare).tolist(),
        span=span,
        prices=(prices[0], 0.0 if overlap else prices[len(low)]),
    )
    return [(numbers, float(values[numbers].sum())) for numbers in islice(sets, most)]


def _sets(
    values: np.ndarray,
    bound: float,
    spare: float,
    losses: np.ndarray,
    again: np.ndarray,
    required: list[int],
    span: tuple[int, int],
    prices: tuple[float, float],
) -> Iterator[list[int]]:
    """Sets of groups that hold every task and lose at most ``spare`` against the bound, those that lose least first.

    Each set is built in one way only: the first task that is in no group yet takes one, and the groups before that one
    in the order that hold the task, too, are out of the question from then on.

    Args:
        values: Value of each group ``[2^K - 1]``; group n has the tasks whose bits n + 1 has.
        bound: No set has a greater sum of values.
        spare: How much of it a set may lose.
        losses: What a set loses at least by each group that it has.
        again: What a set loses at least whenever it holds a task once more ``[K]``.
        required: Groups without which a set loses too much.
        span: Least and greatest number of groups.
        prices: What a set loses at least by each group above the least number, and by each below the greatest that the
            tasks without a group cannot bring; 0 where sets can always be filled up.
    """
    everyone = len(values)
    twice = np.array([sum(again[task] for task in range(len(again)) if n >> task & 1) for n in range(everyone + 1)])
    order = np.argsort(losses, kind='stable')
    order = order[(losses[order] <= spare) & ~np.isin(order, required)]
    tasks, losses = order + 1, losses[order]
    holders = {1 << task: np.flatnonzero(tasks >> task & 1) for task in range(len(again))} | {0: np.arange(len(order))}
    idle = (losses + twice[tasks]).min(initial=np.inf)  # the least loss by a group that brings no new task
    held, lost = 0, 0.0
    for group in required:
        held, lost = held | (group + 1), lost + twice[held & (group + 1)]
    # The least loss, then most groups, then what was begun last: where many tie, the first complete sets come soon.
    heap: list[tuple[float, int, int, int, float, int, list[tuple[int, int]]]] = []
    heappush(heap, (lost, -len(required), 0, 0, lost, held, []))
    for turn in count():
        if not heap:
            return
        _, size, _, place, lost, held, steps = heappop(heap)
        groups = [*required, *(int(order[chosen]) for _, chosen in steps)]
        if place < 0:
            yield groups
            continue
        rest = everyone & ~held
        exact = bound - values[groups].sum()
        if not rest and -size >= span[0] and exact <= spare:
            heappush(heap, (exact, size - 1, -turn, -1, lost, held, steps))
        if -size == span[1]:
            continue
        places = holders[rest & -rest]
        for of, chosen in steps:
            places = places[(places > chosen) | (tasks[places] & of == 0)]
        left = np.bitwise_count(rest & ~tasks[places]).astype(int)
        after = np.round(lost + losses[places] + twice[held & tasks[places]], 4)  # what ties is to be equal
        more = prices[0] * max(1 - size - span[0], 0) + prices[1] * np.maximum(span[1] + size - 1 - left, 0)
        least = np.round(after + more, 4)
        possible = least + idle * np.maximum(span[0] + size - 1 - left, 0) <= spare
        if -size + 1 == span[1]:
            possible &= left == 0
        for place, key, now in zip(*(column[possible].tolist() for column in (places, least, after))):
            step = (rest & -rest or everyone, place)
            heappush(heap, (key, size - 1, -turn, place, now, held | int(tasks[place]), [*steps, step]))


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
