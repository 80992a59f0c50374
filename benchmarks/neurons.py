"""A layer of LIF neurons over a sequence, in Saccade and in its peers: time, the cost of a call, memory.

    python benchmarks/neurons.py --allocator default
    python benchmarks/neurons.py --allocator keep

The same dynamics for all, as far as a library has them: u = v/2 + x, a spike where u >= 1, then v = 0; ATan(2) surrogate,
no gradient through the reset. Where they differ, the row's note says so, and each row has the share of spikes that differ
from those of the plain loop. Resetting a library's state is part of its call.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from side_by_side import Case, Contender, run
from torch import Tensor

from saccade import kernels
from saccade.neurons import LIF

SHAPES = {"A": (32, 128, 16, 16), "B": (256, 1024)}
STEPS = (4, 16, 64)
SMALL = (4, 2, 16)
Layer = Callable[[Tensor], Tensor]  # currents to spikes, from rest


class Peer(NamedTuple):
    """``build`` imports the library and makes its layer. Currents are given times ``scale``, ``[N, T, ...]`` if asked."""

    build: Callable[[], Layer]
    note: str = ""
    scale: float = 1.0
    batch_first: bool = False
    compiled: bool = False


# The contenders


class Fire(torch.autograd.Function):
    """A step whose derivative is that of ATan(2): 1 / (1 + (pi d)^2)."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (distance,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * distance).square())


def plain_steps(x: Tensor) -> list[Tensor]:
    """The plain loop. ``unbind``, as indexing ``x[t]`` would make the backward quadratic in T."""
    v = torch.zeros_like(x[0])
    spikes = []
    for current in x.unbind(0):
        u = v / 2 + current
        s = Fire.apply(u - 1)
        v = u * (1 - s.detach())
        spikes.append(s)
    return spikes


def plain_loop(x: Tensor) -> Tensor:
    return torch.stack(plain_steps(x))


def saccade() -> Layer:
    return LIF(tau=2.0, decay_input=False)


def saccade_reference() -> Layer:
    layer = LIF(tau=2.0, decay_input=False)

    def call(x: Tensor) -> Tensor:
        with kernels.use("reference"):
            return layer(x)

    return call


def spikingjelly(kind: str) -> Layer:
    from spikingjelly.activation_based import functional, neuron, surrogate

    settings: dict[str, Any] = {"tau": 2.0, "decay_input": False, "detach_reset": True, "step_mode": "m"}
    layer = getattr(neuron, kind)(surrogate_function=surrogate.ATan(2.0), **settings)

    def call(x: Tensor) -> Tensor:
        y = layer(x)
        functional.reset_net(layer)
        return y

    return call


def snntorch(**settings: Any) -> Layer:
    import snntorch
    from snntorch import surrogate

    layer = snntorch.Leaky(beta=0.5, spike_grad=surrogate.atan(2.0), **settings)

    def call(x: Tensor) -> Tensor:
        mem, spikes = layer.reset_mem(), []
        for current in x.unbind(0):
            s, mem = layer(current, mem)
            spikes.append(s)
        return torch.stack(spikes)

    return call


def norse_box() -> Layer:
    from norse.torch import LIFBoxCell, LIFBoxParameters

    cell = LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.tensor(500.0)))  # dt * tau_mem_inv = 1/2

    def call(x: Tensor) -> Tensor:
        state, spikes = None, []
        for current in x.unbind(0):
            s, state = cell(current, state)
            spikes.append(s)
        return torch.stack(spikes)

    return call


def norse_lif() -> Layer:
    from norse.torch import LIF as NorseLIF

    layer = NorseLIF()
    return lambda x: layer(x)[0]


def sinabs_settings() -> dict[str, Any]:
    """tau such that the decay is 1/2, one spike a step, hard reset; the surrogate is the library's own."""
    from sinabs import activation

    tau = 1 / torch.log(torch.tensor(2.0))
    fire: dict[str, Any] = {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneReset()}
    return {"tau_mem": tau, "norm_input": False, **fire}


def sinabs() -> Layer:
    from sinabs import layers

    layer = layers.LIF(**sinabs_settings()).requires_grad_(False)

    def call(x: Tensor) -> Tensor:
        layer.reset_states()
        return layer(x)

    return call


PEERS = {
    "saccade": Peer(saccade),
    "saccade reference": Peer(saccade_reference),
    "SpikingJelly LIFNode": Peer(lambda: spikingjelly("LIFNode")),
    "SpikingJelly SimpleLIFNode": Peer(lambda: spikingjelly("SimpleLIFNode")),
    "snnTorch Leaky, matched": Peer(
        lambda: snntorch(reset_mechanism="zero", reset_delay=False), "gradient through the reset"
    ),
    "snnTorch Leaky, default": Peer(snntorch, "other dynamics: threshold subtracted, one step later"),
    "Norse LIFBoxCell": Peer(norse_box, "input times 2; SuperSpike surrogate, gradient through the reset", scale=2.0),
    "Norse LIF": Peer(norse_lif, "other dynamics: synaptic current, its default time constants and surrogate"),
    "sinabs LIF": Peer(sinabs, "[N, T, ...]; exponential surrogate, gradient through the reset", batch_first=True),
    "plain loop": Peer(lambda: plain_loop),
    "torch.compile": Peer(lambda: torch.compile(plain_loop, dynamic=False), compiled=True),
}


# Speed and memory


def swapped(x: Tensor, peer: Peer) -> Tensor:
    return x.transpose(0, 1).contiguous() if peer.batch_first else x


def layer_contender(name: str, x: Tensor, g: Tensor | None, expected: Tensor) -> Contender:
    """Forward, or with ``g`` forward and backward."""
    peer = PEERS[name]

    def make() -> Callable[[], Tensor]:
        layer = peer.build()
        mine = swapped(x if peer.scale == 1 else x * peer.scale, peer)
        if g is None:

            def forward() -> Tensor:
                with torch.no_grad():
                    return layer(mine)

            return forward
        mine, grad = mine.detach().requires_grad_(), swapped(g, peer)

        def both() -> Tensor:
            y = layer(mine)
            y.backward(grad)
            mine.grad = None
            return y

        return both

    def facts(y: Tensor) -> dict[str, Any]:
        spikes = y.transpose(0, 1) if peer.batch_first else y
        return {"mismatch": ((spikes > 0.5) != expected).sum().item() / expected.numel()}

    fields: dict[str, Any] = {"note": peer.note} if peer.note else {}
    return Contender(name, make, facts, fields | ({"compiled": True} if peer.compiled else {}))


def limits(x: Tensor, g: Tensor | None) -> Contender:
    """What moving the bytes costs alone: read x, write spikes; again, then read x and g, write the gradient."""
    if g is None:
        return Contender("limit: x.clone()", lambda: x.clone)
    y = torch.empty_like(x)

    def five() -> None:
        x.clone()
        torch.add(x, g, out=y)

    return Contender("limit: five streams", lambda: five)


def contenders(shape: tuple[int, ...], backward: bool, limit: bool = True) -> list[Contender]:
    torch.manual_seed(0)
    x = torch.randn(shape)
    g = torch.randn(shape) if backward else None
    with torch.no_grad():
        expected = plain_loop(x) > 0.5
    return [layer_contender(name, x, g, expected) for name in PEERS] + ([limits(x, g)] if limit else [])


# The cost of a call: a tensor so small that only the way to the kernel counts


@torch.library.custom_op("saccade_benchmark::empty", mutates_args=())
def custom_empty(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("saccade_benchmark::empty_backward", mutates_args=())
def custom_empty_backward(g: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(x)


custom_empty.register_autograd(
    lambda ctx, g: custom_empty_backward(g, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)

LIBRARY = torch.library.Library("saccade_benchmark", "FRAGMENT")
LIBRARY.define("keyed(Tensor x) -> Tensor")
LIBRARY.define("keyed_backward(Tensor g, Tensor x) -> Tensor")
LIBRARY.impl("keyed", lambda x: torch.empty_like(x), "CPU")
LIBRARY.impl("keyed_backward", lambda g, x: torch.empty_like(x), "CPU")
keyed, keyed_backward = (getattr(torch.ops.saccade_benchmark, name).default for name in ("keyed", "keyed_backward"))


class KeyedEmpty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        with torch._C._AutoDispatchBelowAutograd():
            return keyed(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return keyed_backward(g, *ctx.saved_tensors)


LIBRARY.impl("keyed", KeyedEmpty.apply, "Autograd")


class PlainEmpty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.empty_like(ctx.saved_tensors[0])


EMPTY = {
    "empty custom_op": custom_empty,
    "empty Library op": keyed,
    "empty autograd.Function": PlainEmpty.apply,
}


def small_contenders() -> list[Contender]:
    found = {c.name: c for c in contenders(SMALL, True, limit=False)}
    x, g = torch.randn(SMALL, requires_grad=True), torch.randn(SMALL)

    def empty(operator: Layer) -> Callable[[], None]:
        def both() -> None:
            operator(x).backward(g)
            x.grad = None

        return both

    kept = [found[name] for name in ("saccade", "SpikingJelly LIFNode", "torch.compile", "plain loop")]
    return kept + [Contender(name, lambda f=f: empty(f)) for name, f in EMPTY.items()]


def cases(options: argparse.Namespace) -> list[Case]:
    def timed(shape: str, T: int, backward: bool) -> Case:
        fields = {"table": "backward" if backward else "forward", "shape": shape, "T": T}
        return Case(fields, lambda small: contenders((T, *SHAPES[shape]), backward), rounds=5 if T == 64 else 7)

    def memory(small: bool) -> list[Contender]:
        return contenders((2, 2, 4, 4, 4) if small else (T, *SHAPES["A"]), True, limit=False)

    steps = STEPS[:1] if options.quick else STEPS
    T = 4 if options.quick else 16
    input_mb = T * 32 * 128 * 16 * 16 * 4 / 2**20
    found = [timed(shape, T, backward) for backward in (False, True) for shape in SHAPES for T in steps]
    found.append(Case({"table": "small", "shape": str(list(SMALL))}, lambda small: small_contenders()))
    return [*found, Case({"table": "memory", "shape": "A", "T": T, "input_mb": input_mb}, memory, memory=True)]


if __name__ == "__main__":
    run("neurons", __doc__ or "", cases)
