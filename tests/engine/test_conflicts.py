"""The gradients of the tasks beside the training: right products, nothing disturbed, several ranks, absent tasks."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper

from mtl_plugins.engine.hooks import GradientConflictHook
from mtl_plugins.engine.hooks.conflicts import _scalars
from mtl_plugins.engine.hooks.task_grams import GramProbe
from mtl_plugins.runtime.hooks.rng_state import get_rng_state
from tests.support.runs import differences
from tests.support.two_ranks import launch

from .all_methods import ROWS, build
from .ddp_conflicts import CASES, job, products
from .toy import TASKS, flat, join, make_model, toy_batch

LAYERS = ['backbone.0', 'backbone.4']


def hand_made(model, batch, autocast=None):
    """Products of whole-backbone gradients, by three backwards."""
    data = model.data_preprocessor(batch, True)
    with torch.autocast('cpu', dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        losses = model(**data, mode='loss')
    rows = []
    for task in TASKS:
        gradients = torch.autograd.grad(losses[f'{task}.loss'], model.backbone.parameters(), retain_graph=True)
        rows.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    rows = torch.stack(rows).double()
    return rows @ rows.T


class Scalars(dict):
    def add_scalars(self, values, step):
        self[step] = values


def train(folder, key, hook, batches, **settings):
    """Train the toy model; returns all that the hook must leave alone."""
    model = make_model(batch_norm=True, dropout=0.3)
    wrapper = build(key, model, **settings) if key else OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    visualizer = Scalars()
    runner = SimpleNamespace(
        optim_wrapper=wrapper,
        model=model,
        iter=0,
        log_dir=str(folder / 'log'),
        work_dir=str(folder),
        logger=logging.getLogger('test'),
        visualizer=visualizer,
    )
    torch.manual_seed(7)
    if hook:
        hook.before_train(runner)
    for batch in batches:
        if hook:
            hook.before_train_iter(runner, runner.iter, batch)
        model.train_step(batch, wrapper)
        runner.iter += 1
    if hook:
        hook.after_train(runner)
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    state = dict(model=model.state_dict(), gradients=gradients, wrapper=wrapper.state_dict(), rng=get_rng_state())
    return state, visualizer


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_the_products_are_those_of_the_gradients(precision):
    model, batch = make_model(), toy_batch(0, invalid=0.3)
    found = GramProbe(model, build('gd', model, precision=precision)).measure(batch)
    assert list(found) == LAYERS
    dtype = dict(fp32=None, bf16=torch.bfloat16, fp16=torch.float16)[precision]
    expected = hand_made(model, batch, dtype)
    # Backward sums of half precision depend on the factor in front of them.
    tolerance = 1e-6 if precision != 'fp16' else 1e-2
    torch.testing.assert_close(sum(found.values()), expected, rtol=tolerance, atol=tolerance * float(expected.max()))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_parameter_beside_the_parts_of_a_module_is_a_layer():
    model = make_model()
    model.backbone.factor = torch.nn.Parameter(torch.ones(()))
    model.shift = torch.nn.Parameter(torch.zeros(()))
    model.backbone.register_forward_hook(lambda module, inputs, out: out * module.factor + model.shift)
    found = GramProbe(model, build('gd', model)).measure(toy_batch(0))
    assert set(found) == {*LAYERS, 'backbone.factor', 'shift'}


def test_plain_mmengine_wrappers_name_no_tasks():
    model, batch = make_model(), toy_batch(0)
    probe = GramProbe(model, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    torch.testing.assert_close(sum(probe.measure(batch).values()), hand_made(model, batch))
    assert probe.tasks == TASKS


@pytest.mark.parametrize('key', [None, *ROWS])
def test_watching_changes_nothing(tmp_path, key):
    batches = [toy_batch(0), toy_batch(1, tasks=('a', 'c')), toy_batch(2, invalid=0.3), toy_batch(3)]
    watched, _ = train(tmp_path, key, GradientConflictHook(interval=1), batches)
    plain, _ = train(tmp_path, key, None, batches)
    assert differences(watched, plain) == []
    assert len((tmp_path / 'log' / 'conflicts.jsonl').read_text().splitlines()) == 4


@pytest.mark.parametrize('settings', [dict(precision='bf16'), dict(precision='fp16'), dict(accumulative_counts=2)])
def test_watching_changes_nothing_in_any_precision(tmp_path, settings):
    batches = [toy_batch(number) for number in range(4)]
    watched, _ = train(tmp_path, 'stgu', GradientConflictHook(interval=1), batches, **settings)
    plain, _ = train(tmp_path, 'stgu', None, batches, **settings)
    assert differences(watched, plain) == []


def test_the_log(tmp_path):
    batches = [toy_batch(0), toy_batch(1), toy_batch(2, tasks=('a', 'c')), toy_batch(3), toy_batch(4, tasks=())]
    _, scalars = train(tmp_path, 'gd', GradientConflictHook(interval=2), batches)
    entries = [json.loads(line) for line in (tmp_path / 'log' / 'conflicts.jsonl').read_text().splitlines()]
    assert [entry['iter'] for entry in entries] == [0, 2]  # in the last batch there is nothing to measure
    assert entries[0]['tasks'] == list(TASKS)
    assert list(entries[0]['gram']) == ['backbone.0', 'backbone.1', 'backbone.4']
    aa, ab, ac, bb, bc, cc = (sum(values) for values in zip(*entries[0]['gram'].values()))
    assert min(aa, bb, cc) > 0
    assert scalars[0]['cosine/a|b'] == pytest.approx(ab / (aa * bb) ** 0.5, rel=1e-4)
    negative = sum(product < 0 for product in (ab, ac, bc))
    assert scalars[0]['conflict_rate'] == pytest.approx(negative / 3)
    for values in entries[1]['gram'].values():
        assert [value is None for value in values] == [False, True, False, True, True, False]
    assert set(scalars[2]) == {'cosine/a|c', 'conflict_rate'}


def test_gradients_at_a_right_angle_are_in_no_conflict():
    products = {
        'a layer': torch.tensor([[1.0, 0.5, -1.0], [0.5, 4.0, 0.0], [-1.0, 0.0, 9.0]]),
        'another': torch.tensor([[1.0, -0.5, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    }
    scalars = _scalars(('a', 'b', 'c'), products)
    assert scalars == pytest.approx(
        {'cosine/a|b': 0, 'cosine/a|c': -1 / 18**0.5, 'cosine/b|c': 0, 'conflict_rate': 1 / 3}
    )


def test_a_task_that_is_not_finite_is_left_out():
    model, batch = make_model(), toy_batch(0)
    batch['targets']['b'].fill_(float('inf'))
    (found, _) = GramProbe(model, build('gd', model)).measure(batch).values()
    assert torch.isfinite(found).tolist() == [[True, False, True], [False] * 3, [True, False, True]]


def test_the_batch_stays_as_it_is():
    class Padding(torch.nn.Module):
        def forward(self, data, training=False):
            data['inputs'].add_(1)
            return data

    model, batch = make_model(), toy_batch(0)
    model.data_preprocessor = Padding()
    before = batch['inputs'].clone()
    GramProbe(model, build('gd', model)).measure(batch)
    assert torch.equal(batch['inputs'], before)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return launch(job, tmp_path_factory.mktemp('ddp'))


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('key', ['plain', 'stgu'])
def test_two_ranks_equal_the_joint_batch(ranks, case, key):
    first, second = (rank[key, case] for rank in ranks)
    assert differences(first, second) == []
    model = make_model()
    kinds = CASES[case]
    expected = products(model, key, join(*(toy_batch(rank, **kinds[rank]) for rank in range(2))))
    assert first['tasks'] == expected['tasks']
    assert first['gram'].keys() == expected['gram'].keys()
    for layer, matrix in expected['gram'].items():
        torch.testing.assert_close(first['gram'][layer], matrix, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_two_ranks_train_as_without_the_hook(ranks):
    for rank in ranks:
        assert torch.equal(rank['watched'], rank['alone'])
    assert not torch.equal(ranks[0]['watched'], flat(make_model()))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r'GradientConflictHook\.interval must be an integer >= 1, but got 0'):
        GradientConflictHook(interval=0)
