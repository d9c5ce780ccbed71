"""Names that documents and configs of earlier versions showed."""

import importlib
import subprocess
import sys

import pytest

from mtl_plugins import moved
from mtl_plugins.engine.catalogue import MethodRow, StepCost

FORMER = {
    'apis': ('MultiTaskInferencer', 'build_runner', 'load_config', 'set_method', 'set_tasks'),
    'apis.arguments': ('positive',),
    'apis.measuring': ('random_batch', 'synthetic_target'),
    'apis.measuring.memory': ('peak_memory',),
    'apis.measuring.timing': ('Spread', 'Times', 'ratio', 'time_systems'),
    'engine.checkpoints': ('register_safe_loaders', 'safe_loading', 'write_atomically'),
    'engine.closure': ('TaskClosure',),
    'engine.hooks': ('LoadReportHook', 'SafeCheckpointHook', 'TrainingPreempted', 'EXIT_PREEMPTED'),
    'engine.hooks.environment': ('collect_environment',),
    'engine.hooks.plain_state': ('PlainStateHook',),
    'engine.hooks.rng_state': ('get_rng_state', 'set_rng_state'),
    'engine.losses': ('TaskLosses',),
    'engine.nonfinite': ('NonFiniteError',),
    'engine.parameters': ('parameters_behind',),
    'engine.precision': ('Precision',),
    'engine.step_batch': ('StepBatch',),
    'engine.work_folder': ('claim',),
    'models.losses.cosine': ('NormalsCosineLoss',),
    'methods.catalogue': ('format_catalogue', 'get_method', 'list_methods'),
    'methods.keys': ('method_key',),
    'methods.method_row': ('MethodRow', 'StepCost'),
}


def test_former_names_work_and_say_where_they_are_now():
    script = '\n'.join(f'from mtl_plugins.{module} import {", ".join(names)}' for module, names in FORMER.items())
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for module in FORMER:
        assert f'mtl_plugins.{module}' in done.stderr
    assert done.stderr.count('has moved: use mtl_plugins.') >= len(FORMER)


def test_every_new_place_exists():
    for place in moved.MOVED.values():
        importlib.import_module(f'mtl_plugins.{place}')


def test_what_never_was_is_not_there():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module('mtl_plugins.apis.nowhere')
    with pytest.raises(AttributeError, match=r'engine\.hooks'):
        importlib.import_module('mtl_plugins.engine.hooks').Nothing  # noqa: B018


def test_rows_of_methods_as_earlier_versions_wrote_them():
    said = dict(title='Weights of my own', paper='none', arxiv='', verified='definition')
    cost = dict(cost='1 forward', cost_formula=lambda *counts: StepCost(1, 1, 1), accumulates_exactly=True)
    plain = dict(key='own', kind='loss weighting', wrapper='MultiTaskOptimWrapper', parts=('EqualWeighting',))
    with pytest.warns(FutureWarning, match=r"MethodRow\('own', ...\) no longer takes title, .*facts = MethodFacts"):
        row = MethodRow(**plain, **said, **cost)
    assert {name: getattr(row, name) for name in said} == said
    assert row.accumulates_exactly
    assert row.step_cost(3) == MethodRow(**plain).step_cost(3)
    with pytest.raises(TypeError, match='titel'):
        MethodRow(**plain, titel='Weights of my own')
