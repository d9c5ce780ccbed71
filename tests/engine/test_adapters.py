"""Low-rank adapters on a frozen transformer, trained by every method of the catalogue."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mtl_plugins.engine.step.parameters import ParameterTable
from mtl_plugins.models import MultiTaskSegmentor, TimmBackbone
from tests.support.runs import differences

from .all_methods import ROWS, build

TASKS = ('depth', 'sal', 'normals')
BACKBONE = dict(
    type='mtl_plugins.TimmBackbone', model_name='vit_tiny_patch16_224', img_size=32, embed_dim=16, depth=2, num_heads=2,
    out_indices=(0, 1), drop_path_rate=0.0, init_cfg=dict(type='TruncNormal', layer='Linear', std=0.2),
)  # fmt: skip


def make_model(**adapters):
    torch.manual_seed(0)
    backbone = dict(BACKBONE, frozen=True, adapters=dict(rank=2, task_rank=1) | adapters)
    model = MultiTaskSegmentor(
        backbone,
        {task: dict() for task in TASKS},
        data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    )
    model.init_weights()
    return model


def batch(number):
    draw = torch.Generator().manual_seed(number)
    samples = []
    for _ in range(2):
        sample = SegDataSample()
        sample.set_data(dict(gt_depth=PixelData(data=1 + torch.rand(1, 32, 32, generator=draw))))
        sample.set_data(dict(gt_sal=PixelData(data=torch.randint(0, 2, (1, 32, 32), generator=draw))))
        normals = torch.randn(3, 32, 32, generator=draw)
        sample.set_data(dict(gt_normals=PixelData(data=normals / normals.norm(dim=0))))
        samples.append(sample)
    images = [torch.randint(0, 256, (3, 32, 32), generator=draw, dtype=torch.uint8) for _ in range(2)]
    return dict(inputs=images, data_samples=samples)


def train(model, wrapper, numbers):
    for number in numbers:
        torch.manual_seed(number)
        model.train_step(batch(number), wrapper)


FEATURES = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='MGDA'), level='features'
)  # fmt: skip


@pytest.mark.parametrize('key', [*ROWS, FEATURES], ids=str)
def test_adapters_learn_and_the_network_under_them_does_not(key):
    model = make_model().train()
    before = copy.deepcopy(model.state_dict())
    wrapper = build(key, model, lr=0.05)
    train(model, wrapper, range(6))
    for name, value in model.state_dict().items():
        frozen = name.startswith('backbone.') and '_adapter' not in name
        assert torch.equal(value, before[name]) == frozen, name
    assert wrapper.guard.total == {}


def test_adapters_of_a_task_are_its_own_and_the_others_shared():
    model = make_model()
    losses = model(**model.data_preprocessor(batch(0), training=True), mode='loss')
    table, names = ParameterTable(model), [name for name, _ in model.named_parameters()]
    table.observe({task: losses[f'{task}.loss'] for task in TASKS})
    assert set(table.shared()) == {name for name in names if '.shared_adapter.' in name}
    for task in TASKS:
        own = {n for n in names if f'.task_adapters.{task}.' in n or n.startswith(f'heads.{task}.')}
        assert set(table.own(task)) == own


def test_a_checkpoint_goes_on_as_if_nothing_had_been():
    straight, first = make_model().train(), make_model().train()
    wrappers = [build('stgu', model) for model in (straight, first)]
    train(straight, wrappers[0], range(4))
    train(first, wrappers[1], range(2))
    second = make_model().train()
    wrapper = build('stgu', second)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    wrapper.load_state_dict(copy.deepcopy(wrappers[1].state_dict()))
    train(second, wrapper, range(2, 4))
    assert not differences(straight.state_dict(), second.state_dict())


def test_at_first_adapters_change_nothing_and_idle_tasks_come_without_a_graph():
    model, bare = make_model().eval(), MultiTaskSegmentor(BACKBONE, {task: dict() for task in TASKS}).eval()
    bare.load_state_dict(model.state_dict(), strict=False)
    image = torch.randn(1, 3, 48, 32)
    outputs, expected = model(image), bare(image)
    for task in TASKS:
        torch.testing.assert_close(outputs[task], expected[task])
    model.set_active_tasks(['sal'])
    maps = copy.deepcopy(model).backbone(image)
    assert {task: each[0].requires_grad for task, each in maps.items()} == dict(depth=False, sal=True, normals=False)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    outputs = model(image)
    assert not any(torch.allclose(outputs[task], expected[task]) for task in TASKS)


def test_wrong_adapters_are_explained():
    for adapters, told in (
        (dict(rank=0, task_rank=0), 'rank and task_rank must be 0 or more, and not both 0'),
        (
            dict(layers=('attn.qvk',)),
            r"layers=\('attn\.qvk',\) names no linear layer of a block, which has \['attn\.qkv'",
        ),
        (dict(tasks=('a',)), r'backbone\.adapters\.tasks comes from heads'),
    ):
        with pytest.raises(ValueError, match=told):
            make_model(**adapters)
    heads = {task: dict() for task in TASKS}
    decoder = dict(type='mtl_plugins.InvPTDecoder')
    with pytest.raises(ValueError, match=r'InvPTDecoder makes the maps of all tasks.*set task_rank=0'):
        MultiTaskSegmentor(dict(BACKBONE, adapters=dict(task_rank=1)), heads, decoder=decoder)
    settings = {k: v for k, v in BACKBONE.items() if k != 'type'}
    with pytest.raises(ValueError, match='task_rank needs tasks'):
        TimmBackbone(**settings, adapters=dict(task_rank=1))
