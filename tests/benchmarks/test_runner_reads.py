"""How often the host waits for the device in a whole iteration of the Runner, with the hooks of our default runtime."""

import pytest

from benchmarks.host_reads import HostReads
from mtl_plugins.config import build_runner, load_config, set_method
from mtl_plugins.engine.catalogue import list_methods
from mtl_plugins.engine.optim_wrappers import SelectiveTaskGroupOptimWrapper
from mtl_plugins.registry import OPTIM_WRAPPERS
from tests.support.tiny import ROOMS, shrink

ON_ROWS = {
    'ada_task': 2,
    'db_mtl': 8,
    'excess_mtl': 4,
    'graddrop': 3,
    'moco': 4,
    'modo': 4,
    'nash_mtl': 2,
    'sdmgrad': 4,
}
"""Row methods that ask for more than one Gramian."""
BEFORE_LOSSES = ('gd', 'uw', 'dwa', 'dtp', 'rlw', 'imtl_l')
"""Methods whose weights are known before the losses of the batch."""
SEVERAL_FORWARDS = {'famo': 3, 'f_mtl': 11, 'samo': 19, 'phases': 5}
NORMS = {'gradnorm': 3, 'emtl': 3}


class Counted(Exception):
    pass


def leaves(value):
    if hasattr(value, 'all_items'):
        value = dict(value.all_items())
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [value] if hasattr(value, 'grad_fn') else []


def count_in_turn(work_dir, methods):
    """Method -> reads in its second batch, by one training with the wrapper of each in turn."""
    cfg = shrink(load_config(ROOMS, work_dir=str(work_dir)))
    cfg.train_cfg.max_iters = 10**6
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = cfg.param_scheduler = None
    cfg.default_hooks.logger.interval = 10**6
    runner = build_runner(cfg)
    loop, found = runner.train_loop, {}
    run_iter = loop.run_iter

    def in_turn(batch):
        for method in methods:
            changed = cfg.copy()
            set_method(changed, method)
            runner.optim_wrapper = runner.build_optim_wrapper(changed.optim_wrapper)
            runner.optim_wrapper.initialize_count_status(runner.model, 0, 10**6)
            run_iter(batch)
            with HostReads([*runner.model.parameters(), *runner.model.buffers(), *leaves(batch)]) as reads:
                run_iter(batch)
            found[method] = reads.count
        raise Counted

    loop.run_iter = in_turn
    with pytest.raises(Counted):
        runner.train()
    return found


def limit(row):
    if row.key in BEFORE_LOSSES:
        return 1
    if issubclass(OPTIM_WRAPPERS.get(row.wrapper), SelectiveTaskGroupOptimWrapper):
        return 5 + 1  # one group per task, and a probe
    return (ON_ROWS | SEVERAL_FORWARDS | NORMS).get(row.key, 2 if row.kind == 'loss weighting' else 1)


@pytest.mark.parametrize(
    'methods',
    [['gd', 'stgu', 'upgrad', 'uw'], pytest.param([row.key for row in list_methods()], marks=pytest.mark.slow)],
    ids=['some', 'all'],
)
def test_reads_per_iteration(methods, tmp_path):
    found = count_in_turn(tmp_path, methods)
    limits = {row.key: limit(row) for row in list_methods() if row.key in methods}
    assert found.keys() == limits.keys()
    assert {method: count for method, count in found.items() if count > limits[method]} == {}
