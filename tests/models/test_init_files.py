"""Files that a model is to begin with: honoured, or refused; and weights that a network does not bring."""

import re
import urllib.error

import huggingface_hub.constants as hub_constants
import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mtl_plugins.config.pretrained_weights import fetching
from mtl_plugins.errors import UserError, UserFileNotFoundError, UserRuntimeError
from mtl_plugins.models import MultiTaskSegmentor
from mtl_plugins.models.backbones import hub
from mtl_plugins.registry import MODELS
from mtl_plugins.runtime.hooks import LoadReportHook
from mtl_plugins.utils.init_files import init_files_fit
from tests.runtime.safety import DropoutModel, build_runner, release

from .micro_vit import micro


def pretrained(path, **options):
    return dict(type='Pretrained', checkpoint=str(path), **options)


class TestTimmViT:
    @pytest.mark.parametrize('many', [False, True])
    def test_a_file_that_is_not_there_is_an_error(self, many):
        entry = pretrained('/nope.pth')
        vit = micro(init_cfg=[entry] if many else entry)
        with pytest.raises(RuntimeError, match=r'init_cfg=.*was asked for, but the weights are still random'):
            vit(torch.randn(1, 3, 48, 32))
        with pytest.raises(FileNotFoundError, match=r"TimmViT: init_cfg\.checkpoint='/nope\.pth' is not a file"):
            vit.init_weights()

    @pytest.mark.parametrize('prefix', ['', 'backbone.', 'teacher.'])
    def test_the_file_is_loaded(self, prefix, tmp_path):
        source = micro(seed=7)
        torch.save(
            dict(state_dict={f'{prefix}{name}': value for name, value in source.state_dict().items()}),
            tmp_path / 'a.pth',
        )
        vit = micro(init_cfg=pretrained(tmp_path / 'a.pth', **(dict(prefix=prefix) if prefix else {})))
        vit.init_weights()
        assert all(torch.equal(value, vit.state_dict()[name]) for name, value in source.state_dict().items())

    def test_a_file_that_does_not_fit_is_an_error(self, tmp_path):
        torch.save(nn.Linear(2, 3).state_dict(), tmp_path / 'a.pth')
        with pytest.raises(ValueError, match=r"init_cfg\.checkpoint='.*a\.pth' does not hold the weights"):
            micro(init_cfg=pretrained(tmp_path / 'a.pth')).init_weights()

    def test_other_settings_are_not_ignored(self):
        vit = micro(init_cfg=dict(type='Constant', layer='Linear', val=0.25, bias=0.5))
        vit.init_weights()
        linear = [module for module in vit.modules() if isinstance(module, nn.Linear)]
        assert linear
        assert all((module.weight == 0.25).all() for module in linear)

    def test_two_sources_are_refused(self):
        with pytest.raises(UserError, match='from pretrained=True and from init_cfg'):
            micro(pretrained=True, init_cfg=pretrained('a.pth'))


class Part(BaseModule):
    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.layer = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


class Converting(Part):
    def init_weights(self):
        """Has its own way with names, as the Swin of mmseg has."""
        state = torch.load(self.init_cfg['checkpoint'], weights_only=True)
        load_state_dict(self, {name.replace('fc', 'layer'): value for name, value in state.items()}, strict=False)


class Ready(Part):
    """As the TIMMBackbone of mmseg, which takes the weights of timm for all that there is to load."""

    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self._is_init = True


class Whole(BaseModule):
    def __init__(self, part):
        super().__init__()
        self.part = part


def begin(part):
    with init_files_fit(whole := Whole(part)):
        whole.init_weights()
    return part


@pytest.mark.parametrize('cls', [Part, Converting])
def test_any_part_of_a_model_names_its_missing_file(cls):
    with pytest.raises(UserFileNotFoundError, match=r"model\.part\.init_cfg\.checkpoint='/nope\.pth' is not a file"):
        begin(cls(pretrained('/nope.pth')))


WRONG = {
    'other': (lambda state: {'conv.weight': torch.zeros(1)}, 'missing: layer.0.*; not in the model: conv.weight'),
    'missing': (lambda state: state | {'layer.0.bias': None}, 'missing: layer.0.bias;'),
    'missing norm': (lambda state: state | {'layer.1.running_var': None}, 'missing: layer.1.running_var;'),
    'surplus': (lambda state: state | {'layer.2.weight': torch.zeros(1)}, 'not in the model: layer.2.weight;'),
    'shape': (lambda state: state | {'layer.0.weight': torch.zeros(4, 2)}, 'of another shape: layer.0.weight;'),
}


@pytest.mark.parametrize('cls', [Part, Converting])
@pytest.mark.parametrize('kind', WRONG)
def test_a_file_that_does_not_fit_is_refused(cls, kind, tmp_path):
    change, told = WRONG[kind]
    state = change(dict(Part(None).state_dict()))
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=rf'model\.part\.init_cfg\.checkpoint=.*does not hold the weights.*{told}'):
        begin(cls(pretrained(tmp_path / 'a.pth')))


@pytest.mark.parametrize('cls', [Part, Converting])
def test_a_classifier_is_left_out(cls, tmp_path):
    source = Part(None).state_dict() | {'head.weight': torch.zeros(9, 9)}
    del source['layer.1.num_batches_tracked']
    torch.save(source, tmp_path / 'a.pth')
    assert torch.equal(begin(cls(pretrained(tmp_path / 'a.pth'))).layer[0].weight, source['layer.0.weight'])


@pytest.mark.parametrize('prefix', ['neck', 'neck.'])
def test_a_part_of_a_file(prefix, tmp_path):
    state = {f'neck.{name}': value for name, value in Part(None).state_dict().items()}
    torch.save(dict(state_dict=state | {'x': torch.ones(1)}), tmp_path / 'a.pth')
    part = begin(Part(pretrained(tmp_path / 'a.pth', prefix=prefix)))
    assert torch.equal(part.layer[0].weight, state['neck.layer.0.weight'])
    with pytest.raises(UserError, match=r'backbone\. is not in the pretrained model; check prefix'):
        begin(Part(pretrained(tmp_path / 'a.pth', prefix='backbone')))


def test_a_file_that_nothing_reads_is_refused(tmp_path):
    torch.save(Part(None).state_dict(), tmp_path / 'a.pth')
    with pytest.raises(UserError, match=r'init_cfg\.checkpoint=.* is not loaded: Ready has its weights from elsewhere'):
        begin(Ready(pretrained(tmp_path / 'a.pth')))


def test_a_classifier_lacks_the_norms_that_a_dense_swin_adds(tmp_path):
    settings = dict(type='mmseg.SwinTransformer', embed_dims=4, depths=(1,) * 4, num_heads=(1,) * 4)
    source = MODELS.build(settings).state_dict()
    state = {name: value for name, value in source.items() if not name.startswith('norm')}
    state |= {'norm.weight': torch.ones(32), 'head.weight': torch.zeros(3, 32)}
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    part = begin(MODELS.build(dict(settings, init_cfg=pretrained(tmp_path / 'a.pth'))))
    assert all(torch.equal(value, source[name]) for name, value in part.state_dict().items())
    del state['stages.2.blocks.0.ffn.layers.1.bias']
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    with pytest.raises(UserError, match=r'missing: stages\.2\.blocks\.0\.ffn\.layers\.1\.bias;'):
        begin(MODELS.build(dict(settings, init_cfg=pretrained(tmp_path / 'a.pth'))))


def test_a_network_of_timm_in_the_hands_of_mmseg_is_refused_with_any_model(tmp_path):
    """Its file has the names of timm, its tensors the prefix timm_model: nothing fits, and nothing said so."""
    torch.save(timm.create_model('resnet10t').state_dict(), tmp_path / 'a.pth')
    backbone = dict(
        type='mmseg.TIMMBackbone',
        model_name='resnet10t',
        pretrained=False,
        init_cfg=pretrained(tmp_path / 'a.pth'),
    )
    ours = MultiTaskSegmentor(backbone=backbone, heads=dict(depth=dict()))
    with pytest.raises(UserError, match=r'does not hold the weights of TIMMBackbone.*mtl_plugins\.TimmBackbone'):
        ours.init_weights()
    runner = build_runner(tmp_path / 'run', [LoadReportHook()], iters=1)
    runner.model.add_module('backbone', MODELS.build(backbone))
    with pytest.raises(UserError, match='does not hold the weights of TIMMBackbone'):
        runner.train()
    release(runner)


def test_a_run_is_refused_before_it_trains(tmp_path):
    runner = build_runner(tmp_path, [LoadReportHook()], iters=1)
    runner.model.init_cfg = pretrained('/nope.pth')
    assert isinstance(runner.model, DropoutModel)
    with pytest.raises(UserFileNotFoundError, match=r"model\.init_cfg\.checkpoint='/nope\.pth'"):
        runner.train()
    release(runner)


@pytest.fixture
def offline(monkeypatch):
    """No network; counts the questions."""
    asked = []

    def refuse(request, timeout):
        asked.append(timeout)
        raise urllib.error.URLError('no route to host')

    monkeypatch.setattr(hub.urllib.request, 'urlopen', refuse)
    monkeypatch.setattr(hub_constants, 'HF_HUB_OFFLINE', False)
    hub.hub_answers.cache_clear()
    yield asked
    hub.hub_answers.cache_clear()


def test_without_network_there_is_one_question_and_no_retry(offline, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_constants, 'HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(RuntimeError, match=r'The hub does not answer.*pretrained=<path>.*pretrained=False'):
        micro(pretrained=True).init_weights()
    assert len(offline) == 1
    assert hub_constants.HF_HUB_OFFLINE


def test_a_hub_that_refuses_is_there(offline, monkeypatch):
    def refuse(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 403, 'no', {}, None)

    monkeypatch.setattr(hub.urllib.request, 'urlopen', refuse)
    assert hub.hub_answers()
    assert not hub_constants.HF_HUB_OFFLINE


ASKING = [
    (dict(backbone=dict(type='mmseg.TIMMBackbone', model_name='a')), 'model.backbone.pretrained=False'),
    (dict(a=[dict(backbone=dict(type='X', pretrained=True))]), 'model.a.0.backbone.pretrained=False'),
    (dict(pretrained='open-mmlab://resnet50_v1c'), 'model.pretrained=None'),
    (
        dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='https://x.org/a.pth'))),
        'model.backbone.init_cfg.checkpoint=None',
    ),
]


@pytest.mark.parametrize(('model', 'way'), ASKING)
def test_weights_that_do_not_come_name_their_setting(model, way, offline):
    with (
        pytest.raises(UserRuntimeError, match=re.escape(f'(--cfg-options {way})')),
        fetching(Config(dict(model=model))),
    ):
        raise urllib.error.URLError('no route to host')


def test_other_errors_are_left_as_they_are(offline):
    with pytest.raises(ZeroDivisionError), fetching(Config(dict(model=ASKING[0][0]))):
        raise ZeroDivisionError
    with pytest.raises(urllib.error.URLError), fetching(Config(dict(model=dict(type='X')))):
        raise urllib.error.URLError('of something else')
