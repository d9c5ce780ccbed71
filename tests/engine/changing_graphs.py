"""Graphs that change from batch to batch: a model that can do it, scenarios, and every method's step from scratch.

The loop from scratch knows nothing of the engine's bookkeeping: for each batch it differentiates each task by itself
with respect to all parameters that are trainable now, and hands the rows to the method's own aggregator or weighting.
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from torch import nn

from .all_methods import ROWS, build
from .toy import TASKS, toy_batch

STEPS = 4
LR = 0.02


class Changing(BaseModel):
    """A stem, a block that a batch may skip, and heads of two layers; the first layer of ``a`` may get a second user.

    Args:
        tasks: Names of the tasks.
    """

    def __init__(self, tasks=TASKS):
        super().__init__()
        self.tasks = tuple(tasks)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh())
        self.block = nn.Conv2d(4, 4, 1)
        self.features = nn.Identity()
        self.heads = nn.ModuleDict(
            {t: nn.ModuleDict(dict(first=nn.Conv2d(4, 4, 1), last=nn.Conv2d(4, 1, 1))) for t in self.tasks}
        )

    def forward(self, inputs, targets, mode='tensor', skip=False, second=False, apart=(), constant=()):
        features = self.stem(inputs)
        features = self.features(features if skip else features + torch.tanh(self.block(features)))
        out = {}
        for task, target in targets.items():
            first = self.heads['a' if second and task == 'b' else task]['first']
            hidden = first(torch.cat([inputs, inputs[:, :1]], 1) if task in apart else features)
            valid = ~torch.isnan(target)
            error = self.heads[task]['last'](torch.tanh(hidden)) - torch.nan_to_num(target)
            out[f'{task}.num_valid'] = valid.sum().float()
            out[f'{task}.loss'] = (error.square() * valid).sum() / valid.sum().clamp_min(1)
            if task in constant:
                out[f'{task}.loss'] = torch.tensor(0.25)
        return out


SCENARIOS = {
    'unfreeze': {},
    'freeze': {},
    'skipped at first': {},
    'second user': {},
    'constant loss': {},
    'zero row': {},
    'one task': {'tasks': ('a',)},
}


def make(scenario):
    torch.manual_seed(0)
    return Changing(**SCENARIOS[scenario]).train()


def prepare(model, scenario, number):
    """Freeze and unfreeze what the scenario wants before batch ``number``."""
    if scenario == 'unfreeze':
        for part in (model.stem, model.block):
            part.requires_grad_(number >= 2)
    if scenario == 'freeze':
        for part in (model.stem[0], model.heads['c']['first']):
            part.requires_grad_(number != 2)


def micro(scenario, number, part=0, parts=1):
    """One rank's batch, or one micro-batch; with two of them only the last shows what is new."""
    last = part == parts - 1
    batch = toy_batch(10 * number + part, size=2, tasks=SCENARIOS[scenario].get('tasks', TASKS), invalid=0.3 * part)
    if scenario == 'skipped at first':
        batch['skip'] = number == 0 or (not last and number < 2)
    if scenario == 'second user':
        batch['second'] = number >= 2 and last
    if scenario == 'constant loss':
        batch['constant'] = ['b'] if last and number in (1, 2) else []
    if scenario == 'zero row':
        batch['apart'] = ['c']
    return batch


def run(key, scenario, wrap=None, batches=None, **kwargs):
    """Train; the weights before each step and after the last one, and the groups that STGU stepped."""
    model = make(scenario)
    trained = model if wrap is None else wrap(model)
    wrapper = build(key, model, lr=LR, **kwargs)
    groups, seen = [], []
    for strategy in wrapper.strategies:
        if hasattr(strategy, '_step_group'):
            record(strategy, groups)
    for number in range(STEPS):
        prepare(model, scenario, number)
        seen.append(snapshot(model))
        groups.append([])
        for batch in batches(number):
            trained.train_step(batch, wrapper)
    assert wrapper.guard.total == {}
    return dict(weights=[*seen, snapshot(model)], groups=groups, zero_rows=dict(wrapper.zero_rows))


def record(strategy, groups):
    """Write down each group that STGU steps."""
    step = strategy._step_group
    strategy._step_group = lambda batch, group: (groups[-1].append(list(group)), step(batch, group))[1]


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


class FromScratch:
    """The steps of a method, one by one.

    Args:
        key: The method.
        scenario: What the graphs do.
        at_features: Whether the weights come from the gradients at the features.
        **settings: Of the method.
    """

    def __init__(self, key, scenario, at_features=False, **settings):
        self.at_features = at_features
        self.key, self.scenario = key, scenario
        self.model = make(scenario)
        self.names = dict(self.model.named_parameters())
        self.tasks = self.model.tasks
        # Not stepped: its parts are used, which are fresh, and its settings.
        self.method = build(key, self.model, lr=LR, tasks=self.tasks, **settings)
        self.users: dict[str, set[str]] = {}
        self.memory: dict[str, dict[str, torch.Tensor]] = {}
        self.moments: dict[tuple[str, str], list] = {}

    def move(self, number, batches, weights, groups):
        """``{name: change}`` of batch ``number`` from ``weights``."""
        prepare(self.model, self.scenario, number)
        self.put(weights)
        self.batches = batches
        self.trainable = {name: p for name, p in self.names.items() if p.requires_grad}
        if ROWS[self.key].kind == 'task groups':
            return self._stgu(groups or [range(len(self.tasks))])
        losses, gradients = self.differentiate()
        self.present = list(losses)
        for task, per_task in gradients.items():
            for name, gradient in per_task.items():
                if gradient is not None:
                    self.users.setdefault(name, set()).add(task)
        least = min(2, len(self.tasks))
        self.columns = [n for n in self.trainable if len(self.users.get(n, ())) >= least]
        places = torch.tensor([self.tasks.index(task) for task in self.present])
        every = torch.zeros(len(self.tasks), dtype=torch.float64)
        every[places] = torch.tensor([float(loss) for loss in losses.values()], dtype=torch.float64)
        present = torch.zeros(len(self.tasks), dtype=torch.bool).index_fill_(0, places, True)
        weighting = self.method.weighting
        weighting.begin_step(self.method.generator)
        if weighting.needs_grad_norms:
            layer = self.columns[-1].rpartition('.')[0] if self.columns else '-'
            norms = torch.zeros(len(self.tasks), dtype=torch.float64)
            names = [name for name in self.columns if name.rpartition('.')[0] == layer]
            norms[places] = self.rows(gradients, names).double().norm(dim=1)
            weighting.observe_grad_norms(norms, every, present)
        factors = dict(zip(self.tasks, weighting.weights(every, present).tolist()))
        scaled = {
            task: {n: None if g is None else g * factors[task] for n, g in per_task.items()}
            for task, per_task in gradients.items()
        }
        kind = ROWS[self.key].kind
        if kind == 'loss weighting':
            moved = {
                n: -LR * sum(scaled[t][n] for t in self.present if scaled[t][n] is not None) for n in self.trainable
            }
        elif self.key == 'ada_task':
            moved = self._ada_task(scaled)
        elif kind == 'gradient aggregation':
            losses = torch.tensor([every[self.tasks.index(t)] * factors[t] for t in self.present]).double()
            rows = self.rows(scaled, self.columns)
            if self.at_features:
                _, head = self.aggregate(self.rows_at_features(factors), losses)
                update = self.weights.to(rows) @ rows
            else:
                update, head = self.aggregate(rows, losses)
            moved = self.spread(update, {t: self.own(scaled, t, head.get(t, 1.0)) for t in self.present})
        else:
            moved = self._perturbed(scaled, factors)
        after = None
        if weighting.needs_after_step:
            self.put({n: weights[n] + moved.get(n, 0) for n in weights})
            after = torch.zeros_like(every)
            after[places] = torch.tensor([v.item() for v in self.losses().values()], dtype=torch.float64)
        weighting.after_step(every, after, present)
        return moved

    def put(self, weights):
        with torch.no_grad():
            for name, value in weights.items():
                self.names[name].copy_(value)

    def losses(self):
        """Every present task's loss over all parts of the batch, weighted by valid elements; constants do not count."""
        outs = [self.model(**batch, mode='loss') for batch in self.batches]
        found = {}
        for task in self.tasks:
            here = [out for out in outs if f'{task}.loss' in out and out[f'{task}.loss'].requires_grad]
            total = sum(out[f'{task}.num_valid'] for out in here)
            if here and total > 0:
                found[task] = sum(out[f'{task}.loss'] * out[f'{task}.num_valid'] / total for out in here)
        return found

    def differentiate(self, tasks=None):
        losses = self.losses()
        tasks = [task for task in losses if tasks is None or task in tasks]
        gradients = {}
        for task in tasks:
            found = torch.autograd.grad(
                losses[task], list(self.trainable.values()), retain_graph=True, allow_unused=True
            )
            gradients[task] = dict(zip(self.trainable, found))
        return {task: losses[task].detach() for task in tasks}, gradients

    def rows(self, gradients, names):
        rows = [
            torch.cat(
                [torch.zeros(0)]
                + [(torch.zeros_like(self.names[n]) if g[n] is None else g[n]).reshape(-1) for n in names]
            )
            for g in gradients.values()
        ]
        return torch.stack(rows)

    def rows_at_features(self, factors):
        """The tasks' gradients at the output of ``features``; zeros where nothing is shared that they could balance."""
        seen = []

        def keep(module, args, output):
            seen.append(output if output.requires_grad else output.detach().requires_grad_())
            return seen[-1]

        handle = self.model.features.register_forward_hook(keep)
        losses = self.losses()
        handle.remove()
        found = [
            torch.autograd.grad(loss * factors[t], seen[0], retain_graph=True, allow_unused=True)[0]
            for t, loss in losses.items()
        ]
        zeros = torch.zeros_like(seen[0])
        return torch.stack([(zeros if g is None or not self.columns else g).reshape(-1) for g in found])

    def own(self, gradients, task, factor=1.0):
        return {
            n: gradients[task][n] * factor
            for n in self.trainable
            if n not in self.columns and gradients[task][n] is not None
        }

    def aggregate(self, rows, losses, aggregator=None):
        """The update, and the factors of the tasks' own gradients."""
        aggregator = aggregator or self.method.combiner.aggregator
        buffer, widths = aggregator.buffer, [self.names[n].numel() for n in self.columns]
        memory = self.memory.setdefault(str(id(aggregator)), {})
        if buffer is not None and memory:
            buffer.data = torch.cat(
                [torch.zeros(len(self.tasks), 0)]
                + [memory.get(n, torch.zeros(len(self.tasks), w)) for n, w in zip(self.columns, widths)],
                dim=1,
            )
        ids = torch.tensor([self.tasks.index(task) for task in self.present])
        update = aggregator(rows, losses, self.method.generator, ids)
        if buffer is not None and buffer.data is not None:
            memory.update(zip(self.columns, (part.clone() for part in buffer.data.split(widths, dim=1))))
        scale = max(aggregator.rows_used, 1) if aggregator.scale == 'mean' else 1
        self.weights = weights = None if aggregator.last_weights is None else aggregator.last_weights * scale
        factors = aggregator.head_weights(weights, losses)
        factors = [1.0] * len(rows) if factors is None else factors.tolist()
        zero = (rows == 0).all(1).tolist()
        return update * scale, {t: 1.0 if z and f == 0 else f for t, f, z in zip(self.present, factors, zero)}

    def spread(self, update, own):
        moved = {n: torch.zeros_like(p) for n, p in self.trainable.items()}
        for name, part in zip(self.columns, update.split([self.names[n].numel() for n in self.columns])):
            moved[name] = -LR * part.view_as(self.names[name])
        for gradients in own.values():
            for name, gradient in gradients.items():
                moved[name] = moved[name] - LR * gradient
        return moved

    def _stgu(self, groups):
        start = snapshot(self.model)
        for group in groups:
            names = [self.tasks[task] for task in group]
            _, gradients = self.differentiate(names)
            with torch.no_grad():
                for name, parameter in self.trainable.items():
                    for each in gradients.values():
                        if each[name] is not None:
                            parameter -= LR * each[name]
        return {name: p.detach() - start[name] for name, p in self.names.items()}

    def _ada_task(self, gradients):
        group = self.method.optimizer.param_groups[0]
        (beta1, beta2), eps, rate = group['betas'], group['eps'], group['lr']
        moved = {name: torch.zeros_like(p) for name, p in self.trainable.items()}
        for task in self.present:
            for name, parameter in self.trainable.items():
                gradient = gradients[task][name]
                if gradient is None:
                    if name not in self.columns:
                        continue
                    gradient = torch.zeros_like(parameter)
                state = self.moments.setdefault((name, task), [0, torch.zeros_like(gradient), gradient * 0])
                state[0] += 1
                state[1] = beta1 * state[1] + (1 - beta1) * gradient
                state[2] = beta2 * state[2] + (1 - beta2) * gradient**2
                mean, square = state[1] / (1 - beta1 ** state[0]), state[2] / (1 - beta2 ** state[0])
                moved[name] -= rate * mean / (square.sqrt() + eps)
        return moved

    def _perturbed(self, gradients, factors):
        """F-MTL and SAMO."""
        method, start = self.method, snapshot(self.model)
        shared = [self.names[n] for n in self.columns]
        directions = {}
        if self.key == 'f_mtl':
            for task in self.present:
                row = [
                    torch.zeros_like(self.names[n]) if gradients[task][n] is None else gradients[task][n]
                    for n in self.columns
                ]
                directions[task] = self.ascent(self.columns, row)
        else:
            total = self.rows(gradients, self.columns).sum(0) / len(self.present)
            mean = [part.view_as(p) for p, part in zip(shared, total.split([p.numel() for p in shared]))]
            for task in self.present:
                noise = [torch.randn(p.shape, generator=method.generator) for p in shared]
                values = []
                for sign in (1, -1):
                    self.put({n: start[n] + sign * method.mu * z for n, z in zip(self.columns, noise)})
                    with torch.no_grad():
                        values.append(self.measured(task))
                    self.put(start)
                slope = (values[0] - values[1]) / (2 * method.mu)
                estimate = [z * slope for z in noise]
                if method.layerwise:
                    estimate = [e * (g.norm() / (e.norm() + 1e-12)) for e, g in zip(estimate, mean)]
                mixed = [(1 - method.beta) * g + method.beta * e for g, e in zip(mean, estimate)]
                directions[task] = self.ascent(self.columns, mixed)
        rows, own = {}, {}
        for task in self.present:
            mine = self.own(gradients, task)
            directions[task].update(self.ascent(list(mine), list(mine.values())))
            self.put({n: start[n] + d for n, d in directions[task].items()})
            _, at = self.differentiate([task])
            rows[task] = {n: None if g is None else g * factors[task] for n, g in at[task].items()}
            own[task] = self.own(rows, task)
            self.put(start)
        rows, losses = self.rows(rows, self.columns), torch.ones(len(rows)).double()
        if self.key == 'samo':
            return self.spread(self.aggregate(rows, losses)[0], own)
        plain = self.rows(gradients, self.columns)
        update = self.aggregate(plain, losses)[0] + self.aggregate(rows - plain, losses, method.flat.aggregator)[0]
        return self.spread(update, own)

    def ascent(self, names, gradients):
        """The step of length rho up; where it is adaptive, each weight's is in proportion to its square."""
        sizes = [self.names[n].detach().abs() if getattr(self.method, 'adaptive', False) else 1.0 for n in names]
        squares = sum(float((size * g).double().square().sum()) for size, g in zip(sizes, gradients))
        factor = self.method.rho / (squares**0.5 + 1e-12)
        return {n: size**2 * g * factor for n, size, g in zip(names, sizes, gradients)}

    def measured(self, task):
        outs = [self.model(**batch, mode='loss') for batch in self.batches]
        here = [out for out, b in zip(outs, self.batches) if task in b['targets'] and task not in b.get('constant', ())]
        total = sum(float(out[f'{task}.num_valid']) for out in here)
        return sum(float(out[f'{task}.loss'].double() * out[f'{task}.num_valid']) for out in here) / total


# RMS-like quotients of numbers of the size of rounding, a long search, differences of nearly equal losses.
ROUGH = {'sdmgrad': 1e-2, 'samo': 1e-2, 'ada_task': 1e-2}


def check(key, scenario, found, parts=1, **options):
    """Compare a run's steps with those from scratch."""
    reference = FromScratch(key, scenario, **options)
    for number in range(STEPS):
        before, after = found['weights'][number], found['weights'][number + 1]
        batches = [micro(scenario, number, part, parts) for part in range(parts)]
        moved = reference.move(number, batches, before, found['groups'][number])
        largest = max(float((after[n] - before[n]).norm()) for n in before)
        assert largest > 0, number
        for name in before:
            error = (after[name] - before[name] - moved.get(name, torch.zeros(()))).norm()
            assert error <= ROUGH.get(key, 1e-3) * largest, (number, name, float(error), largest)
