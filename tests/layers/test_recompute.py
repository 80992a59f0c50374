"""Blocks that run again on the way back: the same numbers, less memory."""

import copy

import pytest
import torch

from saccade.layers import BatchNorm2d, Blocks, Conv2d, Dropout, ThresholdBatchNorm2d, set_recompute
from saccade.measure import training_memory
from saccade.models import create_model
from saccade.neurons import LIF


def trained(model, x, on):
    """Outputs, gradients and buffers after two forward and backward passes."""
    model = copy.deepcopy(model)
    set_recompute(model, on)
    torch.manual_seed(5)
    leaf = x.clone().requires_grad_()
    for _ in range(2):
        y = model(leaf)
        y.square().sum().backward()
    return [y, leaf.grad, *(p.grad for p in model.parameters()), *model.buffers()]


def chain(norm):
    blocks = [torch.nn.Sequential(Conv2d(4, 4, 3, padding=1), norm(), LIF(), Dropout(0.3)) for _ in range(3)]
    return Blocks(*blocks)


@pytest.mark.parametrize(
    "norm",
    [lambda: BatchNorm2d(4), lambda: ThresholdBatchNorm2d(4), lambda: BatchNorm2d(4, momentum=None)],
    ids=["norm", "threshold-dependent", "cumulative"],
)
@pytest.mark.parametrize("spikes", [True, False])
def test_gradients_statistics_and_randomness_are_the_same(norm, spikes):
    torch.manual_seed(0)
    model = chain(norm)
    x = torch.randn(3, 4, 4, 16, 16)
    x = (x > 1).float() if spikes else x
    assert all(torch.equal(a, b) for a, b in zip(trained(model, x, True), trained(model, x, False), strict=True))


@pytest.mark.parametrize("name", ["or_resnet18_small", "ms_resnet18", "sew_resnet18"])
def test_models_train_the_same_in_less_memory(name):
    torch.manual_seed(0)
    model = create_model(name, stem="cifar", T=4, widths=(4, 8, 8, 8))
    x = torch.rand(8, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(trained(model, x, True), trained(model, x, False), strict=True))
    memory = {}
    for on in (True, False):
        set_recompute(model, on)
        memory[on] = training_memory(model, x)
    assert memory[True].kept_bytes < 0.5 * memory[False].kept_bytes
    assert memory[True].peak_bytes < memory[False].peak_bytes


def test_frozen_blocks_and_autocast():
    torch.manual_seed(0)
    model = chain(lambda: BatchNorm2d(4))
    model[1].requires_grad_(False)
    x = torch.randn(3, 4, 4, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = trained(model, x, True)
        expected = trained(model, x, False)
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match=r"Conv2d has no saccade.layers.Blocks"):
        set_recompute(Conv2d(1, 1, 1), True)
