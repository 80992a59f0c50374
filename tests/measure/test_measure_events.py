"""Synaptic operations against brute-force event simulation: every event visits every output it reaches."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.measure import Profile, profile

ALPHABETS = {
    "binary": (0.0, 1.0),
    "ternary": (-1.0, 0.0, 1.0),
    "integer": (0.0, 0.25, 0.5, 0.75, 1.0),
    "thirds": (0.0, 1 / 3, 2 / 3, 1.0),
}


class Fixed(nn.Module):
    """A stand-in neuron: emits what it is given, and declares its levels."""

    def __init__(self, levels: tuple[float, ...], role: str = "") -> None:
        super().__init__()
        self.levels, self.role = levels, role

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class Then(nn.Module):
    """Stand-in neuron, then a function or module of time-folded spikes."""

    def __init__(self, levels: tuple[float, ...], then) -> None:
        super().__init__()
        self.neuron, self.then = Fixed(levels), then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.neuron(x).flatten(0, 1))


def draw(levels: tuple[float, ...], *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(levels)[torch.randint(len(levels), shape, generator=generator)]


def run(levels: tuple[float, ...], x: Tensor, then) -> Profile:
    return profile(Then(levels, then), x, batch_dim=1)


def events_of(x: Tensor, unit: float) -> Tensor:
    return (x / unit).round().abs().to(torch.int64)


def simulate_conv(events: Tensor, conv: nn.Conv2d) -> int:
    """Additions that events `[F, C, H, W]` cause, visited one by one."""
    frames, channels, height, width = events.shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    out_h = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    out_w = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    total = 0
    for f, c, h, w in itertools.product(range(frames), range(channels), range(height), range(width)):
        for o_h, o_w, k_h, k_w in itertools.product(range(out_h), range(out_w), range(kh), range(kw)):
            if o_h * sh - ph + k_h * dh == h and o_w * sw - pw + k_w * dw == w:
                total += int(events[f, c, h, w]) * conv.out_channels // conv.groups
    return total


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from((1, 2)),
    name=st.sampled_from(sorted(ALPHABETS)),
    seed=st.integers(0, 1000),
)
def test_conv_counts_every_event_at_every_output(kernel, stride, padding, dilation, groups, name, seed):
    levels = ALPHABETS[name]
    x = draw(levels, 1, 1, 2, 5, 6, seed=seed)
    conv = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups)
    total = run(levels, x, conv).total()
    unit = {"binary": 1, "ternary": 1, "integer": 0.25, "thirds": 1 / 3}[name]
    assert total.sops == simulate_conv(events_of(x[0], unit), conv)
    assert total.dense_macs == simulate_conv(torch.ones_like(x[0], dtype=torch.int64), conv)
    assert total.macs == 0
    assert total.spikes == int(events_of(x, unit).sum())


def reference_sops(x: Tensor, unit: float, op) -> int:
    """The same count by an all-ones dense operation in float64 on the event counts."""
    return round(float(op(events_of(x, unit).double()).sum()))


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_and_one_dimensional_convs(groups):
    x = draw((0.0, 1.0), 2, 3, 4, 5, 6)
    conv = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=groups)
    ones = torch.ones_like(conv.weight, dtype=torch.float64)
    dense = run((0.0, 1.0), x, conv).total()
    expected = nn.functional.conv_transpose2d(x.flatten(0, 1).double(), ones, None, 2, 1, 1, groups)
    assert dense.sops == round(float(expected.sum()))
    x1 = draw((0.0, 1.0), 2, 3, 4, 9)
    conv1 = nn.Conv1d(4, 6, 3, 2, 1, groups=groups)
    ones1 = torch.ones_like(conv1.weight, dtype=torch.float64)
    expected1 = nn.functional.conv1d(x1.flatten(0, 1).double(), ones1, None, 2, 1, 1, groups)
    assert run((0.0, 1.0), x1, conv1).total().sops == round(float(expected1.sum()))


def test_the_peers_zero_synop_trap():
    """Conv 8 -> 16, 3x3: other counters give 0 synaptic operations and dense MACs for anything but {0, 1}."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3, padding=1)
    for levels, unit in (
        ((0.0, 1.0, 2.0), 1),
        ((0.0, 1.0, 2.0, 3.0, 4.0), 1),
        ((-1.0, 0.0, 1.0), 1),
        ((0.0, 0.5), 0.5),
    ):
        x = draw(levels, 2, 1, 8, 10, 10)
        measured = run(levels, x, conv)
        ones = torch.ones(16, 8, 3, 3, dtype=torch.float64)
        expected = reference_sops(x[:, 0], unit, lambda e, w=ones: nn.functional.conv2d(e, w, None, 1, 1))
        assert measured.total().sops == expected > 0
        assert measured.total().macs == 0
        (record,) = [op for op in measured.records if op.op == "conv"]
        assert record.padded_macs == 230400  # what they bill: padding taps too
        assert measured.total().dense_macs == 2 * 16 * 8 * 28 * 28


@pytest.mark.parametrize("name", ALPHABETS)
def test_linear(name):
    levels = ALPHABETS[name]
    unit = min(abs(v) for v in levels if v)
    x = draw(levels, 3, 2, 4, 7)
    for bias in (True, False):
        linear = nn.Linear(7, 5, bias=bias)
        total = run(levels, x, linear).total()
        assert total.sops == 5 * int(events_of(x, unit).sum())
        assert total.dense_macs == 3 * 2 * 4 * 7 * 5
        # a non-contiguous input takes another route through aten; its bias is no extra addition
        other = nn.Linear(4, 5, bias=bias)
        moved = run(levels, x, lambda y, layer=other: layer(y.transpose(-1, -2))).total()
        assert moved.sops == 5 * int(events_of(x, unit).sum())


class Two(nn.Module):
    """Two spike tensors from one input, joined by a function."""

    def __init__(self, join, first=(0.0, 1.0), second=(0.0, 1.0)) -> None:
        super().__init__()
        self.a, self.b, self.join = Fixed(first), Fixed(second), join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.a(x[..., 0]), self.b(x[..., 1]))


@pytest.mark.parametrize("form", ["matmul", "einsum"])
def test_attention_products_count_coincident_events(form):
    q, k = draw((0.0, 1.0), 2, 3, 4, 5), draw((-1.0, 0.0, 1.0), 2, 3, 4, 5, seed=1)

    def join(a: Tensor, b: Tensor) -> Tensor:
        return a @ b.transpose(-1, -2) if form == "matmul" else torch.einsum("tnid,tnjd->tnij", a, b)

    total = profile(Two(join, second=(-1.0, 0.0, 1.0)), torch.stack((q, k), -1), batch_dim=1).total()
    pairs = sum(
        int(q[t, n, i, d] != 0 and k[t, n, j, d] != 0)
        for t, n, i, j, d in itertools.product(range(2), range(3), range(4), range(4), range(5))
    )
    assert (total.sops, total.macs, total.dense_macs) == (pairs, 0, 2 * 3 * 4 * 4 * 5)


def test_attention_chain_stays_on_its_grid():
    """(q k^T) v: the product of two spike tensors is an integer spike for the next one; analog v is added per event."""
    q, k = draw((0.0, 1.0), 1, 2, 4, 5), draw((0.0, 1.0), 1, 2, 4, 5, seed=1)

    def chain(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.transpose(-1, -2) * 0.125) @ torch.ones(4, 3).mul_(0.5)

    scores = q @ k.transpose(-1, -2)
    total = profile(Two(chain), torch.stack((q, k), -1), batch_dim=1).total()
    assert total.sops == int(scores.sum()) + 3 * int(scores.sum())
    assert total.macs == total.mults == 0


JOINS = {
    "add": (lambda a, s: a + s, lambda a, s: a + s),
    "or": (lambda a, s: a + s - a * s, torch.maximum),
    "de morgan": (lambda a, s: 1 - (1 - a) * (1 - s), torch.maximum),
    "maximum": (torch.maximum, torch.maximum),
    "logical": (lambda a, s: torch.logical_or(a.bool(), s.bool()).float(), torch.maximum),
    "iand": (lambda a, s: (1 - a) * s, lambda a, s: (1 - a) * s),
    "and": (lambda a, s: a * s, torch.minimum),
    "in place": (lambda a, s: a.clone().add_(s), lambda a, s: a + s),
    "buffer": (lambda a, s: filled(a, s), lambda a, s: torch.cat((a, s))),
    "stack": (lambda a, s: torch.stack((a, s)).flatten(0, 1), lambda a, s: torch.cat((a, s))),
    "mean of two": (lambda a, s: (a + s) / 2, lambda a, s: a + s),
}


def filled(a: Tensor, s: Tensor) -> Tensor:
    out = torch.empty(2, *a.shape)
    out[0], out[1] = a, s
    return out.flatten(0, 1)


@pytest.mark.parametrize("name", JOINS)
def test_residual_forms_feed_a_conv_with_spikes(name):
    """A residual join is seen at dispatch level, whatever way it is written, and its output stays spikes."""
    join, truth = JOINS[name]
    a, s = draw((0.0, 1.0), 2, 3, 4, 6, 6), draw((0.0, 1.0), 2, 3, 4, 6, 6, seed=1)
    conv = nn.Conv2d(4, 5, 3, padding=1)
    model = Two(lambda a, s: conv(join(a, s).flatten(0, 1)))
    total = profile(model, torch.stack((a, s), -1), batch_dim=1).total()
    ones = torch.ones(5, 4, 3, 3, dtype=torch.float64)
    expected = nn.functional.conv2d(truth(a, s).double().flatten(0, 1), ones, None, 1, 1)
    assert (total.sops, total.macs) == (round(float(expected.sum())), 0)
    both = int((a * s).sum())
    if name == "or":
        assert (total.adds, total.ands) == (both + int((((a + s) != 0) & (a * s != 0)).sum()), both)
    if name == "add":
        assert (total.adds, total.ands) == (both, 0)


POOLS = {
    "average": (nn.AvgPool2d(2), 4),
    "overlapping average": (nn.AvgPool2d(3, 2, 1), 9),
    "adaptive average": (nn.AdaptiveAvgPool2d(3), 4),
    "maximum": (nn.MaxPool2d(3, 2, 1), 1),
    "reshaped": (nn.PixelUnshuffle(2), 1),
    "mean": (lambda x: x.mean((2, 3), keepdim=True), 36),
    "sum": (lambda x: x.sum(1, keepdim=True), 1),
    "padded": (lambda x: nn.functional.pad(x, (1, 0, 1, 0)), 1),
    "upsampled": (nn.Upsample(scale_factor=2), 1),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling_and_reshaping_keep_spikes(name):
    pool, divisor = POOLS[name]
    x = draw((0.0, 1.0), 2, 3, 4, 6, 6)
    pooled = pool(x.flatten(0, 1))
    conv = nn.Conv2d(pooled.shape[1], 5, 3, padding=1)
    total = run((0.0, 1.0), x, lambda y: conv(pool(y))).total()
    ones = torch.ones_like(conv.weight, dtype=torch.float64)
    expected = nn.functional.conv2d((pooled * divisor).round().double(), ones, None, 1, 1)
    assert (total.sops, total.macs) == (round(float(expected.sum())), 0)
    if "average" in name:
        assert total.adds == round(float((pooled * divisor).sum()))
    if name == "maximum":  # nine taps but at the borders: 2+3+3 on each axis; one comparison less than taps
        assert total.comparisons == 2 * 3 * 4 * (8 * 8 - 9)


def test_uneven_windows_are_analog():
    """Windows of different size have no common unit that keeps events: their average is billed as analog."""
    x = draw((0.0, 1.0), 1, 2, 3, 5, 5)
    conv = nn.Conv2d(3, 4, 1)
    for pool in (
        nn.AdaptiveAvgPool2d(3),
        nn.AvgPool2d(2, padding=1, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
    ):
        total = run((0.0, 1.0), x, lambda y, pool=pool: conv(pool(y))).total()
        assert (total.sops, total.macs) == (0, 2 * 3 * 4 * 9)


def test_big_counts_stay_exact():
    """More events than float32 can count: exact integers all the same."""
    x = torch.ones(1, 1, 1, 4200, 4200)
    total = run((0.0, 1.0), x, nn.Conv2d(1, 2, 1)).total()
    assert total.spikes == 4200 * 4200
    assert total.sops == 2 * 4200 * 4200 > 1 << 24
