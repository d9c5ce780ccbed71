from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtl_plugins.cli.cost import main, main_parts, model_cost
from tests.models.segmentor_cases import BACKBONE, HEADS, build

FRAGMENTS = Path(__file__).parents[2] / 'configs/_base_/models'
VIT = dict(type='mtl_plugins.MultiTaskSegmentor', backbone=BACKBONE, heads=dict(depth={}, normals={}))
INVPT = dict(type='mtl_plugins.InvPTDecoder', dims=(16, 8), pred_channels=4)


def test_a_vit_by_hand():
    cost = {part.name: part for part in model_cost(VIT, (32, 48), depth=2)}
    patches, width, blocks = 4 * 6, 32, 2
    tokens = patches + 1
    block = tokens * width * (3 * width + width + 2 * 4 * width) + 2 * tokens**2 * width
    vit = patches * 3 * 8 * 8 * width + blocks * block
    assert cost['backbone'].multiply_adds == cost['backbone.vit'].multiply_adds == vit
    assert cost['heads.depth'].multiply_adds == patches * 2 * width
    assert cost['heads'].multiply_adds == 4 * patches * 2 * width
    assert cost[''].multiply_adds == vit + cost['heads'].multiply_adds
    assert 'decoder' not in cost  # the maps side by side cost nothing
    assert cost[''].parameters == cost['backbone'].parameters + cost['heads'].parameters
    assert cost['heads.normals'].parameters == 3 * (2 * width + 1)


def test_as_with_values():
    model = build(decoder=INVPT).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.randn(1, 3, 32, 48), mode='tensor')
    cost = {part.name: part for part in model_cost(VIT | dict(heads=HEADS, decoder=INVPT), (32, 48), depth=1)}
    assert list(cost) == ['', 'backbone', 'decoder', 'heads']
    assert cost[''].multiply_adds == counter.get_total_flops() // 2
    assert cost[''].parameters == sum(p.numel() for p in model.parameters())
    assert cost['decoder'].multiply_adds > 0


def test_main_parts_add_up_to_the_model():
    parts = model_cost(VIT | dict(heads=HEADS, decoder=INVPT), (32, 48), depth=2)
    main = main_parts(parts)
    assert [part.name for part in main] == ['backbone', 'decoder', *(f'heads.{task}' for task in HEADS)]
    assert sum(part.parameters for part in main) == parts[0].parameters
    assert sum(part.multiply_adds for part in main) == parts[0].multiply_adds


@pytest.mark.parametrize(
    ('name', 'size', 'parameters', 'giga'),
    [
        ('nyud-448x576', (448, 576), 395_361_410, 591.87),
        ('pascal-context-512x512', (512, 512), 414_378_252, 660.68),
    ],
)
def test_the_published_invpt(name, size, parameters, giga):
    """docs/decoders.md states these numbers."""
    cfg = Config.fromfile(FRAGMENTS / f'invpt_vit-large_{name}.py')
    (whole,) = model_cost(cfg.model, size, depth=0)
    assert whole.parameters == parameters
    assert round(whole.multiply_adds / 1e9, 2) == giga
    assert cfg.model.backbone.pretrained is True  # configs are not changed


class Plain(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.layer(inputs)


def test_a_model_without_a_backbone():
    whole, layer = model_cost(dict(type=Plain), (4, 6), depth=1)
    assert (whole.parameters, whole.multiply_adds, layer.name) == (8, 4 * 6 * 6, 'layer')


def test_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'model.py'
    path.write_text(f'default_scope = None\nmodel = {VIT!r}\n')
    assert main([str(path), '--cfg-options', 'model.heads.depth.predictor.type=mtl_plugins.LinearHead']) == 0
    said = capsys.readouterr().out
    assert 'one image of 32 x 48' in said
    assert 'whole model' in said
    assert [name in said for name in ('backbone', 'heads.depth', 'heads.normals', ' heads ')] == [
        True,
        True,
        True,
        False,
    ]
    assert 'work_dirs/cost/model/model_cost.png' in said
    assert (tmp_path / 'work_dirs/cost/model/model_cost.png').stat().st_size > 5000
    assert main([str(path), '--size', '64', '96', '--depth', '2']) == 0
    said = capsys.readouterr().out
    assert 'one image of 64 x 96' in said
    assert 'heads.normals' in said
    path.write_text('x = 1\n')
    with pytest.raises(SystemExit):
        main([str(path)])
    assert 'has no model' in capsys.readouterr().err
    path.write_text(f'model = {VIT | dict(backbone=dict(type="mmseg.ResNet", depth=18))!r}\n')
    with pytest.raises(SystemExit):
        main([str(path)])
    assert 'give --size H W' in capsys.readouterr().err


def test_weights_that_a_backbone_waits_for_are_not_looked_for():
    plain = model_cost(VIT, (32, 48))
    for settings in (
        dict(pretrained='/nope.pth'),
        dict(frozen=True),
        dict(init_cfg=dict(type='Pretrained', checkpoint='/nope')),
    ):
        assert model_cost(VIT | dict(backbone=BACKBONE | settings), (32, 48)) == plain
    cnn = dict(type='mtl_plugins.TimmBackbone', model_name='resnet10t', frozen=2, pretrained=True)
    assert model_cost(VIT | dict(backbone=cnn), (32, 48))[0].multiply_adds > 0
    adapters = model_cost(VIT | dict(backbone=BACKBONE | dict(adapters=dict(rank=1, task_rank=1))), (32, 48))
    assert adapters[0].multiply_adds > plain[0].multiply_adds
