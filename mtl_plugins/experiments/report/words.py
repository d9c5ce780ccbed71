"""The summary in plain words. It says no more than the numbers carry."""

from __future__ import annotations

import math

from .comparison import MATCH, Comparison, Pair
from .numbers import between, counted, listed, plain, signed, times
from .results import Variant
from .statistics import difference


def summary(comparison: Comparison) -> list[str]:
    """The sentences at the top of the report."""
    found = [_setting(comparison), _best(comparison), _equal_batches(comparison), _equal_compute(comparison)]
    found += [_front(comparison), _length(comparison), _gaps(comparison)]
    return [text for text in found if text]


def _setting(comparison: Comparison) -> str:
    methods = counted(len(comparison.variants), 'method')
    titles = ', '.join(task.title[:1].lower() + task.title[1:] for task in comparison.tasks)
    tasks = f'{counted(len(comparison.tasks), "task")} ({titles})'
    lengths = sorted({variant.iterations for variant in comparison.variants})
    length = f'{lengths[0]:,}' if len(lengths) == 1 else f'{lengths[0]:,} to {lengths[-1]:,}'
    reference = comparison.reference
    text = f'**What was compared.** {methods} on {tasks}, each trained for {length} iterations of `{comparison.config}`'
    counts = sorted({len(variant.runs) for variant in comparison.variants})
    runs = counted(counts[0], 'run') if len(counts) == 1 else f'{counts[0]} to {counts[-1]} runs'
    seeds = ', '.join(map(str, comparison.seeds))
    text += f', {runs} per method ({"seed" if len(comparison.seeds) == 1 else "seeds"} {seeds}).'
    if reference is None:
        why = 'some are not finished' if any(comparison.single.values()) else 'there are none, and no plain `gd` either'
        return f'{text} Results are not measured against single-task models: {why}.'
    if reference.single_task:
        return f'{text} Results are measured against single-task models (delta_m: mean relative change over the tasks).'
    return (
        f'{text} There are no single-task models, so results are measured as the mean relative change over the tasks '
        'against ordinary training (`gd`).'
    )


def _best(comparison: Comparison) -> str:
    scored = [variant for variant in comparison.variants if math.isfinite(variant.score.mean)]
    if not scored:
        return '**What came out.** No method has a result for every task, so none can be ranked.'
    best, others = scored[0], scored[1:]
    text = f'**What came out.** The highest {comparison.score_name} was that of {_described(best)}'
    if not others:
        return f'{text}.'
    text += f', the lowest that of {_described(scored[-1])}.'
    repeated = [variant for variant in scored if variant.score.count > 1]
    if not repeated:
        return f'{text} With one run per method, differences cannot be told from those between seeds.'
    if best not in repeated:
        text += f' One run of `{best.name}` cannot tell whether it is ahead of the others. Of those with several runs, '
        text += f'the highest was that of {_described(repeated[0])}.'
    top, rest = repeated[0], repeated[1:]
    close = [variant.name for variant in rest if difference(top.score, variant.score).verdict == 'undecided']
    return f'{text} The runs do not decide between `{top.name}` and {listed(close)}.' if close else text


def _described(variant: Variant) -> str:
    interval = variant.score.interval
    spread = f' (95 % interval {between(interval)})' if interval else ' (one run)' if variant.score.count == 1 else ''
    return f'`{variant.name}` with {signed(variant.score.mean)} %{spread}'


def _equal_batches(comparison: Comparison) -> str:
    pairs = [pair for pair in comparison.pairs() if pair.equal_batches is not None]
    if not pairs:
        return ''
    text = _verdicts(pairs, [pair.over_batches.verdict for pair in pairs], [p.over_batches.mean for p in pairs])
    return f'**At equal batches** (one step of ordinary training per batch, whatever the method costs), {text}'


def _equal_compute(comparison: Comparison) -> str:
    pairs = comparison.pairs()
    matched = [pair for pair in pairs if pair.matched]
    if not matched:
        return (
            f'**At equal compute** nothing can be said: no ordinary training took within a factor of {MATCH:g} of the '
            'compute of another method; `gd[passes=N]` takes N steps on each batch.'
            if pairs
            else ''
        )
    text = _verdicts(matched, [pair.over_compute.verdict for pair in matched], [p.over_compute.mean for p in matched])
    rest = len(pairs) - len(matched)
    if rest:
        text += f' For {counted(rest, "more method")} there is no ordinary training of like compute.'
    return f'**At equal compute** (ordinary training within a factor of {MATCH:g}), {text}'


def _verdicts(pairs: list[Pair], verdicts: list[str], means: list[float]) -> str:
    names = {key: [p.variant.name for p, v in zip(pairs, verdicts) if v == key] for key in set(verdicts)}
    parts = []
    if 'ahead' in names:
        parts.append(f'ahead of it beyond the spread of the runs: {listed(names["ahead"])}')
    if 'behind' in names:
        parts.append(f'behind: {listed(names["behind"])}')
    if 'undecided' in names:
        parts.append(f'not decided by these runs: {listed(names["undecided"])}')
    if 'unknown' in names:
        single = [(p.variant.name, m) for p, v, m in zip(pairs, verdicts, means) if v == 'unknown']
        above = [name for name, mean in single if mean > 0]
        below = [name for name, mean in single if mean <= 0]
        told = [f'above it {listed(above)}'] * bool(above) + [f'not above it {listed(below)}'] * bool(below)
        told += ['no result for the others'] * (len(above) + len(below) < len(single))
        parts.append(f'with too few runs for an interval: {", ".join(told)}')
    text = '; '.join(parts)
    return f'{text}.'


def _front(comparison: Comparison) -> str:
    names = comparison.front()
    if len(names) < 2:
        return ''
    costs = [comparison.variant(name).compute for name in names]
    shown = ', '.join(f'`{n}` ({times(c / comparison.max_iters)})' for n, c in list(zip(names, costs))[:8])
    more = f' and {len(names) - 8} more' if len(names) > 8 else ''
    return f'**Gain for compute.** No other method had a higher mean with as little compute: {shown}{more}.'


def _length(comparison: Comparison) -> str:
    ordinary = [variant for variant in comparison.variants if variant.ordinary and math.isfinite(variant.late_change())]
    if not ordinary:
        return ''
    told = ', '.join(f'`{variant.name}` {signed(variant.late_change())}' for variant in ordinary[:5])
    unit = 'delta_m' if comparison.reference.single_task else 'the mean change'
    return (
        f'**Was it long enough?** Over the last fifth of training, ordinary training changed by (percentage points of '
        f'{unit}): {told}. If this is not small beside the differences between methods, longer training may change the '
        'order.'
    )


def _gaps(comparison: Comparison) -> str:
    parts = []
    if comparison.errors:
        parts.append(f'{counted(len(comparison.errors), "run")} failed')
    if comparison.missing:
        parts.append(f'{counted(len(comparison.missing), "run is", "runs are")} missing')
    undefined = [variant.name for variant in comparison.variants if comparison.reference and variant.score.undefined]
    if undefined:
        parts.append(f'runs of {listed(undefined)} ended without a number for some task and are not in the means')
    text = '; '.join(parts)
    return f'**Gaps.** {text[:1].upper()}{text[1:]}. See the list below.' if parts else ''


def noise_of_reference(comparison: Comparison) -> str:
    """How the noise of what is measured against enters."""
    reference = comparison.reference
    if reference is None:
        return ''
    error = reference.error
    runs = sorted({sample.count for sample in reference.samples.values()})
    text = (
        f'The intervals take the mean of the {reference.words} ({" to ".join(map(str, sorted({runs[0], runs[-1]})))} '
        f'{"run" if runs == [1] else "runs"} each) as exact. Its own noise moves all methods together and so hardly '
        'touches the differences between them'
    )
    if error is None:
        return f'{text}; with one run it is not known.'
    return f'{text}; it is a standard error of about {plain(error, 2)} percentage points on every {reference.name}.'
