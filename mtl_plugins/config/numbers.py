"""What every config has in common, shapes and numbers, checked before anything is built from it."""

import math
from typing import Any

from mmengine.config import Config

from mtl_plugins.engine.step.clipping import check_clipping
from mtl_plugins.errors import UserError

from .arguments import LARGEST_SEED
from .places import LOADERS, entries

_NEEDS_WORKERS = ('prefetch_factor', 'timeout', 'multiprocessing_context')


class Number:
    """What a number of a config must be.

    Args:
        low: Smallest value.
        whole: Whether it is a whole number.
        above: Whether ``low`` itself is excluded.
        high: Largest value.
        also: Values outside that range that mean something too.
    """

    def __init__(
        self, low: float = 0, *, whole: bool = False, above: bool = False, high: float = math.inf, also: tuple = ()
    ) -> None:
        self.low, self.whole, self.above, self.high, self.also = low, whole, above, high, also

    def __str__(self) -> str:
        kind = 'a whole number' if self.whole else 'a number'
        limits = f'above {self.low}' if self.above else f'of {self.low} or more'
        limits += f', at most {self.high}' if self.high < math.inf else ''
        return f'{kind} {limits}' + ''.join(f', or {value}' for value in self.also)

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` is such a number."""
        if value in self.also and not isinstance(value, bool):
            return True
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        try:
            float(value)
        except OverflowError:  # a whole number above all floats
            return False
        return math.isfinite(value) and (value > self.low if self.above else value >= self.low) and value <= self.high


_COUNT, _LIMIT = Number(1, whole=True), Number(0, above=True)
_AMOUNT, _INDEX = Number(), Number(whole=True)
_RULES = {
    **{f'{loader}.batch_size': _COUNT for loader in LOADERS},
    **{f'{loader}.num_workers': _INDEX for loader in LOADERS},
    **{f'{loader}.prefetch_factor': Number(1, whole=True, also=(None,)) for loader in LOADERS},
    'train_cfg.max_iters': _COUNT,
    'train_cfg.max_epochs': _COUNT,
    'train_cfg.val_interval': _COUNT,
    'train_cfg.val_begin': _INDEX,
    'randomness.seed': Number(whole=True, high=LARGEST_SEED, also=(None,)),
    'optim_wrapper.accumulative_counts': _COUNT,
    'optim_wrapper.optimizer.lr': _AMOUNT,
    'optim_wrapper.optimizer.weight_decay': _AMOUNT,
    'optim_wrapper.optimizer.momentum': _AMOUNT,
    'optim_wrapper.optimizer.eps': _AMOUNT,
    'default_hooks.*.interval': Number(1, whole=True, also=(-1,)),
    'default_hooks.checkpoint.max_keep_ckpts': Number(1, whole=True, also=(-1,)),
    'custom_hooks.*.interval': Number(1, whole=True, also=(-1,)),
    'log_processor.window_size': _COUNT,
    'log_processor.num_digits': _INDEX,
    'env_cfg.mp_cfg.opencv_num_threads': _INDEX,
    'env_cfg.dist_cfg.timeout': _LIMIT,
    'env_cfg.resource_limit': _COUNT,
    'param_scheduler.*.begin': _INDEX,
    'param_scheduler.*.end': Number(1, whole=True, also=(math.inf,)),
    'param_scheduler.*.eta_min': _AMOUNT,
    'param_scheduler.*.power': _AMOUNT,
    'param_scheduler.*.gamma': _AMOUNT,
    'param_scheduler.*.start_factor': _LIMIT,
    'param_scheduler.*.T_max': _COUNT,
}
"""Place in the config -> what stands there must be, if anything does; ``*`` is every entry."""


_DICT, _LIST, _TEXT, _NOTHING = (dict, 'a dict'), (list | tuple, 'a list'), (str, 'text'), (type(None), 'None')
_SHAPES = {
    **{f'{loader}{part}': (_DICT, _NOTHING) for loader in LOADERS for part in ('', '.dataset', '.sampler')},
    **{f'{loader}.dataset.{name}': (_TEXT, _NOTHING) for loader in LOADERS for name in ('root', 'data_root')},
    **{f'{loader}.dataset.tasks': (_LIST, _DICT, _TEXT, _NOTHING) for loader in LOADERS},
    **{f'{name}_evaluator.metrics': (_LIST, _DICT, _TEXT) for name in ('val', 'test')},
    **{f'{name}_evaluator.tasks': (_LIST, _NOTHING) for name in ('val', 'test')},
    'train_cfg': (_DICT, _NOTHING),
    'val_cfg': (_DICT, _NOTHING),
    'test_cfg': (_DICT, _NOTHING),
    'model': (_DICT,),
    'model.backbone': (_DICT,),
    'model.heads': (_DICT,),
    'model.heads.*': (_DICT,),
    'model.data_preprocessor': (_DICT, _NOTHING),
    'optim_wrapper': (_DICT, _NOTHING),
    'optim_wrapper.optimizer': (_DICT,),
    'param_scheduler': (_DICT, _LIST, _NOTHING),
    'param_scheduler.*': (_DICT, _LIST),
    'default_hooks': (_DICT, _NOTHING),
    'default_hooks.*': (_DICT, _NOTHING),
    'custom_hooks': (_LIST, _NOTHING),
    'custom_hooks.*': (_DICT,),
    'val_evaluator': (_DICT, _LIST, _NOTHING),
    'test_evaluator': (_DICT, _LIST, _NOTHING),
    'randomness': (_DICT,),
    'env_cfg': (_DICT,),
    'visualizer': (_DICT, _NOTHING),
    'log_processor': (_DICT,),
    'work_dir': (_TEXT, _NOTHING),
    'load_from': (_TEXT, _NOTHING),
    'default_scope': (_TEXT, _NOTHING),
    'resume': ((bool, 'True or False'), _TEXT, _NOTHING),
}
"""Place in the config -> what it may be, if it is there."""


def check_shapes(cfg: Config) -> None:
    """Refuse what is no dict, list or text where one must be.

    Raises:
        UserError: For the first entry of another shape.
    """
    for pattern, shapes in _SHAPES.items():
        for place, value in entries(cfg._cfg_dict, pattern.split('.')):
            wanted = ' or '.join(name for _, name in shapes)
            # A class or an object of a pure Python config builds itself; the parts of a run are looked into.
            plain = '.' not in pattern or isinstance(value, int | float | str | list | tuple | dict | None)
            if plain and not any(isinstance(value, kind) for kind, _ in shapes):
                raise UserError(f'{place} must be {wanted}, but is {value!r}')


def settle_numbers(cfg: Config) -> None:
    """Refuse shapes and numbers that no run can have, and leave out what only a loader with worker processes takes.

    Raises:
        UserError: For the first entry of another shape, and the first number that is none or out of range.
    """
    check_shapes(cfg)
    for pattern, number in _RULES.items():
        for place, value in entries(cfg._cfg_dict, pattern.split('.')):
            if not number.accepts(value):
                raise UserError(f'{place} must be {number}, but is {value!r}')
    for _, wrapper in (*entries(cfg._cfg_dict, ['optim_wrapper']), *entries(cfg._cfg_dict, ['optim_wrapper', '*'])):
        if isinstance(wrapper, dict):
            check_clipping(wrapper.get('clip_grad'))
    for name in LOADERS:
        loader = cfg.get(name)
        if isinstance(loader, dict) and loader.get('num_workers', 0) == 0:
            if loader.get('persistent_workers'):
                loader['persistent_workers'] = False
            for option in _NEEDS_WORKERS:
                loader.pop(option, None)
