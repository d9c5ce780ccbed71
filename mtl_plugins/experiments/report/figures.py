"""The pictures of a report, as SVG for the page and PNG for Markdown."""

import io
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mtl_plugins.visualization import distinct_colours, draw_affinity
from mtl_plugins.visualization.figure import FAINT, INK, MUTED, shorten

from ..compare.variants import file_name
from .comparison import Comparison, number
from .groups import records_with

MOST_COLOURS = 8
_ORDINARY, _FRONT, _GREY = '#0072B2', '#D55E00', '#c4c4c4'
_COLOURS = [colour for colour in distinct_colours(12) if colour not in ('#F0E442', '#888888')]
_EARLY = 0.3
"""Share of a curve that need not be in sight: it would press together the ends, which are what is compared."""
_TEXT = {
    'text.parse_math': False,  # names may hold dollars
    'svg.fonttype': 'none',
    'font.sans-serif': ['DejaVu Sans', 'Verdana', 'Arial', 'Helvetica', 'sans-serif'],
}
_CHART = {
    **_TEXT,
    'font.size': 9,
    'axes.titlesize': 10,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': MUTED,
    'axes.labelcolor': MUTED,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': FAINT,
    'grid.linewidth': 0.6,
    'legend.frameon': False,
}


class Picture(NamedTuple):
    """A figure: name of its file, what it shows, and the files' contents."""

    name: str
    caption: str
    svg: bytes
    png: bytes


def pictures(comparison: Comparison) -> dict[str, list[Picture]]:
    """All pictures that there are numbers for, by the part of the report that shows them."""
    charts = [('results', _CHART, _scores), ('compute', _CHART, _front), ('curves', _CHART, _curves)]
    charts += [('groups', _CHART, _groups), ('groups', _TEXT, _affinities)]
    found: dict[str, list[Picture]] = {part: [] for part, _, _ in charts}
    names: Counter[str] = Counter()
    for part, style, draw in charts:
        with matplotlib.rc_context(style):
            for name, caption, figure in draw(comparison):
                names[name] += 1
                unique = name if names[name] == 1 else f'{name}_{names[name]}'
                found[part].append(_render(unique, caption, figure))
    return found


def _render(name: str, caption: str, figure: Figure) -> Picture:
    svg, png = io.BytesIO(), io.BytesIO()
    figure.set_dpi(100)
    if figure.get_layout_engine() is not None:
        # Laid out once and drawn once per file; savefig would do both twice.
        figure.draw_without_rendering()
        figure.set_layout_engine('none')
    # Nothing that differs from one time to the next.
    with matplotlib.rc_context({'svg.hashsalt': name}):
        FigureCanvasSVG(figure).print_svg(svg, metadata=dict.fromkeys(('Date', 'Creator', 'Format', 'Type')))
    FigureCanvasAgg(figure).print_png(png, metadata={'Software': None})
    return Picture(name, caption, svg.getvalue(), png.getvalue())


def _scores(comparison: Comparison) -> Iterator[tuple[str, str, Figure]]:
    table, name = comparison.summary, comparison.score
    means = table['score_percent_mean']
    if means.notna().any():
        figure = Figure(figsize=(5.2, 1 + 0.19 * len(table)), layout='constrained')
        axes = figure.add_subplot(title=f'{name} after training', xlabel=f'{name} (%), 0: {comparison.reference}')
        places = pd.Series(range(len(table)), table.index)
        runs = comparison.runs
        rings = dict(markersize=4, markerfacecolor='white', color=MUTED, zorder=3)
        axes.plot(runs['score_percent'], places[runs['method']], 'o', **rings)
        for row, place in zip(table.itertuples(), places):
            colour = _ORDINARY if row.preset == 'gd' else INK
            axes.plot([row.score_percent_low, row.score_percent_high], [place] * 2, color=colour, linewidth=2)
            axes.plot(row.score_percent_mean, place, 'D', color=colour, markersize=5, zorder=4)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.grid(visible=False, axis='y')
        axes.set_yticks(places, map(shorten, table.index))
        axes.set_ylim(len(table) - 0.5, -0.5)
        # An interval of two runs may be very wide; it runs out of the picture instead of flattening all others.
        low, high = min(0, runs['score_percent'].min()), max(0, runs['score_percent'].max())
        span = high - low or 1.0
        ends = table['score_percent_low'].min(), table['score_percent_high'].max()
        reach = np.fmin(ends[0], low), np.fmax(ends[1], high)
        axes.set_xlim(max(reach[0], low - 0.6 * span) - 0.05 * span, min(reach[1], high + 0.6 * span) + 0.05 * span)
        caption = f'{name}: mean (diamond), 95 % interval (line), single runs (rings); blue: ordinary training'
        yield 'scores', caption, figure


def _front(comparison: Comparison) -> Iterator[tuple[str, str, Figure]]:
    name, length = comparison.score, comparison.max_iters
    table = comparison.summary
    points = table.assign(x=table['compute'] / length, y=table['score_percent_mean']).sort_values('x', kind='stable')
    points = points[points['x'].gt(0) & points['y'].notna()]
    if len(points):
        figure = Figure(figsize=(6.4, 4.6), layout='constrained')
        label = f'compute (ordinary training of {length:,} iterations = 1)'
        axes = figure.add_subplot(title=f'{name} against compute', xlabel=label, ylabel=f'{name} (%)', xscale='log')
        for ordinary, marker, colour in ((True, 's', _ORDINARY), (False, 'o', INK)):
            chosen = points[(points['preset'] == 'gd') == ordinary]
            axes.plot(chosen['x'], chosen['y'], marker, color=colour, markersize=5, zorder=3)
        front = points[points['on_front']]
        ends = [*front['x'], points['x'].max()], [*front['y'], *front['y'][-1:]]
        axes.step(*ends, where='post', color=_FRONT, linewidth=1.4, alpha=0.7)
        axes.plot(front['x'], front['y'], 'o', markersize=10, markerfacecolor='none', markeredgecolor=_FRONT)
        places = {str(key): (row['x'], row['y']) for key, row in points.iterrows()}
        if comparison.reference == 'single-task models' and math.isfinite(comparison.single_compute):
            places[comparison.reference] = (comparison.single_compute / length, 0.0)
            axes.plot(*places[comparison.reference], 'D', color=MUTED, markersize=6)
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.margins(0.08)
        _thousands(axes, logarithmic=True)
        first = [comparison.reference, *front.index, *points.index[points['preset'] == 'gd']]
        _label(axes, places, sorted(places, key=lambda key: first.index(key) if key in first else len(first)))
        caption = 'Ringed: no other variant has a higher mean with as little compute; blue squares: ordinary training; '
        yield 'compute', caption + 'points without room for a name are in the tables', figure


def _label(axes: Axes, places: dict[str, tuple[float, float]], order: Sequence[str]) -> None:
    """Name points beside them, as long as no name covers another or a point; the first ones have the best chances."""
    axes.get_figure().draw_without_rendering()
    points = axes.transData.transform(list(places.values()))
    taken: list[Any] = []
    for name in order:
        for offset, side in ((8, 'left'), (-8, 'right')):
            place = dict(xytext=(offset, 0), textcoords='offset points', ha=side, va='center', fontsize=8)
            back = dict(facecolor='white', alpha=0.7, edgecolor='none', pad=0)
            text = axes.annotate(shorten(name), places[name], bbox=back, **place)
            text.set_in_layout(False)
            box = text.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if inside and not box.padded(4).count_contains(points) and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def _curves(comparison: Comparison) -> Iterator[tuple[str, str, Figure]]:
    score, looks = comparison.score, _looks(comparison)
    scores = comparison.curves('score_percent')
    label = f'{score} (%)'
    by_compute = {name: curve.dropna().set_index('compute') for name, curve in scores.items()}
    drawn = [('score', score, 'iteration', label, scores, 0.0)]
    drawn += [('compute', f'{score} over compute', 'compute (iterations of ordinary training)', label, by_compute, 0.0)]
    for key, task in comparison.tasks.items():
        direction = 'higher' if task['higher_is_better'] else 'lower'
        unit = f' ({task["unit"]})' if task['unit'] else ''
        label = f'{task["metric"].split("/", 1)[-1]}{unit}, {direction} is better'
        curves, level = comparison.curves('value', key), comparison.baseline.loc[key, 'mean']
        drawn.append((_file(key), task['title'], 'iteration', label, curves, level))
    for file, title, x_label, y_label, curves, level in drawn:
        if any(map(len, curves.values())):
            figure = _draw_curves({name: curve['y'] for name, curve in curves.items()}, looks, title, x_label, y_label)
            if comparison.reference:
                figure.axes[0].axhline(level, color=MUTED, linewidth=1, linestyle=':')
            if x_label != 'iteration':
                figure.axes[0].set_xscale('log')
                _thousands(figure.axes[0], logarithmic=True)
            caption = f'{title}: mean over the runs' + f'; dotted: {comparison.reference}' * bool(comparison.reference)
            yield f'curve_{file}', caption + '; grey: other variants' * (len(looks) < len(curves)), figure


def _draw_curves(
    curves: Mapping[str, pd.Series], looks: Mapping[str, tuple[str, str]], title: str, x_label: str, y_label: str
) -> Figure:
    figure = Figure(figsize=(4.6, 4.2), layout='constrained')
    axes = figure.add_subplot(title=shorten(title, 48), xlabel=x_label, ylabel=shorten(y_label, 48))
    # Grey ones first, so that the others lie on top.
    for name in sorted(curves, key=lambda name: name in looks):
        colour, style = looks.get(name, (_GREY, '-'))
        line = axes.plot(curves[name].index, curves[name], color=colour, linestyle=style)[0]
        line.set(linewidth=1.7 if name in looks else 0.9, marker='o' if len(curves[name]) == 1 else '')
        line.set_label(shorten(name) if name in looks else '_')
    late = pd.concat([curve[curve.index >= _EARLY * curve.index.max()] for curve in curves.values()])
    margin = 0.06 * (late.max() - late.min()) or 1.0
    axes.set_ylim(late.min() - margin, late.max() + margin)
    _thousands(axes)
    figure.legend(loc='outside lower center', ncols=2, fontsize=8)
    return figure


def _groups(comparison: Comparison) -> Iterator[tuple[str, str, Figure]]:
    curves = {}
    for name, records in records_with(comparison, 'groups').items():
        found = [record['groups']['curve'] for record in records]
        steps = [pd.Series({number(x): number(y) for x, y in curve}) for curve in found if curve]
        if steps:
            mean = pd.concat(steps, axis=1).sort_index().ffill().bfill().mean(axis=1)
            curves[name] = mean.rolling(max(1, len(mean) // 10), center=True, min_periods=1).mean()
    if curves:
        looks = itertools.product(('-', '--', ':', '-.'), _COLOURS)
        looks = {name: (colour, style) for name, (style, colour) in zip(curves, looks)}
        figure = _draw_curves(curves, looks, 'Number of groups', 'iteration', 'groups M')
        yield 'groups', 'Number of groups: mean over the runs, running mean over a tenth of training', figure


def _affinities(comparison: Comparison) -> Iterator[tuple[str, str, Figure]]:
    for name, records in records_with(comparison, 'affinity').items():
        maps = [record['affinity'] for record in records]
        maps = [entry for entry in maps if entry['tasks'] == maps[0]['tasks']]
        mean = np.mean([[[number(value) for value in row] for row in entry['matrix']] for entry in maps], axis=0)
        title = f'{shorten(name, 24)}: affinity, iteration {maps[0]["iter"]:,}'
        caption = f'Affinity under {name}, mean over runs: {len(maps)}; rows: the task that stepped'
        yield f'affinity_{_file(name)}', caption, draw_affinity(mean, maps[0]['tasks'], title=title)


def _looks(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Colour and line style of the variants that stand out: all of a few; else ordinary training, groups, the best."""
    table = comparison.summary
    ordinary = table[table['preset'] == 'gd'].sort_values(['passes', 'iterations'], kind='stable').index
    chosen = list(dict.fromkeys([*ordinary[:1], *ordinary[-1:]]))
    if len(table) <= MOST_COLOURS:
        chosen = list(ordinary)
    rivals = table[table['preset'] != 'gd']
    preferred = [*rivals.index[rivals['groups'].notna()][:3], *rivals.index[rivals['on_front']][:2], *rivals.index]
    looks = {name: (INK, style) for name, style in zip(chosen, ('-', '--', ':', '-.'))}
    colours = _COLOURS[: MOST_COLOURS - len(looks)]
    return looks | dict(zip(dict.fromkeys(preferred), ((colour, '-') for colour in colours)))


def _thousands(axes: Axes, logarithmic: bool = False) -> None:
    if logarithmic:
        low, high = axes.get_xlim()
        subs = (1.0, 2.0, 3.0, 5.0) if high < 30 * low else (1.0, 3.0)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.10g}'))


def _file(name: str) -> str:
    """A name of moderate length for a file."""
    return file_name(name)[:60]
