"""Targets that mean something else than in training stop a test, a prediction, an export and a resume."""

import json
import shutil
from unittest.mock import patch

import numpy as np
import pytest
import torch

from mtl_plugins.cli import export as export_api
from mtl_plugins.cli import infer as infer_api
from mtl_plugins.cli import test as test_api
from mtl_plugins.cli import train as train_api
from mtl_plugins.config.loading import configs_root
from mtl_plugins.datasets import MultiTaskConcatDataset
from mtl_plugins.datasets.files import learned_frame
from mtl_plugins.datasets.nyud import NYUDv2Dataset
from mtl_plugins.datasets.taskonomy import TaskonomyDataset
from mtl_plugins.errors import UserError
from mtl_plugins.export import ExportedTasks
from mtl_plugins.inference.loading import find_config, load_model
from mtl_plugins.runtime.checkpoints.targets import target_differences
from mtl_plugins.runtime.hooks import TargetCheckHook
from mtl_plugins.visualization import prediction_panel
from tests.support.stand_ins import stand_in

OLD = "('x', '-y', 'z')"
TASKS = ['depth_zbuffer', 'normal']
CONFIG = """
import uuid
experiment_name = uuid.uuid4().hex  # several runs in a second
_base_ = '{base}'
tasks = {tasks}
pipeline = [dict(type='mtl_plugins.LoadSampleFiles'), dict(type='mtl_plugins.PackMultiTaskInputs')]
_dataset = dict(type='mtl_plugins.TaskonomyDataset', data_root='{root}', tasks=tasks, size=(32, 32),
                pipeline=pipeline)
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='mtl_plugins.AbsoluteSampler'),
                        dataset=dict(split='train', **_dataset))
val_dataloader = test_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                                        dataset=dict(split='val', **_dataset))
val_evaluator = test_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', tasks=tasks)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(type='mtl_plugins.TimmViT', img_size=(32, 32), embed_dim=16, depth=1, num_heads=2, patch_size=8,
                  out_indices=(0,)),
    heads=dict(depth_zbuffer=dict(), normal=dict()),
)
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', optimizer=dict(type='SGD', lr=1e-3))
param_scheduler = []
custom_hooks = []
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1000))
log_level = 'ERROR'
"""
WHERE = 'dataloader.dataset.normal_axes'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Config, its run of one iteration, and the checkpoint as earlier versions wrote it."""
    folder = tmp_path_factory.mktemp('targets')
    base = configs_root() / '_base_/default_runtime.py'
    config = folder / 'tiny_targets.py'
    text = CONFIG.format(base=base, root=stand_in('taskonomy'), tasks=TASKS)
    config.write_text(text)
    train_api.main([str(config), '--work-dir', str(folder / 'run'), '--cfg-options', 'train_cfg.max_iters=1'])
    checkpoint = folder / 'run/iter_1.pth'
    state = torch.load(checkpoint, weights_only=True)
    told = state['meta']['dataset_meta'].pop('conventions')
    assert told['taskonomy']['normal'] == dict(masks=True, normal_axes=['x', '-y', '-z'])
    torch.save(state, folder / 'untold.pth')
    return str(config), str(checkpoint), str(folder / 'untold.pth')


def run_test(config, checkpoint, folder, *options):
    test_api.main([config, checkpoint, '--work-dir', str(folder), '--cfg-options', 'load_from=None', *options])


def test_the_same_targets_are_no_matter(trained, tmp_path):
    config, checkpoint, _ = trained
    run_test(config, checkpoint, tmp_path)


def test_a_test_on_other_targets_stops(trained, tmp_path):
    config, checkpoint, _ = trained
    option = f'{WHERE}=x,-y,z'
    with pytest.raises(UserError, match=r'was .* in training and is .* now; test_dataloader.dataset.*restores it'):
        run_test(config, checkpoint, tmp_path, f'test_{option}')
    run_test(config, checkpoint, tmp_path, f'test_{option}', 'default_hooks.target_check.differing=warn')


def test_a_checkpoint_that_does_not_tell_its_axes(trained, tmp_path):
    """Those of the versions with the former default: scored against flipped targets, were there no word."""
    config, _, untold = trained
    with pytest.raises(UserError, match=r"not told by the checkpoint.*default was \('x', '-y', 'z'\)") as caught:
        run_test(config, untold, tmp_path)
    assert 'test_dataloader.dataset.normal_axes=x,-y,z' in str(caught.value)
    run_test(config, untold, tmp_path, f'test_{WHERE}=x,-y,z')


def test_inference_and_export_stop_too(trained, tmp_path):
    config, _, untold = trained
    photo = str(next(stand_in('taskonomy').rglob('*rgb.png')))
    arguments = [config, untold, photo, '--out', str(tmp_path)]
    with pytest.raises(UserError, match=r'train_dataloader.dataset.normal_axes=x,-y,z'):
        infer_api.main(arguments)
    infer_api.main([*arguments, '--cfg-options', f'train_{WHERE}=x,-y,z'])
    told = json.loads((tmp_path / 'predictions.json').read_text())['tasks']['normal']['values']
    assert told.endswith(': x right, y up, z away from the viewer')
    infer_api.main([*arguments, '--tasks', 'depth_zbuffer'])  # whose targets are not in question
    with pytest.raises(UserError, match=r'train_dataloader.dataset.normal_axes=x,-y,z'):
        export_api.main([config, untold, '--out', str(tmp_path / 'model.onnx')])


def test_the_stated_frame_is_that_of_training(trained, tmp_path):
    config, checkpoint, untold = trained
    for weights, read, ways in (
        (checkpoint, 'x,-y,-z', ('right', 'up', 'towards the viewer')),
        (untold, 'x,-y,-z', ('right', 'up', 'towards the viewer')),
        (untold, 'x,-y,z', ('right', 'up', 'away from the viewer')),
        (untold, '-y,x,z', ('down', 'left', 'away from the viewer')),
        (checkpoint, 'x,-y,z', ('right', 'up', 'towards the viewer')),  # the checkpoint knows better
    ):
        options = {f'train_{WHERE}': read.split(','), 'default_hooks.target_check.differing': 'warn'}
        cfg = find_config(config, options)
        model, meta = load_model(cfg, weights, tasks=['normal'])
        assert learned_frame(meta, 'normal') == ways, read
        told = export_api.describe(ExportedTasks(model, (32, 32), ['normal']), meta, (32, 32))
        assert f'x {ways[0]}, y {ways[1]}, z {ways[2]}' in told['outputs']['normal']['values']
        with patch('mtl_plugins.visualization.panels.pixel_text') as drawn:
            prediction_panel({'pred_normal': np.ones((3, 8, 8), np.float32)}, ['normal'], meta=meta)
        assert f'blue: {ways[2]}' in [call.args[3] for call in drawn.call_args_list]


@pytest.mark.parametrize('known', [True, False])
def test_a_resume_stops_too(trained, tmp_path, known):
    config, checkpoint, untold = trained
    shutil.copy(checkpoint if known else untold, tmp_path / 'iter_1.pth')
    arguments = [config, '--work-dir', str(tmp_path), '--resume', '--cfg-options']
    axes = [f'{name}_{WHERE}=x,-y,z' for name in ('train', 'val')]
    with pytest.raises(UserError, match=r'train_dataloader.dataset.normal_axes=x,-y,-?z'):
        train_api.main([*arguments, *(axes if known else ['load_from=None'])])
    train_api.main(arguments[:-1] if known else [*arguments, *axes])
    assert (tmp_path / 'iter_2.pth').is_file()


def test_new_training_from_old_weights_is_only_warned(trained, tmp_path, capsys):
    config, _, untold = trained
    train_api.main([config, '--work-dir', str(tmp_path), '--cfg-options', f'load_from={untold}', 'log_level=WARNING'])
    assert 'normal_axes of task normal is not told by the checkpoint' in capsys.readouterr().err + (
        (next(tmp_path.glob('*/*.log'))).read_text()
    )


def test_a_validation_set_that_reads_its_targets_in_another_way(trained, tmp_path):
    config, *_ = trained
    with pytest.raises(UserError, match='the targets of the validation set are not those of the training set'):
        train_api.main([config, '--work-dir', str(tmp_path), '--cfg-options', f'val_{WHERE}=x,-y,z'])


class Described:
    def __init__(self, **metainfo):
        self.metainfo = metainfo


def test_classes_in_another_order():
    trained = dict(tasks=('semseg',), classes=dict(semseg=('wall', 'floor', 'bed')))
    now = Described(classes=dict(semseg=('wall', 'bed', 'floor'), parts=('a',)))
    (told,) = target_differences(trained, now, 'test_dataloader.dataset')
    assert told == "the classes of task semseg were others in training: number 1 was 'floor' and is 'bed' now"
    assert not target_differences(trained, now, 'test_dataloader.dataset', tasks=['parts'])
    # As MMSegmentation's datasets describe themselves.
    (told,) = target_differences(dict(classes=('a', 'b')), Described(classes=('b', 'a')), 'x')
    assert told.startswith('the classes were others')
    (told,) = target_differences(dict(reduce_zero_label=True), Described(reduce_zero_label=False), 'x')
    assert 'reduce_zero_label' in told


def test_the_scale_of_values_is_compared_too():
    tasks = ('edge_texture', 'principal_curvature', 'depth')
    trained = dict(tasks=tasks, units=dict(principal_curvature='1/m'), value_ranges=dict(depth=(0, 5)))
    told = target_differences(
        trained,
        Described(
            tasks=tasks,
            units=dict(principal_curvature='1/(0.1 m)'),
            value_ranges=dict(edge_texture=(-1, 1), depth=(0, 9)),  # depth is in metres: its range is for pictures
        ),
        'x',
    )
    assert told == [
        'the range of values of task edge_texture was (0.0, 1.0) in training and is (-1, 1) now',
        'the unit of task principal_curvature was 1/m in training and is 1/(0.1 m) now',
    ]
    # A checkpoint of a version that did not tell units.
    assert not target_differences(dict(tasks=tasks), Described(tasks=tasks, units=trained['units']), 'x')


def test_which_pixels_count_is_compared_too():
    options = dict(data_root='nowhere', tasks=['reshading', 'edge_texture'], lazy_init=True)
    trained = TaskonomyDataset(**options).metainfo
    (told,) = target_differences(trained, TaskonomyDataset(masks=False, **options), 'test_dataloader.dataset')
    assert told.startswith('masks of task reshading was True in training and is False now')


def test_concatenations_carry_the_conventions_of_all_parts():
    lazy = dict(lazy_init=True, pipeline=[])
    nyud = NYUDv2Dataset(stand_in('nyud'), normal_axes=('x', '-y', 'z'), **lazy)
    taskonomy = TaskonomyDataset(stand_in('taskonomy'), tasks=['normal'], **lazy)
    both = MultiTaskConcatDataset([nyud, taskonomy], lazy_init=True)
    assert set(both.metainfo['conventions']) == {'nyud', 'taskonomy'}
    other = NYUDv2Dataset(stand_in('nyud'), **lazy)
    (told,) = target_differences(both.metainfo, MultiTaskConcatDataset([other, taskonomy], lazy_init=True), 'a.dataset')
    assert 'a.dataset.datasets.0.normal_axes=x,-y,z restores it' in told
    with pytest.raises(UserError, match=r"'normals' of nyud is read with .* in datasets\[1\]"):
        MultiTaskConcatDataset([nyud, other], lazy_init=True)


def test_the_option_is_checked():
    with pytest.raises(UserError, match=r"TargetCheckHook\.differing must be one of \('raise', 'warn'\)"):
        TargetCheckHook('ignore')
