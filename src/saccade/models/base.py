"""What every model shares: its input, its time, its read-out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saccade.layers import direct

READOUTS = ("mean", "last")


class Normalise(nn.Module):
    """``(x - mean) / std`` per channel; the identity for event counts (no mean given)."""

    def __init__(self, channels: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.identity = mean is None
        if mean is not None and std is not None:
            if len(mean) != channels or len(std) != channels:
                raise ValueError(
                    f"normalisation has {len(mean)} means and {len(std)} deviations for {channels} channels"
                )
            self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.identity else (x - self.get_buffer("mean")) / self.get_buffer("std")


class SpikingModel(nn.Module):
    """Base of the models: a function of its input that keeps nothing.

    ``model(x)``: ``x`` is a static ``[N, C, H, W]`` in [0, 1], shown for ``T`` steps, or a sequence ``[T, N, C, H, W]``.
    Returns logits ``[N, K]``: the mean over time, or the last step with ``readout="last"``. ``model(x, steps=True)``
    returns ``[T, N, K]``, which is what losses take. For a static image all that lies before the first neuron runs once.

    Subclasses implement ``step_logits(x) -> [T, N, K]`` on normalised input and call ``in_time`` before their first neuron.
    """

    def __init__(self, T: int, num_classes: int, normalise: Normalise, readout: str = "mean") -> None:
        super().__init__()
        if T < 1:
            raise ValueError(f"T must be at least 1, got {T}")
        if readout not in READOUTS:
            raise ValueError(f"readout must be one of {', '.join(READOUTS)}, got {readout!r}")
        self.T = T
        self.num_classes = num_classes
        self.readout = readout
        self.normalise = normalise
        self.transforms: list[dict[str, object]] = []  # what was done to the model since it was created, in order

    @property
    def in_channels(self) -> int:
        return self.normalise.channels

    def step_logits(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def in_time(self, x: Tensor) -> Tensor:
        """``[N, ...]`` shown for T steps; a sequence as it is."""
        return direct(x, self.T) if x.dim() == 4 else x

    def forward(self, x: Tensor, steps: bool = False) -> Tensor:
        """Raises ValueError naming the expected shape, or the module whose T is not the sequence's."""
        if x.dim() not in (4, 5) or x.shape[-3] != self.in_channels:
            c = self.in_channels
            raise ValueError(f"expected [N, {c}, H, W] or [T, N, {c}, H, W], got {list(x.shape)}")
        y = self.step_logits(self.normalise(x))
        if steps:
            return y
        return y.mean(0) if self.readout == "mean" else y[-1]
