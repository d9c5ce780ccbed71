from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.tiny import run_tool

ROOT = Path(__file__).parents[2]
CONFIG = """
default_scope = 'mtl_plugins'
train_dataloader = dict(
    batch_size=2, sampler=dict(type='mtl_plugins.AbsoluteSampler'),
    dataset=dict(
        type='mtl_plugins.RoomsDataset', num_images=3, size=(32, 40), cache_dir=CACHE,
        pipeline=[
            dict(type='mtl_plugins.LoadCachedSample'),
            dict(type='mtl_plugins.CheckTargets', num_classes=dict(semseg=12, human_parts=7)),
            dict(type='mtl_plugins.SeededTransforms', transforms=[
                dict(type='mtl_plugins.MultiTaskRandomScale'),
                dict(type='mtl_plugins.MultiTaskRandomCrop', size=(24, 32)),
                dict(type='mtl_plugins.MultiTaskRandomFlip'),
                dict(type='PhotoMetricDistortion'),
            ]),
            dict(type='mtl_plugins.MultiTaskPad', size=(24, 32)),
            dict(type='mtl_plugins.PackMultiTaskInputs'),
        ]))
"""


def run(*args, cwd):
    return run_tool('datasets/browse.py', *args, cwd=cwd)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'rooms.py'
    path.write_text(CONFIG.replace('CACHE', repr(str(tmp_path / 'cache'))))
    return path


def test_writes_a_sheet_per_sample_and_says_where(config, tmp_path):
    out = tmp_path / 'work_dirs' / 'browse' / 'rooms' / 'train'
    out.mkdir(parents=True)
    (out / '0007_sample000001.png').touch()
    done = run('--cfg-options', 'train_dataloader.dataset.num_images=2', config, '-n', '5', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f'{out}: 1 files that were there before are not of this call and stay, such as 0007_' in done.stderr
    assert done.stdout.strip().splitlines()[-1] == f'2 of 2 samples of the train split are drawn in {out}'
    sheets = sorted(out.iterdir())
    assert [sheet.name[:4] for sheet in sheets] == ['0000', '0001', '0007']
    picture = np.asarray(Image.open(sheets[0]))
    # the image and 11 targets of 24 x 32, enlarged 7 times, in two bands of six, each with its legends
    assert 2 * 24 * 7 < picture.shape[0] < 4 * 24 * 7
    assert 7 * 32 * 7 < picture.shape[1] < 8 * 32 * 7
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500


def test_mistakes_are_told_in_one_line(config, tmp_path):
    for args, message in (
        (['nothing.py'], 'for example mtl_plugins::rooms/stgu_vit-micro_8b-2k_rooms-96.py'),
        ([config, '-n', '0'], 'argument -n/--number: expected 1 or more, but got 0'),
        ([config, '--split', 'val'], 'the config has no val_dataloader; choose another --split'),
    ):
        done = run(*args, cwd=tmp_path)
        assert done.returncode != 0
        assert done.stderr.strip().splitlines()[-1].endswith(message)
