"""Every method of the catalogue from the command line."""

import pytest
import torch

from mtl_plugins.cli import train
from mtl_plugins.engine.catalogue import list_methods
from tests.support.tiny import ROOT, options

CONFIG = str(ROOT / 'configs/rooms/gd_vit-micro_8b-2k_rooms-96.py')
# Neither validation nor pictures: they are the same for all methods, and tested elsewhere.
BARE = (
    'train_cfg.val_interval=1000',
    'val_cfg=None',
    'val_dataloader=None',
    'val_evaluator=None',
    'custom_hooks.7.interval=1',
)


@pytest.mark.parametrize('row', list_methods(), ids=lambda row: row.key)
def test_trains_with_one_key_swapped(row, tmp_path):
    key = row.key
    assert train.main([CONFIG, '--method', key, '--work-dir', str(tmp_path), *options(2, *BARE)]) == 0
    saved = torch.load(tmp_path / 'iter_2.pth', weights_only=True)
    assert saved['meta']['iter'] == 2
    assert all(torch.isfinite(value).all() for value in saved['state_dict'].values() if value.is_floating_point())
    assert saved['optimizer']['mtl']['tasks'] == ['semseg', 'depth', 'normals', 'edge', 'sal']
    # The schedule's learning rate, two of 49 steps into its warm-up, whatever optimizer the method brings.
    assert [group['lr'] for group in saved['optimizer']['param_groups']] == pytest.approx([5e-4 * (0.1 + 0.9 * 2 / 49)])
    assert (tmp_path / 'affinity.png').is_file() == (row.kind == 'task groups')
    assert (tmp_path / 'dominance.png').is_file() == (key == 'ada_task')


def test_the_listing_names_every_method(capsys):
    assert train.main(['--list-methods']) == 0
    text = capsys.readouterr().out
    assert all(f' {row.key} ' in text for row in list_methods())
