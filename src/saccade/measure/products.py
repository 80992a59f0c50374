"""Counting rules of what has weights: convolutions and matrix products."""

from __future__ import annotations

from math import prod

from saccade.measure import geometry as geo
from saccade.measure.alphabet import Alphabet
from saccade.measure.call import Call
from saccade.measure.records import Counts, OpRecord


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


def matmul(call: Call) -> Alphabet | None:
    first = 1 if call.name in ("addmm", "baddbmm", "addmv") else 0
    a, b = call.args[first], call.args[first + 1]
    if first and call.tape[call.args[0]].live:
        call.count(adds=call.out.numel())
    a3 = a[None, None] if a.dim() == 1 else a[None] if a.dim() == 2 else a
    b3 = b[None, :, None] if b.dim() == 1 else b[None] if b.dim() == 2 else b
    (batch, rows, inner), cols = a3.shape, b3.shape[2]
    record = OpRecord(call.where, "matmul", inner, outputs=call.out.numel())
    record.counts.dense_macs = batch * rows * inner * cols
    spikes_a, spikes_b = call.alphabet(a), call.alphabet(b)
    record.spiking = (spikes_a is not None) + (spikes_b is not None)
    result = None
    if spikes_a and spikes_b:
        left, right = call.event_sum(a3, (1,)), call.event_sum(b3, (2,))
        record.counts.sops = int((left * right).sum())
        record.inputs, record.events = a.numel(), int(left.sum())
        product = spikes_a.times(spikes_b)
        result = product.summed(inner) if product and not first else None
    elif spikes_a or spikes_b:
        spikes, reach = (a, cols) if spikes_a else (b, rows)
        record.inputs, record.events = spikes.numel(), int(call.event_sum(spikes))
        record.counts.sops = record.events * reach
    else:
        record.counts.macs = record.counts.dense_macs
    record.alphabet = call.alphabet(a) or call.alphabet(b)
    call.record(record)
    return result
