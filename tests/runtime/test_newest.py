import os
import random
import shutil
import signal
import time

import pytest
import torch

from mtl_plugins.runtime.checkpoints import find_newest_loadable, newest
from tests.support.programs import Program

from .safety import build_runner, release, strict_load


class TestFindNewestLoadable:
    @pytest.fixture
    def folder(self, tmp_path):
        runner = build_runner(tmp_path, iters=11, checkpoint=dict(interval=3, by_epoch=False))
        runner.train()
        release(runner)
        return tmp_path  # iter_3, 6, 9, 11

    def test_highest_iteration(self, folder):
        (folder / 'last_checkpoint').write_text(str(folder / 'gone.pth'))
        assert find_newest_loadable(folder) == str(folder / 'iter_11.pth')

    def test_damaged_files_are_skipped_with_a_line_each(self, folder, monkeypatch):
        lines = []
        monkeypatch.setattr(newest, 'print_log', lambda text, *_: lines.append(text))
        whole = (folder / 'iter_11.pth').read_bytes()
        (folder / 'iter_11.pth').write_bytes(whole[: len(whole) // 2])
        damaged = bytearray((folder / 'iter_9.pth').read_bytes())
        place = damaged.find(strict_load(folder / 'iter_9.pth')['state_dict']['body.0.weight'].numpy().tobytes())
        assert place > 0
        damaged[place] ^= 1  # one bit of one weight
        (folder / 'iter_9.pth').write_bytes(damaged)
        (folder / 'iter_20.pth').write_bytes(b'')
        torch.save(dict(state_dict={}), folder / 'iter_30.pth')
        assert find_newest_loadable(folder) == str(folder / 'iter_6.pth')
        reasons = dict(
            iter_30='holds no meta and no optimizer', iter_20='truncated', iter_11='truncated', iter_9='checksum'
        )
        assert len(lines) == len(reasons)
        for line, (name, reason) in zip(lines, reasons.items()):
            assert line.startswith(f'{folder / name}.pth is passed over: ')
            assert reason in line

    @pytest.mark.parametrize('copied', [False, True])
    def test_a_run_that_began_anew_is_gone_on_with(self, folder, monkeypatch, copied):
        """It has fewer iterations than the one whose folder it took; files of a copy are of any age."""
        lines = []
        monkeypatch.setattr(newest, 'print_log', lambda text, *_: lines.append(text))
        runner = build_runner(folder, iters=6, checkpoint=dict(interval=3, by_epoch=False))
        runner.train()
        release(runner)
        assert f'{folder} holds 4 checkpoints of an earlier training (the last is iter_11.pth)' in lines.pop()
        for name, saved in dict(iter_3='20260102', iter_6='20260102', iter_9='20260101', iter_11='20260101').items():
            content = strict_load(folder / f'{name}.pth')
            content['meta']['time'] = f'{saved}_120000'
            torch.save(content, folder / f'{name}.pth')
            age = 1e9 - 50 * (copied == (saved[-1] == '2'))
            os.utime(folder / f'{name}.pth', (age, age))
        assert (folder / 'last_checkpoint').read_text().endswith('iter_6.pth')
        if not copied:
            (folder / 'last_checkpoint').unlink()
        for _ in range(2):
            assert find_newest_loadable(folder) == str(folder / 'iter_6.pth')
            assert f'{folder / "iter_11.pth"} has more iterations than {folder / "iter_6.pth"}, but was' in lines.pop()

    def test_nothing_there(self, tmp_path):
        assert find_newest_loadable(tmp_path / 'none') is None
        (tmp_path / 'last_checkpoint').write_bytes(b'\0')
        assert find_newest_loadable(tmp_path) is None

    def test_pointer_to_another_folder(self, folder, tmp_path_factory):
        work_dir = tmp_path_factory.mktemp('work')
        (work_dir / 'last_checkpoint').write_text(str(folder / 'iter_3.pth'))
        assert find_newest_loadable(work_dir) == str(folder / 'iter_11.pth')
        shutil.copy(folder / 'iter_3.pth', work_dir)  # the work dir is a copy of the folder as it was
        assert find_newest_loadable(work_dir) == str(work_dir / 'iter_3.pth')


def _kill_while_saving(work_dir, generator):
    """Train from the newest checkpoint on, saving after each iteration, and kill it at a random moment."""
    with Program('-m', 'tests.runtime.safety', work_dir, '--keep', 1, '--width', 60000) as program:
        program.wait_for('iteration.*\n(.*\n)*iteration')
        time.sleep(generator.uniform(0, 0.3))
        program.kill()
        assert program.wait(30) == -signal.SIGKILL, program.stderr
        output = program.stdout.splitlines()
    reached = [int(line.split()[1]) for line in output if line.startswith('iteration')]
    start = next(line.split()[1] for line in output if line.startswith('start'))
    return start, max(reached)


@pytest.mark.parametrize('kills', [3, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_kill_9_around_saves_with_one_checkpoint_kept(tmp_path, kills):
    generator = random.Random(0)
    expected = 'None'
    for _ in range(kills):
        start, reached = _kill_while_saving(tmp_path, generator)
        assert start == expected  # it resumed from what the last kill had left
        expected = find_newest_loadable(tmp_path)
        assert expected is not None
        iteration = torch.load(expected, weights_only=True)['meta']['iter']
        assert reached - 1 <= iteration <= reached
        assert len(list(tmp_path.glob('iter_*.pth'))) <= 2
