"""Registries of mtl_plugins: one node per MMEngine root, and three roots of our own.

Each node has the scope ``mtl_plugins``, which must equal the package name: MMEngine imports ``<scope>.registry`` by
itself, after which ``type='mtl_plugins.X'`` resolves without ``custom_imports``.

A plain name is looked up here first, then in mmsegmentation's node of the same kind, then in MMEngine's root, so that a
config with ``default_scope='mtl_plugins'`` may use names of all three. Neither parent alone resolves all of them: with
MMEngine's root as the parent mmseg's names are missing, and with mmseg's node as the parent ``mtl_plugins.X`` is not
found from other scopes, since MMEngine looks for scopes among the children of the root only.
"""

from importlib import import_module
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

SCOPE = 'mtl_plugins'


class PluginRegistry(Registry):
    """A child of an MMEngine root whose plain-name look-up falls through to mmseg's node of the same kind.

    Args:
        kind (str): Name of the root in ``mmengine.registry`` and of mmseg's node in ``mmseg.registry``.
        locations (list[str]): Modules of ours that register names of this kind, imported at the first look-up.
    """

    def __init__(self, kind: str, locations: list[str]) -> None:
        parent = getattr(mmengine_registry, kind)
        super().__init__(parent.name, parent=parent, scope=SCOPE, locations=locations)
        self._kind = kind

    def import_from_location(self) -> None:
        """Import what registers names of this kind, also of a package that imports its modules on demand."""
        if not self._imported:
            for package in map(import_module, self._locations):
                for name in getattr(package, '__all__', ()):
                    getattr(package, name)
        super().import_from_location()

    def get(self, key: str) -> Any:
        """Return the class registered as ``key``; see :class:`mmengine.registry.Registry`."""
        scope, name = self.split_scope_key(key)
        if scope is None:
            self.import_from_location()
            if name not in self._module_dict and name not in self.parent.module_dict:
                mmseg_node = getattr(import_module('mmseg.registry'), self._kind, None)
                if mmseg_node is not None:
                    return mmseg_node.get(key)
        return super().get(key)


RUNNERS = PluginRegistry('RUNNERS', ['mtl_plugins.engine'])
LOOPS = PluginRegistry('LOOPS', ['mtl_plugins.engine'])
HOOKS = PluginRegistry('HOOKS', ['mtl_plugins.engine', 'mtl_plugins.runtime.hooks', 'mtl_plugins.visualization'])
LOG_PROCESSORS = PluginRegistry('LOG_PROCESSORS', ['mtl_plugins.engine'])
OPTIMIZERS = PluginRegistry('OPTIMIZERS', ['mtl_plugins.engine'])
OPTIM_WRAPPERS = PluginRegistry('OPTIM_WRAPPERS', ['mtl_plugins.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = PluginRegistry('OPTIM_WRAPPER_CONSTRUCTORS', ['mtl_plugins.engine'])
PARAM_SCHEDULERS = PluginRegistry('PARAM_SCHEDULERS', ['mtl_plugins.engine'])
DATASETS = PluginRegistry('DATASETS', ['mtl_plugins.datasets'])
DATA_SAMPLERS = PluginRegistry('DATA_SAMPLERS', ['mtl_plugins.datasets'])
TRANSFORMS = PluginRegistry('TRANSFORMS', ['mtl_plugins.datasets'])
MODELS = PluginRegistry('MODELS', ['mtl_plugins.models'])
MODEL_WRAPPERS = PluginRegistry('MODEL_WRAPPERS', ['mtl_plugins.models'])
WEIGHT_INITIALIZERS = PluginRegistry('WEIGHT_INITIALIZERS', ['mtl_plugins.models'])
METRICS = PluginRegistry('METRICS', ['mtl_plugins.evaluation'])
EVALUATOR = PluginRegistry('EVALUATOR', ['mtl_plugins.evaluation'])
FUNCTIONS = PluginRegistry('FUNCTIONS', ['mtl_plugins.datasets'])
TASK_UTILS = PluginRegistry('TASK_UTILS', ['mtl_plugins.models'])
VISUALIZERS = PluginRegistry('VISUALIZERS', ['mtl_plugins.visualization'])
VISBACKENDS = PluginRegistry('VISBACKENDS', ['mtl_plugins.visualization.backends'])
INFERENCERS = PluginRegistry('INFERENCERS', ['mtl_plugins.inference'])

# Our own kinds. The classes behind them are pure mathematics in ``mtl_plugins.methods``, which knows no registry; the
# engine fills these from the catalogue (``mtl_plugins/engine/methods.py``).
WEIGHTINGS = Registry('weighting', scope=SCOPE, locations=['mtl_plugins.engine'])
AGGREGATORS = Registry('aggregator', scope=SCOPE, locations=['mtl_plugins.engine'])
AFFINITIES = Registry('affinity', scope=SCOPE, locations=['mtl_plugins.engine'])
GROUPERS = Registry('grouper', scope=SCOPE, locations=['mtl_plugins.engine'])
