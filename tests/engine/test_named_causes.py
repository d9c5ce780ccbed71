"""Messages name the thing itself: what was not finite, the method by its key, the task that a loss belongs to."""

import copy

import pytest
import torch

import mtl_plugins.methods as methods
from mtl_plugins.engine.method_keys import former_name, key_of_former
from mtl_plugins.engine.one_task import one_task_note, propose_tasks
from mtl_plugins.engine.step import nonfinite
from mtl_plugins.engine.step.losses import LossTable, starts
from mtl_plugins.engine.step.nonfinite import NonFiniteError
from mtl_plugins.errors import UserError
from mtl_plugins.runtime.checkpoints.resume_guard import ResumeMismatchError, check_resume_compatibility

from .all_methods import ROWS, build, train
from .toy import TASKS, make_model, toy_batch


# ---------------------------------------------------------------- what was not finite
@pytest.fixture
def said(monkeypatch):
    texts = []
    monkeypatch.setattr(nonfinite, 'print_log', lambda text, **kwargs: texts.append(text))
    return texts


def poison_gradient(model):
    model.heads['b'][0].weight.register_hook(lambda grad: grad * float('nan'))


def poison_loss(model):
    model.heads['b'].register_forward_hook(lambda module, inputs, output: output * float('nan'))


@pytest.mark.parametrize('key', ['cagrad', 'ada_task', 'f_mtl', 'nash_mtl'])
def test_a_gradient_is_not_called_a_loss(key, said):
    model = make_model()
    poison_gradient(model)
    wrapper = build(key, model, nonfinite=dict(patience=1))
    with pytest.raises(NonFiniteError, match=r"the gradient of task 'b' .its loss is finite. was not finite for 2"):
        train(model, wrapper, range(3))
    assert said[0].startswith("the gradient of task 'b' (its loss is finite) is not finite")


@pytest.mark.parametrize('key', ['gd', 'cagrad', 'stgu'])
def test_a_loss_is_called_a_loss(key, said):
    model = make_model()
    poison_loss(model)
    wrapper = build(key, model, nonfinite=dict(patience=1))
    with pytest.raises(NonFiniteError, match=r"the loss of task 'b' was not finite for 2 .*Look at the labels"):
        train(model, wrapper, range(3))
    assert said[0].startswith("the loss of task 'b' is not finite")


def test_the_features_have_gradients_too(said):
    model = make_model()
    poison = lambda module, inputs, output: output.register_hook(lambda grad: grad * float('nan'))  # noqa: E731
    model.heads['b'].register_forward_hook(lambda *args: poison(*args) and None)
    wrapper = build('mgda', model, level='features')
    train(model, wrapper, [0])
    assert said[0].startswith("the gradient of task 'b' (its loss is finite) is not finite")


@pytest.mark.parametrize('key', ['famo', 'stgu', 'samo'])
def test_a_loss_that_breaks_at_moved_weights_is_not_blamed_on_the_labels(key, said):
    """It was finite in the first forward of the batch; the length of the step is what to look at."""
    model = make_model()
    wrapper = build(key, model)
    calls = []

    def second_time(module, inputs, output):
        calls.append(None)
        return output * float('inf') if len(calls) > 1 else output

    model.heads['b'].register_forward_hook(second_time)
    train(model, wrapper, [0])
    assert said[0].startswith("the loss of task 'b' at weights moved in this batch")


def test_what_was_not_finite_survives_a_checkpoint():
    guard = nonfinite.NonFiniteGuard(patience=1)
    guard.report('b', 'gradient')
    guard.end_batch()
    other = nonfinite.NonFiniteGuard(patience=1)
    other.load_state_dict(copy.deepcopy(guard.state_dict()))
    assert other.describe('b') == guard.describe('b') == "the gradient of task 'b' (its loss is finite)"
    older = guard.state_dict()
    del older['kinds']
    other.load_state_dict(older)
    assert other.describe('b') == "the loss or gradient of task 'b'"


# ---------------------------------------------------------------- methods
@pytest.mark.parametrize('key', ROWS)
def test_a_method_is_called_by_its_key(key):
    """Whatever the wrapper is built from; and what older checkpoints call it leads back to the key."""
    wrapper = build(key, make_model(), tasks=TASKS)
    assert wrapper.method_name == key
    assert wrapper.state_dict()['mtl']['method'] == key
    assert key_of_former(wrapper.former_method_name) == key


@pytest.mark.parametrize(
    ('key', 'options', 'name'),
    [
        ('cagrad', dict(weighting=dict(type='UncertaintyWeighting')), 'uw+cagrad'),
        ('imtl_g', dict(weighting=dict(type='IMTLL')), 'imtl'),
        ('f_mtl', dict(aggregator=dict(type='CAGrad')), 'f_mtl+cagrad'),
        ('f_mtl', dict(aggregator=dict(type='Sum')), 'f_mtl+Sum'),
        ('samo', dict(aggregator=None), 'samo+Sum'),
        ('gd', dict(passes=3), 'gd'),
        ('cagrad', dict(aggregator=dict(type='Mean')), 'Mean'),
    ],
)
def test_combinations_are_called_by_the_keys_of_their_parts(key, options, name):
    assert build(key, make_model(), tasks=TASKS, **options).method_name == name


@pytest.mark.parametrize('key', ROWS)
def test_a_checkpoint_of_the_former_version_still_resumes(key):
    """Its state names the method by classes."""
    model = make_model()
    wrapper = build(key, model, tasks=TASKS)
    train(model, wrapper, [0])
    state = wrapper.state_dict()
    state['mtl'].update(version=1, method=wrapper.former_method_name)
    state['mtl']['nonfinite'].pop('kinds')
    again = build(key, make_model(), tasks=TASKS)
    again.load_state_dict(state)
    state['mtl'].update(method='NoSuchMethod')
    with pytest.raises(UserError, match=f"trained with method 'NoSuchMethod', this run uses '{key}'"):
        again.load_state_dict(state)


def test_the_refusal_names_what_can_be_typed():
    model = make_model()
    state = build('uw', model, tasks=TASKS).state_dict()
    message = r"trained with method 'uw', this run uses 'cagrad'.*Go on with --method uw, or start"
    with pytest.raises(UserError, match=message):
        build('cagrad', model, tasks=TASKS).load_state_dict(state)
    state['mtl'].update(version=1, method='UncertaintyWeighting')
    with pytest.raises(UserError, match=message):
        build('cagrad', model, tasks=TASKS).load_state_dict(state)
    with pytest.raises(ResumeMismatchError, match='method: uw in the checkpoint, cagrad now'):
        check_resume_compatibility(dict(method='UncertaintyWeighting'), dict(method='CAGrad', method_key='cagrad'))


def test_sharpness_on_the_sum_and_on_pcgrad_are_told_apart():
    """Both were once called ``f_mtl``, each in its version."""
    plain = build('f_mtl', make_model(), tasks=TASKS, aggregator=dict(type='Sum'))
    assert former_name(type(plain), plain.method_parts) == 'f_mtl'
    state = plain.state_dict()
    state['mtl'].update(version=1, method='f_mtl')
    plain.load_state_dict(state)
    with pytest.raises(UserError, match='resuming would mix'):
        build('f_mtl', make_model(), tasks=TASKS).load_state_dict(state)


@pytest.mark.parametrize('key', [key for key, row in ROWS.items() if row.kind == 'loss weighting'])
def test_classes_and_catalogue_agree_on_accumulation(key):
    (part,) = ROWS[key].parts
    assert getattr(methods, part)().accumulates_exactly == ROWS[key].accumulates_exactly


# ---------------------------------------------------------------- tasks of losses
@pytest.mark.parametrize(
    ('prefix', 'claimed', 'others'),
    [
        ('depth', ['depth.loss', 'depth_0.loss', 'depth_loss', 'depth'], ['depth_euclidean.loss', 'depthwise.loss']),
        ('heads.depth', ['heads.depth.loss', 'heads.depth_loss'], ['heads.depth_euclidean.loss']),
        ('dep', [], ['depth.loss', 'depth_loss']),
        ('aux_1', ['aux_1.loss_ce', 'aux_1_2.loss'], ['aux_10.loss_ce', 'aux_1b.loss']),
        ('decode', ['decode.loss_ce', 'decode_0.loss_ce', 'decode.d0.loss_mask'], ['decoder.loss', 'decode_seg.loss']),
        ('decode.', ['decode.loss_ce', 'decode.d0.loss_mask'], ['decode_0.loss_ce']),
        ('decode.d', ['decode.d0.loss_mask'], ['decode.depth.loss']),
        ('decode.loss', ['decode.loss_ce', 'decode.loss.s0'], ['decode.losses']),
        ('loss_', ['loss_ce', 'loss_bbox'], ['lossy']),
    ],
)
def test_a_prefix_does_not_end_inside_of_a_name(prefix, claimed, others):
    assert [key for key in claimed if not starts(prefix, key)] == []
    assert [key for key in others if starts(prefix, key)] == []


def test_the_loss_that_a_prefix_would_have_taken_is_named():
    table = LossTable(dict(depth='depth', edge='edge'))
    with pytest.raises(UserError, match=r"'depth_euclidean\.loss' .the prefix 'depth' ends inside of a name"):
        table.collect({'depth_euclidean.loss': torch.ones(())})


# ---------------------------------------------------------------- one task, and what its losses could be
LOSSES = {
    'PIDNet': ['decode.loss_sem_p', 'decode.loss_sem_i', 'decode.loss_bd', 'decode.loss_sem_bd'],
    'DDRNet': ['decode.loss_context', 'decode.loss_spatial'],
    'K-Net': [f'decode.loss_{kind}.s{stage}' for stage in range(4) for kind in ('ce', 'dice')],
    'Mask2Former': [f'decode.{layer}loss_{kind}' for layer in ('', 'd0.', 'd1.') for kind in ('cls', 'mask', 'dice')],
    'OCRNet': ['decode_0.loss_ce', 'decode_1.loss_ce'],
    'EncNet': ['decode.loss_ce', 'decode.loss_se'],
    'mmpretrain': ['wear_loss', 'hat_loss'],
    'plain': ['loss', 'loss_aux', 'class.loss', '1x.loss'],
}
NUMBERS = {'PIDNet': 4, 'K-Net': 4, 'Mask2Former': 3, 'plain': 4}


@pytest.mark.parametrize('model', LOSSES)
def test_the_proposal_makes_several_tasks_of_all_losses(model):
    keys = LOSSES[model]
    tasks = propose_tasks(keys)
    assert len(tasks) == NUMBERS.get(model, 2)
    note = one_task_note('decode', 'gd', keys)
    copied = eval(note.rpartition('optim_wrapper.tasks=')[2])
    assert copied == tasks
    found = LossTable(copied).collect({key: torch.ones(()) for key in keys})
    assert set(found) == set(tasks)
    assert sum(found.values()) == len(keys)
    assert all(key in note for key in keys)


def test_one_loss_is_no_proposal():
    assert propose_tasks(['decode.loss_ce']) == {}
    assert 'add another head or loss' in one_task_note('decode', 'gd', ['decode.loss_ce'])


@pytest.mark.parametrize('key', ROWS)
def test_every_run_with_one_task_is_told_once(key, monkeypatch):
    from mtl_plugins.engine.optim_wrappers import base

    texts = []
    monkeypatch.setattr(base, 'print_log', lambda text, **kwargs: texts.append(text))
    for tasks in (('a',), TASKS):
        model = make_model(tasks=tasks)
        train(model, build(key, model), range(2), tasks=tasks)
    texts = [text for text in texts if 'one task only' in text]
    assert len(texts) == 1
    assert texts[0].startswith(f"one task only, 'a': there is nothing to balance, and {key} is ")
    assert ('is ordinary training.' in texts[0]) == (not ROWS[key].one_task)


def test_two_losses_of_one_head_are_proposed(monkeypatch):
    from mtl_plugins.engine.optim_wrappers import base

    texts = []
    monkeypatch.setattr(base, 'print_log', lambda text, **kwargs: texts.append(text))
    model = make_model()
    wrapper = build('gd', model, tasks=dict(all=['a', 'b', 'c']))
    model.train_step(toy_batch(0), wrapper)
    assert texts[-1].endswith("optim_wrapper.tasks=dict(a='a.', b='b.', c='c.')")
