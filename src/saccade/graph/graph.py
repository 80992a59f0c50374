"""What follows what in one run of a model: plain records, and ways to walk along them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from saccade.graph.alphabet import Alphabet

LAYER, NEURON, WRITTEN, HIDDEN = "layer", "neuron", "written", "hidden"

# Operations whose result holds the values of their first input, each at its place (repeated, where axes are expanded).
KEEPING = frozenset(
    (
        "view",
        "_unsafe_view",
        "_reshape_alias",
        "expand",
        "unsqueeze",
        "squeeze",
        "clone",
        "detach",
        "alias",
        "lift_fresh",
    )
)


@dataclass(eq=False)
class Value:
    """A tensor at one moment of the run: what is written in place afterwards is another value.

    producer: the node that made it; None for inputs of the model and for constants. users: the nodes that read it, once for
    each time. live: depends on the model's input. timed: depends on time, as a sequence that was given does, and what
    comes out of modules that mix time. alphabet: the values it can hold, in any run; None if analog. name: of a parameter or
    buffer, its path; of an input, "input 0", ... tensor: of a constant; what a run computes is not kept.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    producer: Node | None = None
    users: list[Node] = field(default_factory=list, repr=False)
    live: bool = False
    timed: bool = False
    alphabet: Alphabet | None = None
    name: str = ""
    tensor: Tensor | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The module that made it, or the name of a parameter, a buffer or an input."""
        return self.name if self.producer is None else self.producer.path

    @property
    def constant(self) -> bool:
        """Neither an input of the model nor made by a node."""
        return self.producer is None and not self.live


@dataclass(eq=False)
class Node:
    """A call of a layer or of a neuron, or an operation between them.

    op: "layer", "neuron"; the name of an operation ("add", also for ``add_``; "mylib::op"); "written": a tensor after part of
    its memory was written through another tensor (inputs: the value before, then what was written); "hidden": a view of its
    input that was made unseen. path: of the module that runs it, "" for the model. module: of layers and neurons. args,
    kwargs: as called, a value for each tensor.
    inputs: the values among them in order. outputs: those of the result, in order. side_outputs: what else it wrote or left
    behind (running statistics, a potential that is read as an attribute).
    """

    op: str
    path: str
    module: nn.Module | None = None
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: dict[str, Any] = field(default_factory=dict, repr=False)
    inputs: tuple[Value, ...] = field(default=(), repr=False)
    outputs: tuple[Value, ...] = field(default=(), repr=False)
    side_outputs: list[Value] = field(default_factory=list, repr=False)

    @property
    def output(self) -> Value:
        """The first output. Raises ValueError if it has none."""
        if not self.outputs:
            raise ValueError(f"{self} has no output")
        return self.outputs[0]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def __str__(self) -> str:
        return f"{self.op} in {self.path}" if self.path else self.op


class Source(NamedTuple):
    """Where a value was made. shared: something else reads it (or the model returns it) on the way."""

    value: Value
    shared: bool


@dataclass(eq=False)
class Graph:
    """One run: nodes in order, the values given and returned. aliases: second paths of modules, to the first."""

    nodes: list[Node]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    paths: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def layer_nodes(self) -> list[Node]:
        """The calls of layers and neurons, in order."""
        return [node for node in self.nodes if node.op in (LAYER, NEURON)]

    def calls(self, path: str) -> list[Node]:
        """The calls of the layer or neuron at a path, in order; none where it was not reached, or has layers inside.

        Raises ValueError for a path that the model does not have.
        """
        path = self.aliases.get(path, path)
        if path not in self.paths:
            raise ValueError(f"the model has no module {path!r}")
        return [node for node in self.layer_nodes() if node.path == path]

    def source(self, value: Value) -> Source:
        """Back through what keeps values in place (views, copies, repetition in time) to where they were made."""
        shared = False
        while value.producer is not None and keeps_values(value.producer):
            value = value.producer.inputs[0]
            shared |= len(value.users) > 1 or any(value is output for output in self.outputs)
        return Source(value, shared)

    def follow(self, value: Value) -> list[tuple[Node, Value]]:
        """What reads the values: nodes that do more than keep them in place, each with the value that it reads."""
        result: list[tuple[Node, Value]] = []
        for node in dict.fromkeys(value.users):
            if keeps_values(node) and node.inputs[0] is value:
                result += self.follow(node.output)
            else:
                result.append((node, value))
        return result


def keeps_values(node: Node) -> bool:
    """Whether its output holds the values of its first input as they are, each at its place."""
    if node.op == "_to_copy":
        return node.output.dtype == node.inputs[0].dtype
    return node.op in KEEPING and bool(node.inputs)
