"""What all transforms here have in common."""

from mmcv.transforms import BaseTransform

from mtl_plugins.methods.naming import as_built
from mtl_plugins.utils.argument_types import Checked


class Transform(Checked, BaseTransform):
    """A transform that keeps its arguments under their names, and is printed with them."""

    def __repr__(self) -> str:
        return as_built(self)
