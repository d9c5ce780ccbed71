"""AdaTask: adaptive optimizers with one set of accumulators per task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.errors import UserError
from mtl_plugins.registry import OPTIMIZERS

BASES = ('Adam', 'RMSprop', 'Adagrad')


@OPTIMIZERS.register_module()
class AdaTask(Optimizer):
    r"""AdaTask (Yang et al., "AdaTask: A Task-aware Adaptive Learning Rate Approach to Multi-task Learning", AAAI 2023,
    arXiv 2211.15055).

    A shared parameter keeps the accumulators of the base optimizer once per task and moves by the sum of the tasks'
    steps, :math:`\theta \leftarrow \theta - \eta \sum_k s_k`, so that no task's large gradients slow the others down.
    Compared with the base optimizer on the summed gradient the step is up to K times as long. With :math:`g_k` the
    gradient of task k:

    * ``Adam``: :math:`m_k, v_k` as in Adam, :math:`s_k = \hat m_k / (\sqrt{\hat v_k} + \epsilon)`;
    * ``RMSprop``: :math:`v_k \leftarrow \alpha v_k + (1-\alpha) g_k^2`, :math:`s_k = g_k / (\sqrt{v_k} + \epsilon)`;
    * ``Adagrad``: :math:`v_k \leftarrow v_k + g_k^2`, :math:`s_k = g_k / (\sqrt{v_k} + \epsilon)`.

    Parameters without task gradients (a task's own) are stepped by the base optimizer from their ``.grad``. A parameter
    that is stepped now in one way and now in the other, as by a schedule of several strategies, has accumulators for
    each, which wait meanwhile.

    Differences from the authors' program: it has Adam only, accepts ``weight_decay`` and ``amsgrad`` without using
    them, takes the learning rate of the last parameter group for all, and fails on a shared parameter without gradient.
    Here each group has its own settings, the decay :math:`\lambda \theta` is shared equally among the present tasks,
    and an absent task's accumulators and step counter stay as they are. When a parameter that one task used turns out
    to be shared, its accumulators go on as that task's, and the others' start from zero.

    Args:
        params: Parameters or groups.
        base: ``'Adam'``, ``'RMSprop'`` or ``'Adagrad'``.
        lr: Learning rate.
        betas: Adam's decay rates.
        alpha: RMSprop's decay rate.
        eps: Added to the denominator.
        weight_decay: L2 penalty.
        amsgrad: Adam with the greatest second moment so far.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        params: Any,
        base: str = 'Adam',
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        if base not in BASES:
            raise UserError(f'AdaTask: base must be one of {BASES}, but got {base!r}')
        for name, value in (('lr', lr), ('eps', eps), ('weight_decay', weight_decay)):
            if not value >= 0:
                raise UserError(f'AdaTask: {name} must be >= 0, but got {value!r}')
        for name, value in (('betas[0]', betas[0]), ('betas[1]', betas[1]), ('alpha', alpha)):
            if not 0 <= value < 1:
                raise UserError(f'AdaTask: {name} must lie in [0, 1), but got {value!r}')
        if amsgrad and base != 'Adam':
            raise UserError(f'AdaTask: amsgrad belongs to Adam, but base={base!r}')
        #: Set to True to have the squared lengths of the tasks' steps of the last call in ``update_squares``.
        self.record_updates = False
        #: Shared parameter -> (numbers of the present tasks, sum of squares of what each moved it by).
        self.update_squares: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}
        defaults = dict(
            lr=lr, betas=tuple(betas), alpha=alpha, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, base=base
        )
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Tensor] | None = None,
        task_grads: Mapping[nn.Parameter, Tensor] | None = None,
        task_ids: Sequence[int] = (),
        num_tasks: int = 0,
        former_owners: Mapping[nn.Parameter, int] | None = None,
    ) -> Tensor | None:
        """Move all parameters once.

        Args:
            closure: As in every torch optimizer.
            task_grads: Shared parameter -> gradients ``[K_present, *shape]`` of the present tasks.
            task_ids: Numbers of the present tasks, in the order of the first axis of the gradients.
            num_tasks: Number of all tasks K.
            former_owners: Parameter -> number of the task that it belonged to before it was shared, whose accumulators
                go on as that task's.

        Returns:
            The loss, if there is a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        task_grads, owners = task_grads or {}, former_owners or {}
        self.update_squares = {}
        # Accumulators of all tasks are advanced where they lie; those of some are taken out and put back.
        everyone = list(task_ids) == list(range(num_tasks))
        some = torch.as_tensor(list(task_ids), dtype=torch.long)
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter in task_grads:
                    if parameter in owners and len(self.state[parameter].get('step', ())) == 1 < num_tasks:
                        self._hand_over(parameter, owners[parameter], num_tasks, group)
                    ids = slice(None) if everyone else some.to(parameter.device)
                    self._step(parameter, task_grads[parameter], ids, num_tasks, group)
                elif parameter.grad is not None:
                    self._step(parameter, parameter.grad[None], slice(None), 1, group)
        return loss

    def _step(
        self, parameter: Tensor, grads: Tensor, ids: Tensor | slice, num_tasks: int, group: dict[str, Any]
    ) -> None:
        state = self.state[parameter]
        if not state or len(state['step']) != num_tasks:
            former = dict(state)
            waiting = former.pop('waiting', {})
            fits = waiting and len(waiting['step']) == num_tasks
            state.clear()
            state.update(waiting if fits else self._new_state(parameter, num_tasks, group))
            if former:
                state['waiting'] = former
        if group['weight_decay']:
            grads = grads + parameter * (group['weight_decay'] / len(grads))
        steps = self._steps(state, grads, ids, group)
        if self.record_updates and num_tasks > 1:
            numbers = torch.arange(num_tasks, device=parameter.device)[ids]
            self.update_squares[parameter] = numbers, (group['lr'] * steps).square().flatten(1).sum(1)
        parameter.sub_(steps.sum(0), alpha=group['lr'])

    def _hand_over(self, parameter: Tensor, owner: int, num_tasks: int, group: dict[str, Any]) -> None:
        """Make room for all tasks in the accumulators of a parameter that was one task's."""
        alone, together = self.state[parameter], self._new_state(parameter, num_tasks, group)
        for name, values in together.items():
            values[owner] = alone[name][0]
        self.state[parameter] = together

    @staticmethod
    def _new_state(parameter: Tensor, num_tasks: int, group: dict[str, Any]) -> dict[str, Tensor]:
        zeros = parameter.new_zeros((num_tasks, *parameter.shape))
        state = dict(step=torch.zeros(num_tasks, dtype=torch.float64), exp_avg_sq=zeros)
        if group['base'] == 'Adam':
            state['exp_avg'] = zeros.clone()
            if group['amsgrad']:
                state['max_exp_avg_sq'] = zeros.clone()
        return state

    @staticmethod
    def _steps(state: dict[str, Tensor], grads: Tensor, ids: Tensor | slice, group: dict[str, Any]) -> Tensor:
        """Advance the accumulators of the tasks ``ids`` and return their steps ``s_k``."""
        square = state['exp_avg_sq'][ids]
        if group['base'] == 'Adagrad':
            square.addcmul_(grads, grads)
        else:
            decay = group['betas'][1] if group['base'] == 'Adam' else group['alpha']
            square.mul_(decay).addcmul_(grads, grads, value=1 - decay)
        _put(state['exp_avg_sq'], ids, square)
        if group['base'] != 'Adam':
            return grads / square.sqrt().add_(group['eps'])

        where = ids if isinstance(ids, slice) else ids.cpu()
        state['step'][where] += 1
        beta1, beta2 = group['betas']
        count = state['step'][where].view(-1, *[1] * (grads.dim() - 1))
        mean = state['exp_avg'][ids].mul_(beta1).add_(grads, alpha=1 - beta1)
        _put(state['exp_avg'], ids, mean)
        if group['amsgrad']:
            square = torch.maximum(state['max_exp_avg_sq'][ids], square)
            state['max_exp_avg_sq'][ids] = square
        correction1 = (1 - beta1**count).to(grads)
        correction2 = (1 - beta2**count).to(grads)
        return (mean / correction1).div_(square.sqrt().div_(correction2.sqrt()).add_(group['eps']))


def _put(values: Tensor, ids: Tensor | slice, changed: Tensor) -> None:
    if not isinstance(ids, slice):  # of a slice, what was changed are the values themselves
        values[ids] = changed
