"""The report as a document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .blocks import Block, Bullets, Document, Gallery, Section
from .comparison import MATCH, Comparison
from .figures import Figures
from .tables import changes_table, cost_table, gaps_table, pairs_table, results_table
from .words import noise_of_reference, summary


def build_document(comparison: Comparison) -> Document:
    """All parts of the report that the results have something for."""
    figures = Figures(comparison)
    sections = [
        Section('In short', [Bullets(summary(comparison))]),
        _results(comparison, figures),
        _compute(comparison, figures),
        _curves(figures),
        _affinity(figures),
        _gaps(comparison),
        _reading(comparison),
        _origin(comparison),
    ]
    return Document(f'Comparison of methods: {comparison.config}', [section for section in sections if section.blocks])


def _results(comparison: Comparison, figures: Figures) -> Section:
    blocks: list[Block] = [results_table(comparison)]
    if comparison.reference is not None:
        blocks += [figures.scores(), changes_table(comparison)]
    return Section('Results', blocks)


def _compute(comparison: Comparison, figures: Figures) -> Section:
    text = (
        'A method that takes several steps, or several gradients, per batch does more work on each. So each one is set '
        'beside ordinary training twice: trained on as many batches, and with as much compute. `gd[passes=N]` is '
        'ordinary training that takes N steps on each batch.'
    )
    blocks: list[Block] = [text]
    picture = figures.front()
    blocks += [picture] if picture else []
    blocks += [pairs_table(comparison)] if comparison.pairs() and comparison.reference else []
    blocks.append(cost_table(comparison))
    return Section('Compute', blocks)


def _curves(figures: Figures) -> Section:
    pictures = [*figures.score_curves(), *figures.task_curves()]
    return Section('Learning curves', [Gallery(pictures)] if pictures else [])


def _affinity(figures: Figures) -> Section:
    pictures, groups = figures.affinities(), figures.groups()
    blocks: list[Block] = [groups] if groups else []
    return Section('Groups and affinity', [*blocks, Gallery(pictures)] if pictures else blocks)


def _gaps(comparison: Comparison) -> Section:
    table = gaps_table(comparison)
    return Section('Failed and missing runs', [table] if table.rows else [])


def _reading(comparison: Comparison) -> Section:
    reference = comparison.reference
    items = []
    if reference is not None:
        items.append(
            f'**{reference.name}**: mean over the tasks of the relative change of the headline metric against the mean '
            f'of the {reference.words}, in percent, positive where better. It is computed for each run.'
        )
        items.append(
            "**95 % interval**: Student's t over the runs of a method (n − 1 degrees of freedom); differences between "
            'two methods: Welch. One run has none, two have a very wide one. Intervals are not corrected for the '
            'number of methods: of twenty true zeros, about one is expected outside its interval, and the '
            'highest of many is in part the luckiest.'
        )
        items.append(noise_of_reference(comparison))
    items.append('**±**: standard deviation over the runs (n − 1). The best mean of a column is bold, decided or not.')
    items.append(
        '**Compute**: forward and backward passes, a backward counted as two forwards; ordinary training of '
        f'{comparison.max_iters:,} iterations is 1. Two amounts count as equal up to a factor of {MATCH:g}. Seconds '
        'are without validations; they and the memory depend on the machine and on what else ran there.'
    )
    items.append(
        '**Learning curves**: means over the runs; the score at every iteration is against the reference after '
        'training. Early values may lie outside of the picture, so that the ends can be told apart.'
    )
    return Section('How to read this', [Bullets(items)])


def _origin(comparison: Comparison) -> Section:
    found = Counter(_machine(environment) for environment in comparison.environments if environment)
    items = [f'{count} of {len(comparison.environments)} runs: {text}' for text, count in sorted(found.items())]
    options = [
        f'`{variant.name}`: method `{variant.method}` with `{json.dumps(variant.options, sort_keys=True)}`'
        for variant in sorted(comparison.variants, key=lambda variant: variant.name)
        if variant.options
    ]
    return Section('How this was made', [Bullets([*items, *options])] if items or options else [])


def _machine(environment: Mapping[str, Any]) -> str:
    hardware = environment.get('hardware') or {}
    gpus = Counter(
        gpu.get('name', 'GPU') if isinstance(gpu, Mapping) else str(gpu) for gpu in hardware.get('gpus') or ()
    )
    device = ', '.join(f'{count} x {name}' for name, count in sorted(gpus.items()))
    device = device or f'{hardware.get("cpu", "unknown processor")}, {hardware.get("usable_cores", "?")} cores'
    return f'commit {environment.get("commit", "unknown")}, PyTorch {environment.get("torch", "unknown")}, {device}'
