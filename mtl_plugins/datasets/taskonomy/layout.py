"""Names of Taskonomy's folders, files, buildings and splits: the one place that knows them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mtl_plugins.utils.files import given_path

from ..files import UnreadableFileError, find_folder, read_lines

NAME = 'taskonomy'
RGB, MASK, Z_BUFFER = 'rgb', 'mask_valid', 'depth_zbuffer'
TASKS = (
    'depth_euclidean', 'depth_zbuffer', 'edge_occlusion', 'edge_texture', 'keypoints2d', 'keypoints3d', 'normal',
    'principal_curvature', 'reshading', 'segment_unsup2d', 'segment_unsup25d',
)  # fmt: skip
"""The eleven tasks of the STGU paper; a task, the folder of its files and its key in the task table share one name."""
DOMAINS = (RGB, *TASKS)
SIZE = (512, 512)

ORDERS = {
    'omnitools': '{domain}/taskonomy/{building}',
    'component-domain': 'taskonomy/{domain}/{building}',
    'component-building': 'taskonomy/{building}/{domain}',
    'domain': '{domain}/{building}',
    'building': '{building}/{domain}',
}
"""Ways to nest the folders. The first is what omnitools writes and what the released STGU program reads."""

SPLIT_FILE = 'splits_taskonomy/train_val_test_tiny.csv'
SPLITS = ('train', 'val', 'test')
RELEASED_SPLITS = ('released_train', 'released_test')
TINY = {
    'train': (
        'allensville', 'beechwood', 'benevolence', 'coffeen', 'cosmos', 'forkland', 'hanson', 'hiteman', 'klickitat',
        'lakeville', 'leonardo', 'lindenwood', 'marstons', 'merom', 'mifflinburg', 'newfields', 'onaga', 'pinesdale',
        'pomaria', 'ranchester', 'shelbyville', 'stockman', 'tolstoy', 'wainscott', 'woodbine',
    ),
    'val': ('collierville', 'corozal', 'darden', 'markleeville', 'wiconisco'),
    'test': ('ihlen', 'muleshoe', 'uvalda', 'noxapater', 'mcdade'),
}  # fmt: skip
"""The official tiny split; the buildings of ``test`` in the order of the published list."""

KNOWN_ABSENT = ('woodbine',)
"""Buildings of the tiny list that the download does not have."""
KNOWN_HOLES = {('wiconisco', 'edge_texture'): 80}
"""(building, domain) -> number of files that the download lacks."""
RELEASED_WITHOUT = ('woodbine', 'wiconisco')
"""Buildings that the released STGU program leaves out."""
RELEASED_TEST_SHARE = 10
"""The released program evaluates on the first of this many equal parts of its test list."""

_FILE = re.compile(r'point_(\d{1,9})_view_(\d{1,7})_domain_(\w+)\.png')
_ROOT_NAMES = ('taskonomy', 'Taskonomy', 'taskonomy_tiny', 'taskonomy_dataset', 'omnidata')


@dataclass(frozen=True)
class Splits:
    """Which buildings belong to which split.

    Attributes:
        rows: (building, ``'train'``, ``'val'`` or ``'test'``), in the order of the list.
        path: The CSV file, relative to the root; None if there is none and the built-in list is used.
    """

    rows: tuple[tuple[str, str], ...]
    path: str | None

    def buildings(self, split: str) -> tuple[str, ...]:
        """Buildings of a split, also of the two released ones, in the order of the list."""
        if split == 'released_train':
            names = (name for name, own in self.rows if own != 'test' and name not in RELEASED_WITHOUT)
        else:
            wanted = 'test' if split == 'released_test' else split
            names = (name for name, own in self.rows if own == wanted)
        return tuple(dict.fromkeys(names))


def parse_name(name: str) -> tuple[int, int, str] | None:
    """Point, view and the form of a file name (a format string that gives the name again); None for other files.

    The domain in the name may differ from that of the folder (``points`` holds files named ``fixatedpose``), so it is
    only remembered.
    """
    match = _FILE.fullmatch(name)
    if match is None:
        return None
    point, view, domain = match.groups()
    return int(point), int(view), f'point_{_field(point)}_view_{_field(view)}_domain_{domain}.png'


def _field(digits: str) -> str:
    """Format field for a number; leading zeros, which Taskonomy does not write, would be kept."""
    return '{:d}' if digits == str(int(digits)) else f'{{:0{len(digits)}d}}'


def find_root(data_root: str | os.PathLike) -> Path:
    """The folder of the dataset, given itself or its parent.

    Raises:
        FileNotFoundError: If there is none.
    """
    given = given_path(data_root, 'data_root')
    # Where folders are nested as taskonomy/<domain>/<building>, both the folder and its parent look right.
    for candidate in (given, *(given / name for name in _ROOT_NAMES)):
        if (candidate / SPLIT_FILE).is_file() and find_order(candidate) is not None:
            return candidate
    return find_folder(
        data_root,
        _ROOT_NAMES,
        lambda root: find_order(root) is not None,
        f'point_<P>_view_<V>_domain_rgb.png in {RGB}/taskonomy/<building> (or {RGB}/<building>, '
        f'taskonomy/{RGB}/<building>, taskonomy/<building>/{RGB}, <building>/{RGB})',
        NAME,
    )


def find_order(root: Path) -> str | None:
    """The one of :data:`ORDERS` in which the files lie below ``root``, None if there are none."""
    for domain in DOMAINS:
        for order in ORDERS.values():
            if _has_images(root, order.format(domain=domain, building='*').split('/')):
                return order
    return None


def _has_images(folder: Path, parts: list[str]) -> bool:
    try:
        if parts and parts[0] != '*':
            return _has_images(folder / parts[0], parts[1:])
        with os.scandir(folder) as entries:
            if not parts:
                return any(parse_name(entry.name) for entry in entries)
            return any(entry.is_dir() and _has_images(folder / entry.name, parts[1:]) for entry in entries)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # the last: a disk's lost+found, for example
        return False


def read_splits(root: Path) -> Splits:
    """The splits from ``splits_taskonomy/train_val_test_tiny.csv``, whatever its line ends (the original has lone CRs).

    Without the file, the built-in tiny list.

    Raises:
        UnreadableFileError: If the file is not a list ``id,train,val,test`` with one 1 per row.
    """
    path = root / SPLIT_FILE
    if not path.is_file():
        return Splits(tuple((name, split) for split, names in TINY.items() for name in names), None)
    try:
        header, *lines = [[cell.strip() for cell in line.split(',')] for line in read_lines(path)] or [[]]
    except UnreadableFileError as error:
        raise _split_error(path, error.found) from error
    if header[:4] != ['id', *SPLITS]:
        raise _split_error(path, f'the columns {",".join(header) or "(none)"}')
    rows = []
    for cells in lines:
        flags = cells[1:4]
        if flags.count('1') != 1 or len(flags) != 3:
            raise _split_error(path, f'the row {",".join(cells)}')
        rows.append((cells[0], SPLITS[flags.index('1')]))
    return Splits(tuple(rows), SPLIT_FILE)


def _split_error(path: Path, found: str) -> UnreadableFileError:
    expected = 'a list with the columns id,train,val,test and one 1 per row'
    error = UnreadableFileError(
        f'{path}: expected {expected}, but found {found}. Take the file from splits_taskonomy.zip of the Taskonomy '
        'repository again, or remove it: then the built-in tiny list is used'
    )
    error.expected, error.found = expected, found
    return error
