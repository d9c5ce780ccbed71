"""Runners of other projects know us by ``optim_wrapper.type`` alone: no hook of ours, no command of ours."""

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.runner import FlexibleRunner, Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mtl_plugins.engine import MultiTaskOptimWrapper, ReleasedTaskGroupOptimWrapper, parameter_settings, running
from mtl_plugins.engine.optim_wrappers import released
from mtl_plugins.engine.step.guards import bare_model
from mtl_plugins.errors import UserError

from .all_methods import build
from .toy import TASKS, flat, make_model, toy_batch

IMAGES, BATCH = 10, 4  # three batches per epoch


class Samples(list):
    """Single images of the toy task."""

    def __init__(self, count=IMAGES):
        batch = toy_batch(0, size=count)
        targets = batch['targets']
        super().__init__(
            dict(inputs=batch['inputs'][i], targets={task: targets[task][i] for task in TASKS}) for i in range(count)
        )


def run(kind, work_dir, optim_wrapper, max_iters=7, by_epoch=False, images=IMAGES, drop_last=False, **kwargs):
    loops = dict(by_epoch=True, max_epochs=2) if by_epoch else dict(by_epoch=False, max_iters=max_iters)
    model = kwargs.pop('model', None) or make_model()
    sampler = kwargs.pop('sampler', 'DefaultSampler' if by_epoch else 'InfiniteSampler')
    runner = kind(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Samples(images),
            batch_size=BATCH,
            drop_last=drop_last,
            sampler=dict(type=sampler, shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=loops,
        optim_wrapper=optim_wrapper
        if isinstance(optim_wrapper, OptimWrapper)
        else dict(optimizer=dict(type='SGD', lr=0.05), **optim_wrapper),
        default_scope='mmengine',
        log_level='ERROR',
        experiment_name=f'{work_dir.name}-{kind.__name__}',
        **kwargs,
    )
    runner.train()
    return runner


ORDINARY = dict(type='mtl_plugins.MultiTaskOptimWrapper')
RUNNERS = pytest.mark.parametrize('kind', [Runner, FlexibleRunner])


@RUNNERS
@pytest.mark.parametrize('by_epoch', [False, True])
@pytest.mark.parametrize(
    'weighting',
    [dict(type='DWA'), dict(type='STCH', warmup=1), dict(type='GradNorm', reference='epoch')],
    ids=lambda weighting: weighting['type'],
)
def test_the_length_of_an_epoch_is_found_out(kind, by_epoch, weighting, tmp_path):
    runner = run(kind, tmp_path, dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=weighting), by_epoch=by_epoch)
    assert runner.optim_wrapper.weighting.epoch_length == 3
    assert torch.isfinite(flat(runner.model)).all()


@pytest.mark.parametrize(
    'wrapper',
    [
        dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='Sum'), accumulative_counts=2),
        dict(type='mtl_plugins.SelectiveTaskGroupOptimWrapper'),
    ],
    ids=['rows', 'groups'],
)
def test_every_strategy_tells_its_weighting(wrapper, tmp_path):
    runner = run(Runner, tmp_path, dict(**wrapper, weighting=dict(type='DWA')), max_iters=6)
    assert runner.optim_wrapper.weighting.epoch_length == 3 // wrapper.get('accumulative_counts', 1) + (
        wrapper.get('accumulative_counts', 1) > 1
    )


@RUNNERS
def test_metrics_that_nobody_brings_are_missed(kind, tmp_path):
    wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='DTP', kpi='metric'))
    with pytest.raises(ValueError, match=r"TaskKPIHook.*or use weighting\.kpi='loss'"):
        run(kind, tmp_path, wrapper)


def test_compiling_the_whole_step_is_refused(tmp_path):
    wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper')
    with pytest.raises(TypeError, match=r'cfg\.compile compiles the whole train_step'):
        run(Runner, tmp_path, wrapper, cfg=dict(compile=dict(backend='eager')))


def test_compiling_the_whole_step_is_refused_by_the_flexible_runner_too(tmp_path):
    wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper')
    with pytest.raises(TypeError, match=r'cfg\.compile compiles the whole train_step'):
        run(FlexibleRunner, tmp_path, wrapper, compile=dict(backend='eager'))


@pytest.mark.parametrize('how', ['in place', 'forward'])
def test_a_compiled_model_is_refused_and_a_compiled_part_is_not(how, tmp_path):
    model = make_model()
    if how == 'in place':
        model.compile(backend='eager')
    else:
        model.forward = torch.compile(model.forward, backend='eager')
    with pytest.raises(TypeError, match='compile the backbone instead'):
        run(Runner, tmp_path, dict(type='mtl_plugins.MultiTaskOptimWrapper'), model=model)
    part = make_model()
    part.backbone = torch.compile(part.backbone, backend='eager')
    assert bare_model(part) is part


def test_what_shards_or_exchanges_inside_of_a_model_is_refused():
    model = make_model()
    model.backbone = type('FullyShardedDataParallel', (nn.Module,), {})()
    with pytest.raises(TypeError, match=r'FullyShardedDataParallel \(around backbone\) does not support'):
        bare_model(model)
    model = make_model()
    inner = DistributedDataParallel.__new__(DistributedDataParallel)
    nn.Module.__init__(inner)
    model.heads['a'] = inner
    with pytest.raises(TypeError, match=r'DistributedDataParallel \(around heads\.a\).*Wrap the whole model'):
        bare_model(model)


def test_detect_anomalous_params_is_refused_by_a_runner(tmp_path):
    model = make_model()
    model.detect_anomalous_params = True
    with pytest.raises(TypeError, match='detect_anomalous_params=True inspects'):
        run(Runner, tmp_path, dict(type='mtl_plugins.MultiTaskOptimWrapper'), model=model)


# ---------------------------------------------------------------- stgu_released goes on exactly
def released_run(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=0.1)
    return ReleasedTaskGroupOptimWrapper(optimizer, tasks=TASKS, warmup_iters=2, seed=0)


def steps(model, wrapper, numbers, tasks=TASKS):
    for number in numbers:
        torch.manual_seed(number)
        model.train_step(toy_batch(number, tasks=tasks), wrapper)


@pytest.mark.parametrize('before', [('a',), ('a', 'c'), TASKS])
def test_the_released_program_goes_on_exactly(before, tmp_path):
    """Heads that have had a gradient move by momentum and decay in every step; the others stand still."""
    model = make_model()
    wrapper = released_run(model)
    steps(model, wrapper, range(3), before)
    torch.save(dict(model=model.state_dict(), wrapper=wrapper.state_dict()), tmp_path / 'last.pth')
    steps(model, wrapper, range(3, 6), ('a',))
    other = make_model(seed=1)
    resumed = released_run(other)
    saved = torch.load(tmp_path / 'last.pth', weights_only=True)
    other.load_state_dict(saved['model'])
    resumed.load_state_dict(saved['wrapper'])
    steps(other, resumed, range(3, 6), ('a',))
    assert torch.equal(flat(model), flat(other))


def test_an_older_checkpoint_of_the_released_program_says_what_it_lacks(monkeypatch):
    said = []
    monkeypatch.setattr(released, 'print_log', lambda text, **kwargs: said.append(text))
    wrapper = released_run(make_model())
    state = wrapper.state_dict()
    del state['mtl']['strategy']['stepped']
    released_run(make_model()).load_state_dict(state)
    assert len(said) == 1
    assert 'did not keep which parameters have had a gradient' in said[0]


@RUNNERS
def test_settings_of_parameters_that_reach_none_are_told(kind, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(parameter_settings, 'print_log', lambda text, *_: said.append(text))
    wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='Sum'))
    cases = (
        (dict(norm_decay_mul=0.0), 'norm_decay_mul: DefaultOptimWrapperConstructor does not read it'),
        (
            dict(custom_keys={'backbne': dict(lr_mult=2.0)}),
            "['backbne']: it is part of no name of a parameter; did you mean",
        ),
        (
            dict(custom_keys={'backbone': dict(lr_mul=2.0)}),
            "custom_keys['backbone']['lr_mul']: no setting of the optimizer",
        ),
        (
            dict(custom_keys={'bone': {}, 'backbone': dict(lr_mult=2.0)}),
            "['bone']: longer keys take all its parameters",
        ),
        (dict(custom_keys={'backbone': dict(lr_mult=2.0, momentum=0.5)}), ''),
    )
    for number, (settings, words) in enumerate(cases):
        said.clear()
        there = tmp_path / str(number)  # a run is named by its folder and the second
        run(kind, there, dict(wrapper, paramwise_cfg=settings), 1, cfg=dict(optim_wrapper=dict(paramwise_cfg=settings)))
        assert len(said) == bool(words)
        assert words in ''.join(said)


@pytest.mark.parametrize('key', ['gd', 'pcgrad', 'stgu', 'stgu_released', 'son_goku', 'phases'])
def test_a_resume_between_two_micro_batches_is_told(key, monkeypatch):
    """MMEngine's own hook saves there, and counts on from there; what was accumulated is in no checkpoint."""
    said = []
    monkeypatch.setattr(running, 'print_log', lambda text, *_: said.append(text))
    for iteration, lost in ((0, ''), (6, ''), (4, 'the batch before it is lost'), (5, 'the 2 batches before it are')):
        model = make_model()
        build(key, model, accumulative_counts=3).initialize_count_status(model, iteration, 9)
        assert len(said) == bool(lost)
        assert lost in ''.join(said)
        said.clear()


@RUNNERS
@pytest.mark.parametrize(('images', 'by_epoch', 'drop'), [(0, False, False), (0, True, True), (3, True, True)])
def test_data_that_give_no_batch_are_refused(kind, images, by_epoch, drop, tmp_path):
    """An endless sampler would look for one forever, and a run by epochs would be over at once."""
    model = make_model()
    for wrapper in (ORDINARY, MultiTaskOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))):
        with pytest.raises(UserError, match=f'train_dataloader gives no batch: its dataset has {images} images'):
            run(
                kind,
                tmp_path / f'{tmp_path.name}-{type(wrapper).__name__}',
                wrapper,
                by_epoch=by_epoch,
                images=images,
                drop_last=drop,
                model=model,
            )


@RUNNERS
def test_data_that_give_no_batch_are_refused_where_a_constructor_builds_several_wrappers(kind, tmp_path, monkeypatch):
    class Several:
        def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
            pass

        def __call__(self, model):
            parts = dict(backbone=model.backbone, heads=model.heads)
            return OptimWrapperDict(
                **{
                    name: MultiTaskOptimWrapper(torch.optim.SGD(part.parameters(), lr=0.05))
                    for name, part in parts.items()
                }
            )

    monkeypatch.setitem(OPTIM_WRAPPER_CONSTRUCTORS.module_dict, 'Several', Several)
    with pytest.raises(UserError, match='train_dataloader gives no batch: its dataset has 0 images'):
        run(kind, tmp_path, dict(ORDINARY, constructor='Several'), images=0)


@RUNNERS
@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'mtl_plugins.AbsoluteSampler'])
def test_epochs_that_have_no_end_are_refused(kind, sampler, tmp_path):
    with pytest.raises(UserError, match='Sampler has no end, so that the first epoch of EpochBasedTrainLoop would not'):
        run(kind, tmp_path, ORDINARY, by_epoch=True, sampler=sampler)


@RUNNERS
def test_one_wrapper_per_part_is_refused_where_nothing_would_step_it(kind, tmp_path):
    model = make_model()
    parts = dict(backbone=model.backbone, heads=model.heads)
    wrappers = {
        name: MultiTaskOptimWrapper(torch.optim.SGD(part.parameters(), lr=0.05)) for name, part in parts.items()
    }
    with pytest.raises(UserError, match='one wrapper each for backbone, heads, but the train_step of ToyModel'):
        run(kind, tmp_path, OptimWrapperDict(**wrappers), model=model)


def test_optimizers_that_cannot_train_the_model_are_told(monkeypatch):
    said = []
    monkeypatch.setattr(running, 'print_log', lambda text, *_: said.append(text))
    model = make_model()
    with pytest.raises(UserError, match='LBFGS evaluates the loss several times within its step'):
        MultiTaskOptimWrapper(torch.optim.LBFGS(model.parameters())).attach(model)
    for change, words in (('frozen', 1), ('another', 1), ('', 0)):
        said.clear()
        wrapper = build('pcgrad', make_model() if change == 'another' else model)
        model.requires_grad_(change != 'frozen')
        wrapper.attach(model)
        assert len(said) == words
        assert all('no parameter of the optimizer is a trainable parameter of ToyModel' in text for text in said)
