"""The MTI-Net decoder: its parts against slow, obvious versions, and what any decoder must do."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtl_plugins.models import MTINetDecoder
from mtl_plugins.models.decoders.mti_net_blocks import (
    Distillation,
    FeaturePropagation,
    SqueezeExcitation,
    residual_blocks,
)
from mtl_plugins.models.maps import resized
from mtl_plugins.registry import MODELS

from .segmentor_cases import HEADS, SIZE, batch, build, losses_of, sample
from .test_map_channels import NARROW_HRNET

pytestmark = pytest.mark.filterwarnings('ignore:Fail to import ``MultiScaleDeformableAttention``:UserWarning')

TASKS = dict(semseg=5, depth=1, normals=3)
PYRAMID = (6, 8, 10, 12)
BN = dict(type='BN')


def decoder(in_channels=PYRAMID, tasks=TASKS, seed=0, **kwargs):
    torch.manual_seed(seed)
    built = MTINetDecoder(in_channels=in_channels, tasks=tasks, **kwargs)
    built.init_weights()
    return built


def pyramid(size=(24, 32), channels=PYRAMID, batch=2, seed=1):
    """Maps of strides 1, 2, 4, 8, rounded up as a backbone with padded convolutions does."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [[-(-side // 2**scale) for side in size] for scale in range(len(channels))]
    return [torch.randn(batch, width, *hw, generator=generator) for width, hw in zip(channels, sizes)]


def features(tasks=TASKS, channels=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {task: torch.randn(2, channels, 5, 7, generator=generator) for task in tasks}


# -- parts -------------------------------------------------------------------------------------------------------------


def test_distillation_is_one_gated_convolution_per_pair():
    torch.manual_seed(0)
    layer, given = Distillation(list(TASKS), 6), features()
    out = layer(given)
    for receiver in TASKS:
        expected = given[receiver].clone()
        for sender in TASKS:
            if sender == receiver:
                continue
            place = [task for task in TASKS if task != sender].index(receiver)
            weight = layer.messages[sender].weight
            value = F.conv2d(given[sender], weight[place * 6 : place * 6 + 6], padding=1)
            gate = F.conv2d(given[sender], weight[12 + place * 6 : 12 + place * 6 + 6], padding=1)
            expected += torch.sigmoid(gate) * value
        torch.testing.assert_close(out[receiver], expected)
    assert torch.equal(given['depth'], features()['depth'])  # the input is not changed


def test_propagation_chooses_among_tasks_and_adds_to_each():
    torch.manual_seed(0)
    layer, given = FeaturePropagation(list(TASKS), 6, 2, 3, 2, BN).eval(), features()
    out = layer(given)
    joined = torch.cat(list(given.values()), 1)
    logits = layer.choice(joined)
    shares = torch.stack([logits[:, 6 * i : 6 * i + 6] for i in range(3)]).exp()
    shares = shares / shares.sum(0)
    shared = layer.shared(torch.cat([share * given[task] for share, task in zip(shares, TASKS)], 1))
    for task in TASKS:
        se = layer.excitation[task]
        means = shared.flatten(2).mean(2)
        factor = torch.sigmoid(torch.relu(means @ se.squeeze.weight[:, :, 0, 0].T) @ se.excite.weight[:, :, 0, 0].T)
        torch.testing.assert_close(out[task], given[task] + factor[:, :, None, None] * shared)


def test_squeeze_and_excitation_keeps_a_unit():
    assert SqueezeExcitation(18, 16).squeeze.out_channels == 1
    assert SqueezeExcitation(144, 16).squeeze.out_channels == 9
    assert SqueezeExcitation(4, 16).squeeze.out_channels == 1


def test_residual_blocks_project_only_where_channels_change():
    torch.manual_seed(0)
    same, other = residual_blocks(6, 6, 3, BN).eval(), residual_blocks(4, 6, 1, BN).eval()
    assert [block.downsample for block in same] == [None] * 3
    x = torch.randn(1, 4, 5, 5)
    block = other[0]
    inner = block.norm2(block.conv2(F.relu(block.norm1(block.conv1(x)))))
    torch.testing.assert_close(other(x), F.relu(inner + block.downsample(x)))


def test_resize_leaves_the_right_size_alone():
    x = torch.randn(1, 2, 3, 4)
    assert resized(x, (3, 4)) is x
    torch.testing.assert_close(resized(x, (5, 7)), F.interpolate(x, (5, 7), mode='bilinear', align_corners=False))


# -- the whole ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(24, 32), (19, 27), (8, 8), (1, 9)])
@pytest.mark.parametrize('tasks', [TASKS, dict(depth=1), dict(edge=1, normals=3)], ids=len)
def test_shapes(size, tasks):
    net, maps = decoder(tasks=tasks).eval(), pyramid(size)
    out = net(maps)
    assert net.out_channels == sum(PYRAMID)
    assert {task: tuple(m.shape) for task, m in out.maps.items()} == dict.fromkeys(tasks, (2, 36, *size))
    assert list(out.auxiliary) == ['scale0', 'scale1', 'scale2', 'scale3']
    for level, predictions in zip(maps, out.auxiliary.values()):
        expected = {task: (2, channels, *level.shape[-2:]) for task, channels in tasks.items()}
        assert {task: tuple(p.shape) for task, p in predictions.items()} == expected


def test_maps_of_one_resolution_and_own_widths():
    maps = [torch.randn(2, 32, 6, 9) for _ in range(4)]
    net = decoder((32,) * 4, channels=(4, 6, 8, 8))
    out = net(maps)
    assert net.out_channels == 26
    assert out.maps['depth'].shape == (2, 26, 6, 9)
    assert {p.shape for p in out.auxiliary['scale3'].values()} == {(2, c, 6, 9) for c in TASKS.values()}
    assert decoder((32,) * 4, channels=5).channels == (5,) * 4


def test_some_of_the_maps():
    maps, chosen = pyramid(), decoder(in_index=(1, -1))
    assert chosen.out_channels == 20
    others = [torch.full_like(m, torch.nan) for m in maps]
    out = chosen.eval()([others[0], maps[1], others[2], maps[3]])
    assert list(out.auxiliary) == ['scale0', 'scale1']
    assert out.maps['depth'].shape == (2, 20, 12, 16)
    assert all(m.isfinite().all() for m in out.maps.values())
    single = decoder(in_index=(2,))
    assert len(single.propagation) == 0
    assert single(maps).maps['depth'].shape == (2, 10, 6, 8)


@pytest.mark.parametrize('count', [1, 2, 3])
@pytest.mark.parametrize('in_channels', [PYRAMID, (10,) * 4], ids=['pyramid', 'equal'])
def test_every_parameter_gets_a_gradient(count, in_channels):
    net = decoder(in_channels, dict(list(TASKS.items())[:count])).train()
    for module in net.modules():
        if isinstance(module, SqueezeExcitation):  # the few units of so narrow a layer could all be off by chance
            module.squeeze.weight.data.abs_()
    out = net(pyramid(channels=in_channels))
    outputs = [*out.maps.values(), *(p for one in out.auxiliary.values() for p in one.values())]
    sum(x.square().mean() for x in outputs).backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def expected_parameters(tasks, widths, received, se=16, reduction=4):
    """Counted by hand from the description; two residual blocks each."""

    def blocks(given, width, depth=2):
        plain = 2 * 9 * width * width + 4 * width
        first = 9 * given * width + 9 * width * width + 4 * width
        shortcut = given * width + 2 * width if given != width else 0
        return first + shortcut + (depth - 1) * plain

    count = len(tasks)
    total = 0
    for scale, (width, own) in enumerate(zip(widths, received)):
        above = widths[scale + 1] if scale + 1 < len(widths) else 0
        total += count * blocks(own + above, width)
        total += sum(width * out + out for out in tasks.values())
        total += count * (count - 1) * 2 * 9 * width * width
        if scale > 0:
            wide, narrow = count * width, max(1, count * width // reduction)
            if count > 1:
                total += blocks(wide, narrow) + narrow * wide + wide
            total += blocks(wide, width, depth=1)
            total += count * 2 * width * max(1, width // se)
    return total


NYUD = dict(semseg=40, depth=1, normals=3, edge=1)
PASCAL = dict(semseg=21, human_parts=7, sal=1, normals=3, edge=1)
HRNET18 = (18, 36, 72, 144)


@pytest.mark.parametrize(
    ('tasks', 'frozen'),
    [(NYUD, 13_792_122), (PASCAL, 20_254_623), (dict(semseg=40, depth=1), 4_558_394), (dict(depth=1), 1_631_218)],
    ids=['nyud', 'pascal', 'two', 'one'],
)
def test_number_of_parameters(tasks, frozen):
    with torch.device('meta'):
        net = MTINetDecoder(in_channels=HRNET18, tasks=tasks)
    counted = sum(p.numel() for p in net.parameters())
    assert counted == expected_parameters(tasks, HRNET18, HRNET18)
    assert counted == frozen


def test_the_order_of_the_tasks_does_not_matter():
    """Parameters carried over to another order of the tasks give the same features and predictions."""
    orders = [list(TASKS), ['normals', 'semseg', 'depth']]
    first, second = (
        decoder(tasks={task: TASKS[task] for task in order}, seed=seed) for seed, order in enumerate(orders)
    )
    with torch.no_grad():
        for p in first.parameters():  # no layer may be at its initial zeros or ones
            p.add_(0.1 * torch.randn_like(p))
    state = {name: value.clone() for name, value in first.state_dict().items()}
    old, new = orders
    for level in range(3):
        width = PYRAMID[level + 1]
        blocks = torch.cat([torch.arange(width) + width * old.index(task) for task in new])
        at = f'propagation.{level}'
        for name in ('choice.0.0.conv1', 'choice.0.0.downsample.0', 'shared.0.conv1', 'shared.0.downsample.0'):
            state[f'{at}.{name}.weight'] = state[f'{at}.{name}.weight'][:, blocks]
        for name in ('weight', 'bias'):
            state[f'{at}.choice.1.{name}'] = state[f'{at}.choice.1.{name}'][blocks]
    for level, width in enumerate(PYRAMID):
        for sender in TASKS:
            before, after = ([task for task in order if task != sender] for order in orders)
            rows = torch.cat(
                [torch.arange(width) + width * (before.index(task) + half * 2) for half in (0, 1) for task in after]
            )
            key = f'distillation.{level}.messages.{sender}.weight'
            state[key] = state[key][rows]
    second.load_state_dict(state)
    outs = [net.eval().double()([m.double() for m in pyramid()]) for net in (first, second)]
    for task in TASKS:
        torch.testing.assert_close(outs[1].maps[task], outs[0].maps[task])
        for name, predictions in outs[0].auxiliary.items():
            torch.testing.assert_close(outs[1].auxiliary[name][task], predictions[task])


def test_tasks_exchange_features_at_every_scale():
    """A change of one task's initial features reaches the others, upwards and within the scale."""
    net, maps = decoder().eval(), pyramid()
    before = net(maps)
    with torch.no_grad():
        for p in net.initial[3]['depth'].parameters():
            p.mul_(1.5)
    after = net(maps)
    for task in TASKS:
        for own in before.maps[task].split(PYRAMID, 1):
            assert own.shape[1] in PYRAMID
        changed = [
            not torch.allclose(a, b)
            for a, b in zip(before.maps[task].split(PYRAMID, 1), after.maps[task].split(PYRAMID, 1))
        ]
        assert changed == [True] * 4
    assert torch.equal(before.auxiliary['scale3']['normals'], after.auxiliary['scale3']['normals'])
    assert not torch.allclose(before.auxiliary['scale2']['normals'], after.auxiliary['scale2']['normals'])


def test_init_weights_is_deterministic():
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        net = MTINetDecoder(in_channels=PYRAMID, tasks=TASKS)
        torch.manual_seed(9)
        net.init_weights()
        states.append(net.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    layer = net.prediction[0]['semseg'].conv
    assert layer.weight.std() < 0.02
    assert not layer.bias.any()


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(in_index=(0, 4)), r'in_index must name some of the 4 maps of the backbone, but got \(0, 4\)'),
        (dict(in_index=()), r'in_index must name some of the 4 maps'),
        (dict(channels=(8, 8)), r'one for each of the 4 scales, but got \(8, 8\)'),
        (dict(channels=0), r'one positive number'),
        (dict(depth=0), r'depth must be an integer >= 1, but got 0'),
        (dict(se_reduction=1.5), r'se_reduction must be an integer >= 1, but got 1.5'),
        (dict(tasks={}), r'tasks must name at least one task'),
        (dict(aux_weight=-1.0), r'aux_weight must be numbers >= 0'),
    ],
)
def test_wrong_settings_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        decoder(**kwargs)


# -- in the segmentor --------------------------------------------------------------------------------------------------

DECODER = dict(type='mtl_plugins.MTINetDecoder', channels=(6, 8), se_reduction=2)


def test_losses_at_every_scale():
    model = build(decoder=DECODER | dict(aux_weight=dict(scale1=0.5)))
    model.init_weights()
    inputs, samples = batch(sample(seed=1), sample(['depth', 'normals'], seed=2))
    out = model(inputs, samples, mode='loss')
    assert [key for key in out if key.startswith('semseg.')] == [
        f'semseg.{key}' for key in ('loss', 'num_valid', 'loss_scale0', 'loss_scale1')
    ]
    features = model.extract_features(inputs).decoded
    head = model.heads['normals']
    target = torch.stack([s.gt_normals.data for s in samples])
    expected = head.loss(head.resize(features.auxiliary['scale1']['normals'], SIZE), target).loss * 0.5
    torch.testing.assert_close(out['normals.loss_scale1'], expected)
    total, _ = model.parse_losses(out)
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ('backbone', 'channels'),
    [
        (NARROW_HRNET, None),
        (dict(type='mmseg.ResNet', depth=18, base_channels=8), (8, 8, 12, 16)),
        (dict(type='mmseg.SwinTransformer', embed_dims=8, depths=(1,) * 4, num_heads=(1, 1, 2, 2)), 8),
        (dict(type='mmseg.TIMMBackbone', model_name='resnet18', features_only=True, pretrained=False), 8),
    ],
    ids=['HRNet', 'ResNet', 'Swin', 'timm'],
)
def test_on_backbones_of_mmseg(backbone, channels):
    torch.manual_seed(0)
    heads = dict(depth={}, semseg=dict(num_classes=5))
    decoder = dict(type='mtl_plugins.MTINetDecoder', channels=channels)
    model = MODELS.build(dict(type='mtl_plugins.MultiTaskSegmentor', backbone=backbone, heads=heads, decoder=decoder))
    model.init_weights()
    size = (64, 96)
    inputs = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    samples = [sample(heads, size=size, seed=seed) for seed in (1, 2)]
    total, _ = model.parse_losses(model.train()(inputs, samples, mode='loss'))
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        odd = model(torch.randn(2, 3, 50, 70), mode='tensor')
    assert {task: tuple(raw.shape) for task, raw in odd.items()} == dict(depth=(2, 1, 50, 70), semseg=(2, 5, 50, 70))


def test_idle_heads():
    model = build(decoder=DECODER).train()
    inputs, samples = batch(sample(seed=1), sample(seed=2))

    def run(active):
        model.set_active_tasks(active)
        count = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: count.append(t.numel()) or t, lambda t: t):
            return model(inputs, samples, mode='loss'), sum(count)

    (full, all_saved), (part, some_saved) = run(None), run(['depth', 'edge'])
    losses = {key: value for key, value in part.items() if '.loss' in key}
    assert {key.split('.')[0] for key, loss in losses.items() if loss.requires_grad} == {'depth', 'edge'}
    assert all(torch.equal(loss, full[key]) for key, loss in losses.items())
    assert some_saved < all_saved

    def gradients(out):
        chosen = [value for key, value in out.items() if key.split('.')[0] in ('depth', 'edge') and '.loss' in key]
        return torch.autograd.grad(sum(chosen), tuple(model.parameters()), allow_unused=True)

    for ours, theirs in zip(gradients(part), gradients(full)):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)


def test_a_checkpoint_gives_the_same_predictions(tmp_path):
    model, other = (build(decoder=DECODER, seed=seed) for seed in (0, 1))
    inputs, samples = batch(sample(seed=1), sample(seed=2))
    model(inputs, samples, mode='loss')  # moves the running statistics
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    other.load_state_dict(torch.load(tmp_path / 'model.pth', weights_only=True))
    results = [net.eval()(inputs, mode='tensor') for net in (model, other)]
    for task in HEADS:
        assert torch.equal(results[0][task], results[1][task])


def test_bf16_is_finite_and_near_full_precision():
    model = build(decoder=DECODER).train()
    inputs, samples = batch(sample(seed=1), sample(seed=2))
    full = losses_of(model(inputs, samples, mode='loss'))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = model(inputs, samples, mode='loss')
    for task, loss in losses_of(half).items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full[task], rtol=0.1, atol=0.05)
    sum(value for key, value in half.items() if '.loss' in key).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_predictor_of_mmseg_on_the_features_of_all_scales():
    predictor = dict(type='mmseg.FCNHead', channels=14, kernel_size=1, num_convs=1, concat_input=False)
    model = build(dict(semseg=dict(num_classes=4, predictor=predictor), depth={}), decoder=DECODER)
    assert model.heads['semseg'].predictor.convs[0].conv.in_channels == 14
    assert isinstance(model.heads['depth'].predictor.conv, nn.Conv2d)
    (result,) = model.eval()(*batch(sample(['semseg', 'depth'])), mode='predict')
    assert result.pred_semseg.data.shape == (1, *SIZE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_gpu_equals_cpu():
    net, maps = decoder().eval(), pyramid()
    expected = net(maps)
    out = net.cuda()([m.cuda() for m in maps])
    for task in TASKS:
        torch.testing.assert_close(out.maps[task].cpu(), expected.maps[task], rtol=1e-3, atol=1e-3)
