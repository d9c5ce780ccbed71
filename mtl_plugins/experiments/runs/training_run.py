"""One training as a resumable process with a folder of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

import mtl_plugins
from mtl_plugins.errors import UserError
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.runtime.hooks.metrics_file import FILE_NAME, read_metrics
from mtl_plugins.runtime.signals import EXIT_PREEMPTED, PARENT
from mtl_plugins.runtime.work_folder import holder
from mtl_plugins.utils.json_files import parse_json, read_json

from .forked import LOST, ForkedProcess, can_fork
from .log_errors import error_line
from .settings import comparable, decisive_settings, first_difference

SETTINGS_FILE = 'settings.json'


class TrainingRun:
    """A training that a tool starts, watches, and goes on with after an interruption.

    Args:
        name: Name in messages.
        folder: Work dir of the run.
        cfg: Its config, from which length and settings are read.
        arguments: Arguments of ``train`` without ``--work-dir`` and ``--resume``; or the name of a config file, which
            ``cfg`` is written to inside of ``folder``.
        launcher: Command that starts a Python program, for example ``torchrun --nproc_per_node=4``; None shares the
            imports with the other trainings, see :class:`ForkedProcess`, or is this interpreter where that is not to
            be had.

    Attributes:
        error: Why the last attempt failed; empty if it did not.
    """

    what = 'a run'

    def __init__(
        self,
        name: str,
        folder: str | os.PathLike,
        cfg: Config,
        arguments: Sequence[str] | str,
        launcher: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.folder = Path(folder)
        self.cfg = cfg
        self._written = self.folder / 'config' / arguments if isinstance(arguments, str) else None
        self.arguments = [str(self._written)] if self._written else list(arguments)
        self.launcher = list(launcher or [])
        self.max_iters = (cfg.get('train_cfg') or {}).get('max_iters')
        self.error = ''
        self._process: subprocess.Popen | ForkedProcess | None = None
        self._lost: ForkedProcess | None = None
        self._environment: Mapping[str, str] = {}
        self._leash = -1
        self._printed_before = 0

    @property
    def log(self) -> Path:
        """What the training prints."""
        return self.folder / 'train.log'

    @property
    def command(self) -> list[str]:
        """The whole command line; running it again goes on from the newest checkpoint."""
        options = ['--work-dir', str(self.folder), '--resume']
        launcher = self.launcher or [sys.executable]
        return [*launcher, '-m', 'mtl_plugins', 'train', *self.arguments, *options]

    def prepare(self) -> None:
        """Make the folder, or check that what is there belongs to the same settings; and write the config, if asked to.

        Raises:
            ValueError: If the folder belongs to a run with other settings; the message names the first difference.
        """
        settings = decisive_settings(self.cfg)
        path = self.folder / SETTINGS_FILE
        if path.is_file():
            change = first_difference(comparable(read_json(path)), comparable(settings))
            if change:
                raise UserError(
                    f'{self.folder} holds {self.what} with other settings ({change}). Remove that folder to train '
                    'anew, or choose another --work-dir'
                )
        else:
            write_atomically(json.dumps(settings, indent=1).encode(), path)
        if self._written:
            self._written.parent.mkdir(parents=True, exist_ok=True)
            self.cfg.dump(str(self._written))

    def metrics(self) -> dict[str, float | None] | None:
        """The metrics of the last validation if the training is finished, else None."""
        entries = read_metrics(self.folder / FILE_NAME)
        if not entries or (self.max_iters is not None and entries[-1]['iter'] != self.max_iters):
            return None
        return entries[-1]['metrics']

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.metrics() is not None

    def outcome(self) -> str:
        """What a finished run is reported with."""
        return 'finished'

    def start(self, environment: Mapping[str, str]) -> None:
        """Start training in a process of its own, from its newest checkpoint if there is one.

        If another process is at work in the folder, such as a training whose command was killed and which saves its
        state just now, the start waits for its end; see :meth:`waits_for`.
        """
        self._environment = environment
        if not self.waits_for():
            self._launch(environment)

    def waits_for(self) -> str:
        """The process that has to end before this one can start, in words; empty if there is none."""
        return holder(self.folder) if self._process is None else ''

    def _launch(self, environment: Mapping[str, str]) -> None:
        package_root = str(Path(mtl_plugins.__file__).parents[1])
        paths = [package_root, *filter(None, [environment.get('PYTHONPATH')])]
        environment = {**environment, 'PYTHONPATH': os.pathsep.join(paths), PARENT: str(os.getpid())}
        if not self.launcher and can_fork():
            self._printed_before = self.log.stat().st_size if self.log.exists() else 0
            self._process = ForkedProcess(self.command[3:], environment, self.log)
            return
        # The training notices by its standard input when this process dies, however that comes about.
        reading, self._leash = os.pipe()
        with self.log.open('ab') as log:
            self._printed_before = log.tell()
            # In a session of its own, so that Ctrl-C does not kill it before it could save.
            self._process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=reading,
                env=environment,
                start_new_session=True,
            )
        os.close(reading)

    def poll(self) -> bool:
        """Whether the process has ended; if so, :attr:`error` says what went wrong, or is empty."""
        if self._process is None:
            if self.waits_for():
                return False
            if self.max_iters is None or self.metrics() is None:  # by epochs, metrics do not tell the last ones
                self._launch(self._environment)
                return False
            code = 0  # the other process has finished the training
        else:
            code = self._process.poll()
            if code is None:
                return False
            if code == LOST and isinstance(self._process, ForkedProcess) and holder(self.folder):
                self._process, self._lost = None, self._process  # it trains on; its standard input stays open
                return False
        self._end()
        self.error = self._exit_problem(code) or self.conclude()
        return True

    def conclude(self) -> str:
        """What is wrong with a training that ended well by itself; empty if nothing is."""
        if self.metrics() is None:
            return f'the last validation is missing in {self.folder / FILE_NAME}; remove {self.folder} to train anew'
        return ''

    def stop(self) -> None:
        """Ask the process to save a checkpoint and end, and wait for it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
            self._end()

    def _end(self) -> None:
        self._process = self._lost = None
        if self._leash >= 0:
            os.close(self._leash)
        self._leash = -1

    def iteration(self) -> int:
        """The last iteration that was logged."""
        if self.finished():
            return self.max_iters or 0
        logs = sorted(self.folder.glob('*/vis_data/scalars.json'))
        if not logs:
            return 0
        with logs[-1].open('rb') as file:
            file.seek(max(0, logs[-1].stat().st_size - 8192))
            for line in reversed(file.read().splitlines()):
                try:
                    return int(parse_json(line, str(logs[-1]))['iter'])
                except (ValueError, KeyError, TypeError):
                    continue
        return 0

    def _exit_problem(self, code: int) -> str:
        if not code:
            return ''
        with self.log.open('rb') as file:
            file.seek(self._printed_before)
            reason = error_line(file.read().decode('utf-8', 'replace'))
        if code == EXIT_PREEMPTED:
            what = 'it was stopped by a signal; the same command goes on with it'
        elif code < 0:
            what = f'it was killed by {signal.Signals(-code).name} after "{reason}"'
        else:
            what = f'exit code {code}: {reason}'
        return f'{what} (all output: {self.log})'
