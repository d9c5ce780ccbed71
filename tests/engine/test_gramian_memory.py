"""Gradients that enter their products block by block: the updates of rows, in the memory that is promised."""

import itertools
import random
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from benchmarks.networks import BenchmarkConvEncoder
from mtl_plugins.engine.step import reduction
from mtl_plugins.engine.step.graph_blocks import BlockPlanner
from mtl_plugins.experiments.measuring.memory import peak_memory
from mtl_plugins.models.backbones import TimmViT
from tests.support.thread_ranks import Ranks

from .all_methods import ROWS, build, record_gradients, train
from .toy import flat, make_model

GRAMIAN = [
    key
    for key, row in ROWS.items()
    if row.kind == 'gradient aggregation' and build(key, make_model()).aggregator.gramian_only
]
TASKS = 'abc'


def vit():
    """Two of its blocks hand their maps to the heads, so that one cut is crossed by two of them."""
    sizes = dict(img_size=(32, 32), embed_dim=48, depth=3, num_heads=3, out_indices=(0, 2))
    return TimmViT('vit_tiny_patch16_224', pretrained=False, **sizes)


def layers():
    return nn.Sequential(*(part for _ in range(6) for part in (nn.Linear(64, 64), nn.Tanh())))


class Ordered(nn.ModuleList):
    """A wide stage and narrow ones, in an order that may be another on each rank; narrow ones come two in a block.

    What the first one makes is added at the end, so that every cut is crossed by a tensor and one that is made of it.
    """

    def __init__(self):
        wide = nn.Sequential(nn.Linear(64, 160), nn.Tanh(), nn.Linear(160, 64), nn.Tanh())
        super().__init__([wide, *(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(4))])
        self.order = range(5)

    def forward(self, x):
        start, *others = (self[number] for number in self.order)
        first = x = start(x)
        for stage in others:
            x = stage(x)
        return x + first


WIDTHS = dict(conv=16, vit=48, layers=64, ordered=64)
BACKBONES = dict(conv=lambda: BenchmarkConvEncoder((8, 16, 16)), vit=vit, layers=layers, ordered=Ordered)


class Net(BaseModel):
    """A backbone and a linear head per task."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = BACKBONES[kind]()
        self.absent = ''
        self.heads = nn.ModuleDict({task: nn.Linear(WIDTHS[kind], 1) for task in TASKS})

    def forward(self, inputs, mode='tensor'):
        maps = self.backbone(inputs)
        maps = maps if isinstance(maps, (tuple, list)) else [maps]
        pooled = sum(each.flatten(2).mean(2) if each.dim() > 2 else each for each in maps)
        losses = {
            f'{task}.loss': (k + 1) * (self.heads[task](pooled) - k).square().mean()
            for k, task in enumerate(TASKS)
            if task not in self.absent
        }
        return losses or dict(zero=torch.zeros(()))


def batch(kind, seed=0, size=2):
    shape = (size, 64) if kind in ('layers', 'ordered') else (size, 3, 32, 32)
    return dict(inputs=torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def update(key, kind, **options):
    """The gradient of the first step, and the wrapper that made it."""
    model = Net(kind)
    wrapper = build(key, model, **options)
    seen = record_gradients(wrapper)
    model.train_step(batch(kind), wrapper)
    return torch.cat([gradient.reshape(-1) for gradient in seen[0]]), wrapper


@pytest.mark.parametrize('kind', ['conv', 'vit', 'ordered'])
def test_updates_are_those_of_rows(kind):
    for key in GRAMIAN:
        expected, _ = update(key, kind)
        found, wrapper = update(key, kind, memory='gramian')
        assert wrapper.blocks.num_blocks > 2
        assert wrapper.cost_per_batch().backwards == len(TASKS) + 1
        assert (found - expected).norm() <= 1e-6 * expected.norm(), key
    for options in (dict(normalise='l2'), dict(heads='weighted'), dict(rescale=None)):
        expected, found = (update('mgda', kind, memory=memory, **options)[0] for memory in ('rows', 'gramian'))
        assert (found - expected).norm() <= 1e-6 * expected.norm(), options


def test_no_more_is_held_than_the_largest_block_and_what_crosses_its_ends():
    peaks, rows = {}, len(TASKS) * 6 * (64 * 64 + 64)
    for name, key, options in (('gd', 'gd', {}), ('rows', 'mgda', {}), ('gramian', 'mgda', dict(memory='gramian'))):
        model = Net('layers')
        wrapper = build(key, model, **options)
        data = batch('layers', size=4)
        system = SimpleNamespace(
            model=model, optimizer=wrapper.optimizer, step=lambda m=model, w=wrapper, d=data: m.train_step(d, w)
        )
        system.step()
        peaks[name] = peak_memory(system)
    # Six blocks, a layer each: its weights and biases for each of 3 tasks and once more, and 4 x 64 numbers per task at
    # its two ends.
    assert wrapper.blocks.num_blocks == 6
    assert wrapper.blocks.held == (3 + 1) * (64 * 64 + 64) + 3 * 2 * 4 * 64
    # Beside it a loss per task; products are summed in float64 from a few thousand columns at a time.
    in_float64 = 8 * 3 * (64 * 64 + 64)
    assert peaks['gramian'] <= peaks['gd'] + 4 * wrapper.blocks.held + in_float64
    assert peaks['rows'] >= peaks['gd'] + 4 * (rows - rows // 6)


def test_the_largest_block_is_as_small_as_it_can_be():
    """Of chains of layers of all widths, against all ways to cut them."""
    draw, planner = random.Random(0), BlockPlanner()
    for _ in range(30):
        size, widths = draw.randint(1, 12), [draw.randint(1, 12) for _ in range(6)]
        weights = [nn.Parameter(torch.ones(pair)) for pair in itertools.pairwise(widths)]
        maps = torch.ones(size, widths[0])
        for weight in weights:
            maps = (maps @ weight).tanh()
        blocks = planner.blocks([maps.sum()], weights)
        assert [id(p) for block in blocks for p in block.parameters] == list(map(id, weights))
        ends = [0, *(size * width for width in widths[1:-1]), 0]
        ways = itertools.chain.from_iterable(itertools.combinations(range(1, 5), n) for n in range(5))
        least = min(
            (
                max(
                    sum(w.numel() for w in weights[a:b]) + ends[a] + ends[b]
                    for a, b in itertools.pairwise((0, *way, 5))
                ),
                len(way) + 1,
            )
            for way in ways
        )
        # Of several ways, the one with the fewest blocks.
        largest = max(sum(p.numel() for p in block.parameters) + sum(block.live) for block in blocks)
        assert (largest, len(blocks)) == least
        assert [block.live[0] for block in blocks[1:]] == [block.live[1] for block in blocks[:-1]]
        assert {block.live[0] for block in blocks[1:]} <= set(ends)


@pytest.mark.parametrize(
    ('kind', 'absent', 'orders'),
    [
        ('layers', ['', 'b', 'abc'], None),
        ('ordered', ['', '', 'b'], [(0, 1, 2, 3, 4), (1, 3, 0, 2, 4), (3, 0, 4)]),
        ('ordered', ['', '', 'b'], [(0, 1), (2, 3), (4,)]),
    ],
)
def test_on_several_ranks_each_block_is_averaged_before_its_products(kind, absent, orders, monkeypatch):
    """Also where a rank has no label of a task, or none at all, or other layers, so that its graph is another."""
    found = {}
    for memory in ('rows', 'gramian'):
        ranks = Ranks(3)
        monkeypatch.setattr(reduction, 'dist', ranks)
        # Made here: the seed is one of the process, not of a thread.
        models = [{key: Net(kind) for key in GRAMIAN} for _ in range(3)]

        def job(rank, memory=memory, models=models):
            ends = {}
            for key, model in models[rank].items():
                model.absent = absent[rank]
                if orders is not None:
                    model.backbone.order = orders[rank]
                wrapper = build(key, model, memory=memory, tasks=tuple(TASKS))
                seen = record_gradients(wrapper)
                model.train_step(batch(kind, rank), wrapper)
                ends[key] = torch.cat([g.reshape(-1) for g in seen[0]])
            assert memory == 'rows' or wrapper.blocks.num_blocks > 2
            return ends

        found[memory] = ranks.run(job)
        assert all(torch.equal(found[memory][0][key], found[memory][rank][key]) for key in GRAMIAN for rank in (1, 2))
    for key in GRAMIAN:
        expected = found['rows'][0][key]
        assert (found['gramian'][0][key] - expected).norm() <= 1e-5 * expected.norm(), key


@pytest.mark.parametrize('where', ['backbone', 'heads'])
def test_an_overflow_skips_the_step_and_a_bad_task_is_left_out(where):
    precision = dict(precision='fp16', init_scale=2.0**10)
    model = make_model()
    wrapper = build('cagrad', model, memory='gramian', precision=precision)
    train(model, wrapper, [0])
    before = flat(model)
    layer = model.backbone[0] if where == 'backbone' else model.heads['b'][0]
    handle = layer.weight.register_hook(lambda gradient: gradient * float('inf'))
    train(model, wrapper, [1])
    assert torch.equal(flat(model), before)
    assert wrapper.precision.loss_scale <= 2.0**9
    handle.remove()
    train(model, wrapper, [2])
    assert not torch.equal(flat(model), before)

    model, other = make_model(), make_model()
    if where == 'heads':  # without a scaler, the others go on
        model.heads['b'][0].weight.register_hook(lambda gradient: gradient * float('nan'))
        train(model, build('cagrad', model, memory='gramian', tasks=tuple(TASKS)), [0])
        train(other, build('cagrad', other, tasks=tuple(TASKS)), [0], tasks=('a', 'c'))
        torch.testing.assert_close(flat(model), flat(other), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ('key', 'options', 'says'),
    [
        ('graddrop', {}, 'GradDrop needs the gradients themselves'),
        ('moco', {}, 'MoCo needs the gradients themselves'),
        ('mgda', dict(accumulative_counts=2), 'use accumulative_counts=1'),
        ('mgda', dict(level='features'), "level='features' holds no gradients of parameters"),
        ('mgda', dict(row_dtype='bf16'), 'row_dtype'),
    ],
)
def test_what_needs_rows_or_several_batches_is_refused(key, options, says):
    with pytest.raises(ValueError, match=f"memory='gramian'.*{says}"):
        build(key, make_model(), memory='gramian', **options)


def test_a_model_whose_shared_parameters_enter_at_one_place_is_refused():
    class Whole(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, *parameters):
            return x + sum(parameter.sum() for parameter in parameters)

        @staticmethod
        def backward(ctx, gradient):
            return gradient, *(gradient.sum() * torch.ones(size) for size in [(64, 64), (64,)] * 6)

    model = Net('layers')
    model.backbone.forward = lambda x: Whole.apply(x, *model.backbone.parameters())
    with pytest.raises(RuntimeError, match=r'cannot be cut into blocks, because a single node .*WholeBackward'):
        model.train_step(batch('layers'), build('mgda', model, memory='gramian'))
