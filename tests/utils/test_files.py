import os
import socket
import subprocess
import sys

import pytest

from mtl_plugins.config import load_config
from mtl_plugins.datasets import PascalContextMTDataset
from mtl_plugins.datasets.cache import cache_base
from mtl_plugins.datasets.files.folders import find_folder
from mtl_plugins.datasets.photo_files import find_photos
from mtl_plugins.errors import UserError
from mtl_plugins.evaluation.baselines import load_baselines
from mtl_plugins.evaluation.metrics.edges import read_image_ids
from mtl_plugins.inference.files import PredictionFolder
from mtl_plugins.inference.sources import Inputs
from mtl_plugins.models.losses.class_weights import ClassWeights
from mtl_plugins.utils.files import remove_leftovers, replacing, temporary_name, write_whole
from mtl_plugins.visualization.hooks import PredictionPanelHook
from tests.support.tiny import ROOMS


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'deep' / 'a.json'
    write_whole(path, b'old')

    def stop():
        with replacing(path) as temporary:
            temporary.write_bytes(b'half')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert path.read_bytes() == b'old'
    write_whole(path, b'new')
    assert path.read_bytes() == b'new'
    assert names(path.parent) == ['a.json']


def test_temporary_names_differ_and_fit(tmp_path):
    path = tmp_path / ('x' * 250 + '.png')
    made = {temporary_name(path).name for _ in range(20)}
    assert len(made) == 20
    assert all(name.startswith('.') and len(name) < 255 and not name.endswith('.png') for name in made)
    write_whole(path, b'')


def test_what_dead_processes_left_is_removed_and_what_others_write_is_not(tmp_path, monkeypatch):
    code = 'import sys; from mtl_plugins.utils.files import temporary_name; from pathlib import Path; '
    code += 'temporary_name(Path(sys.argv[1])).touch()'
    subprocess.run([sys.executable, '-c', code, str(tmp_path / 'a.npz')], check=True, env=os.environ)
    ours = temporary_name(tmp_path / 'b.npz')
    ours.touch()
    monkeypatch.setattr(socket, 'gethostname', lambda: 'another-machine')
    theirs, abandoned = temporary_name(tmp_path / 'c.npz'), temporary_name(tmp_path / 'd.npz')
    theirs.touch()
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    monkeypatch.undo()
    (tmp_path / '.000001.99.tmp').touch()
    (tmp_path / 'e.npz').touch()
    assert {path.name[:3] for path in remove_leftovers(tmp_path, earlier='.tmp')} == {'.a.', '.d.', '.00'}
    assert names(tmp_path) == sorted([ours.name, theirs.name, 'e.npz'])
    remove_leftovers(tmp_path, every=True)
    assert names(tmp_path) == ['e.npz']


def test_a_path_that_is_empty_is_not_the_current_folder(tmp_path, monkeypatch):
    """As from a variable that is not set: everything in the folder would be taken, or files written into it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.png').touch()
    (tmp_path / 'images').mkdir()
    takers = {
        'input 0': lambda path: Inputs([path]),
        'data_root': lambda path: find_folder(path, (), lambda folder: True, 'images', 'own'),
        'root': find_photos,
        'cache_dir': cache_base,
        'out_dir': lambda path: PredictionFolder(path, {}, {}),
        'image_ids': read_image_ids,
        'baselines': load_baselines,
        'PredictionPanelHook.show_dir': lambda path: PredictionPanelHook(show_dir=path),
        'PascalContextMTDataset.ids_file': lambda path: PascalContextMTDataset('.', ids_file=path),
        'class_weight': lambda path: ClassWeights(path, 'SoftmaxLoss'),
        'work_dir': lambda path: load_config(ROOMS, work_dir=path),  # as a config and Python set it
    }
    for name, take in takers.items():
        for path in ('', ' '):
            with pytest.raises(UserError, match=rf"{name} must be a path, but got {path!r}; write '\.'"):
                take(path)
        with pytest.raises(UserError, match=f"{name} must be a path, but got 's3://bucket/a.txt'; copy or mount it"):
            take('s3://bucket/a.txt')
    for name in ('out_dir', 'PredictionPanelHook.show_dir', 'work_dir'):
        with pytest.raises(UserError, match=rf"{name} must be a path in UTF-8, but got 'a\\udce9'; .* PYTHONUTF8=1"):
            takers[name]('a\udce9')
    assert names(tmp_path) == ['a.png', 'images']
    with pytest.raises(UserError, match='input ~nobody-of-this-name/a does not exist'):
        Inputs('~nobody-of-this-name/a')
    with pytest.raises(UserError, match='data_root='):
        find_folder('~nobody-of-this-name', (), lambda folder: True, 'images', 'own')
    with pytest.raises(UserError, match='is not a folder'):
        find_photos('~nobody-of-this-name')
