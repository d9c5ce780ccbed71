"""Gradients summed over ranks in buckets, which are sent while the backward that fills them goes on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .reduction import Reducer


class Bucket:
    """The gradients of some parameters, taken out of ``.grad``, in one piece of memory; zeros where there is none.

    Args:
        parameters: Of one device.

    Attributes:
        flat: The numbers, in fp32.
        work: What is to be waited for until they are summed; None for nothing.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        parts = [_flat(torch.zeros_like(p) if p.grad is None else p.grad) for p in self.parameters]
        self._sizes = [len(part) for part in parts]
        self.flat = torch.cat(parts)
        self.work: Any = None
        for parameter in self.parameters:
            parameter.grad = None

    def receive(self, reached: set[nn.Parameter]) -> None:
        """Add the sums to ``.grad``, of the parameters that a gradient came to on any rank."""
        if self.work is not None:
            self.work.wait()
        for parameter, part in zip(self.parameters, self.flat.split(self._sizes)):
            if parameter not in reached:
                continue
            if parameter.is_complex():
                part = torch.view_as_complex(part.view(*parameter.shape, 2).clone())
            summed = part.view_as(parameter)
            if parameter.grad is None:
                parameter.grad = laid_out_as(parameter, summed)
            else:
                parameter.grad.add_(summed)


class _Reach:
    """Which parameters the losses of tasks lead to: all of which the contrary was not seen."""

    def __init__(self, number: int) -> None:
        self.seen: set[str] = set()
        #: Per parameter, tasks whose losses do not lead to it; None if that was seen to be wrong once.
        self._missed: list[set[str] | None] = [set() for _ in range(number)]

    def of(self, tasks: frozenset[str]) -> list[int]:
        """Numbers of the parameters that a backward of these tasks' losses is expected to reach."""
        return [number for number, missed in enumerate(self._missed) if missed is None or not missed >= tasks]

    def learn(self, tasks: frozenset[str], reached: Collection[int]) -> None:
        """Take note of what a backward reached."""
        self.seen |= tasks
        for number, missed in enumerate(self._missed):
            if missed is None or (number in reached and not missed >= tasks):
                continue
            self._missed[number] = None if number in reached else missed | tasks


class _Backward:
    """One backward, and the buckets that it fills.

    A bucket is sent as soon as the gradients that are expected in it have arrived, but never before the one in front of
    it, and at the end in any case: whatever the graph of a rank, all ranks send the same ones in the same order. A
    gradient that arrives after its bucket was sent stays in ``.grad``.
    """

    def __init__(
        self, parameters: list[nn.Parameter], buckets: list[list[int]], expected: set[int], reducer: Reducer
    ) -> None:
        self._parameters = parameters
        self._waiting = list(buckets)
        self._open = set(expected)
        self._reducer = reducer
        self.sent: list[Bucket] = []
        #: Numbers of the parameters that a gradient arrived at, in that order.
        self.arrived: dict[int, None] = {}
        #: Numbers of those whose gradient was sent.
        self.filled: set[int] = set()

    def arrive(self, number: int, parameter: nn.Parameter) -> None:
        """The gradient of a parameter is complete."""
        self.arrived[number] = None
        self._open.discard(number)
        while self._waiting and self._open.isdisjoint(self._waiting[0]):
            self._send()

    def end(self) -> None:
        """No further gradient comes."""
        while self._waiting:
            self._send()

    def _send(self) -> None:
        numbers = self._waiting.pop(0)
        self.filled.update(number for number in numbers if self._parameters[number].grad is not None)
        bucket = Bucket([self._parameters[number] for number in numbers])
        bucket.work = self._reducer.begin_sum(bucket.flat)
        self.sent.append(bucket)


class GradientSums:
    """Knows from earlier backwards which parameters the next one reaches, on some rank and here.

    Args:
        bucket_elements: Numbers that a bucket holds at most, but for a parameter that is larger itself.
        reducer: Exchanges with the other ranks.
    """

    def __init__(self, bucket_elements: int, reducer: Reducer) -> None:
        self._bucket_elements = bucket_elements
        self._reducer = reducer
        self._backward: _Backward | None = None
        self._know_nothing([])

    def _know_nothing(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._anywhere, self._here = _Reach(len(parameters)), _Reach(len(parameters))
        #: How many gradients had arrived with that of a parameter, on the rank where it was the latest.
        self._places: dict[int, int] = {}

    @contextmanager
    def during(self, parameters: Iterable[nn.Parameter], tasks: Iterable[str], here: Iterable[str]) -> Iterator[None]:
        """See :meth:`.reduction.Reducer.during_backward`."""
        parameters = list(parameters)
        if list(map(id, parameters)) != list(map(id, self._parameters)):
            self._know_nothing(parameters)
        self._tasks, self._tasks_here = frozenset(tasks), frozenset(here)
        known = self._tasks <= self._anywhere.seen
        buckets = self._as_they_arrive(self._anywhere.of(self._tasks)) if known else []
        backward = _Backward(parameters, buckets, set(self._here.of(self._tasks_here)), self._reducer)
        handles = [
            parameter.register_post_accumulate_grad_hook(partial(backward.arrive, number))
            for number, parameter in enumerate(parameters)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        backward.end()
        self._backward = backward

    def _as_they_arrive(self, numbers: list[int]) -> list[list[int]]:
        """Buckets in the order of arrival, no more of them than in the order of the parameters."""
        order = sorted(numbers, key=lambda number: self._places.get(number, len(self._parameters)))
        most, room = len(_cut(numbers, self._parameters, self._bucket_elements)), self._bucket_elements
        while len(buckets := _cut(order, self._parameters, room)) > most:
            room += room // 8 + 1
        return buckets

    def finish(self, parameters: list[nn.Parameter], news: bool) -> bool:
        """See :meth:`.reduction.Reducer.sum_gradients`."""
        backward, self._backward = self._backward, None
        size = len(parameters)
        left = [number for number, parameter in enumerate(parameters) if parameter.grad is not None]
        flags = [0] * (2 * size) + [int(news)]
        for number in [*left, *(backward.filled if backward else ())]:
            flags[number] = size
        for place, number in enumerate(backward.arrived if backward else (), 1):
            flags[number] = place
        for number in left:
            flags[size + number] = 1
        agreed = torch.tensor(flags, dtype=torch.int32, device=parameters[0].device)
        *flags, any_news = self._reducer.largest(agreed).tolist()
        places = {number: flags[number] for number in range(size) if flags[number]}
        reached = {parameters[number] for number in places}
        rest = [number for number in range(size) if flags[size + number]]
        for numbers in _cut(rest, parameters, self._bucket_elements):
            bucket = Bucket([parameters[number] for number in numbers])
            self._reducer.sum(bucket.flat)
            bucket.receive(reached)
        if backward is not None:
            for bucket in backward.sent:
                bucket.receive(reached)
            self._anywhere.learn(self._tasks, places)
            self._here.learn(self._tasks_here, backward.arrived)
            self._places = {**places, **self._places}
        return bool(any_news)


def _cut(numbers: Iterable[int], parameters: Sequence[nn.Parameter], room: int) -> list[list[int]]:
    """Buckets of the parameters with these numbers, in order, each of ``room`` elements or of one parameter."""
    buckets: list[list[int]] = []
    size = 0
    for number in numbers:
        if not buckets or size + parameters[number].numel() > room:
            buckets.append([])
            size = 0
        buckets[-1].append(number)
        size += parameters[number].numel()
    return buckets


def _flat(gradient: Tensor) -> Tensor:
    gradient = gradient.to_dense()
    return (torch.view_as_real(gradient) if gradient.is_complex() else gradient).reshape(-1).float()


def laid_out_as(parameter: Tensor, values: Tensor) -> Tensor:
    """``values`` in the shape, dtype and strides of ``parameter``, without a copy where they are so already.

    A fused optimizer reads weights and gradients in the order of memory: with other strides, as the channels_last
    format has them, it would step every weight by the gradient of another.
    """
    if values.is_sparse:
        return values
    values = values.view(parameter.shape)
    if values.dtype == parameter.dtype and values.stride() == parameter.stride():
        return values
    # Has the parameter's strides, unless it is itself a view with holes.
    like = torch.empty_like(parameter)
    return values if values.dtype == like.dtype and values.stride() == like.stride() else like.copy_(values)
