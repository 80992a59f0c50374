"""Other membranes for a model's LIF neurons: none at all (memory-free), or one of a few bits; and back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import nn

from saccade.neurons import (
    LIF,
    LeakMixingConfig,
    LIFConfig,
    MixingConfig,
    NeuronConfig,
    QuantizedMembraneConfig,
    Spiking,
    Surrogate,
)
from saccade.transforms.base import TRANSFORMS, Change, Transform, replace_module
from saccade.transforms.fold_norms import refuse_folded


@dataclass(frozen=True)
class MembraneTransform(Transform):
    """Base of the transforms that give every LIF neuron another recurrence. Reversible."""

    def undo(self, model: nn.Module) -> None:
        """Plain LIF neurons as they were. Raises ValueError if there are none to put back."""
        changed = {path: module for path, module in model.named_modules() if getattr(module, "_replaced", None)}
        if not changed:
            raise ValueError(f"{type(model).__name__} has no neurons whose membranes were replaced")
        for path, module in changed.items():
            (before,) = cast(Any, module)._replaced
            _put(model, path, before)


@dataclass(frozen=True)
class MemoryFreeConfig(MembraneTransform):
    """Make every LIF of a model a memory-free neuron.

    mixing: how steps mix; "masked_mixing" takes the T of the model if it has none. surrogate: of the new neurons; None keeps
    that of each replaced one, as it keeps its role and its channels.
    """

    mixing: MixingConfig = field(default_factory=LeakMixingConfig)
    surrogate: Surrogate | None = None

    def apply(self, model: nn.Module) -> Change:
        """Raises ValueError, with the model untouched, for a model whose neurons are memory-free or quantized already, without
        LIF neurons or with others, that is a neuron itself, of another T, with thresholds that hold folded norms, or with gates
        that the mixing does not fit.
        """
        neurons = plain_neurons(model)
        mixing = self._fitting(model, neurons)
        made: dict[str, Spiking] = {}
        for path, lif in neurons.items():
            surrogate = self.surrogate or lif.config.surrogate
            try:
                made[path] = _like(replace(mixing, surrogate=surrogate), lif)
            except ValueError as error:
                raise ValueError(f"{path}: {error}; use per='layer'") from None
        _exchange(model, neurons, made)
        return Change(replace(self, mixing=mixing), tuple(made))

    def _fitting(self, model: nn.Module, neurons: dict[str, LIF]) -> MixingConfig:
        """The mixing for this model. Raises ValueError where there is none."""
        mixing = self.mixing
        folded = next((path for path, lif in neurons.items() if isinstance(lif.config.v_th, tuple)), None)
        if folded is not None:
            raise ValueError(
                f"{folded} has a threshold for each channel, which may hold a folded norm; make it memory-free before folding"
            )
        gate = next((path for path, lif in neurons.items() if lif.role == "gate"), None)
        return mixing.fitted(getattr(model, "T", None), gate)


@dataclass(frozen=True)
class QuantizeMembranesConfig(MembraneTransform):
    """Make every LIF of a model store its potential in a few bits: see ``QuantizedMembraneConfig``."""

    mode: str = "qsnn"
    bits: int = 8
    alpha: float | str = "sample"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._of(LIFConfig())

    def _of(self, lif: LIFConfig) -> QuantizedMembraneConfig:
        return QuantizedMembraneConfig(self.mode, self.bits, self.alpha, lif)

    def apply(self, model: nn.Module) -> Change:
        """Raises ValueError, with the model untouched, as ``MemoryFreeConfig.apply``."""
        neurons = plain_neurons(model)
        made: dict[str, Spiking] = {}
        for path, lif in neurons.items():
            made[path] = _like(self._of(lif.config), lif)
            made[path].load_state_dict(lif.state_dict())
        _exchange(model, neurons, made)
        return Change(self, tuple(made))


TRANSFORMS.register("memory_free", MemoryFreeConfig())
TRANSFORMS.register("quantize_membranes", QuantizeMembranesConfig())


def plain_neurons(model: nn.Module) -> dict[str, LIF]:
    """The neurons of a model by path, if all are LIF and none has been given another membrane. Raises ValueError if not."""
    refuse_folded(model, "changing membranes")
    if isinstance(model, Spiking):
        raise ValueError(f"{type(model).__name__} is itself a neuron: nothing can be replaced in it; make another one")
    neurons = {path: module for path, module in model.named_modules() if isinstance(module, Spiking)}
    for path, module in neurons.items():
        if getattr(module, "_replaced", None):
            name = type(module).__name__
            raise ValueError(f"{path} was given another membrane already ({name}); undo that first")
        if type(module) is not LIF:
            raise ValueError(f"{path} is a {type(module).__name__}, no LIF neuron: what would replace it is not known")
    if not neurons:
        raise ValueError(f"{type(model).__name__} has no LIF neurons of saccade.neurons to replace")
    return cast(dict[str, LIF], neurons)


def _like(config: NeuronConfig, lif: LIF) -> Spiking:
    return config.build(channels=lif.channels, channel_axis=lif.channel_axis, role=lif.role)


def _exchange(model: nn.Module, old: dict[str, LIF], new: dict[str, Spiking]) -> None:
    """Put new neurons in the place of old ones, which they remember."""
    for path, neuron in new.items():
        neuron._replaced = (old[path],)  # type: ignore[assignment]  # in a tuple, so that it is no part of the model
        _put(model, path, neuron)


def _put(model: nn.Module, path: str, neuron: nn.Module) -> None:
    like = next(iter(model.parameters()), None)
    neuron.train(model.get_submodule(path).training)
    replace_module(model, path, neuron.to(like.device, like.dtype) if like is not None else neuron)
