"""`python tools/misc/method_tables.py`: writes what the documents say of the methods anew, from the catalogue."""

import argparse
import re
import sys
from pathlib import Path

from mtl_plugins import methods

ROOT = Path(__file__).parents[2]
PAGES = {'loss weighting': 'weighting', 'gradient aggregation': 'aggregation'}


def _all_methods(text):
    """Both tables: all methods, and what they do with one task."""
    rows = methods.list_methods()
    titles = [f'[{row.title}](https://arxiv.org/abs/{row.arxiv})' if row.arxiv else row.title for row in rows]
    lines = [f'| {title} | `{row.key}` | {row.cost} | {_bold(row.verified)} |' for title, row in zip(titles, rows)]
    text = _table(text, '| method | key |', lines)
    return _table(
        text, '| key | what it does with', [f'| `{row.key}` | {row.one_task} |' for row in rows if row.one_task]
    )


def _readme(text):
    """The keys of each kind, found by one that is there."""
    for kind in {row.kind for row in methods.list_methods()}:
        keys = [f'`{row.key}`' for row in methods.list_methods() if row.kind == kind]
        text = re.sub(rf'^(\| [^|]+ \| ){keys[0]}[^|]*', rf'\g<1>{" ".join(keys)} ', text, flags=re.MULTILINE)
    return text


def _page(text, kind):
    """One line per method: the one that stands there, else one with what the row says."""
    there = {line.split('`')[1]: line for line in text.splitlines() if line.startswith('| `')}
    rows = [row for row in methods.list_methods() if row.kind == kind]
    for row in rows:
        parts = [getattr(getattr(methods, PAGES[kind]), part, None) for part in row.parts]
        names, scale = ', '.join(f'`{part}`' for part in row.parts), parts[-1].scale if parts[-1] else ''
        there.setdefault(row.key, f'| `{row.key}` | {names} | {row.title} | | {scale} | {_bold(row.verified)} |')
    return _table(text, '| key | class |', [there[row.key] for row in rows])


def _reference(text):
    """The classes of each folder, those that others build on first."""
    for title in ('Loss weighting', 'Gradient aggregation', 'Grouping'):
        names = ''.join(f'.. autoclass:: {name}\n' for name in getattr(methods, title.split()[-1].lower()).__all__)
        text = re.sub(
            rf'(## {title}\n.*?\n\n)(?:\.\. autoclass[^\n]*\n)+',
            lambda head, names=names: head[1] + names,
            text,
            flags=re.DOTALL,
        )
    return text


def _bold(verified):
    return verified.replace('unverified', '**unverified**')


def _table(text, head, lines):
    """``text`` with other lines in the table that begins with ``head``."""
    start = text.index('\n', text.index('\n', text.index(head)) + 1) + 1
    end = start + len(re.match(r'(?:\|.*\n)*', text[start:])[0])
    return text[:start] + ''.join(f'{line}\n' for line in lines) + text[end:]


def documents():
    """Path and wanted text of each document."""
    makers = {
        'README.md': _readme,
        'docs/api/methods.md': _reference,
        'docs/methods/all_methods.md': _all_methods,
        **{f'docs/methods/{name}.md': lambda text, kind=kind: _page(text, kind) for kind, name in PAGES.items()},
    }
    return {ROOT / name: make((ROOT / name).read_text()) for name, make in makers.items()}


def main(argv=None):
    argparse.ArgumentParser(description=__doc__.partition(': ')[2]).parse_args(argv)
    for path, text in documents().items():
        if path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(ROOT))
    return 0


if __name__ == '__main__':
    sys.exit(main())
