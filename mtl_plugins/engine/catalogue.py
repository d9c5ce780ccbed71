"""All methods: what ``--list-methods`` prints and the tests and documents are generated from.

A row names the classes that make a method; what is known about it is theirs, and what it costs its step strategy's.
"""

import shutil
import warnings
from dataclasses import dataclass
from functools import cached_property
from textwrap import TextWrapper
from typing import Any

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.naming import near_matches
from mtl_plugins.methods.weighting import EqualWeighting, Weighting
from mtl_plugins.registry import OPTIM_WRAPPERS, WEIGHTINGS

from .methods import part_named
from .step_cost import StepCost, StepSetup, in_words

_INDENT = ' ' * 18
_OF_THE_STRATEGY = {'cost', 'cost_formula', 'accumulates_exactly'}
"""What rows stated of earlier versions."""


@dataclass(frozen=True, init=False)
class MethodRow:
    """A method: a step strategy and the classes that plug into it.

    Args:
        key: Name on the command line and of the fragment ``configs/_base_/methods/<key>.py``.
        kind: Where it acts, for example ``'loss weighting'``.
        wrapper: Step strategy, a name of the ``OPTIM_WRAPPERS`` registry.
        parts: Classes of :mod:`mtl_plugins.methods` that it is made of; empty if the step strategy is all there is.
        stated: What is known about it; None for what its strategy, or else its first part, says.
        **former: What earlier versions took in its place: the fields of
            :class:`mtl_plugins.methods.facts.MethodFacts`, and the cost, which the strategy states now.

    Raises:
        TypeError: For any other argument.
    """

    key: str
    kind: str
    wrapper: str
    parts: tuple[str, ...]
    stated: MethodFacts | None = None

    def __init__(
        self,
        key: str,
        kind: str,
        wrapper: str,
        parts: tuple[str, ...],
        stated: MethodFacts | None = None,
        **former: Any,
    ) -> None:
        if former:
            stated = MethodFacts(**{name: former[name] for name in former.keys() - _OF_THE_STRATEGY})
            warnings.warn(
                f"MethodRow('{key}', ...) no longer takes {', '.join(former)}: give its class "
                "facts = MethodFacts('TITLE', ...); the cost is that of its step strategy",
                FutureWarning,
                stacklevel=2,
            )
        vars(self).update(key=key, kind=kind, wrapper=wrapper, parts=parts, stated=stated)

    @property
    def facts(self) -> MethodFacts:
        """What is known about it."""
        classes = (self._strategy, *map(part_named, self.parts))
        return self.stated or next(kind.facts for kind in classes if kind.facts)

    @property
    def _strategy(self) -> type:
        return OPTIM_WRAPPERS.get(self.wrapper)

    @property
    def _weighting(self) -> type[Weighting]:
        return next((WEIGHTINGS.get(part) for part in self.parts if part in WEIGHTINGS.module_dict), EqualWeighting)

    @property
    def title(self) -> str:
        """Name in tables."""
        return self.facts.title

    @property
    def paper(self) -> str:
        """Authors and venue; empty if there is none."""
        return self.facts.paper

    @property
    def arxiv(self) -> str:
        """Number on arXiv; empty if there is none."""
        return self.facts.arxiv

    @property
    def verified(self) -> str:
        """What was compared with what."""
        return self.facts.verified

    @property
    def one_task(self) -> str:
        """How a run with one task only differs from ordinary training; empty: it does not."""
        return self.facts.one_task

    @property
    def accumulates_exactly(self) -> bool:
        """Whether gradient accumulation gives the update of the large batch; if not, it is refused."""
        return self._weighting.accumulates_exactly

    @cached_property
    def cost(self) -> str:
        """Cost per batch in words, with K tasks and M groups."""
        return in_words(self.step_cost)

    def step_cost(self, num_tasks: int, num_groups: int = 1, probe_interval: int = 0) -> StepCost:
        """Return the work per batch.

        Args:
            num_tasks: Number of tasks K.
            num_groups: Number of groups M, for methods with groups.
            probe_interval: Batches per extra forward that measures the last group; 0 for none.

        Raises:
            ValueError: If ``num_groups`` does not lie between 1 and K, or ``probe_interval`` is negative.
        """
        if not 1 <= num_groups <= num_tasks:
            raise ValueError(f'num_groups must lie between 1 and num_tasks={num_tasks}, but got {num_groups}')
        if probe_interval < 0:
            raise ValueError(f'probe_interval must not be negative, but got {probe_interval}')
        return self._strategy.cost(StepSetup(num_tasks, num_groups, probe_interval, self._weighting))


def _weighting(key: str, part: str) -> MethodRow:
    return MethodRow(key, 'loss weighting', 'MultiTaskOptimWrapper', (part,))


def _aggregation(key: str, *parts: str, facts: MethodFacts | None = None) -> MethodRow:
    return MethodRow(key, 'gradient aggregation', 'GradientAggregationOptimWrapper', parts, facts)


_IMTL = MethodFacts(
    'Impartial learning, both parts',
    paper='Liu et al., ICLR 2021',
    verified='its two parts; together no vectors',
    one_task='the factor learned by its loss part scales the one loss as it scales any other',
)

_CATALOGUE = {
    row.key: row
    for row in (
        _weighting('gd', 'EqualWeighting'),
        _weighting('uw', 'UncertaintyWeighting'),
        _weighting('dwa', 'DWA'),
        _weighting('dtp', 'DTP'),
        _weighting('rlw', 'RLW'),
        _weighting('gls', 'GLS'),
        _weighting('imtl_l', 'IMTLL'),
        _weighting('slaw', 'SLAW'),
        _weighting('famo', 'FAMO'),
        _weighting('stch', 'STCH'),
        _weighting('bmtl', 'BMTL'),
        _weighting('gradnorm', 'GradNorm'),
        _weighting('emtl', 'EMTL'),
        _weighting('uw_so', 'UWSO'),
        _weighting('go4align', 'GO4Align'),
        _weighting('ldc_mtl', 'LDCMTL'),
        _weighting('igb', 'IGB'),
        _aggregation('mgda', 'MGDA'),
        _aggregation('pcgrad', 'PCGrad'),
        _aggregation('gradvac', 'GradVac'),
        _aggregation('graddrop', 'GradDrop'),
        _aggregation('cagrad', 'CAGrad'),
        _aggregation('imtl_g', 'IMTLG'),
        _aggregation('imtl', 'IMTLG', 'IMTLL', facts=_IMTL),
        _aggregation('nash_mtl', 'NashMTL'),
        _aggregation('aligned_mtl', 'AlignedMTL'),
        _aggregation('fairgrad', 'FairGrad'),
        _aggregation('conicgrad', 'ConicGrad'),
        _aggregation('ngdiff', 'NGDiff'),
        _aggregation('upgrad', 'UPGrad'),
        _aggregation('dualproj', 'DualProj'),
        _aggregation('db_mtl', 'DBMTL'),
        _aggregation('excess_mtl', 'ExcessMTL'),
        _aggregation('con_fig', 'ConFIG'),
        _aggregation('moco', 'MoCo'),
        _aggregation('sdmgrad', 'SDMGrad'),
        _aggregation('modo', 'MoDo'),
        _aggregation('pcd', 'PCD'),
        _aggregation('cr_mogm', 'CRMOGM', 'MGDA'),
        MethodRow('f_mtl', 'sharpness-aware', 'SharpnessAwareOptimWrapper', ('PCGrad',)),
        MethodRow('samo', 'sharpness-aware', 'SAMOOptimWrapper', ('CAGrad',)),
        MethodRow('ada_task', 'optimizer', 'AdaTaskOptimWrapper', ()),
        MethodRow('stgu', 'task groups', 'SelectiveTaskGroupOptimWrapper', ('ProximalAffinity', 'AffinityPropagation')),
        MethodRow('stgu_released', 'task groups', 'ReleasedTaskGroupOptimWrapper', ('ReleasedAffinity', 'Released')),
        MethodRow('son_goku', 'task groups', 'SonGokuOptimWrapper', ('GradientCosine', 'GraphColouring')),
        MethodRow('phases', 'task groups', 'PhasesOptimWrapper', ()),
    )
}


def list_methods() -> tuple[MethodRow, ...]:
    """Return all rows in the order of the catalogue."""
    return tuple(_CATALOGUE.values())


def get_method(key: str) -> MethodRow:
    """Return the row of method ``key``.

    Raises:
        KeyError: If there is no such method; the message lists the near matches.
    """
    if key not in _CATALOGUE:
        raise KeyError(f"unknown method '{key}': {near_matches(key, _CATALOGUE)}")
    return _CATALOGUE[key]


def format_catalogue(width: int | None = None) -> str:
    """Return the catalogue as text, one paragraph per method under its kind.

    Args:
        width: Columns to fill, at least 40; None for those of the terminal, up to 100.
    """
    width = min(shutil.get_terminal_size((80, 24)).columns, 100) if width is None else max(width, 40)
    fill = TextWrapper(width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False).fill
    note = 'With one task only, a method of which nothing else is said is ordinary training.'
    lines = ['Methods (K tasks, M groups)', *TextWrapper(width).wrap(note)]
    kind = None
    for row in list_methods():
        if row.kind != kind:
            kind = row.kind
            lines += ['', kind.upper()]
        source = f'{row.paper}, arXiv {row.arxiv}' if row.arxiv else row.paper
        exact = 'accumulates exactly' if row.accumulates_exactly else 'does not accumulate'
        lines.append(f'  {row.key:{len(_INDENT) - 4}}  {row.title}')
        lines.append(fill(f'cost: {row.cost}; {exact}'))
        lines += [fill(source)] if source else []
        lines.append(fill(f'verified: {row.verified}'))
        lines += [fill(f'with one task only: {row.one_task}')] if row.one_task else []
    return '\n'.join(lines) + '\n'
