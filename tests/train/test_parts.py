"""Losses, schedule, recipes, checkpoints: the parts of training."""

import math
import re

import pytest
import torch
from torch import nn

from saccade.train import checkpoint as checkpoints
from saccade.train import learning_rate, loss_function
from saccade.train.checkpoint import Progress
from saccade.train.losses import accuracy_count, soft_targets

LOGITS = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 3.0]]])  # T = 2, N = 2, K = 2
TARGET = torch.tensor([0, 1])


def test_losses_by_hand():
    mean = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    ce = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))) / 2
    assert loss_function("ce", 2)(LOGITS, TARGET).item() == pytest.approx(ce)
    assert loss_function("mse", 2)(LOGITS, TARGET).item() == pytest.approx(((mean - torch.eye(2)) ** 2).mean().item())
    steps = [math.log(1 + math.exp(-m)) for m in (2, 1, 0, 3)]
    assert loss_function("tet", 2)(LOGITS, TARGET).item() == pytest.approx(sum(steps) / 4)
    mixed = 0.7 * sum(steps) / 4 + 0.3 * ((LOGITS - 1) ** 2).mean().item()
    assert loss_function("tet", 2, tet_lambda=0.3)(LOGITS, TARGET).item() == pytest.approx(mixed)
    last = (math.log(2) + math.log(1 + math.exp(-3))) / 2
    assert loss_function("ce", 2, readout="last")(LOGITS, TARGET).item() == pytest.approx(last)


def test_tet_is_at_least_the_cross_entropy_of_the_mean():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = torch.randn(5, 7, 4, generator=generator) * 3
        target = torch.randint(0, 4, (7,), generator=generator)
        assert loss_function("tet", 4)(logits, target) >= loss_function("ce", 4)(logits, target) - 1e-6


def test_soft_and_smoothed_targets():
    assert soft_targets(TARGET, 2, 0.2).tolist() == [pytest.approx([0.9, 0.1]), pytest.approx([0.1, 0.9])]
    soft = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    hard = loss_function("ce", 2)
    expected = 0.25 * hard(LOGITS[:, :1], torch.tensor([0])) + 0.75 * hard(LOGITS[:, :1], torch.tensor([1]))
    assert torch.allclose(hard(LOGITS[:, :1], soft[:1]), expected)
    reference = nn.functional.cross_entropy(LOGITS.mean(0), TARGET, label_smoothing=0.1)
    assert torch.allclose(loss_function("ce", 2, smoothing=0.1)(LOGITS, TARGET), reference)
    assert accuracy_count(LOGITS, TARGET).item() == 2
    assert accuracy_count(LOGITS, soft).item() == 0


def test_loss_errors():
    with pytest.raises(ValueError, match="unknown loss 'hinge'; known: ce, mse, tet"):
        loss_function("hinge", 2)
    with pytest.raises(ValueError, match=re.escape("losses take logits [T, N, K], got [2, 2]")):
        loss_function("ce", 2)(LOGITS[0], TARGET)


def test_learning_rate():
    def rate(step, **options):
        return learning_rate(step, total=100, peak=1.0, **options)

    assert [rate(s, warmup=4) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert rate(0) == 1.0
    assert rate(50) == pytest.approx(0.5)
    assert rate(100, final=0.1) == pytest.approx(0.1)
    assert rate(52, warmup=4) == pytest.approx(0.5)
    assert rate(99, schedule="constant") == 1.0


@pytest.mark.parametrize("make", [torch.optim.AdamW, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)])
def test_checkpoints_restore_everything(tmp_path, make):
    model = nn.Linear(3, 2)
    optimizer = make(model.parameters(), 0.1)
    for _ in range(3):
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    progress = Progress(epoch=2, step=5, loss_sum=0.1 + 0.2, history=[{"epoch": 0, "rate": None}])
    path = tmp_path / "last" / "state.safetensors"
    sums = {"correct": torch.tensor(7), "overlap": torch.tensor(0.5, dtype=torch.float64)}
    checkpoints.save(path, model.state_dict(), {"e": torch.ones(2)}, optimizer, progress, sums)
    parts, state, found = checkpoints.load(path)
    assert found == progress
    assert torch.equal(parts["ema"]["e"], torch.ones(2))
    assert all(torch.equal(parts["metrics"][key], value) for key, value in sums.items())
    twin = nn.Linear(3, 2)
    twin.load_state_dict(parts["model"])
    other = make(twin.parameters(), 0.5)
    other.load_state_dict(state)
    x = torch.randn(4, 3)
    for net, opt in ((model, optimizer), (twin, other)):
        net(x).square().sum().backward()
        opt.step()
    assert torch.equal(model.weight, twin.weight)


def test_bad_checkpoints(tmp_path):
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="state.safetensors: not a readable checkpoint"):
        checkpoints.load(path)
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="not a checkpoint written by saccade"):
        checkpoints.load(path)
