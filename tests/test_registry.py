import mmengine.registry as mmengine_registry
import pytest
import torch
from mmengine.registry import DefaultScope, Registry

import mtl_plugins.registry as ours

pytestmark = [
    pytest.mark.filterwarnings('ignore:Fail to import ``MultiScaleDeformableAttention``:UserWarning'),  # mmcv
]

SCOPES = ('mtl_plugins', 'mmseg', 'mmengine')
KINDS = [name for name, node in vars(ours).items() if isinstance(node, ours.PluginRegistry)]


@pytest.fixture(params=SCOPES)
def scope(request):
    """Run under this default scope."""
    with DefaultScope.overwrite_default_scope(request.param):
        yield request.param


def build_from_root(kind, name):
    """What the Runner does: it looks names up in MMEngine's root, under the default scope."""
    with getattr(mmengine_registry, kind).switch_scope_and_registry(None) as registry:
        return registry.get(name)


def test_every_node_has_its_scope_and_parent():
    assert len(KINDS) >= 18
    for kind in KINDS:
        node = getattr(ours, kind)
        assert node.scope == 'mtl_plugins'
        assert node.parent is getattr(mmengine_registry, kind)


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        ('MODELS', 'mtl_plugins.MultiTaskSegmentor'),
        ('MODELS', 'mmseg.EncoderDecoder'),
        ('MODELS', 'mmengine.BaseDataPreprocessor'),
        ('DATASETS', 'mtl_plugins.PhotosDataset'),
        ('DATASETS', 'mmseg.ADE20KDataset'),
        ('TRANSFORMS', 'mtl_plugins.PackMultiTaskInputs'),
        ('TRANSFORMS', 'mmseg.PhotoMetricDistortion'),
        ('METRICS', 'mtl_plugins.DepthErrorMetric'),
        ('METRICS', 'mmseg.IoUMetric'),
        ('DATA_SAMPLERS', 'mtl_plugins.AbsoluteSampler'),
        ('DATA_SAMPLERS', 'mmengine.InfiniteSampler'),
        ('HOOKS', 'mmengine.CheckpointHook'),
        ('OPTIM_WRAPPERS', 'mmengine.OptimWrapper'),
        ('OPTIMIZERS', 'mmengine.AdamW'),
    ],
)
def test_names_with_a_scope_resolve_under_every_default_scope(scope, kind, name):
    found = build_from_root(kind, name)
    assert found is not None, f'{name} is not found under the scope {scope}'
    assert found.__name__ == name.split('.')[1]


@pytest.mark.parametrize(
    ('kind', 'name', 'module'),
    [
        ('MODELS', 'MultiTaskSegmentor', 'mtl_plugins'),
        ('MODELS', 'EncoderDecoder', 'mmseg'),
        ('MODELS', 'BaseDataPreprocessor', 'mmengine'),
        ('TRANSFORMS', 'PackMultiTaskInputs', 'mtl_plugins'),
        ('TRANSFORMS', 'PhotoMetricDistortion', 'mmseg'),
        ('TRANSFORMS', 'Resize', 'mm'),
        ('METRICS', 'IoUMetric', 'mmseg'),
        ('HOOKS', 'SegVisualizationHook', 'mmseg'),
        ('HOOKS', 'CheckpointHook', 'mmengine'),
        ('OPTIMIZERS', 'Adam', 'torch'),
        ('VISBACKENDS', 'TensorboardVisBackend', 'mmengine'),
    ],
)
def test_plain_names_of_all_three_resolve_under_our_scope(kind, name, module):
    with DefaultScope.overwrite_default_scope('mtl_plugins'):
        found = build_from_root(kind, name)
    assert found is not None
    assert found.__module__.startswith(module)


def test_a_model_of_mmseg_builds_under_our_scope():
    cfg = dict(
        type='EncoderDecoder',
        backbone=dict(type='ResNetV1c', depth=18, norm_cfg=dict(type='BN')),
        decode_head=dict(
            type='FCNHead',
            in_channels=512,
            in_index=3,
            channels=8,
            num_classes=4,
            num_convs=1,
            loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        ),
    )
    with DefaultScope.overwrite_default_scope('mtl_plugins'):
        model = mmengine_registry.MODELS.build(cfg)
    assert type(model).__name__ == 'EncoderDecoder'
    assert type(model).__module__.startswith('mmseg.')


def test_an_unknown_name_is_not_found():
    with DefaultScope.overwrite_default_scope('mtl_plugins'):
        assert build_from_root('MODELS', 'NoSuchModel') is None
        with pytest.raises(KeyError, match='NoSuchModel is not in the'):
            ours.MODELS.build(dict(type='NoSuchModel'))


def test_none_of_our_names_hides_one_of_mmseg_mmengine_or_torch():
    import mmseg.registry as mmseg_registry

    for kind in KINDS:
        node = getattr(ours, kind)
        node.import_from_location()
        taken = set(node.parent.module_dict)
        mmseg_node = getattr(mmseg_registry, kind, None)
        if mmseg_node is not None:
            mmseg_node.import_from_location()
            taken |= set(mmseg_node.module_dict)
        assert not taken & set(node.module_dict), kind
    assert hasattr(torch.optim, 'Adam')
    assert 'Adam' not in ours.OPTIMIZERS.module_dict


def test_our_own_kinds_are_roots():
    for node in (ours.WEIGHTINGS, ours.AGGREGATORS, ours.GROUPERS):
        assert isinstance(node, Registry)
        assert node.parent is None
        assert node.scope == 'mtl_plugins'
