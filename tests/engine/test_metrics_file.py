import json
from types import SimpleNamespace

import pytest

from mtl_plugins.engine.hooks.metrics_file import MetricsFileHook, as_number, read_metrics


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'metrics.json'


def validate(hook, folder, iteration, **metrics):
    hook.after_val_epoch(SimpleNamespace(work_dir=str(folder), iter=iteration), metrics)


def begin(folder, iteration):
    hook = MetricsFileHook()
    hook.before_train(SimpleNamespace(work_dir=str(folder), iter=iteration))
    return hook


def test_one_entry_per_validation(path):
    hook = begin(path.parent, 0)
    validate(hook, path.parent, 5, loss=1.5, nothing=float('nan'), endless=float('inf'))
    validate(hook, path.parent, 10, loss=1.0)
    text = path.read_text()
    # Strict JSON, which has no NaN.
    entries = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert entries == [
        dict(iter=5, metrics=dict(loss=1.5, nothing=None, endless=None)),
        dict(iter=10, metrics=dict(loss=1.0)),
    ]
    assert read_metrics(path) == entries


def test_a_resumed_run_goes_on_and_a_new_one_starts_anew(path):
    hook = begin(path.parent, 0)
    for iteration in (5, 10, 15):
        validate(hook, path.parent, iteration, a=iteration)
    hook = begin(path.parent, 10)
    assert [entry['iter'] for entry in read_metrics(path)] == [5, 10]
    validate(hook, path.parent, 15, a=-1)
    assert [entry['metrics']['a'] for entry in read_metrics(path)] == [5, 10, -1]
    begin(path.parent, 0)
    assert read_metrics(path) == []


def test_a_repeated_validation_replaces_the_former(path):
    hook = begin(path.parent, 0)
    validate(hook, path.parent, 5, a=1)
    validate(hook, path.parent, 5, a=2)
    assert read_metrics(path) == [dict(iter=5, metrics=dict(a=2.0))]


@pytest.mark.parametrize('content', ['', '{"iter": 3}', '[{"iter": 3}]', '[3]', 'x'])
def test_a_foreign_file_is_no_obstacle(content, path):
    path.write_text(content)
    assert read_metrics(path) == []
    validate(begin(path.parent, 3), path.parent, 5, a=1)
    assert len(read_metrics(path)) == 1


def test_validation_without_training(path):
    validate(MetricsFileHook(), path.parent, 0, a=1)
    assert read_metrics(path) == [dict(iter=0, metrics=dict(a=1.0))]


def test_numbers():
    assert [as_number(value) for value in (1, '2.5', 'x', None, float('inf'))] == [1.0, 2.5, None, None, None]
