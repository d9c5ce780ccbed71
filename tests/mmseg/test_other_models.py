"""Models of MMSegmentation that no config here ships, by their own configs, made narrow."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mtl_plugins.cli import doctor, train
from mtl_plugins.cli.cost import model_cost
from mtl_plugins.config import load_config, unavailable
from mtl_plugins.errors import UserError
from mtl_plugins.experiments.measuring.methods import build_model
from mtl_plugins.inference.loading import load_model

from .tiny import NOISE, ROOT

pytestmark = [pytest.mark.filterwarnings(line) for line in NOISE]

CLASSES = 4
RESNET = dict(base_channels=8, stem_channels=8)
MASKS = dict(  # of K-Net's stages
    num_classes=CLASSES, num_heads=2, feedforward_channels=16, in_channels=16, out_channels=16,
    kernel_updator_cfg=dict(in_channels=8, feat_channels=8, out_channels=8),
)  # fmt: skip
HEADS = {'decode': 'decode.', 'aux': 'aux.'}
THREE = {'decode': 'decode.', 'aux_0': 'aux_0.', 'aux_1': 'aux_1.'}

# Config, what makes it narrow, and the losses that make the tasks.
MODEL = {
    'deeplabv3plus': (
        'deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py',
        dict(
            backbone=RESNET,
            decode_head=dict(in_channels=64, channels=8, c1_in_channels=8, c1_channels=4),
            auxiliary_head=dict(in_channels=32, channels=8),
        ),
        HEADS,
    ),
    'pidnet': (
        'pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py',
        dict(backbone=dict(channels=4, ppm_channels=8), decode_head=dict(in_channels=16, channels=8)),
        dict(p='decode.loss_sem_p', i='decode.loss_sem_i', boundary='decode.loss_bd', both='decode.loss_sem_bd'),
    ),
    'ddrnet': (
        'ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py',
        dict(backbone=dict(channels=4, ppm_channels=8), decode_head=dict(in_channels=16, channels=8)),
        dict(context='decode.loss_context', spatial='decode.loss_spatial'),
    ),
    'fastscnn': (
        'fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py',
        dict(decode_head=dict(channels=8), auxiliary_head=[dict(channels=8)] * 2),
        THREE,
    ),
    'ocrnet': (
        'ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024.py',
        dict(decode_head=[dict(channels=16), dict(channels=16, ocr_channels=8)]),
        dict(coarse='decode_0.', final='decode_1.'),
    ),
    'bisenetv2': (
        'bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py',
        dict(decode_head=dict(channels=8), auxiliary_head=[dict(channels=8)] * 4),
        {**THREE, 'aux_2': 'aux_2.', 'aux_3': 'aux_3.'},
    ),
    'knet': (
        'knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py',
        dict(
            backbone=RESNET,
            decode_head=dict(kernel_update_head=[MASKS] * 3, kernel_generate_head=dict(in_channels=256, channels=16)),
            auxiliary_head=dict(in_channels=128, channels=8),
        ),
        dict(
            s0='decode.loss_ce.s0', s1='decode.loss_ce.s1', s2='decode.loss_ce.s2', s3='decode.loss_ce.s3', aux='aux.'
        ),
    ),
    'stdc': (
        'stdc/stdc1_4xb12-80k_cityscapes-512x1024.py',
        dict(decode_head=dict(channels=8), auxiliary_head=[dict(channels=8)] * 3),
        {**THREE, 'aux_2': 'aux_2.'},
    ),
    'icnet': (
        'icnet/icnet_r18-d8_4xb2-80k_cityscapes-832x832.py',
        dict(
            backbone=dict(backbone_cfg=RESNET, layer_channels=(16, 64), psp_out_channels=16, out_channels=(8, 16, 16)),
            neck=dict(in_channels=(8, 16, 16), out_channels=8),
            decode_head=dict(in_channels=8, channels=8),
            auxiliary_head=[dict(in_channels=8, channels=8)] * 2,
        ),
        THREE,
    ),
    'encnet': (
        'encnet/encnet_r50-d8_4xb2-40k_cityscapes-512x1024.py',
        dict(
            backbone=RESNET,
            decode_head=dict(in_channels=[64, 128, 256], channels=16, num_codes=4),
            auxiliary_head=dict(in_channels=128, channels=8),
        ),
        dict(decode='decode.loss_ce', context='decode.loss_se', aux='aux.'),
    ),
    'segnext': (
        'segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py',
        dict(
            backbone=dict(embed_dims=[8, 8, 16, 16], depths=[1, 1, 1, 1], mlp_ratios=[2, 2, 2, 2]),
            decode_head=dict(in_channels=[8, 16, 16], channels=16, ham_channels=16, norm_cfg=dict(num_groups=4)),
        ),
        None,  # one head, one loss
    ),
}
WRAPPERS = {
    'gd': dict(type='mtl_plugins.MultiTaskOptimWrapper'),
    'cagrad': dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='CAGrad')),
}
QUICK = [('deeplabv3plus', 'gd'), ('deeplabv3plus', 'cagrad'), ('pidnet', 'cagrad'), ('ddrnet', 'gd')]
CASES = [
    pytest.param(name, method, marks=[] if (name, method) in QUICK else pytest.mark.slow)
    for name in MODEL
    for method in WRAPPERS
]
PACKAGES = {
    'maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py': 'MaskFormerHead .* needs onedl-mmdetection',
    'mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py': 'Mask2FormerHead .* needs onedl-mmdetection',
    'point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py': 'PointHead .* needs the compiled operators of mmcv',
    'ccnet/ccnet_r50-d8_4xb2-40k_cityscapes-512x1024.py': 'CCHead .* needs the compiled operators of mmcv',
    'psanet/psanet_r50-d8_4xb2-40k_cityscapes-512x1024.py': 'PSAHead .* needs the compiled operators of mmcv',
}


def narrow(node, changes):
    """Merge ``changes`` into the config of a model, entry by entry in lists."""
    for key, value in changes.items():
        old = node.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            narrow(old, value)
        elif isinstance(value, list) and isinstance(old, list) and all(isinstance(one, dict) for one in value):
            for one, change in zip(old, value, strict=True):
                narrow(one, change)
        else:
            node[key] = value


def for_one_core(node):
    """Ordinary batch norm, a few classes, no pretrained weights, in all parts of a config."""
    if isinstance(node, (list, tuple)):
        for value in node:
            for_one_core(value)
    if not isinstance(node, dict):
        return
    if node.get('type') == 'SyncBN':
        node['type'] = 'BN'
    if node.get('num_classes', 0) > 2:
        node['num_classes'] = CLASSES
    if 'class_weight' in node:
        node['class_weight'] = [1.0] * CLASSES
    for name in ('pretrained', 'init_cfg'):
        if name in node:
            node[name] = None
    if 'min_kept' in node:
        node['min_kept'] = 100
    for value in node.values():
        for_one_core(value)


@pytest.fixture(scope='module')
def built():
    """A new model of its config, always with the same weights, and a batch."""
    cache = {}

    def build(name):
        path, changes, _ = MODEL[name]
        if name not in cache:
            cfg = load_config(f'mmseg::{path}').model.to_dict()
            cfg['data_preprocessor']['size'] = (64, 64)
            for_one_core(cfg)
            narrow(cfg, changes)
            cache[name] = cfg
        with DefaultScope.overwrite_default_scope('mmseg'):
            torch.manual_seed(0)
            return MODELS.build(copy.deepcopy(cache[name])).train()

    return build


def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)
    coarse = torch.randint(0, CLASSES, (2, 1, 8, 8), generator=generator)
    labels = coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    samples = []
    for label in labels:
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64)))
        edges = (label != label.roll(1, 2)).to(torch.uint8)
        samples.append(sample)
        sample.set_data(dict(gt_sem_seg=PixelData(data=label), gt_edge_map=PixelData(data=edges)))
    return dict(inputs=list(images), data_samples=samples)


@pytest.mark.filterwarnings('ignore:.*dropout. is deprecated in `FFN:DeprecationWarning')  # mmseg's own
@pytest.mark.filterwarnings('ignore:.*build_pixel_sampler:UserWarning')
@pytest.mark.filterwarnings('ignore:For binary segmentation:UserWarning')
@pytest.mark.filterwarnings('ignore:.*align_corners.*:UserWarning')
@pytest.mark.filterwarnings('ignore:.*avg_non_ignore.*:UserWarning')
@pytest.mark.parametrize(('name', 'method'), CASES)
def test_trains_by_its_own_config(built, name, method):
    tasks, model = MODEL[name][2], built(name)
    before = {key: value.clone() for key, value in model.named_parameters()}
    cfg = dict(WRAPPERS[method], optimizer=dict(type='SGD', lr=1e-2), **(dict(tasks=tasks) if tasks else {}))
    with DefaultScope.overwrite_default_scope('mmseg'):
        wrapper = build_optim_wrapper(model, cfg)
        logs = [model.train_step(batch(), wrapper) for _ in range(2)]
    assert wrapper.task_names == (tuple(tasks) if tasks else ('decode',))
    assert all(torch.isfinite(log['loss']) for log in logs)
    parameters = dict(model.named_parameters())
    assert all(torch.isfinite(value).all() for value in parameters.values())
    moved = [key for key, value in parameters.items() if not torch.equal(value, before[key])]
    assert len(moved) > 0.9 * len(parameters)
    if method == 'gd':  # the first step is that of the plain wrapper on the same losses
        plain = built(name)
        with DefaultScope.overwrite_default_scope('mmseg'):
            other = build_optim_wrapper(plain, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-2)))
            assert plain.train_step(batch(), other)['loss'].item() == logs[0]['loss'].item()


@pytest.fixture
def bare(monkeypatch):
    """The documented environment, whatever this one has."""
    monkeypatch.setattr(unavailable, 'is_installed', lambda module: False)


@pytest.mark.parametrize('path', PACKAGES)
def test_models_that_need_more_packages_say_so_in_one_sentence(path, tmp_path, bare):
    cfg = load_config(f'mmseg::{path}', method='gd', work_dir=str(tmp_path))
    for command in (
        lambda: train.build_runner(cfg),
        lambda: load_model(copy.deepcopy(cfg), None),
        lambda: build_model(cfg, torch.device('cpu')),
        lambda: model_cost(cfg.model.to_dict(), (64, 64)),
    ):
        with pytest.raises(UserError, match=PACKAGES[path]) as caught:
            command()
        assert '\n' not in str(caught.value)
        assert 'docs/existing_models.md' in str(caught.value)
    assert 'mmdetection' in (ROOT / 'docs/existing_models.md').read_text()


def test_the_doctor_names_the_package_too(capsys, bare):
    assert doctor.main([f'mmseg::{next(iter(PACKAGES))}', '--method', 'gd']) == 1
    said = capsys.readouterr()
    assert 'MaskFormerHead of MMSegmentation needs onedl-mmdetection' in ' '.join((said.out + said.err).split())
    assert 'Traceback' not in said.out + said.err


def test_with_the_packages_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(unavailable, 'is_installed', lambda module: True)
    for path in PACKAGES:
        unavailable.refuse_missing_packages(load_config(f'mmseg::{path}').model)
