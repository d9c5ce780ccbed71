"""Every weighting in a plain PyTorch loop: no runner, no engine."""

import pytest
import torch

from .cases import CASES, build

TARGET_SCALES = torch.tensor([0.3, 1.0, 4.0])


def train(weighting, num_steps=60):
    """Train three tasks on a shared layer; returns the losses before and after."""
    torch.manual_seed(0)
    images, mixture = torch.randn(64, 8), torch.randn(8, 3)
    targets = (images @ mixture) * TARGET_SCALES
    shared = torch.nn.Linear(8, 6)
    heads = torch.nn.ModuleList(torch.nn.Linear(6, 1) for _ in range(3))
    optimizer = torch.optim.Adam([*shared.parameters(), *heads.parameters()], lr=0.02)
    generator, present = torch.Generator().manual_seed(0), torch.ones(3, dtype=torch.bool)

    def measure():
        features = torch.tanh(shared(images))
        return torch.stack([(head(features)[:, 0] - targets[:, k]).square().mean() for k, head in enumerate(heads)])

    first = measure().detach()
    for _ in range(num_steps):
        losses = measure()
        weighting.begin_step(generator)
        if weighting.needs_grad_norms:
            grads = [torch.autograd.grad(loss, shared.weight, retain_graph=True)[0] for loss in losses]
            weighting.observe_grad_norms(torch.stack([grad.norm() for grad in grads]), losses, present)
        optimizer.zero_grad()
        (weighting.weights(losses, present) * losses).sum().backward()
        optimizer.step()
        weighting.after_step(losses, measure() if weighting.needs_after_step else None, present)
        weighting.update_kpis({task: 1 / (1 + loss) for task, loss in zip(weighting.tasks, losses.tolist())})
    return first, measure().detach()


@pytest.mark.parametrize('case', CASES)
def test_the_losses_go_down(case):
    first, last = train(build(case, 3))
    assert bool(torch.isfinite(last).all())
    assert float((last / first).mean()) < 0.9


def test_a_ten_line_example():
    from mtl_plugins.methods import FAMO

    torch.manual_seed(0)
    model, data = torch.nn.Linear(4, 2), torch.randn(32, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weighting, present = FAMO(tasks=['small', 'large']), torch.tensor([True, True])
    history = []
    for _ in range(50):
        losses = (model(data) - data[:, :2] * torch.tensor([1.0, 10.0])).square().mean(dim=0)
        optimizer.zero_grad()
        (weighting.weights(losses, present) * losses).sum().backward()
        optimizer.step()
        with torch.no_grad():
            after = (model(data) - data[:, :2] * torch.tensor([1.0, 10.0])).square().mean(dim=0)
        weighting.after_step(losses, after, present)
        history.append(losses.detach())
    assert bool((history[-1] < history[0]).all())
