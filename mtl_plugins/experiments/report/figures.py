"""The pictures of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mtl_plugins.visualization import distinct_colours, draw_affinity
from mtl_plugins.visualization.curves import Curve, draw_curves
from mtl_plugins.visualization.figure import INK
from mtl_plugins.visualization.front import Choice, draw_front
from mtl_plugins.visualization.intervals import IntervalRow, draw_intervals
from mtl_plugins.visualization.labels import shorten

from ..compare.variants import file_name
from .blocks import Picture
from .comparison import Comparison
from .numbers import counted, plain, signed
from .results import Curve as Points
from .results import Variant
from .tables import SINGLE_NAME

MOST_COLOURS = 8
_ORDINARY = ('-', '--', ':')
_COLOURS = [colour for colour in distinct_colours(12) if colour not in ('#F0E442', '#888888')]


class Figures:
    """Draws the pictures; a method has the same colour in all of them.

    Args:
        comparison: What is drawn.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self._looks = _looks(comparison)
        reference = comparison.reference
        self._level = reference.words if reference else ''
        # delta_m is a symbol and keeps its small letter.
        self._title = 'delta_m' if reference and reference.single_task else 'Mean change'
        self._score = f'{comparison.score_name} (%)' if reference and reference.single_task else 'mean change (%)'

    def scores(self) -> Picture:
        """delta_m of every method with its interval."""
        variants = self.comparison.variants
        rows = [
            IntervalRow(v.name, v.score.mean, v.score.interval, v.score.values, '#0072B2' if v.ordinary else INK)
            for v in variants
        ]
        note = 'Diamond: mean; line: 95 % interval; rings: single runs; blue: ordinary training'
        title = f'{self._title} after training'
        figure = draw_intervals(rows, title, self._score, note, self._level)
        told = '; '.join(f'{v.name} {signed(v.score.mean)}' for v in variants[:12])
        return Picture('scores', f'{title} in percent, best first: {told}{_more(variants, 12)}', figure)

    def front(self) -> Picture | None:
        """delta_m against compute; None if no method has both."""
        comparison = self.comparison
        length = comparison.max_iters
        choices = [
            Choice(
                v.name,
                v.compute / length,
                v.score.mean,
                v.score.interval,
                's' if v.ordinary else 'o',
                '#0072B2' if v.ordinary else INK,
            )
            for v in comparison.variants
            if math.isfinite(v.compute) and math.isfinite(v.score.mean)
        ]
        if not choices:
            return None
        if comparison.reference.single_task and math.isfinite(comparison.single_compute):
            choices.append(Choice(SINGLE_NAME, comparison.single_compute / length, 0.0, None, 'D', '#6b6b6b'))
        names = comparison.front()
        figure = draw_front(
            choices,
            names,
            f'{self._title} against compute',
            f'compute of the training (ordinary training of {length:,} iterations = 1)',
            self._score,
            'Ringed: no other method has a higher mean with as little compute; blue squares: ordinary training',
            self._level,
        )
        told = ', '.join(names[:10])
        alt = f'{comparison.score_name} of {counted(len(choices), "choice")} against compute. On the front: {told}'
        return Picture('compute', alt, figure)

    def score_curves(self) -> list[Picture]:
        """delta_m over iterations, and over compute."""
        if self.comparison.reference is None:
            return []
        title = self._title
        level = (self._level, 0.0)
        found = [
            self._curves('curve_score', title, 'iteration', self._score, [v.score_curve() for v in self._all], level)
        ]
        by_compute = [v.compute_curve() for v in self._all]
        label = 'compute (iterations of ordinary training)'
        found.append(
            self._curves(
                'curve_compute', f'{title} over compute', label, self._score, by_compute, level, logarithmic=True
            )
        )
        return [picture for picture in found if picture is not None]

    def task_curves(self) -> list[Picture]:
        """Headline metric of every task over iterations."""
        found = []
        for task in self.comparison.tasks:
            direction = 'higher is better' if task.higher_is_better else 'lower is better'
            metric = task.metric.split('/', 1)[-1]
            unit = f' ({task.unit})' if task.unit else ''
            level = None
            if self.comparison.reference and self.comparison.reference.single_task:
                level = (self._level, self.comparison.reference.samples[task.key].mean)
            curves = [variant.curve(task.key) for variant in self._all]
            name = f'curve_{file_name(task.key)}'
            found.append(self._curves(name, task.title, 'iteration', f'{metric}{unit}', curves, level, direction))
        return [picture for picture in found if picture is not None]

    def affinities(self) -> list[Picture]:
        """Last affinity of each method that has one, the mean over its runs."""
        found = []
        for variant in sorted(self.comparison.variants, key=lambda variant: variant.name):
            maps = [run.affinity for run in variant.runs if run.affinity]
            maps = [entry for entry in maps if entry['tasks'] == maps[0]['tasks']]
            if not maps:
                continue
            matrices = np.array([entry['matrix'] for entry in maps], dtype=float)
            known = np.isfinite(matrices).all(axis=0)
            mean = np.where(known, np.where(known, matrices, 0.0).mean(axis=0), np.nan)
            tasks = maps[0]['tasks']
            figure = draw_affinity(
                mean, tasks, title=f'{shorten(variant.name, 24)}: affinity, iteration {maps[0]["iter"]:,}'
            )
            alt = f'Affinity between {len(tasks)} tasks under {variant.name}, mean of {counted(len(maps), "run")}'
            alt += _strongest(mean, tasks)
            found.append(Picture(f'affinity_{file_name(variant.name)}', alt, figure))
        return found

    def groups(self) -> Picture | None:
        """Number of groups over iterations; None if no method has groups."""
        variants = [variant for variant in self._all if variant.groups.count]
        if not variants:
            return None
        curves = [_groups_curve(variant) for variant in variants]
        colours = _COLOURS * (1 + len(variants) // len(_COLOURS))
        styles = [style for style in ('-', '--', ':') for _ in _COLOURS] * (1 + len(variants) // 30)
        drawn = [
            Curve(v.name, points, colour, style) for v, points, colour, style in zip(variants, curves, colours, styles)
        ]
        figure = draw_curves(
            drawn,
            'Number of groups',
            'iteration',
            'groups M',
            'Mean over the runs, running mean over a tenth of training',
            size=(460, 220),
        )
        told = ', '.join(f'{variant.name} {plain(variant.groups.mean, 3)}' for variant in variants[:12])
        return Picture('groups', f'Number of groups over training; means: {told}{_more(variants, 12)}', figure)

    @property
    def _all(self) -> list[Variant]:
        # Grey ones first, so that the others lie on top.
        return sorted(self.comparison.variants, key=lambda variant: variant.name in self._looks)

    def _curves(
        self,
        name: str,
        title: str,
        x_label: str,
        y_label: str,
        curves: Sequence[Points],
        level: tuple[str, float] | None,
        note: str = '',
        logarithmic: bool = False,
    ) -> Picture | None:
        if not any(math.isfinite(y) for points in curves for _, y in points):
            return None
        drawn = [
            Curve(variant.name, points, *self._looks.get(variant.name, (None, '-')))
            for variant, points in zip(self._all, curves)
        ]
        if len(self._looks) < len(drawn):
            note = f'{note}; ' * bool(note) + 'grey: all other methods'
        figure = draw_curves(drawn, title, x_label, y_label, note, level, logarithmic=logarithmic)
        ends = [(v.name, [y for _, y in points if math.isfinite(y)]) for v, points in zip(self._all, curves)]
        told = ', '.join(f'{n} {plain(ys[-1])}' for n, ys in ends if ys and n in self._looks)
        return Picture(name, f'{title}, {y_label}, against {x_label}. At the end: {told}', figure)


def _looks(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Colour and line style of the methods that stand out: all of a few; else ordinary training, groups, the best."""
    variants = comparison.variants
    ordinary = sorted((v for v in variants if v.ordinary), key=lambda v: (v.passes, v.iterations, v.name))
    chosen = [*dict.fromkeys([*ordinary[:1], *ordinary[-1:], *ordinary])][: 3 if len(variants) <= 10 else 2]
    rivals = [variant for variant in variants if not variant.ordinary]
    if len(variants) > 10:
        front = comparison.front()
        preferred = [v for v in rivals if v.groups.count][:3] + [v for v in rivals if v.name in front][:2]
        rivals = list(dict.fromkeys([*preferred, *rivals]))[: MOST_COLOURS - len(chosen)]
    looks = {variant.name: (INK, style) for variant, style in zip(chosen, _ORDINARY)}
    rivals = [*[v for v in ordinary if v not in chosen], *rivals] if len(variants) <= 10 else rivals
    looks.update((variant.name, (colour, '-')) for variant, colour in zip(rivals, _COLOURS))
    return looks


def _groups_curve(variant: Variant) -> Points:
    """Mean over the runs that have groups, at the iterations of the first of them, as steps that hold."""
    curves = [run.groups['curve'] for run in variant.runs if run.groups and run.groups['curve']]
    if not curves:
        return []
    means = [(x, sum(_held(curve, x) for curve in curves) / len(curves)) for x, _ in curves[0]]
    reach = len(means) // 20
    windows = [means[max(0, place - reach) : place + reach + 1] for place in range(len(means))]
    return [(x, sum(y for _, y in window) / len(window)) for (x, _), window in zip(means, windows)]


def _held(curve: Sequence[Sequence[float]], x: float) -> float:
    return next((y for place, y in reversed(curve) if place <= x), curve[0][1])


def _strongest(matrix: np.ndarray, tasks: Sequence[str]) -> str:
    off = np.where(np.eye(len(tasks), dtype=bool) | ~np.isfinite(matrix), 0.0, matrix)
    if not off.any():
        return ''
    row, column = divmod(int(np.argmax(np.abs(off))), len(tasks))
    verb = 'helps' if off[row, column] > 0 else 'harms'
    return f'; strongest: a step for {tasks[row]} {verb} {tasks[column]}'


def _more(items: Sequence, shown: int) -> str:
    return f'; and {len(items) - shown} more' if len(items) > shown else ''
