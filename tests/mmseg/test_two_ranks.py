"""Existing models on two gloo ranks."""

import pytest

from tests.support.two_ranks import launch

from .tiny import METHODS, NOISE, PATHS, differences, run_on_two_ranks, small_config, without_validation
from .two_rank_cases import EVERYDAY, LATER, SETTINGS, job

pytestmark = [pytest.mark.filterwarnings(line) for line in NOISE]
CASES = (*EVERYDAY, *(pytest.param(case, marks=pytest.mark.slow) for case in LATER))


@pytest.fixture(scope='module')
def ranks(tmp_path_factory, request):
    """What both ranks found for the cases that this run has selected."""
    here = [item for item in request.session.items if item.path == request.path and hasattr(item, 'callspec')]
    later = sorted({item.callspec.params.get('case') for item in here} & set(LATER))
    return launch(job, tmp_path_factory.mktemp('ranks'), *EVERYDAY, *later)


def of_weights(names):
    return [name for name in names if not name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))]


@pytest.mark.parametrize('case', CASES)
def test_gd_equals_stock_ddp(ranks, case):
    """Buffers included: each rank's own, or with ``broadcast_buffers`` those that DDP hands out."""
    for found in ranks:
        assert differences(found[case, None], found[case, 'gd']) == []


@pytest.mark.parametrize('case', CASES)
def test_ranks_agree(ranks, case):
    methods = [method for name, method in ranks[0] if name == case]
    assert len(methods) >= 3
    for method in methods:
        assert of_weights(differences(ranks[0][case, method], ranks[1][case, method])) == []


def test_settings_of_ddp_change_nothing_but_buffers(ranks):
    for method in ('gd', 'stgu'):
        for setting in SETTINGS:
            assert of_weights(differences(ranks[0]['plain', method], ranks[0][setting, method])) == []


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('name', PATHS)
def test_from_the_command_line(name, method, tmp_path):
    """The full models; the hook compares the weights of both ranks after every iteration."""
    cfg = small_config(name, tmp_path / 'run', method=method, size=(64, 64), shrink=False)
    cfg.custom_hooks = [dict(type='mtl_plugins.RankSyncCheckHook', interval=1)]
    assert len(run_on_two_ranks(cfg)['optimizer']['mtl']['tasks']) == 2


@pytest.mark.slow
@pytest.mark.parametrize('name', PATHS)
def test_gd_equals_the_plain_wrapper_after_20_iterations(name, tmp_path):
    states = []
    for method in (None, 'gd'):
        cfg = small_config(name, tmp_path / str(method), 20, method=method, size=(64, 64), shrink=False)
        states.append(run_on_two_ranks(without_validation(cfg), seconds=900)['state_dict'])
    assert differences(*states) == []
