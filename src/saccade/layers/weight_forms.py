"""What a layer computes with, made of the weights that it learns: quantized, binary, full.

A form is a module that maps a weight to the weight in use, sits in ``layer.form`` and says what it takes to store. Setting it
to None gives the layer back its own weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from saccade.config import Registry

GAMMAS = ("one", "mean", "mean_x2", "max", "percentile")
GRANULARITIES = ("channel", "layer")
ESTIMATORS = ("identity", "clip", "paper_code")
SMALLEST_STEP = 1e-8  # of learned steps


class Stored(NamedTuple):
    """``numbers`` of ``bits`` bits each; kind: weight, index, codebook, scale, bias or norm."""

    kind: str
    numbers: int
    bits: float


class Codes(NamedTuple):
    """A weight as a file holds it: ``streams``, by name, whole numbers and the bits of each; and a scale ``[O]``, by which
    the values that the streams stand for are multiplied.
    """

    streams: dict[str, tuple[Tensor, int]]
    scale: Tensor


class WeightForm(nn.Module):
    """Base of the forms: ``forward(weight)`` of a convolution ``[O, I, kh, kw]`` or a linear layer ``[O, I]``.

    A form that takes numbers from the weight (a mean, say) gives them by ``statistics(weight)``, ``[O, ...]``.
    ``freeze(weight)`` keeps them as they are now: pruning input channels would otherwise change them; ``thaw()`` lets them
    move again.

    sizes: names of parameters that are sizes of weights. single_process: it learns in a way that several processes cannot
    share. unaveraged: names of buffers that a moving average
    of the weights leaves as they are.
    """

    values: ClassVar[str] = ""  # names in files what its streams stand for, see VALUES
    sizes: ClassVar[tuple[str, ...]] = ()
    bits: float  # a weight
    frozen: Tensor | None
    single_process: bool = False
    unaveraged: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frozen", None)

    def forward(self, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def statistics(self, weight: Tensor) -> Tensor | None:
        """What the form takes from the weight, ``[O, ...]``; None if nothing."""
        return None

    def current_statistics(self, weight: Tensor) -> Tensor:
        """``statistics``, or what ``freeze`` kept of it."""
        if self.frozen is not None:
            return self.frozen
        statistics = self.statistics(weight.detach())
        assert statistics is not None
        return statistics

    def freeze(self, weight: Tensor) -> None:
        statistics = self.statistics(weight.detach())
        self.frozen = None if statistics is None else self.current_statistics(weight).clone()

    def thaw(self) -> None:
        self.frozen = None

    def keep_outputs(self, keep: Tensor) -> None:
        """Follow a layer that keeps the output channels of the indices ``keep``."""
        if self.frozen is not None:
            self.frozen = self.frozen[keep]

    def encode(self, weight: Tensor) -> Codes:
        """The weight in use as whole numbers and scales."""
        raise NotImplementedError

    @classmethod
    def decode(cls, streams: Mapping[str, Tensor], bits: Mapping[str, int], shape: Sequence[int]) -> Tensor:
        """The values that the streams of ``encode`` stand for, before the scale: float32 ``shape``.

        streams: int64, flat. Raises ValueError for numbers that stand for nothing.
        """
        raise NotImplementedError

    @classmethod
    def stream_length(cls, name: str, bits: Mapping[str, int], shape: Sequence[int]) -> int:
        """How many numbers the stream of that name has, for a weight of a shape."""
        return math.prod(shape)

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The weight in use as int64 ``[O, I, ...]`` times a scale ``[O]``, for integer programs.

        Raises ValueError for a form whose values are no multiples of a scale.
        """
        raise ValueError(
            f"weights of the form {type(self).__name__}; lowering needs quantized ones, e.g. by rescaw or balanced_binary"
        )

    def storage(self, weight: Tensor) -> list[Stored]:
        """What a file must hold of a weight: its codes. Scales a channel that fold into a norm are not among them."""
        return [Stored("weight", weight.numel(), self.bits)]

    def before_epoch(self, progress: float) -> None:
        """Told before each epoch of training how much of it is over, 0 to 1."""

    def before_step(self, step: int) -> None:
        """Told before each step of training its number, from 0."""

    def after_step(self) -> None:
        """Called after the optimiser's step."""


VALUES: Registry[type[WeightForm]] = Registry("kind of weight values")  # by WeightForm.values: who decodes them


class OddLevels(WeightForm):
    """Forms whose values are ``scale * (2k - s) / s`` of codes k from 0 to s = 2^bits - 1: bipolar, without a zero."""

    values = "odd"

    def codes(self, weight: Tensor) -> Tensor:
        """Integers from 0 to 2^b - 1, as floats."""
        raise NotImplementedError

    def scale(self, weight: Tensor) -> Tensor:
        """``[O]``."""
        raise NotImplementedError

    def encode(self, weight: Tensor) -> Codes:
        return Codes({"codes": (self.codes(weight), int(self.bits))}, self.scale(weight))

    @classmethod
    def decode(cls, streams: Mapping[str, Tensor], bits: Mapping[str, int], shape: Sequence[int]) -> Tensor:
        s = 2 ** bits["codes"] - 1
        return (2 * streams["codes"].view(*shape).float() - s) / s

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        s = 2 ** int(self.bits) - 1
        return 2 * self.codes(weight).long() - s, self.scale(weight) / s


def check_bits(bits: int, least: int = 1) -> int:
    if type(bits) is not int or not least <= bits <= 8:
        raise ValueError(f"bits must be {least} to 8, got {bits}")
    return bits


def per_channel(values: Tensor, weight: Tensor) -> Tensor:
    """``[O]`` shaped to broadcast against the weight."""
    return values.view(-1, *[1] * (weight.dim() - 1))


def straight_through(used: Tensor, weight: Tensor, slope: Tensor | float = 1.0) -> Tensor:
    """``used`` forward, ``slope`` times the weight backward."""
    way = weight * slope
    return used.detach() + (way - way.detach())  # exactly zero is added


class Uniform(OddLevels):
    """Uniform bipolar quantizer with rescaling: ``gamma * (2/s * round(s/2 * (clamp(W/gamma, -1, 1) + 1)) - 1)``, s = 2^b - 1.

    Its levels are ``gamma * m / s`` with odd m from -s to s: there is no zero. gamma: "one" (vanilla), "mean" of |W|
    (ReScaW), "mean_x2" (the same times (2^b - 1) / 2^(b-1), for Spikingformer and detection), "max", or "percentile"
    (the larger magnitude of the 1st and 99th); of each output channel or of the layer. ste: "identity", "clip" (no gradient
    where |W| > gamma), or "paper_code" (the released 1/gamma factor, which multiplies gradients by tens).

    Source: Wei et al. (2025), QP-SNN, eq. 6-9; granularity and estimator from the released code.
    """

    bits: int

    def __init__(self, bits: int, scale: str = "mean", granularity: str = "channel", ste: str = "identity") -> None:
        super().__init__()
        self.bits = check_bits(bits)
        known = {"scale": (scale, GAMMAS), "granularity": (granularity, GRANULARITIES), "ste": (ste, ESTIMATORS)}
        for name, (value, choices) in known.items():
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        self.gamma, self.granularity, self.ste = scale, granularity, ste

    def extra_repr(self) -> str:
        return f"bits={self.bits}, scale={self.gamma!r}, granularity={self.granularity!r}, ste={self.ste!r}"

    def statistics(self, weight: Tensor) -> Tensor:
        """gamma, ``[O]``."""
        rows = weight.flatten(1) if self.granularity == "channel" else weight.reshape(1, -1)
        size = rows.abs()
        if self.gamma == "one":
            gamma = torch.ones_like(rows[:, 0])
        elif self.gamma == "max":
            gamma = size.amax(1)
        elif self.gamma == "percentile":
            k = max(1, round(0.01 * rows.shape[1]))  # kthvalue: torch.quantile refuses large tensors
            low, high = rows.kthvalue(k, 1).values, rows.kthvalue(rows.shape[1] - k + 1, 1).values
            gamma = torch.maximum(low.abs(), high.abs())
        else:
            gamma = size.mean(1) * ((2**self.bits - 1) / 2 ** (self.bits - 1) if self.gamma == "mean_x2" else 1.0)
        gamma = gamma.clamp(min=torch.finfo(weight.dtype).tiny)  # a channel of zeros stays a channel of (tiny) levels
        return gamma.expand(len(weight))

    def scale(self, weight: Tensor) -> Tensor:
        return self.current_statistics(weight)

    def codes(self, weight: Tensor) -> Tensor:
        s = 2**self.bits - 1
        return torch.round(s / 2 * ((weight / per_channel(self.scale(weight), weight)).clamp(-1, 1) + 1))

    def forward(self, weight: Tensor) -> Tensor:
        gamma = per_channel(self.scale(weight), weight)
        s = 2**self.bits - 1
        used = gamma * ((2 * self.codes(weight.detach()) - s) / s)
        if self.ste == "paper_code":
            return straight_through(used, weight, 1 / gamma)
        if self.ste == "clip":
            return straight_through(used, weight, (weight.detach().abs() <= gamma).to(weight.dtype))
        return straight_through(used, weight)


def bit_utilization(weight: Tensor, form: Uniform, percent: float = 99.0) -> float:
    """Share of the 2^b levels that the central ``percent`` of the weights use. Source: QP-SNN, eq. 5.

    The paper's a is the 1/99 percentile of |W|: weights beyond it do not count.
    """
    codes = form.codes(weight.detach()).flatten()
    cut = max(0, math.floor((100 - percent) / 200 * codes.numel()))
    kept = codes.sort().values[cut : codes.numel() - cut]
    return (int(kept[-1]) - int(kept[0]) + 1) / 2**form.bits


class DoReFa(OddLevels):
    """``2 * Q(tanh W / (2 max|tanh W|) + 1/2) - 1`` with Q of b bits; one bit: ``mean|W| * sign(W)``.

    Source: Zhou et al. (2016), DoReFa-Net, eq. 9-10.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits: int = check_bits(bits)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"

    def statistics(self, weight: Tensor) -> Tensor:
        """mean|W| for one bit, else max|tanh W| of the layer, ``[O]``."""
        one = weight.abs().mean() if self.bits == 1 else torch.tanh(weight).abs().max()
        return one.clamp(min=torch.finfo(weight.dtype).tiny).expand(len(weight))

    def forward(self, weight: Tensor) -> Tensor:
        scale = per_channel(self.current_statistics(weight), weight)
        if self.bits == 1:
            return straight_through(scale * sign(weight.detach()), weight)
        s = 2**self.bits - 1
        unit = torch.tanh(weight) / (2 * scale) + 0.5
        return 2 * straight_through(torch.round(unit.detach() * s) / s, unit) - 1

    def scale(self, weight: Tensor) -> Tensor:
        scale = self.current_statistics(weight)
        return scale if self.bits == 1 else torch.ones_like(scale)

    def codes(self, weight: Tensor) -> Tensor:
        if self.bits == 1:
            return (weight >= 0).to(weight.dtype)
        unit = torch.tanh(weight) / (2 * per_channel(self.current_statistics(weight), weight)) + 0.5
        return torch.round(unit * (2**self.bits - 1))


class LSQ(WeightForm):
    """Learned step size: ``step * round(clamp(W / step, -2^(b-1), 2^(b-1) - 1))``. Source: Esser et al. (2020), LSQ.

    steps: one for the "layer", or one for each output "channel" (Qiu et al. 2025, QSD-Transformer). A step starts at
    ``2 mean|W| / sqrt(2^(b-1) - 1)`` of the weights that it is for, when the form is made: before any training, and so in every
    copy. Its gradient is scaled by ``1 / sqrt(n (2^(b-1) - 1))``, n the weights of the whole layer. It is at least 1e-8 where
    it is used, with the gradient of one that is free, so that a step that fell below can rise again.
    The code released with QSD-Transformer starts every channel at the mean of the layer, at the first step of training, and
    bounds nothing. Trained by Adam, steps move relative to their size (``train.optimizers``): moved by a learning rate of 3e-3
    itself they would change by a twentieth each time.
    """

    values = "signed"
    sizes = ("step",)

    def __init__(self, bits: int, weight: Tensor, steps: str = "layer") -> None:
        super().__init__()
        self.bits: int = check_bits(bits, least=2)
        if steps not in GRANULARITIES:
            raise ValueError(f"steps must be one of {', '.join(GRANULARITIES)}, got {steps!r}")
        size = weight.detach().abs()
        mean = size.mean() if steps == "layer" else size.flatten(1).mean(1)
        self.step = nn.Parameter((2 * mean / math.sqrt(self.range[1])).clamp(min=SMALLEST_STEP))

    @property
    def range(self) -> tuple[int, int]:
        """The lowest and the highest whole number of a weight."""
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    def extra_repr(self) -> str:
        return f"bits={self.bits}" + (", steps='channel'" if self.step.dim() else "")

    def forward(self, weight: Tensor) -> Tensor:
        low, top = self.range
        slope = 1 / math.sqrt(weight.numel() * top)
        used = self.step.detach().clamp(min=SMALLEST_STEP)
        step = (self.step * slope) + (used - self.step * slope).detach()
        step = per_channel(step, weight) if step.dim() else step
        inside = (weight / step).clamp(low, top)
        return step * (inside + (torch.round(inside) - inside).detach())

    def keep_outputs(self, keep: Tensor) -> None:
        super().keep_outputs(keep)
        if self.step.dim():
            learns = self.step.requires_grad
            self.step = nn.Parameter(self.step.detach()[keep.to(self.step.device)].clone(), requires_grad=learns)

    def encode(self, weight: Tensor) -> Codes:
        whole, scale = self.integers(weight)
        return Codes({"codes": (whole - self.range[0], self.bits)}, scale)

    @classmethod
    def decode(cls, streams: Mapping[str, Tensor], bits: Mapping[str, int], shape: Sequence[int]) -> Tensor:
        return streams["codes"].view(*shape).float() - 2 ** (bits["codes"] - 1)

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        step = self.step.detach().clamp(min=SMALLEST_STEP).expand(len(weight))
        return torch.round((weight / per_channel(step, weight)).clamp(*self.range)).long(), step

    def storage(self, weight: Tensor) -> list[Stored]:
        return [*super().storage(weight), Stored("scale", self.step.numel(), 32)]


def sign(x: Tensor) -> Tensor:
    """1 where ``x >= 0``, else -1."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


class Binary(OddLevels):
    """``mean|W| * sign(W)`` of each output channel; gradient where |W| <= 1. Source: Rastegari et al. (2016), XNOR-Net."""

    bits = 1

    def statistics(self, weight: Tensor) -> Tensor:
        """mean|W|, ``[O]``."""
        return weight.abs().flatten(1).mean(1)

    def forward(self, weight: Tensor) -> Tensor:
        fixed = weight.detach()
        used = per_channel(self.current_statistics(weight), weight) * sign(fixed)
        return straight_through(used, weight, (fixed.abs() <= 1).to(weight.dtype))

    def scale(self, weight: Tensor) -> Tensor:
        return self.current_statistics(weight)

    def codes(self, weight: Tensor) -> Tensor:
        return (weight >= 0).to(weight.dtype)


def _deviation(rows: Tensor) -> Tensor:
    """Standard deviation of each row; a single number or equal ones get 1e-8, and a gradient that is a number."""
    return torch.sqrt(rows.var(1, correction=min(1, rows.shape[1] - 1)) + 1e-16)


class BalancedBinary(OddLevels):
    """Standardised a channel, sign, times a power of two: the weights of IR-Net and Q-SNN.

    ``w = (W - mean) / std``; forward ``2^round(log2 mean|w|) * sign(w)``; backward ``k t (1 - tanh^2(t w))`` with t from 0.1
    to 10 as training goes on (``before_epoch``), k = max(1/t, 1). Source: Qin et al. (2020), IR-Net; Wei et al. (2024), Q-SNN.
    """

    bits = 1

    def __init__(self) -> None:
        super().__init__()
        self._t = 0.1

    def before_epoch(self, progress: float) -> None:
        self._t = 10 ** (-1 + 2 * progress)

    def statistics(self, weight: Tensor) -> Tensor:
        """Mean, deviation and scale of each channel, ``[O, 3]``."""
        rows = weight.flatten(1)
        mean, spread = rows.mean(1), _deviation(rows)
        size = ((rows - mean[:, None]) / spread[:, None]).abs().mean(1)
        return torch.stack([mean, spread, 2 ** torch.round(torch.log2(size))], 1)

    def forward(self, weight: Tensor) -> Tensor:
        if self.frozen is None:
            rows = weight.flatten(1)  # the gradient goes through mean and deviation
            mean, spread = rows.mean(1), _deviation(rows)
        else:
            mean, spread = self.frozen[:, 0], self.frozen[:, 1]
        w = (weight - per_channel(mean, weight)) / per_channel(spread, weight)
        fixed = w.detach()
        scale = per_channel(self.current_statistics(weight)[:, 2], weight)
        slope = max(1 / self._t, 1) * self._t * (1 - torch.tanh(self._t * fixed).square())
        return straight_through(scale * sign(fixed), w, slope)

    def scale(self, weight: Tensor) -> Tensor:
        return self.current_statistics(weight)[:, 2]

    def codes(self, weight: Tensor) -> Tensor:
        return (weight >= per_channel(self.current_statistics(weight)[:, 0], weight)).to(weight.dtype)


VALUES.register("odd", OddLevels)
VALUES.register("signed", LSQ)
