"""Boundary F-measure at the optimal dataset scale."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import Progress

from mtl_plugins.errors import UserError, UserFileNotFoundError, refusing
from mtl_plugins.evaluation.edges import EdgeCounter, check_thresholds
from mtl_plugins.evaluation.pool import Job, WorkPool, default_workers
from mtl_plugins.registry import METRICS
from mtl_plugins.utils.argument_types import Index, Range
from mtl_plugins.utils.files import given_path

from .base import NAN, DenseMetric, ratio

NAMES = {'exact': 'odsF', 'greedy': 'odsF_greedy', 'bsds': 'odsF_bsds'}
"""Matcher -> name of the metric."""

_SMALL = 200 * 200


@METRICS.register_module()
class EdgeMetric(DenseMetric):
    """``odsF`` in percent: the best F-measure of any one threshold for the whole dataset.

    For each threshold the probability map is binarised and thinned, and its pixels are paired one to one with those of
    the thinned target within ``max_dist`` times the image diagonal. Pairs, predicted and actual edge pixels are pooled
    over the images, and ``F = 2 P R / (P + R)``. Pixels without label count on neither side.

    The matcher says how the pixels are paired, and the name of the result:

    * ``'exact'``, ``odsF``: as many pairs as there can be, which is what the BSDS benchmark (Martin et al., 2004) asks
      for;
    * ``'greedy'``, ``odsF_greedy``: nearest pairs first, never above ``odsF`` and usually within a few points of it;
    * ``'bsds'``, ``odsF_bsds``: the benchmark's own C++ program, needs the extra ``edges``.

    docs/evaluation.md compares them, and each with the released MATLAB evaluation.

    Args:
        task: Key of a task of kind ``'binary'``.
        max_dist: Tolerance as a share of the image diagonal: 0.0075 on BSDS and PASCAL-Context, 0.011 on NYUD-v2.
        matcher: One of the names above, or several.
        thresholds: 19 (0.05, 0.10, ... 0.95), 101 (0.001, 0.01, 0.02, ... 0.99, 0.999), or a list.
        nms: Whether predictions go through non-maximum suppression before thresholding, with ``>`` instead of ``>=``
            (:func:`mtl_plugins.evaluation.edges.suppress_non_maxima`).
        image_ids: Evaluate these images only: their ids (file names without folder and suffix), or the path of a text
            file with one id per line. None: all. The published numbers for PASCAL-Context are of 2498 images of the
            validation set.
        num_workers: Processes that measure images while the evaluation goes on. 0: none. None: as many as there are
            other cores, at most 8 (all ranks of a node share them); none for images below 200 x 200 pixels. Results do
            not depend on it.
        start_method: How the processes are started, see :class:`mtl_plugins.evaluation.pool.WorkPool`.
        **kwargs: See :class:`DenseMetric`.

    Raises:
        ImportError: If ``matcher`` is ``'bsds'`` and pyEdgeEval is not installed.
        FileNotFoundError: If the file of ``image_ids`` does not exist.
        ValueError: If an argument has no valid value.
    """

    kinds = ('binary',)

    def __init__(
        self,
        task: str = 'edge',
        max_dist: Annotated[float, Range(0, 1, below=True)] = 0.0075,
        matcher: str | Sequence[str] = ('exact', 'greedy'),
        thresholds: int | Sequence[float] = 19,
        nms: bool = False,
        image_ids: str | os.PathLike | Sequence[str] | None = None,
        num_workers: Index | None = None,
        start_method: Literal['fork', 'spawn', 'forkserver'] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(task, **kwargs)
        matchers = (matcher,) if isinstance(matcher, str) else tuple(matcher)
        with refusing('EdgeMetric'):
            self.counter = EdgeCounter(matchers, check_thresholds(thresholds), max_dist, nms)
            self.image_ids = None if image_ids is None else read_image_ids(image_ids)
            self._automatic = num_workers is None
            self._pool = WorkPool(default_workers() if num_workers is None else num_workers, start_method)
        self.entries = {NAMES[name]: ('%', True) for name in matchers}

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray] | Job:
        """Return the sums of one image (see :class:`EdgeCounter`), or the job that computes them."""
        edges = target[0] > 0
        if self._automatic and edges.size < _SMALL:
            return self.counter(pred[0], edges, valid)
        # The prediction may be a view of a tensor that somebody goes on using.
        return self._pool.submit(self.counter, pred[0].copy(), edges, valid)

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Have one entry per sample computed.

        Raises:
            KeyError: If a sample has a target but no prediction.
            ValueError: If prediction and target do not have the same size, or ``image_ids`` is set and a sample does
                not say which image it is.
        """
        for sample in data_samples:
            self.results.append(self._measure_sample(sample) if self._is_chosen(sample) else None)

    def evaluate(self, size: int) -> dict[str, float]:
        """Wait for the processes, end them, and return the metrics over all ranks.

        Args:
            size: Number of samples of the dataset.
        """
        try:
            self._await()
            self.results[:] = [entry.result() if isinstance(entry, Job) else entry for entry in self.results]
        finally:
            self._pool.close()
        return super().evaluate(size)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Add up the entries of all images; a message tells if some of ``image_ids`` were not among them."""
        if self.image_ids is not None:
            found = sum(entry is not None for entry in results)
            if found != len(self.image_ids):
                print_log(
                    f"EdgeMetric: {found} of the {len(self.image_ids)} images in image_ids were evaluated (with '"
                    f"{self.task}' labels); {', '.join(self.entries)} belongs to these only",
                    'current',
                    logging.WARNING,
                )
        return super().compute_metrics(results)

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return the metrics; NaN if no image has an edge or a prediction is not finite."""
        return {NAMES[name]: _best_f_measure(total, f'matches_{name}') for name in self.counter.matchers}

    def _is_chosen(self, sample: Mapping) -> bool:
        if self.image_ids is None:
            return True
        identifier, path = sample.get('sample_id'), sample.get('img_path')
        if identifier is None and path is None:
            raise UserError(
                "EdgeMetric: image_ids needs to know each image, but a sample has neither 'sample_id' nor 'img_path'; "
                "add 'img_path' to the meta_keys of mtl_plugins.PackMultiTaskInputs"
            )
        return (Path(path).stem if identifier is None else str(identifier)) in self.image_ids

    def _await(self) -> None:
        """Wait for the images that are still being measured, under a bar if the terminal is free."""
        console = Console()
        shown = console.is_terminal and sys.stdout is sys.__stdout__ and is_main_process()
        with Progress(console=console, transient=True, disable=not shown or not self._pool.num_waiting) as progress:
            task = progress.add_task(f'{self.spec.title}: match', total=self._pool.num_waiting)
            self._pool.wait(lambda: progress.advance(task))


def read_image_ids(ids: str | os.PathLike | Sequence[str]) -> frozenset[str]:
    """Return the ids of a list, or of a text file with one per line (any kind of line end; empty lines are skipped).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there are no ids, or some occur twice.
    """
    if isinstance(ids, (str, os.PathLike)):
        path = given_path(ids, 'EdgeMetric: image_ids')
        if not path.is_file():
            raise UserFileNotFoundError(
                f'EdgeMetric: image_ids names the file {path}, which does not exist; give the path of a text file with '
                'one image id per line, or a list of ids'
            )
        # Here, since the datasets import the edges of this package.
        from mtl_plugins.datasets.files.folders import read_lines

        found = read_lines(path)
    else:
        path, found = 'the list', [str(identifier) for identifier in ids]
    unique = frozenset(found)
    if not unique or len(unique) != len(found):
        problem = f'has {len(found) - len(unique)} ids twice' if unique else 'has no ids'
        raise UserError(f'image_ids: {path} {problem}')
    return unique


def _best_f_measure(total: Mapping[str, np.ndarray] | None, matches: str) -> float:
    if total is None or total['actual'] == 0 or np.isnan(total[matches]).any():
        return NAN
    # 2 P R / (P + R) with both fractions multiplied out, which also holds for empty predictions.
    return max(ratio(200 * hits, total['actual'] + n) for hits, n in zip(total[matches], total['predicted']))
