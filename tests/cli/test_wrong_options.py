"""No command ends in a traceback for a wrong value of an option, and none begins its work with one."""

import argparse
import ast
import copy
import importlib.util
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

from mtl_plugins.__main__ import COMMANDS, run
from mtl_plugins.cli.parsers import parser_of
from mtl_plugins.config import load_config
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.errors import UserError
from tests.support.tiny import ROOMS, ROOT, shrink

WORK = {
    'train': ['mmengine.runner.Runner.from_cfg'],
    'test': ['mmengine.runner.Runner.from_cfg'],
    'demo': ['mmengine.runner.Runner.from_cfg'],
    'doctor': ['mmengine.runner.Runner.from_cfg'],
    'infer': ['mtl_plugins.models.MultiTaskSegmentor.forward'],
    'export': ['mtl_plugins.cli.export.export_program'],
    'browse': ['mtl_plugins.cli.browse.build_dataset'],
    'config': [],
    'compare': ['mtl_plugins.cli.compare.execute'],
    'baselines': ['mtl_plugins.cli.baselines.execute'],
    'reproduce': ['mtl_plugins.cli.reproduce.execute'],
    'cost': ['mtl_plugins.cli.cost.model_cost'],
    'throughput': ['mtl_plugins.cli.throughput.build_model'],
    'group-tasks': ['mtl_plugins.cli.group_tasks.measure'],
    'verify': [],
}
"""Command -> where its work begins; what gets there was accepted."""
TOOLS = [
    'analysis/plot_affinity.py',
    'analysis/plot_conflicts.py',
    'datasets/export_rooms.py',
    'misc/method_tables.py',
]
"""The tools that are no commands."""
TEXTS = ['', ' ', 'nope', '-1', '0', 'nan', '1e400', '0,-3', 'a=b', '\N{SNOWMAN}', '/no/such/place']
TEXTS += ['{folder}', '{file}']
OVERRIDES = [
    'train_dataloder.batch_size=4', 'train_dataloader.batch_size=0', 'train_dataloader.batch_size=nan',
    'train_cfg.max_iters=-1', 'train_cfg.max_iters=abc', 'optim_wrapper.optimizer.lr=nan', 'model=3', 'model.heads=[1]',
    'model.backbone=x', 'train_dataloader=3', 'train_dataloader.dataset=x', 'optim_wrapper=abc',
    'optim_wrapper.optimizer=3', 'optim_wrapper.clip_grad=5',
    'optim_wrapper.clip_grad={"max_nrm":1.0}', 'optim_wrapper.clip_grad={"type":"value","max_norm":1.0}',
    'optim_wrapper.clip_grad={"norm_type":2}', 'optim_wrapper.clip_grad={"type":"nrm"}',
    'optim_wrapper.optimizer.type=Admm', f'optim_wrapper.optimizer.lr=1{"0" * 400}',
    'default_hooks=[1]', 'custom_hooks=7', 'custom_hooks=[7]',
    'param_scheduler=5', 'val_evaluator=x', 'train_cfg=x', 'randomness=1', 'randomness.seed=-1', 'load_from=3',
    'work_dir=5', 'model.0=1', 'a', '=', 'a..b=1', 'a=[1', 'a={1}', '',
]  # fmt: skip


class WorkBegins(BaseException):
    """Raised in place of the work."""


class Parsed(BaseException):
    """Carries the parser of a command out of it."""


def begin(*args, **kwargs):
    raise WorkBegins


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with a tiny config, its checkpoint, a picture and a file that is none of them."""
    root = tmp_path_factory.mktemp('options')
    cfg = shrink(load_config(ROOMS))
    cfg.pop('work_dir')
    cfg.dump(str(root / 'tiny.py'))
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), root / 'tiny.pth')
    (root / 'file').write_text('no config: [')
    (root / 'folder').mkdir()
    Image.new('RGB', (96, 96)).save(root / 'photo.png')
    return root


@pytest.fixture(autouse=True)
def _one_reading_per_config(monkeypatch):
    known, read = {}, Config.fromfile

    def remembered(path, *args, **kwargs):
        if path not in known:
            known[path] = read(path, *args, **kwargs)
        return copy.deepcopy(known[path])

    monkeypatch.setattr(Config, 'fromfile', remembered)


def test_every_tool_is_walked():
    alone = []
    for path in sorted((ROOT / 'tools').rglob('*.py')):
        calls = [
            getattr(node.func, 'id', '') for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        if 'run' not in calls and 'ArgumentParser' in path.read_text():
            alone.append(path.relative_to(ROOT / 'tools').as_posix())
    assert alone == sorted(TOOLS)


def valid(name, place):
    """Arguments that the command accepts."""
    config, checkpoint, out = str(place / 'tiny.py'), str(place / 'tiny.pth'), str(place / 'out')
    return {
        'test': [config, checkpoint],
        'infer': [config, checkpoint, str(place / 'photo.png'), '--out', out],
        'export': [config, checkpoint, '--out', f'{out}.pt2'],
        'compare': [config, '--methods', 'gd', '--work-dir', out],
        'throughput': [config, '--methods', 'gd'],
        'baselines': [config, '--work-dir', out],
        'reproduce': ['nyud-vit-t'],
        'verify': ['nyud', str(place / 'folder')],
        'prepare-nyuv2': [str(place / 'file'), str(place / 'new')],
        'demo': [],
        'analysis/plot_affinity.py': [str(place / 'folder')],
        'analysis/plot_conflicts.py': [str(place / 'folder')],
        'datasets/export_rooms.py': ['nyud', str(place / 'new')],
    }.get(name, [config])


def runner_of(name):
    """How a command or tool is called with arguments; returns its exit code."""
    if name in COMMANDS:
        return lambda argv: run(name, argv)
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / 'tools' / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def actions_of(call):
    """All arguments that the parser of a command knows."""
    parse = argparse.ArgumentParser.parse_known_args

    def leave(self, *args, **kwargs):
        raise Parsed(self)

    argparse.ArgumentParser.parse_known_args = leave
    try:
        with pytest.raises(Parsed) as caught:
            call([])
    finally:
        argparse.ArgumentParser.parse_known_args = parse
    return caught.value.args[0]._actions


def lines_of(action, base, positionals, place):
    """The valid line of a command with wrong values of one argument in it."""
    if action.nargs == 0:
        return
    texts = OVERRIDES if '--cfg-options' in action.option_strings else TEXTS
    for text in dict.fromkeys(texts):
        text = text.format(folder=place / 'folder', file=place / 'file') if '{f' in text else text
        words = [text] * (action.nargs if isinstance(action.nargs, int) else 1)
        if action.option_strings:
            option = action.option_strings[-1]
            yield [*base, option, *words] if len(words) > 1 else [*base, f'{option}={words[0]}']
        elif action in positionals:
            number = positionals.index(action)
            yield [*base[:number], text, *base[number + 1 :]]


@pytest.mark.parametrize('name', [*COMMANDS, *TOOLS])
def test_wrong_values(name, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    call = runner_of(name)
    actions = actions_of(call)
    positionals = [action for action in actions if not action.option_strings]
    for target in WORK.get(name, []):
        monkeypatch.setattr(target, begin)
    base, problems = valid(name, place), []
    for action in actions:
        for line in lines_of(action, base, positionals, place):
            problem = _problem(call, line, capsys)
            if problem:
                problems.append(f'{" ".join(line)}: {problem}')
    assert not problems, '\n'.join(problems)


def test_an_empty_text_is_no_name(place, capsys):
    for name in COMMANDS:
        actions = actions_of(runner_of(name))
        positionals = [action for action in actions if not action.option_strings]
        if not isinstance(parser_of(name), ConfigArgumentParser):
            continue
        for action in actions:
            if action.nargs == 0 or action.type is not None or action.choices:
                continue
            base, option = valid(name, place), action.option_strings[-1:]
            number = 0 if option else positionals.index(action)
            line = [*base, *option, ''] if option else [*base[:number], '', *base[number + 1 :]]
            with pytest.raises(SystemExit):
                run(name, line)
            assert 'but got' in capsys.readouterr().err, line


@pytest.mark.parametrize(
    ('line', 'accepted'),
    [
        ('--seed 0 --cfg-options randomness.seed=2', False),
        ('--seed 2 --cfg-options randomness.seed=2', True),
        ('--work-dir a --cfg-options work_dir=b', False),
        ('--resume --cfg-options resume=False', False),
        ('--resume-from a.pth --cfg-options resume=False', False),
        ('--resume-from a.pth --cfg-options resume=True', True),
        ('--seed 0 --cfg-options randomness={seed:2,deterministic:True}', False),
        ('--amp --cfg-options optim_wrapper={precision:fp32}', False),
        ('--amp --cfg-options optim_wrapper={optimizer:{lr:1}}', True),
        ('--resume-from a.pth --cfg-options load_from=b.pth', False),
        ('--precision bf16 --cfg-options optim_wrapper.precision=fp32', False),
        ('--cfg-options launcher=pytorch', False),
        ('--amp --precision bf16', False),
        ('--resume --cfg-options load_from=b.pth', True),
    ],
)
def test_an_option_and_an_entry_do_not_contradict_each_other(line, accepted, capsys):
    if accepted:
        parser_of('train').parse_args(['x.py', *line.split()])
    else:
        with pytest.raises(SystemExit):
            parser_of('train').parse_args(['x.py', *line.split()])
        assert re.search('contradict each other|not allowed with', capsys.readouterr().err)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = object()', 'model must be a dict'),
        ('import sys\nsys.exit(3)', 'config {file} cannot be read: SystemExit: 3'),
    ],
)
def test_a_config_that_is_no_config(text, message, place, capsys):
    file = place / f'odd{len(text)}.py'
    file.write_text(text)
    for name in ('train', 'infer', 'config', 'cost', 'compare'):
        assert run(name, [str(file), *valid(name, place)[1:]]) == 1
        assert message.format(file=file) in capsys.readouterr().err, name


@pytest.mark.parametrize(
    ('method', 'options', 'text'),
    [
        (
            'gd',
            {'optim_wrapper.type': 'mtl_plugins.AdaTaskOptimWrapper'},
            'type=AdaTaskOptimWrapper .* MultiTaskOptimW',
        ),
        ('cagrad', {'optim_wrapper.aggregator.type': 'PCGrad'}, 'aggregator.type=PCGrad .* the method has CAGrad'),
        (
            'cagrad',
            {'optim_wrapper': dict(type='OptimWrapper')},
            'type=OptimWrapper .* GradientAggregationOptimWrapper',
        ),
        ('uw', {'optim_wrapper.weighting': dict(type='DynamicWeightAverage')}, 'weighting.type=DynamicWeightAverage'),
        ('uw', {'optim_wrapper': dict(_delete_=True, optimizer=dict(type='SGD', lr=1))}, 'type=None'),
        ('cagrad', {'optim_wrapper.weighting': dict(type='UncertaintyWeighting')}, ''),
        ('stgu', {'optim_wrapper.grouper': dict(_delete_=True, type='PositiveAffinity')}, ''),
    ],
)
def test_a_method_and_the_parts_of_another_contradict_each_other(place, method, options, text):
    if not text:
        load_config(str(place / 'tiny.py'), options, method)
        return
    with pytest.raises(UserError, match=f'--method {method} and --cfg-options optim_wrapper.{text}'):
        load_config(str(place / 'tiny.py'), options, method)


def test_a_folder_of_the_run_has_a_name(place, monkeypatch):
    monkeypatch.setenv('HOME', str(place))
    assert load_config(str(place / 'tiny.py'), {'work_dir': '~/run'}).work_dir == str(place / 'run')
    assert parser_of('train').parse_args(['x.py', '--work-dir=~/run']).work_dir == place / 'run'
    assert parser_of('train').parse_args(['x.py', '--work-dir=~nobody-of-this-name/run'])
    with pytest.raises(UserError, match="work_dir must be a path, but got ' '; write"):
        load_config(str(place / 'tiny.py'), {'work_dir': ' '})


def _problem(call, line, capsys):
    try:
        code = call(line)
    except WorkBegins:
        code = 0
    except SystemExit as stop:
        code = stop.code
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    text = capsys.readouterr().err
    return f'{code}, {text}' if 'Traceback' in text or code not in (0, 1, 2) else ''
