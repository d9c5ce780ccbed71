"""The benchmark of first iterations: keeps finished results, says which methods fail."""

import json

import pytest

from benchmarks import first_iterations


@pytest.fixture
def fake_run(monkeypatch):
    ran = []

    def run(key, iterations, work_dir, batches):
        ran.append(key)
        if key == 'uw':
            raise RuntimeError('broken')
        after = 2.0 if key == 'dwa' else 0.5
        return dict(before={'a': 1.0}, after={'a': after}, ratios={'a': after}, ratio=after, cpu_seconds=1.0)

    monkeypatch.setattr(first_iterations, 'run', run)
    return ran


def test_results_are_kept_and_failures_named(tmp_path, fake_run, capsys):
    arguments = ['--methods', 'gd,uw,dwa', '--out', str(tmp_path / 'r.json'), '--markdown', str(tmp_path / 't.md')]
    assert first_iterations.main(arguments) == 1
    assert '1 of 3 methods lower the losses; not: uw, dwa' in capsys.readouterr().out
    record = json.loads((tmp_path / 'r.json').read_text())
    assert record['methods']['uw'] == dict(error='RuntimeError: broken')
    assert '| `gd` | 0.500 | 0.500 |' in (tmp_path / 't.md').read_text()
    # What failed is tried again, what finished is not.
    assert first_iterations.main(arguments) == 1
    assert fake_run == ['gd', 'uw', 'dwa', 'uw']


def test_one_real_run(tmp_path, monkeypatch):
    monkeypatch.setenv('MTL_PLUGINS_CACHE', str(tmp_path / 'cache'))
    load = first_iterations.load_config

    def tiny(*args, **kwargs):
        cfg = load(*args, **kwargs)
        cfg.model.backbone.update(embed_dim=16, depth=2, num_heads=2, out_indices=(0, 1))
        for loader in ('train_dataloader', 'val_dataloader'):
            cfg[loader].batch_size = 2
            cfg[loader].dataset.num_images = 4
        return cfg

    monkeypatch.setattr(first_iterations, 'load_config', tiny)
    result = first_iterations.run('gd', 3, str(tmp_path / 'run'), 2)
    assert set(result['ratios']) == {'semseg', 'depth', 'normals', 'edge', 'sal'}
    assert 0 < result['ratio'] < 1
