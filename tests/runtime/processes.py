"""What two processes of a gloo group do: ``python -m tests.runtime.processes CASE FOLDER`` on each."""

import contextlib
import signal
import sys
from pathlib import Path


def _runner(folder, hooks=(), **kwargs):
    from .safety import build_runner

    kwargs.setdefault('cfg', dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)))
    return build_runner(folder, hooks, launcher='pytorch', **kwargs)


def rng_resume(folder, rank):
    import torch

    from mtl_plugins.runtime.hooks.rng_state import get_rng_state

    from .safety import Recorder, StopAfter
    from .test_rng_state import _same, assert_same_training

    records = [Recorder() for _ in range(3)]

    def seeded(*args, **kwargs):
        runner = _runner(*args, val_interval=5, **kwargs)
        torch.manual_seed(100 + rank)  # the processes' generators differ, as with diff_rank_seed
        return runner

    whole = seeded(folder / 'whole', [records[0]])
    whole.train()
    state = get_rng_state()
    with contextlib.suppress(StopAfter.Stop):
        seeded(folder / 'run', [records[1], StopAfter(5)]).train()
    resumed = seeded(folder / 'run', [records[2]], resume_from=folder / 'run' / 'iter_5.pth')
    resumed.train()
    assert_same_training(whole, resumed)
    assert records[1].losses | records[2].losses == records[0].losses
    assert _same(get_rng_state(), state)
    saved = torch.load(folder / 'whole' / 'iter_12.pth', weights_only=True)['mtl_rng']['ranks']
    assert len(saved) == 2
    assert not torch.equal(saved[0]['torch'], saved[1]['torch'])
    assert torch.equal(saved[rank]['torch'], state['torch'])


def drift(folder, rank):
    import torch
    from mmengine.hooks import Hook

    from mtl_plugins.runtime.hooks.rank_check import RankMismatchError, RankSyncCheckHook

    class Drift(Hook):
        """Changes the last bit of one weight in process 1 in the third iteration."""

        priority = 'VERY_HIGH'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 2 and rank == 1:
                weight = runner.model.module.body[3].weight.data
                weight.view(torch.int32)[0, 4] ^= 1

    _runner(folder / 'in_step', [RankSyncCheckHook(interval=1)]).train()  # nothing to find
    try:
        _runner(folder, [Drift(), RankSyncCheckHook(interval=2)]).train()
    except RankMismatchError as error:
        message = str(error)
        assert 'after iteration 4' in message, message
        assert 'body.3.weight: rank 0 differ from rank 1' in message, message
    else:
        raise AssertionError('the drift was not found')


def one_signal(folder, rank):
    """Process 1 alone gets a signal in iteration 4; both stop after it."""
    from mmengine.hooks import Hook

    from mtl_plugins.runtime.hooks.preemption import PreemptionHook

    class Signal(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 3 and rank == 1:
                signal.raise_signal(signal.SIGUSR1)

    _runner(folder, [PreemptionHook(), Signal()], checkpoint=dict(interval=100, by_epoch=False)).train()


def main():
    import torch
    import torch.distributed as dist

    from mtl_plugins.runtime.hooks.preemption import close_gloo_at_exit

    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    close_gloo_at_exit()
    globals()[sys.argv[1]](Path(sys.argv[2]), dist.get_rank())


if __name__ == '__main__':
    main()
