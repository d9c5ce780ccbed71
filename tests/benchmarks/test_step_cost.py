"""The step benchmark on a tiny ViT: its instruments, and the targets that do not depend on the clock."""

import functools
import json

import pytest
import torch

from benchmarks import equality, step_cost
from benchmarks.counting import count_step
from benchmarks.equality import UnequalUpdatesError, check_equal_updates
from benchmarks.results import MEMORY_GROWTH, MEMORY_LIMIT, READS_PER_STEP, check_all
from benchmarks.step_cost import main
from benchmarks.systems import System, build_all, build_gd, build_released, build_stgu
from benchmarks.workload import Workload
from mtl_plugins.experiments.measuring.memory import peak_memory

MICRO = dict(embed_dim=32, depth=2, num_heads=2, patch_size=8, out_indices=(0, 1))


def micro(num_tasks=4):
    return Workload(num_tasks, image_size=32, batch_size=2, backbone=MICRO)


def counted(system, batch):
    system.step()
    return count_step(system, batch)


def test_updates_equal_those_of_the_released_loop():
    work = micro()
    assert max(check_equal_updates(work, work.make_batch()).values()) <= 1e-5


def test_another_update_voids_the_comparison(monkeypatch):
    class OtherLoop(equality.ReleasedLoop):
        def step(self, batch, order=None):
            super().step(batch, order[::-1])

    monkeypatch.setattr(equality, 'ReleasedLoop', OtherLoop)
    work = micro()
    with pytest.raises(UnequalUpdatesError, match='4 tasks in 2 groups'):
        check_equal_updates(work, work.make_batch())


@pytest.mark.parametrize('num_tasks', [3, pytest.param(11, marks=pytest.mark.slow)])
def test_stgu_runs_one_forward_and_backward_per_group(num_tasks):
    work = micro(num_tasks)
    batch = work.make_batch()
    for num_groups in work.group_counts():
        counts = counted(build_stgu(work, batch, num_groups), batch)
        assert (counts.forwards, counts.probes, counts.backwards, counts.steps) == (
            num_groups,
            0,
            num_groups,
            num_groups,
        )
        assert counts.head_forwards == num_groups * num_tasks
        assert counts.head_forwards_with_graph == counts.head_backwards == num_tasks
        assert counts.host_reads <= READS_PER_STEP * num_groups
        assert counts.flops <= counted(build_released(work, batch, num_groups), batch).flops


def test_gd_runs_one_forward_and_backward():
    work = micro()
    batch = work.make_batch()
    counts = counted(build_gd(work, batch), batch)
    assert (counts.forwards, counts.probes, counts.backwards, counts.steps) == (1, 0, 1, 1)
    assert counts.host_reads <= READS_PER_STEP


def test_counts_see_more_work():
    """A probe is a forward without graph; the released loop reads each pair and gives every head a graph."""
    work = micro()
    batch = work.make_batch()
    assert counted(build_stgu(work, batch, 2, probe_interval=1), batch).probes == 1
    released = counted(build_released(work, batch, 2), batch)
    assert released.head_forwards_with_graph == 2 * work.num_tasks
    # No pairs in the first group, which has nothing to compare with; the losses themselves are kept after each group.
    assert released.host_reads >= work.num_tasks * 2 + work.num_tasks * 2


@pytest.mark.parametrize('num_groups', [1, 4])
def test_checks_fail_where_a_target_is_missed(num_groups):
    work = micro()
    batch = work.make_batch()
    rows = [
        step_cost._count(work, system, batch, lambda: None)
        for system in build_all(work, batch)
        if system.name == 'gd' or system.num_groups == num_groups
    ]
    assert all(check.ok for check in check_all(rows))
    stgu = rows[1]
    for field in ('forwards', 'backwards', 'probes', 'steps', 'host_reads', 'head_forwards_with_graph', 'flops'):
        value = getattr(stgu.counts, field)
        setattr(stgu.counts, field, value + 1 if field != 'host_reads' else READS_PER_STEP * num_groups + 1)
        missed = [check for check in check_all(rows) if not check.ok]
        setattr(stgu.counts, field, value)
        assert len(missed) == 1, field


def test_memory_targets():
    """With ViT-Tiny's width and enough pixels; two blocks, as blocks only add the same to both."""
    peaks = {}
    for num_tasks in (4, 11):
        work = Workload(num_tasks, image_size=96, backbone=dict(depth=2, out_indices=(0, 1)))
        batch = work.make_batch()
        for build in (build_stgu, build_released):
            system = build(work, batch, num_tasks)
            system.step()
            peaks[system.name, num_tasks] = peak_memory(system, batches=1)
    assert peaks['stgu', 11] <= MEMORY_LIMIT * peaks['released', 11]
    assert peaks['stgu', 11] == pytest.approx(peaks['stgu', 4], rel=MEMORY_GROWTH)


def test_peak_memory_is_exact():
    model = torch.nn.Linear(2, 2)

    def step():
        kept = torch.ones(1000)  # 4000 bytes
        torch.ones(500)  # 2000, freed at once
        second = torch.ones(300)  # 1200
        del kept, second

    system = System('gd', 1, model, torch.optim.SGD(model.parameters(), lr=0.1), step)
    assert peak_memory(system) == 6000


def test_command_writes_its_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(step_cost, 'Workload', functools.partial(Workload, backbone=MICRO))
    out = tmp_path / 'figures' / 'step_cost.json'
    code = main(['--num-tasks', '2', '--image-size', '32', '--rounds', '0', '--warmup', '0', '--out', str(out)])
    printed = capsys.readouterr().out
    assert code == 0
    assert 'targets met' in printed
    content = json.loads(out.read_text())
    assert [(row['system'], row['num_groups']) for row in content['rows']] == [
        ('gd', 1), ('stgu', 1), ('released', 1), ('stgu', 2), ('released', 2),
    ]  # fmt: skip
    assert all(check['ok'] for check in content['checks'])
    environment = content['settings']['environment']
    assert environment['packages']['torch']
    assert environment['hardware']['cpu']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['--rounds', '1'], 'at least 2'), (['--threads', '0'], '--threads must be at least 1')],
)
def test_wrong_options(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_too_many_tasks(capsys):
    assert main(['--num-tasks', '12', '--rounds', '0']) == 2
    assert 'between 1 and 11' in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_counts_and_memory_on_a_gpu():
    """There torch itself reports what waits for the device."""
    work = Workload(4, image_size=64, device='cuda', backbone=MICRO)
    batch = work.make_batch()
    for num_groups in work.group_counts():
        stgu, released = build_stgu(work, batch, num_groups), build_released(work, batch, num_groups)
        assert counted(stgu, batch).host_reads <= READS_PER_STEP * num_groups
        assert counted(released, batch).host_reads > READS_PER_STEP * num_groups
        assert 0 < peak_memory(stgu) <= peak_memory(released)
