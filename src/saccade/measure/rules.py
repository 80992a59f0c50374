"""Counting rules: what each aten operation costs, and which spike alphabet its result has.

One table, `RULES`, by operation name (`add_` and `add.out` share the rule of `add`). An operation on floats that is
not in it is refused by the tracer, never counted as zero. Deliberate zeros: copies and views; factories; bias terms
added by the layer that owns them (they initialise the accumulator); scaling spikes by a number (folds into weights).
Results whose values leave an exact grid (uneven average windows, products with analog values, ...) are analog.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import torch
from torch import Tensor

from saccade.measure import geometry as geo
from saccade.measure.alphabet import Alphabet, as_fraction, exact_sum, to_steps
from saccade.measure.records import Counts, OpRecord
from saccade.measure.tape import Tape

BINARY = Alphabet(Fraction(1), 0, 1)


@dataclass
class Call:
    """One dispatched operation after it ran: arguments as they were before it, its first output, and where it is.

    `bias` is the bias parameter of the module that runs it; `record` receives the counts.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Tensor
    tape: Tape
    where: str
    bias: Tensor | None
    record: Callable[[OpRecord], None]

    def arg(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[index] if index < len(self.args) else self.kwargs.get(name, default)

    def alphabet(self, x: Tensor) -> Alphabet | None:
        """The spike alphabet of a tensor; None if analog. Truth values are {0,1} by nature."""
        return BINARY if x.dtype == torch.bool else self.tape[x].alphabet

    def number(self, x: Any) -> float | None:
        """The value of a Python number or of a constant tensor of one element."""
        if not isinstance(x, Tensor):
            return float(x)
        return float(x) if x.numel() == 1 and not self.tape[x].live else None

    def steps(self, x: Tensor) -> Tensor:
        """|k| of a spike tensor, checked against its alphabet unless these very values were checked before.

        Values from an exact sum or product may fill less than their interval (`a + s - a*s` of two binary tensors
        stays binary): the check narrows the interval to what it saw, though not below {0,1}.
        """
        known, alphabet = self.tape[x], self.alphabet(x)
        assert alphabet is not None
        if known.checked == x._version:
            k = x if alphabet.unit == 1 else (x / float(alphabet.unit)).round()
        else:
            k = to_steps(x, alphabet, f"{self.where}: input of {self.name}")
            if known.alphabet and k.numel() and x.numel() * x.element_size() == x.untyped_storage().nbytes():
                seen_low, seen_high = (int(v) for v in k.aminmax())
                low, high = max(alphabet.low, min(seen_low, 0)), min(alphabet.high, max(seen_high, 1))
                self.tape[x] = replace(known, alphabet=Alphabet(alphabet.unit, low, high), checked=x._version)
        return k.abs() if alphabet.low < 0 else k

    def event_sum(self, x: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
        """Unrolled events of a spike tensor, summed over `dim` (all): int64."""
        alphabet = self.alphabet(x)
        assert alphabet is not None
        return exact_sum(self.steps(x), max(abs(alphabet.low), abs(alphabet.high)), dim)

    def repeats(self, x: Tensor) -> int:
        """How often broadcasting uses each element of `x`."""
        return self.out.numel() // max(x.numel(), 1)

    def count(self, op: str = "elementwise", **counts: int) -> None:
        """Adds plain counts."""
        self.record(OpRecord(self.where, op, outputs=self.out.numel(), counts=Counts(**counts)))


Rule = Callable[[Call], "Alphabet | None"]


def _convolution(call: Call) -> None:
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


def _matmul(call: Call) -> Alphabet | None:
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


def _add(call: Call) -> Alphabet | None:
    a, b = call.args[0], call.args[1]
    alpha = as_fraction(call.arg(2, "alpha", 1))
    sign_a, sign_b = (-alpha, Fraction(1)) if call.name == "rsub" else (Fraction(1), alpha)
    if call.name == "sub":
        sign_b = -alpha
    if abs(alpha) != 1 and call.alphabet(a if call.name == "rsub" else b) is None:
        call.count(mults=call.out.numel())
    return _sum_of(call, a, sign_a, b, sign_b)


def _sum_of(call: Call, a: Any, sign_a: Fraction, b: Any, sign_b: Fraction) -> Alphabet | None:
    for x, sign, other, sign_other in ((a, sign_a, b, sign_b), (b, sign_b, a, sign_a)):
        value = call.number(other)
        if value is not None:
            return _shifted(call, x, sign, sign_other * as_fraction(value))
    spikes_a, spikes_b = call.alphabet(a), call.alphabet(b)
    if spikes_a and spikes_b:
        call.count(adds=int(((call.steps(a) != 0) & (call.steps(b) != 0)).count_nonzero()))
        return spikes_a.scale(sign_a).plus(spikes_b.scale(sign_b))
    if spikes_a or spikes_b:
        spikes = a if spikes_a else b
        call.count(adds=int(call.steps(spikes).count_nonzero()) * call.repeats(spikes))
    elif a is not call.bias and b is not call.bias:
        call.count(adds=call.out.numel())
    return None


def _shifted(call: Call, x: Tensor, sign: Fraction, shift: Fraction) -> Alphabet | None:
    alphabet = call.alphabet(x)
    if shift != 0:
        call.count(adds=call.out.numel() if alphabet is None else int(call.steps(x).count_nonzero()))
    return None if alphabet is None else alphabet.scale(sign).plus(Alphabet.constant(float(shift)))


def _mul(call: Call) -> Alphabet | None:
    a, b = call.args[0], call.args[1]
    if call.number(a) is not None:
        a, b = b, a
    factor = call.number(b)
    if factor is not None:
        return _scaled(call, a, as_fraction(factor))
    spikes_a, spikes_b = call.alphabet(a), call.alphabet(b)
    if spikes_a and spikes_b:
        bound = max(abs(spikes_a.low), abs(spikes_a.high)) * max(abs(spikes_b.low), abs(spikes_b.high))
        call.count(ands=int(exact_sum(call.steps(a) * call.steps(b), bound)))
        return spikes_a.times(spikes_b)
    if spikes_a or spikes_b:
        spikes = a if spikes_a else b
        call.count(ands=int(call.event_sum(spikes)) * call.repeats(spikes))
    else:
        call.count(mults=call.out.numel())
    return None


def _scaled(call: Call, x: Tensor, factor: Fraction) -> Alphabet | None:
    alphabet = call.alphabet(x)
    if alphabet is None and abs(factor) != 1:
        call.count(mults=call.out.numel())
    return None if alphabet is None else alphabet.scale(factor)


def _div(call: Call) -> Alphabet | None:
    if call.arg(2, "rounding_mode") is not None:
        return _other(call)
    divisor = call.number(call.args[1])
    if divisor:
        return _scaled(call, call.args[0], 1 / as_fraction(divisor))
    call.count(mults=call.out.numel())
    return None


def _neg(call: Call) -> Alphabet | None:
    return _scaled(call, call.args[0], Fraction(-1))


def _clamp(call: Call) -> Alphabet | None:
    x = call.args[0]
    low: Any = call.arg(1, "min")
    high: Any = call.arg(2, "max")
    if call.name == "relu":
        low = 0
    if call.name == "clamp_max":
        low, high = None, low if low is not None else high
    alphabet = call.alphabet(x)
    if isinstance(low, Tensor) or isinstance(high, Tensor) or alphabet is None:
        call.count(comparisons=x.numel() * ((low is not None) + (high is not None)))
        return None
    clipped = alphabet.clipped(low, high)
    if clipped != alphabet:
        call.count(comparisons=x.numel())
    return clipped


def _extremum(call: Call) -> Alphabet | None:  # elementwise maximum or minimum of two; on {0,1}: OR, AND
    spikes_a, spikes_b = call.alphabet(call.args[0]), call.alphabet(call.args[1])
    if spikes_a and spikes_b:
        call.count(ands=int(((call.steps(call.args[0]) != 0) & (call.steps(call.args[1]) != 0)).count_nonzero()))
        return spikes_a.join(spikes_b)
    call.count(comparisons=call.out.numel())
    return None


def _logic(call: Call) -> Alphabet | None:
    a, b = call.args[0], call.arg(1, "other")
    both = a.bool() & b.bool() if isinstance(b, Tensor) else a.bool()
    call.count(ands=int(both.count_nonzero()))
    return None


def _compare(call: Call) -> Alphabet | None:
    call.count(comparisons=call.out.numel())
    return None


def _reduce_max(call: Call) -> Alphabet | None:
    x = call.args[0]
    if x.numel() == call.out.numel() and len(call.args) > 1 and isinstance(call.args[1], Tensor):
        return _extremum(call)
    call.count(comparisons=x.numel() - call.out.numel())
    return call.alphabet(x)


def _arg_extremum(call: Call) -> Alphabet | None:
    call.count(comparisons=call.args[0].numel() - call.out.numel())
    return None


def _sum(call: Call) -> Alphabet | None:
    x = call.args[0]
    window = x.numel() // max(call.out.numel(), 1)
    mean, alphabet = call.name == "mean", call.alphabet(x)
    if alphabet is None:
        call.count(adds=x.numel(), mults=call.out.numel() * mean)
        return None
    call.count(adds=int(call.event_sum(x)))
    total = alphabet.summed(window)
    return total.scale(Fraction(1, window)) if mean and total else total


def _pool_axes(call: Call, axes: int) -> tuple[list[Tensor], int, bool]:
    """Fan-out per axis of a pool, taps of one window, and whether every window divides by the same number."""
    x, out = call.args[0], call.out
    if "adaptive" in call.name:
        sizes = list(zip(x.shape[-axes:], out.shape[-axes:], strict=True))
        even = all(size % o == 0 for size, o in sizes)
        return [geo.adaptive_fanout(size, o) for size, o in sizes], prod(size // o for size, o in sizes), even
    average = "avg" in call.name
    kernel = geo.per_axis(call.arg(1, "kernel_size"), axes)
    stride = geo.per_axis(call.arg(2, "stride") or kernel, axes)
    padding = geo.per_axis(call.arg(3, "padding", 0), axes)
    dilation = [1] * axes if average else geo.per_axis(call.arg(4, "dilation", 1), axes)
    vectors, even = [], True
    for i in range(axes):
        size, o = x.shape[i - axes], out.shape[i - axes]
        vectors.append(geo.window_fanout(size, o, kernel[i], stride[i], padding[i], dilation[i]))
        inside = int(vectors[-1].sum()) == o * kernel[i]
        even &= inside or (
            bool(call.arg(5, "count_include_pad", True)) and ((o - 1) * stride[i] + kernel[i] <= size + 2 * padding[i])
        )
    return vectors, prod(kernel), even


def _axes(call: Call) -> int:
    return int(call.name.split("pool")[1][0])


def _max_pool(call: Call) -> Alphabet | None:
    axes = _axes(call)
    x = call.args[0]
    vectors, taps, _ = _pool_axes(call, axes)
    compared = prod(x.shape[:-axes]) * geo.all_reached(vectors) - call.out.numel()
    op = "elementwise" if "adaptive" in call.name else "maxpool"
    call.record(OpRecord(call.where, op, taps, outputs=call.out.numel(), counts=Counts(comparisons=compared)))
    return call.alphabet(x)


def _avg_pool(call: Call) -> Alphabet | None:
    axes = _axes(call)
    x, alphabet = call.args[0], call.alphabet(call.args[0])
    vectors, taps, even = _pool_axes(call, axes)
    if alphabet is None:
        call.count(adds=prod(x.shape[:-axes]) * geo.all_reached(vectors), mults=call.out.numel())
        return None
    events = call.event_sum(x.reshape(-1, *x.shape[-axes:]), (0,))
    call.count(adds=geo.reached(events, vectors))
    divisor = (call.arg(6, "divisor_override") or taps) if "adaptive" not in call.name else taps
    total = alphabet.summed(taps) if even else None
    return total.scale(Fraction(1, divisor)) if total else None


def _batch_norm(call: Call) -> None:
    call.record(OpRecord(call.where, "norm", outputs=call.out.numel(), counts=Counts(norm=call.args[0].numel())))


def _other(call: Call) -> None:
    call.count(other=max(call.out.numel(), call.args[0].numel()))


def _free(call: Call) -> None:
    return None


def _move(call: Call) -> Alphabet | None:
    """Copies and rearrangements: the joined alphabet of what is moved (and of zero, where they pad)."""
    if call.name == "copy":
        moved = [call.args[1]]
    elif call.name in ("cat", "stack"):
        moved = list(call.args[0])
    elif call.name == "where":
        moved = [x if isinstance(x, Tensor) else None for x in call.args[1:3]]
    else:
        moved = [call.args[0]]
    alphabets = [call.alphabet(x) if x is not None else None for x in moved]
    if call.name in ("constant_pad_nd", "masked_fill"):
        value = call.number(call.arg(2, "value", 0))
        alphabets.append(None if value is None else Alphabet.constant(value))
    if call.name in ("im2col", "tril", "triu"):
        alphabets.append(Alphabet.constant(0))
    if call.name in ("where", "masked_fill"):
        call.count(ands=call.out.numel())
    joined = alphabets[0]
    for alphabet in alphabets[1:]:
        joined = joined.join(alphabet) if joined and alphabet else None
    return joined


def _fill(call: Call) -> Alphabet | None:
    if call.name.startswith(("zero", "new_zeros", "empty", "new_empty")):
        return Alphabet.constant(0)  # an empty buffer is about to be written; what is not is caught by the checks
    if call.name.startswith(("ones", "new_ones")):
        return Alphabet.constant(1)
    index = 0 if call.name == "scalar_tensor" else 2 if call.name == "new_full" else 1
    value = call.number(call.arg(index, "fill_value", call.kwargs.get("value")))
    return None if value is None else Alphabet.constant(value)


RULES: dict[str, Rule] = {}
for _rule, _names in {
    _convolution: "convolution",
    _matmul: "mm bmm addmm baddbmm mv addmv dot",
    _add: "add sub rsub",
    _mul: "mul",
    _div: "div",
    _neg: "neg",
    _clamp: "relu clamp clamp_min clamp_max hardtanh",
    _extremum: "maximum minimum",
    _logic: "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor",
    _compare: "ge gt le lt eq ne isnan isfinite isinf",
    _reduce_max: "max min amax amin",
    _arg_extremum: "argmax argmin",
    _sum: "sum mean",
    _max_pool: "max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d",
    _avg_pool: "avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d",
    _batch_norm: "native_batch_norm cudnn_batch_norm _native_batch_norm_legit_no_training",
    _other: "sigmoid tanh exp expm1 log log1p sqrt rsqrt reciprocal pow sin cos erf abs sign round floor ceil trunc "
    "gelu silu elu softplus leaky_relu hardsigmoid hardswish mish _softmax _log_softmax cumsum var std var_mean "
    "linalg_vector_norm native_layer_norm native_group_norm upsample_bilinear2d",
    _free: "_local_scalar_dense equal rand_like randn_like bernoulli arange",
    _move: "clone _to_copy copy cat stack repeat index index_select gather roll flip where "
    "masked_fill constant_pad_nd im2col upsample_nearest2d pixel_shuffle pixel_unshuffle reflection_pad2d "
    "replication_pad2d tril triu",
    _fill: "zeros ones full empty zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty "
    "empty_strided new_empty_strided scalar_tensor fill zero",
}.items():
    RULES.update(dict.fromkeys(_names.split(), _rule))

COPIES = (_move, _fill)  # rules that carry alphabets even of constants (zeros that spikes are written into)
MOVES = _move  # what it returns holds only values that it was given
INTEGER_RULES = frozenset("logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor".split())
SHARING = frozenset(("_unsafe_view", "detach", "alias"))  # not marked as views, but their result is their argument
