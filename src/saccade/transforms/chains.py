"""Which norm follows which layer directly, found from the graph."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from saccade.graph import trace
from saccade.layers import norm_of, weighted


@dataclass(frozen=True)
class Chain:
    """Paths of a layer with weights, the norm that takes its output as it is, and the neuron that takes the norm's (None:
    another).
    """

    layer: str
    norm: str
    neuron: str | None = None


@dataclass(frozen=True)
class Chains:
    """folds: what can be folded; left: norms that cannot, and why."""

    folds: tuple[Chain, ...]
    left: dict[str, str]


def norm_chains(model: nn.Module, x: Tensor) -> Chains:
    graph = trace(model, x)
    folds, left = [], {}
    for path, module in model.named_modules():
        if norm_of(module) is None:
            continue
        calls = graph.calls(path)
        if not calls:
            left[path] = "not reached by the sample"
            continue
        source = graph.source(calls[0].inputs[0])
        maker = source.value.producer
        if maker is None or maker.module is None or weighted(maker.module) is None or source.shared:
            left[path] = "its input is no convolution's output as it is"
        elif len(calls) > 1 or len(graph.calls(maker.path)) > 1:
            left[path] = "called more than once"
        else:
            try:
                norm_of(module).scale_and_offset()
            except ValueError as error:
                left[path] = str(error)
                continue
            readers = graph.follow(calls[0].output)
            neuron = readers[0][0].path if len(readers) == 1 and readers[0][0].op == "neuron" else None
            folds.append(Chain(maker.path, path, neuron))
    return Chains(tuple(folds), left)
