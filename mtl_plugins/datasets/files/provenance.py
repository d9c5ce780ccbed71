"""What the tool that made a folder noted in it: which data it holds, how many, and what they are worth."""

import os
from pathlib import Path
from typing import Any

from mtl_plugins.utils.json_files import parse_json

PROVENANCE = 'provenance.json'
FORMAT = 1
_NAMES = (PROVENANCE, 'fixture.json')


def read_provenance(*folders: str | os.PathLike) -> dict[str, Any] | None:
    """The notes in the first of ``folders`` that has some; None for data as they were published.

    Returns:
        Among others ``counts`` (images per split), ``size`` (height and width) and ``note``, what readers of results
        should know.
    """
    for folder in folders:
        for name in _NAMES:
            try:
                content = parse_json(Path(folder, name).read_bytes(), name)
            except (OSError, ValueError):
                continue
            if not isinstance(content, dict) or content.get('format') != FORMAT:
                continue
            if isinstance(content.get('counts'), dict) and isinstance(content.get('size'), list):
                return {'note': 'not the published data', **content}
    return None
