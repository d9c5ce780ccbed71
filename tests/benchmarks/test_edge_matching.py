"""The benchmark of edge matching: its tables, its checks, its exit code."""

import numpy as np
import pytest

from benchmarks import edge_matching


def test_small_run(capsys):
    assert edge_matching.main(['--size', '60', '80', '--photos', 'coffee.png', 'camera.png']) == 0
    out = capsys.readouterr().out
    assert '2 images of 60 x 80, 19 thresholds' in out
    for kind in edge_matching.KINDS:
        assert out.count(f'| {kind} |') == 2
    assert 'greedy matching takes at most' in out


def test_too_slow_is_a_failure(capsys, monkeypatch):
    monkeypatch.setattr(edge_matching, 'LIMIT', 0.0)
    assert edge_matching.main(['--size', '60', '80', '--photos', 'coffee.png', '--kinds', 'moved']) == 1


@pytest.mark.parametrize(
    ('name', 'replacement', 'message'),
    [
        ('thinned', lambda edges: np.zeros_like(edges), 'thinning differs'),
        ('MATCHERS', {'greedy': lambda *_: 2, 'exact': lambda *_: 1}, 'greedy found more pairs'),
    ],
)
def test_a_failed_check_is_a_failure(capsys, monkeypatch, name, replacement, message):
    monkeypatch.setattr(edge_matching, name, replacement)
    assert edge_matching.main(['--size', '60', '80', '--photos', 'coffee.png', '--kinds', 'moved']) == 1
    assert message in capsys.readouterr().err


def test_pooled_f_measure():
    images = [
        dict(pairs=dict(exact=np.array([1, 2])), predicted=np.array([2, 2]), actual=4),
        dict(pairs=dict(exact=np.array([0, 1])), predicted=np.array([0, 4]), actual=2),
    ]
    assert edge_matching.best_f(images, 'exact') == pytest.approx(200 * 3 / (6 + 6))
