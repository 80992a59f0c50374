"""What the layers of a model are fed by, read off its graph instead of guessed from the first values."""

from __future__ import annotations

from torch import Tensor, nn

from saccade.graph import Alphabet, trace
from saccade.kernels.bits import Grid
from saccade.layers.weighted import ANALOG, Weighted

MOST_PLANES = 8


def declare_inputs(model: nn.Module, x: Tensor) -> dict[str, Grid | None]:
    """Tell every layer with weights which values its input may hold, so that it is kept as bits from the first step.

    x: a sample input. Returns the grid of each layer that was reached, by path; None for analog input, and for spikes of more
    than 256 levels. A model without this finds out by itself from what it sees, and calls unusual levels analog.
    """
    grids: dict[str, Grid | None] = {}
    for node in trace(model, x).layer_nodes():
        if not isinstance(node.module, Weighted):
            continue
        grid = _grid(node.inputs[0].alphabet)
        if node.path in grids and grids[node.path] != grid:
            grid = None  # called twice, with other values
        grids[node.path] = grid
        node.module._grid = grid or ANALOG
    return grids


def _grid(alphabet: Alphabet | None) -> Grid | None:
    if alphabet is None:
        return None
    planes = max(1, (alphabet.high - alphabet.low).bit_length())
    return Grid(float(alphabet.unit), alphabet.low, planes) if planes <= MOST_PLANES else None
