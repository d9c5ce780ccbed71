"""Reading of JSON that other programs, other versions, or an interrupted run may have written."""

import json
import os
from pathlib import Path
from typing import Any

from mtl_plugins.errors import UserError


def parse_json(text: str | bytes, source: str) -> Any:
    """What JSON text holds.

    Args:
        text: The text.
        source: What the message calls it: the name of a file, perhaps with a line.

    Raises:
        UserError: If it is no JSON, no UTF-8, or nested too deeply to be read.
    """
    try:
        return json.loads(text.decode('utf-8-sig') if isinstance(text, bytes) else text)
    except RecursionError:
        raise UserError(f'{source} is not a JSON file that can be read: it is nested too deeply') from None
    except UnicodeDecodeError as error:
        raise UserError(f'{source} is no text in UTF-8 ({error.reason} at byte {error.start}); save it so') from error
    except ValueError as error:
        raise UserError(f'{source} is not a JSON file: {error}') from error


def read_json(path: str | os.PathLike, title: str = '', kind: type = dict) -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        title: What the message says in front of its name.
        kind: Type that it must hold.

    Raises:
        FileNotFoundError: If there is no such file.
        UserError: If it is no JSON, or holds something else.
    """
    content = parse_json(Path(path).read_bytes(), f'{title}{path}')
    if not isinstance(content, kind):
        raise UserError(f'{title}{path} should hold a JSON {_NAMES[kind]}, but holds {type(content).__name__}')
    return content


def check_form(value: Any, form: Any, place: str = '') -> None:
    """Refuse content of another form than expected.

    Args:
        value: The content.
        form: A type; None; ``[form]``, a list of such; ``{key: form}``, an object that has these keys and perhaps more;
            ``{...: form}``, an object with any keys; or a tuple of these, one of which it must have. What may be None
            may be absent.
        place: Where ``value`` is, for the message.

    Raises:
        UserError: For the first place that differs.
    """
    if form is ...:
        return
    forms = form if isinstance(form, tuple) else (form,)
    kinds = [kind if isinstance(kind, type) else type(kind) for kind in forms]
    found = next((one for one, kind in zip(forms, kinds) if type(value) is kind), ...)
    if found is ...:
        named = [_named(kind) for kind in kinds if not (kind is int and float in kinds)]
        wanted = ' or '.join(named)
        raise UserError(f'{place or "the content"} should be {wanted}, but is {_named(type(value))}')
    if isinstance(found, list):
        for number, part in enumerate(value):
            check_form(part, found[0], f'{place}[{number}]')
    elif isinstance(found, dict):
        needed = {key for key, part in found.items() if not (isinstance(part, tuple) and None in part)} - {...}
        absent = [key for key in found if key in needed and key not in value]
        if absent:
            raise UserError(f'{f"in {place} is " if place else ""}no {", ".join(absent)}')
        for name, part in value.items():
            check_form(part, found.get(name, found.get(..., ...)), f'{place}.{name}' if place else name)


def _named(kind: type) -> str:
    return _NAMES.get(kind, kind.__name__)


_NAMES = {
    dict: 'object',
    list: 'list',
    str: 'text',
    int: 'whole number',
    float: 'number',
    bool: 'true or false',
    type(None): 'null',
}
