"""Matrices of gradients, ordinary and extreme, and an instance of every registered aggregator."""

import inspect

import torch

from mtl_plugins.methods import aggregation

KINDS = ('normal', 'zero_rows', 'all_zero', 'equal', 'opposite', 'rank_one', 'scales', 'near_opposite', 'short_rows')
LARGEST = 32

# Arguments without which a class refuses one matrix of gradients.
ARGUMENTS = dict(SDMGrad=dict(single_batch=True), MoDo=dict(single_batch=True))
# By name, so that it fits any number of rows: tasks that are not named have 1.
PREFERENCES = {'0': 0.25}
# Other settings whose arithmetic differs; ``normalise`` stands for a call of normalise_rows.
VARIANTS = (
    ('MGDA', dict(normaliser='l2')),
    ('MGDA', dict(normaliser='loss+', apply_to='normalised')),
    ('CAGrad', dict(c=0.0)),
    ('CAGrad', dict(c=1.0, rescale=0)),
    ('CAGrad', dict(c=10.0, rescale=2)),
    ('FairGrad', dict(alpha=0.5)),
    ('FairGrad', dict(alpha=1.0, max_norm=1.0)),
    ('FairGrad', dict(alpha=10.0)),
    ('NashMTL', dict(max_norm=1.0)),
    ('AlignedMTL', dict(scale_mode='median')),
    ('AlignedMTL', dict(scale_mode='rmse')),
    ('ConicGrad', dict(c=0.0)),
    ('ConicGrad', dict(c=0.95)),
    ('GradDrop', dict(leak=0.3)),
    ('PCGrad', dict(order='ascending')),
    ('GradVac', dict(beta=0.01)),
    ('DBMTL', dict(beta_sigma=1.0)),
    ('UPGrad', dict(pref_vector=PREFERENCES)),
    ('DualProj', dict(pref_vector=PREFERENCES)),
    ('AlignedMTL', dict(pref_vector=PREFERENCES)),
    ('ConFIG', dict(pref_vector=PREFERENCES)),
    ('PCD', dict(tau=1.0, beta=0.5)),
    ('CRMOGM', dict(aggregator=dict(type='PCGrad'), alpha=0.5)),
    ('UPGrad', dict(normalise='l2')),
    ('GradDrop', dict(normalise='loss+')),
)


def classes():
    """Every concrete class that the package exports."""
    exported = [getattr(aggregation, name) for name in aggregation.__all__]
    return [kind for kind in exported if not inspect.isabstract(kind)]


def make_one(name, arguments):
    """An aggregator, with the one inside it if a dict stands for that."""
    arguments = dict(arguments)
    by = arguments.pop('normalise', 'none')
    if 'aggregator' in arguments:
        inner = dict(arguments['aggregator'])
        arguments['aggregator'] = make_one(inner.pop('type'), inner)
    return getattr(aggregation, name)(**arguments).normalise_rows(by)


def makers():
    """Pairs of a name and a function that makes a fresh aggregator: every class, and the variants."""
    plain = [(kind.__name__, ARGUMENTS.get(kind.__name__, {})) for kind in classes()]
    result = []
    for name, arguments in (*plain, *VARIANTS):
        text = ','.join(f'{key}={value}' for key, value in arguments.items())
        result.append((f'{name}({text})', lambda name=name, arguments=arguments: make_one(name, arguments)))
    return result


def matrix(kind, generator, num_rows=None, dtype=torch.float64):
    """A matrix of gradients of the given kind, with at least as many rows as the kind needs."""
    if num_rows is None:
        num_rows = int(torch.randint(1, 9, (), generator=generator))
        if torch.rand((), generator=generator) < 0.1:
            num_rows = int(torch.randint(9, LARGEST + 1, (), generator=generator))
    length = int(torch.randint(1, 2 * num_rows + 4, (), generator=generator))
    G = torch.randn(num_rows, length, dtype=torch.float64, generator=generator)
    if kind == 'zero_rows':
        G[torch.rand(num_rows, generator=generator) < 0.5] = 0
    elif kind == 'all_zero':
        G.zero_()
    elif kind == 'equal':
        G[:] = G[0].clone()
    elif kind == 'opposite':
        half = num_rows // 2
        G[num_rows - half :] = -G[:half]
    elif kind == 'rank_one':
        G = torch.randn(num_rows, 1, dtype=torch.float64, generator=generator) * G[:1]
    elif kind == 'scales':
        G *= 10 ** (torch.rand(num_rows, 1, dtype=torch.float64, generator=generator) * 25 - 10)
    elif kind == 'near_opposite':
        half = num_rows // 2
        noise = 10 ** (-16 * torch.rand((), dtype=torch.float64, generator=generator))
        G[num_rows - half :] = -G[:half] + noise * G[num_rows - half :]
    elif kind == 'short_rows':
        G[::2] *= 1e-10
    return G.to(dtype)


def losses_for(G, generator):
    return 0.1 + 3 * torch.rand(len(G), generator=generator).to(G.dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def call(aggregator, G, losses=None, seed=0, task_ids=None):
    losses = torch.ones(len(G), dtype=G.dtype) if losses is None else losses
    return aggregator(G, losses, seeded(seed), task_ids)


def size(aggregator, G, update, kind=''):
    """The length against which rounding of ``update`` is to be judged: that of its summands."""
    norms = G.double().norm(dim=1)
    weights = aggregator.last_weights
    floor = 1e-7 if 'opposite' in kind or kind == 'rank_one' else 1e-15  # what is left of rows that cancel is rounding
    summands = norms.sum() if weights is None else (weights.abs() * norms).sum()
    if type(aggregator).__name__ in ('CAGrad', 'ConicGrad'):  # a sum of the mean row and a correction as long as it
        summands = summands + G.double().mean(0).norm()
    return max(float(summands), float(update.double().norm()), floor * float(norms.max()))


def resolvable(G):
    """Whether products of the rows, which hold squares of lengths, tell dependent rows from nearly dependent ones."""
    G = G.double()[G.double().norm(dim=1) > 0]
    values = torch.linalg.svdvals(G / G.norm(dim=1, keepdim=True)) if len(G) else torch.ones(1)
    return not ((values > 1e-9 * values.max()) & (values < 1e-4 * values.max())).any()
