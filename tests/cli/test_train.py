import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mtl_plugins import __main__ as command_line
from mtl_plugins.cli import train
from mtl_plugins.config import load_config
from mtl_plugins.config.datasets import leaf_datasets
from mtl_plugins.errors import UserError
from tests.support.stand_ins import TYPES
from tests.support.tiny import DATA, ROOMS, ROOT, options, shrink

OTHERS = {'_base_', 'mmseg'}
"""Folders without configs of our own models; tests/mmseg trains those in configs/mmseg."""
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if OTHERS.isdisjoint(path.parts))


def state(checkpoint):
    return torch.load(checkpoint, weights_only=True)


def test_as_a_user_runs_it(tmp_path):
    command = [sys.executable, str(ROOT / 'tools/train.py'), *options(), ROOMS, '--precision', 'bf16', '--seed', '3']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([*command, '--resume'], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / 'work_dirs' / 'stgu_vit-micro_8b-2k_rooms-96'
    saved = state(folder / 'iter_2.pth')
    assert saved['optimizer']['mtl']['method'] == 'stgu'
    assert saved['optimizer']['mtl']['precision']['name'] == 'bf16'
    assert saved['meta']['seed'] == 3
    assert [entry['iter'] for entry in json.loads((folder / 'metrics.json').read_text())] == [2]
    assert '--resume: no loadable checkpoint in work_dirs/stgu_vit-micro_8b-2k_rooms-96; training starts' in done.stdout
    assert 'Semantic segmentation' in done.stdout
    assert "method 'stgu' on 5 tasks" in done.stdout


LATER = (
    '_vit-small_1xb8', '_vit-base_1xb8', '_vit-large_1xb', 'hrnet', 'r50-aspp', 'stgu_released_', 'cagrad_', 'dinov3',
    'stgu_dinov2', 'stgu_efficientnet', 'dinov2-small_1xb8', 'adapters_1xb8', 'efficientnet-lite0_1xb8',
)  # fmt: skip
"""Parts of the names of configs that wait for the slow tests: variations of what the everyday tests train."""


def as_parameter(path):
    return pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if any(n in path.stem for n in LATER) else [])


@pytest.mark.parametrize('path', [as_parameter(path) for path in CONFIGS])
def test_every_shipped_config_trains_and_validates(path, tmp_path):
    cfg = load_config(path, work_dir=str(tmp_path))
    unknown = {dataset.type for _, dataset in leaf_datasets(cfg)} - set(DATA) - set(TYPES)
    assert not unknown, f'say in tests/support/tiny.py how {unknown} are made small'
    train.build_runner(shrink(cfg)).train()
    (entry,) = json.loads((tmp_path / 'metrics.json').read_text())
    tasks = list(cfg.model.heads)
    assert {name.split('/')[0] for name in entry['metrics']} - {'delta_m'} == set(tasks)
    assert state(tmp_path / 'iter_2.pth')['optimizer']['mtl']['tasks'] == tasks
    assert len(list((tmp_path / 'panels' / 'iter_000002').glob('*.png'))) > 0
    in_groups = path.stem.startswith('stgu')
    assert all((tmp_path / name).is_file() == in_groups for name in ('affinity.png', 'groups.png'))


def test_the_model_trains_alike_with_the_plain_wrapper(tmp_path):
    weights = []
    for kind in ('OptimWrapper', 'mtl_plugins.MultiTaskOptimWrapper'):
        cfg = shrink(load_config(ROOMS, work_dir=str(tmp_path / kind)))
        cfg.optim_wrapper = dict(type=kind, optimizer=cfg.optimizer)
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        train.build_runner(cfg).train()
        weights.append(state(tmp_path / kind / 'iter_2.pth')['state_dict'])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_goes_on_from_the_newest_checkpoint(tmp_path):
    folder = tmp_path / 'run'
    arguments = [ROOMS, '--work-dir', str(folder), '--resume']
    assert train.main([*arguments, *options(2)]) == 0
    assert state(folder / 'iter_2.pth')['meta']['iter'] == 2
    (folder / 'iter_9.pth').write_bytes(b'half a file')
    assert train.main([*arguments, *options(4)]) == 0
    assert [entry['iter'] for entry in json.loads((folder / 'metrics.json').read_text())] == [2, 4]
    steps = [int(s['step']) for s in state(folder / 'iter_4.pth')['optimizer']['state'].values()]
    # Shared parameters are stepped once per group, a head once per batch.
    assert min(steps) == 4


@pytest.mark.parametrize('asked', ['--resume', 'resume=True'])
def test_a_folder_whose_checkpoints_do_not_load_is_not_trained_over(tmp_path, asked):
    (tmp_path / 'iter_2.pth').write_bytes(b'half a file')
    before = dict(CheckpointLoader._schemes)
    given = options(2, asked) if '=' in asked else [asked, *options(2)]
    with pytest.raises(UserError, match=r'none of the 1 checkpoints in .* can be resumed from(.|\n)*iter_2\.pth'):
        train.main([ROOMS, '--work-dir', str(tmp_path), *given])
    assert (tmp_path / 'iter_2.pth').read_bytes() == b'half a file'
    assert CheckpointLoader._schemes == before


def test_goes_on_from_a_named_checkpoint_by_the_config_beside_it(trained, tmp_path):
    start, (config,) = trained / 'iter_2.pth', trained.glob('*.py')
    assert list(load_config(config).model.heads) != state(start)['meta']['mtl']['tasks']  # the file is alphabetical
    assert train.main([str(config), '--work-dir', str(tmp_path), '--resume-from', str(start), *options(3)]) == 0
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['iter_3.pth']
    with pytest.raises(FileNotFoundError, match=r'--resume-from \S*gone\.pth: there is no such file'):
        train.main([ROOMS, '--work-dir', str(tmp_path), '--resume-from', str(tmp_path / 'gone.pth'), *options()])


def test_the_last_validation_is_made_up_for(trained, tmp_path):
    """A run that was stopped after its last iteration, before the validation."""
    for name in ('iter_2.pth', 'last_checkpoint'):
        shutil.copy(trained / name, tmp_path / name)
    arguments = [ROOMS, '--work-dir', str(tmp_path), '--resume', *options(2)]
    assert train.main(arguments) == 0
    expected, found = (json.loads((folder / 'metrics.json').read_text()) for folder in (trained, tmp_path))
    assert [entry['metrics'] for entry in found] == [entry['metrics'] for entry in expected]
    assert found[0]['cost']['forwards'] == expected[0]['cost']['forwards'] > 2
    written = (tmp_path / 'metrics.json').stat().st_mtime_ns
    assert train.main([*arguments, 'experiment_name=again']) == 0
    assert (tmp_path / 'metrics.json').stat().st_mtime_ns == written


def test_resuming_with_another_method_is_refused(trained, tmp_path):
    arguments = [ROOMS, '--work-dir', str(tmp_path), '--resume-from', str(trained / 'iter_2.pth')]
    with pytest.raises(ValueError, match='method'):
        train.main([*arguments, '--method', 'gd', *options(3)])


def test_lists_the_methods(capsys):
    assert train.main(['--list-methods']) == 0
    text = capsys.readouterr().out
    assert all(key in text for key in ('gd', 'stgu', 'stgu_released'))


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (['nothing.py'], FileNotFoundError, 'config nothing.py not found: the shipped ones are in'),
        (['gd_vit-mcro_8b-2k_rooms-96.py'], FileNotFoundError, r'did you mean .*rooms/gd_vit-micro_8b-2k_rooms-96\.py'),
        ([ROOMS, '--method', 'stug'], KeyError, "unknown method 'stug': did you mean 'stgu'"),
        ([ROOMS, '--data-root', 'photos'], ValueError, 'reads no folder of files'),
        ([ROOMS, '--cfg-options', 'compile=True'], ValueError, 'compile the backbone instead'),
        ([ROOMS, '--cfg-options', 'optim_wrapper.probe_interval=0'], ValueError, 'probe_interval'),
        ([ROOMS, '--cfg-options', 'val_evaluator.baselines=no.json'], FileNotFoundError, 'single_task_baselines.py'),
    ],
)
def test_mistakes_are_named(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        train.main([*arguments, '--work-dir', str(tmp_path), *options()])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'a config file is needed'),
        ([ROOMS, '--resume', '--resume-from', 'x'], 'not allowed with argument --resume'),
        ([ROOMS, '--precision', 'fp8'], "invalid choice: 'fp8'"),
    ],
)
def test_wrong_arguments_give_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_package_is_a_command(monkeypatch, capsys):
    for arguments, code in ((['--help'], 0), ([], 0), (['trian'], 2), (['train', '--list-methods'], 0)):
        monkeypatch.setattr(sys, 'argv', ['mtl_plugins', *arguments])
        assert command_line.main() == code
    assert 'usage: python -m mtl_plugins COMMAND' in capsys.readouterr().out
