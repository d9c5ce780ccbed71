import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mtl_plugins.config import load_config, set_method, set_tasks
from mtl_plugins.config.datasets import LOADERS, leaf_datasets, set_data_root
from mtl_plugins.config.loading import KEPT_BY_METHOD, configs_root
from mtl_plugins.engine.catalogue import list_methods
from mtl_plugins.errors import UserError
from mtl_plugins.registry import OPTIM_WRAPPERS

ROOT = Path(__file__).parents[2]
ROOMS = ROOT / 'configs/rooms/stgu_vit-micro_8b-2k_rooms-96.py'
PHOTOS = ROOT / 'configs/photos/gd_vit-micro_8b-1k_photos-96.py'
KEPT = dict(
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(custom_keys=dict(heads=dict(lr_mult=2.0))),
    constructor='DefaultOptimWrapperConstructor',
    accumulative_counts=2,
    precision='bf16',
    tasks=['semseg', 'depth'],
    bn_stats='every',
    nonfinite=dict(patience=3),
    num_valid=dict(semseg='pixels'),
    seed=7,
)


def config(**optim_wrapper):
    return Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9), **optim_wrapper)))


def test_the_shipped_configs_are_found():
    assert configs_root() == ROOT / 'configs'


def test_a_config_can_be_named_by_its_package():
    name = 'rooms/stgu_vit-micro_8b-2k_rooms-96.py'
    cfg, same = (load_config(path) for path in (f'mtl_plugins::{name}', ROOT / 'configs' / name))
    assert cfg.to_dict() == same.to_dict()
    assert cfg.work_dir == 'work_dirs/stgu_vit-micro_8b-2k_rooms-96'
    assert load_config('mmseg::unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py').model.backbone.type == 'UNet'


def test_a_pure_python_config_is_the_same_run():
    named, pure = (
        load_config(f'mtl_plugins::rooms/stgu_{name}_8b-2k_rooms-96.py', method='cagrad', tasks=['depth', 'sal'])
        for name in ('vit-micro', 'pure-python')
    )
    assert pure.val_dataloader.sampler.pop('type').__name__ == named.val_dataloader.sampler.pop('type')
    parts = ('model', 'optim_wrapper', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'param_scheduler')
    for part in (*parts, 'train_cfg', 'custom_hooks', 'default_hooks', 'default_scope'):
        assert pure[part] == named[part], part


@pytest.mark.parametrize(
    ('name', 'error', 'message'),
    [
        ('mtl_plugins::rooms/stgu_vit-micro_8b-2k_rooms-69.py', FileNotFoundError, 'did you mean mtl_plugins::rooms/'),
        ('mtl_plugins::qqq', FileNotFoundError, 'mtl_plugins::qqq not found: look in'),
        ('no_such_package::a/b.py', ModuleNotFoundError, "'no_such_package' is not installed"),
    ],
)
def test_a_wrong_name_in_a_package_is_explained(name, error, message):
    with pytest.raises(error, match=message):
        load_config(name)


def test_every_method_has_a_fragment_and_no_other_has():
    fragments = {path.stem: Config.fromfile(path) for path in (ROOT / 'configs/_base_/methods').glob('*.py')}
    rows = {row.key: row for row in list_methods()}
    assert set(fragments) == set(rows)
    for key, fragment in fragments.items():
        wrapper = OPTIM_WRAPPERS.get(fragment.optim_wrapper.type)
        assert wrapper is not None
        assert wrapper.__name__ == rows[key].wrapper


@pytest.mark.parametrize('key', [row.key for row in list_methods()])
def test_swapping_the_method_keeps_what_is_not_the_methods(key):
    assert set(KEPT) == set(KEPT_BY_METHOD)
    cfg = config(
        type='Former', grouper=dict(type='X'), weighting=dict(type='Y'), passes=9, loss_scale='dynamic', **KEPT
    )
    set_method(cfg, key)
    fragment = Config.fromfile(ROOT / f'configs/_base_/methods/{key}.py').optim_wrapper
    if 'optimizer' in fragment:
        assert cfg.optim_wrapper.optimizer == dict(lr=0.1, **fragment.optimizer)
    else:
        assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.1, momentum=0.9)
    for name, value in KEPT.items():
        assert cfg.optim_wrapper[name] == value
    assert set(cfg.optim_wrapper) == {'optimizer', *KEPT, *fragment}
    assert cfg.optim_wrapper.get('weighting') == fragment.get('weighting')


def test_a_method_with_an_optimizer_of_its_own_takes_over_what_it_knows(capsys):
    cfg = config(type='Former')
    cfg.optim_wrapper.optimizer = dict(type='AdamW', lr=0.1, betas=(0.8, 0.9), weight_decay=0.3, fused=True)
    set_method(cfg, 'ada_task')
    expected = dict(type='mtl_plugins.AdaTask', base='Adam', lr=0.1, betas=(0.8, 0.9), weight_decay=0.3)
    assert cfg.optim_wrapper.optimizer == expected
    said = capsys.readouterr().out
    assert 'left out fused' in said
    assert 'L2 penalty there' in said
    set_method(cfg, 'ada_task')
    assert cfg.optim_wrapper.optimizer == expected


def test_swapping_there_and_back_is_the_same():
    cfg = load_config(ROOMS)
    before = cfg.optim_wrapper.to_dict()
    set_method(cfg, 'gd')
    assert cfg.optim_wrapper.to_dict() != before
    set_method(cfg, 'stgu')
    assert cfg.optim_wrapper.to_dict() == before


def test_a_method_for_a_config_of_mmseg():
    cfg = config(type='OptimWrapper', clip_grad=None)
    set_method(cfg, 'gd')
    assert cfg.optim_wrapper.type == 'mtl_plugins.MultiTaskOptimWrapper'
    assert 'precision' not in cfg.optim_wrapper


@pytest.mark.parametrize(
    ('options', 'precision'),
    [({}, 'fp16'), (dict(dtype='float16'), 'fp16'), (dict(dtype='bfloat16'), 'bf16'), (dict(dtype='float32'), 'fp32')],
)
def test_mixed_precision_stays_mixed(options, precision):
    cfg = config(type='AmpOptimWrapper', loss_scale='dynamic', **options)
    set_method(cfg, 'gd')
    assert cfg.optim_wrapper.precision == precision
    assert {'loss_scale', 'dtype'}.isdisjoint(cfg.optim_wrapper)


def test_a_config_of_mmseg_with_mixed_precision(tmp_path):
    path = tmp_path / 'amp.py'
    path.write_text("_base_ = 'mmseg::fcn/fcn_r101-d8_4xb2-amp-80k_cityscapes-512x1024.py'\n")
    cfg = load_config(path, method='stgu')
    assert cfg.optim_wrapper.precision == 'fp16'


def test_unknown_method():
    with pytest.raises(KeyError, match="unknown method 'sgtu': did you mean 'stgu'"):
        load_config(ROOMS, method='sgtu')


def test_options_of_a_run():
    cfg = load_config(ROOMS, {'max_iters': 5, 'optim_wrapper.optimizer.lr': 1.0}, 'gd', 'bf16', 12, data_root=None)
    assert (cfg.max_iters, cfg.optim_wrapper.optimizer.lr) == (5, 1.0)
    assert (cfg.optim_wrapper.precision, cfg.randomness.seed) == ('bf16', 12)
    assert cfg.work_dir == 'work_dirs/stgu_vit-micro_8b-2k_rooms-96--gd'
    assert load_config(ROOMS).work_dir == 'work_dirs/stgu_vit-micro_8b-2k_rooms-96'
    assert load_config(ROOMS, work_dir='a/b').work_dir == 'a/b'
    assert load_config(ROOMS, {'work_dir': 'c'}).work_dir == 'c'


def test_options_win_over_the_method():
    cfg = load_config(PHOTOS, {'optim_wrapper.warmup_iters': 3}, 'stgu')
    assert cfg.optim_wrapper.warmup_iters == 3


@pytest.mark.parametrize('kind', ['OptimWrapper', 'AmpOptimWrapper'])
def test_precision_chooses_between_the_wrappers_of_mmengine(kind, tmp_path):
    path = tmp_path / 'plain.py'
    path.write_text(f"optim_wrapper = dict(type='{kind}', optimizer=dict(type='SGD', lr=0.1))\n")
    chosen = {name: load_config(path, precision=name).optim_wrapper for name in ('fp32', 'fp16', 'bf16')}
    assert [wrapper.type for wrapper in chosen.values()] == ['OptimWrapper', 'AmpOptimWrapper', 'AmpOptimWrapper']
    assert [wrapper.get('dtype') for wrapper in chosen.values()] == [None, 'float16', 'bfloat16']
    assert load_config(path, method='gd', precision='bf16').optim_wrapper.precision == 'bf16'


@pytest.mark.parametrize(('option', 'value'), [('method', 'pcgrad'), ('precision', 'fp16')])
def test_one_optimizer_per_part_of_the_model_is_refused_in_one_sentence(option, value, tmp_path):
    path = tmp_path / 'several.py'
    part = "dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))"
    path.write_text(f"optim_wrapper = dict(constructor='Mine', backbone={part}, head={part})\n")
    with pytest.raises(UserError, match=rf'--{option} {value} is for one optimizer .* has one each for backbone, head'):
        load_config(path, **{option: value})


@pytest.mark.parametrize(
    ('entries', 'precision', 'scale'),
    [
        (dict(loss_scale='dynamic'), 'fp16', 2.0**16),
        (dict(loss_scale=512.0), 'fp16', 512.0),
        (dict(loss_scale=dict(init_scale=4.0, growth_interval=7)), 'fp16', 4.0),
        (dict(loss_scale='dynamic', dtype='bfloat16'), 'bf16', 2.0**16),
        (dict(loss_scale=8.0, precision='bf16'), 'bf16', 8.0),
        (dict(), 'fp32', 2.0**16),
    ],
)
@pytest.mark.parametrize('kind', ['MultiTaskOptimWrapper', 'GradientAggregationOptimWrapper'])
def test_what_is_left_of_mixed_precision_in_a_base_goes_on_to_apply(kind, entries, precision, scale):
    more = dict(aggregator=dict(type='PCGrad')) if kind.startswith('Grad') else {}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    wrapper = OPTIM_WRAPPERS.build(dict(type=f'mtl_plugins.{kind}', optimizer=optimizer, **entries, **more))
    assert (wrapper.precision.name, wrapper.precision._scaler_options['init_scale']) == (precision, scale)


@pytest.mark.parametrize('entries', [dict(loss_scale='high'), dict(loss_scale=-1.0), dict(dtype='int8')])
def test_wrong_mixed_precision_is_refused(entries):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(UserError, match='must be'):
        OPTIM_WRAPPERS.build(dict(type='mtl_plugins.MultiTaskOptimWrapper', optimizer=optimizer, **entries))


def test_another_method_keeps_the_mixed_precision_of_a_base(tmp_path):
    path = tmp_path / 'amp.py'
    path.write_text(
        "optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', loss_scale=4.0, optimizer=dict())\n"
    )
    assert load_config(path, method='pcgrad').optim_wrapper.precision == 'fp16'


def test_some_of_the_tasks():
    cfg = load_config(ROOMS, {'custom_hooks.0.tasks': ['sal', 'depth', 'edge']})
    cfg.optim_wrapper.tasks = dict(depth='depth', sal='sal', edge='edge')
    cfg.val_evaluator.headlines = dict(sal=dict(metric='sal/mIoU'), edge=dict(metric='edge/x'))
    cfg.test_evaluator.metrics = [dict(type='A', task='sal'), dict(type='B', task='semseg')]
    set_tasks(cfg, ['sal', 'depth'])
    assert list(cfg.model.heads) == ['sal', 'depth']
    assert [dataset.tasks for _, dataset in leaf_datasets(cfg)] == [['sal', 'depth']] * 3
    assert cfg.val_evaluator.tasks == ['sal', 'depth']
    assert cfg.val_evaluator.headlines == dict(sal=dict(metric='sal/mIoU'))
    assert cfg.test_evaluator.metrics == [dict(type='A', task='sal')]
    assert cfg.custom_hooks[0].tasks == ['sal', 'depth']
    assert cfg.optim_wrapper.tasks == dict(depth='depth', sal='sal')


@pytest.mark.parametrize(
    ('tasks', 'error', 'message'),
    [(['depht'], KeyError, "'depht': did you mean 'depth'"), ([], ValueError, 'no task is named')],
)
def test_tasks_that_are_not_there(tasks, error, message):
    with pytest.raises(error, match=message):
        set_tasks(load_config(ROOMS), tasks)


def test_tasks_on_the_command_line_name_the_run():
    cfg = load_config(ROOMS, method='gd', tasks=['depth'])
    assert list(cfg.model.heads) == ['depth']
    assert cfg.work_dir.endswith('--gd--depth')


def test_tasks_need_heads():
    with pytest.raises(ValueError, match='one head per task'):
        set_tasks(Config(dict(model=dict(type='EncoderDecoder'))), ['a'])


def test_data_root_reaches_every_dataset():
    cfg = load_config(PHOTOS, data_root='my/photos')
    assert [dataset.root for _, dataset in leaf_datasets(cfg)] == ['my/photos'] * 3


def test_data_root_inside_wrappers_and_of_mmseg():
    leaves = [dict(type='mmseg.ADE20KDataset', data_root='x'), dict(type='mtl_plugins.PhotosDataset')]
    nested = dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=leaves))
    cfg = Config(dict(default_scope='mmseg', train_dataloader=dict(dataset=nested)))
    set_data_root(cfg, Path('y'))
    places = dict(leaf_datasets(cfg))
    assert list(places) == [f'train_dataloader.dataset.dataset.datasets.{n}' for n in (0, 1)]
    assert [d.get('data_root', d.get('root')) for d in places.values()] == ['y', 'y']


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(train_dataloader=dict(dataset=dict(type='mtl_plugins.RoomsDataset'))), 'RoomsDataset reads no folder'),
        (dict(model=dict(type='X')), 'the config has no dataset'),
        (dict(train_dataloader=dict(dataset=dict(type='Nothing'))), 'Nothing reads no folder'),
    ],
)
def test_data_root_where_there_is_none(cfg, message):
    with pytest.raises(ValueError, match=message):
        set_data_root(Config(cfg), 'y')


def test_bases_agree_on_the_tasks():
    """The datasets' tasks, the heads and the evaluators of every shipped config name the same tasks."""
    for path in (ROOT / 'configs').rglob('*.py'):
        # Those in mmseg hold nothing of ours; tests/mmseg has them.
        if not {'_base_', 'mmseg'}.isdisjoint(path.parts):
            continue
        cfg = Config.fromfile(path)
        expected = list(cfg.model.heads)
        for name in LOADERS:
            given = [dataset.tasks for place, dataset in leaf_datasets(cfg) if place.startswith(name)]
            assert list(dict.fromkeys(task for tasks in given for task in tasks)) == expected, path
        assert list(cfg.val_evaluator.tasks) == list(cfg.test_evaluator.tasks) == expected, path
        assert cfg.optim_wrapper.optimizer == cfg.optimizer, path


@pytest.mark.parametrize(
    ('name', 'text', 'said'),
    [
        ('a.py', 'import nowhere_at_all', 'No module named .nowhere_at_all'),
        ('a.py', 'x = 1\nfrom nowhere_at_all import x', 'No module named .nowhere_at_all'),
        ('a', None, 'a is a folder; expected a file'),
        ('fifo', None, 'fifo is no regular file; expected a file'),
    ],
)
def test_what_is_no_config_is_named(name, text, said, tmp_path):
    path = tmp_path / name
    if text:
        path.write_text(text)
    elif name == 'fifo':
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(UserError, match=said):
        load_config(path)
