"""Draws docs/images/stgu_idea.svg: python docs/figures/stgu_idea.py

A card with a background of its own, so that it reads the same on a dark page and on a light one.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

OUT = Path(__file__).parents[1] / 'images' / 'stgu_idea.svg'
WIDTH, HEIGHT = 960, 560
INK, SOFT, CARD, LINE = '#22303c', '#5a6b78', '#fbfaf7', '#c9d1d6'
TASKS = ('semseg', 'normals', 'depth', 'edge', 'saliency')
# Okabe and Ito's colours, which colour-blind people tell apart; each group has one.
GROUPS = (((0, 1), '#0072b2'), ((2, 3), '#d55e00'), ((4,), '#007a5a'))
# What a step for the row's task does to the column's, in percent of its loss.
AFFINITY = (
    (2.1, 1.2, -0.6, -0.3, -0.4),
    (1.0, 1.9, -0.2, -0.5, -0.3),
    (-0.5, -0.1, 2.3, 0.8, -0.2),
    (-0.4, -0.3, 0.9, 1.7, 0.1),
    (-0.2, -0.4, -0.1, -0.2, 2.0),
)
HELPS, HURTS = (0, 114, 178), (213, 94, 0)


def text(x, y, words, size=14, anchor='middle', colour=INK, weight='normal'):
    """A line of text."""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f'{escape(words)}</text>'
    )


def box(x, y, width, height, fill, stroke='none', radius=6):
    """A rectangle."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" stroke="{stroke}" '
        'stroke-width="1.5"/>'
    )


def arrow(path, colour=SOFT, dashed=False):
    """A line with a head."""
    dash = ' stroke-dasharray="5 4"' if dashed else ''
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8" marker-end="url(#head)"{dash}/>'


def shade(value):
    """White for 0, towards one colour for help and the other for harm."""
    strength = min(abs(value) / 2.3, 1) * 0.85
    red, green, blue = (round(255 - strength * (255 - c)) for c in (HELPS if value > 0 else HURTS))
    return f'#{red:02x}{green:02x}{blue:02x}'


def batch():
    """The upper half: forward, step, forward, step, ... on the same images."""
    parts = [
        text(40, 48, 'One batch', 20, 'start', weight='bold'),
        text(40, 70, 'M groups, each with a forward, a backward and a step on the same images', 14, 'start', SOFT),
    ]
    x, y = 40, 100
    for number, (members, colour) in enumerate(GROUPS):
        parts += [
            box(x, y, 110, 70, 'white', LINE),
            text(x + 55, y + 30, 'forward', 15),
            text(x + 55, y + 50, 'losses of all tasks', 11, colour=SOFT),
            arrow(f'M {x + 112} {y + 35} H {x + 130}'),
            box(x + 134, y, 134, 70, colour),
            text(x + 201, y + 24, f'step of group {number + 1}', 14, colour='white', weight='bold'),
            text(x + 201, y + 43, ', '.join(TASKS[member] for member in members), 12.5, colour='white'),
            text(x + 201, y + 60, 'shared + own heads', 11, colour='white'),
        ]
        if number + 1 < len(GROUPS):
            parts.append(arrow(f'M {x + 270} {y + 35} H {x + 290}'))
            # From this forward to the next: the change is the doing of the step in between.
            bracket = f'M {x + 55} {y + 78} v 14 H {x + 349} v -14'
            parts.append(f'<path d="{bracket}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
            parts.append(text(x + 201, y + 110, f'change of all losses: done by group {number + 1}', 12, colour=INK))
        x += 294
    return parts


def matrix(x, y, width, height):
    """The affinity as a table of colours and numbers."""
    middle = x + 2.5 * width
    parts = [text(middle, y - 38, 'Affinity', 18, weight='bold')]
    for row, values in enumerate(AFFINITY):
        parts.append(text(x - 8, y + (row + 0.62) * height, TASKS[row], 12, 'end'))
        parts.append(text(x + (row + 0.5) * width, y - 10, TASKS[row], 12))
        for column, value in enumerate(values):
            left, top = x + column * width, y + row * height
            number = f'{"+" if value > 0 else "−"}{abs(value):.1f}'
            colour = 'white' if abs(value) > 1.5 else INK
            parts.append(box(left, top, width - 2, height - 2, shade(value), radius=3))
            parts.append(text(left + width / 2 - 1, top + height / 2 + 4, number, 12, colour=colour))
    legend = 'row: who stepped; column: whose loss fell (+) or rose (−)'
    parts.append(text(middle, y + 5 * height + 20, legend, 12, colour=SOFT))
    return parts


def groups(x, y):
    """The groups as capsules."""
    parts = [text(x + 110, y - 38, 'Groups', 18, weight='bold')]
    for number, (members, colour) in enumerate(GROUPS):
        top = y + 68 * number
        parts.append(box(x, top, 220, 54, 'white', colour, 27))
        for place, member in enumerate(members):
            cx = x + 110 + (place - (len(members) - 1) / 2) * 98
            parts.append(box(cx - 44, top + 12, 88, 30, colour, radius=15))
            parts.append(text(cx, top + 32, TASKS[member], 13, colour='white'))
    return parts


def draw() -> str:
    """The picture as SVG."""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    marker = 'viewBox="0 0 10 10" refX="8" refY="5" markerWidth="6.5" markerHeight="6.5" orient="auto"'
    head = f'<path d="M 0 0 L 10 5 L 0 10 z" fill="{SOFT}"/>'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif" role="img">',
        '<title>Selective task group updates: one batch, the affinity, the groups</title>',
        f'<defs><marker id="head" {marker}>{head}</marker></defs>',
        box(1, 1, WIDTH - 2, HEIGHT - 2, CARD, LINE, 14),
        *batch(),
        *matrix(105, 310, 54, 40),
        *groups(640, 312),
        arrow('M 241 222 V 256'),
        text(255, 246, 'moving average', 12, 'start', SOFT),
        arrow('M 390 400 H 622'),
        text(506, 390, 'now and then:', 13),
        text(506, 420, 'cluster the tasks', 13),
        arrow('M 750 252 V 190', dashed=True),
        text(764, 232, 'the next batches', 12, 'start', SOFT),
        '</svg>',
    ]
    return '\n'.join(parts) + '\n'


def main() -> int:
    """Write the file."""
    OUT.write_text(draw(), encoding='utf-8')
    print(OUT)
    return 0


if __name__ == '__main__':
    sys.exit(main())
