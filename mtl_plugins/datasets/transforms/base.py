"""What all transforms here have in common."""

from __future__ import annotations

import inspect

from mmcv.transforms import BaseTransform


class Transform(BaseTransform):
    """A transform that keeps its arguments under their names, and is printed with them."""

    def __repr__(self) -> str:
        arguments = (f'{name}={getattr(self, name)!r}' for name in inspect.signature(type(self)).parameters)
        return f'{type(self).__name__}({", ".join(arguments)})'
