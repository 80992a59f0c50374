"""Counting rules of norms, of functions that no spike hardware computes in one step, and of what is free."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from saccade.graph.alphabet import Alphabet
from saccade.graph.call import BINARY, Call
from saccade.graph.records import Counts, OpRecord
from saccade.graph.rules.registry import counts


@counts("native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training")
def batch_norm(call: Call) -> None:
    call.record(OpRecord(call.where, "norm", outputs=call.out.numel(), counts=Counts(norm=call.args[0].numel())))


@counts(
    *"sigmoid tanh exp expm1 log log1p sqrt rsqrt reciprocal pow sin cos erf abs sign round floor ceil trunc".split(),
    *"gelu silu elu softplus leaky_relu hardsigmoid hardswish mish _softmax _safe_softmax _log_softmax".split(),
    *"cumsum var std var_mean linalg_vector_norm native_layer_norm native_group_norm upsample_bilinear2d".split(),
)
def other(call: Call) -> None:
    """An element of ``other`` for each element of the larger side."""
    call.count(other=max(call.out.numel(), call.args[0].numel()))


@counts("_local_scalar_dense", "equal", "rand_like", "randn_like", "arange")
def free(call: Call) -> None:
    """Nothing."""


@counts("bernoulli")
def bernoulli(call: Call) -> Alphabet:
    """Drawing is free; what is drawn is 0 or 1."""
    return BINARY


@counts("_fft_r2c", "_fft_c2r", "_fft_c2c")
def fourier(call: Call) -> None:
    """Radix-2 butterflies, ``n/2 ceil(log2 n)`` for each axis of n: 4 multiplications and 6 additions each; a transform that
    is real on one side takes half of them. Scaling by the normalisation folds into what comes next."""
    x: Tensor = call.args[0]
    dims: Sequence[int] = call.args[1]
    signal = call.out if call.name == "_fft_c2r" else x  # the side that has all n places
    n = prod(signal.shape[dim] for dim in dims)
    rows = signal.numel() // max(n, 1)
    butterflies = rows * sum(n * (signal.shape[dim] - 1).bit_length() for dim in dims) // 2
    if call.name != "_fft_c2c":
        butterflies //= 2
    call.count(mults=4 * butterflies, adds=6 * butterflies)
