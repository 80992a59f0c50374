"""Channel groups by another way: union-find over the graph of ``torch.export``, for the operations that our models use.

An independent oracle for ``saccade.graph.ties``: another graph (no layers, other operations, weights as inputs), and slots
that are axes of weights.
"""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Slot = tuple[str, int]


class Found(NamedTuple):
    """Of one group: paths of weights that make it and read it (with inputs for each channel), of norms and of neurons."""

    producers: frozenset[str]
    consumers: frozenset[tuple[str, int]]
    norms: frozenset[str]
    neurons: frozenset[str]


class Union:
    def __init__(self) -> None:
        self.parent: dict[Slot, Slot] = {}

    def find(self, slot: Slot) -> Slot:
        self.parent.setdefault(slot, slot)
        while self.parent[slot] != slot:
            slot = self.parent[slot]
        return slot

    def join(self, a: Slot, b: Slot) -> None:
        self.parent[self.find(b)] = self.find(a)


BROADCAST = ("add", "sub", "mul", "div", "rsub", "relu", "sigmoid", "alias", "remainder", "clone")
POOLS = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")


def exported_groups(model: nn.Module, x: Tensor) -> dict[frozenset[str], Found]:
    """Groups of channels that layers make, by the paths of all that make them."""
    with torch.no_grad():
        program = torch.export.export(model, (x,))
    names = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target}
    union = Union()
    dims: dict[str, list[list[Slot]]] = {}  # of each node, the slots that each of its axes is made of
    uses: list[tuple[str, Slot, Any]] = []

    def shape(node: Any) -> tuple[int, ...]:
        value = node.meta["val"]
        return tuple((value[0] if isinstance(value, tuple | list) else value).shape)

    def fresh(node: Any) -> list[list[Slot]]:
        return [[(node.name, i)] for i in range(len(shape(node)))]

    def weight(node: Any) -> str:
        return names[node.name].removesuffix(".weight")

    sizes: dict[Slot, int] = {}

    for node in program.graph.nodes:
        if node.op == "placeholder":
            dims[node.name] = fresh(node)
        if node.op != "call_function" or "val" not in node.meta:
            continue
        kind = str(node.target).removeprefix("aten.").split(".")[0]
        inputs = [argument for argument in node.args if isinstance(argument, torch.fx.Node)]
        out = fresh(node)
        if "getitem" in str(node.target):
            out = dims[node.args[0].name] if node.args[1] == 0 else out
        elif kind == "conv2d":
            own = weight(node.args[1])
            uses += [("consumers", part, (own, 1)) for part in dims[node.args[0].name][1]]
            out[0], out[1] = dims[node.args[0].name][0], [(own, 0)]
            uses.append(("producers", (own, 0), own))
        elif kind == "linear":
            own = weight(node.args[1])
            first, *rest = dims[node.args[0].name][-1]
            uses.append(("consumers", first, (own, prod(sizes[part] for part in rest))))
            out[:-1], out[-1] = dims[node.args[0].name][:-1], [(own, 0)]
            uses.append(("producers", (own, 0), own))
        elif kind == "batch_norm":
            out = dims[node.args[0].name]
            uses.append(("norms", out[1][0], weight(node.args[1])))
        elif kind == "saccade":
            out = dims[node.args[0].name]
            path = list(node.meta["nn_module_stack"].values())[-1][0]
            uses += [("neurons", axis[0], path) for axis in out if axis]
        elif kind in BROADCAST:
            for i in range(1, len(out) + 1):
                same = [dims[a.name][-i] for a in inputs if len(shape(a)) >= i and shape(a)[-i] == shape(node)[-i] != 1]
                for other in same[1:]:
                    for a, b in zip(same[0], other, strict=True):
                        union.join(a, b)
                if same:
                    out[-i] = same[0]
        elif kind == "flatten":
            start, end = node.args[1], node.args[2] if len(node.args) > 2 else -1
            before, end = dims[node.args[0].name], end % len(shape(inputs[0]))
            start %= len(before)
            merged = [part for axis in before[start : end + 1] for part in axis if sizes[part] > 1]
            out = [*before[:start], merged, *before[end + 1 :]]
        elif kind in ("unflatten", "view"):
            parts = [part for axis in dims[inputs[0].name] for part in axis if sizes[part] > 1]
            out = []
            for i, size in enumerate(shape(node)):
                axis: list[Slot] = []
                while prod(sizes[part] for part in axis) < size:
                    axis.append(parts.pop(0))
                out.append(axis or [(node.name, i)])
        elif kind == "unsqueeze":
            out = list(dims[inputs[0].name])
            place = node.args[1] % len(shape(node))
            out.insert(place, [(node.name, place)])
        elif kind == "expand":
            back = dims[inputs[0].name]
            for i in range(1, len(back) + 1):
                if shape(inputs[0])[-i] == shape(node)[-i]:
                    out[-i] = back[-i]
        elif kind == "t":
            out = dims[inputs[0].name][::-1]
        elif kind in ("mean", "amax"):
            over = {dim % len(shape(inputs[0])) for dim in node.args[1]}
            out = [axis for i, axis in enumerate(dims[inputs[0].name]) if i not in over]
        elif kind in POOLS:
            out[:-2] = dims[inputs[0].name][:-2]
        elif kind in ("slice", "pad"):
            before = dims[inputs[0].name]
            out = [a if m == n else b for a, b, m, n in zip(before, out, shape(inputs[0]), shape(node), strict=True)]
        elif kind == "select":
            out = [axis for i, axis in enumerate(dims[inputs[0].name]) if i != node.args[1]]
        elif kind == "stack":
            rest = [dims[a.name] for a in node.args[0]]
            for other in rest[1:]:
                for one, two in zip(rest[0], other, strict=True):
                    for a, b in zip(one, two, strict=True):
                        union.join(a, b)
            out = [*rest[0][: node.args[1]], out[node.args[1]], *rest[0][node.args[1] :]]
        elif kind not in ("zeros", "arange", "gather"):
            raise NotImplementedError(f"the oracle does not know {node.target}")
        dims[node.name] = out
        for axis, size in zip(out, shape(node), strict=True):
            if len(axis) == 1:
                sizes.setdefault(axis[0], size)

    found: dict[Slot, dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    for part, slot, what in uses:
        if sizes.get(slot, 2) > 1:
            found[union.find(slot)][part].add(what)
    return {
        frozenset(group["producers"]): Found(*(frozenset(group[part]) for part in Found._fields))
        for group in found.values()
        if group["producers"]
    }
