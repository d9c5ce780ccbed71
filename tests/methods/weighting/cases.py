"""Every weighting in every form that has code of its own, and a training without a model to run them through."""

import torch

from mtl_plugins.methods import weighting

EPOCH = 5

# name -> (class, arguments for K tasks named t0, t1, ...)
CASES = {
    'equal': (weighting.EqualWeighting, {}),
    'uw': (weighting.UncertaintyWeighting, {}),
    'uw forms': (weighting.UncertaintyWeighting, dict(form=dict(t0='classification'), optimizer='sgd', lr=0.1)),
    'dwa': (weighting.DWA, {}),
    'dwa window': (weighting.DWA, dict(window=3)),
    'dwa ones': (weighting.DWA, dict(window=3, window_start='ones')),
    'dtp metric': (weighting.DTP, {}),
    'dtp loss': (weighting.DTP, dict(kpi='loss', gamma=dict(t0=2.0))),
    'rlw': (weighting.RLW, {}),
    'gls': (weighting.GLS, {}),
    'imtl_l': (weighting.IMTLL, {}),
    'imtl_l sgd': (weighting.IMTLL, dict(optimizer='sgd', lr=0.01)),
    'slaw': (weighting.SLAW, dict(decay=0.8)),
    'famo': (weighting.FAMO, {}),
    'stch log': (weighting.STCH, dict(warmup=1)),
    'stch linear': (weighting.STCH, dict(form='linear')),
    'stch preferences': (weighting.STCH, dict(warmup=1, preferences=dict(t0=3.0))),
    'bmtl': (weighting.BMTL, {}),
    'bmtl raw': (weighting.BMTL, dict(normalise=False)),
    'gradnorm': (weighting.GradNorm, {}),
    'gradnorm epoch': (weighting.GradNorm, dict(reference='epoch', optimizer='sgd', lr=1e-3)),
    'gradnorm softmax': (weighting.GradNorm, dict(form='softmax', reference=dict(t0=1.5))),
    'emtl': (weighting.EMTL, {}),
    'uw_so': (weighting.UWSO, {}),
    'go4align': (weighting.GO4Align, dict(num_groups=3, eta=0.1)),
    'ldc_mtl': (weighting.LDCMTL, dict(lamda=0.1)),
    'igb': (weighting.IGB, dict(base_epoch=0)),
}
_COVERED = {kind.__name__ for kind, _ in CASES.values()} | {'Weighting'}
CASES.update({name: (getattr(weighting, name), {}) for name in weighting.__all__ if name not in _COVERED})
ORDERED = {'ldc_mtl'}
"""Methods to which it matters which tasks are neighbours."""
ASYMMETRIC = {'uw forms', 'dtp loss', 'stch preferences', 'gradnorm softmax'}


def names_of(num_tasks):
    return [f't{row}' for row in range(num_tasks)]


def build(case, tasks):
    kind, arguments = CASES[case]
    names = names_of(tasks) if isinstance(tasks, int) else tasks
    known = {
        key: {task: entry for task, entry in value.items() if task in names} if isinstance(value, dict) else value
        for key, value in arguments.items()
    }
    result = kind(**known, tasks=names)
    result.set_epoch_length(EPOCH)
    return result


class Script:
    """Losses before and after every step, gradient norms and KPIs of a made-up training, one column per task."""

    def __init__(self, num_steps, num_tasks, seed=0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape):
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        decay = torch.linspace(1, 0.3, num_steps, dtype=torch.float64)[:, None] ** uniform(num_tasks)
        self.before = (10 ** (3 * uniform(num_tasks) - 1.5) * decay * (0.9 + 0.2 * uniform(num_steps, num_tasks))).to(
            dtype
        )
        self.after = self.before * (0.9 + 0.12 * uniform(num_steps, num_tasks)).to(dtype)
        self.norms = (self.before * (0.1 + uniform(num_steps, num_tasks))).to(dtype)
        self.kpis = 0.05 + 0.9 * uniform(num_steps, num_tasks)
        self.present = torch.ones(num_steps, num_tasks, dtype=torch.bool)

    def columns(self, order):
        """The same training with other columns."""
        other = object.__new__(Script)
        for name, value in vars(self).items():
            setattr(other, name, value[:, order])
        return other

    def __len__(self):
        return len(self.before)


def step(weighting, script, now, seed=0):
    """One step in the order of a training loop; returns the weights."""
    before, after, present = script.before[now], script.after[now], script.present[now]
    weighting.begin_step(torch.Generator().manual_seed(1000 * seed + now))
    if weighting.needs_grad_norms:
        weighting.observe_grad_norms(script.norms[now], before, present)
    weights = weighting.weights(before, present)
    weighting.after_step(before, after if weighting.needs_after_step else None, present)
    if now % 3 == 0:
        weighting.update_kpis(
            {task: float(script.kpis[now, row]) for row, task in enumerate(weighting.tasks) if present[row]}
        )
    return weights


def run(weighting, script, start=0, stop=None, seed=0):
    stop = len(script) if stop is None else stop
    return torch.stack([step(weighting, script, now, seed) for now in range(start, stop)])


def same(a, b):
    """Whether two states are equal bit for bit, NaN equal to NaN."""
    if set(a) != set(b):
        return False
    return all(
        torch.equal(a[key].double().nan_to_num(nan=-7.25), b[key].double().nan_to_num(nan=-7.25))
        if isinstance(a[key], torch.Tensor)
        else a[key] == b[key]
        for key in a
    )


def rows_of(state, rows):
    """The state of some tasks."""
    return {key: value[rows].clone() if isinstance(value, torch.Tensor) else value for key, value in state.items()}
