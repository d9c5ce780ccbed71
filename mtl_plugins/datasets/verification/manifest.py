"""The list of a dataset's files with their hashes, written at the first verification and compared with later on."""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mtl_plugins.datasets.cache import default_cache_dir, fingerprint
from mtl_plugins.errors import UserError
from mtl_plugins.utils.files import replacing, temporary_name
from mtl_plugins.utils.json_files import parse_json

from .base import Problem
from .runner import Stamp

VERSION = 1
HASH = 'blake2b-16'


class ManifestError(UserError):
    """A manifest cannot be read, written, or is another dataset's; the message names the file and what to do."""


@dataclass(frozen=True)
class Manifest:
    """Size and hash of every file of a dataset.

    Attributes:
        dataset: Name of the dataset.
        stamps: Path relative to the root -> stamp.
    """

    dataset: str
    stamps: Mapping[str, Stamp]


@dataclass(frozen=True)
class Changes:
    """How a dataset differs from its manifest: sorted paths."""

    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    def problems(self) -> list[Problem]:
        """Changed and gone files as problems; new ones are none."""
        accept = 'if this is what you want, run again with --update-manifest; otherwise restore the files'
        changed = 'changed file: it differs from what the manifest notes'
        gone = 'gone file: it is in the manifest, but no longer part of the dataset'
        return [Problem(path, changed, accept) for path in self.changed] + [
            Problem(path, gone, accept) for path in self.gone
        ]


def default_manifest_path(dataset: str, root: Path) -> Path:
    """Where the manifest of a folder lies if the user does not say: in the cache, one file per root."""
    key = fingerprint({'dataset': dataset, 'root': str(Path(root).resolve())})
    return default_cache_dir() / 'manifests' / f'{dataset}-{key}.json'


def compare(old: Manifest, stamps: Mapping[str, Stamp], already_bad: Collection[str] = ()) -> Changes:
    """How files differ from a manifest; those of ``already_bad``, which have a problem of their own, are left out."""
    known = old.stamps.keys() - set(already_bad)
    return Changes(
        changed=tuple(sorted(path for path in known & stamps.keys() if old.stamps[path] != stamps[path])),
        gone=tuple(sorted(known - stamps.keys())),
        new=tuple(sorted(stamps.keys() - old.stamps.keys())),
    )


def load_manifest(path: Path, dataset: str) -> Manifest | None:
    """Read a manifest; None if there is none yet.

    Raises:
        ManifestError: If the file is damaged, of another version, or of another dataset.
    """
    remedy = 'delete it to start anew, or choose another file by --manifest'
    try:
        content = parse_json(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ManifestError(f'cannot read the manifest {path} ({error}); {remedy}') from error
    header = ('version', VERSION), ('hash', HASH), ('dataset', dataset)
    for key, expected in header:
        found = content.get(key) if isinstance(content, dict) else None
        if found != expected:
            raise ManifestError(f'the manifest {path} should have {key} {expected!r}, but has {found!r}; {remedy}')
    try:
        return Manifest(
            dataset, {name: Stamp(int(size), str(digest)) for name, (size, digest) in content['files'].items()}
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(f'the manifest {path} is damaged ({type(error).__name__}: {error}); {remedy}') from error


def save_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest under a temporary name and rename it: whatever lies at ``path`` is complete.

    Raises:
        ManifestError: If it cannot be written.
    """
    header = {'version': VERSION, 'dataset': manifest.dataset, 'hash': HASH}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
            # One line per file, so that two manifests can be compared with diff; written piece by piece, since large
            # datasets have millions of files.
            file.write(json.dumps(header)[:-1] + ', "files": {')
            separator = '\n'
            for name, stamp in sorted(manifest.stamps.items()):
                file.write(f'{separator}{json.dumps(name)}: {json.dumps([stamp.size, stamp.digest])}')
                separator = ',\n'
            file.write('\n}}\n')
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ManifestError(f'cannot write the manifest {path} ({error}); choose another file by --manifest') from error


def check_writable(path: Path) -> None:
    """Fail before hours of work if the manifest could not be written at their end.

    Raises:
        ManifestError: If the folder cannot be made or written.
    """
    probe = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ManifestError(
            f'cannot write the manifest {path} ({error}); choose another file by --manifest, or use --no-hash'
        ) from error
