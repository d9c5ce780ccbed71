"""What MMEngine does in every run, takes longer than a tiny training, and is not what the tests are about."""

import functools


def take(put=setattr):
    """Leave the Python text of configs unformatted, and look at the machine and for a base of MMSegmentation once."""
    from mmengine.config import utils
    from mmengine.runner import runner
    from yapf.yapflib import yapf_api

    put(yapf_api, 'FormatCode', lambda text, **_style: (text, True))
    put(runner, 'collect_env', functools.cache(runner.collect_env))
    put(utils, 'load', functools.cache(utils.load))
