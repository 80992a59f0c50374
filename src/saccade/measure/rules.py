"""Counting rules: what each aten operation costs, and which spike alphabet its result has.

One table, `RULES`, by operation name (`add_` and `add.out` share the rule of `add`). An operation on floats that is
not in it is refused by the tracer, never counted as zero. Deliberate zeros: copies and views; factories; bias terms
added by the layer that owns them (they initialise the accumulator); scaling spikes by a number (folds into weights).
Results whose values leave an exact grid (uneven average windows, products with analog values, ...) are analog.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from saccade.measure import elementwise, products, reductions
from saccade.measure.alphabet import Alphabet
from saccade.measure.call import Call
from saccade.measure.records import Counts, OpRecord

Rule = Callable[[Call], "Alphabet | None"]


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
    products.convolution: "convolution",
    products.matmul: "mm bmm addmm baddbmm mv addmv dot",
    elementwise.add: "add sub rsub",
    elementwise.mul: "mul",
    elementwise.div: "div",
    elementwise.neg: "neg",
    elementwise.clamp: "relu clamp clamp_min clamp_max hardtanh",
    elementwise.extremum: "maximum minimum",
    elementwise.logic: "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor",
    elementwise.compare: "ge gt le lt eq ne isnan isfinite isinf",
    reductions.reduce_max: "max min amax amin",
    reductions.arg_extremum: "argmax argmin",
    reductions.sum_or_mean: "sum mean",
    reductions.max_pool: "max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d",
    reductions.avg_pool: "avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d",
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
