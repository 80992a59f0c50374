"""Counting rules of what has weights: convolutions and matrix products."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from torch import Tensor

from saccade.graph import geometry as geo
from saccade.graph.alphabet import Alphabet
from saccade.graph.call import Call
from saccade.graph.records import Counts, OpRecord
from saccade.graph.rules.registry import counts


@counts("convolution")
def convolution(call: Call) -> None:
    x, weight, _, stride, padding, dilation, transposed, _, groups = call.args[:9]
    axes = weight.dim() - 2
    if x.dim() == axes + 1:
        x = x[None]
    fanout = geo.transposed_fanout if transposed else geo.window_fanout
    vectors = [
        fanout(x.shape[2 + i], call.out.shape[i - axes], weight.shape[2 + i], s, p, d)
        for i, (s, p, d) in enumerate(zip(*(geo.per_axis(v, axes) for v in (stride, padding, dilation)), strict=True))
    ]
    reach = weight.shape[1] if transposed else weight.shape[0] // groups  # output channels one input channel feeds
    fan_in = prod(weight.shape[2:]) * (weight.shape[0] // groups if transposed else weight.shape[1])
    dense = x.shape[0] * x.shape[1] * reach * geo.all_reached(vectors)
    record = OpRecord(call.where, "conv", fan_in, outputs=call.out.numel(), counts=Counts(dense_macs=dense))
    if call.alphabet(x) is None:
        record.counts.macs = dense
    else:
        events = call.event_sum(x, (0, 1))
        record.alphabet = call.alphabet(x)  # as narrowed by the check
        record.spiking, record.inputs, record.events = 1, x.numel(), int(events.sum())
        record.counts.sops = reach * geo.reached(events, vectors)
    call.record(record)


@counts("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot")
def matmul(call: Call) -> Alphabet | None:
    first = 1 if call.name in ("addmm", "baddbmm", "addmv") else 0
    a, b = call.args[first], call.args[first + 1]
    if first and call.tape[call.args[0]].live:
        call.count(adds=call.out.numel())
    a3 = a[None, None] if a.dim() == 1 else a[None] if a.dim() == 2 else a
    b3 = b[None, :, None] if b.dim() == 1 else b[None] if b.dim() == 2 else b
    product = batched_product(call, a3, b3)
    return None if first else product


def batched_product(call: Call, a: Tensor, b: Tensor) -> Alphabet | None:
    """Count ``a @ b`` of ``[B, rows, inner]`` and ``[B, inner, columns]``; the alphabet of the product of two spike tensors."""
    (batch, rows, inner), cols = a.shape, b.shape[2]
    record = OpRecord(call.where, "matmul", inner, outputs=batch * rows * cols)
    record.counts.dense_macs = batch * rows * inner * cols
    spikes_a, spikes_b = call.alphabet(a), call.alphabet(b)
    record.spiking = (spikes_a is not None) + (spikes_b is not None)
    result = None
    if spikes_a and spikes_b:
        left, right = call.event_sum(a, (1,)), call.event_sum(b, (2,))
        record.counts.sops = int((left * right).sum())
        record.inputs, record.events = a.numel(), int(left.sum())
        product = spikes_a.times(spikes_b)
        result = product.summed(inner) if product else None
    elif spikes_a or spikes_b:
        spikes, reach = (a, cols) if spikes_a else (b, rows)
        record.inputs, record.events = spikes.numel(), int(call.event_sum(spikes))
        record.counts.sops = record.events * reach
    else:
        record.counts.macs = record.counts.dense_macs
    record.alphabet = call.alphabet(a) or call.alphabet(b)
    call.record(record)
    return result


@counts(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
def attention(call: Call) -> None:
    """The steps that it fuses, as if written out: ``q @ k^T``, a multiplication by the scale and a softmax (``other``) for
    each score, an addition where there is a mask, and ``scores @ v``. Scores that are masked away are counted too.
    q is ``[N, heads, L, D]``, k and v ``[N, heads, S, D]``."""
    q, k, v = (_batched(call, x) for x in call.args[:3])
    batched_product(call, q, k.transpose(1, 2))
    scores = q.shape[0] * q.shape[1] * k.shape[1]
    record = OpRecord(call.where, "matmul", k.shape[1], outputs=q.shape[0] * q.shape[1] * v.shape[2])
    record.counts.dense_macs = scores * v.shape[2]
    if call.alphabet(v):
        record.spiking, record.inputs, record.events = 1, v.numel(), int(call.event_sum(v))
        record.counts.sops, record.alphabet = record.events * q.shape[1], call.alphabet(v)
    else:
        record.counts.macs = record.counts.dense_macs
    call.record(record)
    third = ("efficient", "cudnn", "overrideable")  # forms that take a bias where others take a dropout rate
    mask = call.arg(3, "attn_bias") if any(word in call.name for word in third) else call.kwargs.get("attn_mask")
    call.count(mults=scores, other=scores, adds=scores if isinstance(mask, Tensor) else 0)


def _batched(call: Call, x: Tensor) -> Tensor:
    """``[B, L, D]`` of ``[N, heads, L, D]``; where that takes a copy, what is known of the values is known of it too."""
    flat = x.flatten(0, -3)
    if flat.untyped_storage()._cdata != x.untyped_storage()._cdata:
        call.tape[flat] = replace(call.tape[x], checked=-1, formula=None)
    return flat


@counts("_cdist_forward")
def distances(call: Call) -> None:
    """Distances of P x R pairs of rows of M features: M subtractions each; for p = 2, M multiplications, M - 1 additions
    and a root (``other``); for p = 1, M - 1 additions; for p = inf, M - 1 comparisons; otherwise M + 1 powers (``other``)
    and M - 1 additions."""
    a, p = call.args[0], float(call.args[2])
    pairs, features = call.out.numel(), a.shape[-1]
    sums = pairs * (features - 1)
    if p == 2:
        call.count(adds=pairs * features + sums, mults=pairs * features, other=pairs)
    elif p == 1:
        call.count(adds=pairs * features + sums)
    elif p == float("inf"):
        call.count(adds=pairs * features, comparisons=sums)
    else:
        call.count(adds=pairs * features + sums, other=pairs * (features + 1))
