"""From gains to groups on the command line."""

import json
from pathlib import Path

import pytest

from mtl_plugins.cli import group_tasks
from mtl_plugins.cli.group_tasks import main
from mtl_plugins.config import load_config
from mtl_plugins.errors import UserError
from tests.support.runs import tiny_config

TASKS = ['depth', 'normals', 'semseg']
HELP = [[1.0, 0.5, -0.4], [0.6, 1.0, -0.5], [-0.3, -0.2, 1.0]]


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('config')
    cfg = tiny_config(folder / 'run', folder / 'cache', 'gd', **{'train_cfg.max_iters': 4})
    cfg.dump(str(folder / 'tiny.py'))
    return str(folder / 'tiny.py')


def gains(folder, **changes):
    path = folder / 'task_gains.json'
    entry = dict(tasks=TASKS, gains=dict(tag=HELP, ptg=HELP, proximal=HELP[::-1]), settings=dict(measured=4))
    path.write_text(json.dumps({**entry, **changes}))
    return str(path)


def test_groups_of_measured_gains(config, tmp_path, capsys):
    maps, out = gains(tmp_path), tmp_path / 'out'
    assert main([config, '--maps', maps, '--by', 'ptg', '--groups', '2', '--out', str(out)]) == 0
    told = capsys.readouterr().out
    assert 'depth + normals | semseg' in told
    assert 'rank correlation of tag and ptg: +1.00' in told
    assert 'to serve all tasks: 2 forwards per image' in told
    assert f'{config} --tasks depth,normals --work-dir' in told
    written = json.loads((out / 'groups.json').read_text())
    assert written['groupings'][0]['groups'] == [['depth', 'normals'], ['semseg']]
    assert written['groupings'][0]['score'] == pytest.approx(1.55 + 1)
    assert written['settings'] == dict(measured=4)
    assert (out / 'groups.png').is_file()
    assert (out / 'gains.png').is_file()
    stgu = load_config(str(out / 'stgu_fixed.py'))
    assert stgu.optim_wrapper.grouper == dict(type='Fixed', groups=[['depth', 'normals'], ['semseg']])
    assert stgu.optim_wrapper.optimizer == load_config(config).optim_wrapper.optimizer


def test_no_command_is_printed_that_would_be_refused(config, tmp_path, capsys, monkeypatch):
    """As for a model of MMSegmentation, whose tasks are made of its losses."""
    whole = load_config(config)
    whole.model.pop('heads')
    monkeypatch.setattr(group_tasks, 'load_config', lambda *_, **__: whole)
    main([config, '--maps', gains(tmp_path), '--out', str(tmp_path / 'out')])
    told = capsys.readouterr().out
    assert 'one network per group takes a config for each' in told
    assert '--tasks depth' not in told
    assert (tmp_path / 'out' / 'stgu_fixed.py').is_file()


def test_overlapping_groups_are_no_groups_of_stgu(config, tmp_path, capsys):
    options = ['--by', 'ptg', '--groups', '3', '--overlap', '--out', str(tmp_path / 'out')]
    help_all = [[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]]
    main([config, '--maps', gains(tmp_path, gains=dict(ptg=help_all)), *options])
    assert '(STGU) is left out: there each task is in one group only' in capsys.readouterr().out
    assert not (tmp_path / 'out' / 'stgu_fixed.py').exists()


@pytest.mark.parametrize(
    ('changes', 'options', 'message'),
    [
        (dict(), ['--by', 'cosine'], '--by cosine: that was not measured; there are tag, ptg, proximal'),
        (dict(tasks=['depth', 'normals', 'edge']), [], 'holds gains of depth, normals, edge, but .* trains'),
        (
            dict(),
            ['--tasks', 'depth,semseg', '--by', 'tag', '--exactly', '3'],
            '--exactly: 2 tasks do not make 3 groups',
        ),
        (dict(tasks=3), [], 'is no task_gains.json as LookAheadHook writes it'),
        (dict(gains=dict(tag=[[10**400] * 3] * 3)), [], 'is no task_gains.json as LookAheadHook writes it'),
        (dict(gains=dict(own=HELP)), [], "gains of the kinds proximal, tag, ptg, cosine, but it holds 'own'"),
        (dict(tasks=[*TASKS[:2], 'depth']), [], 'every task must occur once, but tasks are depth, normals, depth'),
        (dict(), ['--by', 'ptg', '--alone', '0'], "--alone is a score of TAG's, but groups by 'ptg' are made by PTG's"),
        (dict(), ['--exactly', '2', '--overlap'], '--exactly and --overlap go together for PTG only'),
        (dict(), ['--tasks', 'depth'], 'groups are made of 2 to 12 tasks, but there is only depth'),
        (dict(gains=dict(tag=[[1.0]])), [], 'gains.tag must hold 3 rows of 3 numbers'),
        (dict(gains=dict(tag=[[1.0, None, 1.0], *HELP[1:]])), [], "for 'depth' does to 'normals' was never measured"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(config, tmp_path, changes, options, message):
    with pytest.raises(UserError, match=message):
        main([config, '--maps', gains(tmp_path, **changes), '--out', str(tmp_path / 'out'), *options])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['there.pth', '--resume'], '--resume has no effect with CHECKPOINT, only with a training'),
        (['there.pth', '--every', '3'], '--every has no effect with CHECKPOINT, only with a training'),
        (['--batches', '3'], '--batches has no effect with a training, only with CHECKPOINT'),
        (['--maps', 'gains.json', '--resume'], '--resume has no effect with --maps, only with a training'),
        (['--maps', 'gains.json', '--every', '3'], '--every has no effect with --maps, only with a training'),
        (
            ['--maps', 'gains.json', '--measure', 'ptg'],
            '--measure has no effect with --maps, only with CHECKPOINT or a',
        ),
        (['there.pth', '--maps', 'gains.json'], 'CHECKPOINT asks for gains at its weights, --maps for those of a file'),
    ],
)
def test_what_would_be_without_effect_is_refused(config, capsys, options, message):
    with pytest.raises(SystemExit):
        main([config, *options])
    assert message in capsys.readouterr().err


def test_what_was_set_for_the_measuring_is_set_in_what_comes_of_it(config, tmp_path, capsys):
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.5', 'work_dir=a b']
    main([config, '--maps', gains(tmp_path), '--out', str(tmp_path / 'out'), *options])
    assert "--cfg-options optim_wrapper.optimizer.lr=0.5 'work_dir=a b'\n" in capsys.readouterr().out
    assert load_config(str(tmp_path / 'out' / 'stgu_fixed.py')).optim_wrapper.optimizer.lr == 0.5


@pytest.mark.parametrize(
    ('options', 'groups'),
    [
        (['--by', 'tag', '--exactly', '3'], 'depth | normals | semseg'),
        (['--by', 'tag', '--exactly', '1'], 'depth + normals + semseg'),
        (['--by', 'ptg', '--exactly', '1'], 'depth + normals + semseg'),
        (
            ['--by', 'ptg', '--exactly', '4', '--overlap'],
            'depth | depth + normals | normals | semseg',
        ),
        (['--by', 'tag', '--alone', '0'], 'depth + normals | semseg'),
        (['--by', 'tag', '--tasks', 'semseg,depth'], 'semseg + depth'),
    ],
)
def test_so_many_groups_of_so_many_tasks(config, tmp_path, capsys, options, groups):
    main([config, '--maps', gains(tmp_path), '--out', str(tmp_path / 'out'), *options])
    told = capsys.readouterr().out
    assert f'  {groups}\n' in told
    assert f'to serve all tasks: {groups.count("|") + 1} forward{"s" * ("|" in groups)} per image' in told


def test_a_resumed_measuring_leaves_no_trace_in_what_comes_of_it(config, tmp_path, monkeypatch):
    """The config with the groups begins anew."""
    monkeypatch.setattr(group_tasks, 'resume_newest', lambda cfg: cfg.update(resume=True, load_from='old.pth'))
    monkeypatch.setattr(group_tasks, 'measure', lambda cfg, *_: cfg.load_from == 'old.pth' and Path(gains(tmp_path)))
    main([config, '--resume', '--out', str(tmp_path / 'out')])
    written = load_config(str(tmp_path / 'out' / 'stgu_fixed.py'))
    assert (written.get('resume', False), written.get('load_from')) == (False, None)


def test_that_there_may_be_more_groupings_is_told(config, tmp_path, capsys):
    main([config, '--maps', gains(tmp_path), '--by', 'ptg', '--overlap', '--tolerance', '9', '--out', str(tmp_path)])
    assert '(20 or more groupings within 9; what follows is about the first)' in capsys.readouterr().out


def test_many_tasks_are_drawn_and_not_grouped(config, tmp_path, monkeypatch):
    names = [f't{number}' for number in range(13)]
    whole = load_config(config)
    whole.model.heads = dict.fromkeys(names, whole.model.heads.semseg)
    monkeypatch.setattr(group_tasks, 'load_config', lambda *_, **__: whole)
    maps = gains(tmp_path, tasks=names, gains=dict(tag=[[0.1] * 13] * 13))
    with pytest.raises(UserError, match='groups are made of 2 to 12 tasks, but there are 13'):
        main([config, '--maps', maps, '--out', str(tmp_path / 'out')])
    assert (tmp_path / 'out' / 'gains.png').is_file()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--measure', 'tag', '--by', 'ptg'], '--by ptg needs --measure tag,ptg'),
        (['--tasks', 'depth'], 'groups are made of 2 to 12 tasks, but there is only depth'),
        (['--exactly', '4'], '--exactly: 3 tasks do not make 4 groups'),
        (['--measure', 'ptg', '--alone', '0'], "--alone is a score of TAG's"),
        (['--exactly', '2', '--overlap'], '--exactly and --overlap go together for PTG only'),
        (['--exactly', '2', '--groups', '2'], 'not allowed with argument'),
        (['--alone', 'nan'], "argument --alone: expected a number, but got 'nan'"),
    ],
)
def test_what_cannot_be_grouped_is_not_measured(config, capsys, options, message):
    with pytest.raises((SystemExit, UserError)) as error:
        main([config, *options])
    assert message in capsys.readouterr().err + str(error.value)


@pytest.mark.slow
def test_gains_of_a_training_and_of_its_checkpoint(config, tmp_path, capsys):
    main([config, '--measure', 'tag,ptg,proximal,cosine', '--every', '2', '--out', str(tmp_path / 'a')])
    assert json.loads((tmp_path / 'a' / 'task_gains.json').read_text())['settings']['measured'] == 2
    whole = (tmp_path / 'a' / 'task_gains.json').read_text()
    options = ['--measure', 'tag,ptg,proximal,cosine', '--every', '2', '--out', str(tmp_path / 'c')]
    main([config, *options, '--cfg-options', 'train_cfg.max_iters=2'])
    with pytest.raises(UserError, match=r'LookAheadHook.interval: 2 in the checkpoint, 1 now'):
        main([config, *options, '--every', '1', '--resume'])
    main([config, *options, '--resume'])
    assert (tmp_path / 'c' / 'task_gains.json').read_text() == whole
    checkpoint = str(tmp_path / 'a' / 'iter_4.pth')
    main([config, checkpoint, '--measure', 'proximal', '--batches', '3', '--out', str(tmp_path / 'b')])
    written = json.loads((tmp_path / 'b' / 'task_gains.json').read_text())
    assert written['settings']['measured'] == 3
    assert list(written['gains']) == ['proximal']
    assert not list((tmp_path / 'b').glob('*.pth'))
