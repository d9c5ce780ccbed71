"""What a run began with, and what it saw, as hashes."""

import json

import pytest
import torch

from mtl_plugins.runtime.hooks.start_record import hash_of_weights
from tests.support.runs import tiny_config, train


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """Trains with the hook; returns what it wrote."""
    cache = tmp_path_factory.mktemp('cache')

    def run(folder, method='gd', checkpoint=None, iterations=8, **options):
        options = {'train_cfg.max_iters': iterations, 'default_hooks.checkpoint.interval': 3, **options}
        cfg = tiny_config(folder, cache, method, **options)
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type='mtl_plugins.StartRecordHook')]
        if checkpoint:
            cfg.resume, cfg.load_from = True, str(checkpoint)
        train(cfg)
        return json.loads((folder / 'start.json').read_text())

    return run


def test_methods_begin_alike_and_seeds_do_not(recorded, tmp_path):
    first = recorded(tmp_path / 'gd')
    assert list(first['samples']) == ['1', '2', '4', '8']
    assert len(set(first['samples'].values())) == 4
    other = recorded(tmp_path / 'stgu', 'stgu', iterations=4)
    assert other['weights'] == first['weights']
    assert other['samples'] == {count: first['samples'][count] for count in ('1', '2', '4')}
    seed = recorded(tmp_path / 'seed', iterations=1, **{'randomness.seed': 1})
    assert seed['weights'] != first['weights']
    assert seed['samples']['1'] != first['samples']['1']
    # A resumed run says what the first start did.
    resumed = recorded(tmp_path / 'resumed', checkpoint=tmp_path / 'gd' / 'iter_6.pth')
    assert resumed == first


def test_the_hash_is_of_names_and_values():
    model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
    before = hash_of_weights(model)
    assert hash_of_weights(torch.nn.Sequential(*model)) == before
    assert hash_of_weights(torch.nn.ModuleList(model).append(torch.nn.Identity())) == before
    assert hash_of_weights(torch.nn.ModuleDict(dict(a=model[0], b=model[1]))) != before
    with torch.no_grad():
        model[1].num_batches_tracked += 1
    assert hash_of_weights(model) != before
