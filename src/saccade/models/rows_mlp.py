"""Images read a row a step: a sequence task that a CPU trains in seconds, where what a neuron remembers decides.

Source: ours, after the sequential-image tasks of recurrent networks (Le et al. 2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saccade.layers import BatchNorm1d, Linear
from saccade.models.base import Normalise, SpikingModel
from saccade.models.channels import ChannelGroup
from saccade.models.registry import ModelCard, register
from saccade.neurons import Temporal, neuron


class RowScan(Temporal):
    """A rolling shutter: step t sees row ``t mod H`` of its frame, ``[T, N, C, H, W] -> [T, N, C * W]``.

    The state is the step that each sample is at, ``[N]``.
    """

    def step(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if x.dim() != 5:
            raise ValueError(f"expected [T, N, C, H, W], got {list(x.shape)}")
        T, N, _, H, _ = x.shape
        start = torch.zeros(N, dtype=torch.int64, device=x.device) if state is None else state
        rows = (start + torch.arange(T, device=x.device).unsqueeze(1)) % H  # [T, N]
        picked = x.gather(3, rows.view(T, N, 1, 1, 1).expand(T, N, x.shape[2], 1, x.shape[4]))
        return picked.flatten(2), start + T


class RowsMlp(SpikingModel):
    """row -> linear - BN - neuron, once for each of ``widths`` -> linear read-out.

    A static image is shown for T steps, of which step t sees row t; T = the number of rows shows all of it.
    """

    def __init__(
        self, T: int, num_classes: int, in_channels: int, columns: int, widths: Sequence[int], preset: str, readout: str
    ) -> None:
        super().__init__(T, num_classes, Normalise(in_channels), readout)
        self.columns = columns
        self.scan = RowScan()
        layers: list[nn.Module] = []
        for a, b in zip((in_channels * columns, *widths[:-1]), widths, strict=True):
            layers += [Linear(a, b, bias=False), BatchNorm1d(b), neuron(preset)]
        self.layers = nn.Sequential(*layers)
        self.head = Linear(widths[-1], num_classes)

    def step_logits(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.columns:
            raise ValueError(f"rows of {self.columns} pixels were asked for, the images have {x.shape[-1]}")
        return self.head(self.layers(self.scan(self.in_time(x))))

    def channel_groups(self) -> dict[str, ChannelGroup]:
        """One for every layer of neurons but the last."""
        return {
            f"layer{i // 3 + 1}": ChannelGroup(
                ((f"layers.{i}", f"layers.{i + 1}"),), (f"layers.{i + 2}",), ((f"layers.{i + 3}", 1),)
            )
            for i in range(0, len(self.layers) - 3, 3)
        }


def rows_mlp(
    T: int = 8,
    num_classes: int = 10,
    in_channels: int = 1,
    columns: int = 8,
    widths: Sequence[int] = (96, 96, 96),
    preset: str = "qp",
    readout: str = "last",
) -> SpikingModel:
    if not widths:
        raise ValueError("rows_mlp needs at least one hidden width")
    return RowsMlp(T, num_classes, in_channels, columns, widths, preset, readout)


_SOURCE = "ours; the task after Le et al. (2015), arXiv 1504.00941"
register(ModelCard("rows_mlp", "MLP that reads an image a row a step", _SOURCE, (1, 8, 8), rows_mlp))
