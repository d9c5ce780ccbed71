"""What ``--cfg-options`` means, and what it refuses."""

import itertools
import math
import re

import pytest
from mmengine.config import Config

from mtl_plugins.config.cfg_options import ConfigArgumentParser, parse_value
from mtl_plugins.config.loading import load_config, read_config
from mtl_plugins.config.numbers import _RULES, settle_numbers
from mtl_plugins.config.overrides import override
from mtl_plugins.config.start import check_start
from mtl_plugins.errors import UserError
from tests.support.tiny import ROOMS, ROOT


def loaded(*options):
    return load_config(ROOMS, ConfigArgumentParser().parse_args(['--cfg-options', *options]).cfg_options)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1', 1),
        ('1e-3', 0.001),
        ('2012_01', '2012_01'),
        ('TRUE', True),
        ('None', None),
        ('null', None),
        ('none', 'none'),
        ('/my data/a b', '/my data/a b'),
        ("it's", "it's"),
        ('"a, b"', 'a, b'),
        ("'[1, 2]'", '[1, 2]'),
        ('a,b', ['a', 'b']),
        ('[1, 2]', [1, 2]),
        ('(1,)', (1,)),
        ('[]', []),
        ("['a b', 'c,d']", ['a b', 'c,d']),
        ('{"max_norm":1.0}', {'max_norm': 1.0}),
        ('{max_norm: 1.0, kinds: [a, b]}', {'max_norm': 1.0, 'kinds': ['a', 'b']}),
        ('dict(max_norm=1.0, norm_type=2)', {'max_norm': 1.0, 'norm_type': 2}),
        ('[{"type": "A", "x": {"y": null}}]', [{'type': 'A', 'x': {'y': None}}]),
        ('', ''),
        ('/data/a{b/x[1', '/data/a{b/x[1'),
        ('"a" "b"', '"a" "b"'),
    ],
)
def test_values(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value) or text == 'a,b'


@pytest.mark.parametrize('text', ['[', '(]', '{a}', '"x', '[1, (2, 3]', 'dict(3)', '[' * 3000 + ']' * 3000])
def test_what_does_not_match_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        ConfigArgumentParser().parse_args(['--cfg-options', f'a={text}'])
    assert 'argument --cfg-options: a: ' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['=1', 'a..b=1', '.a=1'])
def test_a_setting_has_a_name(option, capsys):
    with pytest.raises(SystemExit):
        ConfigArgumentParser().parse_args(['--cfg-options', option])
    assert 'is no name of a setting' in capsys.readouterr().err


def test_a_comma_makes_no_list_of_what_is_text():
    cfg = loaded('work_dir=/my runs/a,b', 'default_scope=a,b', 'model.backbone.out_indices=0,1')
    assert (cfg.work_dir, cfg.default_scope, cfg.model.backbone.out_indices) == ('/my runs/a,b', 'a,b', [0, 1])


@pytest.mark.parametrize(
    'option',
    ['train_dataloader.dataset.data_root=2024', 'val_evaluator.metrics=None', 'val_evaluator.tasks=3'],
)
def test_what_is_of_no_kind_that_its_reader_takes(option):
    with pytest.raises(UserError, match=f'{option.partition("=")[0]} must be (text|a list)'):
        loaded(option)


def test_a_dict_takes_the_place_of_nothing_and_joins_another():
    cfg = loaded('optim_wrapper.clip_grad={"max_norm":1.0}', 'optim_wrapper.optimizer={lr: 0.5}')
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=1.0)
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.type) == (0.5, 'Adam')


@pytest.mark.parametrize(
    ('present', 'value', 'found'),
    [
        (None, dict(x=dict(y=1)), dict(x=dict(y=1))),
        (3, dict(x=1), dict(x=1)),
        ((1, 2), dict(x=1), dict(x=1)),
        ([dict(x=0)], dict(x=1), dict(x=1)),
        (dict(x=None, z=2), dict(x=dict(y=1)), dict(x=dict(y=1), z=2)),
    ],
)
@pytest.mark.parametrize('way', ['a', 'a.0', 'a.0.b'])
def test_so_it_does_inside_of_a_dict(present, value, found, way):
    cfg = Config(dict(a=[dict(b=dict(c=present))]) if '0' in way else dict(a=dict(b=dict(c=present))))
    within = dict(c=value) if way.endswith('b') else dict(b=dict(c=value))
    override(cfg, {way: within})
    assert (cfg.a[0] if '0' in way else cfg.a).b.c == found


def test_one_schedule_needs_no_list(tmp_path):
    (tmp_path / 'one.py').write_text('param_scheduler = dict(type="PolyLR", end=20, by_epoch=False)')
    assert load_config(tmp_path / 'one.py', {'param_scheduler.end': 30}).param_scheduler.end == 30
    for options, said in [
        ({'param_scheduler.end': 0}, 'param_scheduler.end must be a whole number of 1 or more'),
        ({'param_scheduler.ennd': 3}, "did you mean 'param_scheduler.end'"),
    ]:
        with pytest.raises(UserError, match=said):
            load_config(tmp_path / 'one.py', options)


def test_a_dict_joins_one_in_a_list_or_takes_its_place():
    options = ('.0={"end": 7}', '.0={"_delete_": True, "type": "ConstantLR", "end": 7}', '=[{"end": 7}]')
    joined, replaced, whole = (loaded(f'param_scheduler{option}').param_scheduler for option in options)
    assert joined[0] == {**loaded('seed=1').param_scheduler[0], 'end': 7}
    assert (replaced[0], len(replaced)) == (dict(type='ConstantLR', end=7), len(joined))
    assert whole == [dict(end=7)]


def test_tuples_are_changed_like_lists_and_stay_tuples():
    cfg = loaded('train_dataloader.dataset.tasks.1=sal', 'train_dataloader.dataset.size.0=48')
    assert cfg.train_dataloader.dataset.tasks == ('semseg', 'sal', 'normals', 'edge', 'sal')
    assert cfg.train_dataloader.dataset.size == (48, 96)
    cfg = Config(dict(a=(dict(b=(1, [2, (3, 4)]), c=dict(d=5)), 6)))
    override(cfg, {'a.0.b.1.1.0': 7, 'a.0.c': dict(d=8), 'a.1': dict(e=9)})
    assert cfg.a == (dict(b=(1, [2, (7, 4)]), c=dict(d=8)), dict(e=9))


def test_of_what_shall_be_deleted_nothing_is_left_where_nothing_was(tmp_path):
    (tmp_path / 'base.py').write_text('hooks = [dict(type="A", x=1)]\nloop = dict(type="B", x=1)')
    (tmp_path / 'own.py').write_text(
        '_base_ = "base.py"\nhooks = [dict(_delete_=True, type="C")]\nfresh = dict(_delete_=True, type="D")\n'
        'loop = dict(_delete_=True, type="E", inner=dict(_delete_=True, type="F"))'
    )
    cfg = read_config(tmp_path / 'own.py')
    assert (cfg.hooks, cfg.fresh) == ([dict(type='C')], dict(type='D'))
    assert cfg.loop == dict(type='E', inner=dict(type='F'))


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('work_dir = {{_base_.nope}}', '{{_base_.nope}} is no entry of its base configs'),
        ('work_dir = {{_base_.deep.nope.x}}', '{{_base_.deep.nope.x}} is no entry of its base configs'),
        ('work_dir = [{{_base_.name.x}}]', '{{_base_.name.x}} is no entry of its base configs'),
        ("work_dir = '{{_base_.name}}'", 'work_dir has {{_base_.name}} inside a text or an expression'),
        ("a = [dict(b='runs/{{ _base_.name }}')]", 'a.0.b has {{_base_.name}} inside a text'),
        ("work_dir = {{_base_.name}} + '/x'", 'work_dir has {{_base_.name}} inside a text or an expression'),
        ('a = {{_base_.deep.number}} * 2', 'a has {{_base_.deep.number}} inside a text or an expression'),
        ('a = {{_base_.deep.number}}', ''),
    ],
)
def test_a_variable_of_a_base_is_its_value_or_an_error(tmp_path, text, said):
    (tmp_path / 'base.py').write_text('name = "run"\ndeep = dict(number=3)')
    (tmp_path / 'own.py').write_text(f'_base_ = "base.py"\n{text}')
    if not said:
        assert read_config(tmp_path / 'own.py').a == 3
        return
    with pytest.raises(UserError, match=re.escape(said)):
        read_config(tmp_path / 'own.py')


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('train_dataloder.batch_size', 'train_dataloader'),
        ('train_dataloader.bach_size', 'train_dataloader.batch_size'),
        ('train_dataloader.prefech_factor', 'train_dataloader.prefetch_factor'),
        ('optim_wrapper.cilp_grad', 'optim_wrapper.clip_grad'),
        ('optim_wrapper.optimizer.lrr', 'optim_wrapper.optimizer.lr'),
        ('optim_wrapper.optimizer.foreahc', 'optim_wrapper.optimizer.foreach'),
        ('param_scheduler.1.ned', 'param_scheduler.1.end'),
        ('model.heads.dpeth.loss_weight', 'model.heads.depth'),
        ('model.backbone.drop_path_rte', 'model.backbone.drop_path_rate'),
        ('randomness.seeed', 'randomness.seed'),
        ('work_dri', 'work_dir'),
        ('model.heads.semseg.loss_weigth', 'model.heads.semseg.loss_weight'),
        ('optim_wrapper.precison', 'optim_wrapper.precision'),
        ('optim_wrapper.paramwise_cfg.norm_decay_mul', 'optim_wrapper.paramwise_cfg.norm_decay_mult'),
        ('default_hooks.checkpoint.save_bst', 'default_hooks.checkpoint.save_best'),
        ('custom_hooks.3.intervall', 'custom_hooks.3.interval'),
        ('custom_hooks.3.priorty', 'custom_hooks.3.priority'),
        ('train_dataloader.dataset.pipeline.2.transforms.0.scal', 'train_dataloader.*transforms.0.scale'),
        ('env_cfg.dist_cfg.timout', 'env_cfg.dist_cfg.timeout'),
        ('auto_scale_lr.enabel', 'auto_scale_lr.enable'),
    ],
)
def test_a_misspelt_name_is_refused(name, meant):
    with pytest.raises(UserError, match=rf"--cfg-options {name}: .* has no entry .*did you mean '{meant}'"):
        loaded(f'{name}=1')
    outer, _, inner = name.partition('.')
    if inner and not re.search(r'\d|paramwise|auto_scale', name):
        value = ''.join(f'{{"{part}":' for part in inner.split('.')) + '1' + '}' * len(inner.split('.'))
        with pytest.raises(UserError, match=rf"--cfg-options {outer}.* has no entry .*did you mean '{meant}'"):
            loaded(f'{outer}={value}')


@pytest.mark.parametrize(
    ('option', 'meant'),
    [
        ('train_dataloader={"bach_size":4}', 'train_dataloader.batch_size'),
        ('optim_wrapper={"optimizer":{"lrr":1}}', 'optim_wrapper.optimizer.lr'),
        ('default_hooks={"chekpoint":{"interval":1}}', 'default_hooks.checkpoint'),
        ('model.heads={"dpeth":{"loss_weight":1}}', 'model.heads.depth'),
    ],
)
def test_a_misspelt_name_inside_a_dict_is_refused(option, meant):
    with pytest.raises(UserError, match=rf"has no entry .*did you mean '{meant}'"):
        loaded(option)


def test_a_dict_is_merged_entry_by_entry(capfd):
    cfg = loaded('train_cfg={"max_iters":3}', 'optim_wrapper={"paramwise_cfg":{"custom_keys":{"a.b":{"lr_mult":2}}}}')
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('IterBasedTrainLoop', 3)
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys['a.b'].lr_mult == 2
    loaded('train_cfg={"somethingelse":3}')
    assert 'train_cfg.somethingelse' in capfd.readouterr().err


@pytest.mark.parametrize('name', ['optim_wrapper.accumulative_counts', 'model.backbone.with_cp', 'compile'])
def test_a_name_that_its_reader_knows_is_taken_in_silence(name, capfd):
    loaded(f'{name}=2')
    assert capfd.readouterr() == ('', '')


def test_other_new_names_are_listed(capfd):
    assert loaded('model={"zzz":1}', 'notes.author=me', 'train_cfg={"max_iters":7}').notes.author == 'me'
    loaded('optim_wrapper.optimizer={"type":"SGD","zzz":1}', 'model.backbone={"_delete_":true,"dpth":1}')  # their own
    text = ''.join(capfd.readouterr())
    assert 'adds entries that the config did not have: model.zzz, notes.author' in text
    assert 'max_iters' not in text


def test_a_variable_of_the_config_file_is_said_to_be_without_effect(capfd):
    loaded('tasks=[depth]')
    assert 'changes tasks, which no part of a run reads' in ''.join(capfd.readouterr())


@pytest.mark.parametrize(
    'name',
    [
        'param_scheduler.7.end',
        'param_scheduler.x',
        'param_scheduler.²',
        'work_dir.a',
        'train_cfg.max_iters.a',
        'custom_imports.imports',
        '_base_',
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name):
    with pytest.raises(UserError, match=rf'--cfg-options {name}: '):
        loaded('work_dir=here', f'{name}=1')


def _with(place, value):
    if place == 'optim_wrapper.clip_grad.clip_value':
        return Config(dict(optim_wrapper=dict(clip_grad=dict(type='value', clip_value=value))))
    for part in reversed(place.replace('default_hooks.*', 'default_hooks.0').split('.')):
        value = [value] if part == '*' else {part: value}
    return Config(value)


@pytest.mark.parametrize('place', _RULES)
def test_numbers_that_no_run_can_have(place):
    number = _RULES[place]
    wrong = [
        -2,
        math.nan,
        'abc',
        '',
        True,
        [1],
        *([0.5] if number.whole else []),
        *([0] if not number.accepts(0) else []),
    ]
    wrong += [] if math.inf in number.also else [math.inf]
    for value in wrong:
        with pytest.raises(UserError, match=rf'^{place.replace("*", "0")} must be {re.escape(str(number))}, but is '):
            settle_numbers(_with(place, value))
    settle_numbers(_with(place, 1))


@pytest.mark.parametrize(
    ('clip', 'text'),
    [
        (dict(max_nrm=1.0), "has an unknown entry 'max_nrm': of type 'norm' it takes max_norm"),
        (dict(type='value', clip_value=1.0, norm_type=2), "has an unknown entry 'norm_type': of type 'value'"),
        (dict(norm_type=2), "lacks 'max_norm'"),
        (dict(type='nrm', max_norm=1.0), "type must be 'norm' or 'value', but is 'nrm'"),
    ],
)
def test_clipping_has_entries_that_somebody_reads(clip, text):
    for wrapper in (dict(clip_grad=clip), dict(backbone=dict(clip_grad=clip))):
        with pytest.raises(UserError, match=f'optim_wrapper.clip_grad.? ?{text}'):
            settle_numbers(Config(dict(optim_wrapper=wrapper)))
    settle_numbers(Config(dict(optim_wrapper=dict(clip_grad=dict(max_norm=1.0, norm_type=2, error_if_nonfinite=True)))))


@pytest.mark.parametrize(
    ('text', 'options'),
    [
        ('optim_wrapper = dict(optimizer=None)', dict(method='cagrad')),
        ('optim_wrapper = 5', dict(method='cagrad')),
        ('optim_wrapper = [5]', dict(precision='fp16')),
        ('train_dataloader = 5', dict(data_root='x')),
        ('train_dataloader = 5', dict(tasks=['depth'])),
        ('custom_hooks = [5]', dict(tasks=['depth'])),
        ('model = dict(heads=5)', dict(tasks=['depth'])),
    ],
)
def test_shapes_are_checked_before_options_are_applied(tmp_path, text, options):
    path = tmp_path / 'a.py'
    path.write_text(text)
    with pytest.raises(UserError, match=f'^{text.split(" ")[0]}.* must be a (dict|list)'):
        load_config(path, **options)


def test_no_hooks_and_a_base_that_is_no_name(tmp_path):
    assert load_config(ROOMS, dict(custom_hooks=None), tasks=['depth']).custom_hooks is None
    path = tmp_path / 'a.py'
    path.write_text('_base_ = 5')
    with pytest.raises(UserError, match=r'a\.py'):
        load_config(path)


@pytest.mark.parametrize('name', ['val', 'test'])
def test_half_a_validation_is_refused_before_training(name):
    for absent in itertools.product([False, True], repeat=3):
        parts = dict(zip(('dataloader', 'cfg', 'evaluator'), absent))
        cfg = Config({f'{name}_{part}': None if lost else dict(a=1) for part, lost in parts.items()})
        if all(absent) or not any(absent):
            check_start(cfg)
            continue
        with pytest.raises(UserError, match=f'{name}_.* must be given beside {name}_'):
            check_start(cfg)


@pytest.mark.parametrize('place', ['optim_wrapper', 'optim_wrapper.backbone'])
def test_an_optimizer_that_nobody_knows_is_named_before_training(place):
    optimizer = dict(type='Admm')
    for part in reversed([*place.split('.'), 'optimizer']):
        optimizer = {part: optimizer}
    with pytest.raises(UserError, match=rf"^{place}.optimizer.type: there is no optimizer 'Admm'; did you mean 'Adam"):
        check_start(Config(optimizer))
    optimizer = Config(dict(optim_wrapper=dict(optimizer=dict(type='Adam'))))
    check_start(optimizer)


def test_a_loader_without_workers_needs_no_other_change():
    loader = loaded('train_dataloader.num_workers=0', 'train_dataloader.prefetch_factor=2').train_dataloader
    assert not loader.get('persistent_workers')
    assert 'prefetch_factor' not in loader


def _leaves(node, place=''):
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        here = f'{place}.{key}' if place else str(key)
        if isinstance(value, dict | list):
            yield from _leaves(value, here)
        else:
            yield here, value


def _check(cfg):
    settle_numbers(cfg)
    check_start(cfg)


def test_no_setting_of_the_runtime_is_of_another_kind():
    runtime = Config.fromfile(str(ROOT / 'configs/_base_/default_runtime.py'))
    wrong = [
        (place, 5 if isinstance(value, str | None) else 'x')
        for place, value in _leaves(runtime.to_dict())
        if not place.startswith('vis_backends') and not place.endswith('type')
    ]
    more = dict(log_processor=dict(window_size=0, num_digits=-1), env_cfg=dict(resource_limit='x'), log_level='LOUD')
    more |= {'custom_hooks.8.decay': 2, 'custom_hooks.9.columns': 0, 'custom_hooks.9.tasks': 'depth'}
    for place, value in [*wrong, *_leaves(more)]:
        cfg = Config(runtime.to_dict())
        cfg.merge_from_dict({place: value})
        with pytest.raises(UserError, match=f'^{re.escape(place)} must be .*, but (is|got) {value!r}'):
            _check(cfg)


def test_kinds_fit_the_shipped_configs():
    for path in sorted((ROOT / 'configs').glob('*/*.py'))[::6]:
        check_start(load_config(path))
