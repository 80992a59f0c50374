"""The saccadic neuron: a learnt causal mixing of all steps so far chooses what is attended now.

In training ``S = 1[M x >= theta]`` over time, M lower-triangular, theta one a step: a masked mixing (Fang et al. 2023) that
starts near the identity. For inference the paper proposes thresholds for a history, ``S[t] = 1[x[t] >= (M^-1 theta)[t]]``:
which is the same for every input only if M is diagonal with positive entries: ``M x >= v`` and ``x >= M^-1 v`` agree in every
component only where neither M nor its inverse has a negative entry. So "exact" is what models use, and ``mismatch`` says by how
much the other form differs.

Source: SNN-ViT (2025), arXiv 2502.12677, eq. 5-11 as quoted in notes of others; no code was published.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade import kernels
from saccade.neurons.mixing import MaskedMixing, MaskedMixingConfig
from saccade.neurons.spiking import NEURONS

INFERENCE = ("exact", "decoupled")
LEAST = 1e-3  # a smaller diagonal is taken for this one where M is inverted


@dataclass(frozen=True)
class SaccadicConfig(MaskedMixingConfig):
    """M starts at ``I + spread * (what lies below the diagonal)``; decay plays no part.

    inference: what runs in eval mode, "exact" (keeps the inputs of all steps) or "decoupled" (keeps nothing).
    """

    spread: float = 0.1
    inference: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inference not in INFERENCE:
            raise ValueError(f"inference must be one of {', '.join(INFERENCE)}, got {self.inference!r}")

    def build(self, *, channels: int | None = None, channel_axis: int = 2, role: str = "") -> Saccadic:
        return Saccadic(self, channels=channels, channel_axis=channel_axis, role=role)


class Saccadic(MaskedMixing):
    """See ``SaccadicConfig``. Built for sequences of T steps only."""

    config: SaccadicConfig

    def __init__(
        self, config: SaccadicConfig, *, channels: int | None = None, channel_axis: int = 2, role: str = ""
    ) -> None:
        super().__init__(config, channels=channels, channel_axis=channel_axis, role=role)
        rows, columns = torch.tril_indices(self.fixed_T, self.fixed_T)
        start = torch.where(rows == columns, 1.0, config.spread)
        if config.learn:
            self.entries = nn.Parameter(start)
        else:
            self.register_buffer("entries", start, persistent=False)

    def mixing(self, T: int) -> Tensor:
        if self.fixed_T != T:
            raise ValueError(f"a saccadic neuron built for T = {self.fixed_T} got a sequence of T = {T}")
        rows, columns = torch.tril_indices(T, T, device=self.theta.device)
        entries: Tensor = self.entries
        return entries.new_zeros(T, T).index_put((rows, columns), entries)

    def thresholds(self) -> Tensor:
        """``M^-1 theta``, ``[T]``: what the decoupled form compares each step's own input with."""
        matrix = self.mixing(self.fixed_T)
        diagonal = matrix.diagonal()
        kept = torch.where(diagonal.abs() < LEAST, torch.full_like(diagonal, LEAST), diagonal)
        matrix = matrix - torch.diag(diagonal) + torch.diag(kept)
        wide = matrix if matrix.dtype == torch.float64 else matrix.float()
        return torch.linalg.solve_triangular(wide, self.theta.to(wide.dtype).unsqueeze(1), upper=False).squeeze(1)

    def decoupled(self, x: Tensor) -> Tensor:
        """The spikes of the decoupled form, ``[T, N, ...] -> [T, N, ...]``. Raises ValueError for another T."""
        if len(x) != self.fixed_T:
            raise ValueError(f"a saccadic neuron built for T = {self.fixed_T} got a sequence of T = {len(x)}")
        wide = x if x.dtype == torch.float64 else x.float()
        potentials = wide - self.thresholds().to(wide.dtype).view(-1, *[1] * (x.dim() - 1))
        return kernels.spike(potentials, self.config.surrogate).to(x.dtype)

    def mismatch(self, x: Tensor) -> float:
        """The share of spikes of ``[T, N, ...]`` in which the two forms differ."""
        with torch.no_grad():
            return float((self.decoupled(x) != self._mix(x, self.mixing(len(x)))).double().mean())

    def whole(self, x: Tensor) -> Tensor:
        if self.config.inference == "decoupled" and not self.training:
            return self.decoupled(x)
        return super().whole(x)


NEURONS.register("saccadic", SaccadicConfig())
