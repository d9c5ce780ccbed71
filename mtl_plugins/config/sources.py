"""A look at the text of config files before MMEngine reads them, for what it takes in another way than was meant."""

from __future__ import annotations

import ast
import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mtl_plugins.errors import UserError

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_VARIABLE = re.compile(r'\{\{[\'"]?\s*\$(\w+)\s*:')


def check_config_text(file: Path) -> None:
    """Look at a config file and its ``_base_`` files.

    Raises:
        UserError: If one begins with a byte order mark, is no UTF-8, is its own base, or takes the value of an
            environment variable that MMEngine would alter: it pastes the value into the text, where a backslash has a
            meaning.
    """
    for path, text in _texts(file, set(), ()):
        for name in _VARIABLE.findall(text):
            value = os.environ.get(name, '')
            if '\\' in value or '\n' in value:
                raise UserError(
                    f'config {path}: the environment variable {name}={value!r} has a backslash or a line break, which '
                    'mean something else inside a config; write paths with forward slashes'
                )


def _texts(file: Path, seen: set[Path], above: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """A file and its bases; those of other packages, and what cannot be parsed, are left to MMEngine."""
    if file in above:
        circle = ' -> '.join(path.name for path in (*above[above.index(file) :], file))
        raise UserError(f'config {file} is its own _base_ ({circle}); take one of them out')
    if file in seen or not file.is_file() or file.suffix not in ('.py', '.json'):
        return
    seen.add(file)
    data = file.read_bytes()
    if data.startswith(_MARKS):
        raise UserError(
            f'config {file} begins with a byte order mark (BOM), as some editors of Windows write it; save it as UTF-8 '
            'without BOM'
        )
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError as error:
        raise UserError(
            f'config {file} is no text in UTF-8 ({error.reason} at byte {error.start}); save it so'
        ) from error
    yield file, text
    for base in _bases(text) if file.suffix == '.py' else ():
        if '::' not in base:
            yield from _texts((file.parent / base).resolve(), seen, (*above, file))


def _bases(text: str) -> list[str]:
    try:
        body = ast.parse(text).body
        values = [
            ast.literal_eval(line.value)
            for line in body
            if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name) and line.targets[0].id == '_base_'
        ]
    except (SyntaxError, ValueError):
        return []
    names = values[0] if values and isinstance(values[0], list | tuple) else values[:1]
    return [name for name in names if isinstance(name, str)]
