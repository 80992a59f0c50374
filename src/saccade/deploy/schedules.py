"""Four ways through a memory-free program, equal spike for spike. Each takes the first spikes and gives all, by neuron path.

They are written to be read and compared, not to be fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from saccade.deploy.chain import Chain, IntegerLayer

Token = tuple[int, int]  # (layer, step); layer 0 is the arrival of the input
ORDERS = ("steps", "layers")


def run_parallel(program: Chain, spikes: Tensor) -> dict[str, Tensor]:
    """All steps of a layer at once, as in training: one product with the weights, one over time. Spikes ``[T, N, ...]``."""
    program.check(spikes)
    by_path = {program.first_path: spikes}
    for layer in program.layers:
        spikes = by_path[layer.path] = layer.run(spikes)
    return by_path


def run_layer_serial(program: Chain, spikes: Tensor) -> dict[str, Tensor]:
    """A layer to its end before the next: an output's history lives in a register while its T bits are made, then is gone.

    Nothing but spike bits passes from step to step or from layer to layer.
    """
    program.check(spikes)
    found = {program.first_path: spikes}
    for layer in program.layers:
        fired: list[Tensor] = []
        window: list[Tensor] = []  # of a sliding mixing; a leak over all steps needs but the last sum
        mixed: Tensor | None = None
        for t, x in enumerate(layer.pooled(spikes)):
            acc = layer.accumulate(x)
            if layer.order == program.T:
                scaled = acc << (layer.order - 1)
                mixed = scaled if mixed is None else (mixed >> 1) + scaled  # t shifts lose nothing: t < order
            else:
                window = [acc, *window[: layer.order - 1]]
                mixed = sum((a << (layer.order - 1 - j) for j, a in enumerate(window)), torch.zeros_like(acc))
            fired.append(layer.fire(t, mixed))
        spikes = found[layer.path] = torch.stack(fired)
    return found


def run_shift_register(program: Chain, spikes: Tensor) -> dict[str, Tensor]:
    """Step by step through all layers, with ``order`` bits of history for each input neuron and no potential.

    The register of an input, newest spike in the highest bit, read as a number, is its trace times ``2^(order-1)``; one
    product of the weights with the registers is therefore H.
    """
    program.check(spikes)
    registers = [torch.zeros(1, dtype=torch.int64) for _ in program.layers]
    found: dict[str, list[Tensor]] = {program.first_path: list(spikes)}
    for t, s in enumerate(spikes):
        for i, layer in enumerate(program.layers):
            registers[i] = (registers[i] >> 1) | (layer.pooled(s).long() << (layer.order - 1))
            s = layer.fire(t, layer.accumulate(registers[i]))
            found.setdefault(layer.path, []).append(s)
    return {name: torch.stack(steps) for name, steps in found.items()}


def events_of(spikes: Tensor) -> Tensor:
    """The spikes ``[T, N, ...]`` as events, int64 ``[E, 2 + dims]``: step, sample, and where."""
    return spikes.nonzero()


def run_async(
    program: Chain,
    events: Tensor,
    samples: int,
    order: str | torch.Generator | Sequence[Token] = "steps",
) -> dict[str, Tensor]:
    """Event by event: a token (layer, step) fires when its inputs are complete, whatever else has or has not happened.

    events: int64 ``[E, 2 + dims]`` (step, sample, where), in any order. Layer 0 stands for the arrival of the input, layers
    1, 2, ... for ``program.layers``. Token (l, t) needs (l - 1, t') for the steps t' of its history and nothing of its own
    past, so even (l, 5) may come before (l, 4). order: "steps" (lowest delay), "layers", a generator (any possible token
    next, and the events within it shuffled), or the tokens themselves.

    Raises ValueError for events outside the input, twice the same, or an order that lacks a token or takes one too early.
    """
    shape = (program.T, samples, *program.layers[0].inputs)
    if events.dim() != 2 or events.shape[1] != len(shape) or events.is_floating_point():
        raise ValueError(f"events are whole numbers [E, {len(shape)}] (step, sample, where), got {list(events.shape)}")
    limits = torch.tensor(shape)
    if len(events) and (bool((events < 0).any()) or bool((events >= limits).any())):
        bad = events[((events < 0) | (events >= limits)).any(1)][0].tolist()
        raise ValueError(f"the event {bad} lies outside the input {list(shape)}")
    if len(events.unique(dim=0)) != len(events):
        raise ValueError("an event comes twice: a neuron fires once a step")
    found = [torch.zeros(shape, dtype=torch.uint8)]
    found += [torch.zeros(program.T, samples, *layer.outputs, dtype=torch.uint8) for layer in program.layers]
    sums = [torch.zeros(out.shape, dtype=torch.int64) for out in found[1:]]
    generator = order if isinstance(order, torch.Generator) else None
    done: set[Token] = set()
    waiting = [(layer, t) for layer in range(len(found)) for t in range(program.T)]
    plan = iter(order) if not isinstance(order, str | torch.Generator) else None
    if isinstance(order, str) and order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, a generator or the tokens, got {order!r}")

    def needs(token: Token) -> list[Token]:
        layer, t = token
        if layer == 0:
            return []
        return [(layer - 1, i) for i in range(max(0, t - program.layers[layer - 1].order + 1), t + 1)]

    while waiting:
        if plan is not None:
            token = next(plan, None)
            if token not in waiting:
                raise ValueError(
                    f"order: {'a token is missing' if token is None else f'{token} is unknown or comes twice'}"
                )
            early = [need for need in needs(token) if need not in done]
            if early:
                raise ValueError(f"order: {token} comes before {early[0]}, which it needs")
        else:
            ready = [token for token in waiting if done.issuperset(needs(token))]
            if generator is not None:
                token = ready[int(torch.randint(len(ready), (), generator=generator))]
            else:
                token = min(ready, key=lambda token: token if order == "layers" else token[::-1])
        waiting.remove(token)
        done.add(token)
        number, t = token
        if number == 0:
            arrived = events[events[:, 0] == t][:, 1:]
            found[0][t][tuple(arrived.unbind(1))] = 1
        else:
            found[number][t] = _fire(program.layers[number - 1], t, sums[number - 1])
            arrived = found[number][t].nonzero()
        if number < len(program.layers):
            _deliver(program.layers[number], arrived, found[number][t], sums[number][t], generator)
    names = [program.first_path, *(layer.path for layer in program.layers)]
    return dict(zip(names, found, strict=True))


def _fire(layer: IntegerLayer, t: int, sums: Tensor) -> Tensor:
    mixed = torch.zeros_like(sums[t])
    for j in range(min(layer.order, t + 1)):
        mixed += sums[t - j] << (layer.order - 1 - j)
    return layer.fire(t, mixed)


def _deliver(
    layer: IntegerLayer, events: Tensor, spikes: Tensor, sums: Tensor, generator: torch.Generator | None
) -> None:
    """Spikes of one step into a layer's sums. Pooled windows pass on their first spike alone, which is OR."""
    seen = layer.pooled(spikes)
    if layer.weight.dim() == 2:
        seen = seen.flatten(1)
    if seen.shape != spikes.shape:
        events = seen.nonzero()
    if generator is not None:
        events = events[torch.randperm(len(events), generator=generator)]
    layer.add_events(sums, events)
