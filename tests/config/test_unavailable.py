import pytest
import torch
from mmengine.config import Config

from mtl_plugins.config import build_runner, load_config
from mtl_plugins.config.unavailable import refuse_sync_bn_on_cpu, sync_bn_places

PLACES = ['model.backbone.norm_cfg', 'model.decode_head.norm_cfg', 'model.auxiliary_head.norm_cfg']


@pytest.fixture
def fcn(tmp_path):
    path = tmp_path / 'fcn.py'
    path.write_text("_base_ = 'mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py'\n")
    return path


@pytest.fixture
def cuda(monkeypatch, request):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: request.param)


def test_places(fcn):
    assert list(sync_bn_places(load_config(fcn).model)) == PLACES
    heads = dict(auxiliary_head=[dict(norm_cfg=dict(type='BN')), dict(norm_cfg=dict(type='mmcv.SyncBN'))])
    assert list(sync_bn_places(heads)) == ['model.auxiliary_head.1.norm_cfg']


@pytest.mark.parametrize('cuda', [False], indirect=True)
def test_the_advice_works(fcn, cuda):
    cfg = load_config(fcn, method='stgu')
    with pytest.raises(ValueError, match=r'needs CUDA, in model\.backbone\.norm_cfg') as caught:
        build_runner(cfg)
    options = str(caught.value).partition('--cfg-options ')[2].split()
    assert len(options) == 3
    cfg.merge_from_dict(dict(option.split('=') for option in options))
    refuse_sync_bn_on_cpu(cfg)


@pytest.mark.parametrize('cuda', [True], indirect=True)
def test_nothing_to_refuse_with_a_gpu(fcn, cuda):
    refuse_sync_bn_on_cpu(load_config(fcn))
    refuse_sync_bn_on_cpu(Config(dict(train_cfg=None)))
