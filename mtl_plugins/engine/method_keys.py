"""What a method is called: the key that ``--method`` takes, and what checkpoints of version 1 say instead."""

from collections.abc import Sequence

from .catalogue import list_methods

_PLAIN = 'EqualWeighting'
_FORMER = {'SharpnessAwareOptimWrapper': 'f_mtl', 'SAMOOptimWrapper': 'samo'}


def method_key(wrapper: type, parts: Sequence[str]) -> str:
    """Key in the catalogue; for a combination that it does not have, the keys of its parts joined by ``+``.

    Args:
        wrapper: Class of the step strategy.
        parts: Names of the classes that it is made of, the loss weighting first.
    """
    parts = [part for part in parts if part != _PLAIN]
    names = [base.__name__ for base in wrapper.__mro__]
    strategy = next((name for name in names if any(row.wrapper == name for row in list_methods())), None)
    for row in list_methods():
        if row.wrapper == strategy and sorted(part for part in row.parts if part != _PLAIN) == sorted(parts):
            return row.key
    rows = sorted(
        (row for row in list_methods() if row.parts and row.wrapper not in _FORMER), key=lambda r: -len(r.parts)
    )
    own = {row.parts[0]: row.key for row in rows}  # the rows of one part last, so that these stay
    return '+'.join([_FORMER[name] for name in names if name in _FORMER] + [own.get(part, part) for part in parts])


def former_name(wrapper: type, parts: Sequence[str]) -> str:
    """The name in checkpoints of version 1: names of classes, where F-MTL and SAMO were those on the plain sum."""
    prefix = next((_FORMER[base.__name__] for base in wrapper.__mro__ if base.__name__ in _FORMER), None)
    if prefix is not None:
        return prefix if parts[-1] == 'Sum' else f'{prefix}+{parts[-1]}'
    return '+'.join(part for part in parts if part != _PLAIN) or 'gd'


def key_of_former(name: str) -> str:
    """The key that ``--method`` takes for what a checkpoint of version 1 names; the name itself if there is none."""
    for row in list_methods():
        prefix = _FORMER.get(row.wrapper)
        order = sorted(row.parts, key=lambda part: part != 'IMTLL')
        former = '+'.join(filter(None, [prefix, *(part for part in order if part != _PLAIN)])) or 'gd'
        if (
            name == former
            and not row.wrapper.endswith('TaskGroupOptimWrapper')
            and row.wrapper != 'AdaTaskOptimWrapper'
        ):
            return row.key
    return name
