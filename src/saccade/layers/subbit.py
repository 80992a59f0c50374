"""Weights below one bit: binary kernels that come from a learnt codebook, so that a kernel is stored as an index.

Sources: Wei et al. (2025), S2NN, arXiv 2509.24266; its parent, Wang et al. (2021), Sub-bit Neural Networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from saccade.layers.weight_forms import VALUES, Codes, Stored, WeightForm, per_channel, straight_through

QUANTILES = ("linear", "exclusive")
NORMALISATIONS = ("channel", "inliers", "none")
CODEBOOK_EVERY = 25  # steps; the parent's released code
HYSTERESIS = 1e-3
LARGEST = 3.0


def quartiles(values: Tensor, rule: str = "linear") -> tuple[Tensor, Tensor]:
    """First and third quartile along the last axis, ``[..., K] -> [...]`` each.

    "linear": positions (K - 1)/4 and 3(K - 1)/4, interpolated (torch, numpy). "exclusive": medians of the halves without the
    middle value (Tukey), as S2NN's figure has it; the share of outliers that the paper reports fits "linear".
    """
    if rule not in QUANTILES:
        raise ValueError(f"quantile must be one of {', '.join(QUANTILES)}, got {rule!r}")
    ordered = values.sort(-1).values
    K = values.shape[-1]

    def at(position: float) -> Tensor:
        low = int(position)
        part = position - low
        return ordered[..., low] if part == 0 else ordered[..., low] * (1 - part) + ordered[..., low + 1] * part

    if rule == "linear":
        return at((K - 1) / 4), at(3 * (K - 1) / 4)
    half = K // 2
    return at((half - 1) / 2), at(K - half + (half - 1) / 2)


def outliers(kernels: Tensor, gamma: float = 1.5, quantile: str = "linear") -> Tensor:
    """Which of ``[..., kh, kw]`` lie outside ``[Q1 - gamma IQR, Q3 + gamma IQR]`` of their kernel. Source: S2NN, OS-Quant."""
    low, high = (q[..., None, None] for q in quartiles(kernels.flatten(-2), quantile))
    reach = gamma * (high - low)
    return (kernels < low - reach) | (kernels > high + reach)


def neighbour_distance(kernels: Tensor) -> Tensor:
    """Omega, ``[..., kh, kw]``: mean ``|w(i, j) - w(n)|`` over the up to four neighbours n inside the kernel."""
    total, count = torch.zeros_like(kernels), torch.zeros_like(kernels)
    for axis in (-1, -2):
        size = kernels.shape[axis]
        gap = kernels.diff(dim=axis).abs()
        for start in (0, 1):
            total.narrow(axis, start, size - 1).add_(gap)
            count.narrow(axis, start, size - 1).add_(1)
    return total / count.clamp(min=1)


def os_quant(kernels: Tensor, gamma: float = 1.5, quantile: str = "linear", relative: bool = False) -> Tensor:
    """Kernels ``[..., kh, kw]`` with their outliers drawn in, for the search of the nearest codeword.

    An outlier is divided by Omega, the mean distance to its neighbours. That is meant for weights of order 1 (w/Omega has no
    scale): give standardised kernels, or say ``relative``, which multiplies by the mean |w| of the kernel's other weights.
    Source: Wei et al. (2025), S2NN, OS-Quant; ``relative`` is ours.
    """
    return kernels * shrinkage(kernels, gamma, quantile, relative)


def shrinkage(kernels: Tensor, gamma: float = 1.5, quantile: str = "linear", relative: bool = False) -> Tensor:
    """What OS-Quant multiplies each weight with: 1, or 1/Omega at an outlier."""
    out = outliers(kernels, gamma, quantile)
    factor = 1 / neighbour_distance(kernels).clamp(min=1e-8)
    if relative:
        inside = (~out).to(kernels.dtype)
        count = inside.sum((-2, -1), keepdim=True).clamp(min=1)
        factor = factor * ((kernels.abs() * inside).sum((-2, -1), keepdim=True) / count)
    return torch.where(out, factor, torch.ones_like(kernels))


def all_kernels(size: int) -> Tensor:
    """Every kernel of ``size`` signs, ``[2^size, size]``: bit j of a row's number is 1 where the sign j is +."""
    numbers = torch.arange(2**size)
    return ((numbers[:, None] >> torch.arange(size)) & 1).float() * 2 - 1


class SubBit(WeightForm):
    """``mean|W| * k`` of each output channel, k the codeword nearest to the kernel: ``eta`` bits a kernel.

    ``book`` ``[2^eta, kh * kw]``: learnable, its signs are the codewords; a sign changes only once its number has passed
    1e-3 on the other side. All codewords have one norm, so the nearest has the largest product with the kernel. Gradients
    reach the latent weights straight through where |W| <= 1 (by 1/Omega at an outlier), and the codebook every
    25th step, after which duplicate codewords are replaced by unused ones (``before_step``, ``after_step``).
    os: search with OS-Quant, outliers by gamma and quantile. normalise: before the search, "channel" standardises by output
    channel, "inliers" leaves the kernels and makes the division relative, "none" is the paper's letter, and where weights are
    small it changes next to no selection.

    Raises ValueError for kernels of one weight or more than nine, or eta outside 1 to their number of weights.
    Source: Wei et al. (2025), S2NN, eq. 4-10; codebook updates from the released code of Wang et al. (2021).
    """

    values = "codebook"
    signs: Tensor
    single_process = True
    unaveraged = ("signs",)

    def __init__(
        self,
        eta: int,
        weight: Tensor,
        os: bool = True,
        gamma: float = 1.5,
        quantile: str = "linear",
        normalise: str = "channel",
    ) -> None:
        super().__init__()
        places = weight[0, 0].numel() if weight.dim() == 4 else 1
        if not 2 <= places <= 9:
            raise ValueError(f"codebooks hold kernels of 2 to 9 weights, this one has {places}")
        if type(eta) is not int or not 1 <= eta <= places:
            raise ValueError(f"eta must be 1 to {places} bits for kernels of {places} weights, got {eta}")
        if type(os) is not bool or not isinstance(gamma, float | int) or not 0 <= gamma < math.inf:
            raise ValueError(f"os is true or false and gamma a finite number from 0, got {os!r} and {gamma!r}")
        for name, value, known in (("quantile", quantile, QUANTILES), ("normalise", normalise, NORMALISATIONS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.bits = eta / places
        self.eta, self.os, self.gamma, self.quantile, self.normalise = eta, os, gamma, quantile, normalise
        chosen = torch.randperm(2**places)[: 2**eta]
        words = all_kernels(places)[chosen].to(device=weight.device, dtype=weight.dtype)
        self.book = nn.Parameter(words)
        self.register_buffer("signs", words.clone())
        self._learns = False

    def extra_repr(self) -> str:
        return f"eta={self.eta}, os={self.os}, gamma={self.gamma}, quantile={self.quantile!r}, normalise={self.normalise!r}"

    def normalised(self, weight: Tensor) -> Tensor:
        """Standardised by output channel, or as they are: ``[O, I, kh, kw]``."""
        if self.normalise != "channel":
            return weight
        _, mean, spread = self.current_statistics(weight).unbind(1)
        return (weight - per_channel(mean, weight)) / per_channel(spread, weight)

    def searched(self, weight: Tensor) -> Tensor:
        """The kernels as the search sees them, ``[O, I, kh, kw]``."""
        kernels = self.normalised(weight)
        return os_quant(kernels, self.gamma, self.quantile, self.normalise == "inliers") if self.os else kernels

    def indices(self, weight: Tensor) -> Tensor:
        """Which codeword each kernel takes, ``[O, I]``, int64."""
        with (
            torch.no_grad(),
            torch.autocast(weight.device.type, enabled=False),
        ):  # near ties would flip in half precision
            kernels = self.searched(weight.detach().float()).flatten(2)
            return (kernels @ self.signs.float().t()).argmax(-1)

    def statistics(self, weight: Tensor) -> Tensor:
        """alpha (mean |W|), mean and deviation of each output channel, ``[O, 3]``."""
        rows = weight.flatten(1)
        spread = rows.std(1, correction=0).clamp(min=torch.finfo(weight.dtype).tiny)
        return torch.stack([rows.abs().mean(1), rows.mean(1), spread], 1)

    def forward(self, weight: Tensor) -> Tensor:
        index = self.indices(weight)
        words = straight_through(self.signs, self.book) if self._learns and self.training else self.signs
        kernels = words[index].view(weight.shape).to(weight.dtype)
        used = per_channel(self.current_statistics(weight)[:, 0], weight) * kernels
        if not weight.requires_grad:
            return used
        way = weight * self.slope(weight.detach())
        return used + (way - way.detach())

    def slope(self, weight: Tensor) -> Tensor:
        """What gradients are multiplied with on their way to the latent weights."""
        inside = (weight.abs() <= 1).to(weight.dtype)
        if not self.os:
            return inside
        relative = self.normalise == "inliers"
        return inside * shrinkage(self.normalised(weight), self.gamma, self.quantile, relative)

    def encode(self, weight: Tensor) -> Codes:
        signs = (self.signs > 0).long()
        return Codes(
            {"codes": (self.indices(weight), self.eta), "codebook": (signs, 1)}, self.current_statistics(weight)[:, 0]
        )

    @classmethod
    def decode(cls, streams: Mapping[str, Tensor], bits: Mapping[str, int], shape: Sequence[int]) -> Tensor:
        words = streams["codebook"].view(-1, math.prod(shape[2:])).float() * 2 - 1
        index = streams["codes"]
        if index.numel() and int(index.max()) >= len(words):
            raise ValueError(f"index {int(index.max())} in a codebook of {len(words)} kernels")
        return words[index].view(*shape)

    @classmethod
    def stream_length(cls, name: str, bits: Mapping[str, int], shape: Sequence[int]) -> int:
        return 2 ** bits["codes"] * math.prod(shape[2:]) if name == "codebook" else math.prod(shape[:2])

    def storage(self, weight: Tensor) -> list[Stored]:
        return [
            Stored("index", weight[:, :, 0, 0].numel(), self.eta),
            Stored("codebook", self.signs.numel(), 1),
        ]

    def before_step(self, step: int) -> None:
        self._learns = step % CODEBOOK_EVERY == 0

    @torch.no_grad()
    def after_step(self) -> None:
        """Signs follow the learnt numbers; duplicates make room for codewords that are not in the book."""
        if not self._learns:
            return
        self.book.clamp_(-LARGEST, LARGEST)
        moved = self.book.abs() >= HYSTERESIS
        signs = torch.where(moved, torch.where(self.book >= 0, 1.0, -1.0).to(self.book.dtype), self.signs)
        places = signs.shape[1]
        number = ((signs > 0).long() << torch.arange(places, device=signs.device)).sum(1)
        first = torch.full((2**places,), len(number), device=signs.device, dtype=torch.long)
        first.scatter_reduce_(0, number, torch.arange(len(number), device=signs.device), "amin")
        again = (first[number] != torch.arange(len(number), device=signs.device)).nonzero().flatten()
        if len(again):
            free = (first == len(number)).nonzero().flatten()
            drawn = free[torch.randperm(len(free)).to(free.device)[: len(again)]]
            words = all_kernels(places).to(signs)[drawn]
            signs[again] = words
            self.book[again] = words
        self.signs.copy_(signs)


def codeword_use(form: SubBit, weight: Tensor) -> Tensor:
    """How many kernels take each codeword, most used first, ``[2^eta]``."""
    return torch.bincount(form.indices(weight).flatten(), minlength=len(form.signs)).sort(descending=True).values


VALUES.register("codebook", SubBit)
