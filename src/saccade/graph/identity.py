"""Which value a tensor is at this moment of a run, however the tensor was come by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

from saccade.graph.alphabet import Alphabet
from saccade.graph.graph import HIDDEN, NEURON, WRITTEN, Node, Value


class Held(NamedTuple):
    """A value, and how many writes its memory had seen when it was made."""

    value: Value
    writes: int


class Write(NamedTuple):
    """A value that was written, and the elements of the storage that it may cover."""

    value: Value
    first: int
    last: int


@dataclass
class Memory:
    """A storage. The weak reference pins its address, so that no later one is mistaken for it.

    places: what lies where (offset, shape, strides, type). owner: the layer or neuron inside which it was allocated.
    """

    reference: StorageWeakRef
    places: dict[Any, Held] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    owner: Node | None = None


def names_of_constants(model: nn.Module) -> dict[Any, str]:
    """Parameters and buffers, by storage and place, with their names; the first where one has several."""
    names: dict[Any, str] = {}
    for name, x in (*model.named_parameters(), *model.named_buffers()):
        names.setdefault((x.untyped_storage()._cdata, *place(x)), name)
    return names


def place(x: Tensor) -> tuple[Any, ...]:
    return x.storage_offset(), tuple(x.shape), x.stride(), x.dtype


def extent(x: Tensor) -> tuple[int, int]:
    """The first and last element of the storage that a tensor may cover."""
    first = int(x.storage_offset())
    reach = sum(int((size - 1) * stride) for size, stride in zip(x.shape, x.stride(), strict=True))
    return first, first + reach if x.numel() else first - 1


class Identities:
    """Finds the value of a tensor: by the object; for another object (what C++ made of it), by its place in memory.

    nodes: receives a node where a tensor is read after its memory was written through another one. constants: names of
    parameters and buffers, by storage and place. alphabet: what a tensor can hold.
    """

    def __init__(
        self, nodes: list[Node], constants: Mapping[Any, str], alphabet: Callable[[Tensor], Alphabet | None]
    ) -> None:
        self._nodes, self._constants, self._alphabet = nodes, constants, alphabet
        self._objects = WeakTensorKeyDictionary()
        self._memories: dict[int, Memory] = {}

    def memory(self, x: Tensor) -> Memory:
        storage = x.untyped_storage()
        memory = self._memories.get(storage._cdata)
        if memory is None:
            if len(self._memories) >= 4096:  # a long run: let the addresses of dead storages go
                alive = {k: m for k, m in self._memories.items() if not m.reference.expired()}
                self._memories = alive
            memory = self._memories[storage._cdata] = Memory(StorageWeakRef(storage))
        return memory

    def assign(self, x: Tensor, value: Value) -> None:
        """From now on the tensor is this value."""
        memory = self.memory(x)
        held = Held(value, len(memory.writes))
        self._objects[x] = held
        memory.places[place(x)] = held

    def write(self, x: Tensor, value: Value) -> None:
        """The tensor was overwritten and is this value; what shares its memory has changed with it."""
        self.memory(x).writes.append(Write(value, *extent(x)))
        self.assign(x, value)

    def known(self, x: Tensor) -> bool:
        """Whether this very tensor has been given a value."""
        return x in self._objects

    def value(self, x: Tensor) -> Value:
        """The value of a tensor at this moment; a constant if nothing is known of its memory."""
        held: Held | None = self._objects.get(x)
        memory = self.memory(x)
        if held is None or held.writes < len(memory.writes):
            here = memory.places.get(place(x))
            if here is not None and (held is None or here.writes > held.writes):
                held = here
        if held is None:
            held = self._found(x, memory)
        later = memory.writes[held.writes :]
        value = held.value
        if later:
            first, last = extent(x)
            over = [write.value for write in later if write.first <= last and first <= write.last]
            over = [other for other in dict.fromkeys(over) if other is not value]
            if over:
                value = self._follow(x, WRITTEN, (value, *over))
            self.assign(x, value)
        return value

    def _found(self, x: Tensor, memory: Memory) -> Held:
        """A tensor that no operation outside the layers has made."""
        name = self._constants.get((x.untyped_storage()._cdata, *place(x)), "")
        if memory.owner is not None:
            value = self.made(x, memory.owner)
            memory.owner.side_outputs.append(value)
        elif memory.places and not name:  # a view that was made where nobody looks
            whole = next(reversed(memory.places.values())).value
            value = self._follow(x, HIDDEN, (whole,))
        else:
            value = Value(tuple(x.shape), x.dtype, name=name, tensor=x)
        self.assign(x, value)
        return Held(value, len(memory.writes))

    def made(self, x: Tensor, node: Node) -> Value:
        """A new value, made by a node from its inputs."""
        mixes = node.op == NEURON
        return Value(
            tuple(x.shape),
            x.dtype,
            node,
            live=any(value.live for value in node.inputs),
            timed=mixes or any(value.timed for value in node.inputs),
            alphabet=self._alphabet(x),
        )

    def _follow(self, x: Tensor, op: str, inputs: tuple[Value, ...]) -> Value:
        node = Node(op, inputs[-1].path, inputs=inputs, args=inputs)
        node.outputs = (self.made(x, node),)
        for value in inputs:
            value.users.append(node)
        self._nodes.append(node)
        return node.output
