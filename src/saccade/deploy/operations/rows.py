"""Pictures read a row a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.deploy.engine import Native
from saccade.deploy.lowering import Lowering, lowers
from saccade.deploy.operations.hold import held
from saccade.deploy.operations.movement import filled
from saccade.deploy.program import Operation, Wire
from saccade.deploy.values import Affine, Integers, Term, spread
from saccade.graph import Node
from saccade.models.rows_mlp import RowScan


@dataclass(frozen=True)
class Rows(Operation):
    """Row ``t mod H`` of frame t: ``[T, N, C, H, W] -> [T, N, C * W]``."""

    name = "rows"
    mixes_time = True

    def made(self, *given: Wire) -> Wire:
        channels, _, width = given[0].shape
        return Wire((channels * width,), given[0].low, given[0].high)

    def step(self, state: Any, *given: Integers) -> tuple[Integers, Any]:
        start, x = state or 0, given[0]
        rows = [frame[:, :, (start + t) % x.shape[3]] for t, frame in enumerate(x)]
        return np.stack(rows).reshape(len(x), x.shape[1], -1), start + len(x)

    def native(self) -> Native:
        return Native("rows")


@lowers(RowScan)
def rows(low: Lowering, node: Node) -> Affine:
    value, shape = low.of(node.inputs[0]), tuple(node.output.shape[2:])

    def picked(number: Any) -> Any:
        full = np.broadcast_to(number, value.shape)
        if not (full == full[:, :1]).all():
            raise ValueError("its scale or offset changes from row to row")
        return full[:, 0].reshape(shape)

    terms = []
    for wire, scale in value.terms:
        wire = filled(low, held(low, wire, node.output.shape[0]), value.shape)
        made = low.emit(Rows((wire,)))
        terms.append(Term(made, spread(picked(scale), shape)))
    return Affine(tuple(terms), spread(picked(value.offset), shape), shape, node.output.shape[0])
