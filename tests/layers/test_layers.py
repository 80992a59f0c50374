"""Time folding, norms and their folding, residual connections, encoders."""

import pytest
import torch
from torch import nn

from saccade import layers
from saccade.layers import BatchNorm2d, Conv2d, SpikingShortcut, ThresholdBatchNorm2d, connect, fold_norm
from saccade.neurons import neuron


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2d(3, 4, 3, 2, 1),
        layers.BatchNorm2d(3).eval(),
        layers.ThresholdBatchNorm2d(3, 0.5).eval(),
        layers.MaxPool2d(2),
        layers.AvgPool2d(2),
        layers.AdaptiveAvgPool2d(3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_folded_layers_treat_every_step_alike(layer):
    x = torch.randn(4, 2, 3, 8, 8)
    y = layer(x)
    assert y.shape[:2] == (4, 2)
    assert torch.equal(y, torch.stack([layer(step) for step in x]))
    for shape in ([3, 8, 8], [2, 4, 2, 3, 8, 8]):
        with pytest.raises(ValueError, match=r"expected \[T, N, C, H, W\] or \[N, C, H, W\]"):
            layer(torch.randn(shape))


def test_linear_takes_steps():
    layer = layers.Linear(3, 2)
    x = torch.randn(4, 5, 3)
    assert torch.allclose(layer(x)[2], layer(x[2]), atol=1e-6)


def test_a_wrong_channel_count_is_named():
    with pytest.raises(ValueError, match=r"expected 3 channels, got an input \[2, 2, 5, 8, 8\]"):
        Conv2d(3, 4, 3)(torch.randn(2, 2, 5, 8, 8))


@pytest.mark.parametrize(("v_th", "alpha"), [(1.0, 1.0), (0.5, 1.0), (0.2, 2**-0.5)])
def test_threshold_norm_gives_mean_0_and_deviation_alpha_v_th(v_th, alpha):
    norm = ThresholdBatchNorm2d(4, v_th, alpha)
    y = norm(torch.randn(3, 8, 4, 9, 9) * 5 + 2)
    assert torch.allclose(y.mean((0, 1, 3, 4)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(y.std((0, 1, 3, 4), correction=0), torch.full((4,), alpha * v_th), rtol=1e-4)


def test_threshold_norm_tracks_statistics_as_batch_norm_does():
    ours, plain = ThresholdBatchNorm2d(3, 0.5), BatchNorm2d(3)
    for momentum in (0.1, None):
        ours.momentum = plain.momentum = momentum
        for _ in range(3):
            x = torch.randn(2, 4, 3, 5, 5) * 3 + 1
            assert torch.allclose(ours(x), plain(x) * 0.5, atol=1e-6)
        assert torch.allclose(ours.running_mean, plain.running_mean)
        assert torch.allclose(ours.running_var, plain.running_var)
        assert ours.num_batches_tracked == plain.num_batches_tracked


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", [lambda: BatchNorm2d(6), lambda: ThresholdBatchNorm2d(6, 0.5, 2**-0.5)])
def test_folding_a_norm_changes_nothing_in_eval(make, bias):
    conv, norm = Conv2d(4, 6, 3, 2, 1, groups=2, bias=bias).double(), make().double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -0.5, 0.0, 2.0, 0.3, 1.0]))  # negative and zero gammas too
        norm.bias.normal_()
    norm(conv(torch.randn(3, 4, 4, 9, 9, dtype=torch.float64)))
    norm.eval()
    x = torch.randn(2, 3, 4, 9, 9, dtype=torch.float64)
    merged = fold_norm(conv, norm)
    assert torch.allclose(merged(x), norm(conv(x)), atol=1e-12)
    with pytest.raises(ValueError, match="running statistics"):
        fold_norm(conv, nn.BatchNorm2d(6, track_running_stats=False))


TRUTH = {"add": [0, 1, 1, 2], "and": [0, 0, 0, 1], "iand": [0, 1, 0, 0], "or": [0, 1, 1, 1]}


@pytest.mark.parametrize("kind", TRUTH)
def test_connections_by_truth_table(kind):
    a, s = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert connect(a, s, kind).tolist() == TRUTH[kind]


def test_or_is_logical_or_and_obeys_de_morgan():
    a, s = (torch.rand(2, 50, 20) < 0.3).float()
    assert torch.equal(connect(a, s, "or").bool(), torch.logical_or(a, s))
    assert torch.equal(connect(a, s, "or"), 1 - (1 - a) * (1 - s))
    assert torch.equal(connect(a, s, "iand").bool(), torch.logical_and(s, ~a.bool()))
    assert torch.equal(connect(a, torch.zeros_like(s), "or"), a)  # a silent shortcut leaves the backbone


def test_or_gradients_are_one_minus_the_other():
    a, s = ((torch.rand(2, 30) < 0.5).float()).unbind(0)
    a, s = a.clone().requires_grad_(), s.clone().requires_grad_()
    connect(a, s, "or").sum().backward()
    assert torch.equal(a.grad, 1 - s.detach())
    assert torch.equal(s.grad, 1 - a.detach())


def test_unknown_connection():
    with pytest.raises(ValueError, match="unknown residual connection 'xor'; known: add, and, iand, or"):
        connect(torch.zeros(1), torch.zeros(1), "xor")


def test_spiking_shortcut_shapes():
    shortcut = SpikingShortcut(3, 5, 2, nn.Identity(), neuron("lif", role="shortcut"))
    y = shortcut(torch.randn(2, 3, 3, 8, 8) * 9)
    assert y.shape == (2, 3, 5, 4, 4)
    assert set(y.unique().tolist()) == {0, 1}


def test_dropout_uses_one_mask_for_all_steps():
    drop = layers.Dropout(0.5)
    y = drop(torch.ones(4, 10, 20))
    assert torch.equal(y[0], y[3])
    assert set(y.unique().tolist()) == {0, 2}
    assert torch.equal(drop.eval()(y), y)


def test_encoders():
    x = torch.rand(3, 1, 4, 4)
    shown = layers.direct(x, 5)
    assert shown.shape == (5, 3, 1, 4, 4)
    assert shown.data_ptr() == x.data_ptr()
    spikes = layers.rate(x, 4000, torch.Generator().manual_seed(0))
    assert set(spikes.unique().tolist()) == {0, 1}
    assert torch.allclose(spikes.mean(0), x, atol=0.04)
    first = layers.latency(torch.tensor([1.0, 0.5, 0.01, 0.0]), 5)
    assert first.argmax(0).tolist() == [0, 2, 4, 0]
    assert first.sum(0).tolist() == [1, 1, 1, 0]
    for encode in (layers.rate, layers.latency):
        with pytest.raises(ValueError, match=r"expected values in \[0, 1\], got \[0, 2\]"):
            encode(torch.tensor([0.0, 2.0]), 3)
        with pytest.raises(ValueError, match="T must be at least 1"):
            encode(x, 0)
    with pytest.raises(ValueError, match="T must be at least 1"):
        layers.direct(x, 0)
