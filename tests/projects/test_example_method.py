"""The example of docs/adding_a_method.md works as written, and passes what every method has to pass."""

import re

import pytest
import torch

from mtl_plugins.cli import train
from mtl_plugins.config import load_config
from projects.example_method.inverse_loss import ROW, InverseLoss
from tests.engine import all_methods, test_all_methods
from tests.support.tiny import ROOT, shrink

CONFIG = ROOT / 'projects/example_method/inverse_loss_vit-micro_8b-2k_rooms-96.py'
FRAGMENT = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='InverseLoss'))


def checks():
    """The generated tests that need nothing but a key."""
    for name, test in vars(test_all_methods).items():
        if name.startswith('test_') and test.__code__.co_varnames[: test.__code__.co_argcount] == ('key',):
            yield name


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(all_methods.ROWS, ROW.key, ROW)
    read = all_methods.read_fragment
    for module in (all_methods, test_all_methods):
        monkeypatch.setattr(module, 'read_fragment', lambda key: FRAGMENT if key == ROW.key else read(key))


@pytest.mark.parametrize('name', [name for name in checks() if 'refused' not in name])
def test_it_passes_the_generated_tests(name, registered):
    getattr(test_all_methods, name)(ROW.key)


def test_weights_by_hand():
    weighting = InverseLoss(decay=0.5, tasks=2)
    present = torch.tensor([True, True])
    assert weighting.weights(torch.tensor([1.0, 3.0]), present).tolist() == pytest.approx([1.5, 0.5])
    weighting.after_step(torch.tensor([1.0, 3.0]), None, present)
    assert weighting.weights(torch.tensor([3.0, 1.0]), present).tolist() == pytest.approx([1.0, 1.0])
    with pytest.raises(ValueError, match='decay must lie in'):
        InverseLoss(decay=1)


def test_its_config_trains(tmp_path, monkeypatch):
    monkeypatch.setenv('MTL_PLUGINS_CACHE', str(tmp_path / 'cache'))
    cfg = shrink(load_config(CONFIG, work_dir=str(tmp_path / 'run')))
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    train.build_runner(cfg).train()
    saved = torch.load(tmp_path / 'run' / 'iter_2.pth', weights_only=True)['optimizer']['mtl']
    assert saved['method'] == 'InverseLoss'
    assert torch.isfinite(saved['strategy']['weighting']['average']).all()


def test_the_page_shows_the_code_of_the_example():
    page = (ROOT / 'docs/adding_a_method.md').read_text()
    source = (ROOT / 'projects/example_method/inverse_loss.py').read_text()
    blocks = re.findall(r'```python\n(.*?)```', page, flags=re.DOTALL)
    assert any('class InverseLoss' in block for block in blocks)
    for block in blocks:
        if 'InverseLoss' in block and 'class' in block:
            assert block.strip() in source
