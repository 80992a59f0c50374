"""Which norms follow which layers, so that one can be folded into the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from saccade.graph import Graph, Node, Ties, layer_axes, ties, trace
from saccade.graph.graph import LAYER, NEURON
from saccade.layers import Norm, norm_of
from saccade.transforms.layer_rules import our_axes

NORMS = (Norm, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class NormChain:
    """Paths of a layer with weights and of the norm that takes its output as it is.

    neuron: the path of the neuron that takes the norm's output as it is, and nothing else does; "" where there is none, and
    then ``between`` says what there is instead.
    """

    layer: str
    norm: str
    neuron: str = ""
    between: str = ""


@dataclass(frozen=True)
class NormChains:
    """chains: norms that can be folded into the layer before them, in order of the run. left: those that cannot, and why."""

    chains: tuple[NormChain, ...]
    left: dict[str, str]


def norm_chains(model: nn.Module, x: Tensor, *, spiking: Mapping[str, Sequence[float]] | None = None) -> NormChains:
    """Find every norm of a model (of ours or of anybody) on a sample, and the layer whose output it takes as it is.

    Views, copies and showing a picture for several steps may lie between. spiking: levels of neurons that declare none.
    A norm is left where its layer's output is used elsewhere too, either is called more than once or shares its weight, it
    normalises another axis than the layer makes, or it has no running statistics.
    """
    graph = trace(model, x, spiking=spiking)
    tied = ties(graph, our_axes)
    weights = _weight_users(model)
    chains: list[NormChain] = []
    left: dict[str, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, NORMS):
            found = _chain(graph, tied, weights, path, module)
            if isinstance(found, str):
                left[path] = found
            else:
                chains.append(found)
    order = {node.path: i for i, node in enumerate(graph.nodes) if node.op == LAYER}
    return NormChains(tuple(sorted(chains, key=lambda chain: order[chain.norm])), left)


def _chain(graph: Graph, tied: Ties, weights: Mapping[int, list[str]], path: str, norm: nn.Module) -> NormChain | str:
    """The chain of a norm, or why there is none."""
    asked = norm_of(norm)
    if asked is None:
        return f"a {type(norm).__name__} takes its statistics from each input"
    try:
        asked.scale_and_offset()
    except ValueError as error:
        return str(error)
    calls = graph.calls(path)
    if not calls:
        return "not reached by the sample"
    if len(calls) > 1:
        return "called more than once"
    call = calls[0]
    value, shared = graph.source(call.inputs[0])
    layer = value.producer
    if layer is None or not _weighted(layer):
        what = "an input" if layer is None else f"the output of {layer}"
        return f"its input is {what}, no layer's output as it is"
    if len(graph.calls(layer.path)) > 1:
        return f"its layer {layer.path} is called more than once"
    if shared or len(value.users) > 1 or any(value is output for output in graph.outputs):
        return f"the output of {layer.path} is used elsewhere too"
    for user in (layer, call):
        others = [other for other in weights.get(_weight(user), []) if other != user.path]
        if others:
            return f"{user.path} shares its weight with {others[0]}"
    if not _same_channels(tied, layer, call):
        return f"it normalises another axis than the one that {layer.path} makes"
    neuron, between = _after(graph, call)
    return NormChain(layer.path, path, neuron, between)


def _weighted(node: Node) -> bool:
    how = our_axes(node) or layer_axes(node) if node.op == LAYER else None
    return how is not None and how.role in ("weighted", "depthwise")


def _weight(node: Node) -> int:
    assert node.module is not None
    weight = node.module._parameters.get("weight")
    return 0 if weight is None else id(weight)


def _weight_users(model: nn.Module) -> dict[int, list[str]]:
    """The modules that each parameter belongs to, by path."""
    users: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                users.setdefault(id(parameter), []).append(path)
    return users


def _same_channels(tied: Ties, layer: Node, norm: Node) -> bool:
    made, read = (our_axes(node) or layer_axes(node) for node in (layer, norm))
    if made is None or read is None:
        return False
    axes, slots = tied.axes, tied.axes.slots
    one, other = axes[layer.output][made.output], axes[norm.inputs[0]][read.input]
    return [slots.root(factor) for factor in one] == [slots.root(factor) for factor in other]


def _after(graph: Graph, norm: Node) -> tuple[str, str]:
    """The neuron that follows a norm directly, or what does instead."""
    readers = graph.follow(norm.output)
    if any(norm.output is graph.source(output).value for output in graph.outputs):
        return "", "the model's output"
    if len(readers) != 1:
        return "", f"{len(readers)} readers: {', '.join(str(node) for node, _ in readers)}" if readers else "nothing"
    node = readers[0][0]
    if node.op != NEURON:
        return "", str(node)
    if len(graph.calls(node.path)) > 1:
        return "", f"{node.path}, which is called more than once"
    return node.path, ""
