"""Commands that start many trainings refuse what cannot work before the first."""

import pytest
from mmengine.registry import init_default_scope

from mtl_plugins.__main__ import run
from mtl_plugins.config.loading import configs_root, load_config
from mtl_plugins.config.refusals import refusals_of
from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATASETS
from tests.support.tiny import ROOMS


@pytest.mark.parametrize(
    ('variant', 'said'),
    [
        ('gd[passes=x]', 'passes'),
        ('gd[passes=-1]', 'passes'),
        ('gd[foo=1]', 'foo'),
        ('stgu[grouper.max_groups=x]', 'max_groups'),
        ('cagrad[aggregator.c=-1]', 'c must'),
    ],
)
def test_options_of_a_method(variant, said, tmp_path, capfd):
    assert run('compare', [str(ROOMS), '--methods', f'gd,{variant}', '--work-dir', str(tmp_path / 'runs')]) == 1
    error = capfd.readouterr().err
    assert said in error
    assert f'methods: {variant}' in error
    assert not list(tmp_path.glob('runs/*/*.py'))


@pytest.mark.parametrize('data', ['nyud', 'taskonomy', 'pascal_context'])
def test_data_that_are_not_there(data, tmp_path, capfd):
    config = str(next(path for path in sorted((configs_root() / data).glob('gd_*.py'))))
    for command, *options in (('compare', '--methods', 'gd'), ('baselines', '--out', str(tmp_path / 'x.json'))):
        folders = ['--data-root', str(tmp_path / 'nope'), '--work-dir', str(tmp_path / command)]
        assert run(command, [config, *options, *folders]) == 1
        assert f'{tmp_path / "nope"} does not exist' in capfd.readouterr().err
        assert not list(tmp_path.glob(f'{command}/**/*.py'))


def test_the_setting_is_named_where_another_project_reads_the_data(tmp_path, capfd):
    config = str(configs_root() / 'mmseg' / 'fcn_r18-d8_1xb8-2k_rooms-96x96.py')
    options = ['--methods', 'gd', '--no-single-task', '--work-dir', str(tmp_path / 'runs')]
    assert run('compare', [config, *options, '--data-root', str(tmp_path / 'nope')]) == 1
    assert 'the data are not where train_dataloader.dataset.data_root says' in capfd.readouterr().err
    cfg = load_config(config, data_root=str(tmp_path))
    init_default_scope('mmseg')
    with pytest.raises(UserError, match=rf'{tmp_path}/img_dir/train does not exist') as caught, refusals_of(cfg):
        DATASETS.build(cfg.train_dataloader.dataset)
    assert 'train_dataloader.dataset.data_root' in caught.value.advice
    assert '--data-root' in caught.value.advice


def test_a_folder_of_data_that_is_not_there(tmp_path, capfd):
    options = ['--run', '--data-root', str(tmp_path / 'nope'), '--work-dir', str(tmp_path / 'runs')]
    assert run('reproduce', ['nyud-vit-t', *options]) == 1
    assert 'there is no such folder' in capfd.readouterr().err
    assert not (tmp_path / 'runs').exists()
