"""What MMEngine does in every run, takes longer than a tiny training, and is not what the tests are about."""

import functools


def take(put=setattr):
    """Leave the Python text of configs, which every checkpoint and log has, unformatted; look at the machine once."""
    from mmengine.runner import runner
    from yapf.yapflib import yapf_api

    put(yapf_api, 'FormatCode', lambda text, **_style: (text, True))
    put(runner, 'collect_env', functools.cache(runner.collect_env))
