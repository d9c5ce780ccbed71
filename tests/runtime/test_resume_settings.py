"""Resuming with another config: schedules and length apply, what the saved state would override is refused."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict

from mtl_plugins.errors import UserError
from mtl_plugins.runtime.checkpoints import ResumeMismatchError, stock_resume, why_not_resumable
from mtl_plugins.runtime.checkpoints.newest import NoLoadableCheckpointError
from tests.engine.all_methods import build
from tests.engine.toy import make_model

from . import stock
from .safety import DropoutModel, build_runner, release, strict_load
from .stock import build_stock, run_stock

ADAM = dict(optimizer=dict(type='Adam', lr=0.01))
SGD = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
PARTS = dict(ADAM, paramwise_cfg=dict(bias_lr_mult=2.0))
TASK = dict(type='mtl_plugins.MultiTaskOptimWrapper', tasks=dict(one='loss'))
CAGRAD = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='CAGrad'),
    tasks=dict(one='loss'),
    optimizer=dict(type='Adam', lr=0.5),
)


def poly(end, **options):
    return dict(type='PolyLR', by_epoch=False, begin=2, end=end, **options)


def step(kind, **options):
    return dict(type=kind, by_epoch=False, **options)


def warmup(end=2):
    return dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=end)


def iterations(number):
    return dict(type='IterBasedTrainLoop', max_iters=number, val_interval=1000)


def epochs(number):
    return dict(type='EpochBasedTrainLoop', max_epochs=number, val_interval=1000)


class Rates(Hook):
    """Remembers what schedules change, at each iteration."""

    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        keys = ('lr', 'momentum', 'betas', 'weight_decay')
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        groups = [group for part in wrappers for group in part.param_groups]
        self.seen[runner.iter] = [{key: group[key] for key in keys if key in group} for group in groups]


class Log(Hook):
    """Collects what the Runner's logger is told while a checkpoint is loaded."""

    def __init__(self):
        self.lines = []

    def before_run(self, runner):
        runner.logger.warning = lambda text, *_: self.lines.append(text)


def train(folder, resume_from=None, **options):
    """Train; returns the rates of all iterations and the lines of the log."""
    rates, log = Rates(), Log()
    checkpoint = options.pop('checkpoint', dict(interval=1, by_epoch=False))
    runner = build_runner(folder, hooks=[rates, log], resume_from=resume_from, checkpoint=checkpoint, **options)
    try:
        runner.train()
    finally:
        release(runner)
    return rates.seen, [line for line in log.lines if line.startswith('Resuming')]


def without_settings(path):
    """Make a checkpoint one of a version that did not store its settings."""
    checkpoint = strict_load(path)
    checkpoint['meta'].pop('mtl_settings', None)
    checkpoint['optimizer'].get('mtl', {}).pop('settings', None)
    torch.save(checkpoint, path)


CASES = {
    'longer': (dict(param_scheduler=[warmup(), poly(6)]), dict(param_scheduler=[warmup(), poly(12)])),
    'shorter': (dict(param_scheduler=[warmup(), poly(12)]), dict(param_scheduler=[warmup(), poly(8)])),
    'power': (dict(param_scheduler=[poly(12)]), dict(param_scheduler=[poly(12, power=2.0, eta_min=1e-4)])),
    'T_max': tuple(
        dict(param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=False, T_max=end)]) for end in (6, 12)
    ),
    'milestones': tuple(
        dict(param_scheduler=[dict(type='MultiStepLR', by_epoch=False, milestones=at)]) for at in ([2, 9], [3, 8])
    ),
    'another type': (dict(param_scheduler=[poly(6)]), dict(param_scheduler=[step('StepLR', step_size=3)])),
    'one more': (dict(param_scheduler=[warmup()]), dict(param_scheduler=[warmup(), poly(12)])),
    'none before': (dict(param_scheduler=None), dict(param_scheduler=[poly(12)])),
    'none now': (dict(param_scheduler=[poly(6)]), dict(param_scheduler=None)),
    'one cycle': tuple(dict(param_scheduler=[step('OneCycleLR', eta_max=rate, total_steps=12)]) for rate in (0.1, 0.2)),
    'strategy of one cycle': tuple(
        dict(param_scheduler=[step('OneCycleLR', eta_max=0.1, total_steps=12, anneal_strategy=way)])
        for way in ('cos', 'linear')
    ),
    'restarts': tuple(
        dict(
            param_scheduler=[
                dict(type='CosineRestartLR', by_epoch=False, periods=at, restart_weights=[1, 0.5], eta_min=0.0)
            ]
        )
        for at in ([3, 9], [5, 7])
    ),
    'momentum': tuple(
        dict(optim_wrapper=SGD, param_scheduler=[warmup(), dict(type='LinearMomentum', by_epoch=False, end=end)])
        for end in (6, 9)
    ),
    'betas': tuple(
        dict(param_scheduler=[poly(12), dict(type='LinearMomentum', by_epoch=False, end=end)]) for end in (6, 9)
    ),
    'another parameter': tuple(
        dict(param_scheduler=[dict(type='LinearParamScheduler', param_name='weight_decay', by_epoch=False, end=end)])
        for end in (6, 9)
    ),
    'groups': tuple(dict(optim_wrapper=PARTS, param_scheduler=[warmup(), poly(end)]) for end in (6, 12)),
    'epochs': tuple(
        dict(train_cfg=epochs(3), param_scheduler=[dict(type='ExponentialLR', gamma=gamma), warmup(7)])
        for gamma in (0.5, 0.8)
    ),
    'epochs as iterations': tuple(
        dict(train_cfg=epochs(3), param_scheduler=[dict(type='PolyLR', end=end, convert_to_iter_based=True)])
        for end in (2, 3)
    ),
}
"""Name -> the settings of the run that stops and of the one that goes on."""


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('legacy', [False, True], ids=['', 'without settings'])
def test_schedules_of_the_config_apply_from_the_present_iteration_on(tmp_path, name, legacy):
    before, now = CASES[name]
    if legacy and name == 'strategy of one cycle':
        pytest.skip('a checkpoint of this schedule could not be written')
    by_epoch = 'train_cfg' in before
    length = {} if by_epoch else dict(train_cfg=iterations(12))
    shorter = {} if by_epoch else dict(train_cfg=iterations(6))
    saved = dict(sampler=dict(type='DefaultSampler', shuffle=True)) if by_epoch else {}
    checkpoint = dict(interval=1, by_epoch=by_epoch)
    expected, _ = train(tmp_path / 'whole', checkpoint=checkpoint, **{**length, **now, **saved})
    train(tmp_path / 'first', checkpoint=checkpoint, **{**shorter, **before, **saved})
    path = tmp_path / 'first' / ('epoch_1.pth' if by_epoch else 'iter_4.pth')
    if legacy:
        without_settings(path)
    found, lines = train(tmp_path / 'second', path, checkpoint=checkpoint, **{**length, **now, **saved})
    assert min(found) == (5 if by_epoch else 4)
    assert found == {iteration: expected[iteration] for iteration in found}
    assert max(found) == max(expected)
    (line,) = lines
    assert 'Resuming at iteration' in line
    assert 'param_scheduler' in line
    if not by_epoch:
        assert 'max_iters 6 -> 12' in line


class TestUnchanged:
    def test_nothing_is_said_and_the_rates_go_on(self, tmp_path):
        settings = dict(train_cfg=iterations(8), param_scheduler=[warmup(), poly(8)])
        expected, _ = train(tmp_path / 'whole', **settings)
        found, lines = train(tmp_path / 'second', tmp_path / 'whole' / 'iter_5.pth', **settings)
        assert found == {iteration: expected[iteration] for iteration in range(5, 8)}
        assert lines == []

    def test_the_length_alone(self, tmp_path):
        """The schedules have come to their end, which is what the config says."""
        settings = dict(param_scheduler=[poly(6)])
        train(tmp_path, train_cfg=iterations(6), **settings)
        found, lines = train(tmp_path, tmp_path / 'iter_6.pth', train_cfg=iterations(8), **settings)
        assert {group['lr'] for groups in found.values() for group in groups} == {0.0}
        assert lines == ['Resuming at iteration 6: max_iters 6 -> 8; the schedules are as before.']

    def test_nothing_is_left_to_do(self, tmp_path):
        train(tmp_path, train_cfg=iterations(4))
        found, lines = train(tmp_path, tmp_path / 'iter_4.pth', train_cfg=iterations(2), checkpoint=dict(interval=9))
        assert found == {}
        assert 'max_iters 4 -> 2' in lines[0]


def test_a_checkpoint_without_schedules_starts_none_anew(tmp_path):
    settings = dict(train_cfg=iterations(8), param_scheduler=[warmup(), poly(8)])
    without = dict(interval=1, by_epoch=False, save_param_scheduler=False)
    expected, _ = train(tmp_path / 'whole', **settings)
    train(tmp_path / 'first', checkpoint=without, **settings)
    found, lines = train(tmp_path / 'second', tmp_path / 'first' / 'iter_5.pth', **settings)
    assert found == {iteration: expected[iteration] for iteration in range(5, 8)}
    assert 'param_scheduler: none -> LinearLR, PolyLR' in lines[0]


def test_a_schedule_that_ends_before_the_present_iteration_is_refused(tmp_path):
    train(tmp_path, train_cfg=iterations(6), param_scheduler=[step('OneCycleLR', eta_max=0.1, total_steps=8)])
    short = [step('OneCycleLR', eta_max=0.1, total_steps=3)]
    with pytest.raises(ResumeMismatchError, match=r'total_steps 8 -> 3.* do not reach iteration 6: Tried to step'):
        train(tmp_path, tmp_path / 'iter_6.pth', train_cfg=iterations(8), param_scheduler=short)


class Renamed(DropoutModel):
    """As many parameters of the same shapes, one layer under another name."""

    def __init__(self):
        super().__init__()
        self.last = self.body[3]
        self.body = self.body[:3]

    def forward(self, inputs, target, mode='tensor'):
        return dict(loss=(self.last(self.body(inputs)).squeeze(1) - target).square().mean())


@pytest.mark.parametrize(
    ('model', 'said'),
    [
        (lambda: DropoutModel(width=4), r'model: body\.0\.weight has \(8, 6\) in the checkpoint, \(4, 6\) now'),
        (Renamed, r'model: no last\.weight in the checkpoint; model: no last\.bias in the checkpoint'),
    ],
)
def test_another_model_is_refused(model, said, tmp_path):
    """MMEngine loads what fits and goes on with random weights for the rest."""
    sgd = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)), param_scheduler=None)
    train(tmp_path, train_cfg=iterations(2), **sgd)
    with pytest.raises(ResumeMismatchError, match=said):
        train(tmp_path, tmp_path / 'iter_2.pth', train_cfg=iterations(4), model=model(), **sgd)


@pytest.mark.parametrize(
    ('name', 'place'), [('iter', 'x'), ('iter', -1), ('iter', None), ('epoch', 1.5), ('epoch', True)]
)
def test_a_checkpoint_that_does_not_tell_its_place_is_refused(name, place, tmp_path):
    sgd = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)), param_scheduler=None)
    train(tmp_path, train_cfg=iterations(2), **sgd)
    content = strict_load(tmp_path / 'iter_2.pth')
    content['meta'][name] = place
    torch.save(content, tmp_path / 'iter_2.pth')
    with pytest.raises(ResumeMismatchError, match=rf'meta\.{name}: {place!r} in the checkpoint, which is no number of'):
        train(tmp_path, tmp_path / 'iter_2.pth', train_cfg=iterations(4), **sgd)
    assert 'at which iteration' in why_not_resumable(tmp_path / 'iter_2.pth')


class TwoOptimizers(DropoutModel):
    def train_step(self, data, optim_wrapper):
        losses = self(**self.data_preprocessor(data, True), mode='loss')
        losses['loss'].backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
            wrapper.zero_grad()
        return losses


class TestSeveralOptimizers:
    def run(self, folder, iters, end, rate=0.1, resume_from=None):
        model, rates = TwoOptimizers(), Rates()
        parts = dict(first=(model.body[0], torch.optim.Adam, 0.01), last=(model.body[3], torch.optim.SGD, rate))
        wrappers = {name: OptimWrapper(kind(part.parameters(), lr=lr)) for name, (part, kind, lr) in parts.items()}
        runner = build_runner(
            folder,
            model=model,
            optim_wrapper=OptimWrapperDict(**wrappers),
            param_scheduler=dict(first=[poly(8)], last=[warmup(end)]),
            hooks=[rates],
            iters=iters,
            resume_from=resume_from,
        )
        try:
            runner.train()
        finally:
            release(runner)
        return rates.seen

    def test_each_has_its_own_schedules(self, tmp_path):
        expected = self.run(tmp_path / 'whole', 8, 9)
        self.run(tmp_path / 'first', 4, 3)
        found = self.run(tmp_path / 'second', 8, 9, resume_from=tmp_path / 'first' / 'iter_4.pth')
        assert found == {iteration: expected[iteration] for iteration in range(4, 8)}

    def test_and_its_own_settings(self, tmp_path):
        self.run(tmp_path, 2, 3)
        with pytest.raises(ResumeMismatchError, match=r'last: optim_wrapper\.optimizer\.lr: 0\.1 in .*, 0\.2 now'):
            self.run(tmp_path, 4, 3, rate=0.2, resume_from=tmp_path / 'iter_2.pth')


def test_another_metric_of_the_best_is_not_compared_with_the_old_one(tmp_path):
    scores = {}
    for name, rule, start in (('first', 'greater', None), ('second', 'less', tmp_path / 'first' / 'iter_3.pth')):
        saving = dict(interval=1, by_epoch=False, save_best='numbers/error', rule=rule)
        runner = build_runner(
            tmp_path / name, iters=5 if start else 3, val_interval=1, checkpoint=saving, resume_from=start,
            param_scheduler=None,
        )  # fmt: skip
        runner.train()
        release(runner)
        scores[name] = runner.message_hub.runtime_info['best_score']
        assert len(list((tmp_path / name).glob('best_*.pth'))) == 1
    seen = runner.message_hub.get_scalar('val/numbers/error').data[0]
    assert scores['second'] in seen[-2:]


def plateau(patience):
    return dict(type='ReduceOnPlateauLR', monitor='numbers/error', rule='greater', patience=patience, factor=0.5)


class TestFollowingTheValidation:
    OPTIONS = dict(val_interval=1, checkpoint=dict(interval=1, by_epoch=False), rng_hook=False)

    def start(self, folder, schedules, iters, resume_from=None):
        rates = Rates()
        runner = build_runner(
            folder, hooks=[rates], iters=iters, param_scheduler=schedules, resume_from=resume_from, **self.OPTIONS
        )
        try:
            runner.train()
        finally:
            release(runner)
        return rates.seen

    def test_settings_are_new_and_what_it_knows_is_kept(self, tmp_path):
        self.start(tmp_path / 'first', [plateau(100)], 4)
        path = tmp_path / 'first' / 'iter_3.pth'
        known = strict_load(path)['param_schedulers'][0]
        self.start(tmp_path / 'second', [plateau(1)], 5, path)
        state = strict_load(tmp_path / 'second' / 'iter_5.pth')['param_schedulers'][0]
        assert state['patience'] == 1
        assert state['best'] == known['best']
        assert state['last_step'] > known['last_step']

    def test_with_other_schedules_it_is_refused(self, tmp_path):
        self.start(tmp_path / 'first', [warmup(2), plateau(1)], 3)
        with pytest.raises(ResumeMismatchError, match=r'\(LinearLR\): .*end 2 -> 4.*ReduceOnPlateau'):
            self.start(tmp_path / 'second', [warmup(4), plateau(1)], 4, tmp_path / 'first' / 'iter_2.pth')


def changed(optimizer, **settings):
    return dict(optimizer, optimizer={**optimizer['optimizer'], **settings})


OURS = dict(TASK, **ADAM)
FP16 = dict(OURS, precision=dict(precision='fp16', init_scale=4.0))
REFUSED = {
    'lr': (ADAM, changed(ADAM, lr=0.5), r'optim_wrapper\.optimizer\.lr: 0\.01 in the checkpoint, 0\.5 now'),
    'weight decay': (ADAM, changed(ADAM, weight_decay=0.1), r'optimizer\.weight_decay: 0 in .*, 0\.1 now'),
    'betas': (ADAM, changed(ADAM, betas=(0.5, 0.9)), r'optimizer\.betas: \[0\.9, 0\.999\] in .*, \[0\.5, 0\.9\] now'),
    'amsgrad': (ADAM, changed(ADAM, amsgrad=True), r'optimizer\.amsgrad: False in .*, True now'),
    'momentum': (SGD, changed(SGD, momentum=0.8), r'optimizer\.momentum: 0\.9 in .*, 0\.8 now'),
    'optimizer': (SGD, ADAM, r'optimizer\.(type: SGD in .*, Adam|betas: nothing in .*) now'),
    'kind of Adam': (
        ADAM,
        changed(ADAM, type='AdamW', weight_decay=0),
        r'Adam in .*, AdamW now|decoupled',
    ),
    'one group': (
        PARTS,
        dict(ADAM, paramwise_cfg=dict(bias_lr_mult=3.0)),
        r'optimizer\.lr: 0\.02 in .*, 0\.03 now \(parameter groups 1, 3\)',
    ),
    'groups': (ADAM, PARTS, r'number of parameter groups \(paramwise_cfg\): 1 in .*, 4 now'),
    'precision': (OURS, dict(OURS, precision='bf16'), r'precision: fp32 in .*, bf16 now'),
    'growth of the loss scale': (
        FP16,
        dict(FP16, precision=dict(FP16['precision'], growth_interval=5)),
        r'precision\.growth_interval: 2000 in .*, 5 now',
    ),
    'fp16 init_scale': (
        dict(FP16),
        dict(FP16, precision=dict(FP16['precision'], init_scale=2.0)),
        r'precision\.init_scale: .* in the checkpoint, 2.0 now',
    ),
    'accumulation': (ADAM, dict(ADAM, accumulative_counts=2), r'accumulative_counts: 1 in .*, 2 now'),
    'our accumulation': (
        dict(TASK, **ADAM),
        dict(TASK, **ADAM, accumulative_counts=2),
        r'accumulative_counts: 1 in .*, 2 now',
    ),
    'seed of the method': (
        dict(TASK, **ADAM, seed=1),
        dict(TASK, **ADAM, seed=2),
        r'optim_wrapper\.seed: 1 in .*, 2 now',
    ),
    'first value of the method': (
        dict(OURS, weighting=dict(type='UncertaintyWeighting', initial=0.0)),
        dict(OURS, weighting=dict(type='UncertaintyWeighting', initial=-0.5)),
        r'weighting\.initial: 0\.0 in .*, -0\.5 now',
    ),
    'setting of a part of the method': (
        CAGRAD,
        dict(CAGRAD, aggregator=dict(type='CAGrad', c=0.1)),
        r'optim_wrapper\.aggregator\.c: 0\.4 in .*, 0\.1 now',
    ),
    'something new around a part': (
        CAGRAD,
        dict(CAGRAD, normalise='l2'),
        'optim_wrapper.normalise: None in .*, l2 now',
    ),
}
NEW_FACTS = {'growth of the loss scale', 'fp16 init_scale', 'seed of the method', 'first value of the method'}
NEW_FACTS |= {'accumulation', 'our accumulation', 'setting of a part of the method', 'something new around a part'}
"""What checkpoints without settings do not tell."""


@pytest.mark.parametrize('name', REFUSED)
@pytest.mark.parametrize('legacy', [False, True], ids=['', 'without settings'])
def test_what_the_saved_state_would_override_is_refused(tmp_path, name, legacy):
    before, now, message = REFUSED[name]
    if legacy and name in NEW_FACTS:
        pytest.skip('not known of such a checkpoint')
    train(tmp_path / 'first', iters=2, optim_wrapper=before)
    path = tmp_path / 'first' / 'iter_2.pth'
    if legacy:
        without_settings(path)
    with pytest.raises(ResumeMismatchError, match=message) as caught:
        train(tmp_path / 'second', path, iters=4, optim_wrapper=now, checkpoint=dict(interval=2, by_epoch=False))
    assert 'load_from=PATH' in str(caught.value)
    assert not list((tmp_path / 'second').glob('*.pth'))


def test_another_seed_or_kind_of_loop_is_refused(tmp_path):
    train(tmp_path, iters=2)
    path = tmp_path / 'iter_2.pth'
    with pytest.raises(ResumeMismatchError, match='random seed: 7 in the checkpoint, 8 now'):
        train(tmp_path, path, iters=4, randomness=dict(seed=8))
    with pytest.raises(ResumeMismatchError, match='what train_cfg counts: iterations in the checkpoint, epochs now'):
        train(tmp_path, path, train_cfg=epochs(3), sampler=dict(type='DefaultSampler', shuffle=True))


def test_weights_alone_are_no_state_to_go_on_from(tmp_path):
    train(tmp_path, iters=2, checkpoint=dict(interval=1, by_epoch=False, save_optimizer=False))
    with pytest.raises(ResumeMismatchError, match='optimizer: no state in the checkpoint'):
        train(tmp_path, tmp_path / 'iter_2.pth', iters=4)


def test_what_a_schedule_or_a_hook_made_of_a_setting_is_no_change_of_it(tmp_path):
    class Decays(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            for group in runner.optim_wrapper.param_groups:
                group['weight_decay'] = 0.1 * (runner.iter + 1)

    runner = build_runner(tmp_path, hooks=[Decays()], iters=2)
    runner.train()
    release(runner)
    runner = build_runner(tmp_path, hooks=[Decays()], iters=4, resume_from=tmp_path / 'iter_2.pth')
    runner.train()
    release(runner)
    assert runner.optim_wrapper.param_groups[0]['weight_decay'] == pytest.approx(0.4)


def test_without_a_seed_the_order_of_the_samples_is_that_of_the_checkpoint(tmp_path):
    options = dict(iters=8, randomness=dict(seed=None), sampler=dict(type='InfiniteSampler', shuffle=True))
    losses = {}
    for name, start in (('whole', None), ('resumed', tmp_path / 'whole' / 'iter_4.pth')):
        runner = build_runner(tmp_path / name, resume_from=start, **options)
        runner.train()
        release(runner)
        losses[name] = runner.model.state_dict()
    assert all(torch.equal(value, losses['resumed'][key]) for key, value in losses['whole'].items())


class TestOtherRunners:
    """Our wrapper under MMEngine's own checkpoint hook, which restores everything as it was saved."""

    @pytest.fixture
    def lines(self, monkeypatch):
        lines = []
        monkeypatch.setattr(stock_resume, 'print_log', lambda text, *_: lines.append(text))
        return lines

    def run(self, folder, iters, resume=False, **wrapper):
        wrapper = dict(TASK, **{**ADAM, **wrapper})
        runner = build_stock(folder, iters=iters, wrapper=wrapper, resume=resume)
        runner.train()
        release(runner)

    def test_are_warned(self, tmp_path, lines):
        self.run(tmp_path, 2)
        self.run(tmp_path, 4, True, optimizer=dict(type='Adam', lr=0.5), accumulative_counts=2)
        settings, length = lines
        assert 'optim_wrapper.optimizer.lr: 0.01 in the checkpoint, 0.5 now' in settings
        assert 'optim_wrapper.accumulative_counts: 1 in the checkpoint, 2 now' in settings
        assert 'max_iters was 2 and is 4 now' in length
        assert all('SafeCheckpointHook' in line for line in lines)

    def test_hear_nothing_where_nothing_differs(self, tmp_path, lines):
        self.run(tmp_path, 4)
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_2.pth'))
        self.run(tmp_path, 4, True)
        assert lines == []

    def test_hear_of_ordinary_training_that_goes_on_with_a_method(self, tmp_path, lines, monkeypatch):
        run_stock(tmp_path)
        schedule = [{**stock.SCHEDULES['warmup'][0], 'end': 30}, *stock.SCHEDULES['warmup'][1:]]
        monkeypatch.setitem(stock.SCHEDULES, 'warmup', schedule)
        run_stock(tmp_path, iters=4, wrapper=CAGRAD, resume=True)
        settings, method, schedules = lines
        assert 'optim_wrapper.optimizer.lr: 0.01 in the checkpoint, 0.5 now' in settings
        assert "'cagrad' begins here anew" in method
        assert 'end 2 -> 30' in schedules

    def test_hear_of_other_settings_of_the_method(self, tmp_path, lines):
        self.run(tmp_path, 4, weighting=dict(type='DWA'))
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_2.pth'))
        self.run(tmp_path, 4, True, weighting=dict(type='DWA', temperature=3.0))
        (line,) = lines
        assert 'other settings of the method: optim_wrapper.weighting.temperature: 2.0 in the checkpoint, 3.0' in line

    def test_refuse_a_state_that_the_optimizer_cannot_take(self, tmp_path, lines):
        self.run(tmp_path, 2)
        with pytest.raises(UserError, match=r'optimizer\.type: Adam in the checkpoint, SGD now.*load_from=CHECKPOINT'):
            self.run(tmp_path, 4, True, **SGD)


@pytest.mark.parametrize(
    ('before', 'now', 'words'),
    [
        (dict(type='AffinityPropagation'), dict(type='Released'), 'grouper.type: AffinityPropagation .*, Released now'),
        (dict(type='Singletons'), dict(type='Released'), 'grouper.type: Singletons .*, Released now'),
    ],
)
def test_another_part_of_a_method_by_groups_is_named(before, now, words):
    model = make_model()
    state = build('stgu', model, grouper=before).state_dict()
    with pytest.raises(UserError, match=words):
        build('stgu', model, grouper=now).load_state_dict(state)


def test_the_way_out_of_another_method_can_be_typed():
    model = make_model()
    state = build('f_mtl', model, aggregator=dict(type='Sum')).state_dict()
    with pytest.raises(UserError, match='Go on with the optim_wrapper of its config'):
        build('gd', model).load_state_dict(state)


@pytest.mark.parametrize('damaged', [False, True], ids=['no pointer', 'damaged'])
def test_a_resume_that_finds_nothing_overwrites_nothing(tmp_path, damaged):
    """In a Runner of another project, whose way to the newest checkpoint is MMEngine's."""
    train(tmp_path, iters=2)
    (tmp_path / 'last_checkpoint').unlink()
    files = sorted(tmp_path.glob('*.pth'))
    for path in files:
        path.write_bytes(path.read_bytes()[: 100 if damaged else None])
    before = [path.read_bytes() for path in files]
    words = 'none of the .* checkpoints' if damaged else r'load_from=\S*iter_2\.pth with resume=True'
    with pytest.raises(NoLoadableCheckpointError, match=words):
        train(tmp_path, iters=4, resume=True)
    assert [path.read_bytes() for path in files] == before


def test_a_run_shorter_than_its_checkpoint_is_told_so(tmp_path):
    train(tmp_path / 'first', iters=4)
    lines = []
    runner = build_runner(tmp_path / 'second', iters=2, resume_from=tmp_path / 'first' / 'iter_4.pth')
    runner.logger.warning = lambda text, *_: lines.append(text)
    runner.train()
    release(runner)
    assert any('max_iters 4 -> 2' in line and 'nothing is left to train' in line for line in lines)
