"""Reading of JSON that other programs, other versions, or an interrupted run may have written."""

from __future__ import annotations

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
    except ValueError as error:  # UnicodeDecodeError too
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


_NAMES = {dict: 'object', list: 'list'}
