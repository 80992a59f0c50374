"""Other membranes for a model's LIF neurons: none at all (memory-free), or one of a few bits; and back."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from torch import nn

from saccade.layers.packed import Weighted
from saccade.layers.quantize import note, refuse_folded
from saccade.neurons import LIF, MembraneConfig, MemoryFree, MemoryFreeConfig, QuantizedMembraneLIF, Spiking
from saccade.neurons.surrogate import surrogate_to


def memory_free_(model: nn.Module, config: MemoryFreeConfig | None = None) -> tuple[str, ...]:
    """Make every LIF of a model a ``MemoryFree`` of ``config``, in place; returns their paths.

    A neuron keeps its role and, unless the config names one, its surrogate. "masked" takes the T of the model if the config
    has none; the leaks of per="channel" are as many as the channels of the layer before the neuron. Reversible:
    ``restore_membranes_``. Noted in ``model.transforms``, so that model files replay it.

    Raises ValueError, with the model untouched, for a model whose neurons are memory-free or quantised already, without
    LIF neurons or with others, that is a neuron itself, of another T, with thresholds that hold folded norms, or (masked)
    with gates that fire in a single step.
    """
    config = config or MemoryFreeConfig()
    surrogate = None if config.surrogate is None else surrogate_to(config.surrogate)
    paths = attach_memory_free(model, config)
    plain = {key: value for key, value in vars(config).items() if key != "surrogate"}
    note(model, "memory_free", plain | {"surrogate": surrogate})
    return paths


def attach_memory_free(model: nn.Module, config: MemoryFreeConfig) -> tuple[str, ...]:
    """``memory_free_`` without the note."""
    neurons = _plain_neurons(model)
    folded = next((path for path, lif in neurons.items() if isinstance(lif.config.v_th, tuple)), None)
    if folded is not None:
        raise ValueError(
            f"{folded} has a threshold for each channel, which may hold a folded norm; make it memory-free before folding"
        )
    if config.mode == "masked":
        T = getattr(model, "T", None)
        if config.T is None and T is None:
            raise ValueError("masked mixing is for one number of steps: give T")
        if config.T is not None and T not in (None, config.T):
            raise ValueError(f"masked mixing of T = {config.T} steps does not fit a model of T = {T}")
        config = replace(config, T=config.T or T)
        gate = next((path for path, lif in neurons.items() if lif.role == "gate"), None)
        if gate is not None:
            raise ValueError(
                f"{gate} is a gate that may fire in a single step, so masked mixing does not fit; use leak or sliding"
            )
    if config.per == "channel":
        gate = next((path for path, lif in neurons.items() if lif.role == "gate"), None)
        if gate is not None or config.channel_axis != 2:
            where = f"{gate} is a gate over other axes" if gate else "a model's channels lie on axis 2"
            raise ValueError(f"{where}, so leaks for each channel do not fit; use per='layer'")
    channels = _channels(model) if config.per == "channel" else dict.fromkeys(neurons)
    made: dict[str, nn.Module] = {}
    for path, lif in neurons.items():
        if config.per == "channel" and channels[path] is None:
            raise ValueError(f"{path}: no layer lies before it to tell its channels; use per='layer'")
        own = replace(config, surrogate=config.surrogate or lif.config.surrogate)
        made[path] = MemoryFree(own, channels=channels[path], role=lif.role)
        made[path].replaced = (lif,)  # type: ignore[assignment]  # in a tuple, so that it is no part of the model
    _exchange(model, neurons, made)
    return tuple(made)


def quantize_membranes_(model: nn.Module, config: MembraneConfig | None = None) -> tuple[str, ...]:
    """Make every LIF of a model store its potential in a few bits, in place; returns their paths.

    Reversible: ``restore_membranes_``. Noted in ``model.transforms``, so that model files replay it.
    Raises ValueError, with the model untouched, as ``memory_free_``.
    """
    config = config or MembraneConfig()
    paths = attach_quantized_membranes(model, config)
    note(model, "quantize_membranes", asdict(config))
    return paths


def attach_quantized_membranes(model: nn.Module, config: MembraneConfig) -> tuple[str, ...]:
    """``quantize_membranes_`` without the note."""
    neurons = _plain_neurons(model)
    made: dict[str, nn.Module] = {}
    for path, lif in neurons.items():
        made[path] = QuantizedMembraneLIF(lif.config, config, role=lif.role)
        made[path].load_state_dict(lif.state_dict())
    _exchange(model, neurons, made)
    return tuple(made)


def restore_membranes_(model: nn.Module) -> None:
    """Undo ``memory_free_`` or ``quantize_membranes_``: plain LIF neurons as they were. Raises ValueError if there are none."""
    found: dict[str, Any] = {
        path: m for path, m in model.named_modules() if isinstance(m, MemoryFree | QuantizedMembraneLIF) and path
    }
    made: dict[str, nn.Module] = {}
    for path, neuron in found.items():
        if isinstance(neuron, QuantizedMembraneLIF):
            made[path] = LIF(neuron.config, role=neuron.role)
            made[path].load_state_dict(neuron.state_dict())
        elif hasattr(neuron, "replaced"):
            made[path] = neuron.replaced[0]
    if not made:
        raise ValueError(f"{type(model).__name__} has no neurons whose membranes were replaced")
    _exchange(model, found, made)
    transforms: Any = getattr(model, "transforms", [])
    transforms[:] = [one for one in transforms if one["name"] not in ("memory_free", "quantize_membranes")]


def _plain_neurons(model: nn.Module) -> dict[str, LIF]:
    """The neurons of a model by path, if all are LIF and none has been given another membrane."""
    refuse_folded(model, "changing membranes")
    if isinstance(model, Spiking):
        raise ValueError(f"{type(model).__name__} is itself a neuron: nothing can be replaced in it; make another one")
    found: dict[str, LIF] = {}
    for path, module in model.named_modules():
        if isinstance(module, MemoryFree):
            raise ValueError(f"{path} is memory-free already: it has no membrane; restore_membranes_ gives LIF back")
        if isinstance(module, QuantizedMembraneLIF):
            raise ValueError(f"{path} has a quantised membrane already; restore_membranes_ gives LIF back")
        if isinstance(module, Spiking) and not isinstance(module, LIF):
            raise ValueError(f"{path} is a {type(module).__name__}, no LIF neuron: what would replace it is not known")
        if isinstance(module, LIF):
            found[path] = module
    if not found:
        raise ValueError(f"{type(model).__name__} has no LIF neurons of saccade.neurons to replace")
    return found


def _channels(model: nn.Module) -> dict[str, int | None]:
    """For each neuron the channels of the layer that the model lists before it."""
    found: dict[str, int | None] = {}
    channels: int | None = None
    for path, module in model.named_modules():
        if isinstance(module, Weighted):
            channels = len(module.weight)  # type: ignore[arg-type]
        elif isinstance(module, LIF):
            found[path] = channels
    return found


def _exchange(model: nn.Module, old: dict[str, Any], new: dict[str, nn.Module]) -> None:
    """Put new modules in the place of old ones, wherever these occur (a module may sit at two paths)."""
    like = next(iter(model.parameters()), None)
    by_identity = {id(old[path]): module for path, module in new.items()}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in by_identity:
                module = by_identity[id(child)].train(child.training)  # type: ignore[union-attr]
                parent._modules[name] = module.to(like.device, like.dtype) if like is not None else module
