"""Which channels of a model can be taken out, and all that loses them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from saccade.graph import Graph, Group, Node, layer_axes, ties, trace
from saccade.graph.graph import LAYER, NEURON
from saccade.transforms.layer_rules import our_axes


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are kept or removed together: all tensors that meet at an addition share theirs. Paths, each once.

    producers: layers that make them. norms, neurons, depthwise: what they pass on the way (norms, neuron layers, convolutions
    with a kernel for each). consumers: what reads them, with the number of inputs that a channel has there (H * W after
    flattening). shortcuts: what brings them other channels to add, without weights of its own. parameters: names of
    parameters and buffers outside layers, with the axis. size: how many there are.
    """

    size: int
    producers: tuple[str, ...]
    norms: tuple[str, ...] = ()
    neurons: tuple[str, ...] = ()
    consumers: tuple[tuple[str, int], ...] = ()
    shortcuts: tuple[str, ...] = ()
    depthwise: tuple[str, ...] = ()
    parameters: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Channels:
    """Both by the path of the first producer, in order of the run. groups: that can lose channels. left: why others cannot."""

    groups: dict[str, ChannelGroup]
    left: dict[str, str]


def channel_groups(
    model: nn.Module, x: Tensor | None = None, *, spiking: Mapping[str, Sequence[float]] | None = None
) -> dict[str, ChannelGroup]:
    """The groups of a model (of ours or of anybody) that can lose channels, by the path of their first producer.

    x: a sample input (default: the model's example). spiking: levels of neurons that declare none. ``channels_of`` says why
    others are not among them. Raises ValueError for a model without such groups, with the first reason.
    """
    channels = channels_of(model, x, spiking=spiking)
    if not channels.groups:
        reason = next((f"{path}: {why}" for path, why in channels.left.items()), "it has no layers with weights")
        raise ValueError(f"{type(model).__name__} has no channels that can be removed ({reason})")
    return channels.groups


def channels_of(
    model: nn.Module, x: Tensor | None = None, *, spiking: Mapping[str, Sequence[float]] | None = None
) -> Channels:
    """All channel groups of a model, found on a sample: those that can lose channels and those that cannot, with the reason.

    What the read-out reads stays as it is: layers with weights after which no neuron comes.
    Raises ValueError for a model that has no example input of its own where none is given.
    """
    graph = trace(model, example_of(model) if x is None else x, spiking=spiking)
    readout = readout_layers(graph)
    result = Channels({}, {})
    for group in ties(graph, our_axes).groups:
        name = group.producers[0].path
        reason = group.fixed or _stays(group, readout)
        if reason:
            result.left[name] = reason
        else:
            result.groups[name] = _by_path(group)
    return result


def example_of(model: nn.Module) -> Tensor:
    """A model's own example input. Raises ValueError for a model without one."""
    example = getattr(model, "example_input", None)
    if not callable(example):
        raise ValueError(f"{type(model).__name__} has no example input (SpikingModel.example_input): give a sample, x")
    x: Tensor = example()
    return x


def readout_layers(graph: Graph) -> set[Node]:
    """Calls of layers with weights from which no neuron is reached."""
    leads: set[Node] = set()  # to a neuron
    for node in reversed(graph.nodes):
        users = [user for value in (*node.outputs, *node.side_outputs) for user in value.users]
        if node.op == NEURON or any(user in leads for user in users):
            leads.add(node)
    return {node for node in graph.nodes if node.op == LAYER and node not in leads and _makes_channels(node)}


def _makes_channels(node: Node) -> bool:
    how = our_axes(node) or layer_axes(node)
    return how is None or how.role == "weighted"


def _stays(group: Group, readout: set[Node]) -> str:
    if not group.consumers:
        return "no layer reads it"
    for reader in group.consumers:
        if reader.node in readout:
            return f"the read-out {reader.node.path} reads it"
    owners: dict[int, str] = {}
    for node in (*group.producers, *(reader.node for reader in group.consumers)):
        weight = node.module._parameters.get("weight") if node.module is not None else None
        owner = owners.setdefault(id(weight), node.path)
        if weight is not None and owner != node.path:
            return f"{owner} and {node.path} share a weight"
    unnamed = next((value for value, _ in group.parameters if not value.name), None)
    if unnamed is not None:
        users = ", ".join(dict.fromkeys(str(user) for user in unnamed.users))
        return f"it meets a constant of {list(unnamed.shape)} that is no parameter or buffer, in {users}"
    return ""


def _by_path(group: Group) -> ChannelGroup:
    def paths(nodes: Sequence[Node]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node.path for node in nodes))

    return ChannelGroup(
        group.size,
        paths(group.producers),
        paths(group.norms),
        paths(group.neurons),
        tuple(dict.fromkeys((reader.node.path, reader.block) for reader in group.consumers)),
        paths(group.shortcuts),
        paths(group.depthwise),
        tuple(dict.fromkeys((value.name, axis) for value, axis in group.parameters)),
    )
