"""Misspelt entries of a config file, wherever they stand, are refused or said."""

import pytest
from mmengine.config import Config

from mtl_plugins.config.loading import load_config, read_config
from mtl_plugins.config.names import check_names
from mtl_plugins.config.readers import arguments_of, readers_of
from mtl_plugins.config.refusals import refusals_of
from mtl_plugins.errors import UserError
from mtl_plugins.registry import MODELS
from mtl_plugins.runtime.hooks import SafeCheckpointHook
from tests.support.tiny import ROOMS, ROOT, shrink


def dicts(node, place=''):
    if isinstance(node, dict):
        yield place, node
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list | tuple):
            yield from dicts(value, f'{place}.{key}'.lstrip('.'))


def test_any_entry_of_a_config_with_one_letter_too_many_is_refused_or_said(capsys):
    """One entry of every dict whose reader is known; the entries of the run itself may be variables."""
    cfg = read_config(ROOMS)._cfg_dict
    tried = 0
    parts = ('model', 'optim_wrapper', 'train_dataloader', 'default_hooks', 'custom_hooks', 'env_cfg', 'train_cfg')
    for place, node in dicts({name: cfg[name] for name in parts}):
        known = {key for reader in readers_of(place, node) for key in arguments_of(reader)}
        keys = sorted({*node} & known) if place else []
        if keys:
            key = keys[tried % len(keys)]
            alone = {**{name: node[name] for name in {*node} & {'type'}}, f'{key}{key[-1]}': 1}
            for part in reversed(place.split('.')):
                alone = {part: alone}
            try:
                check_names(Config(alone))
            except UserError as error:
                assert str(error).startswith(f'{place}.{key}{key[-1]}: ')  # noqa: PT017
            else:
                assert f'did you mean {key}' in capsys.readouterr().err
            tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('train_dataloder = dict(batch_size=4)', 'no part of a run reads the entry train_dataloder'),
        ("load_form = 'x.pth'", 'did you mean load_from?'),
        ('env_cfg = dict(cudnn=True)', 'env_cfg.cudnn is without effect'),
        ('env_cfg = dict(dist_cfg=dict(port=1))', 'env_cfg.dist_cfg.port is without effect'),
        ('auto_scale_lr = dict(base=16)', 'auto_scale_lr.base is without effect'),
        ('model = dict(backbone=dict(drop_path_rte=0.1))', 'model.backbone.drop_path_rte may be without effect'),
    ],
)
def test_what_is_said(text, said, tmp_path, capsys):
    path = tmp_path / 'a.py'
    path.write_text(f"_base_ = '{ROOMS}'\n{text}\n")
    load_config(path)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('model = dict(heads=dict(edge=dict(loss=dict(pos_weigth=2))))', 'model.heads.edge.loss.pos_weigth'),
        ('model = dict(heads=dict(edge=dict(loss_weigth=2)))', 'model.heads.edge.loss_weigth'),
        ('optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mul=0))', 'optim_wrapper.paramwise_cfg.norm_decay_mul'),
        (
            'optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(heads=dict(lr_mul=2))))',
            'optim_wrapper.paramwise_cfg.custom_keys.heads.lr_mul',
        ),
    ],
)
def test_what_is_refused(text, said, tmp_path):
    path = tmp_path / 'a.py'
    path.write_text(f"_base_ = '{ROOMS}'\n{text}\n")
    with pytest.raises(UserError, match=f'{said}: there is no such setting; did you mean '):
        load_config(path)


@pytest.mark.parametrize('change', ['backbone', 'data_preprocessor', 'decoder', 'heads.edge.predictor', 'heads.edge'])
def test_what_a_part_inside_of_another_cannot_be_built_from_is_refused(change):
    cfg = shrink(load_config(str(ROOT / 'configs/rooms/gd_invpt_vit-micro_8b-2k_rooms-96.py')))
    node = cfg.model
    for part in change.split('.'):
        node = node[part]
    if change == 'heads.edge':
        node.zzz = 1
    else:
        node.pop('type')
    with pytest.raises(UserError, match=r"^the config cannot be used: .*('zzz'|the key \"type\")"), refusals_of(cfg):
        MODELS.build(cfg.model)


def test_a_loss_without_a_type_is_the_default_of_the_task():
    head = dict(type='mtl_plugins.TaskHead', in_channels=4)
    assert MODELS.build(dict(head, task='edge', loss=dict(pos_weight=0.7))).criterion.pos_weight == 0.7
    with pytest.raises(UserError, match='takes no weigth'):
        MODELS.build(dict(head, task='depth', loss=dict(weigth=2)))


def test_what_a_first_save_would_end_with_is_refused():
    with pytest.raises(UserError, match="no argument 'save_bst'; did you mean 'save_best'"):
        SafeCheckpointHook(save_bst='semseg/mIoU')
