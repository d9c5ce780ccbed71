"""ZeRO-1: an optimizer whose state is spread over two gloo processes steps, saves and resumes as one that is not."""

from types import SimpleNamespace

import pytest
import torch

from mtl_plugins.engine import MultiTaskOptimWrapper, running
from mtl_plugins.engine.hooks.look_aheads import LookAheads
from mtl_plugins.engine.optim_wrappers import AdaTaskOptimWrapper
from mtl_plugins.runtime.hooks import RNGStateHook
from tests.support.runs import differences
from tests.support.two_ranks import launch

from .toy import make_model
from .zero_worker import METHODS, job


class Spread(torch.optim.SGD):
    """Looks like an optimizer whose state is spread."""

    def consolidate_state_dict(self, to=0):
        raise AssertionError('a collective call in the wrong place')


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('zero')
    return launch(job, folder, folder)


@pytest.mark.parametrize('key', METHODS)
def test_steps_saves_and_resumes_are_those_of_the_whole_optimizer(ranks, key):
    whole = ranks[0][key, 'whole']
    for way in ('torch', 'mmengine'):
        first, second = (rank[key, way] for rank in ranks)
        assert torch.equal(first['end'], second['end'])
        assert torch.equal(first['end'], whole['end'])
        assert torch.equal(first['resumed'], first['end'])
        assert torch.equal(second['resumed'], second['end'])
        assert differences(first['moments'], whole['moments']) == []
        assert 0 < first['held'] < whole['held']
        assert first['held'] + second['held'] == whole['held']
        assert 'spread over the processes: call gather_state() of the optimizer wrapper' in first['early']


def test_what_cannot_work_with_it_is_refused(monkeypatch):
    model = make_model()
    with pytest.raises(TypeError, match='one gradient per task, which Spread does not hand on'):
        AdaTaskOptimWrapper(Spread(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match=r'looking ahead takes steps .* which Spread does not offer'):
        LookAheads(model, MultiTaskOptimWrapper(Spread(model.parameters(), lr=0.1)), ['tag'])
    wrapper = MultiTaskOptimWrapper(Spread(model.parameters(), lr=0.1))
    runner = SimpleNamespace(hooks=[], cfg={}, train_dataloader=None)
    monkeypatch.setattr(running, 'runner_around', lambda: runner)
    monkeypatch.setattr(running, 'prepare_weightings', lambda *arguments: None)
    monkeypatch.setattr(running, 'warn_of_unused_settings', lambda *arguments: None)
    monkeypatch.setattr(running, 'get_world_size', lambda: 2)
    with pytest.raises(ValueError, match=r"nobody gathers it .* add dict\(type='mtl_plugins.RNGStateHook'\)"):
        running.prepare_wrapper(wrapper, model)
    runner.hooks = [RNGStateHook()]
    running.prepare_wrapper(wrapper, model)
    assert wrapper.saves_are_announced
