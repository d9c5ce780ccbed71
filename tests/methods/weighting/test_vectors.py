"""Frozen numbers, most of them from executed public programs; every record of every file is compared."""

import json
from pathlib import Path

import pytest
import torch

from mtl_plugins.methods.weighting import (
    BMTL,
    DTP,
    DWA,
    FAMO,
    GLS,
    IMTLL,
    SLAW,
    STCH,
    UncertaintyWeighting,
)

FOLDER = Path(__file__).parents[2] / 'data' / 'vectors'
RECORDS = [
    (path.name, index)
    for path in sorted(FOLDER.glob('loss_*.json'))
    for index in range(len(json.loads(path.read_text())))
]

# Where a record holds more than the update, and that contradicts the update.
CONTRADICTIONS = {
    ('loss_gls.json', 1): 'reported_batch_weight is not the derivative of the loss of the same record',
}


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def present(losses):
    return torch.ones(losses.shape[-1], dtype=torch.bool)


def check(weights, expected, factor=1.0):
    """Same direction, and ``factor`` times the length, both to 1e-6."""
    weights, expected = weights.double(), tensor(expected)
    torch.testing.assert_close(
        weights / weights.norm(dim=-1, keepdim=True), expected / expected.norm(dim=-1, keepdim=True), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(weights, factor * expected, rtol=1e-6, atol=0)


def play(weighting, before, after=None):
    """Weights of every step."""
    result = []
    for now, losses in enumerate(before):
        result.append(weighting.weights(losses, present(losses)))
        weighting.after_step(losses, None if after is None else after[now], present(losses))
    return torch.stack(result)


def bmtl(record, settings):
    losses = tensor(record['losses'])
    check(BMTL(settings['T'], normalise=False, tasks=3).weights(losses, present(losses)), record['effective_weights'])
    # By default the weights add up to K.
    factor = 3 / sum(record['effective_weights'])
    check(BMTL(settings['T'], tasks=3).weights(losses, present(losses)), record['effective_weights'], factor)


def dtp(record, settings):
    weighting = DTP(gamma=settings['gamma'], alpha=settings['ema_alpha'], tasks=3)
    for kpis, kpi, weights in zip(record['kpis'], record['kbar'], record['weights']):
        weighting.update_kpis(dict(zip('012', kpis)))
        torch.testing.assert_close(weighting.state_dict()['kpi'], tensor(kpi), rtol=1e-12, atol=0)
        check(weighting.weights(torch.ones(3, dtype=torch.float64), torch.ones(3) > 0), weights)


def dwa(record, settings):
    if 'iteration_window' in settings:
        weighting = DWA(settings['T'], window=settings['iteration_window'], window_start='ones', tasks=3)
        check(play(weighting, tensor(record['losses'])), record['weights'])
        return
    weighting = DWA(settings['T'], tasks=3)
    weighting.set_epoch_length(2)
    means = tensor(record['epoch_mean_losses'])
    # Two batches per epoch, whose mean is that of the record.
    batches = torch.stack([0.75 * means, 1.25 * means], dim=1).flatten(0, 1)
    weights = play(weighting, batches)
    assert torch.equal(weights[0::2], weights[1::2])
    check(weights[0::2], record['weights'])


def famo(record, settings):
    weighting = FAMO(gamma=settings['gamma'], lr=settings['w_lr'], tasks=3)
    before, after = tensor(record['losses_before']), tensor(record['losses_after'])
    for now, losses in enumerate(before):
        logits = weighting.state_dict()['logits']
        torch.testing.assert_close(logits, tensor(record['logits_before_step'][now]), rtol=1e-6, atol=1e-12)
        check(torch.softmax(logits, 0), record['softmax_weights'][now])
        check(weighting.weights(losses, present(losses)), record['effective_weights'][now])
        weighting.after_step(losses, after[now], present(losses))
    torch.testing.assert_close(weighting.state_dict()['logits'], tensor(record['final_logits']), rtol=1e-6, atol=0)


def gls(record, settings):
    losses = tensor(record['losses'])
    weights = GLS(tasks=3).weights(losses, present(losses))
    check(weights, record['effective_weights'])
    if 'value' in record:
        assert float((weights * losses).sum()) == pytest.approx(record['value'], rel=1e-12)
    if 'reported_batch_weight' in record:
        assert ('loss_gls.json', 1) in CONTRADICTIONS
        assert not torch.allclose(weights, tensor(record['reported_batch_weight']), rtol=0.1)


def learned(weighting, state, record):
    for now, losses in enumerate(tensor(record['losses'])):
        torch.testing.assert_close(
            weighting.state_dict()[state], tensor(record['state_before_step'][now]), rtol=1e-6, atol=1e-12
        )
        check(weighting.weights(losses, present(losses)), record['effective_weights'][now])
        weighting.after_step(losses, None, present(losses))


def imtl_l(record, settings):
    assert settings['state_optimizer'] == 'SGD lr=0.1 momentum=0'
    learned(IMTLL(lr=0.1, optimizer='sgd', tasks=3), 'log_scale', record)


def uw(record, settings):
    assert settings['state_optimizer'] == 'SGD lr=0.1 momentum=0'
    initial = record['state_before_step'][0][0]
    learned(UncertaintyWeighting(lr=0.1, initial=initial, optimizer='sgd', tasks=3), 'log_variance', record)


def slaw(record, settings):
    weighting = SLAW(decay=settings['ema_alpha'], tasks=3)
    for now, losses in enumerate(tensor(record['losses'])):
        check(weighting.weights(losses, present(losses)), record['weights_after_update'][now])
        weighting.after_step(losses, None, present(losses))
        deviation = weighting.state_dict()['variance'].sqrt()
        torch.testing.assert_close(deviation, tensor(record['stdev'][now]), rtol=1e-6, atol=1e-12)


def stch(record, settings):
    losses = tensor(record['losses'])
    weights = STCH(mu=settings['mu'], form='linear', tasks=3).weights(losses, present(losses))
    check(weights, record['effective_weights'], factor=3)


RUNNERS = {f'loss_{runner.__name__}.json': runner for runner in (bmtl, dtp, dwa, famo, gls, imtl_l, slaw, stch, uw)}


@pytest.mark.parametrize(('name', 'index'), RECORDS)
def test_every_record_is_matched(name, index):
    record = json.loads((FOLDER / name).read_text())[index]
    RUNNERS[name](record, record['hyperparameters'])


def test_there_are_records():
    assert {name for name, _ in RECORDS} == set(RUNNERS)
    assert len(RECORDS) == 20
    assert set(CONTRADICTIONS) <= set(RECORDS)
