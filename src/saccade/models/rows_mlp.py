"""Images read a row a step: a sequence task that a CPU trains in seconds, where what a neuron remembers decides.

Source: ours, after the sequential-image tasks of recurrent networks (Le et al. 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.layers import BatchNorm, Linear
from saccade.models.base import ClassifierConfig, Normalise, SpikingModel, preset
from saccade.models.registry import ModelCard, register
from saccade.neurons import NeuronConfig, State, StateSpec, Temporal


class RowScan(Temporal):
    """A rolling shutter: step t sees row ``t mod H`` of its frame, ``[T, N, C, H, W] -> [T, N, C * W]``.

    The state is the step that each sample is at, ``[N]``.
    """

    graph_layer = True  # one node: which row is read is no arithmetic

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        if x.dim() != 5:
            raise ValueError(f"expected [T, N, C, H, W], got {list(x.shape)}")
        T, N, _, H, _ = x.shape
        start = state if isinstance(state, Tensor) else torch.zeros(N, dtype=torch.int64, device=x.device)
        rows = (start + torch.arange(T, device=x.device).unsqueeze(1)) % H  # [T, N]
        picked = x.gather(3, rows.view(T, N, 1, 1, 1).expand(T, N, x.shape[2], 1, x.shape[4]))
        return picked.flatten(2), start + T

    def state_spec(self, shape: tuple[int, ...]) -> StateSpec:
        return {"step": ((), 64)}


@dataclass(frozen=True)
class RowsMlpConfig(ClassifierConfig):
    """row -> linear - BN - neuron, once for each of ``widths`` -> linear read-out.

    A static image is shown for T steps, of which step t sees row t; T = the number of rows shows all of it.
    columns: pixels of a row.
    """

    T: int = 8
    readout: str = "last"
    in_channels: int = 1
    columns: int = 8
    widths: tuple[int, ...] = (96, 96, 96)
    neuron: NeuronConfig = preset("qp")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise ValueError("rows_mlp needs at least one hidden width")
        if min(*self.widths, self.in_channels, self.columns) < 1:
            raise ValueError(f"widths, in_channels and columns are whole numbers from 1, got {self.widths}")

    def build(self) -> RowsMlp:
        return RowsMlp(self)


class RowsMlp(SpikingModel):
    """See ``RowsMlpConfig``."""

    def __init__(self, config: RowsMlpConfig) -> None:
        c = config
        super().__init__(c, Normalise(c.in_channels), (c.T, c.columns))
        self.columns = c.columns
        self.scan = RowScan()
        layers: list[nn.Module] = []
        for a, b in zip((c.in_channels * c.columns, *c.widths[:-1]), c.widths, strict=True):
            layers += [Linear(a, b, bias=False), BatchNorm(b), c.neuron.build(channels=b)]
        self.layers = nn.Sequential(*layers)
        self.head = Linear(c.widths[-1], c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        if x.shape[-1] != self.columns:
            raise ValueError(f"rows of {self.columns} pixels were asked for, the images have {x.shape[-1]}")
        return self.head(self.layers(self.scan(self.in_time(x, T))))


_SOURCE = "ours; the task after Le et al. (2015), arXiv 1504.00941"
register(ModelCard("rows_mlp", "MLP that reads an image a row a step", _SOURCE, (1, 8, 8), RowsMlpConfig()))
