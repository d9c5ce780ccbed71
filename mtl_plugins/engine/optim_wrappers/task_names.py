"""The names of the tasks of a strategy: when they are known, and what waits for them."""

from collections.abc import Callable, Sequence

from mtl_plugins.errors import UserError, refusing

from ..step.batch import Closure
from ..step.closure import TaskClosure
from ..step.losses import LossTable
from ..step.reduction import Reducer

Use = Callable[[tuple[str, ...]], None]


class TaskNames:
    """Settles the names: they are given, or the model tells them, or the losses of the first batch do.

    Args:
        losses: Which loss belongs to which task; it holds the names.

    Attributes:
        saved: The tasks of the checkpoint that was loaded; None without one, or if it did not know them yet.
    """

    def __init__(self, losses: LossTable) -> None:
        self.losses = losses
        self.saved: tuple[str, ...] | None = None
        self._waiting: list[tuple[Use, str]] = []

    def when_known(self, use: Use, what: str = 'optim_wrapper') -> None:
        """Call ``use(tasks)``, now or once the names are settled.

        Args:
            use: What is to be called.
            what: Whose fault it is if ``use`` raises, for the message.
        """
        if self.losses.tasks is None:
            self._waiting.append((use, what))
            return
        with refusing(what):
            use(self.losses.tasks)

    def settle(self, tasks: Sequence[str]) -> None:
        """Tell the names and their order, once.

        Raises:
            UserError: If the checkpoint has others, there is no name, or what waits for them cannot work with them.
        """
        self._compare(self.saved, tuple(tasks))
        self.losses.fix(tasks)
        waiting, self._waiting = self._waiting, []
        for use, what in waiting:
            self.when_known(use, what)

    def discover(self, closures: Sequence[Closure], reducer: Reducer) -> None:
        """Settle the names by the losses that the batches of any rank have."""
        seen: dict[str, None] = {}
        for closure in closures:
            names = closure.seen_tasks if isinstance(closure, TaskClosure) else list(closure(None, grad=False))
            for names_of_rank in reducer.gather_objects(names):
                seen.update(dict.fromkeys(names_of_rank))
        self.settle(tuple(seen))

    def resume(self, saved: Sequence[str]) -> None:
        """Note the tasks of a checkpoint.

        Raises:
            UserError: If those of this run are others.
        """
        saved = tuple(saved) or None
        self._compare(saved, self.losses.tasks)
        self.saved = saved

    @staticmethod
    def _compare(saved: tuple[str, ...] | None, now: tuple[str, ...] | None) -> None:
        if None not in (saved, now) and saved != now:
            raise UserError(
                f'the checkpoint was trained on the tasks {list(saved)}, this run has {list(now)}; resuming would mix '
                'their state. Start a new run from its weights: load_from=CHECKPOINT without --resume'
            )
