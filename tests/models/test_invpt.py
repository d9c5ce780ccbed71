import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from torch import nn

from mtl_plugins.engine.step.parameters import ParameterTable
from mtl_plugins.models import InvPTDecoder
from mtl_plugins.models.decoders.invpt_blocks import CrossScaleAttention, Scores
from mtl_plugins.registry import MODELS, OPTIM_WRAPPERS

from .segmentor_cases import HEADS, SIZE, batch, build, losses_of, sample

TINY = dict(type='mtl_plugins.InvPTDecoder', dims=(16, 8, 4), pred_channels=4, drop_path_rate=0.0)
TASKS = dict(semseg=5, depth=1, normals=3)


def build_invpt(heads=None, seed=0, backbone=None, **decoder):
    return build(heads, seed, decoder=TINY | decoder, backbone=backbone or {})


def decoder(tasks=None, in_channels=(6, 10, 12, 8), seed=0, **options):
    torch.manual_seed(seed)
    settings = {key: value for key, value in (TINY | options).items() if key != 'type'}
    return InvPTDecoder(in_channels=in_channels, tasks=TASKS if tasks is None else tasks, **settings)


def pyramid(size, channels=(6, 10, 12, 8), seed=0):
    """Maps at 1/4, 1/8, 1/16 and 1/32, as backbones of mmseg give them."""
    torch.manual_seed(seed)
    return [torch.randn(2, c, *(-(-side // 2 ** (i + 2)) for side in size)) for i, c in enumerate(channels)]


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


# -- shapes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(32, 48), (40, 56), (8, 24), (64, 64)])
def test_plain_vit_of_any_size(size):
    model = build_invpt().eval()
    torch.manual_seed(1)
    inputs = torch.randn(2, 3, *size)
    out = model(inputs, mode='tensor')
    channels = dict(semseg=5, depth=1, normals=3, edge=1, principal_curvature=2)
    assert {task: tuple(one.shape) for task, one in out.items()} == {t: (2, c, *size) for t, c in channels.items()}
    decoded = model.extract_features(inputs).decoded
    rows, columns = (-(-side // 16) for side in size)  # patches of 8, halved and rounded up
    assert {tuple(one.shape) for one in decoded.maps.values()} == {(2, 16, 8 * rows, 8 * columns)}
    assert {task: tuple(one.shape) for task, one in decoded.auxiliary['initial'].items()} == {
        task: (2, c, rows, columns) for task, c in channels.items()
    }


@pytest.mark.parametrize('size', [(64, 96), (100, 68), (33, 130)])
def test_pyramids(size):
    out = decoder(out_channels=6, out_scale=1)(pyramid(size))
    rows, columns = (-(-side // 32) for side in size)
    assert {tuple(one.shape) for one in out.maps.values()} == {(2, 6, 4 * rows, 4 * columns)}


SWIN = dict(type='mmseg.SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4)
HRNET = dict(
    type='mmseg.HRNet',
    extra=dict(
        stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(8,)),
        stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(1,) * 2, num_channels=(4, 8)),
        stage3=dict(num_modules=1, num_branches=3, block='BASIC', num_blocks=(1,) * 3, num_channels=(4, 8, 16)),
        stage4=dict(num_modules=1, num_branches=4, block='BASIC', num_blocks=(1,) * 4, num_channels=(4, 8, 16, 32)),
    ),
)
RESNET = dict(type='mmseg.ResNetV1c', depth=18, base_channels=8, stem_channels=8)


@pytest.mark.parametrize('backbone', [RESNET, HRNET, SWIN], ids=lambda cfg: cfg['type'])
def test_backbones_of_mmseg(backbone):
    settings = dict(type='mtl_plugins.MultiTaskSegmentor', backbone=backbone, heads=HEADS, decoder=TINY)
    model = MODELS.build(settings)
    losses = model(*batch(sample(seed=1), sample(seed=2)), mode='loss')
    model.parse_losses(losses)[0].backward()
    parts = [name.split('.')[0] for name, p in model.named_parameters() if p.grad is not None]
    assert set(parts) == {'backbone', 'decoder', 'heads'}
    assert [name for name, p in model.decoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ('dims', 'in_channels', 'skips'),
    [
        ((16,), (8,), (0,)),
        ((16, 8), (8,), (0, 0)),
        ((16, 8, 4, 4), (6, 10, 8), (1, 0, 0, 0)),
        ((16, 4), (6, 8), (0, 0)),
    ],
)
def test_any_number_of_stages_and_maps(dims, in_channels, skips):
    model = decoder(dims=dims, in_channels=in_channels)
    assert model.skip_index == skips
    out = model([torch.randn(1, c, 6, 10) for c in in_channels])
    factor = 2 ** len(dims)
    assert out.maps['depth'].shape == (1, 16, 3 * factor, 5 * factor)


def test_maps_are_added_where_asked():
    maps = pyramid((64, 64))
    with_all, without = decoder(), decoder(skip_index=(None, None, None))
    assert list(with_all.skips) == ['0', '1', '2']
    assert not len(without.skips)
    without.load_state_dict({k: v for k, v in with_all.state_dict().items() if not k.startswith('skips.')})
    for layer in with_all.skips.values():
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    a, b = (model.eval()(maps).maps['depth'] for model in (with_all, without))
    torch.testing.assert_close(a, b)
    only = decoder(skip_index=(None, -4, None)).eval()
    before = only(maps).maps['depth']
    maps[1], maps[2] = maps[1] + 1, maps[2] + 1
    assert torch.equal(only(maps).maps['depth'], before)
    maps[0] = maps[0] + torch.randn_like(maps[0])
    assert not torch.equal(only(maps).maps['depth'], before)


# -- the attention -----------------------------------------------------------------------------------------------------


def slow_attention(layer, x, message):
    """One query, one key and one head at a time."""
    batch_size, tasks, dim, height, width = x.shape
    q_size, k_size = ((-(-height // s), -(-width // s)) for s in (2, layer.pool))
    width_of_head = dim // layer.num_heads
    out = torch.zeros(batch_size, tasks, dim, *q_size, dtype=x.dtype)
    scores = torch.zeros(batch_size, layer.num_heads, tasks, *q_size, tasks, *k_size, dtype=x.dtype)
    queries = [layer.query(layer.local_norm(layer.local(one.contiguous())).movedim(1, -1)) for one in x.unbind(1)]
    square = layer.pool
    for n in range(batch_size):
        keys, values = [], []
        for t in range(tasks):
            for i in range(k_size[0]):
                for j in range(k_size[1]):
                    area = x[n, t, :, i * square : (i + 1) * square, j * square : (j + 1) * square]
                    keys.append(layer.key(area.mean((1, 2))))
                    values.append(layer.value(area.mean((1, 2))))
        for h in range(layer.num_heads):
            part = slice(h * width_of_head, (h + 1) * width_of_head)
            for t in range(tasks):
                for i in range(q_size[0]):
                    for j in range(q_size[1]):
                        query = queries[t][n, i, j, part]
                        row = torch.stack([query @ key[part] for key in keys]) / width_of_head**0.5
                        if message is not None:
                            row = layer.mix[0, h] * row + layer.mix[1, h] * message[n, h, t, i, j].flatten()
                        row = row.flatten()
                        scores[n, h, t, i, j] = row.view(tasks, *k_size)
                        weights = row.exp() / row.exp().sum()
                        mixed = sum(w * value[part] for w, value in zip(weights, values))
                        out[n, t, part, i, j] = mixed
    learned = layer.out(out.movedim(2, -1)).movedim(-1, 2)
    return F.interpolate(learned.flatten(0, 1), (height, width), mode='bilinear').view_as(x), scores


@pytest.mark.parametrize('size', [(4, 4), (5, 3)])
@pytest.mark.parametrize('pool', [2, 4])
def test_attention_equals_a_slow_one(size, pool):
    torch.manual_seed(0)
    layer = CrossScaleAttention(4, 2, pool, message=True).double().eval()
    nn.init.uniform_(layer.mix, -1, 1)
    x = torch.randn(2, 2, 4, *size, dtype=torch.double)
    q_size = tuple(-(-side // 2) for side in size)
    keys = 2 * (-(-size[0] // pool)) * (-(-size[1] // pool))
    coarse = torch.randn(2, 2, 2 * 1 * 2, keys, dtype=torch.double)
    # A message of 1 x 2 queries per task, enlarged key by key.
    maps = coarse.view(4, 2, 1, 2, keys).permute(0, 1, 4, 2, 3).flatten(0, 1)
    message = F.interpolate(maps, q_size, mode='bilinear').view(2, 2, 2, keys, *q_size).movedim(3, -1)
    expected, expected_scores = slow_attention(layer, x, message)
    actual, scores = layer(x, Scores(coarse, (1, 2)))
    torch.testing.assert_close(actual, expected)
    assert scores.size == q_size
    torch.testing.assert_close(scores.values, expected_scores.reshape(2, 2, -1, keys))


def test_every_scale_has_the_same_keys():
    model, seen = decoder().eval(), []
    for block in model.blocks:
        block.attention.register_forward_hook(lambda m, i, out: seen.append(out[1]))
    model(pyramid((96, 160)))
    assert [one.size for one in seen] == [(2, 3), (3, 5), (6, 10)]
    assert {one.values.shape[-1] for one in seen} == {3 * 2 * 3}


def test_tasks_see_each_other_and_scales_speak():
    model, maps = decoder().eval(), pyramid((64, 64))
    before = model(maps).maps
    nn.init.normal_(model.predict['semseg'].weight)
    after = model(maps).maps
    assert not torch.allclose(before['depth'], after['depth'])
    assert not torch.allclose(before['normals'], after['normals'])
    nn.init.zeros_(model.blocks[2].attention.mix[1:])
    assert not torch.allclose(model(maps).maps['depth'], after['depth'])


# -- tasks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('tasks', [['depth'], ['semseg', 'edge'], ['normals', 'semseg', 'principal_curvature']])
def test_subsets_of_tasks(tasks):
    model = build_invpt({task: HEADS[task] for task in tasks})
    out = model(*batch(sample(seed=1), sample(seed=2)), mode='loss')
    assert list(out) == [f'{task}.{key}' for task in tasks for key in ('loss', 'num_valid', 'loss_initial')]
    model.parse_losses(out)[0].backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_order_of_the_tasks_does_not_matter():
    model = build_invpt(HEADS).double().train()
    other = build_invpt({task: HEADS[task] for task in reversed(HEADS)}, seed=1).double().train()
    assert set(other.state_dict()) == set(model.state_dict())
    other.load_state_dict(model.state_dict())
    inputs, samples = batch(sample(seed=1), sample(seed=2))
    a, b = model(inputs.double(), samples, mode='loss'), other(inputs.double(), samples, mode='loss')
    assert list(a) != list(b)
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], msg=key)


def test_gradients_reach_every_parameter_from_every_task():
    model = build_invpt()
    losses = losses_of(model(*batch(sample(seed=1), sample(seed=2)), mode='loss'))
    table = ParameterTable(model)
    table.observe(losses)
    own = {task: set(table.own(task)) for task in HEADS}
    for task in HEADS:
        branch = (f'decoder.final.{task}.', f'heads.{task}.')
        assert own[task] == {name for name, _ in model.named_parameters() if name.startswith(branch)}
    assert table.unused() == []
    assert all(table.users(name) == set(HEADS) for name in table.shared())
    assert {'decoder.preliminary.depth.0.conv.weight', 'decoder.predict.depth.bias'} <= set(table.shared())


def test_idle_tasks():
    model, (inputs, samples) = build_invpt().train(), batch(sample(seed=1), sample(seed=2))
    full = model(inputs, samples, mode='loss')
    model.set_active_tasks(['depth'])
    part = model(inputs, samples, mode='loss')
    assert {key for key, value in part.items() if value.requires_grad} == {'depth.loss', 'depth.loss_initial'}
    assert all(torch.equal(part[key], full[key]) for key in full)
    wrt = tuple(model.parameters())
    depth = ('depth.loss', 'depth.loss_initial')
    expected = torch.autograd.grad(sum(full[key] for key in depth), wrt, allow_unused=True)
    actual = torch.autograd.grad(sum(part[key] for key in depth), wrt, allow_unused=True)
    for a, b in zip(actual, expected):
        assert (a is None and b is None) or torch.equal(a, b)
    decoded = model.extract_features(inputs).decoded
    assert [task for task, one in decoded.maps.items() if one.requires_grad] == ['depth']


# -- state, precision, training ----------------------------------------------------------------------------------------


def test_checkpoint_round_trip(tmp_path):
    model = build_invpt(seed=1, norm_cfg=dict(type='GN', num_groups=2)).eval()
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    other = build_invpt(seed=2, norm_cfg=dict(type='GN', num_groups=2)).eval()
    other.load_state_dict(torch.load(tmp_path / 'model.pth', weights_only=True))
    inputs = torch.randn(1, 3, *SIZE)
    for task, value in model(inputs, mode='tensor').items():
        assert torch.equal(other(inputs, mode='tensor')[task], value)


def test_init_weights_is_deterministic():
    states = []
    for seed in (1, 2):
        model = decoder(seed=seed)
        torch.manual_seed(9)
        model.init_weights()
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_bf16():
    model, (inputs, samples) = build_invpt(), batch(sample(seed=1), sample(seed=2))
    full = model(inputs, samples, mode='loss')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = model(inputs, samples, mode='loss')
    for key, value in half.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, full[key], rtol=0.05, atol=0.03)
    model.parse_losses(half)[0].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_batch_is_learned():
    model = build_invpt(dict(depth={}, edge={}), drop_path_rate=0.1)
    model.init_weights()
    optim = OptimWrapper(torch.optim.Adam(model.parameters(), lr=3e-3))
    data = dict(zip(('inputs', 'data_samples'), batch(sample(['depth', 'edge'], seed=1), sample(['depth'], seed=2))))
    model.data_preprocessor = nn.Module()
    model.data_preprocessor.forward = lambda data, training: data
    logs = [model.train_step(data, optim)['loss'].item() for _ in range(40)]
    assert logs[-1] < 0.8 * logs[0]


@pytest.mark.parametrize('policy', ['first', 'every'])
def test_statistics_of_normalisation_follow_the_policy(policy):
    """Task groups run several forwards per batch; with 'first' only one of them may move running statistics."""
    tasks = ['depth', 'edge']
    model = build_invpt(dict(depth={}, edge={}))
    model.data_preprocessor = nn.Module()
    model.data_preprocessor.forward = lambda data, training: data
    optim = OPTIM_WRAPPERS.build(
        dict(
            type='mtl_plugins.SelectiveTaskGroupOptimWrapper',
            optimizer=torch.optim.SGD(model.parameters(), lr=1e-3),
            tasks=tasks,
            bn_stats=policy,
            grouper=dict(type='mtl_plugins.Singletons'),
            seed=0,
        )
    )
    data = dict(zip(('inputs', 'data_samples'), batch(sample(tasks, seed=1), sample(tasks, seed=2))))
    for _ in range(3):
        model.train_step(data, optim)
    counts = {int(norm.num_batches_tracked) for norm in norms(model)}
    assert len(norms(model)) == 2 * (2 + 2 + 1) + 3
    assert counts == {3} if policy == 'first' else min(counts) >= 6


@pytest.mark.parametrize('features', ['decoder', 'backbone'])
def test_gradients_at_features_give_the_step_of_the_sum(features):
    """The decoder's output is nested, and parameters behind it serve all tasks."""
    states = []
    for wrapper in (
        dict(type='mtl_plugins.MultiTaskOptimWrapper'),
        dict(
            type='mtl_plugins.GradientAggregationOptimWrapper',
            aggregator=dict(type='mtl_plugins.Sum'),
            level='features',
            features=features,
        ),
    ):
        model = build_invpt(dict(depth={}, edge={}, normals={})).double()
        model.data_preprocessor = nn.Module()
        model.data_preprocessor.forward = lambda data, training: data
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optim = OPTIM_WRAPPERS.build(wrapper | dict(optimizer=optimizer, tasks=['depth', 'edge', 'normals'], seed=0))
        inputs, samples = batch(sample(seed=1), sample(seed=2))
        model.train_step(dict(inputs=inputs.double(), data_samples=samples), optim)
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], msg=name)


# -- size --------------------------------------------------------------------------------------------------------------


def published(tasks):
    with torch.device('meta'):
        return InvPTDecoder(in_channels=(1024,) * 4, tasks=tasks)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_published_setting_are_those_of_a_count_by_hand():
    """docs/decoders.md states these numbers."""
    nyud = published(dict(semseg=40, depth=1, normals=3, edge=1))
    pascal = published(dict(semseg=21, human_parts=7, sal=2, normals=3, edge=1))
    dims = (576, 288, 144)

    def by_hand(channels):
        def conv(a, b):
            return 9 * a * b + 2 * b  # without bias, with the two vectors of its normalisation

        preliminary = conv(1024, 1024) + conv(1024, 512)
        narrow = conv(576, 288) + conv(288, 144)
        per_task = len(channels) * (preliminary + narrow + conv(576, 576))
        predictions = sum(512 * n + n + n * 64 + 64 for n in channels)
        skips = sum(9 * 1024 * dim + dim for dim in dims)
        widen = sum(576 * dim + 576 for dim in dims)
        attention = sum(9 * dim + 2 * dim + 4 * dim * dim + 3 * dim for dim in dims) + 2 * (2 * 2)
        mlp = sum(8 * dim * dim + 5 * dim for dim in dims)
        layer_norms = sum(3 * 2 * dim for dim in dims)
        return per_task + predictions + skips + widen + attention + mlp + layer_norms

    assert count(nyud) == by_hand((40, 1, 3, 1)) == 91_202_325
    assert count(pascal) == by_hand((21, 7, 2, 3, 1)) == 110_209_130


def test_wrong_settings_are_named():
    for options, message in (
        (dict(dims=()), r'dims must name the channels of at least one stage'),
        (dict(pred_channels=16), r'more than pred_channels, but got dims=\(16, 8, 4\), pred_channels=16'),
        (dict(dims=(16, 7), num_heads=2), r'dims must be multiples of num_heads=2, but got 7'),
        (dict(out_scale=0), r'out_scale must be an integer >= 1, but got 0'),
        (dict(downsample=1.5), r'downsample must be an integer >= 1 or None, but got 1.5'),
        (dict(skip_index=(0, 4, 1)), r'one of the 4 maps of the backbone, or None, for each of the 3 stages'),
        (dict(skip_index=(0,)), r'skip_index must name .* but got \(0,\)'),
    ):
        with pytest.raises(ValueError, match=message):
            decoder(**options)
