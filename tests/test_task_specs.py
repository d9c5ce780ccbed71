import dataclasses
import math

import pytest

from mtl_plugins import task_specs
from mtl_plugins.task_specs import TASK_SPECS, TaskSpec, get_task_spec, get_task_specs, register_task_spec

ROOMS = (
    'semseg', 'depth', 'normals', 'edge', 'sal', 'human_parts', 'reshading', 'principal_curvature', 'edge_texture',
    'keypoints2d', 'edge_occlusion',
)  # fmt: skip


@pytest.fixture
def table(monkeypatch):
    """A copy of the table that a test may write to."""
    rows = dict(task_specs._SPECS)
    monkeypatch.setattr(task_specs, '_SPECS', rows)
    return rows


@pytest.mark.parametrize('spec', TASK_SPECS.values(), ids=list(TASK_SPECS))
def test_rows_are_consistent(spec):
    assert spec.key == spec.key.lower()
    assert spec.key.isidentifier(), 'loss keys and metric prefixes are made from it'
    assert spec.headline_key == f'{spec.key}/{spec.headline}'
    assert spec.loss['type'].startswith('mtl_plugins.')
    assert spec.metric['type'].startswith('mtl_plugins.')
    if spec.kind == 'classes':
        assert spec.channels is None
    else:
        assert spec.channels >= 1
    if spec.is_categorical:
        assert spec.fill == 255
        assert spec.target_channels == 1
    else:
        assert spec.fill == 0 if spec.kind in ('depth', 'normals') else math.isnan(spec.fill)
        assert spec.target_channels == spec.channels
    assert spec.higher_is_better == (spec.headline in ('mIoU', 'maxF', 'odsF_greedy'))


def test_all_tasks_of_the_rooms_are_described():
    assert [spec.key for spec in get_task_specs(ROOMS)] == list(ROOMS)


@pytest.mark.parametrize(
    ('key', 'words'),
    [
        ('depht', "unknown task 'depht': did you mean 'depth'"),
        ('semsegg', "did you mean 'semseg'"),
        ('zzzz', 'known tasks: semseg, depth'),
    ],
)
def test_an_unknown_task_is_answered_with_the_near_matches(key, words):
    with pytest.raises(KeyError, match=words):
        get_task_spec(key)


def test_a_task_is_added_in_one_place(table):
    heat = TaskSpec('heat', 'Heat', 'regression', 1, 'L1', False, 'grey')
    assert register_task_spec(heat) is heat
    assert get_task_spec('heat') is heat
    with pytest.raises(KeyError, match="task 'heat' is already registered; choose another key or pass force=True"):
        register_task_spec(heat)
    renamed = dataclasses.replace(heat, title='Temperature')
    register_task_spec(renamed, force=True)
    assert get_task_spec('heat').title == 'Temperature'


def test_the_public_table_and_its_rows_are_read_only():
    with pytest.raises(TypeError):
        TASK_SPECS['depth'] = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        TASK_SPECS['depth'].fill = 1.0


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"TaskSpec.kind of task 'x' must be one of .* but got 'clases'"):
        TaskSpec('x', 'X', 'clases', 1, 'L1', False, 'grey')
