"""From a trained memory-free network to integers, read off its graph."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from saccade.deploy.operations import Convolution, MatrixProduct, Operation, Pool, rule_for
from saccade.deploy.program import ALWAYS, NEVER, IntegerLayer, Program
from saccade.graph import Graph, Node, trace
from saccade.graph.graph import NEURON, keeps_values
from saccade.layers import Norm, Weighted
from saccade.layers.attention import Attention
from saccade.neurons import Integer, Mixing

MOST_STEPS = 32


def lower(model: nn.Module, x: Tensor) -> Program:
    """Lower a trained chain of (convolution or linear layer, batch norm, memory-free neurons) to integers.

    ``x`` is a sample input, ``[N, C, H, W]`` or ``[T, N, C, H, W]``; it tells the order of the layers and their sizes. The
    layers between the first neurons and the read-out need quantized weights (``QuantizeConfig``) and mixing by powers of two:
    "leak_mixing" with lambda = 1/2, or "sliding_mixing" with its first taps, both with ``learn=False`` in training. Max pooling
    becomes an OR. The first layer sees pixels and the read-out gives logits: both stay in float64. The integers reproduce the
    spikes of the model in float64; what is left is rounding within 1e-15 of a threshold.

    Raises ValueError naming the layer that stands in the way and what to do about it. The model is left as it is.
    """
    if model.training:
        raise ValueError(
            "a network is lowered as it runs: call model.eval() first (batch statistics cannot be lowered)"
        )
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            raise ValueError(
                f"{path} ({module.config.kind()}) multiplies spikes by spikes, and a program has layers with weights alone, "
                "one after another: attentions cannot be lowered"
            )
    own = copy.deepcopy(model).double().eval()
    steps = getattr(type(own), "gives_steps", False)
    graph = trace(
        own, x.double(), sequence=x.dim() == 5, call=(lambda m, given: m(given, steps=True)) if steps else None
    )
    nodes = _chain(graph)
    places = [i for i, node in enumerate(nodes) if node.op == NEURON]
    for i in places:
        _memory_free(nodes[i])
    if len(places) < 2:
        raise ValueError(f"{type(model).__name__} has {len(places)} layers of neurons in a chain; lowering needs two")
    first, T = nodes[places[0]], nodes[places[0]].output.shape[0]
    if T > MOST_STEPS:
        raise ValueError(f"the input has {T} steps; integers of 64 bits hold the history of {MOST_STEPS}")
    return Program(
        T=T,
        front=_operations(nodes[: places[0] + 1]),
        first_path=first.path,
        still=not first.inputs[0].timed,
        layers=tuple(_layer(nodes[a + 1 : b + 1], nodes[a], T) for a, b in pairwise(places)),
        readout=_operations(nodes[places[-1] + 1 :]),
        last=getattr(model, "readout", "") == "last",
    )


def _chain(graph: Graph) -> list[Node]:
    """What happens between input and output, one after another. Raises ValueError where a node is fed by anything else."""
    nodes: list[Node] = []
    paths: set[str] = set()
    before = graph.inputs[0]
    for node in graph.nodes:
        live = [value for value in node.inputs if value.live]
        if not live or keeps_values(node):
            continue
        if len(live) > 1 or graph.source(live[0]).value is not graph.source(before).value:
            other = f"the output of {nodes[-1].path or nodes[-1].op}" if nodes else "the input of the model"
            raise ValueError(
                f"{node.path or node}: its input is not {other} as it is: only chains of layers can be lowered"
            )
        if node.module is not None and node.path in paths:
            raise ValueError(f"{node.path} is called more than once: only chains of layers can be lowered")
        paths.add(node.path if node.module is not None else "")
        nodes.append(node)
        before = node.output
    return nodes


def _memory_free(node: Node) -> None:
    if isinstance(node.module, Integer):
        raise ValueError(
            f"{node.path} has {node.module.config.D} levels, and a program has binary spikes: it cannot be lowered"
        )
    if not isinstance(node.module, Mixing):
        name = type(node.module).__name__
        raise ValueError(f"{node.path} is a {name}; apply(model, 'memory_free') makes it memory-free")


def _operations(nodes: Sequence[Node]) -> tuple[Operation, ...]:
    operations = []
    for node in nodes:
        rule = rule_for(node)
        if rule is None:
            what = type(node.module).__name__ if node.module is not None else node.op
            raise ValueError(
                f"{node.path or node}: a {what} cannot be lowered; a rule can be added (saccade.deploy.lowers)"
            )
        operation = rule(node)
        if operation is not None:
            operations.append(operation)
    return tuple(operations)


def _layer(nodes: Sequence[Node], before: Node, T: int) -> IntegerLayer:
    """[max pool] - convolution or linear - [norm] - neuron, after the spikes of ``before``."""
    *between, neuron = nodes
    mixing: Any = neuron.module
    order = _order(neuron, T)
    pool = 1
    weighted: Node | None = None
    norm: Node | None = None
    for node in between:
        if node.op.startswith("max_pool2d") and weighted is None and pool == 1:
            pool = _side(node)
        elif isinstance(node.module, Weighted) and weighted is None:
            weighted = node
        elif isinstance(node.module, Norm) and weighted is not None and norm is None:
            norm = node
        else:
            what = type(node.module).__name__ if node.module is not None else node.op
            raise ValueError(
                f"{node.path or node}: a {what} here cannot be lowered; between neurons there may be max pooling, one "
                "convolution or linear layer, and a batch norm"
            )
    if weighted is None:
        raise ValueError(f"{neuron.path}: no convolution or linear layer lies between it and the neurons before")
    product = _product(weighted)
    weight, scale = _integers(weighted, product.weight)
    bias = product.bias
    if norm is not None:
        module: Any = norm.module
        try:
            slope, offset = module.scale_and_offset()
        except ValueError as error:
            raise ValueError(
                f"{norm.path}: {error}; only a norm that is a scale and an offset can be lowered"
            ) from None
        scale, bias = scale * slope, offset + bias * slope
    if int(weight.flatten(1).abs().sum(1).max()) * 2**order >= 2**53:
        raise ValueError(
            f"{neuron.path}: a history of {order} steps of {weight[0].numel()} inputs needs more than 53 bits"
        )
    geometry: dict[str, Any] = {}
    if isinstance(product, Convolution):
        geometry = {key: getattr(product, key) for key in ("stride", "padding", "dilation", "groups")}
    return IntegerLayer(
        path=neuron.path,
        weight=weight,
        sign=torch.where(scale < 0, -1, 1),
        thresholds=_thresholds(scale, bias, mixing.theta.detach(), order, T),
        order=order,
        pool=pool,
        inputs=before.output.shape[2:],
        outputs=neuron.output.shape[2:],
        **geometry,
    )


def _order(node: Node, T: int) -> int:
    mixing: Any = node.module
    try:
        order: int = mixing.integer_order(T)
    except ValueError as error:
        raise ValueError(f"{node.path}: {error}") from None
    return order


def _product(node: Node) -> Convolution | MatrixProduct:
    """What a layer with weights computes."""
    rule = rule_for(node)
    product = None if rule is None else rule(node)
    if not isinstance(product, Convolution | MatrixProduct):
        what = type(node.module).__name__
        raise ValueError(
            f"{node.path}: a {what} cannot be lowered: no rule makes it a convolution or a matrix product; "
            "one can be added (saccade.deploy.lowers)"
        )
    return product


def _side(node: Node) -> int:
    rule = rule_for(node)
    assert rule is not None
    pool = rule(node)
    assert isinstance(pool, Pool)
    if pool.kernel[0] != pool.kernel[1] or pool.stride != pool.kernel or pool.padding != (0, 0):
        raise ValueError(f"{node}: only max pooling in whole square windows without overlap or padding can be lowered")
    return pool.kernel[0]


def _integers(node: Node, used: Tensor) -> tuple[Tensor, Tensor]:
    """Integers m and a scale for each output, of ``weight in use = scale * m``."""
    layer: Any = node.module
    try:
        whole, scale = layer.integers()
    except ValueError as error:
        raise ValueError(f"{node.path} has {error}") from None
    if not torch.allclose(whole * scale.view(-1, *[1] * (whole.dim() - 1)), used, rtol=1e-9, atol=0):
        raise ValueError(
            f"{node.path}: a {type(layer).__name__} computes with other weights than its integers say; it has to override both"
        )
    return whole, scale


def _thresholds(scale: Tensor, bias: Tensor, theta: Tensor, order: int, T: int) -> Tensor:
    """``ceil((theta - bias * rowsum_t) / |scale| * 2^(order-1))``, ``[T, O]``: without a reset, what a bias adds is known."""
    rows = torch.tensor([2 - 2.0 ** (1 - min(t + 1, order)) for t in range(T)], dtype=torch.float64)
    left = theta - bias * rows.unsqueeze(1)
    level = torch.ceil(left / scale.abs() * 2.0 ** (order - 1))
    constant = torch.where(left <= 0, -math.inf, math.inf)  # where the scale is 0
    level = torch.where(scale == 0, constant, level)
    return level.clamp(ALWAYS, NEVER).long()
