"""Time folding, norms and their folding, residual connections, encoders."""

import copy

import pytest
import torch
from torch import nn

from saccade import layers
from saccade.layers import (
    CONNECTIONS,
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    LayerNorm,
    SpikingShortcut,
    ThresholdBatchNorm2d,
    norm_of,
    weighted,
)
from saccade.neurons import NEURONS
from saccade.transforms.fold_norms import fold_into


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
    assert torch.equal(y, torch.cat([layer(step) for step in x.split(1)]))
    for shape in ([3, 8, 8], [2, 3, 8, 8], [2, 4, 2, 3, 8, 8]):
        with pytest.raises(ValueError, match=r"expected \[T, N, C, H, W\], got"):
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
    expected = norm(conv(x))
    fold_into(conv, *norm.scale_and_offset())
    assert torch.allclose(conv(x), expected, atol=1e-12)
    with pytest.raises(ValueError, match="running statistics"):
        norm_of(nn.BatchNorm2d(6, track_running_stats=False)).scale_and_offset()


TRUTH = {"add": [0, 1, 1, 2], "and": [0, 0, 0, 1], "iand": [0, 1, 0, 0], "or": [0, 1, 1, 1]}


@pytest.mark.parametrize("kind", TRUTH)
def test_connections_by_truth_table(kind):
    a, s = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    connection = CONNECTIONS[kind]
    assert connection(a, s).tolist() == TRUTH[kind]
    assert connection.binary == (max(TRUTH[kind]) == 1)
    silent = connection(a, torch.zeros_like(s))
    assert connection.removable == torch.equal(silent, a)
    assert connection.needs_both == (TRUTH[kind] == [0, 0, 0, 1])


def test_or_is_logical_or_and_obeys_de_morgan():
    a, s = (torch.rand(2, 50, 20) < 0.3).float()
    assert torch.equal(CONNECTIONS["or"](a, s).bool(), torch.logical_or(a, s))
    assert torch.equal(CONNECTIONS["or"](a, s), 1 - (1 - a) * (1 - s))
    assert torch.equal(CONNECTIONS["iand"](a, s).bool(), torch.logical_and(s, ~a.bool()))
    assert torch.equal(CONNECTIONS["or"](a, torch.zeros_like(s)), a)  # a silent shortcut leaves the backbone


def test_or_gradients_are_one_minus_the_other():
    a, s = ((torch.rand(2, 30) < 0.5).float()).unbind(0)
    a, s = a.clone().requires_grad_(), s.clone().requires_grad_()
    CONNECTIONS["or"](a, s).sum().backward()
    assert torch.equal(a.grad, 1 - s.detach())
    assert torch.equal(s.grad, 1 - a.detach())


def test_unknown_connection():
    with pytest.raises(ValueError, match="unknown residual connection 'xor'"):
        CONNECTIONS["xor"]


def test_spiking_shortcut_shapes():
    shortcut = SpikingShortcut(3, 5, 2, nn.Identity(), NEURONS["lif"].build(role="shortcut"))
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


@pytest.mark.parametrize("axis", [2, 3, -1])
def test_a_batch_norm_names_its_channel_axis(axis):
    """Against torch's own with the channels moved to its place; the axis of samples is never one."""
    shape = {2: (4, 5, 6, 7), 3: (4, 5, 7, 6), -1: (4, 5, 2, 7, 6)}[axis]
    norm, plain, x = BatchNorm(6, channel_axis=axis), nn.BatchNorm1d(6), torch.randn(shape) * 2 + 1
    flat = x.movedim(axis, 1).flatten(2).movedim(1, 0).flatten(1).t()  # every place a row
    assert torch.allclose(norm(x), _placed(plain(flat), x, axis), atol=1e-6)
    assert torch.allclose(norm.running_var, plain.running_var)
    with pytest.raises(ValueError, match=r"with 6 channels on axis"):
        norm(torch.randn(6, 6, 5, 5))
    with pytest.raises(ValueError, match="axes 0 and 1 are time and samples"):
        BatchNorm(6, channel_axis=1)


def _placed(rows, x, axis):
    moved = x.movedim(axis, 1)
    return rows.t().reshape(6, 4, -1).movedim(0, 1).reshape(moved.shape).movedim(1, axis)


def test_rows_and_tokens():
    norm, plain, x = BatchNorm(3), nn.BatchNorm1d(3), torch.randn(4, 5, 3)
    assert torch.equal(norm(x), plain(x.flatten(0, 1)).unflatten(0, (4, 5)))
    assert torch.equal(norm.running_var, plain.running_var)
    tokens = torch.randn(4, 2, 7, 3)
    assert torch.equal(LayerNorm(3)(tokens), nn.LayerNorm(3)(tokens))
    with pytest.raises(ValueError, match="no scale and offset"):
        LayerNorm(3).scale_and_offset()
    for pool in (layers.MaxPool2d(1), layers.AvgPool2d(1)):
        with pytest.raises(ValueError, match=r"expected \[T, N, C, H, W\], got \[4, 2, 7, 3\]"):
            pool(tokens)  # it would pool tokens and channels


@pytest.mark.parametrize("make", [lambda: layers.Conv2d(4, 6, 3), lambda: nn.Conv2d(4, 6, 3), lambda: nn.Linear(4, 6)])
def test_weighted_layers_lose_channels(make):
    layer = weighted(make())
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    layer.keep_outputs(torch.tensor([0, 5]))
    layer.keep_inputs(torch.tensor([1, 3]))
    assert torch.equal(layer.weight, weight[[0, 5]][:, [1, 3]])
    assert torch.equal(layer.bias, bias[[0, 5]])
    own = make()
    x = torch.rand(2, 2, 5, 5) if own.weight.dim() == 4 else torch.rand(2, 2)
    inner = getattr(layer, "module", layer)
    assert inner(x[None] if isinstance(inner, layers.Conv2d) else x).shape[-3 if x.dim() == 4 else -1] == 2
    assert "2, 2" in repr(inner) or "in_features=2, out_features=2" in repr(inner)


def test_depthwise_layers_keep_one_input_for_each_output():
    conv = layers.Conv2d(6, 6, 3, groups=6)
    assert conv.depthwise
    conv.keep_outputs(torch.tensor([1, 4]))
    assert (conv.in_channels, conv.out_channels, conv.groups) == (2, 2, 2)
    assert conv(torch.rand(1, 1, 2, 5, 5)).shape == (1, 1, 2, 3, 3)


@pytest.mark.parametrize(
    "norm", [BatchNorm2d(4), BatchNorm(4, channel_axis=-1), ThresholdBatchNorm2d(4)], ids=lambda one: type(one).__name__
)
def test_norms_are_not_turned_into_others_that_take_samples_for_channels(norm):
    with pytest.raises(ValueError, match=f"samples of {type(norm).__name__}"):
        nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(norm))
    assert norm.affine
    assert "affine=True" in repr(norm)
    other = copy.deepcopy(norm)
    assert other.affine
