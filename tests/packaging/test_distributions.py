"""What wheel and sdist hold, against the files of the repository."""

import stat
import zipfile
from email import message_from_string
from pathlib import Path

from mmengine.fileio import load

from mtl_plugins import __version__

ROOT = Path(__file__).parents[2]
LINKS = {'mtl_plugins/.mim/configs', 'mtl_plugins/.mim/tools'}


def test_the_links_lead_to_configs_and_tools():
    assert {name: str((ROOT / name).readlink()) for name in LINKS} == {
        'mtl_plugins/.mim/configs': '../../configs',
        'mtl_plugins/.mim/tools': '../../tools',
    }


def test_the_wheel_holds_the_package_with_its_data_configs_and_tools(built):
    package = {name for name in built.files if name.startswith('mtl_plugins/')} - LINKS
    shipped = {f'mtl_plugins/.mim/{name}' for name in built.files if name.split('/')[0] in ('configs', 'tools')}
    metadata = {name for name in built.in_wheel if name.startswith(f'mtl_plugins-{__version__}.dist-info/')}
    assert set(built.in_wheel) - metadata == package | shipped
    assert {'mtl_plugins/py.typed', 'mtl_plugins/experiments/reproduce/tables/nyud-vit-t.json'} <= package
    assert {
        'mtl_plugins/.mim/configs/_base_/methods/stgu.py',
        'mtl_plugins/.mim/configs/rooms/baselines_rooms-96-demo.json',
        'mtl_plugins/.mim/tools/train.py',
    } <= shipped


def test_the_sdist_holds_everything_that_the_tests_need(built):
    unneeded = {name for name in built.files if name.startswith(('.gitignore', 'mtl_plugins/.mim/'))}
    assert set(built.files) - unneeded <= built.in_sdist
    assert not [name for name in built.in_sdist if '__pycache__' in name or name.startswith(('work_dirs', 'data/'))]
    # The links become files.
    assert {'mtl_plugins/.mim/configs/_base_/default_runtime.py', 'mtl_plugins/.mim/tools/train.py'} <= built.in_sdist


def test_scripts_stay_executable(built):
    scripts = {name: mode for name, mode in built.in_wheel.items() if name.endswith('.sh')}
    assert len(scripts) == len(list((ROOT / 'tools').rglob('*.sh'))) > 0
    assert all(mode & stat.S_IXUSR for mode in scripts.values())


def test_metadata(built):
    with zipfile.ZipFile(built.wheel) as archive:
        folder = f'mtl_plugins-{__version__}.dist-info'
        metadata = message_from_string(archive.read(f'{folder}/METADATA').decode())
        assert 'mtl-plugins = mtl_plugins.__main__:main' in archive.read(f'{folder}/entry_points.txt').decode()
    assert (metadata['Name'], metadata['Version']) == ('mtl-plugins', __version__)
    assert metadata['Description-Content-Type'] == 'text/markdown'
    assert {'openmmlab', 'tensorboard', 'wandb', 'mlflow', 'export'} <= set(metadata.get_all('Provides-Extra'))
    stack = [line for line in metadata.get_all('Requires-Dist') if 'mmengine' in line or 'mmcv' in line]
    assert stack
    assert all(line.startswith('onedl-') and line.endswith('extra == "openmmlab"') for line in stack)


def test_the_model_index_lists_every_metafile():
    """MMEngine and MIM read the index; its paths are relative to the folder of the index."""
    index = load(str(ROOT / 'mtl_plugins/.mim/model-index.yml'))
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('metafile.yml'))
    assert sorted(index['Import']) == found
