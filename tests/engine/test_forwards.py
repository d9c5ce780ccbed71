"""The forwards of a batch: which is made anew, what surrounds it, and that nothing of it stays behind."""

import contextlib
import itertools

import pytest
import torch
from torch import nn

from mtl_plugins.engine import MultiTaskOptimWrapper
from mtl_plugins.engine.step.batch_norm import batch_norms, frozen_statistics
from mtl_plugins.engine.step.capture import ForwardCapture
from mtl_plugins.engine.step.closure import ForwardPolicy, TaskClosure
from mtl_plugins.engine.step.losses import LossTable
from mtl_plugins.engine.step.noise import NoiseState
from mtl_plugins.engine.step.parameters import ParameterTable
from mtl_plugins.engine.step.precision import Precision

from .toy import TASKS, make_model, toy_batch

CPU = torch.device('cpu')


def policy_of(model, **kwargs):
    return ForwardPolicy(
        model, LossTable(TASKS), Precision(kwargs.pop('precision', 'fp32')), ParameterTable(model), **kwargs
    )


def captured(policy, request=None, grad=True):
    """What a wrapper hands to its strategy: the forward of ``train_step`` and the closure that goes on from there."""
    capture = ForwardCapture(policy.losses)
    with policy.forward_context(request, grad=True, first=True), capture.watch(policy.model, CPU):
        policy.model(**toy_batch(0), mode='loss')
    return TaskClosure(policy, capture.take(), request, grad)


SUBSETS = [None, (), ('a',), ('a', 'b'), TASKS]


@pytest.mark.parametrize('request_', [subset for subset in SUBSETS if subset != ()])
@pytest.mark.parametrize('active', SUBSETS)
def test_the_first_forward_serves_whom_it_can(request_, active):
    """It is used at most once, by a measurement, or by a step on tasks that all have a graph in it."""
    for grad, first_grad in itertools.product([True, False], repeat=2):
        # Models that give idle heads a graph all the same are measured alike.
        model = make_model(idle_without_graph=grad)
        closure = captured(policy_of(model), request_, first_grad)
        assert closure.num_forwards == 1
        losses = closure(active, grad=grad)
        enough = request_ is None or (active is not None and set(active) <= set(request_))
        assert closure.num_forwards == (1 if not grad or (first_grad and enough) else 2)
        wanted = set() if not grad else set(TASKS) if active is None else set(active)
        assert {task for task, loss in losses.items() if loss.requires_grad} == wanted
        assert set(losses) == set(TASKS)
        forwards = closure.num_forwards
        again = closure(active, grad=grad)
        assert closure.num_forwards == forwards + 1
        assert all(torch.equal(again[task], losses[task]) for task in TASKS)


def surroundings(model):
    """What forwards may change and have to bring back."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    return dict(
        grad=torch.is_grad_enabled(),
        autocast=torch.is_autocast_enabled('cpu'),
        active=model._active,
        tracking=[layer.track_running_stats for layer in layers],
        hooks=(len(model._forward_hooks), len(model._forward_pre_hooks)),
        noise=torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize('fails', [False, True])
def test_nothing_stays_behind_after_a_forward_or_an_error_in_it(fails):
    class Failure(Exception):
        pass

    model = make_model(batch_norm=True, dropout=0.3)
    closure = captured(policy_of(model, precision='bf16', same_noise=True))
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    before, inside = surroundings(model), []

    def look(*_):
        inside.append(surroundings(model))
        if fails:
            raise Failure

    model.backbone[0].register_forward_pre_hook(look)
    for _ in range(2):
        closure._first = None
        try:
            closure(('a',), grad=False)
        except Failure:
            assert fails
    assert surroundings(model) == before
    assert len(inside) == 2
    for seen in inside:
        assert (seen['grad'], seen['autocast'], seen['active']) == (False, True, ('a',))
        assert not any(seen['tracking'])
        assert seen['noise'] == inside[0]['noise'] != before['noise']
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in model.named_buffers())


def test_layers_that_do_not_follow_the_batch_are_left_alone():
    """One in eval mode moves nothing anyway, and one without statistics must not get some."""
    layers = nn.ModuleList([nn.BatchNorm2d(2), nn.BatchNorm2d(2).eval(), nn.BatchNorm2d(2, track_running_stats=False)])
    found = batch_norms(layers)
    assert found == list(layers[:2])
    with frozen_statistics(found):
        assert [layer.track_running_stats for layer in layers] == [False, True, False]
        for layer in layers:
            layer(torch.randn(4, 2, 3, 3))
    assert [layer.track_running_stats for layer in layers] == [True, True, False]
    assert [layer.training for layer in layers] == [True, False, True]
    assert int(layers[0].num_batches_tracked) == 0


def test_replayed_noise_is_the_same_and_the_outer_stream_goes_on():
    torch.manual_seed(3)
    state = NoiseState(CPU)
    first = torch.rand(4)
    torch.rand(1)  # the stream has gone on since
    outer = torch.get_rng_state()
    for _ in range(2):
        with contextlib.suppress(KeyError), state.replay():
            assert torch.equal(torch.rand(4), first)
            raise KeyError
        assert torch.equal(torch.get_rng_state(), outer)
    state.restore()
    assert torch.equal(torch.rand(4), first)


def test_so_is_that_of_the_device(monkeypatch):
    streams = {'cuda:1': 7}
    monkeypatch.setattr(torch.cuda, 'get_rng_state', lambda device: streams[str(device)])
    monkeypatch.setattr(torch.cuda, 'set_rng_state', lambda stream, device: streams.update({str(device): stream}))
    state = NoiseState(torch.device('cuda:1'))
    streams['cuda:1'] = 9
    with state.replay():
        assert streams['cuda:1'] == 7
        streams['cuda:1'] = 8
    assert streams['cuda:1'] == 9


@pytest.mark.parametrize('same_noise', [True, False])
def test_only_a_policy_of_the_same_noise_replays_it(same_noise):
    model = make_model(dropout=0.5)
    torch.manual_seed(5)
    closure = captured(policy_of(model, same_noise=same_noise))
    losses = [closure(grad=False)['a'].item() for _ in range(3)]
    assert (len(set(losses)) == 1) == same_noise
    # The forward that replaces the one of `train_step` repeats it in either case: its losses are in the log.
    torch.manual_seed(5)
    repeated = captured(policy_of(model, same_noise=same_noise), ('a',))
    assert repeated(('b',))['a'].item() == losses[0]
    assert repeated.num_forwards == 2


def test_capture_watches_the_losses_only_and_hands_them_out_once():
    model = make_model()
    capture = ForwardCapture(LossTable())
    with capture.watch(model, CPU):
        free = model(**toy_batch(1), mode='tensor')
        assert all(value.requires_grad for key, value in free.items() if 'loss' in key), 'other modes are not touched'
        shown = model(**toy_batch(0), mode='loss')
    assert set(shown) == {f'{task}.loss' for task in TASKS}, 'counts are no losses and are not logged'
    assert not any(value.requires_grad for value in shown.values())
    taken = capture.take()
    assert all(taken.loss_dict[key].requires_grad and torch.equal(taken.loss_dict[key], shown[key]) for key in shown)
    with pytest.raises(RuntimeError, match='without a model'):
        capture.take()


def test_a_wrapper_meets_its_model_once():
    """What is known of it outlives a step."""
    model = make_model()
    wrapper = MultiTaskOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    seen = set()
    for number in range(2):
        model.train_step(toy_batch(number), wrapper)
        seen.add(id(wrapper.policy))
    assert len(seen) == 1
    assert wrapper.policy.parameters.seen == set(TASKS)


def test_losses_of_an_earlier_forward_are_not_taken_for_those_of_this_one():
    model = make_model()
    wrapper = MultiTaskOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        model(**toy_batch(0), mode='loss')
    with wrapper.optim_context(model):
        pass
    with pytest.raises(RuntimeError, match='without a model'):
        wrapper.update_params(torch.ones(()))


@pytest.mark.parametrize('output', [torch.ones(()), [torch.ones(())], None])
def test_a_model_that_returns_no_dict_is_refused(output):
    model = make_model()
    model.forward = lambda *args, **kwargs: output
    capture = ForwardCapture(LossTable())
    with (
        capture.watch(model, CPU),
        pytest.raises(TypeError, match=f'dict of losses .*, but got {type(output).__name__}'),
    ):
        model(mode='loss')


def test_the_log_gets_every_loss_without_graph_and_no_count():
    weight = torch.ones((), requires_grad=True)
    out = LossTable().detached(
        {'a.loss': weight * 2, 'b.losses': [weight * 3, 4.0], 'b.acc': weight * 5, 'a.num_valid': weight}
    )
    assert list(out) == ['a.loss', 'b.losses', 'b.acc']
    values = [out['a.loss'], *out['b.losses'], out['b.acc']]
    assert [value.item() for value in values] == [2.0, 3.0, 4.0, 5.0]
    assert not any(value.requires_grad for value in values)
