"""Delta_m: the average relative change of several tasks against single-task baselines."""

import math
from collections.abc import Mapping

NAN = float('nan')


def relative_changes(
    results: Mapping[str, float], baselines: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> dict[str, float]:
    """Return the change of each task against its baseline in percent, positive where the result is better.

    Args:
        results: Task -> value of its headline metric.
        baselines: Task -> value of the same metric for a model of that task alone. May hold more tasks.
        higher_is_better: Task -> direction of the metric.

    Returns:
        Task -> change, in the order of ``results``. NaN where the result or the baseline is missing or not finite, and
        where the baseline is 0, against which nothing can be expressed in percent. A negative baseline counts by its
        size, so that the sign keeps its meaning.
    """
    changes = {}
    for task, value in results.items():
        base = baselines.get(task)
        if base is None or value is None or not (math.isfinite(base) and math.isfinite(value)) or base == 0:
            changes[task] = NAN
            continue
        change = 100.0 * (value - base) / abs(base)
        changes[task] = change if higher_is_better[task] else -change
    return changes


def delta_m(
    results: Mapping[str, float], baselines: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> float:
    """Return Delta_m in percent: the mean of :func:`relative_changes` over the tasks of ``results``.

    ``100/K * sum_i (-1)^l_i (M_i - B_i) / B_i`` with ``l_i = 1`` where lower is better (Maninis et al., 2019;
    Vandenhende et al., 2021): one metric per task, against single-task models of the same backbone. Positive is better.

    Args:
        results: Task -> value of its headline metric.
        baselines: Task -> value of the single-task model.
        higher_is_better: Task -> direction of the metric.

    Returns:
        The mean, NaN if it is undefined for any task or if there is no task: a mean over fewer tasks would be another
        quantity.
    """
    changes = list(relative_changes(results, baselines, higher_is_better).values())
    return sum(changes) / len(changes) if changes else NAN
