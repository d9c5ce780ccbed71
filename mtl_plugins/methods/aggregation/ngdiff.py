"""Differences of normalised gradients."""

from collections.abc import Mapping, Sequence

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.naming import check_known

from .gramian import GramianAggregator, Products


class NGDiff(GramianAggregator):
    """Sum of the unit gradients, with a sign per task: u = sum_k s_k g_k / |g_k|.

    Paper: Bu, Jin and others, Unlearning as Multi-Task Optimization: A Normalized Gradient Difference Approach with an
    Adaptive Learning Rate, NAACL 2025, arXiv 2410.22086, on unlearning: two objectives, one to descend (retain,
    s = 1) and one to ascend (forget, s = -1), for which u . g_retain >= 0 and u . g_forget <= 0. **For more than two
    tasks this is our generalisation, not verified**, and without that promise. Scale ``'raw'``; heads ``'sum'``.

    Where we differ: the paper's automatic learning rate (from losses before and after trial steps) is not part of it;
    nothing is added to the norms. There is no fall-back.

    Args:
        signs: 1 or -1 per task name; a task that is not named has 1. Or one sign per task, in their order.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Differences of normalised gradients',
        paper='Bu et al., NAACL 2025',
        arxiv='2410.22086',
        verified='derived vectors; unverified for more than two tasks',
    )

    def __init__(
        self,
        signs: Mapping[str, int] | Sequence[int] | None = None,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        named = signs if isinstance(signs, Mapping) else {str(k): sign for k, sign in enumerate(signs or ())}
        for task, sign in named.items():
            if sign not in (-1, 1):
                raise ValueError(f"NGDiff: the sign of '{task}' must be 1 or -1, but got {sign!r}")
        self.signs = {str(task): int(sign) for task, sign in named.items()}
        self._by_name = isinstance(signs, Mapping)
        self.per_task = bool(self.signs)
        super().__init__(tasks)

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order that ``task_ids`` counts (or their number).

        Raises:
            ValueError: If a sign names an unknown task, or their number is wrong.
        """
        super().bind(tasks)
        if not self._by_name and self.signs and len(self.signs) != len(self.tasks):
            raise ValueError(f'NGDiff: there are {len(self.tasks)} tasks, but {len(self.signs)} signs')
        check_known('NGDiff', 'signs', self.signs if self._by_name else (), self.tasks)

    def _weights(self, rows: Products) -> np.ndarray:
        return self._signs(rows) / rows.norms

    def _only_weight(self, rows: Products) -> np.ndarray:
        return self._signs(rows)

    def _signs(self, rows: Products) -> np.ndarray:
        if not self.signs:
            return np.ones(len(rows))
        names = self.tasks if self._by_name else [str(k) for k in range(len(self.tasks))]
        return np.array([self.signs.get(names[k], 1) for k in rows.ids], dtype=np.float64)
