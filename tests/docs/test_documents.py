import configparser
import re
import runpy
from pathlib import Path

import pytest
import yaml

from mtl_plugins.__main__ import COMMANDS
from mtl_plugins.methods import grouping as groupers
from mtl_plugins.methods import list_methods
from mtl_plugins.version import __version__

from .pages import PAGES, without_blocks

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_of_this_repository_exist(page):
    text = page.read_text()
    links = [link for link in re.findall(r'\]\(([^)#]+)\)', without_blocks(page)) if '://' not in link]
    paths = re.findall(r'\b(?:configs|tools|tests|docs|mtl_plugins)/[\w./-]+\.(?:py|md|sh|json)\b', text)
    for name in links:
        assert (page.parent / name).exists(), f'{page.name} links to {name}'
    for name in paths:
        assert (ROOT / name).exists(), f'{page.name} names {name}'


def test_what_documents_say_of_the_methods_is_what_the_catalogue_says():
    tool = runpy.run_path(str(ROOT / 'tools' / 'misc' / 'method_tables.py'))
    for path, text in tool['documents']().items():
        assert path.read_text() == text, f'{path.name}: run python tools/misc/method_tables.py'
    table = (ROOT / 'docs' / 'methods' / 'all_methods.md').read_text().split('| method | key |')[1]
    assert re.findall(r'^\|[^|]+\| `(\w+)` \|', table, flags=re.MULTILINE) == [row.key for row in list_methods()]


def test_the_readme_names_every_method_and_no_other():
    table = (ROOT / 'README.md').read_text().split('| kind | `--method` |')[1].split('\n\n')[0]
    keys = [key for row in table.splitlines()[2:] for key in re.findall(r'`(\w+)`', row.split('|')[2])]
    assert sorted(keys) == sorted(row.key for row in list_methods())


def test_the_readme_names_every_command():
    (named,) = re.findall(r'python -m mtl_plugins ([\w-]+(?:\|[\w-]+)+)', (ROOT / 'README.md').read_text())
    assert named.split('|') == list(COMMANDS)


def test_the_first_python_of_the_readme_prints_what_it_says(capsys):
    text = (ROOT / 'README.md').read_text()
    snippet = re.search(r'```python\n(.*?)```', text, flags=re.DOTALL)
    assert text[: snippet.start()].count('\n') < 50, 'the first code stands within two screens'
    exec(snippet[1], {})
    said = re.findall(r'^print\(.*\)  # ([^:]*):', snippet[1], flags=re.MULTILINE)
    assert said
    assert capsys.readouterr().out.splitlines() == said


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


def test_the_loop_of_the_page_on_aggregation_runs():
    page = (ROOT / 'docs' / 'methods' / 'aggregation.md').read_text()
    (snippet,) = re.findall(r'```python\n(.*?)```', page, flags=re.DOTALL)
    names = {}
    exec(snippet, names)
    assert names['parameter'].grad.shape == names['parameter'].shape
    assert all(head.weight.grad is not None for head in names['heads'])


def test_every_method_has_a_line_on_its_page_and_class_names_are_right():
    pages = {'loss weighting': 'weighting', 'gradient aggregation': 'aggregation'}
    for row in list_methods():
        page = pages.get(row.kind, 'sharpness_and_optimizers')
        if row.kind == 'task groups':
            continue
        text = (ROOT / 'docs' / 'methods' / f'{page}.md').read_text()
        (line,) = [each for each in text.splitlines() if re.match(rf'(\| |## )`{row.key}`', each)]
        if page in pages.values():
            assert all(f'`{part}`' in line for part in row.parts), line
            assert ('unverified' in line) == ('unverified' in row.verified)


def test_every_grouper_is_described():
    text = (ROOT / 'docs' / 'stgu.md').read_text()
    for name in set(groupers.__all__) - {'Grouper', 'SimilarityGrouper'}:
        assert f'`{name}' in text, name


def test_the_citation_has_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['version'] == __version__
    assert citation['license'] == 'Apache-2.0'


def test_the_constraints_pin_what_the_package_requires():
    text = (ROOT / 'constraints.txt').read_text()
    pinned = {name.lower().replace('_', '-') for name in re.findall(r'^([\w.-]+)==', text, flags=re.MULTILINE)}
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    lists = [setup['options']['install_requires'], *setup['options.extras_require'].values()]
    required = re.findall(r'^([a-z][\w-]*)', '\n'.join(lists), flags=re.MULTILINE)
    assert {'torch', 'torchvision', 'timm', 'onedl-mmcv', 'pytest', 'ruff'} <= set(required)
    assert set(required) <= pinned
    assert not re.search(r'nvidia|cuda|triton|://|^-e', text.replace('CUDA', ''), flags=re.MULTILINE)
