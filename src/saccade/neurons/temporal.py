"""Modules that mix time: they start from rest, and hand their state on only where somebody keeps it (see ``Stream``)."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from saccade.neurons.stream import Stream

State = Tensor | dict[str, Tensor] | None
StateSpec = dict[str, tuple[tuple[int, ...], int]]

current_stream: contextvars.ContextVar[Stream | None] = contextvars.ContextVar("saccade_stream", default=None)


class Temporal(nn.Module):
    """Base of every module that mixes time.

    A subclass implements ``step(x, state) -> (y, state)`` on ``[t, N, ...]``, where ``state=None`` means rest and a state is a
    tensor ``[N, ...]`` or a dict of such, and says by ``state_spec`` what it holds. ``forward(x)`` starts from rest and keeps
    nothing, except inside a ``Stream``, which holds the states itself.
    ``causal``: an output step depends on no later input step. ``fixed_T``: the only T the module works for, or None.
    """

    causal: bool = True
    fixed_T: int | None = None

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        raise NotImplementedError

    def state_spec(self, shape: tuple[int, ...]) -> StateSpec:
        """What is kept between steps of one sample, by name: its shape and the bits of a number of it.

        shape: of one step of the input of one sample, ``x.shape[2:]``. Empty where nothing is kept.
        """
        raise NotImplementedError

    def whole(self, x: Tensor) -> Tensor:
        """The output for a whole sequence, from rest; overridden where not having to return the state saves something."""
        return self.step(x, None)[0]

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # streams run eagerly, and the context variable would break the graph
            return self.whole(x)
        stream = current_stream.get()
        return self.whole(x) if stream is None else stream.advance(self, x)


def state_bits(module: Temporal, shape: tuple[int, ...]) -> int:
    """Bits that a module keeps of one sample between steps whose input has the shape ``shape``."""
    return sum(torch.Size(kept).numel() * bits for kept, bits in module.state_spec(shape).values())
