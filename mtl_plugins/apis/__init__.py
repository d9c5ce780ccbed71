"""The former place of what scripts call: now :mod:`mtl_plugins.config` and :mod:`mtl_plugins.inference`."""

from mtl_plugins.moved import names_from

__getattr__ = names_from('apis', 'config', 'inference')
