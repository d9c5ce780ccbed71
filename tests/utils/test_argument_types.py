"""Arguments that configs and calls give: every part refuses what its annotations do not allow, in one sentence."""

import os
import pickle
from collections.abc import Mapping, Sequence
from inspect import isabstract, isclass
from types import UnionType
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from mtl_plugins.datasets import RoomsDataset
from mtl_plugins.datasets.transforms import LoadCachedSample, MultiTaskRandomScale
from mtl_plugins.engine import hooks, optim_wrappers
from mtl_plugins.engine.step.nonfinite import NonFiniteGuard
from mtl_plugins.engine.step.precision import Precision
from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATA_SAMPLERS, DATASETS, EVALUATOR, METRICS, TRANSFORMS, VISBACKENDS
from mtl_plugins.utils.argument_types import Checked
from mtl_plugins.visualization import PredictionPanelHook

OTHER_KINDS = {
    float: ['x', None, True, [1.0], float('nan')],
    int: ['x', 1.5, True, []],
    bool: ['x', 2],
    str: [3, ['x']],
    os.PathLike: [3, {}],
    Sequence: ['x', {}],
    Mapping: ['x', 3, []],
}
WRAPPERS = [kind for name in optim_wrappers.__all__ if not isabstract(kind := getattr(optim_wrappers, name))]
HOOKS = [kind for name in hooks.__all__ if issubclass(kind := getattr(hooks, name), Checked)]
REGISTRIES = (DATASETS, DATA_SAMPLERS, EVALUATOR, METRICS, TRANSFORMS, VISBACKENDS)
for registry in REGISTRIES:
    registry.import_from_location()
REGISTERED = [
    kind
    for registry in REGISTRIES
    for kind in registry.module_dict.values()
    if isclass(kind) and kind.__module__.startswith('mtl_plugins.') and '__init__' in vars(kind)
]


@pytest.mark.parametrize(
    'kind',
    [*WRAPPERS, *HOOKS, PredictionPanelHook, NonFiniteGuard, Precision, *REGISTERED],
    ids=lambda kind: kind.__name__,
)
def test_arguments_of_another_kind_are_refused_by_name(kind):
    """Those of its base classes too, before anything is made of them; nothing counts as True that is not."""
    place = {**dict.fromkeys(WRAPPERS, 'optim_wrapper'), NonFiniteGuard: 'nonfinite', Precision: 'precision'}
    whose, seen = place.get(kind, kind.__name__), set()
    for base in kind.__mro__:
        if not base.__module__.startswith('mtl_plugins') or '__init__' not in vars(base):
            continue
        for argument, hint in get_type_hints(base.__init__).items():
            members = set(get_args(hint)) if isinstance(hint, UnionType) or type(None) in get_args(hint) else {hint}
            origins = {Literal: str, tuple: Sequence}
            members = {origins.get(get_origin(each), get_origin(each) or each) for each in members} - {type(None)}
            if argument in seen or members - {*OTHER_KINDS} or not members:
                continue
            seen.add(argument)
            for value in (value for wanted in members for value in OTHER_KINDS[wanted]):
                right = type(value) in members or (Sequence in members and isinstance(value, list))
                right = right or (Mapping in members and isinstance(value, dict))
                if (value is None and type(None) in get_args(hint)) or (right and value == value):
                    continue
                with pytest.raises(UserError, match=rf'^{whose}\.{argument} must be .* but got'):
                    kind(**{argument: value})
    assert seen


def test_arguments_of_classes_of_others_are_theirs():
    class Own(hooks.AffinityHook):
        def __init__(self, interval='often', **kwargs):
            super().__init__(dict(often=7)[interval], **kwargs)

    assert Own('often').interval == 7
    with pytest.raises(UserError, match=r'Own\.decay must be a number in \(0, 1\], but got 2'):
        Own(decay=2)


@pytest.mark.parametrize(
    ('kind', 'wrong'),
    [
        (optim_wrappers.MultiTaskOptimWrapper, dict(bn_stats='never')),
        (optim_wrappers.MultiTaskOptimWrapper, dict(passes=0)),
        (optim_wrappers.SAMOOptimWrapper, dict(beta=1.5)),
        (optim_wrappers.SAMOOptimWrapper, dict(mu=0)),
        (optim_wrappers.GradientAggregationOptimWrapper, dict(memory='none')),
        (optim_wrappers.GradientAggregationOptimWrapper, dict(rescale='mean')),
        (optim_wrappers.PhasesOptimWrapper, dict(total=0)),
        (hooks.DominanceHook, dict(decay=1.0)),
        (hooks.AffinityHook, dict(decay=0)),
        (NonFiniteGuard, dict(patience=-1)),
        (Precision, dict(init_scale=0)),
        (RoomsDataset, dict(size=(32, 8))),
        (RoomsDataset, dict(size=(32, 32, 32))),
        (MultiTaskRandomScale, dict(scale=(0, 1))),
    ],
)
def test_what_is_out_of_range_is_no_error_of_its_type(kind, wrong):
    with pytest.raises(UserError, match=rf'\.{next(iter(wrong))} must be .*, but got') as error:
        kind(**wrong)
    assert not isinstance(error.value, TypeError)


def test_an_argument_that_does_not_exist_is_named_with_the_class():
    with pytest.raises(UserError, match=r"^MultiTaskRandomScale: got an unexpected keyword argument 'scales'"):
        MultiTaskRandomScale(scales=(1, 2))


def test_what_is_checked_is_printed_and_sent_to_other_processes_as_ever(tmp_path):
    assert repr(LoadCachedSample()) == 'LoadCachedSample()'
    scale = pickle.loads(pickle.dumps(MultiTaskRandomScale((1, 2))))
    assert repr(scale) == 'MultiTaskRandomScale(scale=(1, 2))'
    rooms = RoomsDataset('val', np.int64(1), seed=np.int64(3), cache_dir=tmp_path, lazy_init=True)
    assert rooms.sample_cache.n == 1
