"""``test --tta`` and ``--amp``, as users of MMSegmentation type them."""

import pytest
from mmengine.config import Config

from mtl_plugins.cli import config as print_config
from mtl_plugins.cli.parsers import doctor, test, throughput, train
from mtl_plugins.config import load_config
from mtl_plugins.config.loading import set_tta
from mtl_plugins.errors import UserError
from tests.support.tiny import ROOMS

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug')]
LEAF = dict(type='X', pipeline=[])


def mmseg(**more):
    data = dict(dataset=dict(type='RepeatDataset', times=1, dataset=dict(LEAF)))
    return Config(
        dict(model=dict(type='EncoderDecoder'), test_dataloader=data, val_dataloader=dict(dataset=dict(LEAF)), **more)
    )


@pytest.mark.parametrize(
    'more', [{}, dict(tta_model=dict(type='SegTTAModel')), dict(tta_model=dict(type='mmseg.SegTTAModel'))]
)
def test_several_tasks_are_averaged_with_the_mirrored_image(more):
    cfg = load_config(ROOMS)
    cfg.merge_from_dict(more)
    cfg.model.test_cfg = dict(mode='whole')
    set_tta(cfg)
    assert cfg.model.test_cfg == dict(mode='whole', flip_tta=True)
    assert cfg.model.type == 'mtl_plugins.MultiTaskSegmentor'


@pytest.mark.parametrize('heads', [False, True])
def test_the_tta_model_of_a_config_wraps_its_model(heads):
    kind = 'MyTTAModel' if heads else 'SegTTAModel'
    cfg = mmseg(tta_model=dict(type=kind), tta_pipeline=PIPELINE)
    if heads:
        cfg.model.heads = dict(depth={})
    model = cfg.model.to_dict()
    set_tta(cfg)
    assert cfg.model.to_dict() == dict(type=kind, module=model)
    assert [step.type for step in cfg.test_dataloader.dataset.dataset.pipeline] == ['LoadImageFromFile', 'TestTimeAug']
    assert cfg.val_dataloader.dataset.pipeline == []


@pytest.mark.parametrize(
    ('more', 'missing'),
    [({}, 'no tta_model and no tta_pipeline'), (dict(tta_model=dict(type='SegTTAModel')), 'no tta_pipeline')],
)
def test_without_a_tta_model_it_is_one_sentence(more, missing):
    with pytest.raises(UserError, match=f'--tta: the config has {missing}; inherit'):
        set_tta(mmseg(**more))


def test_the_options_are_taken():
    assert test.build_parser().parse_args(['C', 'P', '--tta']).tta
    for module in (train, doctor):
        assert module.build_parser().parse_args(['C', '--amp']).precision == 'fp16'
    assert throughput.build_parser().parse_args(['C', '--methods', 'gd', '--amp']).precision == 'fp16'


def test_the_config_shows_what_amp_does(capsys):
    assert print_config.main([ROOMS, '--amp']) == 0
    assert "precision='fp16'" in capsys.readouterr().out


@pytest.mark.parametrize('name', ['fcn_r18-d8', 'segformer_mit-b0', 'upernet_swin-tiny', 'depth_r18'])
def test_the_configs_for_models_of_mmseg_average_views_or_say_why_not(name):
    cfg = load_config(f'mtl_plugins::mmseg/{name}_1xb8-2k_rooms-96x96.py')
    if name.startswith('depth'):
        with pytest.raises(
            UserError, match='SegTTAModel averages scores of classes, and DepthEstimator predicts depth'
        ):
            set_tta(cfg)
        return
    set_tta(cfg)
    assert cfg.model.type == 'SegTTAModel'
    assert [step.type for step in cfg.test_dataloader.dataset.pipeline][-1] == 'TestTimeAug'
