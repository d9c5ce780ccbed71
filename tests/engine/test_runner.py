"""The strategies inside MMEngine's Runner: schedulers, learning rates per parameter, EMA, the run folder."""

import json
from pathlib import Path

import pytest
import torch

from tests.support.runs import differences, state_of, tiny_config, train


@pytest.fixture(scope='module')
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


def test_run_with_everything(tmp_path, cache_dir):
    """One STGU run: schedulers step per batch, heads have their own rate, EMA follows, the folder is complete."""
    options = {
        'train_cfg.max_iters': 12,
        'default_hooks.checkpoint.interval': 6,
        'optim_wrapper.paramwise_cfg': dict(custom_keys={'heads': dict(lr_mult=3.0)}),
        'optim_wrapper.clip_grad': dict(max_norm=1.0),
        'param_scheduler': [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=24, by_epoch=False)],
    }

    def config(name):
        cfg = tiny_config(tmp_path / name, cache_dir, 'stgu', **options)
        cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.1))
        cfg.custom_hooks.append(dict(type='mtl_plugins.AffinityHook', interval=2))
        return cfg

    runner, _ = train(config('whole'))
    # The schedule counted 12 batches (of 23 until zero), not the optimizer's steps, of which there were more.
    lr = runner.cfg.optim_wrapper.optimizer.lr * (1 - 12 / 23)
    model = runner.model
    rates = {id(p): group['lr'] for group in runner.optim_wrapper.optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(lr * (3 if name.startswith('heads') else 1)), name
    assert int(next(iter(runner.optim_wrapper.optimizer.state.values()))['step']) > 12

    folder = Path(runner.work_dir)
    assert {path.name for path in folder.iterdir()} >= {'affinity.png', 'groups.png', 'metrics.json', 'iter_12.pth'}
    stamp = json.loads((Path(runner.log_dir) / 'environment.json').read_text())
    assert stamp['packages']['torch'].split('+')[0] == torch.__version__.split('+')[0]
    entries = [json.loads(line) for line in (Path(runner.log_dir) / 'affinity.jsonl').read_text().splitlines()]
    assert [entry['iter'] for entry in entries] == [2, 4, 6, 8, 10, 12]
    assert entries[-1]['groups'] == runner.optim_wrapper.group_names
    scalars = (Path(runner.log_dir) / 'vis_data' / 'scalars.json').read_text()
    assert 'affinity/semseg->depth' in scalars

    cfg = config('resumed')
    cfg.resume, cfg.load_from = True, str(folder / 'iter_6.pth')
    resumed, _ = train(cfg)
    assert differences(state_of(runner), state_of(resumed)) == []
    ema = [next(h for h in r.hooks if type(h).__name__ == 'EMAHook').ema_model.state_dict() for r in (runner, resumed)]
    assert differences(*ema) == []


def test_empty_work_dir_resumes_from_nothing(tmp_path, cache_dir):
    from mtl_plugins.cli.train import resume_newest

    cfg = tiny_config(tmp_path / 'none', cache_dir, 'gd')
    resume_newest(cfg)
    assert not cfg.resume


def test_compile_is_refused(tmp_path, cache_dir):
    from mtl_plugins.config import build_runner

    cfg = tiny_config(tmp_path / 'c', cache_dir, 'gd', compile=True)
    with pytest.raises(ValueError, match=r'cfg.compile compiles the whole train_step'):
        build_runner(cfg)


def test_checkpoints_between_accumulated_steps_are_refused(tmp_path, cache_dir):
    options = {'train_cfg.max_iters': 4, 'optim_wrapper.accumulative_counts': 2, 'default_hooks.checkpoint.interval': 3}
    with pytest.raises(ValueError, match=r'checkpoint.interval=3 is no multiple of .*accumulative_counts=2'):
        train(tiny_config(tmp_path / 'a', cache_dir, 'stgu', **options))


# MMEngine's schedulers, stepped per batch, say this of every accumulating run whose first batch does not step.
@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
def test_accumulating_run_resumes_exactly(tmp_path, cache_dir):
    options = {'train_cfg.max_iters': 8, 'optim_wrapper.accumulative_counts': 2, 'default_hooks.checkpoint.interval': 4}
    runner, whole = train(tiny_config(tmp_path / 'whole', cache_dir, 'stgu', **options))
    cfg = tiny_config(tmp_path / 'resumed', cache_dir, 'stgu', **options)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'whole' / 'iter_4.pth')
    resumed, part = train(cfg)
    assert part.losses == {i: whole.losses[i] for i in range(4, 8)}
    assert differences(state_of(runner), state_of(resumed)) == []
