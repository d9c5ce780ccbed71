"""NYUD-v2 out of the official file and out of a plain folder."""

import json
import os

import cv2
import h5py
import numpy as np
import pytest

from mtl_plugins.__main__ import run
from mtl_plugins.cli.prepare_nyuv2 import main
from mtl_plugins.cli.verify import main as verify
from mtl_plugins.datasets import NYUDv2Dataset
from mtl_plugins.datasets.nyud import layout
from mtl_plugins.datasets.nyud.geometry import KINECT, fit_normals, label_borders
from mtl_plugins.datasets.nyud.sources import official_tables
from tests.support.tiny import MODEL

SIZE = (120, 160)
NUMBERS = (1, 2, 3, 4, 5, 1449)  # 1, 2 and 1449 belong to the test set


def scene(number):
    """Image, depth of a slanted wall in steps of the 8-bit files, labels as in a plain folder."""
    rng = np.random.default_rng(number)
    image = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), SIZE[::-1])
    depth8 = np.rint(np.linspace(40, 120, SIZE[1])[None] + rng.integers(0, 20, (SIZE[0], 1))).astype(np.uint8)
    labels = np.repeat(np.repeat(rng.integers(0, 40, (4, 4), dtype=np.uint8), 30, 0), 40, 1)
    return image, depth8, labels


def plain_folder(root, numbers=NUMBERS):
    for folder in ('images', 'depth', 'labels40'):
        (root / folder).mkdir(parents=True)
    for number in numbers:
        image, depth, labels = scene(number)
        cv2.imwrite(f'{root}/images/{number:04d}.png', image)
        cv2.imwrite(f'{root}/depth/{number:04d}.png', depth)
        cv2.imwrite(f'{root}/labels40/{number:04d}.png', labels)
    return root


def official_file(path, folder):
    """The arrays of a plain folder of images 1 to N as the official file holds them: axes reversed, metres, labels."""
    files = sorted((folder / 'images').iterdir())
    classes = [0, *official_tables()['classes_40']]
    label_of = np.array([classes.index(number) for number in range(1, 40)] + [0], np.uint16)  # 39: not labelled
    with h5py.File(path, 'w') as file:
        images = [cv2.imread(str(each))[..., ::-1].transpose(2, 1, 0) for each in files]
        depths = [cv2.imread(f'{folder}/depth/{each.name}', -1).T / np.float32(25.5) for each in files]
        labels = [label_of[cv2.imread(f'{folder}/labels40/{each.name}', -1)].T for each in files]
        for name, arrays in dict(images=images, depths=depths, rawDepths=depths, labels=labels).items():
            file[name] = np.stack(arrays)
    return path


def samples(root):
    found = {}
    for split in layout.COUNTS:
        dataset = NYUDv2Dataset(root, split=split, pipeline=[dict(type='mtl_plugins.LoadSampleFiles')])
        for index in range(len(dataset)):
            sample = dataset[index]
            name = os.path.basename(sample['img_path'])
            found[split, name] = {k: v for k, v in sample.items() if isinstance(v, np.ndarray) and v.ndim > 1}
    return found


def test_tables_are_the_official_ones():
    tables = official_tables()
    assert len(tables['test_ids']) == layout.COUNTS['val'] == len(set(tables['test_ids']))
    assert min(tables['test_ids']) >= 1
    assert max(tables['test_ids']) <= sum(layout.COUNTS.values())
    assert len(tables['classes_40']) == 894
    assert set(tables['classes_40']) == set(range(1, 41))
    assert tables['classes_40'][20] == 1
    assert tables['classes_40'][10] == 2


def test_official_file_and_plain_folder_give_the_same_samples(tmp_path, capsys):
    folder = plain_folder(tmp_path / 'plain', numbers=range(1, 7))
    file = official_file(tmp_path / 'nyu_depth_v2_labeled.mat', folder)
    assert main([str(folder), str(tmp_path / 'a'), '-j', '1']) == 0
    assert main([str(file), str(tmp_path / 'b'), '-j', '2']) == 0
    first, second = samples(tmp_path / 'a'), samples(tmp_path / 'b')
    assert first.keys() == second.keys()
    assert len(first) == 6
    for key, sample in first.items():
        assert sorted(sample) == ['gt_depth', 'gt_edge', 'gt_normals', 'gt_semseg', 'img']
        for field, array in sample.items():
            np.testing.assert_array_equal(array, second[key][field], err_msg=f'{key} {field}')
    capsys.readouterr()
    for root in ('a', 'b'):
        assert verify(['nyud', str(tmp_path / root), '--no-hash', '-j', '1']) == 0
        assert 'normals and edges are derived' in capsys.readouterr().out


def test_samples_hold_what_the_source_holds(tmp_path):
    folder = plain_folder(tmp_path / 'plain')
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('*')}
    main([str(folder), str(tmp_path / 'out'), '-j', '1'])
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob('*')}, 'the source was written to'
    found = samples(tmp_path / 'out')
    assert sorted(found) == sorted(
        [(split, f'{n:04d}.png') for n in NUMBERS for split in [('train', 'val')[n in official_tables()['test_ids']]]]
    )
    height, width = (round(length / 4) for length in layout.SIZE)
    inside = slice(11, 11 + height), slice(10, 10 + width)
    for (_, name), sample in found.items():
        image, depth, labels = (array[inside] for array in scene(int(name[:4])))
        np.testing.assert_array_equal(sample['img'], image)
        np.testing.assert_allclose(sample['gt_depth'].squeeze(), depth / 25.5, rtol=1e-6)
        np.testing.assert_array_equal(sample['gt_semseg'].squeeze(), np.where(labels == 39, 255, labels))
    provenance = json.loads((tmp_path / 'out/provenance.json').read_text())
    assert provenance['source']['kind'] == 'plain folder'
    assert set(provenance['derived']) == {'normals', 'edge'}


def test_interrupted_run_goes_on(tmp_path):
    folder = plain_folder(tmp_path / 'plain')
    main([str(folder), str(tmp_path / 'whole'), '-j', '1'])
    main([str(folder), str(tmp_path / 'cut'), '-j', '1'])
    # As after a kill while sample 4 was written: some of its targets, a half-written file, no image, no split files.
    for path in ('images/0004.png', 'depth/0004.npy', 'gt_sets/train.txt'):
        (tmp_path / 'cut' / path).unlink()
    (tmp_path / 'cut/edge/0004.png').write_bytes(b'half')
    kept = (tmp_path / 'cut/images/0003.png').stat().st_mtime_ns
    assert main([str(folder), str(tmp_path / 'cut'), '-j', '1']) == 0
    assert (tmp_path / 'cut/images/0003.png').stat().st_mtime_ns == kept
    files = [path.relative_to(tmp_path / 'whole') for path in (tmp_path / 'whole').rglob('*') if path.is_file()]
    assert sorted(files) == sorted(
        p.relative_to(tmp_path / 'cut') for p in (tmp_path / 'cut').rglob('*') if p.is_file()
    )
    assert all((tmp_path / 'whole' / each).read_bytes() == (tmp_path / 'cut' / each).read_bytes() for each in files)


def no_source(folder, out):
    return folder / 'nowhere', out


def missing_labels(folder, out):
    (folder / 'labels40/0003.png').unlink()
    return folder, out


def missing_folder(folder, out):
    (folder / 'depth').rename(folder / 'disparity')
    return folder, out


def another_size(folder, out):
    cv2.imwrite(str(folder / 'depth/0003.png'), np.ones((60, 80), np.uint8))
    return folder, out


def colour_depth(folder, out):
    cv2.imwrite(str(folder / 'depth/0003.png'), np.ones((*SIZE, 3), np.uint8))
    return folder, out


def no_hdf5(folder, out):
    (folder / 'nyu_depth_v2_labeled.mat').write_bytes(b'MATLAB 5.0 MAT-file' + bytes(200))
    return folder / 'nyu_depth_v2_labeled.mat', out


def cut_depth(folder, out):
    path = folder / 'depth' / '0003.png'
    path.write_bytes(path.read_bytes()[:-60])  # decoders give the upper part of it
    return folder, out


def another_mat(folder, out):
    with h5py.File(folder / 'other.mat', 'w') as file:
        file['images'] = np.zeros((2, 3, 8, 6), np.uint8)
    return folder / 'other.mat', out


def occupied(folder, out):
    out.mkdir()
    (out / 'thesis.tex').write_text('')
    return folder, out


def inside_the_source(folder, _):
    return folder, folder / 'out'


def out_is_a_file(folder, out):
    out.write_text('')
    return folder, out


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        (no_source, 'there is no'),
        (missing_labels, '0003 has none in labels40'),
        (missing_folder, 'there is no depth'),
        (another_size, 'depth/0003.png: expected 120 x 160'),
        (colour_depth, 'depth/0003.png: expected a PNG of 8-bit grey values'),
        (cut_depth, 'depth/0003.png: expected a PNG of 16-bit grey values, but found a PNG that is truncated'),
        (no_hdf5, 'Download it again'),
        (another_mat, 'labelled file of NYU Depth v2'),
        (occupied, 'it holds other files'),
        (inside_the_source, 'lies in the source'),
        (out_is_a_file, 'it is a file'),
    ],
    ids=lambda value: getattr(value, '__name__', None),
)
def test_refuses_in_one_sentence(damage, said, tmp_path, capsys):
    source, out = damage(plain_folder(tmp_path / 'plain'), tmp_path / 'out')
    assert run('prepare-nyuv2', [str(source), str(out), '-j', '1']) == 1
    error = capsys.readouterr().err
    assert said in error
    assert 'Traceback' not in error
    assert not list(tmp_path.glob('**/gt_sets'))


@pytest.mark.parametrize('seed', range(6))
def test_normals_of_a_plane(seed):
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=3)
    normal[2] = abs(normal[2]) + 0.5
    normal /= np.linalg.norm(normal)
    camera = KINECT.scaled(0.25)
    x = (np.arange(SIZE[1]) - camera.cx) / camera.fx
    y = -(np.arange(SIZE[0])[:, None] - camera.cy) / camera.fy
    inverse = (normal[2] - normal[0] * x - normal[1] * y) / 2
    depth = np.where(inverse > 0.1, 1 / np.maximum(inverse, 0.1), 0)
    fitted = fit_normals(depth, camera)
    known = fitted.any(-1)
    assert known.sum() > 0.9 * (depth > 0).sum()
    assert np.degrees(np.arccos(np.clip(fitted[known] @ normal, -1, 1))).max() < 0.1
    noisy = fit_normals(depth * (1 + 1e-3 * rng.normal(size=SIZE)), camera)
    error = np.degrees(np.arccos(np.clip(noisy[known] @ normal, -1, 1)))
    assert np.median(error) < 10


def test_normals_at_the_border_of_two_surfaces_mix_nothing():
    depth = np.full(SIZE, 2.0)
    depth[:, 80:] = 3.0
    depth[:10] = 0
    fitted = fit_normals(depth, KINECT.scaled(0.25))
    known = fitted.any(-1)
    assert known[20:, 75:85].all()
    assert not known[:10].any()
    np.testing.assert_allclose(fitted[known], np.broadcast_to([0, 0, 1], (known.sum(), 3)), atol=1e-4)


def test_normals_of_rendered_rooms():
    """The camera of Rooms is another one; its normals are exact."""
    from mtl_plugins.datasets.nyud.geometry import Camera
    from mtl_plugins.datasets.rooms import render_room

    room = render_room('train', 0, (96, 128), 0)
    normals, depth = room['gt_normals'], room['gt_depth']
    best = 0
    for focal in np.linspace(60, 160, 11):
        fitted = fit_normals(depth, Camera(focal, focal, 63.5, 47.5))
        known = fitted.any(-1) & normals.any(-1)
        best = max(best, float((fitted * normals).sum(-1)[known].mean()))
    assert best > 0.95


def test_borders_of_labels():
    labels = np.ones((30, 560), np.uint8)
    labels[:, 200:] = 2
    edges = label_borders(labels)
    assert edges[:, 199].all()
    assert edges.sum() == 30
    labels[:, 196:204] = 0  # a strip without label between two objects is one border
    assert label_borders(labels).sum() == 30
    labels[:, 150:204] = 0  # a region is a region
    assert label_borders(labels).sum() == 60
    assert not label_borders(np.zeros((5, 6), np.uint8)).any()


def test_real_images_from_the_source_to_metrics(real_data, tmp_path, capsys):
    """prepare -> verify -> train -> test on ten real images."""
    source = tmp_path / 'nyuv2'
    for folder in ('images', 'depth', 'labels40'):
        (source / folder).mkdir(parents=True)
        for number in (1, 2, 3, 4, 5, 8, 9, 11, 13, 14):
            (original,) = (real_data / 'nyuv2' / folder).glob(f'{number:04d}.*')
            (source / folder / original.name).symlink_to(original)
    root = tmp_path / 'NYUDv2'
    assert run('prepare-nyuv2', [str(source), str(root), '-j', '1']) == 0
    assert run('verify', ['nyud', str(root), '--no-hash', '-j', '1']) == 0
    report = capsys.readouterr().out
    agreement = float(report.split('mean cosine ')[1].split(')')[0])
    assert agreement > 0.9, 'the normals do not fit the depth'
    config = 'configs/nyud/gd_vit-tiny_1xb8-40k_nyud-448x576.py'
    loading = ('batch_size=1', 'num_workers=0', 'persistent_workers=False')
    options = [
        'model.backbone.pretrained=False',
        'model.backbone.model_name=vit_tiny_patch16_224',
        *(f'model.backbone.{name}={value}'.replace(' ', '') for name, value in MODEL.items()),
        *(f'{split}_dataloader.{key}' for split in ('train', 'val', 'test') for key in loading),
        *(f'{split}_evaluator.metrics.3.thresholds=[0.3,0.6]' for split in ('val', 'test')),
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
    ]
    data = ['--data-root', str(root), '--cfg-options', *options]
    assert run('train', [config, '--work-dir', str(tmp_path / 'run'), *data]) == 0
    out = tmp_path / 'test'
    assert run('test', [config, str(tmp_path / 'run/iter_2.pth'), '--work-dir', str(out), *data]) == 0
    (entry,) = json.loads((tmp_path / 'run/metrics.json').read_text())
    metrics = ['semseg/mIoU', 'depth/RMSE', 'normals/mean', 'edge/odsF']
    assert np.isfinite([entry['metrics'][metric] for metric in metrics]).all()


def test_tables_made_from_derived_targets_say_so(tmp_path, capsys):
    main([str(plain_folder(tmp_path / 'plain')), str(tmp_path / 'NYUDv2'), '-j', '1'])
    options = ['--work-dir', str(tmp_path / 'runs'), '--out', str(tmp_path / 'table.md'), '--data-root', str(tmp_path)]
    assert run('reproduce', ['nyud-vit-t', *options]) == 0
    assert 'normals and edges are derived' in capsys.readouterr().out
    assert 'normals and edges are derived' in (tmp_path / 'table.md').read_text()
