"""What all transforms here have in common."""

import inspect

from mmcv.transforms import BaseTransform

from mtl_plugins.utils.argument_types import Checked


class Transform(Checked, BaseTransform):
    """A transform that keeps its arguments under their names, and is printed with them."""

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters.values()
        names = (each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD)
        arguments = (f'{name}={getattr(self, name)!r}' for name in names)
        return f'{type(self).__name__}({", ".join(arguments)})'
