"""What a method does where nothing is said: settings that papers and programs state."""

import inspect
import json
from pathlib import Path

import pytest

import mtl_plugins.engine.methods  # noqa: F401 - fills the registries
from mtl_plugins.registry import AFFINITIES, AGGREGATORS, GROUPERS, OPTIM_WRAPPERS, OPTIMIZERS, WEIGHTINGS

STATED = json.loads((Path(__file__).parent / 'defaults.json').read_text(encoding='utf-8'))
REGISTRIES = (WEIGHTINGS, AGGREGATORS, GROUPERS, AFFINITIES, OPTIM_WRAPPERS, OPTIMIZERS)
CLASSES = {
    name: kind
    for registry in REGISTRIES
    for name, kind in registry.module_dict.items()
    if inspect.isclass(kind) and kind.__module__.startswith('mtl_plugins.')
}


def defaults(kind):
    """Argument -> its default, as JSON has it; those of base classes that an argument goes on to included."""
    found = {}
    for base in reversed(kind.__mro__):
        if '__init__' in vars(base) and base.__module__.startswith('mtl_plugins.'):
            parameters = inspect.signature(vars(base)['__init__']).parameters.values()
            found |= {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}
    found |= getattr(kind, 'own_defaults', {})
    return json.loads(json.dumps(found, default=str))


@pytest.mark.parametrize('name', sorted(CLASSES))
def test_a_default_changes_on_purpose_only(name):
    """If it does: tests/engine/defaults.json, CHANGELOG.md, and the pages that state it."""
    assert defaults(CLASSES[name]) == STATED[name]


def test_no_other_is_stated():
    assert STATED.keys() == CLASSES.keys()
