"""YAML configs are data, wherever MMEngine reads them for one of our commands."""

import pytest
import yaml
from mmengine.fileio.handlers import registry_utils

from mtl_plugins.cli import config as print_config
from mtl_plugins.cli import cost as model_cost
from mtl_plugins.config import load_config
from mtl_plugins.errors import UserError

TAGS = {
    'apply': '!!python/object/apply:os.mkdir ["{evil}"]',
    'new': '!!python/object/new:os.mkdir ["{evil}"]',
    'apply in a list': '[1, {{b: !!python/object/apply:os.mkdir ["{evil}"]}}]',
    'a state': '!!python/object/new:tuple {{args: [[1]], state: !!python/object/apply:os.mkdir ["{evil}"]}}',
    'a module': '!!python/module:this',
    'a name': '!!python/name:os.mkdir',
    'an instance': '!!python/object:os.PathLike {{}}',
}
CHAINS = {
    'itself.yaml': {},
    'itself.yml': {},
    'child.py': {'child.py': "_base_ = ['itself.yaml']\n"},
    'child.json': {'child.json': '{"_base_": "itself.yaml"}'},
    'grandchild.py': {'grandchild.py': "_base_ = 'child.yaml'\n", 'child.yaml': '_base_: itself.yaml\n'},
}


@pytest.mark.parametrize('tag', TAGS)
@pytest.mark.parametrize('config', CHAINS)
def test_a_tag_runs_nothing(tmp_path, tag, config):
    evil = tmp_path / 'evil'
    name = 'itself.yml' if config == 'itself.yml' else 'itself.yaml'
    (tmp_path / name).write_text(f'work_dir: run\na: {TAGS[tag].format(evil=evil)}\n')
    for path, text in CHAINS[config].items():
        (tmp_path / path).write_text(text)
    handlers = dict(registry_utils.file_handlers)
    with pytest.raises(
        UserError, match=rf'{config} cannot be read: (?!UserError).*line 2 has the tag !!python/.*read as data'
    ):
        load_config(tmp_path / config)
    with pytest.raises(UserError, match='!!python/'):
        model_cost.main([str(tmp_path / config)])
    assert not evil.exists()
    assert registry_utils.file_handlers == handlers


def test_data_is_read(tmp_path):
    values = dict(a=(1, 2.5), b=[True, None, 'text'], c={'d': (('e',),)})
    (tmp_path / 'a.yaml').write_text(yaml.dump(values))
    assert '!!python/tuple' in (tmp_path / 'a.yaml').read_text()
    cfg = load_config(tmp_path / 'a.yaml')
    assert {name: cfg[name] for name in values} == values


def test_what_our_command_saves_can_be_read_again(tmp_path):
    (tmp_path / 'a.py').write_text('a = (1, 2)\nb = dict(c=[(3,)])\n')
    assert print_config.main([str(tmp_path / 'a.py'), '--save', str(tmp_path / 'b.yaml')]) == 0
    cfg = load_config(tmp_path / 'b.yaml')
    assert (cfg.a, cfg.b) == ((1, 2), dict(c=[(3,)]))
