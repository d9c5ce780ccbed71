import json
import time
from types import SimpleNamespace

import pytest

from mtl_plugins.runtime.hooks.metrics_file import MetricsFileHook, as_number, read_metrics


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'metrics.json'


def validate(hook, folder, iteration, **metrics):
    hook.after_val_epoch(SimpleNamespace(work_dir=str(folder), iter=iteration), metrics)


def begin(folder, iteration, hub=None):
    hook = MetricsFileHook()
    hub = hub or SimpleNamespace(runtime_info={})
    hook.before_train(SimpleNamespace(work_dir=str(folder), iter=iteration, message_hub=hub))
    return hook


def test_one_entry_per_validation(path):
    hook = begin(path.parent, 0)
    validate(hook, path.parent, 5, loss=1.5, nothing=float('nan'), endless=float('inf'))
    validate(hook, path.parent, 10, loss=1.0)
    text = path.read_text()
    # Strict JSON, which has no NaN.
    entries = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert [(entry['iter'], entry['metrics']) for entry in entries] == [
        (5, dict(loss=1.5, nothing=None, endless=None)),
        (10, dict(loss=1.0)),
    ]
    assert read_metrics(path) == entries


class Passes:
    """A message hub that has heard of passes."""

    def __init__(self, forwards, backwards):
        values = dict(forwards=forwards, backwards=backwards)
        self.runtime_info = {}
        self.log_scalars = {f'train/{k}': SimpleNamespace(current=lambda v=v: v) for k, v in values.items()}

    def update_info(self, name, value):
        self.runtime_info[name] = value


def train(hook, folder, iteration, steps=1, update=True, hub=None):
    wrapper = SimpleNamespace(should_update=lambda: update)
    hub = hub or Passes(3, 2)
    runner = SimpleNamespace(
        work_dir=str(folder), iter=iteration, message_hub=hub, optim_wrapper=wrapper
    )  # fmt: skip
    for _ in range(steps):
        hook.before_train_iter(runner, 0)
        time.sleep(0.002)
        hook.after_train_iter(runner, 0)


def test_costs_add_up_over_a_resume(path):
    hub = Passes(3, 2)
    hook = begin(path.parent, 0)
    train(hook, path.parent, 4, steps=4, hub=hub)
    hook.before_val(None)
    time.sleep(0.05)
    validate(hook, path.parent, 4, a=1)
    (entry,) = read_metrics(path)
    assert (entry['cost']['forwards'], entry['cost']['backwards']) == (12, 8)
    assert 0.008 <= entry['cost']['seconds'] < 0.05
    assert entry['cost']['memory_mib'] > 10
    # Stopped between two validations: what a checkpoint holds counts, not the file.
    train(hook, path.parent, 5, hub=hub)
    hook = begin(path.parent, 5, hub=hub)
    train(hook, path.parent, 6, update=False, hub=hub)
    train(hook, path.parent, 7, hub=hub)
    hook.before_val(None)
    validate(hook, path.parent, 7, a=1)
    assert read_metrics(path)[-1]['cost']['forwards'] == 18
    assert read_metrics(path)[-1]['cost']['seconds'] > entry['cost']['seconds']
    begin(path.parent, 0)
    assert read_metrics(path) == []


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
    assert [(entry['iter'], entry['metrics']) for entry in read_metrics(path)] == [(5, dict(a=2.0))]


@pytest.mark.parametrize('content', ['', '{"iter": 3}', '[{"iter": 3}]', '[3]', 'x'])
def test_a_foreign_file_is_no_obstacle(content, path):
    path.write_text(content)
    assert read_metrics(path) == []
    validate(begin(path.parent, 3), path.parent, 5, a=1)
    assert len(read_metrics(path)) == 1


def test_validation_without_training(path):
    validate(MetricsFileHook(), path.parent, 0, a=1)
    assert [(entry['iter'], entry['metrics']) for entry in read_metrics(path)] == [(0, dict(a=1.0))]


def test_numbers():
    assert [as_number(value) for value in (1, '2.5', 'x', None, float('inf'))] == [1.0, 2.5, None, None, None]
