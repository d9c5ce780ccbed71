"""The outcome of a verification as text for people and as JSON for programs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from .base import Problem
from .manifest import Changes
from .runner import Verification

JSON_VERSION = 1


@dataclass(frozen=True)
class Report:
    """All that is told about one verification.

    Attributes:
        dataset: Name of the dataset.
        root: The folder, as a string.
        description: What the dataset says about itself, see :meth:`.base.LayoutCheck.describe`.
        verification: The outcome.
        changes: Differences from the manifest; None if there was nothing to compare with.
        manifest: Sentence about what became of the manifest; empty if there is none.
        seconds: How long it took.
    """

    dataset: str
    root: str
    description: Mapping[str, str]
    verification: Verification
    changes: Changes | None = None
    manifest: str = ''
    seconds: float = 0.0

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of the folder, then the differences from the manifest."""
        return (*self.verification.problems, *(self.changes.problems() if self.changes else ()))

    @property
    def is_clean(self) -> bool:
        """Whether all was checked and nothing is wrong."""
        return self.verification.is_clean and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        outcome, changes = self.verification, self.changes
        return {
            'version': JSON_VERSION,
            'dataset': self.dataset,
            'root': self.root,
            'description': dict(self.description),
            'samples': outcome.num_samples,
            'files': outcome.num_files,
            'content_checked': outcome.content,
            'clean': self.is_clean,
            'problems': [
                {'path': item.path, 'kind': item.kind, 'detail': item.detail, 'remedy': item.remedy}
                for item in self.problems
            ],
            'compared': changes is not None,
            'new_files': list(changes.new) if changes else [],
            'seconds': round(self.seconds, 3),
        }

    def as_text(self, show: int = 5) -> str:
        """The report for a person; of every kind of problem the first ``show`` are listed."""
        return '\n'.join([*self._head(), '', *self._groups(show), *self._foot(show)])

    def _head(self) -> Iterator[str]:
        facts = {'folder': self.root, **self.description}
        width = max(map(len, facts))
        yield f'{self.dataset}'
        yield from (f'  {name:{width}}  {value}' for name, value in facts.items())
        outcome = self.verification
        rate = f', {outcome.num_files / self.seconds:.0f} files/s' if self.seconds >= 0.1 else ''
        what = 'checked' if outcome.content else 'looked for'
        yield f'  {what:{width}}  {outcome.num_samples} samples, {outcome.num_files} files ({self.seconds:.1f} s{rate})'

    def _groups(self, show: int) -> Iterator[str]:
        for (kind, remedy), problems in group_problems(self.problems):
            yield f'{kind} ({len(problems)})'
            yield from (f'  {_line(problem)}' for problem in problems[:show])
            if len(problems) > show:
                yield f'  ... and {len(problems) - show} more (--show N lists more, --json FILE all)'
            yield f'  -> {remedy}'
            yield ''

    def _foot(self, show: int) -> Iterator[str]:
        if self.changes and self.changes.new:
            new = self.changes.new
            yield f'{len(new)} files are new since the last time: {", ".join(new[:show])}{", ..." * (len(new) > show)}'
        if self.manifest:
            yield self.manifest
        count = len(self.problems)
        if count:
            kinds = len({problem.kind for problem in self.problems})
            yield f'NOT CLEAN: {_plural(count, "problem")} of {_plural(kinds, "kind")}'
        elif self.is_clean:
            yield 'clean: every file was read and checked, and nothing is wrong'
        else:
            yield 'nothing is missing; the content of the files was not checked (leave out --quick for that)'


def group_problems(problems: Sequence[Problem]) -> list[tuple[tuple[str, str], list[Problem]]]:
    """Problems by (kind, remedy), in the order in which the kinds first occur."""
    first = {}
    for problem in problems:
        first.setdefault((problem.kind, problem.remedy), len(first))
    ordered = sorted(problems, key=lambda problem: first[problem.kind, problem.remedy])  # stable: paths stay in order
    return [(key, list(group)) for key, group in groupby(ordered, key=lambda problem: (problem.kind, problem.remedy))]


def _line(problem: Problem) -> str:
    return ': '.join(part for part in (problem.path, problem.detail) if part)


def _plural(count: int, noun: str) -> str:
    return f'{count} {noun}{"s" * (count != 1)}'
