"""Models of others train with our methods as they are; only the optimizer wrapper differs."""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope

from mtl_plugins.cli import train as train_api
from mtl_plugins.config import load_config
from mtl_plugins.engine.catalogue import list_methods
from mtl_plugins.engine.step.parameters import ReentrantCheckpointError

from .parts import TASKS, build, train
from .tiny import METHODS, MMSEG, NOISE, PATHS, ROOT, differences, run, small_config, without_validation

pytestmark = [pytest.mark.filterwarnings(line) for line in NOISE]
SCOPES = ('mmengine', 'mmseg', 'mtl_plugins')


def types_of(node):
    items = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    own = [node['type']] if isinstance(node, dict) and isinstance(node.get('type'), str) else []
    return own + [kind for value in items for kind in types_of(value)]


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('name', PATHS)
def test_every_head_is_a_task(name, method):
    model, wrapper, batches = build(name, method)
    before = copy.deepcopy(model.state_dict())
    logs = train(model, wrapper, batches, 3)
    assert wrapper.task_names == TASKS[name]
    assert all(torch.isfinite(log['loss']) for log in logs)
    moved = set(differences(before, model.state_dict()))
    gradless = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {name for name, _ in model.named_parameters()} - moved == gradless


@pytest.mark.parametrize('name', PATHS)
def test_gd_equals_the_plain_wrapper_after_20_iterations(name, tmp_path):
    """With dropout, drop path, batch norm, schedulers, parameter groups and mmseg's augmentations."""
    states = []
    for method in (None, 'gd'):
        cfg = without_validation(small_config(name, tmp_path / str(method), 20, method=method))
        assert cfg.optim_wrapper.type == ('OptimWrapper' if method is None else 'mtl_plugins.MultiTaskOptimWrapper')
        states.append(run(cfg))
    assert differences(*(state['state_dict'] for state in states)) == []
    moments = [state['optimizer']['state'] for state in states]
    for key, entry in moments[0].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(moments[1][key][k])) for k, v in entry.items())


@pytest.mark.parametrize('name', ['fcn', 'depth'])
def test_shipped_stgu_configs_train_and_validate(name, tmp_path):
    path = ROOT / PATHS[name].replace(f'{name}_', f'stgu_{name}_')
    saved = run(small_config(name, tmp_path, path=path))
    expected = ['depth', 'semseg'] if name == 'depth' else ['decode', 'aux']
    assert saved['optimizer']['mtl']['tasks'] == expected
    assert saved['optimizer']['mtl']['method'] == 'stgu'


@pytest.mark.parametrize('path', sorted((ROOT / 'configs/mmseg').glob('*.py')), ids=lambda path: path.stem)
def test_no_class_of_ours_but_the_wrapper(path):
    cfg = load_config(path).to_dict()
    assert cfg['default_scope'] == 'mmseg'
    wrapper = cfg.pop('optim_wrapper')['type']
    assert wrapper == ('mtl_plugins.SelectiveTaskGroupOptimWrapper' if path.stem.startswith('stgu') else 'OptimWrapper')
    assert not [kind for kind in types_of(cfg) if 'mtl_plugins' in kind]
    assert {'SyncBN'}.isdisjoint(types_of(cfg['model']))


@pytest.mark.parametrize('method', [row.key for row in list_methods()])
def test_every_method_trains_a_model_of_mmengine(method, tmp_path):
    cfg = without_validation(small_config('digits', tmp_path, 3, method=method))
    saved = run(cfg)
    assert saved['optimizer']['mtl']['tasks'] == ['loss_digit', 'loss_parity']


@pytest.mark.parametrize('method', METHODS)
def test_digits_from_the_command_line(method, tmp_path):
    options = ['train_cfg.max_epochs=2', 'default_hooks.checkpoint.interval=2', f'experiment_name={tmp_path.name}']
    config = str(ROOT / PATHS['digits'])
    arguments = [config, '--method', method, '--work-dir', str(tmp_path), '--cfg-options', *options]
    assert train_api.main(arguments) == 0
    log = next(tmp_path.rglob('*.log')).read_text()
    for task in ('digit', 'parity'):
        accuracy = float(log.rpartition(f'{task}/accuracy: ')[2].split()[0])
        assert accuracy > 75, log[-300:]


@pytest.mark.parametrize('scope', SCOPES)
@pytest.mark.parametrize('method', ['stgu', 'cagrad'])
def test_default_scopes_give_the_same_training(method, scope, tmp_path):
    weights = []
    for each in ('mmengine', scope):
        cfg = without_validation(small_config('digits', tmp_path / each, method=method))
        cfg.default_scope = each
        weights.append(run(cfg)['state_dict'])
    assert differences(*weights) == []


@pytest.mark.parametrize('scope', ['mmseg', 'mtl_plugins'])
def test_names_of_mmseg_resolve_in_our_scope_too(scope):
    model, wrapper, batches = build('fcn', 'stgu', scope=scope)
    with DefaultScope.overwrite_default_scope(scope):
        train(model, wrapper, batches)
    assert type(model).__module__.startswith('mmseg.')


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('name', ['segformer', 'upernet'])
def test_parameter_groups_are_those_of_the_config(name, method):
    plain, ours = (build(name, m)[1].optimizer.param_groups for m in (None, method))
    settings = [[(g['lr'], g['weight_decay'], len(g['params'])) for g in groups] for groups in (plain, ours)]
    assert settings[0] == settings[1]
    assert len({(lr, decay) for lr, decay, _ in settings[0]}) > 1


def test_any_set_of_losses_is_a_task():
    """Two losses of one head as two tasks, the second together with the auxiliary head."""

    def two_losses(model):
        kinds = (('CrossEntropyLoss', 'loss_ce'), ('DiceLoss', 'loss_dice'))
        model.decode_head.loss_decode = [dict(type=kind, loss_name=name) for kind, name in kinds]

    tasks = dict(pixels='decode.loss_ce', regions=['decode.loss_dice', 'aux.'])
    model, wrapper, batches = build('fcn', 'cagrad', change=two_losses, tasks=tasks)
    train(model, wrapper, batches)
    assert wrapper.task_names == ('pixels', 'regions')
    table = wrapper.policy.parameters
    assert {'decode_head.conv_seg.weight', 'backbone.layer4.0.conv1.weight'} <= set(table.shared())
    assert table.own('pixels') == []
    assert 'auxiliary_head.conv_seg.weight' in table.own('regions')


def test_several_auxiliary_heads_are_as_many_tasks():
    def two_heads(model):
        lower = {**model.auxiliary_head, 'in_index': 1, 'in_channels': 32}
        model.auxiliary_head = [model.auxiliary_head, lower]

    model, wrapper, batches = build('fcn', 'stgu', change=two_heads)
    train(model, wrapper, batches)
    assert wrapper.task_names == ('decode', 'aux_0', 'aux_1')


def test_checkpointing_of_mmseg_is_refused_with_the_way_out():
    model, wrapper, batches = build('fcn', 'stgu', change=lambda model: model.backbone.update(with_cp=True))
    with pytest.raises(ReentrantCheckpointError, match='with_cp=False'):
        train(model, wrapper, batches)


@pytest.mark.parametrize('method', METHODS)
def test_a_model_with_one_head_is_one_task(method):
    model, wrapper, batches = build('segformer', method, change=lambda model: model.pop('auxiliary_head'))
    logs = train(model, wrapper, batches)
    assert wrapper.task_names == ('decode',)
    assert all(torch.isfinite(log['loss']) for log in logs)


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('name', MMSEG)
def test_the_full_models(name, method, tmp_path):
    cfg = small_config(name, tmp_path, method=method, size=(64, 64), shrink=False)
    assert run(cfg)['optimizer']['mtl']['tasks'] == ['decode', 'aux']


@pytest.mark.slow
@pytest.mark.parametrize('name', MMSEG)
def test_gd_equals_the_plain_wrapper_for_the_full_models(name, tmp_path):
    states = []
    for method in (None, 'gd'):
        cfg = small_config(name, tmp_path / str(method), 20, method=method, size=(64, 64), shrink=False)
        states.append(run(without_validation(cfg))['state_dict'])
    assert differences(*states) == []
