"""The doctor explains existing pipelines: loss key -> task, shared and own parameters."""

import re

import pytest

from mtl_plugins.cli import doctor

from .parts import TASKS
from .tiny import MMSEG, NOISE, PATHS, ROOT, small_config

pytestmark = [pytest.mark.filterwarnings(line) for line in NOISE]
LOSSES = {**dict.fromkeys(MMSEG, ('decode.loss_ce', 'aux.loss_ce')), 'digits': ('loss_digit', 'loss_parity')}
LOSSES['depth'] = ('decode.loss_silog', 'aux.loss_ce')
LONGER = ('segformer', 'upernet')
OWN = {
    'fcn': ('backbone.layer4.*, decode_head.*', 'auxiliary_head.*'),
    'depth': ('backbone.layer4.*, decode_head.*', 'auxiliary_head.*'),
    'segformer': ('backbone.layers.3.*, decode_head.*', 'auxiliary_head.*'),
    'upernet': ('backbone.*, decode_head.*', 'auxiliary_head.*'),
    'digits': ('digit_head.*', 'parity_head.*'),
}


def examine(capsys, *arguments):
    code = doctor.main([str(argument) for argument in arguments])
    # Lines are wrapped at the width of the terminal.
    return code, re.sub(r'\s+', ' ', capsys.readouterr().out)


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=pytest.mark.slow if name in LONGER else ()) for name in PATHS]
)
def test_tasks_and_parameters_are_explained(name, tmp_path, capsys):
    cfg = small_config(name, tmp_path / 'run')
    cfg.dump(tmp_path / 'config.py')
    code, text = examine(capsys, tmp_path / 'config.py', '--method', 'cagrad')
    assert code == 0, text
    assert 'No error: this config is ready to train' in text
    for task, key, place in zip(TASKS[name], LOSSES[name], OWN[name]):
        assert re.search(rf'{re.escape(key)} {task} [\d.]+ not reported', text)
        assert re.search(rf'{task} alone \d+ [\d,]+ {re.escape(place)}', text), text
    assert re.search(r' shared \d+ [\d,]+ backbone\.', text)
    assert "method 'cagrad' on 2 tasks: 1 forward, 2 backward per batch" in text


def test_missing_data_and_how_to_give_them(capsys):
    code, text = examine(capsys, ROOT / PATHS['fcn'], '--method', 'stgu')
    assert code == 1
    assert '--data-root' in text
