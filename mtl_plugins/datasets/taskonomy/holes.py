"""What is missing in an index of Taskonomy: the holes of the download that are known, and all others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .index import Index
from .layout import KNOWN_ABSENT, KNOWN_HOLES

_SHOWN = 5


@dataclass(frozen=True)
class Hole:
    """Images of one building that one domain lacks, or a building without any file.

    Attributes:
        building: The building.
        domain: The domain; None if the whole building is absent.
        rows: Rows of the index.
        known: Whether the download is known to be like this.
    """

    building: str
    domain: str | None
    rows: np.ndarray
    known: bool

    def __str__(self) -> str:
        files = f'{len(self.rows)} file{"s" * (len(self.rows) > 1)}'
        what = 'building' if self.domain is None else f'{files} of {self.domain} in'
        return f'{what} {self.building}' + (' (known)' if self.known else '')


@dataclass(frozen=True)
class Holes:
    """All that is missing.

    Attributes:
        holes: One entry per building and domain.
        rows: ``(n,)`` bool, the images that lack some domain.
        examples: Some of the missing paths, unknown holes first.
    """

    holes: tuple[Hole, ...]
    rows: np.ndarray
    examples: tuple[str, ...]

    @property
    def any(self) -> bool:
        """Whether anything is missing."""
        return bool(self.holes)

    @property
    def unknown(self) -> tuple[Hole, ...]:
        """The holes that the download should not have."""
        return tuple(hole for hole in self.holes if not hole.known)

    @property
    def summary(self) -> str:
        """All holes in one line, those of one domain that are spread over many buildings added up."""
        parts = [str(hole) for hole in self.holes if hole.known]
        by_domain: dict[str | None, list[Hole]] = {}
        for hole in self.unknown:
            by_domain.setdefault(hole.domain, []).append(hole)
        for domain, holes in by_domain.items():
            number = len(holes) if domain is None else sum(len(hole.rows) for hole in holes)
            where = ', '.join(hole.building for hole in holes[:_SHOWN]) + (', ...' if len(holes) > _SHOWN else '')
            parts.append(f'{number} {"building" if domain is None else "file"}{"s" * (number > 1)}')
            parts[-1] += f' ({where})' if domain is None else f' of {domain} ({where})'
        return f'missing: {"; ".join(parts)}'


def find_holes(index: Index, domains: Sequence[str]) -> Holes:
    """Compare the domains of an index.

    Args:
        index: The images.
        domains: The domains that every image should have.
    """
    holes: list[Hole] = []
    examples: list[tuple[bool, str]] = []
    lacking = np.zeros(len(index), bool)
    sizes = np.bincount(index.building, minlength=len(index.buildings))
    for number, building in enumerate(index.buildings):
        if not sizes[number]:
            known = building in KNOWN_ABSENT
            holes.append(Hole(building, None, np.zeros(0, np.intp), known))
            folder = index.order.format(domain=domains[0], building=building)
            examples.append((known, f'{index.root}/{folder}'))
    for domain in domains:
        missing = ~index.has(domain)
        lacking |= missing
        if not missing.any():
            continue
        for number in np.unique(index.building[missing]):
            rows = np.flatnonzero(missing & (index.building == number))
            building = index.buildings[number]
            known = 0 < len(rows) <= KNOWN_HOLES.get((building, domain), 0)
            holes.append(Hole(building, domain, rows, known))
            examples += [(known, index.expected_path(domain, row)) for row in rows[:_SHOWN]]
    first = [path for _, path in sorted(examples)[:_SHOWN]]
    return Holes(tuple(holes), lacking, tuple(first))
