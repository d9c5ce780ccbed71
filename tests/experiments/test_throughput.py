"""What methods cost, on made-up batches: counts, memory, table, picture, messages."""

import json

import pytest
import torch
from mmengine.config import Config

from mtl_plugins.cli import throughput
from mtl_plugins.config import load_config
from mtl_plugins.errors import UserError
from mtl_plugins.experiments.measuring import image_size, synthetic_batch
from mtl_plugins.experiments.measuring.methods import build_model
from tests.mmseg.tiny import NOISE, small_config
from tests.support.tiny import ROOMS, options

from .test_model_cost import VIT


def run(out, *arguments):
    assert (
        throughput.main([ROOMS, '--rounds', '2', '--batch-size', '2', '--out', str(out), *arguments, *options()]) == 0
    )
    return json.loads((out / 'throughput.json').read_text())


def test_a_table_a_picture_and_the_numbers(tmp_path, capsys):
    methods = 'gd,gd3=gd[passes=3],stgu,stgu[grouper.type=Singletons],famo,pcgrad'
    record = run(tmp_path, '--methods', methods, '--groups', '1,3')
    found = {entry['name']: entry for entry in record['methods']}
    stgu = ['stgu, M=1', 'stgu, M=3', 'stgu[grouper.type=Singletons]']
    assert list(found) == ['gd', 'gd3', *stgu, 'famo', 'pcgrad']
    assert [found[name]['backwards'] for name in found] == [1, 3, 1, 3, 5, 1, 5]
    assert [found[name]['forwards'] for name in ('gd', 'gd3', 'famo', 'pcgrad')] == [1, 3, 2, 1]
    assert 3 <= found['stgu, M=3']['forwards'] <= 4  # a probe now and then
    assert found['gd']['to_first'] == dict(median=1, low=1, high=1)
    assert found['stgu[grouper.type=Singletons]']['to_first']['median'] > 1.5
    assert found['pcgrad']['memory'] > found['gd']['memory'] > 0
    for entry in found.values():
        assert entry['images_per_second'] == pytest.approx(2 / entry['seconds']['median'])
    said = capsys.readouterr().out
    assert 'batches of 2 images of 96 x 96, fp32' in said
    assert str(tmp_path / 'throughput.png') in said
    assert (tmp_path / 'throughput.png').stat().st_size > 5000


def test_tasks_and_precision(tmp_path, capsys):
    record = run(tmp_path, '--methods', 'stgu', '--tasks', 'depth,normals', '--precision', 'bf16', '--size', '48,96')
    assert record['methods'][0]['name'] == 'stgu, M=2'
    assert record['size'] == [48, 96]
    assert record['precision'] == 'bf16'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--methods', 'gd,gdd'], "unknown method 'gdd'"),
        (['--methods', 'stgu,gd[passes=@stgu]'], 'references need finished runs'),
        (['--methods', 'gd[compute=2]'], 'compute is a length of training'),
        (['--methods', 'gd', '--rounds', '1'], '--rounds must be 2 or more'),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        throughput.main([ROOMS, *arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_configs_that_lack_a_part(tmp_path, capsys):
    path = tmp_path / 'part.py'
    for text, said in (('x = 1', 'has no model'), (f'model = {VIT!r}', 'give --batch-size N')):
        path.write_text(f'{text}\n')
        with pytest.raises(SystemExit):
            throughput.main([str(path), '--methods', 'gd', '--size', '32,48'])
        assert said in capsys.readouterr().err
    with pytest.raises(UserError, match=r'optim_wrapper\.optimizer must be a dict with a type'):
        throughput.main([str(path), '--methods', 'gd', '--size', '32,48', '--batch-size', '1'])


def test_too_many_groups(tmp_path):
    with pytest.raises(ValueError, match='--groups: 5 tasks make 1 to 5 groups, but got 6'):
        run(tmp_path, '--methods', 'stgu', '--groups', '6')


@pytest.mark.filterwarnings(*NOISE)
@pytest.mark.parametrize('name', ['fcn', 'depth'])
def test_made_up_batches_for_models_of_mmseg(tmp_path, name):
    cfg = small_config(name, tmp_path)
    model = build_model(cfg, torch.device('cpu'))
    batch = synthetic_batch(model, (32, 32), 2)
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    assert {'decode', 'aux'} == {key.split('.')[0] for key in losses}
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())


def test_other_models_are_refused():
    with pytest.raises(TypeError, match='no made-up labels for Linear'):
        synthetic_batch(torch.nn.Linear(1, 1), (4, 4), 1)


def test_sizes_of_images():
    assert image_size(load_config(ROOMS)) == (96, 96)
    crop = dict(type='mmcv.RandomCrop', crop_size=(32, 64))
    nested = dict(dataset=dict(pipeline=[dict(type='X', size=(1, 1)), dict(type='Y', transforms=[crop])]))
    assert image_size(Config(dict(model=dict(), train_dataloader=nested))) == (32, 64)
    assert image_size(Config(dict(model=dict(data_preprocessor=dict(size=48))))) == (48, 48)
    assert image_size(Config(dict(model=dict()))) is None
