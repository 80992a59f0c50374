"""Codecs keep their bounds, know their sizes and refuse what cannot be."""

import math

import numpy as np
import pytest
import torch

from saccade.split.codecs import CODECS, SZ3, ZFP, Feedback, Int, TopK

needs = {"sz3": "pysz", "zfp": "zfpy"}


def codec(name):
    if name in needs:
        pytest.importorskip(needs[name], reason="the extra `split` is not installed")
    return CODECS[name]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("name", list(CODECS))
@pytest.mark.parametrize(
    "x",
    [noise(3, 7, 33), torch.zeros(2, 3, 8), torch.full((2, 3, 8), -2.5), torch.zeros(0, 5, 8), torch.full((1, 2, 4), 3e38),
     torch.full((1, 2, 4), 1e-44), noise(1, 1, 1), noise(4, 6, 8).transpose(0, 1)],
    ids=["noise", "zeros", "constant", "empty", "largest", "smallest", "one", "transposed"],
)  # fmt: skip
def test_payloads_are_of_the_size_that_was_said(name, x):
    payload = codec(name).encode(x)
    least, most = codec(name).sizes(x.shape)
    assert least <= len(payload) <= most
    back = codec(name).decode(payload, x.shape)
    assert back.shape == x.shape
    assert back.dtype == torch.float32
    assert bool(torch.isfinite(back).all())
    if codec(name).lossless:
        assert torch.equal(back, x)


def test_bounds():
    x = noise(4, 32, 48)
    for bits in (8, 4):
        step = x.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
        error = (Int(bits).decode(Int(bits).encode(x), x.shape) - x).abs()
        assert bool((error <= step * (0.5 + 1e-5)).all())
        assert bool((error > 0.3 * step).any())
    assert torch.equal(CODECS["fp16"].decode(CODECS["fp16"].encode(x), x.shape), x.half().float())
    assert torch.equal(CODECS["bf16"].decode(CODECS["bf16"].encode(x), x.shape), x.bfloat16().float())
    kept = TopK(0.25).decode(TopK(0.25).encode(x), x.shape)
    assert bool(((kept != 0).sum(-1) == 12).all())
    assert bool((kept.abs().sum(-1) >= 0.25 * x.abs().sum(-1)).all())
    pytest.importorskip("pysz", reason="the extra `split` is not installed")
    for bound in (1e-3, 1e-2, 1e-1):
        error = (SZ3(bound).decode(SZ3(bound).encode(x), x.shape) - x).abs().max()
        most = bound * float(x.max() - x.min())
        assert 0.5 * most < float(error) <= most + float(np.spacing(np.float32(x.abs().max())))
    pytest.importorskip("zfpy", reason="the extra `split` is not installed")
    assert float((ZFP(0.1).decode(ZFP(0.1).encode(x), x.shape) - x).abs().max()) <= 0.1 * float(x.std(correction=0))


@pytest.mark.parametrize(
    ("name", "ratio"), [("fp32", 1), ("fp16", 2), ("bf16", 2), ("int8", 64 / 17), ("int4", 64 / 9), ("topk", 4)]
)
def test_ratios(name, ratio):
    x = noise(2, 16, 64)
    assert 4 * x.numel() / len(CODECS[name].encode(x)) == pytest.approx(ratio)


@pytest.mark.parametrize("name", list(CODECS))
def test_what_is_not_finite_is_not_sent(name):
    x = noise(1, 2, 8)
    x[0, 1, 3] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        codec(name).encode(x)


@pytest.mark.parametrize("name", list(CODECS))
def test_payloads_of_other_sizes_are_refused(name):
    x = noise(2, 8, 8)
    payload = codec(name).encode(x)
    for wrong in (b"", payload + b"\0" * 100_000):
        with pytest.raises(ValueError, match=r"bytes are no \[2, 8, 8\]"):
            codec(name).decode(wrong, x.shape)


def test_hostile_payloads_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        CODECS["fp32"].decode(np.array([math.inf], "<f4").tobytes(), (1, 1, 1))
    with pytest.raises(ValueError, match="not finite"):
        CODECS["int8"].decode(np.array([math.nan], "<f4").tobytes() + b"\1", (1, 1, 1))
    with pytest.raises(ValueError, match="not in the token"):
        TopK(0.5).decode(b"\0\0\0\0" + np.array([1, 9], "<u2").tobytes(), (1, 1, 4))
    with pytest.raises(ValueError, match="not in order"):
        TopK(0.5).decode(b"\0\0\0\0" + np.array([1, 1], "<u2").tobytes(), (1, 1, 4))


def test_settings_are_checked():
    for wrong in (lambda: Int(7), lambda: TopK(0.0), lambda: SZ3(2.0), lambda: ZFP(0.0)):
        with pytest.raises(ValueError, match=r"is 4 or 8|lies in|is positive"):
            wrong()


def test_feedback_gives_back_what_was_lost():
    """Of a constant gradient, top-k alone sends the same few numbers for ever; with feedback the sum comes out."""
    g = noise(1, 1, 16)
    sums = {}
    for on in (False, True):
        sender = Feedback(TopK(0.25), on)
        sums[on] = sum(TopK(0.25).decode(sender.encode(g), g.shape) for _ in range(64))
    assert (sums[True] / 64 - g).abs().max() < 0.1 * g.abs().max()
    assert (sums[False] / 64 - g).abs().max() > 0.3 * g.abs().max()
