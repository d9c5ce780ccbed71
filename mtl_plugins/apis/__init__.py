"""The former place of what scripts call: now :mod:`mtl_plugins.config` and :mod:`mtl_plugins.inference`."""

from typing import Any

from mtl_plugins.moved import names_from


def __getattr__(name: str) -> Any:
    place = 'inference' if name == 'MultiTaskInferencer' else 'config'
    names = ('MultiTaskInferencer', 'build_runner', 'load_config', 'set_method', 'set_tasks')
    return names_from(place, names, 'apis')(name)
