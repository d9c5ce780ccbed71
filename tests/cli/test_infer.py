"""tools/infer.py as a user calls it, on photographs, a folder with a broken file, and a video."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from PIL import Image

from mtl_plugins.cli import infer
from tests.support.tiny import MODEL, ROOMS, run_tool

PHOTOS = Path(skimage.__file__).parent / 'data'
TINY = ['--cfg-options', *(f'model.backbone.{name}={str(value).replace(" ", "")}' for name, value in MODEL.items())]
TASKS = ('semseg', 'depth', 'normals', 'edge', 'sal')


@pytest.fixture
def folder(tmp_path):
    """Three photographs, one of them cut off, one in a folder inside."""
    folder = tmp_path / 'photos'
    (folder / 'more').mkdir(parents=True)
    for name, place in (('astronaut', folder), ('coffee', folder / 'more')):
        (place / f'{name}.png').write_bytes((PHOTOS / f'{name}.png').read_bytes())
    (folder / 'broken.png').write_bytes((PHOTOS / 'chelsea.png').read_bytes()[:5000])
    return folder


def test_photographs_a_folder_and_a_video(trained, folder, tmp_path):
    clip, out = tmp_path / 'clip.avi', tmp_path / 'out'
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*'MJPG'), 8, (96, 64))
    for shift in range(0, 120, 40):
        writer.write(cv2.imread(str(PHOTOS / 'coffee.png'))[100:164, shift : shift + 96])
    writer.release()
    done = run_tool(
        'infer.py', *TINY, ROOMS, trained / 'iter_2.pth', PHOTOS / 'chelsea.png', folder, clip, '--out', out,
        '--batch-size', 2, '--device', 'cpu', cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-3000:]  # one is broken
    assert 'predicted semseg, depth, normals, edge, sal of 6 picture(s)' in done.stdout
    assert 'skipped 1:\n' in done.stderr
    assert 'broken.png: ' in done.stderr
    index = json.loads((out / 'predictions.json').read_text())
    names = ['chelsea', 'astronaut', 'more/coffee']
    assert [image['files']['panels'] for image in index['images']] == [f'panels/{name}.png' for name in names]
    assert tuple(index['tasks']) == TASKS
    assert index['tasks']['semseg']['classes'][:2] == ['wall', 'floor']
    assert [(image['height'], image['width']) for image in index['images']] == [(300, 451), (512, 512), (400, 600)]
    for image in index['images']:
        panel = np.asarray(Image.open(out / image['files']['panels']))
        assert panel.shape[1] > 6 * 160
        assert panel.std() > 20
    normals = np.load(out / 'normals' / 'more' / 'coffee.npy')
    assert normals.shape == (400, 600, 3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-4)
    (video,) = index['videos']
    capture = cv2.VideoCapture(str(out / video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert capture.read()[1].std() > 20


def test_options_reach_the_inferencer(trained, folder, tmp_path, capsys):
    arguments = [*TINY, ROOMS, str(trained / 'iter_2.pth'), str(folder / 'astronaut.png'), '--out', str(tmp_path / 'o')]
    options = '--mode slide --crop-size 64,96 --stride 64x48 --resize 128,128 --tta --tasks depth,edge --no-panels'
    assert infer.main([*arguments, *options.split(), '--device', 'cpu']) == 0
    assert 'predicted depth, edge of 1 picture(s)' in capsys.readouterr().out
    index = json.loads((tmp_path / 'o' / 'predictions.json').read_text())
    assert index['settings'] == dict(
        mode='slide', crop_size=[64, 96], stride=[64, 48], flip_tta=True, tasks=['depth', 'edge'], resize=[128, 128]
    )
    assert sorted(path.name for path in (tmp_path / 'o').iterdir()) == ['depth', 'edge', 'predictions.json']
    assert np.asarray(Image.open(tmp_path / 'o' / 'depth' / 'astronaut.png')).shape == (512, 512)


@pytest.mark.parametrize('wrong', [['--crop-size', '96'], ['--resize', 'fill'], ['--batch-size', '0']])
def test_wrong_options_are_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        infer.main(['config.py', 'model.pth', 'photo.png', '--out', 'out', *wrong])
    assert wrong[0] in capsys.readouterr().err
