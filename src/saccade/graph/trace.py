"""``trace(model, x)``: one run of a model as a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph.alphabet import Alphabet
from saccade.graph.call import BINARY
from saccade.graph.graph import LAYER, NEURON, Graph, Node, Value
from saccade.graph.identity import Identities, names_of_constants
from saccade.graph.watch import ROOT, Operation, Watcher, declared_levels, eager, operation, outside_levels, tensors_in

LAYER_TYPES = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.LayerNorm)


def is_layer(module: nn.Module) -> bool:
    """Torch's convolutions, linear layers, batch and layer norms, their subclasses, and classes with ``graph_layer = True``."""
    return isinstance(module, LAYER_TYPES) or bool(getattr(type(module), "graph_layer", False))


def trace(
    model: nn.Module,
    x: Tensor | tuple[Tensor, ...],
    *,
    spiking: Mapping[str, Sequence[float]] | None = None,
    layers: Callable[[nn.Module], bool] = is_layer,
    call: Callable[[nn.Module, Any], Any] | None = None,
    sequence: bool = False,
) -> Graph:
    """Run ``model`` once, in its present mode and without gradients, and record what follows what.

    x: a tensor, or a tuple of them for a model that takes several; with ``call``, which runs ``call(model, x)`` instead, any
    nested lists, tuples and mappings of tensors. spiking: by path, the levels of neurons that do not declare any. layers: which
    modules become one node; those that declare ``levels`` do by themselves. sequence: the input changes over time, so that all
    that depends on it is ``timed``; otherwise time begins at the first module that mixes it (a neuron, a ``step`` method, a
    ``fixed_T``). In training mode running statistics move, as in any call.

    Raises ValueError for input without a tensor, an unknown path or levels on no grid in ``spiking``, or a neuron that gives
    other values than its levels.

    >>> graph = trace(model, x)
    >>> [(node.op, node.path) for node in graph.layer_nodes()]
    """
    inputs = tensors_in(x)
    if not inputs:
        raise ValueError(f"a trace needs a tensor to run {type(model).__name__} on, got {type(x).__name__}")
    inference = any(tensor.is_inference() for tensor in inputs)
    if inference and call is None:
        x = tuple(tensor.clone() for tensor in inputs)
        inputs = list(x)
    elif inference:
        raise ValueError("tensors made in inference mode cannot be watched; clone them outside of it")
    builder = _Builder(model, declared_levels(model, spiking), layers)
    values = builder.begin(inputs, sequence)
    with torch.inference_mode(False), torch.no_grad(), builder.watching(model), eager(), builder:
        result = (call or _call)(model, x)
    return builder.graph(values, tensors_in(result))


def _call(model: nn.Module, x: Any) -> Any:
    return model(*x) if isinstance(x, tuple | list) else model(x)


class _Builder(Watcher):
    def __init__(
        self, model: nn.Module, levels: Mapping[nn.Module, Sequence[float]], layers: Callable[[nn.Module], bool]
    ) -> None:
        super().__init__(levels, narrow=False)
        self._model, self._layers = model, layers
        self._nodes: list[Node] = []
        self._identities = Identities(self._nodes, names_of_constants(model), self._alphabet)
        self._inside: Node | None = None  # the layer or neuron that runs

    def begin(self, inputs: list[Tensor], sequence: bool) -> tuple[Value, ...]:
        self.start(*inputs)
        for i, x in enumerate(inputs):
            alphabet = BINARY if x.dtype == torch.bool else None
            value = Value(tuple(x.shape), x.dtype, live=True, timed=sequence, alphabet=alphabet, name=f"input {i}")
            self._identities.assign(x, value)
        return tuple(self._identities.value(x) for x in inputs)

    def graph(self, inputs: tuple[Value, ...], results: list[Tensor]) -> Graph:
        outputs = tuple(self._identities.value(x) for x in results)
        first = {module: path for path, module in self._model.named_modules()}
        every = dict(self._model.named_modules(remove_duplicate=False))
        aliases = {path: first[module] for path, module in every.items() if first[module] != path}
        return Graph(self._nodes, inputs, outputs, frozenset(first.values()), aliases)

    def _alphabet(self, x: Tensor) -> Alphabet | None:
        return BINARY if x.dtype == torch.bool else self.tape[x].alphabet

    def entered(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        neuron = bool(self.levels(module))
        if self._inside is not None or not (neuron or self._layers(module)):
            return False
        self._inside = self._node(NEURON if neuron else LAYER, path, module, args, kwargs)
        return True

    def left(self, noted: bool, path: str, module: nn.Module, result: Any) -> None:
        mixes = hasattr(module, "step") or getattr(module, "fixed_T", None) is not None
        if noted:
            assert self._inside is not None
            node, self._inside = self._inside, None
            node.outputs = tuple(self._result(node, x) for x in tensors_in(result))
        if mixes and self._inside is None:
            for x in tensors_in(result):
                value = self._identities.value(x)
                value.timed |= value.producer is not None

    def _result(self, node: Node, x: Tensor) -> Value:
        if self._identities.known(x):  # given back as it came, or written in place
            value = self._identities.value(x)
            if value in node.side_outputs:
                node.side_outputs.remove(value)
            return value
        value = self._identities.made(x, node)
        self._identities.assign(x, value)
        return value

    def fired(
        self, path: str, module: nn.Module, levels: tuple[float, ...], arguments: list[Tensor], spikes: Tensor
    ) -> None:
        if not torch.isin(spikes, torch.tensor(levels, dtype=spikes.dtype, device=spikes.device)).all():
            raise ValueError(outside_levels(path or ROOT, spikes, levels))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = operation(func)
        written = op.written(args, kwargs)
        if self._inside is not None:
            out = super().__torch_dispatch__(func, types, args, kwargs)
            self._hide(self._inside, op, written, out)
            return out
        node = self._node(op.name, self.stack[-1][0] if self.stack else "", None, args, kwargs)
        out = super().__torch_dispatch__(func, types, args, kwargs)
        results = tensors_in(out)
        node.outputs = tuple(self._output(node, x, written) for x in results)
        for x in written:
            if not any(x is other for other in results):
                node.side_outputs.append(self._output(node, x, written))
        return out

    def _output(self, node: Node, x: Tensor, written: list[Tensor]) -> Value:
        value = self._identities.made(x, node)
        if any(x is other for other in written):
            self._identities.write(x, value)
        else:
            self._identities.assign(x, value)
        return value

    def _hide(self, node: Node, op: Operation, written: list[Tensor], out: Any) -> None:
        """Inside a layer: what it allocates is its own; what it writes that came from outside is a result too."""
        for x in written:
            if self._identities.memory(x).owner is not node:
                node.side_outputs.append(self._output(node, x, [x]))
        if not op.aliases and not written:
            for x in tensors_in(out):
                memory = self._identities.memory(x)
                if not memory.places and memory.owner is None:
                    memory.owner = node

    def _node(self, op: str, path: str, module: nn.Module | None, args: Any, kwargs: dict[str, Any]) -> Node:
        inputs: list[Value] = []
        node = Node(op, path, module, self._replaced(args, inputs), self._replaced(kwargs, inputs), tuple(inputs))
        node.inputs = tuple(inputs)
        for value in inputs:
            value.users.append(node)
        self._nodes.append(node)
        return node

    def _replaced(self, argument: Any, inputs: list[Value]) -> Any:
        """The argument with values in the place of tensors, which ``inputs`` receives."""
        if isinstance(argument, Tensor):
            value = self._identities.value(argument)
            inputs.append(value)
            return value
        if isinstance(argument, tuple | list):
            items = [self._replaced(item, inputs) for item in argument]
            return items if isinstance(argument, list) else tuple(items)
        if isinstance(argument, dict):
            return {key: self._replaced(item, inputs) for key, item in argument.items()}
        return argument
