"""Which axes of a model hang together: what must become narrower when channels are taken out of a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from saccade.graph.axis_rules import Axes, apply_rule
from saccade.graph.graph import LAYER, NEURON, Graph, Node, Value
from saccade.graph.slots import Axis

WEIGHTED, DEPTHWISE, NORM, SHORTCUT, KEEPING = "weighted", "depthwise", "norm", "shortcut", "keeping"
ROLES = (WEIGHTED, DEPTHWISE, NORM, SHORTCUT, KEEPING)


@dataclass(frozen=True)
class LayerAxes:
    """What a layer does to the axes of its (first) input.

    role: "weighted": reads the channels on one axis and makes new ones; "depthwise": a weight for each channel, which stay
    what they are; "norm": one as well, and nothing else changes; "shortcut": as "weighted", without weights of its own;
    "keeping": no channel axis of its own. input, output: the channel axis, counted from the end (negative) or from the
    start. changed: axes, besides, that come out as new ones (height and width), counted from the end. fixed: a reason why the
    channels must stay as many as they are, or "".
    """

    role: str
    input: int = 0
    output: int = 0
    changed: tuple[int, ...] = ()
    fixed: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"the role of a layer is one of {', '.join(ROLES)}, got {self.role!r}")


def layer_axes(node: Node) -> LayerAxes | None:
    """What is known of torch's own layers; None of another.

    The channels of a batch norm lie on its attribute ``channel_axis``, if it has one, or where torch has them.
    """
    layer: Any = node.module
    if isinstance(layer, nn.modules.conv._ConvNd):
        places = tuple(range(-len(layer.kernel_size), 0))
        channels = -len(layer.kernel_size) - 1
        if layer.groups == 1:
            return LayerAxes(WEIGHTED, channels, channels, places)
        if layer.groups == layer.in_channels == layer.out_channels:
            return LayerAxes(DEPTHWISE, channels, channels, places)
        return LayerAxes(WEIGHTED, channels, channels, places, f"convolved in {layer.groups} groups by {node.path}")
    if isinstance(layer, nn.Linear):
        return LayerAxes(WEIGHTED, -1, -1)
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        axis = getattr(layer, "channel_axis", None)
        if axis is None:
            axis = -3 if isinstance(layer, nn.BatchNorm2d) else -4 if isinstance(layer, nn.BatchNorm3d) else 1
        return LayerAxes(NORM, axis, axis)
    if isinstance(layer, nn.LayerNorm):
        outermost = -len(layer.normalized_shape)
        return LayerAxes(NORM, outermost, outermost, fixed=f"normalised together by {node.path}")
    return None


@dataclass(frozen=True)
class Reader:
    """A layer that reads the channels of a group, with as many inputs for each (height x width after flattening)."""

    node: Node
    block: int


@dataclass(frozen=True)
class Group:
    """Channels that are kept or removed together, in all of:

    producers: layers whose output channels they are; consumers: layers that read them; norms and neurons that they pass;
    shortcuts: layers without weights that bring them other channels; depthwise: convolutions with a kernel for each;
    parameters: parameters and constants outside layers, with the axis; reduced: operations that sum or average over them.
    fixed: why they must stay as they are, in words, or "".
    """

    size: int
    producers: tuple[Node, ...]
    consumers: tuple[Reader, ...] = ()
    norms: tuple[Node, ...] = ()
    neurons: tuple[Node, ...] = ()
    shortcuts: tuple[Node, ...] = ()
    depthwise: tuple[Node, ...] = ()
    parameters: tuple[tuple[Value, int], ...] = ()
    reduced: tuple[Node, ...] = ()
    fixed: str = ""


@dataclass
class Ties:
    """groups: of all channels that layers make, in order of their first producer."""

    groups: list[Group]
    axes: Axes = field(repr=False)

    def group_of(self, value: Value, axis: int) -> Group | None:
        """The group that an axis of a tensor belongs to, if it is one of channels, outermost where axes were merged."""
        factors = self.axes[value][axis]
        return self._by_root.get(self.axes.slots.root(factors[0])) if factors else None

    _by_root: dict[int, Group] = field(default_factory=dict, repr=False)


LayerRule = Callable[[Node], LayerAxes | None]


def ties(graph: Graph, rule: LayerRule = layer_axes) -> Ties:
    """The channel groups of a traced model.

    rule: what a layer does to its axes, from its node; where it gives None, ``layer_axes`` is asked, and a layer that it does
    not know either fixes all axes that it touches. A module that is called several times, or shares its weight with another,
    ties what these calls read and make. Norms pass all axes on, neurons too. What an operation does that no rule here knows, is
    fixed with its name.
    """
    builder = _Tier(rule)
    for value in graph.inputs:
        for axis in builder.axes[value]:
            builder.axes.slots.fix(axis, "the model's input")
    for node in graph.nodes:
        if node.op == NEURON:
            builder.neuron(node)
        elif node.op == LAYER:
            builder.layer(node)
        else:
            apply_rule(builder.axes, node)
    for value in graph.outputs:
        for axis in builder.axes[value]:
            builder.axes.slots.fix(axis, "the model's output")
    return builder.result()


class _Tier:
    def __init__(self, rule: LayerRule) -> None:
        self.axes = Axes()
        self._rule = rule
        self._seen: list[tuple[str, Axis, Node, int]] = []  # part in a group, its axis, who plays it, block
        self._shared: dict[tuple[int, str], Axis] = {}  # axes of weights

    def neuron(self, node: Node) -> None:
        """All axes pass; of a potential too, but time."""
        if not node.inputs:
            return
        x = node.inputs[0]
        for output in (*node.outputs, *node.side_outputs):
            self.axes.keep(node, output, self._passed(node, x, output))
        assert node.module is not None
        own = any(p.numel() > 1 for p in (*node.module.parameters(), *node.module.buffers()))
        for i, axis in enumerate(self.axes[x]):
            if own:
                self._share(node, f"neuron {i - len(x.shape)}", axis)
            if own and len(axis) > 1:
                self.axes.slots.fix(axis, f"merged with others for {node.path}")
            self._seen.append(("neurons", axis[:1], node, 1))
        if len(x.shape) > 1:
            self.axes.slots.fix(self.axes[x][0], f"steps or samples of {node.path}")

    def _passed(self, node: Node, x: Value, output: Value) -> list[Axis]:
        axes = self.axes[x]
        if output.shape == x.shape:
            return axes
        if output.shape == x.shape[1:]:
            return axes[1:]
        if output.shape[1:] == x.shape[1:]:  # another number of steps
            return [self.axes.slots.fresh(output.shape[0]), *axes[1:]]
        for axis in axes:
            self.axes.slots.fix(axis, f"turned into another shape by {node}")
        fresh = [self.axes.slots.fresh(size) for size in output.shape]
        for axis in fresh:
            self.axes.slots.fix(axis, f"turned into another shape by {node}")
        return fresh

    def layer(self, node: Node) -> None:
        how = self._rule(node) or layer_axes(node)
        whole = node.inputs and node.outputs and len(node.inputs[0].shape) == len(node.outputs[0].shape)
        if how is None or not whole:
            kind = type(node.module).__name__
            return self.axes.fix_all(node, f"what {node.path} ({kind}) does to its axes is not known")
        x, y, slots = node.inputs[0], node.outputs[0], self.axes.slots
        for other in node.inputs[1:]:
            for axis in self.axes[other]:
                slots.fix(axis, f"also read by {node.path}")
        axes = list(self.axes[x])
        if how.role != KEEPING:
            read = axes[how.input]
            self._share(node, "input", read)
            if how.fixed:
                slots.fix(read, how.fixed)
            block = slots.length(read[1:])
            if how.role in (WEIGHTED, SHORTCUT):
                made = self._made(node, how, x, y)
                self._seen.append(("consumers", read[:1], node, block))
                self._seen.append(("producers" if how.role == WEIGHTED else "shortcuts", made, node, 1))
                slots.fix(read[1:], f"read place by place by {node.path}")
                axes[how.output] = made
            else:
                if len(read) > 1:
                    slots.fix(read, f"merged with others for {node.path}")
                self._seen.append(("norms" if how.role == NORM else "depthwise", read[:1], node, block))
        for place in how.changed:
            axes[place] = slots.fresh(y.shape[place])
        self.axes.keep(node, y, axes)
        for output in node.outputs[1:]:
            for axis in self.axes[output]:
                slots.fix(axis, f"a second output of {node.path}")
        return None

    def _made(self, node: Node, how: LayerAxes, x: Value, y: Value) -> Axis:
        """The axis of the channels that a layer makes: of its weight, so the same in each call."""
        if x is y:
            return self.axes[x][how.output]
        made = self.axes.slots.fresh(y.shape[how.output])
        self._share(node, "output", made)
        if how.fixed:
            self.axes.slots.fix(made, how.fixed)
        return made

    def _share(self, node: Node, side: str, axis: Axis) -> None:
        """Calls of one weight read, and make, the same channels."""
        assert node.module is not None
        weight = node.module._parameters.get("weight")
        key = (id(node.module if weight is None else weight), side)
        if key in self._shared:
            self.axes.slots.tie(self._shared[key], axis, node.path)
        else:
            self._shared[key] = axis

    def result(self) -> Ties:
        slots = self.axes.slots
        parts: dict[int, dict[str, list[Any]]] = {}
        for part, axis, node, block in self._seen:
            if axis:
                players = parts.setdefault(slots.root(axis[0]), {}).setdefault(part, [])
                player = Reader(node, block) if part == "consumers" else node
                players.append(player)
        for value in self.axes.constants:
            for i, axis in enumerate(self.axes[value]):
                for factor in axis:
                    parts.setdefault(slots.root(factor), {}).setdefault("parameters", []).append((value, i))
        for node, axis in self.axes.reduced:
            for factor in axis:
                parts.setdefault(slots.root(factor), {}).setdefault("reduced", []).append(node)
        by_root = {
            root: Group(
                size=slots.sizes[root], fixed=slots.reason(root), **{name: tuple(them) for name, them in found.items()}
            )
            for root, found in parts.items()
            if "producers" in found
        }
        order = {node: i for i, (part, _, node, _) in enumerate(self._seen) if part == "producers"}
        groups = sorted(by_root.values(), key=lambda group: min(order[node] for node in group.producers))
        return Ties(groups, self.axes, by_root)
