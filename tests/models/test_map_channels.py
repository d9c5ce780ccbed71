import pytest
import torch
from torch import nn

from mtl_plugins.models.backbones import map_channels
from mtl_plugins.registry import MODELS

from .micro_vit import micro

pytestmark = pytest.mark.filterwarnings('ignore:Fail to import ``MultiScaleDeformableAttention``:UserWarning')

NARROW_HRNET = dict(
    type='mmseg.HRNet',
    extra={
        f'stage{n}': dict(
            num_modules=1,
            num_branches=n,
            block='BASIC' if n > 1 else 'BOTTLENECK',
            num_blocks=(1,) * n,
            num_channels=(4, 6, 8, 10)[:n],
        )
        for n in (1, 2, 3, 4)
    },
)
SILENT = [
    (NARROW_HRNET, (4, 6, 8, 10)),
    (dict(type='mmseg.ResNet', depth=18, base_channels=8, out_indices=(1, 3)), (16, 64)),
    (dict(type='mmseg.ResNetV1c', depth=50, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1)), (256, 512, 1024, 2048)),
    (
        dict(type='mmseg.SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
        (8, 16, 32, 64),
    ),
    (
        dict(type='mmseg.TIMMBackbone', model_name='resnet18', features_only=True, pretrained=False),
        (64, 64, 128, 256, 512),
    ),
]


@pytest.mark.parametrize(('cfg', 'expected'), SILENT, ids=[cfg['type'] for cfg, _ in SILENT])
def test_backbones_of_mmseg_are_asked_by_a_trial_run(cfg, expected):
    backbone = MODELS.build(cfg)
    backbone.train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    state = torch.get_rng_state()
    assert map_channels(backbone) == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(value.device.type == 'cpu' for value in backbone.state_dict().values())
    backbone.eval()
    assert tuple(m.shape[1] for m in backbone(torch.randn(1, 3, 64, 64))) == expected


def test_what_a_backbone_tells_is_believed():
    assert map_channels(micro()) == (32,) * 4


class Odd(nn.Module):
    """Puts out whatever it was given."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        if isinstance(self.output, Exception):
            raise self.output
        return self.output


def test_one_map_instead_of_several():
    conv = nn.Conv2d(3, 6, 4, stride=4)
    assert map_channels(conv) == (6,)
    conv.out_channels = 99  # in mmseg a number of that name can be anything (BiSeNetV2)
    assert map_channels(conv) == (6,)


@pytest.mark.parametrize(
    ('output', 'message'),
    [
        (RuntimeError('no meta'), r'a trial run with images of 64 x 64 failed \(RuntimeError: no meta\)'),
        (torch.zeros(2, 3), r'Odd must return a map .* but returned \[shape \(2, 3\)\]'),
        ((torch.zeros(2, 5, 1, 1), [torch.zeros(2)]), r'\[shape \(2, 5, 1, 1\), \[shape \(2,\)\]\]'),
        (dict(a=1), 'but returned dict'),
    ],
)
def test_backbones_that_cannot_be_asked(output, message):
    with pytest.raises(ValueError, match=message):
        map_channels(Odd(output))
