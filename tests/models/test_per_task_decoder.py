"""What the segmentor does with a decoder that has a map and auxiliary predictions of its own for every task."""

import pytest
import torch
from torch import nn

from mtl_plugins.engine.step.losses import LossTable
from mtl_plugins.models import PerTaskDecoder, TaskFeatures

from .segmentor_cases import HEADS, SIZE, batch, build, losses_of, sample


class OwnMaps(PerTaskDecoder):
    """A 1x1 convolution per task, a coarse and a fine auxiliary prediction."""

    def __init__(self, out_channels=6, several=False, **kwargs):
        super().__init__(**kwargs)
        self.out_channels = out_channels
        self.several = several
        widths = {task: out_channels[task] if isinstance(out_channels, dict) else 6 for task in self.tasks}
        self.mix = nn.ModuleDict({task: nn.Conv2d(self.in_channels[-1], widths[task], 1) for task in self.tasks})
        self.aux = nn.ModuleDict({task: nn.Conv2d(widths[task], n, 1) for task, n in self.task_channels.items()})

    def forward(self, maps):
        own = {}
        for task, conv in self.mix.items():
            with self.only_for(task):
                own[task] = conv(maps[-1])
        fine = {task: self.aux[task](one) for task, one in own.items()}
        coarse = {task: nn.functional.avg_pool2d(one, 2) for task, one in fine.items()}
        return TaskFeatures({t: (m, m) if self.several else m for t, m in own.items()}, dict(fine=fine, coarse=coarse))


def build_own(heads=None, **decoder):
    return build(HEADS if heads is None else heads, decoder=dict(type=OwnMaps, **decoder))


def test_losses_of_auxiliary_predictions_belong_to_their_task():
    model, (inputs, samples) = build_own(aux_weight=dict(coarse=0.5)), batch(sample(seed=1), sample(seed=2))
    out = model(inputs, samples, mode='loss')
    assert list(out) == [f'{task}.{key}' for task in HEADS for key in ('loss', 'num_valid', 'loss_fine', 'loss_coarse')]
    features = model.extract_features(inputs).decoded
    for task, head in model.heads.items():
        target = torch.stack([s.get(f'gt_{task}').data for s in samples])
        coarse = head.loss(head.resize(features.auxiliary['coarse'][task], SIZE), target)
        torch.testing.assert_close(out[f'{task}.loss_coarse'], 0.5 * coarse.loss)
        assert out[f'{task}.num_valid'] == coarse.num_valid
    collected = LossTable(list(HEADS)).collect(out)
    assert list(collected) == list(HEADS)
    for task in HEADS:
        terms = [out[f'{task}.{key}'] for key in ('loss', 'loss_fine', 'loss_coarse')]
        torch.testing.assert_close(collected[task], sum(terms))
        assert collected.count(task) == out[f'{task}.num_valid']
    torch.testing.assert_close(model.parse_losses(out)[0], sum(collected.values()))


def test_a_head_weights_all_losses_of_its_task():
    heads = dict(depth={}, edge={})
    plain = build_own(heads)(*batch(sample(heads)), mode='loss')
    halved = build_own(dict(heads, edge=dict(loss_weight=0.5)))(*batch(sample(heads)), mode='loss')
    for key, value in plain.items():
        torch.testing.assert_close(halved[key], value * (0.5 if key.startswith('edge.loss') else 1))


def test_each_head_gets_its_own_map():
    heads = dict(depth={}, normals=dict(features='last'), semseg=dict(num_classes=3))
    model = build_own(heads, out_channels=dict(depth=4, semseg=9))
    assert model.decoder.task_channels == dict(depth=1, semseg=3)
    assert {task: head.predictor.conv.in_channels for task, head in model.heads.items()} == dict(
        depth=4, normals=32, semseg=9
    )
    inputs, samples = batch(sample(heads))
    features, raw = model.extract_features(inputs), model(inputs, mode='tensor')
    for task in ('depth', 'semseg'):
        head = model.heads[task]
        assert torch.equal(raw[task], head(features.decoded.maps[task], SIZE))
    out = model(inputs, samples, mode='loss')
    assert [key for key in out if key.startswith('normals')] == ['normals.loss', 'normals.num_valid']
    (result,) = model(inputs, samples, mode='predict')
    assert torch.equal(result.pred_semseg.data, raw['semseg'].argmax(1))


def test_several_maps_per_task():
    predictor = dict(type='mmseg.FCNHead', in_index=(0, 1), input_transform='resize_concat', channels=4, num_convs=0)
    predictor |= dict(concat_input=False)
    model = build_own(dict(depth=dict(predictor=predictor | dict(channels=12))), out_channels=(6, 6), several=True)
    assert model(torch.randn(1, 3, *SIZE), mode='tensor')['depth'].shape == (1, 1, *SIZE)


def test_idle_tasks_have_no_graph_at_all():
    model, (inputs, samples) = build_own(), batch(sample(seed=1))
    full = model(inputs, samples, mode='loss')
    model.set_active_tasks(['depth', 'edge'])
    part = model(inputs, samples, mode='loss')
    assert {key.split('.')[0] for key, value in part.items() if value.requires_grad} == {'depth', 'edge'}
    assert all(torch.equal(part[key], full[key]) for key in full)
    sum(value for value in part.values() if value.requires_grad).backward()
    idle = [p.grad for task in ('semseg', 'normals') for p in model.decoder.mix[task].parameters()]
    assert idle == [None] * 4


def test_layers_of_idle_tasks_keep_nothing_for_a_backward():
    def saved(active):
        model, kept = build_own(dict(depth={}, edge={})), []
        model.set_active_tasks(active)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            features = model.extract_features(torch.randn(1, 3, *SIZE)).decoded
        return sum(kept), {task: one.requires_grad for task, one in features.maps.items()}

    everything, some = saved(None), saved(['edge'])
    assert some[0] < everything[0]
    assert everything[1] == dict(depth=True, edge=True)
    assert some[1] == dict(depth=False, edge=True)
    assert saved([])[1] == dict(depth=False, edge=False)


def test_tasks_missing_from_the_batch():
    out = build_own()(*batch(sample(['depth'], seed=1), sample([], seed=2)), mode='loss')
    assert list(out) == ['depth.loss', 'depth.num_valid', 'depth.loss_fine', 'depth.loss_coarse']
    assert list(losses_of(out)) == ['depth']


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"decoder.tasks comes from heads, but got \['depth'\]"):
        build_own(tasks=['depth'])
    with pytest.raises(ValueError, match=r'OwnMaps: aux_weight must be numbers >= 0, but got -1'):
        build_own(aux_weight=-1)
    with pytest.raises(
        ValueError,
        match=r"OwnMaps.aux_weight must be a finite number or a dict of finite numbers, but got \{'fine': nan\}",
    ):
        build_own(aux_weight=dict(fine=float('nan')))
    misspelt = build_own(aux_weight=dict(coarze=0.5))
    with pytest.raises(ValueError, match=r"aux_weight names \['coarze'\], but its .* are \['fine', 'coarse'\]"):
        misspelt(*batch(sample()), mode='loss')
    with pytest.raises(ValueError, match=r'OwnMaps: tasks must name at least one task'):
        OwnMaps(in_channels=[3], tasks={})
    with pytest.raises(ValueError, match=r"head of task 'semseg': give num_classes"):
        build_own(dict(semseg={}))
