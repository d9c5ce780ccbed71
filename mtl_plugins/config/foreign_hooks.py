"""What the tools add to configs that know nothing of this package, so that training and resuming work as for ours."""

from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from .places import kind_of


def save_plain_checkpoints(cfg: Config) -> None:
    """Let the default checkpoint hook be :class:`SafeCheckpointHook`, which takes the same arguments.

    What MMEngine's writes refers to code, which our loaders refuse to run: the run could neither be resumed nor
    tested. A hook that is switched off (None) or of another class stays as it is.
    """
    hooks = cfg.get('default_hooks') or {}
    given = hooks.get('checkpoint', dict(type='CheckpointHook'))
    if given is None or given.get('type') not in ('CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook):
        return
    cfg.default_hooks = {**hooks, 'checkpoint': {**given, 'type': 'mtl_plugins.SafeCheckpointHook'}}


def draws_by_itself(cfg: Config) -> bool:
    """Whether the config has MMSegmentation's hook for pictures, which knows the names of its predictions."""
    return kind_of((cfg.get('default_hooks') or {}).get('visualization')) == 'SegVisualizationHook'


def draw_into(cfg: Config, folder: str) -> None:
    """Switch that hook on, as MMSegmentation's own ``--show-dir`` does: ``<folder>/vis_data/vis_image/*.png``."""
    cfg.default_hooks.visualization.update(draw=True)
    cfg.visualizer.update(save_dir=folder)
