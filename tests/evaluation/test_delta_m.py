import json
import math
from pathlib import Path

import pytest

from mtl_plugins.evaluation import delta_m, load_baselines, make_baselines, relative_changes, save_baselines

TABLE = json.loads((Path(__file__).parents[1] / 'data' / 'stgu_taskonomy_table.json').read_text())
LOWER = dict.fromkeys(TABLE['tasks'], False)


def test_the_table_is_whole():
    assert len(TABLE['rows']) == 11
    assert all(len(row['values']) == len(TABLE['tasks']) == 11 for row in TABLE['rows'].values())


@pytest.mark.parametrize('method', TABLE['rows'])
def test_published_rows_to_the_last_digit(method):
    row = TABLE['rows'][method]
    results = dict(zip(TABLE['tasks'], row['values']))
    baselines = dict(zip(TABLE['tasks'], TABLE['single_task']))
    assert f'{delta_m(results, baselines, LOWER):.2f}' == row['delta_m']


def test_direction_decides_the_sign():
    results, baselines = dict(a=11.0, b=11.0), dict(a=10.0, b=10.0)
    assert relative_changes(results, baselines, dict(a=True, b=False)) == pytest.approx(dict(a=10.0, b=-10.0))
    assert delta_m(results, baselines, dict(a=True, b=False)) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ('results', 'baselines'),
    [
        (dict(a=1.0, b=math.nan), dict(a=1.0, b=1.0)),
        (dict(a=1.0, b=1.0), dict(a=1.0)),
        (dict(a=1.0, b=1.0), dict(a=1.0, b=0.0)),
        (dict(a=1.0, b=math.inf), dict(a=1.0, b=1.0)),
        ({}, {}),
    ],
)
def test_undefined_is_nan_and_never_a_mean_of_the_rest(results, baselines):
    assert math.isnan(delta_m(results, baselines, dict(a=True, b=True)))


def _record(**tasks):
    tasks = tasks or dict(semseg=dict(metric='semseg/mIoU', value=41.2, higher_is_better=True))
    return make_baselines(tasks, config='c.py', command='run', commit='abc', seeds=[0, 1], versions=dict(torch='2'))


def test_baselines_survive_a_round_trip(tmp_path):
    path = tmp_path / 'new' / 'baselines.json'
    save_baselines(_record(), path)
    assert load_baselines(path) == _record()
    assert [child.name for child in path.parent.iterdir()] == ['baselines.json']


def test_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no-such\.json.*single_task_baselines\.py'):
        load_baselines(tmp_path / 'no-such.json')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'is not a JSON file'),
        ('[]', 'must be a mapping'),
        ('{"version": 7, "tasks": {}}', 'version 7 is not supported'),
        ('{"tasks": {}}', '"tasks" must map'),
        ('{"tasks": {"a": 3}}', "task 'a' must have a mapping"),
        (
            '{"tasks": {"a": {"metric": "a/L1", "value": "3", "higher_is_better": true}}}',
            '\'a\' must have a valid "value"',
        ),
        ('{"tasks": {"a": {"metric": "a/L1", "value": 3}}}', '\'a\' must have a valid "higher_is_better"'),
        ('{"tasks": {"a": {"metric": "a/L1", "value": NaN, "higher_is_better": true}}}', 'finite and not 0'),
        ('{"tasks": {"a": {"metric": "a/L1", "value": 0, "higher_is_better": true}}}', 'finite and not 0'),
    ],
)
def test_broken_files_are_named(tmp_path, text, message):
    path = tmp_path / 'b.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_baselines(path)
    assert 'b.json' in str(error.value)
