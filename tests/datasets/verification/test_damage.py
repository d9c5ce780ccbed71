"""Every kind of damage to every dataset is named, with its file, and nothing else is.

The datasets are rendered rooms in the real layouts; each case damages a copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from exporters import export_nyud, export_pascal_context, export_taskonomy
from exporters.taskonomy import NAMES_IN_FILES as taskonomy_names

from mtl_plugins.cli import verify as cli
from mtl_plugins.datasets.nyud.layout import PACKAGINGS
from mtl_plugins.datasets.taskonomy import layout as taskonomy
from mtl_plugins.datasets.verification import get_layout_check, verify

from . import damages

COUNTS = {'train': 3, 'val': 2}
SIZE = (48, 64)


class Stand(NamedTuple):
    """A stand-in: name of its dataset, and how it is written."""

    dataset: str
    export: Callable[..., Path]


class Case(NamedTuple):
    """One damage to one file (or folder), and the problems that must come out."""

    stand: str
    file: str
    damage: Callable[[Path], None]
    problems: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        damage = getattr(self.damage, '__name__', 'x')
        kinds = '+'.join(kind for _, kind in self.problems) or 'clean'
        return f'{self.stand}-{self.file}-{damage}-{kinds}'.replace(' ', '_')


STANDS = {
    **{f'nyud_{packaging}': Stand('nyud', partial(export_nyud, packaging=packaging)) for packaging in PACKAGINGS},
    'pascal_context': Stand('pascal_context', export_pascal_context),
    'taskonomy': Stand('taskonomy', export_taskonomy),
}


def any_file(stand: str, file: str, retyped: str = 'wrong format') -> Iterator[Case]:
    """What can happen to every file of a sample."""
    for damage, kind in (
        (damages.delete, 'missing file'),
        (damages.truncate, 'unreadable file'),
        (damages.empty, 'unreadable file'),
        (damages.replace_by_page, 'unreadable file'),
        (damages.crop, 'wrong size'),
        (damages.retype, retyped),
    ):
        yield Case(stand, file, damage, ((file, kind),))


def any_split(stand: str, file: str) -> Iterator[Case]:
    """What can happen to a list of samples."""
    yield Case(stand, file, damages.lone_returns, ())
    yield Case(stand, file, damages.windows_ends, ())
    yield Case(stand, file, damages.no_lines, ((file, 'empty split'),))
    yield Case(stand, file, damages.one_line_less, ((file, 'wrong count'),))
    yield Case(stand, file, damages.first_line_twice, ((file, 'duplicate ids'),))
    yield Case(stand, file, damages.delete, ((file, 'missing file'),))


def values(stand: str, file: str, damage: Callable[[Path], None], kind: str = 'values out of range') -> Case:
    return Case(stand, file, damage, ((file, kind),))


def nyud_cases(packaging: str) -> Iterator[Case]:
    stand, endings = f'nyud_{packaging}', PACKAGINGS[packaging].endings()
    files = {folder: f'{folder}/0001{ending}' for folder, ending in endings.items()}
    for folder, file in files.items():
        yield from any_file(stand, file, retyped='unreadable file' if file.endswith('.mat') else 'wrong format')
        if folder != 'images':  # without images it is no such dataset at all
            yield Case(stand, folder, shutil.rmtree, ((folder, 'missing folder'),))
    for split in ('train', 'val'):
        yield from any_split(stand, f'gt_sets/{split}.txt')
        yield values(stand, f'gt_sets/{split}.txt', damages.unknown_id, 'unknown ids')
        yield values(stand, f'gt_sets/{split}.txt', damages.zeros_at_the_end, 'unknown ids')
    yield values(stand, files['segmentation'], damages.spot(41))
    yield values(stand, files['segmentation'], damages.fill(0), 'no labelled pixel')
    yield values(stand, files['depth'], damages.fill(0), 'no labelled pixel')
    yield values(stand, files['depth'], damages.fill(float('nan')), 'no labelled pixel')
    yield values(stand, files['depth'], damages.spot(-1))
    yield values(stand, files['depth'], damages.scale(1000))
    if endings['edge'] == '.png':
        yield values(stand, files['edge'], damages.scale(0.4))
    else:
        yield values(stand, files['edge'], damages.scale(255))
    if endings['normals'] == '.npy':
        yield values(stand, files['normals'], damages.scale(2))
    yield values(stand, files['normals'], damages.fill(128 if endings['normals'] != '.npy' else 0), 'no labelled pixel')


def pascal_cases() -> Iterator[Case]:
    stand, first, second = 'pascal_context', '2008_000001', '2008_000002'
    labels, parts = f'pascal-context/trainval/{first}.mat', f'human_parts/{first}.mat'
    sal, normals = f'sal_distill/{first}.png', f'normals_distill/{first}.png'
    for file in (f'JPEGImages/{first}.jpg', f'semseg/VOC12/{first}.png', labels, sal, normals):
        yield from any_file(stand, file)
    fallback = f'semseg/pascal-context/{second}.png'
    yield from (case for case in any_file(stand, fallback) if case.damage is not damages.delete)
    # Which of the two folders a file is missing from cannot be known; the first is named, and both are told.
    yield Case(stand, fallback, damages.delete, ((f'semseg/VOC12/{second}.png', 'missing file'),))
    yield from (case for case in any_file(stand, parts) if case.damage not in (damages.crop, damages.retype))
    for folder in ('JPEGImages', 'pascal-context/trainval', 'human_parts', 'normals_distill', 'sal_distill'):
        yield Case(stand, folder, shutil.rmtree, ((folder, 'missing folder'),))
    for split in ('train', 'val'):
        yield from any_split(stand, f'ImageSets/Context/{split}.txt')
        lists = f'ImageSets/Parts/{split}.txt'
        yield Case(stand, lists, damages.delete, ())  # some archives lack it
        yield values(stand, lists, damages.truncate, 'wrong list of people')
        yield values(stand, lists, damages.replace_by_page, 'wrong list of people')
    yield values(stand, 'ImageSets/Context/train.txt', damages.unknown_id, 'unknown ids')
    for file in (f'semseg/VOC12/{first}.png', fallback):
        yield values(stand, file, damages.spot(21))
        yield values(stand, file, damages.fill(255), 'no labelled pixel')
    yield values(stand, labels, damages.spot(460))
    yield values(stand, labels, damages.fill(0), 'no labelled pixel')
    yield values(stand, normals, damages.fill(128), 'no labelled pixel')


def taskonomy_cases() -> Iterator[Case]:
    stand, splits = 'taskonomy', taskonomy.SPLIT_FILE
    files = {
        domain: f'{domain}/taskonomy/allensville/point_9_view_0_domain_{taskonomy_names.get(domain, domain)}.png'
        for domain in taskonomy.DOMAINS
    }
    for domain, file in files.items():
        yield Case(stand, file, damages.delete, ((file, 'missing view'),))
        for case in any_file(stand, file):
            # A grey reshading is accepted, since it is not known how it is stored.
            if case.damage is not damages.delete and (domain, case.damage) != ('reshading', damages.retype):
                yield case
        building = f'{domain}/taskonomy/beechwood'
        yield Case(stand, building, shutil.rmtree, ((building, 'missing folder'),))
        yield Case(stand, domain, shutil.rmtree, ((domain, 'missing domain'),))
    for damage in (damages.lone_returns, damages.windows_ends, damages.unix_ends):
        yield Case(stand, splits, damage, ())
    yield Case(stand, splits, damages.no_lines, ((splits, 'unreadable file'),))
    yield Case(stand, splits, damages.one_line_less, ((splits, 'wrong count'),))
    yield Case(stand, splits, damages.two_lines_less, ((splits, 'empty split'),))
    yield Case(stand, splits, damages.last_line_twice, ((splits, 'duplicate ids'),))
    yield Case(stand, splits, damages.delete, ((splits, 'missing file'),))
    for domain in ('depth_euclidean', 'depth_zbuffer'):
        yield values(stand, files[domain], damages.fill(65535), 'no labelled pixel')
        yield values(stand, files[domain], damages.scale(1 / 1000))
    yield values(stand, files['normal'], damages.fill(128), 'no labelled pixel')
    yield values(stand, files['normal'], damages.scale(0.5))
    yield values(stand, files['principal_curvature'], damages.fill(0), 'no labelled pixel')


CASES = [
    *(case for packaging in PACKAGINGS for case in nyud_cases(packaging)),
    *pascal_cases(),
    *taskonomy_cases(),
]


@pytest.fixture(scope='session')
def stands(tmp_path_factory):
    """Exports a stand-in when it is first asked for; returns the folder that the dataset was exported to."""
    base = tmp_path_factory.mktemp('stands')
    roots: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in roots:
            roots[name] = STANDS[name].export(base / name, counts=COUNTS, size=SIZE, cache_dir=base / 'cache')
        return roots[name]

    return get


@pytest.fixture
def copy(stands, tmp_path):
    return lambda name: Path(shutil.copytree(stands(name), tmp_path / 'data'))


def check(name: str, root: Path):
    return get_layout_check(STANDS[name].dataset)(root)


def found(outcome) -> tuple[tuple[str, str], ...]:
    return tuple((problem.path, problem.kind) for problem in outcome.problems)


@pytest.mark.parametrize('case', CASES, ids=[case.name for case in CASES])
def test_damage_is_named_and_nothing_else(case, copy):
    root = copy(case.stand)
    case.damage(root / case.file)
    damaged = check(case.stand, root)
    outcome = verify(damaged, stamps=False)
    assert found(outcome) == case.problems, outcome.problems
    assert all(isinstance(text, str) for text in damaged.describe().values())
    assert outcome.is_clean == (not case.problems)
    assert all(problem.detail and problem.remedy for problem in outcome.problems)


@pytest.mark.parametrize('name', STANDS)
def test_what_was_exported_is_clean_and_stays_untouched(name, stands):
    root = stands(name)
    before = {path: path.stat() for path in root.rglob('*')}
    outcome = verify(check(name, root))
    assert outcome.problems == ()
    assert outcome.is_clean
    assert outcome.num_files == len(outcome.stamps)
    after = {path: path.stat() for path in root.rglob('*')}
    assert {path: stat.st_mtime_ns for path, stat in after.items()} == {
        path: stat.st_mtime_ns for path, stat in before.items()
    }


@pytest.mark.parametrize('name', STANDS)
def test_only_a_folder_of_the_dataset_is_accepted(name, stands, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='empty'):
        check(name, tmp_path / 'empty')
    assert cli.main([STANDS[name].dataset, str(tmp_path / 'empty')]) == 1
    told = capsys.readouterr().out
    assert 'wrong folder (1)' in told
    assert 'Looked for' in told
    assert 'data_root (--data-root' not in told  # that is the advice of the loader
    other = next(other for other, stand in STANDS.items() if stand.dataset != STANDS[name].dataset)
    with pytest.raises(FileNotFoundError):
        check(name, stands(other))


@pytest.mark.parametrize('name', STANDS)
def test_the_report_does_not_depend_on_the_number_of_workers(name, copy, monkeypatch):
    root = copy(name)
    cases = [case for case in CASES if case.stand == name and case.damage in (damages.crop, damages.truncate)]
    for case in {case.file: case for case in cases}.values():
        case.damage(root / case.file)
    monkeypatch.setattr('mtl_plugins.datasets.verification.runner._LEAST_JOBS_PER_WORKER', 1)
    alone, together = (verify(check(name, root), workers=workers) for workers in (1, 2))
    assert alone == together
    assert alone.problems


@pytest.mark.parametrize('name', STANDS)
def test_the_command_says_clean_or_names_the_file(name, copy, tmp_path, capsys):
    root, dataset = copy(name), STANDS[name].dataset
    options = ['--manifest', str(tmp_path / 'manifest.json'), '--jobs', '1']
    assert cli.main([dataset, str(root), *options]) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[-1].startswith('clean')
    assert 'rendered stand-in' in first
    case = next(case for case in CASES if case.stand == name and case.damage is damages.truncate)
    case.damage(root / case.file)
    assert cli.main([dataset, str(root), *options]) == 1
    second = capsys.readouterr().out
    assert 'unreadable file (1)' in second
    assert f'  {case.file}: ' in second
    assert 'clean:' not in second


def test_a_report_that_cannot_be_written_is_told_before_the_files_are_read(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(['nyud', str(tmp_path), '--no-hash', '--json', str(tmp_path / 'nope/x.json')])
    assert stop.value.code == 2
    assert f'there is no folder {tmp_path / "nope"} to write into' in capsys.readouterr().err
