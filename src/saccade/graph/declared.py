"""What is said of a model that nobody here wrote: which modules are neurons, how it is reset, where its inputs keep time.

``verify``, ``wake`` and ``profile`` take the same words: ``spiking=``, ``reset=``, ``time_axis=``, ``input_levels=``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

BINARY = (0.0, 1.0)
MANY = tuple(float(k) for k in range(256))  # what a neuron that may fire several times a step is taken to emit
TIME_AXES = ("first", "second", "none")

Spiking = Sequence[str] | Mapping[str, Sequence[float]]
Reset = Callable[[nn.Module], object]
Inputs = Tensor | Sequence[Tensor]


def spiking_levels(model: nn.Module, spiking: Spiking) -> dict[str, tuple[float, ...]]:
    """The modules that ``spiking`` names, by path, with the values that each may emit ({0, 1} where it does not say).

    spiking: classes (or base classes) by name, or module paths; a mapping gives their values.
    Raises ValueError for a name that fits no module.
    """
    levels: dict[str, tuple[float, ...]] = {}
    for name in (spiking,) if isinstance(spiking, str) else spiking:
        values = tuple(float(value) for value in spiking[name]) if isinstance(spiking, Mapping) else BINARY
        fits = [
            path
            for path, module in model.named_modules()
            if path == name or name in (base.__name__ for base in type(module).__mro__)
        ]
        if not fits:
            raise ValueError(f"no module of the model is called or has the class {name!r}")
        levels.update(dict.fromkeys(fits, values))
    return levels


def peer_levels(model: nn.Module) -> dict[str, tuple[float, ...]]:
    """Neurons of SpikingJelly, snnTorch, Norse and sinabs (and classes made from them) by path, with the values they emit."""
    found = {path: _peer_values(module) for path, module in model.named_modules()}
    return {path: values for path, values in found.items() if values}


_JELLY_REAL = ("NonSpiking", "LIAF", "FewSpike", "OutlierAware", "HGNode")  # of SpikingJelly, what gives real numbers


def _peer_values(module: nn.Module) -> tuple[float, ...]:
    for base in type(module).__mro__:
        package, _, where = base.__module__.partition(".")
        name = base.__name__
        if package == "spikingjelly" and "neuron" in where.split(
            "."
        ):  # a module in earlier versions, a package since 2.0
            if any(word in name for word in _JELLY_REAL):
                return ()
            if name.startswith(("Ternary", "STBIF")):
                return (-1.0, 0.0, 1.0)
            if name.endswith(("Node", "PSN", "FlexSN")):
                return MANY if name == "ILIFNode" else BINARY
        if package == "snntorch" and name == "SpikingNeuron":
            return BINARY
        if package == "norse" and where.startswith("torch.module"):
            integrator = name.startswith("LI") and not name.startswith("LIF")
            if not integrator and name.startswith(("LIF", "LSNN", "IAF", "Izhikevich", "CoBaLIF")):
                return BINARY
        if package == "sinabs" and where.startswith("layers") and name.startswith(("LIF", "ALIF", "IAF")):
            return MANY
    return ()


_RESETS = (("spikingjelly", "reset"), ("snntorch", "reset_mem"), ("sinabs", "reset_states"))


def peer_reset(model: nn.Module) -> None:
    """Reset the modules of the frameworks in ``peer_levels`` that keep state between calls, each in its own way."""
    for module in model.modules():
        packages = {base.__module__.partition(".")[0] for base in type(module).__mro__}
        for package, name in _RESETS:
            method = getattr(module, name, None) if package in packages else None
            if callable(method):
                method()


def as_inputs(x: Inputs) -> tuple[Tensor, ...]:
    """The inputs of a model, one or several. Raises ValueError for what is no tensor."""
    xs = (x,) if isinstance(x, Tensor) else tuple(x)
    if not xs or not all(isinstance(value, Tensor) for value in xs):
        kinds = ", ".join(type(value).__name__ for value in xs) or "nothing"
        raise ValueError(f"the input of a model is a tensor, or several in a tuple, got {kinds}")
    return xs


def axes_of(time_axis: str | Sequence[str] | None, count: int) -> tuple[tuple[int, int | None], ...]:
    """The axes (batch, time or None) of each of ``count`` inputs: one word for all of them, or one each.

    Raises ValueError for other words or another number of them.
    """
    words = (time_axis,) * count if time_axis is None or isinstance(time_axis, str) else tuple(time_axis)
    if len(words) == 1:
        words *= count
    if len(words) != count:
        raise ValueError(f"time_axis has {len(words)} words for {count} inputs")
    for word in words:
        if word not in TIME_AXES:
            raise ValueError(f"time_axis must be one of {', '.join(TIME_AXES)} for this model, got {word!r}")
    places: dict[str | None, tuple[int, int | None]] = {"first": (1, 0), "second": (0, 1), "none": (0, None)}
    return tuple(places[word] for word in words)


def levels_of_inputs(
    input_levels: Sequence[float] | Sequence[Sequence[float] | None] | None, xs: Sequence[Tensor]
) -> list[tuple[float, ...] | None]:
    """The values that each input may hold, checked; None for one that holds any. A plain list is the first input's.

    Raises ValueError for an input that holds another value.
    """
    given: list[Sequence[float] | None] = []
    if input_levels is not None and len(input_levels):
        one = all(isinstance(value, int | float) for value in input_levels)
        given = [input_levels] if one else list(input_levels)  # type: ignore[list-item, arg-type]
    if len(given) > len(xs):
        raise ValueError(f"input_levels has {len(given)} entries for {len(xs)} inputs")
    found: list[tuple[float, ...] | None] = [None if v is None else tuple(float(k) for k in v) for v in given]
    found += [None] * (len(xs) - len(found))
    for i, (x, levels) in enumerate(zip(xs, found, strict=True)):
        if levels is None:
            continue
        outside = x[~torch.isin(x, torch.tensor(levels, dtype=x.dtype, device=x.device))]
        if outside.numel():
            shown = ", ".join(f"{level:g}" for level in levels[:6]) + (", ..." if len(levels) > 6 else "")
            which = f"input {i}" if len(xs) > 1 else "the input"
            raise ValueError(f"{which} holds {outside[0].item():g}, which is not among its declared values {shown}")
    return found
