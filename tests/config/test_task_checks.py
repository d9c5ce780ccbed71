"""Heads, metrics, pictures and first weights are compared before a run, by ``doctor`` and by ``train`` itself."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import OptimWrapperDict
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from mtl_plugins.__main__ import run
from mtl_plugins.config.hints import hint_for
from mtl_plugins.config.task_checks import TaskCheckHook, check_first_size, check_hooks, check_tasks
from mtl_plugins.engine import MultiTaskOptimWrapper
from mtl_plugins.errors import UserError
from mtl_plugins.evaluation import MultiTaskEvaluator
from mtl_plugins.models import TimmBackbone
from tests.engine.toy import make_model
from tests.support.tiny import ROOMS, options

TWO = ['--tasks', 'semseg,depth']


def outcome(command, arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code = run(command, [ROOMS, *arguments])
    out = capsys.readouterr()
    return code, re.sub(r'\s+', ' ', out.out + out.err)


@pytest.mark.parametrize('command', ['train', 'doctor'])
@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ('val_evaluator.tasks=[semseg,depth,normals]', 'val_evaluator measures normals, but the model has heads for'),
        ('custom_hooks=[{type: mtl_plugins.PredictionPanelHook, tasks: [human_parts]}]', 'but model and data have'),
        ('val_evaluator.tasks=[semseg,dept]', "unknown task 'dept'"),
        ('train_cfg={_delete_: True, type: EpochBasedTrainLoop, max_epochs: 2}', 'AbsoluteSampler has no end, so'),
        ('load_from=there.pth', 'none of its 1 tensors fits the model'),
        ('default_hooks.checkpoint={save_best: semseg/nope, rule: greater}', "save_best='semseg/nope', but the valida"),
        ('default_hooks.checkpoint={save_best: depth/RMSE, rule: greater}', "which prefers the worse: set rule='less'"),
        ('default_hooks.checkpoint={save_best: [depth/RMSE, semseg/mIoU], rule: less}', "mIoU' has rule='less'"),
        ('custom_hooks=[{type: EarlyStoppingHook, monitor: semseg/aAcc, rule: less}]', "'semseg/aAcc' has rule='less'"),
        ('param_scheduler=[{type: ReduceOnPlateauLR, monitor: semseg/mIoU}]', "monitor='semseg/mIoU' has rule='less'"),
        ('param_scheduler=[{type: ReduceOnPlateauLR}]', "monitor='loss', but the validation computes"),
        ('custom_hooks=[{type: EMAHook, begin_iter: 100}]', 'begin_iter should be smaller than'),
    ],
)  # fmt: skip
def test_before_training(command, change, said, capsys, monkeypatch, tmp_path):
    torch.save(dict(state_dict={'other.weight': torch.zeros(2)}), tmp_path / 'there.pth')
    code, text = outcome(command, [*TWO, *options(2, change)], capsys, monkeypatch, tmp_path)
    assert code == 1
    assert said in text
    assert 'Traceback' not in text
    assert 'Iter(train)' not in text
    assert not list(tmp_path.glob('work_dirs/*/*.pth'))


@pytest.mark.filterwarnings('ignore:Multi-processing start method')
@pytest.mark.parametrize('command', ['train', 'doctor'])
def test_what_no_run_can_be_built_from(command, capsys, monkeypatch, tmp_path):
    torch.save([torch.zeros(2)], tmp_path / 'list.pth')
    for changes, said in (
        (['train_cfg.type=Foo'], 'train_cfg.type'),
        (['visualizer={type: Visualizer, vis_backends: [{type: Foo}]}'], 'visualizer.vis_backends.0.type'),
        (['log_processor={type: Foo}'], 'log_processor.type'),
        (['env_cfg.mp_cfg.mp_start_method=foo'], 'env_cfg.mp_cfg'),
        (['train_dataloader.collate_fn.type=foo'], 'train_dataloader.collate_fn.type'),
        (['val_dataloader=None'], 'val_dataloader must be given'),
        (['resume=True', 'load_from=list.pth'], 'list.pth holds no weights'),
    ):
        code, text = outcome(command, [*TWO, *options(2, *changes)], capsys, monkeypatch, tmp_path)
        assert code == 1
        assert said in text
        assert 'Traceback' not in text
        assert not list(tmp_path.rglob('work_dirs/*/*.pth'))


def test_the_doctor_resumes_what_training_would(capsys, monkeypatch, tmp_path):
    resume = options(3, 'resume=True')
    assert outcome('train', [*TWO, *options(1)], capsys, monkeypatch, tmp_path)[0] == 0
    files = sorted(tmp_path.rglob('*'))
    code, text = outcome('doctor', [*TWO, *resume], capsys, monkeypatch, tmp_path)
    assert code == 0
    assert 'goes on after iteration 1 of 3' in text
    code, text = outcome('doctor', [*TWO, *resume, '--method', 'gd'], capsys, monkeypatch, tmp_path)
    assert code == 0  # its work dir is another
    assert 'starts after iteration 0 of 3' in text
    there = f'work_dir={next(tmp_path.glob("work_dirs/*"))}'
    code, text = outcome('doctor', [*TWO, '--method', 'gd', *resume, there], capsys, monkeypatch, tmp_path)
    assert code == 1
    assert 'method' in text
    assert 'load_from' in text
    assert sorted(tmp_path.rglob('*')) == files


@pytest.mark.parametrize('command', ['train', 'doctor', 'test'])
def test_a_start_that_is_not_there(command, capsys, monkeypatch, tmp_path):
    more = ['none.pth'] if command == 'test' else []
    change = [] if command == 'test' else ['load_from=none.pth']
    code, text = outcome(command, [*more, *options(2, *change)], capsys, monkeypatch, tmp_path)
    assert code == 1
    assert re.search(r'load_from=none\.pth: there is no such file|checkpoint none\.pth not found', text)
    assert not (tmp_path / 'work_dirs').exists()


def test_a_head_that_nobody_measures_is_a_note():
    model = SimpleNamespace(tasks=('semseg', 'depth', 'normals'))
    assert check_tasks(model, MultiTaskEvaluator(tasks=['semseg', 'normals']), 'here') == [
        'here measures nothing of depth'
    ]
    assert check_tasks(model, MultiTaskEvaluator(tasks=['semseg', 'normals', 'depth']), 'here') == []
    assert check_tasks(SimpleNamespace(), MultiTaskEvaluator(tasks=['semseg']), 'here') == []


@pytest.mark.parametrize('evaluator', [dict(tasks=['edge']), dict(metrics=[dict(type='DepthErrorMetric')])])
def test_what_is_measured_needs_a_head(evaluator):
    with pytest.raises(UserError, match=r'test_evaluator measures (edge|depth), .* has heads for semseg only'):
        check_tasks(SimpleNamespace(tasks=('semseg',)), MultiTaskEvaluator(**evaluator), 'test_evaluator')


def test_hooks_may_name_tasks_of_the_data():
    hook = SimpleNamespace(tasks=['edge'])
    check_hooks(SimpleNamespace(tasks=('semseg',)), [hook, object()], dict(tasks=('semseg', 'edge')))
    check_hooks(SimpleNamespace(), [hook], None)
    with pytest.raises(UserError, match='tasks names edge'):
        check_hooks(SimpleNamespace(tasks=('semseg',)), [hook], {})


@pytest.mark.parametrize(
    ('entries', 'advice'),
    [
        (dict(train_dataloader=dict(dataset=dict(data_root='gone/x'))), '--data-root DIR'),
        (dict(ds=dict(data_root='gone/x'), val_dataloader=dict(dataset=dict(root='gone/x'))), '--data-root DIR'),
        (dict(root='gone/x', train_dataloader=dict(dataset=dict(ann='gone/x'))), 'train_dataloader.dataset.ann=PATH'),
        (dict(ds=dict(data_root='gone/x')), 'ds.data_root, a variable of the config file; correct it there'),
        (dict(load_from='gone/x'), '--cfg-options load_from=PATH'),
    ],
)
def test_advice_about_a_path_names_what_can_be_changed(entries, advice):
    hint = hint_for(FileNotFoundError(2, 'No such file', 'gone/x'), Config(entries))
    assert advice in hint
    assert '--cfg-options ds' not in hint


def test_the_first_image_of_the_validation_is_tried():
    """A foreign model pads in training and not in tests: without this its first validation ended the run."""
    backbone = TimmBackbone('vit_tiny_patch16_224', depth=1, embed_dim=8, num_heads=1, img_size=32)
    images = [dict(inputs=torch.zeros(3, 40, 48), data_samples=SegDataSample())]
    model = SimpleNamespace(backbone=backbone, data_preprocessor=SegDataPreProcessor(size=(48, 48)), test_cfg=None)
    with pytest.raises(
        UserError, match=r'val_dataloader: its first image comes to the model at \(40, 48\): TimmBackbone'
    ):
        check_first_size(model, images)
    model.test_cfg = dict(mode='slide', crop_size=(32, 32))
    check_first_size(model, images)
    model.data_preprocessor, model.test_cfg = SegDataPreProcessor(size=(48, 48), test_cfg=dict(size_divisor=16)), None
    check_first_size(model, images)
    model.data_preprocessor = BaseDataPreprocessor()  # stacks nothing
    check_first_size(model, images)


def test_one_wrapper_per_part_needs_a_train_step_that_steps_them():
    class Own(type(make_model())):
        def train_step(self, data, optim_wrapper):
            """Steps each by itself."""

    untrained = dict(optim_wrapper=Config(dict(optimizer=dict(lr=1), paramwise_cfg=dict(custom_keys=dict(a={})))))
    TaskCheckHook().before_run(
        SimpleNamespace(model=make_model(), _val_loop=None, _test_loop=None, cfg=Config(untrained), **untrained)
    )
    for model in (make_model(), Own()):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        wrapper = OptimWrapperDict(backbone=MultiTaskOptimWrapper(optimizer), heads=MultiTaskOptimWrapper(optimizer))
        runner = SimpleNamespace(model=model, optim_wrapper=wrapper, _val_loop=None, _test_loop=None, cfg=Config())
        if isinstance(model, Own):
            TaskCheckHook().before_run(runner)
            continue
        with pytest.raises(UserError, match='one wrapper each for backbone, heads, but the train_step of ToyModel'):
            TaskCheckHook().before_run(runner)
