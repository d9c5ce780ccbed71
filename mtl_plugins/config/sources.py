"""A look at the text of config files before MMEngine reads them, for what it takes in another way than was meant."""

import ast
import codecs
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from mtl_plugins.errors import UserError

from .places import walk

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BASE_VARIABLE = re.compile(r'\{\{\s*_base_\.([\w.]+)\s*\}\}')
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


def check_base_variables(file: Path, cfg: Config) -> None:
    """Look for the marks that MMEngine leaves of a ``{{_base_.name}}`` that is no value as a whole.

    Raises:
        UserError: If there is one: it would be a folder, or whatever else, of a made-up name.
    """
    names = {name for _, text in _texts(file, set(), ()) for name in _BASE_VARIABLE.findall(text)}
    mark = re.compile(f'_({"|".join(map(re.escape, names))})_[0-9a-f]{{6}}')
    for place, value in walk(cfg._cfg_dict) if names else ():
        left = mark.search(value) if isinstance(value, str) else None
        if left:
            raise UserError(
                f'config {file}: {place} has {{{{_base_.{left[1]}}}}} inside a text or an expression, which is not '
                'its value; write it alone and without quotation marks'
            )


def missing_base_variable(error: BaseException) -> str:
    """The ``name`` of a ``{{_base_.name}}`` that the bases of a config do not have, if that is what MMEngine met."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    looked_up = [frame.f_locals for frame in frames if frame.f_code.co_name == '_substitute_base_vars']
    if not isinstance(error, KeyError | TypeError) or not looked_up:
        return ''
    names, part = looked_up[-1]['base_var_dict'].values(), looked_up[-1].get('new_k')
    return next((name for name in names if part in name.split('.')), '')


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
