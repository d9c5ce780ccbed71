"""What MMEngine does in every run, takes longer than a tiny training, and is not what the tests are about."""

import functools
import types


def take(put=setattr):
    """Leave Python text of configs unformatted, look at the machine and for bases of MMSegmentation once.

    And collect no garbage for every dataset that is made, through all that a process with tests holds; and fork the
    workers of joblib from the process that has made the imports.
    """
    from joblib.externals.loky.backend import context
    from mmengine.config import utils
    from mmengine.dataset import base_dataset
    from mmengine.runner import runner
    from yapf.yapflib import yapf_api

    from . import programs

    put(yapf_api, 'FormatCode', lambda text, **_style: (text, True))
    put(runner, 'collect_env', functools.cache(runner.collect_env))
    put(utils, 'load', functools.cache(utils.load))
    put(context, '_DEFAULT_START_METHOD', programs.CONTEXT.get_start_method())
    put(base_dataset, 'gc', types.SimpleNamespace(collect=lambda: 0))
