"""Spikes kept as bits: exactly themselves again, exactly the same gradients."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade import kernels
from saccade.kernels.bits import GRIDS, Grid, pack, pack_any, unpack
from saccade.layers import AvgPool2d, Conv2d, Linear, declare_inputs, set_spike_packing
from saccade.models import create_model
from saccade.neurons import LIF


def on_grid(shape, grid, dtype=torch.float32, seed=0):
    k = torch.randint(0, 1 << grid.planes, shape, generator=torch.Generator().manual_seed(seed))
    return ((k + grid.low) * grid.unit).to(dtype)


@given(
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    grid=st.sampled_from(GRIDS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    form=st.sampled_from(["native", "reference"]),
    swap=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_out_comes_what_went_in(shape, grid, dtype, form, swap):
    x = on_grid(shape, grid, dtype)
    x = x.transpose(0, -1) if swap else x
    with kernels.use(form):
        bits = pack(x, grid)
        assert bits is not None
        y = unpack(*bits)
    assert torch.equal(x, y)
    assert (y.dtype, y.stride()) == (x.dtype, x.stride())
    assert bits.planes.numel() <= grid.planes * (x.numel() // 8 + 8)


@pytest.mark.parametrize("form", ["native", "reference"])
@pytest.mark.parametrize("grid", GRIDS)
def test_both_forms_write_the_same_bytes(grid, form):
    x = on_grid((3, 77), grid)
    with kernels.use("reference"):
        expected = pack(x, grid).planes[:, : 3 * 77 // 8]
    with kernels.use(form):
        assert torch.equal(pack(x, grid).planes[:, : 3 * 77 // 8], expected)


@pytest.mark.parametrize("form", ["native", "reference"])
@pytest.mark.parametrize("place", [0, 40, 200, -1])
@pytest.mark.parametrize("value", [0.3, -1.0, 2.0, 1.0000001, float("nan"), float("inf"), -1e-30])
def test_a_value_off_the_grid_is_seen_wherever_it_is(form, place, value):
    x = on_grid((1000,), Grid())
    x[place] = value
    with kernels.use(form):
        assert pack(x, Grid()) is None


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        ((0, 1), Grid()),
        ((0, 1, 2), Grid(1.0, 0, 2)),
        ((-1, 0, 1), Grid(1.0, -1, 2)),
        ((0, 0.25, 1), Grid(0.25, 0, 3)),
        ((0, 0.25, 2), Grid(0.25, 0, 4)),
        ((0, 0.1), None),
    ],
)
def test_grids_are_found(values, grid):
    bits = pack_any(torch.tensor(values, dtype=torch.float32).repeat(50))
    assert (bits.form.grid if bits else None) == grid


def gradients(layer, x, on):
    layer = copy.deepcopy(layer)
    set_spike_packing(layer, on)
    kept = []
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = layer(leaf)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype))
    return [y, leaf.grad, *(p.grad for p in layer.parameters())], kept


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("grid", [Grid(), Grid(0.25, 0, 3)])
@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(8, 16, 3, padding=1),
        Conv2d(8, 16, 3, 2, bias=False, groups=2, dilation=2),
        Conv2d(8, 12, 1, bias=False),
        Conv2d(8, 8, 3, padding="same"),
        Conv2d(8, 8, 3, padding=1, padding_mode="circular"),
    ],
    ids=["3x3", "strided", "1x1", "same", "circular"],
)
def test_convolutions_have_the_same_gradients(layer, grid, layout):
    x = on_grid((3, 4, 8, 17, 17), grid)
    if layout == "channels_last":
        x = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (3, 4))
    packed, kept = gradients(layer, x, True)
    plain, _ = gradients(layer, x, False)
    assert all(torch.equal(a, b) for a, b in zip(packed, plain, strict=True))
    if layer.padding_mode == "zeros" and layer.padding != "same":
        assert sum(t.numel() * t.element_size() for t in kept if t.dtype == torch.uint8) <= x.numel() * 3 // 8 + 64
        assert not any(t.numel() == x.numel() for t in kept)


@pytest.mark.parametrize("shape", [(4, 64, 64), (1024, 64), (4, 8, 16, 64)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_have_the_same_gradients(shape, bias):
    x = on_grid(shape, Grid())
    torch.manual_seed(0)
    layer = Linear(64, 10, bias=bias)
    packed, kept = gradients(layer, x, True)
    plain, _ = gradients(layer, x, False)
    assert all(torch.equal(a, b) for a, b in zip(packed, plain, strict=True))
    assert any(t.dtype == torch.uint8 for t in kept)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype):
    layer, x = Conv2d(8, 16, 3, padding=1), on_grid((3, 4, 8, 16, 16), Grid())
    with torch.autocast("cpu", dtype):
        packed, kept = gradients(layer, x, True)
        plain, _ = gradients(layer, x, False)
    assert packed[0].dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(packed, plain, strict=True))
    assert any(t.dtype == torch.uint8 for t in kept)


def test_a_layer_whose_input_leaves_its_grid_keeps_it_whole():
    layer = Conv2d(8, 8, 3)
    spikes = on_grid((1, 4, 8, 32, 32), Grid())
    layer(spikes)
    assert layer._grid == Grid()
    layer(spikes * 2)
    assert layer._grid == Grid(1.0, 0, 2)
    layer(torch.randn(1, 4, 8, 32, 32))
    assert layer._grid == "analog"
    _, kept = gradients(layer, torch.randn(1, 4, 8, 32, 32), True)
    assert not any(t.dtype == torch.uint8 for t in kept)


def test_nothing_is_packed_where_nothing_is_kept():
    layer, spikes = Conv2d(8, 8, 3), on_grid((1, 4, 8, 32, 32), Grid())
    with torch.no_grad():
        layer(spikes)
    layer.requires_grad_(False)
    layer(spikes)
    assert layer._grid is None


def test_a_models_gradients_are_the_same_and_its_memory_less():
    torch.manual_seed(0)
    model = create_model("or_resnet18_small", T=4)
    x = torch.rand(8, 3, 32, 32)
    found = []
    for on in (True, False):
        copied = copy.deepcopy(model)
        set_spike_packing(copied, on)
        kept = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t,
            lambda t: t,
        ):
            y = copied(x, steps=True)
        y.square().sum().backward()
        found.append((y, [p.grad for p in copied.parameters()], sum(kept.values())))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))
    assert found[0][2] < 0.9 * found[1][2]


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("channels", [1, 5, 16, 37])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_average_pooling_is_torchs_and_keeps_nothing(k, channels, layout):
    x = torch.randn(4, channels, 12, 18, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    found = []
    for form in ("reference", "native"):
        with kernels.use(form):
            kept = []
            leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
            with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
                y = AvgPool2d(k)(leaf.unflatten(0, (2, 2)))
            y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
            found.append((y, leaf.grad, len(kept)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert (found[0][2], found[1][2]) == (1, 0)


def test_average_pooling_of_other_windows_is_torchs():
    x = torch.randn(1, 2, 3, 9, 9)
    for options in ({"stride": 1}, {"padding": 1}, {"ceil_mode": True}, {"divisor_override": 3}, {}):
        expected = torch.nn.AvgPool2d(2, **options)(x[0])
        assert torch.equal(AvgPool2d(2, **options)(x)[0], expected)


def test_spikes_of_a_neuron_are_packed_in_a_chain():
    layers = torch.nn.Sequential(LIF(), AvgPool2d(2), Conv2d(16, 4, 3), LIF(), Conv2d(4, 4, 3))
    layers(torch.randn(3, 8, 16, 32, 32) * 3)
    assert layers[2]._grid == Grid(0.25, 0, 3)
    assert layers[4]._grid == Grid()


class Levels(torch.nn.Module):
    """A neuron of nine levels, as integer neurons have them."""

    levels = tuple(i / 8 for i in range(9))

    def forward(self, x):
        return (x.clamp(0, 1) * 8).round() / 8


def test_inputs_are_declared_by_the_graph():
    """0.1 called spikes of eight levels analog: it guessed from what it saw."""
    net = torch.nn.Sequential(Conv2d(3, 8, 3), Levels(), AvgPool2d(2), Conv2d(8, 8, 3), LIF(), Conv2d(8, 4, 3))
    x = torch.rand(1, 4, 3, 64, 64)
    grids = declare_inputs(net, x)
    assert grids == {"0": None, "3": Grid(1 / 32, 0, 6), "5": Grid()}
    reference = gradients(net, x, False)[0]
    found, kept = gradients(net, x, True)
    assert any(t.dtype == torch.uint8 and t.shape[0] == 6 for t in kept)
    assert all(torch.equal(a, b) for a, b in zip(found, reference, strict=True))
    assert net[3]._grid == Grid(1 / 32, 0, 6)
