import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from PIL import Image

from mtl_plugins.cli.parsers.infer import build_parser
from mtl_plugins.datasets.photo_files import UnreadablePhotoError
from mtl_plugins.datasets.transforms import MultiTaskPad, PackMultiTaskInputs
from mtl_plugins.errors import UserError, UserOSError
from mtl_plugins.inference import MultiTaskInferencer
from mtl_plugins.inference.inferencer import Prediction
from mtl_plugins.inference.options import OPTIONS
from mtl_plugins.inference.sources import Inputs
from mtl_plugins.registry import INFERENCERS
from mtl_plugins.runtime.checkpoints import UnsafeCheckpointError

from .inference_cases import META, SIZE, TASKS, photos, tiny, write

__all__ = ['photos', 'tiny']  # fixtures


@pytest.fixture(scope='module')
def inferencer(tiny):
    return INFERENCERS.build(
        dict(type='mtl_plugins.MultiTaskInferencer', model=tiny[0], weights=tiny[1], device='cpu', show_progress=False)
    )


def only(result):
    (prediction,) = result['predictions']
    return prediction


def test_maps_have_the_size_of_the_picture_and_their_meaning(inferencer, photos, tmp_path):
    for path, rgb in zip(write(tmp_path, photos), photos.values()):
        maps = only(inferencer(str(path)))
        assert tuple(maps) == TASKS
        size = rgb.shape[:2]
        assert maps['semseg'].shape == maps['depth'].shape == maps['edge'].shape == size
        assert maps['normals'].shape == (*size, 3)
        assert maps['principal_curvature'].shape == (*size, 2)
        assert maps['semseg'].dtype == np.uint8
        assert maps['semseg'].max() < 4
        assert 0 <= maps['edge'].min() <= maps['edge'].max() <= 1
        assert maps['depth'].min() >= 0
        np.testing.assert_allclose(np.linalg.norm(maps['normals'], axis=-1), 1, atol=1e-5)


def test_predictions_are_those_of_the_evaluation(inferencer, photos):
    """A picture that fits into the training size goes through the network as the test pipeline sends it."""
    bgr = np.ascontiguousarray(photos['chelsea'][..., ::-1])
    results = MultiTaskPad(SIZE, pad_targets=False).transform(dict(img=bgr, ori_shape=bgr.shape[:2]))
    packed = PackMultiTaskInputs().transform(results)
    with torch.no_grad():
        (sample,) = inferencer.model.test_step(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))
    (mine,) = inferencer(bgr, return_datasamples=True)['predictions']
    for task in TASKS:
        assert torch.equal(mine.get(f'pred_{task}').data, sample.get(f'pred_{task}').data), task


def test_paths_lists_folders_and_arrays_of_both_orders_agree(inferencer, photos, tmp_path):
    paths = write(tmp_path, photos)
    runs = [
        inferencer([str(path) for path in paths]),
        inferencer(tmp_path),
        inferencer(list(photos.values()), channel_order='rgb'),
        inferencer([rgb[..., ::-1] for rgb in photos.values()], batch_size=3),
        {'predictions': [only(inferencer(path)) for path in paths]},
    ]
    for run in runs[1:]:
        for a, b in zip(runs[0]['predictions'], run['predictions'], strict=True):
            for task in TASKS:
                np.testing.assert_array_equal(a[task], b[task])
    assert runs[1]['sources'] == [str(path) for path in paths]


def test_the_batch_does_not_change_predictions(inferencer, photos):
    images = [photos['astronaut'], photos['chelsea'], photos['coffee'], photos['chelsea'][:, ::-1], photos['coffee']]
    for options in ({}, dict(mode='slide', resize='none'), dict(flip_tta=True)):
        alone, together = (inferencer(images, batch_size=size, **options)['predictions'] for size in (1, 4))
        for a, b in zip(alone, together):
            for task in TASKS:
                if task == 'semseg':
                    assert (a[task] != b[task]).mean() < 1e-3
                else:
                    np.testing.assert_allclose(a[task], b[task], atol=2e-5)


def test_resizing(inferencer, photos):
    shapes = []
    inferencer.model.backbone.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape[-2:])))
    large = np.kron(photos['astronaut'], np.ones((2, 2, 1), np.uint8))  # 120 x 120
    for options, expected in (
        ({}, SIZE),
        (dict(resize='none'), (120, 120)),
        (dict(resize=(20, 90)), (32, 96)),
        (dict(mode='slide'), SIZE),
        (dict(mode='slide', crop_size=(57, 60)), (64, 64)),
    ):
        shapes.clear()
        maps = only(inferencer(large, **options))
        assert set(shapes) == {expected}, options
        assert maps['depth'].shape == (120, 120)
    assert len(shapes) > 1
    with pytest.raises(ValueError, match=r"resize must be 'fit', 'none' or \(height, width\), but got 'fill'"):
        inferencer(large, resize='fill')


def test_a_mirrored_picture_gives_mirrored_predictions_under_tta(inferencer, photos):
    picture = photos['chelsea'][:, :40]  # an even border left and right
    a, b = (only(inferencer(np.ascontiguousarray(one), flip_tta=True)) for one in (picture, picture[:, ::-1]))
    np.testing.assert_allclose(a['depth'], b['depth'][:, ::-1], atol=1e-5)
    np.testing.assert_allclose(a['normals'], b['normals'][:, ::-1] * [-1, 1, 1], atol=1e-5)


def test_files_say_what_the_arrays_say(inferencer, photos, tmp_path):
    write(tmp_path / 'in', {'chelsea': photos['chelsea']})
    write(tmp_path / 'in' / 'deep', {'chelsea': photos['coffee']})
    Image.fromarray(photos['astronaut']).save(tmp_path / 'in' / 'chelsea.jpg', quality=95)
    (tmp_path / 'in' / 'broken.png').write_bytes((tmp_path / 'in' / 'chelsea.png').read_bytes()[:300])
    (tmp_path / 'in' / 'notes.txt').write_text('no picture')
    out = tmp_path / 'out'
    result = inferencer(str(tmp_path / 'in'), out_dir=out, keep=True, return_vis=True)
    index = json.loads((out / 'predictions.json').read_text())
    (skipped,) = index['skipped']
    assert skipped['source'].endswith('broken.png')
    assert result['skipped'] == [(skipped['source'], skipped['reason'])]
    assert [image['source'] for image in index['images']] == result['sources']
    names = [image['files']['panels'] for image in index['images']]
    assert names == ['panels/chelsea.png', 'panels/chelsea_png.png', 'panels/deep/chelsea.png']
    assert index['tasks']['semseg']['classes'] == list(META['classes']['semseg'])
    assert index['tasks']['depth']['unit'] == 'm'
    assert index['settings']['resize'] == 'fit'
    for image, maps, panel in zip(index['images'], result['predictions'], result['visualization'], strict=True):
        files = {name: out / path for name, path in image['files'].items()}
        np.testing.assert_array_equal(np.asarray(Image.open(files['panels'])), panel)
        np.testing.assert_array_equal(cv2.imread(str(files['semseg']), cv2.IMREAD_UNCHANGED), maps['semseg'])
        depth = cv2.imread(str(files['depth']), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
        np.testing.assert_allclose(depth / 1000, maps['depth'], atol=0.0006)
        edge = cv2.imread(str(files['edge']), cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(edge / 255, maps['edge'], atol=0.002)
        for task in ('normals', 'principal_curvature'):
            np.testing.assert_array_equal(np.load(files[task], allow_pickle=False), maps[task])
        assert (image['height'], image['width']) == maps['depth'].shape


def test_depth_beyond_the_range_of_the_file_saturates(tmp_path):
    from mtl_plugins.inference.files import save_map
    from mtl_plugins.task_specs import get_task_spec

    path = save_map(get_task_spec('depth'), np.array([[0.0, 1.2344, 70.0]], np.float32), tmp_path / 'a.b')
    assert path.name == 'a.b.png'
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tolist() == [[0, 1234, 65535]]


def test_what_is_written_is_not_kept_by_default(inferencer, photos, tmp_path):
    paths = write(tmp_path, photos)
    assert inferencer(paths, out_dir=tmp_path / 'a')['predictions'] == []
    assert len(inferencer(paths[0], out_dir=tmp_path / 'a')['predictions']) == 1
    result = inferencer(paths, out_dir=tmp_path / 'b', raw=False)
    assert {path.name for path in (tmp_path / 'b').iterdir()} == {'panels', 'predictions.json'}
    assert result['outputs'] == [str(tmp_path / 'b' / name) for name in ('panels', 'predictions.json')]
    result = inferencer(paths, out_dir=tmp_path / 'c', panels=False, return_vis=True)
    assert len(result['visualization']) == 3
    assert {path.name for path in (tmp_path / 'c').iterdir()} == {*TASKS, 'predictions.json'}


def test_files_of_earlier_calls_stay_and_are_told(inferencer, photos, clip, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mtl_plugins.inference.files.print_log', lambda text, *_: said.append(text))
    paths = write(tmp_path, photos)
    there = 0
    for inputs, options in (
        (paths, {}),  # nothing was there
        (paths, {}),  # all are replaced
        (paths[:2], {}),
        (paths[0], dict(panels=False)),
        (clip, dict(raw=False)),
    ):
        result = inferencer(inputs, out_dir=tmp_path / 'out', **options)
        files = {path for path in (tmp_path / 'out').rglob('*') if path.is_file()}
        written = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
        ours = 1 + len(written['videos']) + sum(len(image['files']) for image in written['images'])
        assert len(files) - ours == (int(said.pop().split(': ')[-1].split()[0]) if len(files) > ours else 0)
        assert not said
        assert len(files) >= there
        assert result['outputs']
        there = len(files)


@pytest.fixture
def clip(tmp_path, photos):
    """A video of 9 frames at 12 frames per second, a square moving right."""
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 12, (48, 32))
    for index in range(9):
        frame = np.full((32, 48, 3), 60, np.uint8)
        frame[8:24, 4 * index : 4 * index + 12] = (20, 200, 240)
        writer.write(frame)
    writer.release()
    return path


def test_a_video_becomes_a_video(inferencer, clip, tmp_path):
    out = tmp_path / 'out'
    result = inferencer(clip, out_dir=out, batch_size=4, return_vis=True)
    assert len(result['sources']) == 9
    assert result['predictions'] == []
    index = json.loads((out / 'predictions.json').read_text())
    assert index['images'] == []
    (name,) = index['videos']
    assert {path.name for path in out.iterdir()} == {name, 'predictions.json'}
    capture = cv2.VideoCapture(str(out / name))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1].astype(int))
    assert len(frames) == 9
    for frame, panel in zip(frames, result['visualization']):
        assert np.abs(frame - panel[: frame.shape[0], : frame.shape[1]]).mean() < 12
    assert np.abs(frames[0] - frames[-1]).mean() > 1


def test_frames_have_one_size_whatever_they_show(inferencer, clip, monkeypatch):
    monkeypatch.setattr(inferencer, 'meta', {})  # more classes than those of the dataset
    entry = next(iter(Inputs([clip])))
    rng, sizes = np.random.default_rng(0), set()
    for classes in (1, 12, 40):
        sample = {f'pred_{task}': np.zeros((1, 64, 64), np.float32) for task in TASKS}
        sample['pred_semseg'] = rng.integers(0, classes, (1, 64, 64)).astype(np.uint8)
        sample['pred_normals'] = np.ones((3, 64, 64), np.float32)
        sample['pred_principal_curvature'] = np.zeros((2, 64, 64), np.float32)
        picture = [(entry, np.zeros((64, 64, 3), np.uint8))]
        sizes.add(inferencer.visualize(picture, [Prediction(entry, sample)])[0].shape)
    assert len(sizes) == 1


def test_frames_of_a_video(inferencer, clip, tmp_path):
    out = tmp_path / 'out'
    result = inferencer(clip, out_dir=out, fps=4, frames=True, keep=True)
    assert sorted(path.name for path in (out / 'depth' / 'clip').iterdir()) == [
        '000000.png',
        '000003.png',
        '000006.png',
    ]
    assert len(result['predictions']) == 3
    capture = cv2.VideoCapture(str(next(path for path in out.iterdir() if path.stem == 'clip')))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(4)


def test_without_an_encoder_for_mp4_it_is_an_avi(inferencer, clip, tmp_path, monkeypatch):
    from mtl_plugins.inference import video

    monkeypatch.setattr(video, 'CODECS', (('.mp4', '????'), *video.CODECS[1:]))
    result = inferencer(clip, out_dir=tmp_path / 'out', raw=False)
    assert result['outputs'][0] == str(tmp_path / 'out' / 'clip.avi')
    assert not (tmp_path / 'out' / 'clip.mp4').exists()
    assert cv2.VideoCapture(result['outputs'][0]).get(cv2.CAP_PROP_FRAME_COUNT) == 9
    monkeypatch.setattr(video, 'CODECS', (('.mp4', '????'),))
    with pytest.raises(OSError, match='neither as mp4 nor as avi'):
        inferencer(clip, out_dir=tmp_path / 'out')


def test_a_video_that_lacks_frames_is_no_success(inferencer, clip, tmp_path, monkeypatch):
    class FullDisk:
        """As OpenCV where it can no longer write: no frame, and no error."""

        def __init__(self, *args, writer=cv2.VideoWriter):
            self.writer = writer(*args)
            self.isOpened, self.release = self.writer.isOpened, self.writer.release
            self.left = 1

        def write(self, frame):
            if self.left:
                self.writer.write(frame)
            self.left = 0

    monkeypatch.setattr(cv2, 'VideoWriter', FullDisk)
    with pytest.raises(OSError, match=r'holds 1 of .* frames; check the free space'):
        inferencer(clip, out_dir=tmp_path)
    assert (tmp_path / 'predictions.json').exists()


def test_all_frames_share_the_scale_of_colours(inferencer, clip, monkeypatch):
    from mtl_plugins.inference import inferencer as module

    spans = []
    original = module.prediction_panel
    monkeypatch.setattr(
        module,
        'prediction_panel',
        lambda *args, **kwargs: spans.append(kwargs['meta']['value_ranges']) or original(*args, **kwargs),
    )
    inferencer(clip, return_vis=True)
    assert len(spans) == 9
    assert all(span == spans[0] for span in spans)
    assert {'depth', 'principal_curvature'} <= set(spans[0])


def test_chosen_tasks(tiny, photos, inferencer):
    some = MultiTaskInferencer(*tiny, device='cpu', tasks=['normals', 'depth'])
    maps = only(some(photos['coffee']))
    assert tuple(maps) == ('normals', 'depth')
    np.testing.assert_array_equal(maps['depth'], only(inferencer(photos['coffee']))['depth'])
    with pytest.raises(KeyError, match='the model has no head for sal'):
        MultiTaskInferencer(*tiny, device='cpu', tasks=['sal'])


def test_a_config_that_was_read_already(tiny, photos, inferencer):
    cfg = Config.fromfile(tiny[0])
    for model in (cfg, cfg.to_dict(), Path(tiny[0])):
        maps = only(MultiTaskInferencer(model, tiny[1], device='cpu')(photos['coffee']))
        np.testing.assert_array_equal(maps['depth'], only(inferencer(photos['coffee']))['depth'])
    options = {'model.test_cfg.mode': 'slide', 'model.test_cfg.crop_size': (16, 16)}
    slid = MultiTaskInferencer(cfg, tiny[1], 'cpu', cfg_options=options)
    assert slid.settings().crop_size == (16, 16)
    assert slid.settings(mode='whole').mode == 'whole'
    assert 'test_cfg' not in cfg.model


def test_a_single_task_checkpoint_with_the_config_of_all_tasks(tiny, photos, tmp_path, inferencer):
    checkpoint = CheckpointLoader.load_checkpoint(tiny[1], map_location='cpu')
    state = checkpoint['state_dict']
    kept = {key: value for key, value in state.items() if not key.startswith('heads.') or '.depth.' in key}
    torch.save(dict(state_dict={f'module.{key}': value for key, value in kept.items()}), tmp_path / 'one.pth')
    single = MultiTaskInferencer(tiny[0], tmp_path / 'one.pth', device='cpu')
    maps = only(single(photos['coffee']))
    assert tuple(maps) == ('depth',)
    np.testing.assert_array_equal(maps['depth'], only(inferencer(photos['coffee']))['depth'])


def test_weights_that_do_not_fit_are_refused(tiny, tmp_path):
    state = CheckpointLoader.load_checkpoint(tiny[1], map_location='cpu')['state_dict']
    first = next(iter(state))
    torch.save({key: value for key, value in state.items() if key != first}, tmp_path / 'less.pth')
    with pytest.raises(ValueError, match=f'no weights for: {first}. Take the config'):
        MultiTaskInferencer(tiny[0], tmp_path / 'less.pth')
    torch.save({key: value[..., :1] if key == first else value for key, value in state.items()}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='other shapes than the model'):
        MultiTaskInferencer(tiny[0], tmp_path / 'other.pth')
    torch.save({**state, 'ema.x': torch.ones(1)}, tmp_path / 'more.pth')
    MultiTaskInferencer(tiny[0], tmp_path / 'more.pth', device='cpu')


class Evil:
    def __reduce__(self):
        return print, ('code ran',)


def test_weights_that_are_no_numbers_are_refused(tiny, tmp_path):
    checkpoint = torch.load(tiny[1], weights_only=True)
    checkpoint['state_dict']['heads.depth.predictor.conv.weight'][0, 0] = np.nan
    torch.save(checkpoint, tmp_path / 'diverged.pth')
    with pytest.raises(UserError, match=r'diverged.pth: 1 weights are not numbers .*example heads.depth.predictor'):
        MultiTaskInferencer(tiny[0], tmp_path / 'diverged.pth')


def test_a_checkpoint_with_code_is_refused(tiny, tmp_path, capsys):
    torch.save(dict(state_dict={}, extra=Evil()), tmp_path / 'evil.pth')
    with pytest.raises(UnsafeCheckpointError):
        MultiTaskInferencer(tiny[0], tmp_path / 'evil.pth')
    assert 'code ran' not in capsys.readouterr().out


def test_wrong_arguments_are_named(tiny, inferencer, photos, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'similar name: stgu_vit-micro_8b-2k_rooms-96'):
        MultiTaskInferencer('stgu_vit-micro_8b-2k_rooms-9', tiny[1])
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at gone\.pth'):
        MultiTaskInferencer(tiny[0], 'gone.pth')
    with pytest.raises(TypeError, match='tasks must be several names'):
        MultiTaskInferencer(*tiny, tasks='depth')
    with pytest.raises(ValueError, match=r"device 'cuda:63' cannot be used .* device='cpu' always can"):
        MultiTaskInferencer(*tiny, device='cuda:63')
    with pytest.raises(ValueError, match=r'crop_size must be two whole numbers .* but got \(8, 8, 8\)'):
        inferencer(photos['coffee'], mode='slide', crop_size=(8, 8, 8))
    with pytest.raises(UserError, match=r"crop_size and stride .* give mode='slide', too"):
        inferencer(photos['coffee'], crop_size=(8, 8))
    with pytest.raises(FileNotFoundError, match=r'input gone\.jpg does not exist'):
        inferencer('gone.jpg')
    with pytest.raises(ValueError, match=r'shape \(H, W, 3\) and the type uint8 .* this one has \(4, 4\) and float64'):
        inferencer(np.zeros((4, 4)))
    with pytest.raises(TypeError, match='input 1: expected the path of a picture'):
        inferencer([photos['coffee'], 3])
    with pytest.raises(ValueError, match='there is no picture in'):
        inferencer(tmp_path)
    with pytest.raises(ValueError, match="channel_order must be 'bgr' or 'rgb'"):
        inferencer(photos['coffee'], channel_order='gbr')
    (tmp_path / 'a.png').write_text('x')
    (tmp_path / 'a.mp4').write_text('x')
    with pytest.raises(UnreadablePhotoError, match=r'none of the inputs can be read:\n  .*a\.png'):
        inferencer(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='cannot read the video'):
        inferencer(tmp_path / 'a.mp4')
    with pytest.raises(UserOSError, match='is a file; give a folder'):
        inferencer(photos['coffee'], out_dir=tmp_path / 'a.png')


# What no argument of a kind can be, and for each argument one value more.
WRONG = {
    'batch_size': (0, 1.5, True, 'x', None),
    'columns': (0, -1, 2.0),
    'fps': ('x', 0, -1, float('nan'), True, [1]),
    'resize': (3, 'fill', (0, 5), (5,), (5.5, 5), None),
    'crop_size': (5, (8, 8, 8), (8, -8)),
    'stride': ('a,b', [8, None]),
    'mode': ('half', 3),
    'channel_order': ('gbr', None),
    'out_dir': ('', '  ', 3),
    'tasks': ([], [''], [3], 3, {'depth': 1}),
    **dict.fromkeys([name for name, check in OPTIONS.items() if check is OPTIONS['raw']], ('False', 0)),
    **dict.fromkeys(('flip_tta', 'keep'), ('False', 0)),
}


def test_every_argument_refuses_what_it_cannot_be(tiny, inferencer, photos, capsys):
    assert set(WRONG) == set(OPTIONS)
    parser = build_parser()
    commands = {option: action for action in parser._actions for option in action.option_strings if action.type}
    for name, values in WRONG.items():
        for value in values:
            made_with = name in ('tasks', 'show_progress')
            call, given = (MultiTaskInferencer, tiny) if made_with else (inferencer, [photos['coffee']])
            with pytest.raises(UserError, match=f'^{name} must be .*but got'):
                call(*given, **{name: value})
        option = f'--{name.replace("_", "-")}'
        texts = [value for value in values if isinstance(value, str)] if option in commands else []
        for text in texts:
            with pytest.raises(SystemExit):
                parser.parse_args(['c.py', 'x.pth', 'a.png', '--out', 'out', option, text])
            assert f'argument {option}: expected ' in capsys.readouterr().err
    with pytest.raises(UserError, match="unknown argument 'colums': did you mean 'columns'"):
        inferencer(photos['coffee'], colums=3)
    maps = only(inferencer(photos['coffee'], batch_size=np.int64(2), resize=np.array([32, 48]), raw=np.bool_(True)))
    np.testing.assert_array_equal(maps['depth'], only(inferencer(photos['coffee'], resize=(32, 48)))['depth'])


def test_without_weights_it_says_so(tiny, capsys):
    assert MultiTaskInferencer(tiny[0], device='cpu').tasks == TASKS
    assert 'the weights are random' in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('options', [{}, dict(mode='slide', flip_tta=True)])
def test_a_gpu_predicts_the_same(tiny, photos, inferencer, options):
    on_gpu = MultiTaskInferencer(*tiny, device='cuda')
    for image in photos.values():
        a, b = (only(one(image, **options)) for one in (inferencer, on_gpu))
        assert (a['semseg'] != b['semseg']).mean() < 0.01
        np.testing.assert_allclose(a['depth'], b['depth'], atol=1e-2)
        assert (a['normals'] * b['normals']).sum(axis=-1).mean() > 0.999
