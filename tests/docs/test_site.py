"""The site: every page is in it, every public name has an entry, and it builds without a warning."""

import importlib
import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from .pages import ROOT

DOCS = ROOT / 'docs'
NAMES = re.compile(r'^\.\. (?:auto)?(?:class|exception|function|data):: (\w+)', flags=re.MULTILINE)
MODULE = re.compile(r'^\.\. currentmodule:: ([\w.]+)', flags=re.MULTILINE)
PUBLIC = (
    'config',
    'datasets',
    'datasets.transforms',
    'engine',
    'engine.hooks',
    'engine.optim_wrappers',
    'evaluation',
    'inference',
    'methods',
    'models',
    'runtime.hooks',
    'visualization',
)


def documented():
    """Names with an entry in the reference, and the modules that they are said to be in."""
    for page in (DOCS / 'api').glob('*.md'):
        for part in page.read_text().split('```{eval-rst}')[1:]:
            (module,) = MODULE.findall(part)
            for name in NAMES.findall(part.split('```')[0]):
                yield module, name


def test_every_page_is_in_a_toctree():
    listed = set()
    for page in (DOCS / 'index.md', DOCS / 'api' / 'index.md'):
        for tree in re.findall(r'```\{toctree\}\n(?::[^\n]*\n)*\n?(.*?)```', page.read_text(), flags=re.DOTALL):
            listed |= {(page.parent / f'{name}.md').relative_to(DOCS) for name in tree.split()}
    pages = {path.relative_to(DOCS) for path in DOCS.rglob('*.md') if '_build' not in path.parts}
    assert {str(page) for page in pages - listed} == {'index.md'}


@pytest.mark.parametrize('module', PUBLIC)
def test_every_public_name_has_an_entry(module):
    known = {name for _, name in documented()}
    assert set(importlib.import_module(f'mtl_plugins.{module}').__all__) <= known, 'add it to a page of docs/api'


def test_every_entry_exists_and_none_is_there_twice():
    entries = list(documented())
    assert len(set(entries)) == len(entries)
    for module, name in entries:
        assert hasattr(importlib.import_module(module), name), f'{module}.{name}'


def test_the_drawing_is_what_its_script_draws():
    spec = importlib.util.spec_from_file_location('stgu_idea', DOCS / 'figures' / 'stgu_idea.py')
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.OUT.read_text(encoding='utf-8') == script.draw()


class Links(HTMLParser):
    """What a page refers to, and the places that others can refer to."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.places = [], set()
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.places |= {attrs[key] for key in ('id', 'name') if attrs.get(key)}
        wanted = {'a': 'href', 'link': 'href', 'img': 'src', 'script': 'src'}.get(tag)
        if attrs.get(wanted):
            self.targets.append(attrs[wanted])


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_its_links_lead_somewhere(tmp_path):
    pytest.importorskip('sphinx', reason='the extra `docs` is not installed')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html', str(DOCS), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    pages = {path: Links(path) for path in tmp_path.rglob('*.html')}
    assert len(pages) > 30
    for page, links in pages.items():
        for target in links.targets:
            if re.match(r'(?:https?|mailto|data):', target):
                # Texts may link to other places. Nothing is loaded from there but what draws formulas.
                loads = re.search(r'\.(?:js|css|woff2?)(?:$|\?)', target) and 'mathjax' not in target
                assert not loads, f'{page.name} loads {target}'
                continue
            path, _, place = unquote(target).partition('#')
            file = (page.parent / path.partition('?')[0]).resolve() if path else page.resolve()
            assert file.exists(), f'{page.name} links to {target}'
            if place and file.suffix == '.html' and file in pages:
                assert place in pages[file].places, f'{page.name} links to {target}'
