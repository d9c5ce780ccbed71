"""Steps that are tried and taken back: what they measure, against a slow version; and that nothing remains of them."""

import copy
import itertools
import json
import shlex

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper

from mtl_plugins.cli.parsers.group_tasks import build_parser
from mtl_plugins.config import build_runner
from mtl_plugins.engine.hooks import LookAheadHook
from mtl_plugins.engine.hooks.look_ahead import price_line
from mtl_plugins.engine.hooks.look_aheads import KINDS, LookAheads, count_steps
from mtl_plugins.engine.step.guards import bare_model
from mtl_plugins.errors import UserError
from mtl_plugins.runtime.hooks.rng_state import get_rng_state
from tests.support.runs import differences, state_of, tiny_config
from tests.support.two_ranks import launch

from .all_methods import CASES, ROWS, build, read_fragment
from .ddp_worker import wrap
from .toy import TASKS, join, make_model, toy_batch

OPTIMIZERS = {
    'sgd': lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2),
    'adam': lambda model: torch.optim.Adam(model.parameters(), lr=1e-2),
}


def trained(optimizer, clip_grad=None):
    """A model whose optimizer has moments."""
    # Adam makes much of the rounding in the gradient of a bias before BatchNorm, which is zero.
    model = make_model(batch_norm=optimizer == 'sgd', dropout=0.3)
    wrapper = OptimWrapper(OPTIMIZERS[optimizer](model), clip_grad=clip_grad)
    for number in range(2):
        torch.manual_seed(number)
        model.train_step(toy_batch(number), wrapper)
    return model, wrapper


def slow(model, wrapper, batch, tasks, own, training):
    """Losses of all tasks after a step for ``tasks``, on copies of model and optimizer."""
    model, state = copy.deepcopy(model), wrapper.optimizer.state_dict()
    optimizer = type(wrapper.optimizer)(model.parameters(), lr=1.0)
    optimizer.load_state_dict(copy.deepcopy(state))
    torch.manual_seed(5)
    losses = model(**batch, mode='loss')
    loss = sum(losses[f'{task}.loss'] for task in tasks)
    allowed = [*model.backbone.parameters(), *(p for task in tasks for p in model.heads[task].parameters() if own)]
    optimizer.zero_grad()
    loss.backward(inputs=allowed)
    if wrapper.clip_grad_kwargs:
        torch.nn.utils.clip_grad_norm_(allowed, **wrapper.clip_grad_kwargs)
    optimizer.step()
    model.train(training)
    torch.manual_seed(5)
    return losses_of(model, batch)


def losses_of(model, batch):
    with torch.no_grad():
        return torch.stack([value.double() for name, value in model(**batch, mode='loss').items() if 'loss' in name])


@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=0.05)])
@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_the_gains_are_those_of_steps_on_copies(optimizer, clip_grad):
    model, wrapper = trained(optimizer, clip_grad)
    batch = toy_batch(7)
    torch.manual_seed(5)
    found = LookAheads(model, wrapper, KINDS).measure(batch)
    before = copy.deepcopy(model)
    torch.manual_seed(5)
    start = losses_of(before, batch)
    for u, task in enumerate(TASKS):
        for kind, own, factor in (('tag', False, wrapper.optimizer.param_groups[0]['lr']), ('proximal', True, 1.0)):
            expected = (1 - slow(model, wrapper, batch, [task], own, True) / start) / factor
            torch.testing.assert_close(found[kind][u], expected, rtol=1e-4, atol=1e-6)
    for (i, one), (j, other) in itertools.permutations(enumerate(TASKS), 2):
        together, alone = (slow_in_evaluation(model, wrapper, batch, tasks) for tasks in ([one, other], [other]))
        torch.testing.assert_close(found['ptg'][i, j], 1 - together[j] / alone[j], rtol=1e-3, atol=1e-6)
    assert found['ptg'].diagonal().tolist() == [0, 0, 0]


def test_the_rate_is_that_of_the_shared_parameters():
    found = []
    for groups in (
        lambda model: model.parameters(),
        lambda model: [dict(params=model.heads.parameters(), lr=3.0), dict(params=model.backbone.parameters())],
    ):
        model = make_model()
        wrapper = OptimWrapper(torch.optim.SGD(groups(model), lr=0.1))
        found.append(LookAheads(model, wrapper, ['tag']).measure(toy_batch(7))['tag'])
    torch.testing.assert_close(*found)


def slow_in_evaluation(model, wrapper, batch, tasks):
    """As :func:`slow`, in evaluation mode, with the running statistics of before the step."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    return slow(model, wrapper, batch, tasks, True, False)


ADA_TASK = read_fragment('ada_task')
LATER = dict(
    type='mtl_plugins.SwitchOptimWrapper',
    strategies=[dict(type='mtl_plugins.MultiTaskOptimWrapper'), dict(type=ADA_TASK['type'])],
    at=1,
    optimizer=ADA_TASK['optimizer'],
)


@pytest.mark.parametrize('method', ['ada_task', LATER], ids=['', 'in a schedule'])
@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=0.05)])
def test_ada_task_looks_ahead_with_the_moments_of_the_task(clip_grad, method):
    """A step for one task is the training's step on a batch that has that task only."""
    model = make_model()
    wrapper = build(method, model, tasks=TASKS, clip_grad=clip_grad)
    for number in range(2):
        model.train_step(toy_batch(number), wrapper)
    batch, start = toy_batch(7), losses_of(model, toy_batch(7))
    wrapper.optimizer.record_updates = True
    found = LookAheads(model, wrapper, ['proximal', 'ptg']).measure(batch)
    assert wrapper.optimizer.update_squares == {}
    after = {}
    for tasks in (('a',), ('b',), ('a', 'b')):
        other = copy.deepcopy(model)
        stepped = build(method, other, tasks=TASKS, clip_grad=clip_grad)
        stepped.load_state_dict(copy.deepcopy(wrapper.state_dict()))
        other.train_step(toy_batch(7, tasks=tasks), stepped)
        after[tasks] = losses_of(other, batch)
    torch.testing.assert_close(found['proximal'][0], 1 - after['a',] / start, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found['ptg'][0, 1], (1 - after['a', 'b'] / after['b',])[1], rtol=1e-3, atol=1e-6)


def test_the_cosines_are_those_of_the_gradients():
    model, wrapper = trained('sgd')
    torch.manual_seed(5)
    found = LookAheads(model, wrapper, ['cosine']).measure(toy_batch(7))['cosine']
    torch.manual_seed(5)
    losses = model(**toy_batch(7), mode='loss')
    rows = torch.stack(
        [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(losses[f'{t}.loss'], model.backbone.parameters(), retain_graph=True)
                ]
            )
            for t in TASKS
        ]
    ).double()
    rows = torch.nn.functional.normalize(rows, dim=1)
    torch.testing.assert_close(found, rows @ rows.T, rtol=1e-5, atol=1e-6)


class Runner:
    """What the hook needs of a Runner."""

    def __init__(self, folder, model, wrapper):
        self.optim_wrapper, self.model, self.work_dir = wrapper, model, str(folder)
        self.iter, self.world_size, self.train_dataloader, self._resume = 0, 1, None, True
        self.logger = self
        self.lines = []

    def info(self, text):
        self.lines.append(text)


def run(folder, model, wrapper, hook, batches, trained_model=None):
    """Train; all that must not depend on the hook."""
    runner = Runner(folder, model, wrapper)
    torch.manual_seed(7)
    if hook:
        hook.before_train(runner)
    for batch in batches:
        if hook:
            hook.before_train_iter(runner, runner.iter, batch)
        (trained_model or model).train_step(batch, wrapper)
        runner.iter += 1
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    return dict(
        model=model.state_dict(), modes=modes, grad=gradients, wrapper=wrapper.state_dict(), rng=get_rng_state()
    )


@pytest.mark.parametrize('key', [None, *ROWS])
def test_nothing_remains(tmp_path, key):
    states = []
    for hook in (LookAheadHook(KINDS), None):
        model = make_model(batch_norm=True, dropout=0.3)
        wrapper = build(key, model) if key else OptimWrapper(OPTIMIZERS['adam'](model))
        if key != 'ada_task':
            wrapper.optimizer = OPTIMIZERS['adam'](model)
        batches = [toy_batch(0), toy_batch(1, tasks=('a', 'c')), toy_batch(2, tasks=()), toy_batch(3, invalid=0.3)]
        if hook:
            hook.interval = 1
        states.append(run(tmp_path, model, wrapper, hook, batches if key else batches[:2]))
    assert differences(*states) == []


@pytest.mark.parametrize('settings', [dict(precision='bf16'), dict(precision='fp16'), dict(accumulative_counts=2)])
def test_nothing_remains_in_any_precision(tmp_path, settings):
    states = []
    for hook in (LookAheadHook(KINDS, interval=1), None):
        model = make_model(batch_norm=True, dropout=0.3)
        states.append(run(tmp_path, model, build('stgu', model, **settings), hook, [toy_batch(n) for n in range(4)]))
    assert differences(*states) == []


def test_nothing_remains_in_a_real_run(tmp_path):
    """Drop-path, Adam with schedules, and a moving average of the weights."""
    states = []
    for number, watch in enumerate((True, False)):
        cfg = tiny_config(tmp_path / str(number), tmp_path / 'cache', 'gd', **{'train_cfg.max_iters': 6})
        runner = build_runner(cfg)
        runner.register_hook(EMAHook())
        if watch:
            runner.register_hook(LookAheadHook(['tag', 'ptg'], interval=2))
        runner.train()
        states.append(
            dict(
                state_of(runner), average=next(h for h in runner.hooks if isinstance(h, EMAHook)).ema_model.state_dict()
            )
        )
    assert differences(*states) == []
    written = json.loads((tmp_path / '0' / 'task_gains.json').read_text())
    assert written['settings']['measured'] == 3
    assert set(written['gains']) == {'tag', 'ptg'}


def on_two_ranks(rank, folder):
    """Maps of one batch, and the states of a run with and without."""
    case = CASES['task missing on one rank'][rank]
    model = make_model()
    model_in_ddp = wrap(model)
    maps = LookAheads(bare_model(model_in_ddp), OptimWrapper(OPTIMIZERS['sgd'](model)), KINDS).measure(
        toy_batch(rank, **case)
    )
    states = []
    for hook in (LookAheadHook(KINDS, interval=1), None):
        model = make_model(batch_norm=True, dropout=0.3)
        wrapped = wrap(model)
        batches = [toy_batch(rank + 10 * number, **case) for number in range(3)]
        states.append(run(folder, model, build('stgu', model, lr=1e-2), hook, batches, wrapped))
    return dict(maps=maps, changed=differences(*states))


def test_two_ranks(tmp_path):
    """The maps are those of the joint batch, and nothing remains."""
    first, second = launch(on_two_ranks, tmp_path, tmp_path)
    assert first['changed'] == second['changed'] == []
    assert differences(first['maps'], second['maps']) == []
    model = make_model()
    batch = join(*(toy_batch(rank, **CASES['task missing on one rank'][rank]) for rank in range(2)))
    expected = LookAheads(model, OptimWrapper(OPTIMIZERS['sgd'](model)), KINDS).measure(batch)
    for kind, values in expected.items():
        torch.testing.assert_close(first['maps'][kind], values, rtol=1e-3, atol=1e-5)


def test_a_resumed_run_goes_on_with_what_was_measured(tmp_path):
    def whole(hook, runner, numbers):
        for number in numbers:
            runner.iter = number
            hook.before_train_iter(runner, number, toy_batch(number, tasks=TASKS if number else ('a', 'b')))
        return hook

    model, wrapper = trained('sgd')
    runner = Runner(tmp_path, model, wrapper)
    reference, first, second = (LookAheadHook(['tag', 'cosine'], interval=2) for _ in range(3))
    for hook in (reference, first, second):
        hook.before_train(runner)
    checkpoint = {}
    torch.manual_seed(0)
    whole(reference, runner, range(6))
    torch.manual_seed(0)
    whole(first, runner, range(4)).before_save_checkpoint(runner, checkpoint)
    second.after_load_checkpoint(runner, copy.deepcopy(checkpoint))
    whole(second, runner, range(4, 6)).after_train(runner)
    written = json.loads((tmp_path / 'task_gains.json').read_text())
    reference.after_train(runner)
    assert written == json.loads((tmp_path / 'task_gains.json').read_text())
    assert written['tasks'] == list(TASKS)
    words = shlex.split(runner.lines[-1].partition('group_tasks.py ')[2])
    assert build_parser().parse_args(words).maps == tmp_path / 'task_gains.json'


def test_means_of_other_measurements_are_not_mixed(tmp_path):
    model, wrapper = trained('sgd')
    runner, checkpoint = Runner(tmp_path, model, wrapper), {}
    hook = LookAheadHook(['tag'], interval=2)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, toy_batch(0))
    hook.before_save_checkpoint(runner, checkpoint)
    for settings, name in ((dict(kinds=['tag', 'cosine'], interval=2), 'kinds'), (dict(kinds=['tag']), 'interval')):
        with pytest.raises(
            UserError, match=rf'LookAheadHook\.{name}: .* in the checkpoint, .* now; the means would mix'
        ):
            LookAheadHook(**settings).after_load_checkpoint(runner, copy.deepcopy(checkpoint))
    LookAheadHook(['cosine']).after_load_checkpoint(runner, {})  # of a run without it
    runner._resume = False
    LookAheadHook(['cosine']).after_load_checkpoint(runner, checkpoint)


def test_of_several_hooks_the_last_one_measures(tmp_path):
    """A config that has one can be given another, as ``group_tasks.py`` does; a resumed run goes on with that."""
    runner, checkpoint = Runner(tmp_path, *trained('sgd')), {}
    runner.hooks, runner.warning = [LookAheadHook(['tag']), LookAheadHook(['cosine'])], runner.info
    for hook in runner.hooks:
        hook.before_train(runner)
        hook.before_train_iter(runner, 0, toy_batch(0))
    for hook in runner.hooks:
        hook.before_save_checkpoint(runner, checkpoint)
        hook.after_load_checkpoint(runner, copy.deepcopy(checkpoint))
    assert [hook.measured for hook in runner.hooks] == [0, 1]
    assert list(json.loads((tmp_path / 'task_gains.json').read_text())['gains']) == ['cosine']
    assert 'LookAheadHook of tag: left out' in runner.lines[0]


def test_the_price_is_told():
    assert [count_steps(kinds, 5) for kinds in (['tag'], ['ptg'], ['cosine'], KINDS)] == [5, 15, 0, 25]
    line = price_line(['ptg'], 10, 5)
    assert '1 forward, 5 backwards and 15 forwards without graph each, memory for 5 gradients; about 0.87 x' in line


def test_absent_and_infinite_tasks_are_left_out():
    model, _ = trained('sgd')
    batch = toy_batch(0, tasks=('a', 'c'))
    batch['targets']['c'].fill_(float('inf'))
    probe = LookAheads(model, build('gd', model, tasks=TASKS), KINDS)
    assert probe.measure(toy_batch(0, tasks=('a',))) == {}  # nothing is known to be shared yet
    probe.measure(toy_batch(1))
    for kind, values in probe.measure(batch).items():
        assert torch.isfinite(values).tolist() == [[True, False, False], [False] * 3, [False] * 3], kind
    assert probe.measure(toy_batch(0, tasks=())) == {}


def test_nothing_remains_of_settings_that_an_optimizer_changes_when_it_steps():
    model, wrapper = trained('sgd')
    group = wrapper.optimizer.param_groups[0]
    before = copy.deepcopy({name: value for name, value in group.items() if name != 'params'})
    wrapper.optimizer.register_step_post_hook(lambda *_: group.update(lr=9.0, steps=group.get('steps', 0) + 1))
    LookAheads(model, wrapper, ['tag']).measure(toy_batch(7))
    assert {name: value for name, value in group.items() if name != 'params'} == before


def test_what_cannot_be_is_refused():
    model = make_model()
    for kinds in (['pairs'], ['tag', 'pairs'], [], 'tag', None):
        with pytest.raises(UserError, match=r'kinds must be some of .* but got'):
            LookAheads(model, build('gd', model), kinds)
    with pytest.raises(
        UserError, match=r"the checkpoint holds gains of the tasks \['b'\], this run has \['a', 'b', 'c'\]"
    ):
        LookAheads(model, build('gd', model, tasks=TASKS), ['tag']).expect(['b'])
    spread = OptimWrapper(OPTIMIZERS['sgd'](model))
    spread.optimizer.consolidate_state_dict = None
    with pytest.raises(UserError, match='which SGD does not offer'):
        LookAheads(model, spread, ['tag'])
    with pytest.raises(UserError, match=r'LookAheadHook.interval must be an integer >= 1, but got 0'):
        LookAheadHook(interval=0)
