"""Weights in a few bits or less than one: put weight forms on a model's layers, and take them off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from saccade.layers.fold import Conv2d, Linear
from saccade.layers.subbit import SubBit
from saccade.layers.weight_forms import LSQ, BalancedBinary, Binary, DoReFa, Uniform, WeightForm, bit_utilisation

METHODS = ("rescaw", "vanilla", "lsq", "dorefa", "binary", "balanced_binary")


@dataclass(frozen=True)
class QuantizeConfig:
    """method: "rescaw" (QP-SNN), "vanilla", "lsq", "dorefa", "binary" (XNOR), "balanced_binary" (IR-Net, Q-SNN).

    bits: 1 to 8; the binary methods have one. scale, granularity, ste: of "rescaw", see ``Uniform``. skip: paths of layers that
    keep their full weights; the default, None, is the first convolution and the last linear layer, as in the papers.
    """

    method: str = "rescaw"
    bits: int = 4
    scale: str = "mean"
    granularity: str = "channel"
    ste: str = "identity"
    skip: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown quantiser {self.method!r}; known: {', '.join(METHODS)}")
        if self.method in ("binary", "balanced_binary") and self.bits != 1:
            raise ValueError(f"{self.method} has 1 bit, not {self.bits}")


@dataclass(frozen=True)
class SubBitConfig:
    """eta: bits of a 3x3 kernel's index, 4, 5, 6 for 0.44, 0.56, 0.67 bits a weight. os, gamma, quantile, normalise: of the
    search, see ``os_quant``. skip: as in ``QuantizeConfig``. 1x1 kernels and linear layers become binary; kernels of more
    than nine weights keep their weights.
    """

    eta: int = 6
    os: bool = True
    gamma: float = 1.5
    quantile: str = "linear"
    normalise: str = "channel"
    skip: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Quantized:
    """Paths of the layers that got a form, and of those left whole."""

    layers: tuple[str, ...]
    skipped: tuple[str, ...]


def quantize_(model: nn.Module, config: QuantizeConfig) -> Quantized:
    """Give the convolutions and linear layers of a model quantised weights, in place; they go on learning.

    Reversible: ``unquantize_(model)`` gives the weights back. Noted in ``model.transforms``, so that model files replay it.
    Raises ValueError, with the model untouched, for an unknown path in ``skip``, a layer that has a form already, a model
    without such layers, or one whose norms are folded.
    """
    return _noted(model, "quantize", config, attach_quantised(model, config))


def subbit_(model: nn.Module, config: SubBitConfig) -> Quantized:
    """As ``quantize_``, with kernels from learnt codebooks: less than a bit a weight."""
    return _noted(model, "subbit", config, attach_subbit(model, config))


def _noted(model: nn.Module, name: str, config: QuantizeConfig | SubBitConfig, done: Quantized) -> Quantized:
    note(model, name, asdict(config) | {"skip": list(done.skipped)})
    return done


def note(model: nn.Module, name: str, config: dict[str, Any]) -> None:
    """Write down in ``model.transforms`` what was done, for model files; models without such a list go without."""
    transforms: Any = getattr(model, "transforms", None)
    if transforms is not None:
        transforms.append({"name": name, "config": config})


def refuse_folded(model: nn.Module, what: str) -> None:
    """Raises ValueError for a model whose norms were folded: its weights carry the norms' scales."""
    if any(one["name"] == "fold_norms" for one in getattr(model, "transforms", [])):
        raise ValueError(
            f"{what} comes before fusing: here the norms are folded into the weights or thresholds already"
        )


def attach_quantised(model: nn.Module, config: QuantizeConfig) -> Quantized:
    """``quantize_`` without the note."""
    return _attach(model, config.skip, lambda weight: make_form(config, weight))


def attach_subbit(model: nn.Module, config: SubBitConfig) -> Quantized:
    """``subbit_`` without the note."""

    def make(weight: Tensor) -> WeightForm | None:
        places = weight[0, 0].numel() if weight.dim() == 4 else 1
        if places > 9:
            return None
        search = (config.os, config.gamma, config.quantile, config.normalise)
        return SubBit(config.eta, weight, *search) if places > 1 else Binary()

    return _attach(model, config.skip, make)


def _attach(model: nn.Module, skip: tuple[str, ...] | None, make: Callable[[Tensor], WeightForm | None]) -> Quantized:
    refuse_folded(model, "giving weights a form")
    layers: dict[str, Conv2d | Linear] = {
        path: m for path, m in model.named_modules() if isinstance(m, Conv2d | Linear)
    }
    if not layers:
        raise ValueError(f"{type(model).__name__} has no convolution or linear layer of saccade.layers to quantise")
    skip = default_skip(layers) if skip is None else skip
    for path in skip:
        if path not in layers:
            raise ValueError(f"skip: {path!r} is no convolution or linear layer; the model has {', '.join(layers)}")
    chosen = {path: layer for path, layer in layers.items() if path not in skip}
    for path, layer in chosen.items():
        if layer.form is not None:
            raise ValueError(
                f"{path} has a weight form already ({type(layer.form).__name__}); unquantize_ takes it off"
            )
    forms = {path: make(layer.weight) for path, layer in chosen.items()}
    given = {path: form.to(chosen[path].weight.device) for path, form in forms.items() if form is not None}
    for path, form in given.items():
        chosen[path].form = form
    return Quantized(tuple(given), tuple(path for path in layers if path not in given))


def unquantize_(model: nn.Module) -> None:
    """Take all weight forms off. Raises ValueError if there are none."""
    found = [m for m in model.modules() if isinstance(m, Conv2d | Linear) and m.form is not None]
    if not found:
        raise ValueError(f"{type(model).__name__} has no weight forms to take off")
    for layer in found:
        layer.form = None
    transforms: Any = getattr(model, "transforms", [])
    transforms[:] = [one for one in transforms if one["name"] not in ("quantize", "subbit")]


def utilisation(model: nn.Module) -> dict[str, float]:
    """Share of the levels that the weights of each uniformly quantised layer use, by path (see ``bit_utilisation``)."""
    return {
        path: bit_utilisation(m.weight, m.form)
        for path, m in model.named_modules()
        if isinstance(m, Conv2d | Linear) and isinstance(m.form, Uniform)
    }


def default_skip(layers: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """The first convolution, which sees pixels, and the last linear layer, whose logits are read."""
    convs = [path for path, layer in layers.items() if isinstance(layer, Conv2d)]
    linears = [path for path, layer in layers.items() if isinstance(layer, Linear)]
    return tuple(convs[:1] + linears[-1:])


def make_form(config: QuantizeConfig, weight: Tensor) -> WeightForm:
    """The form a config asks for, made for a weight (a learned step starts from it)."""
    if config.method == "rescaw":
        return Uniform(config.bits, config.scale, config.granularity, config.ste)
    if config.method == "vanilla":
        return Uniform(config.bits, "one", "layer", config.ste)
    if config.method == "lsq":
        return LSQ(config.bits, weight)
    if config.method == "dorefa":
        return DoReFa(config.bits)
    return Binary() if config.method == "binary" else BalancedBinary()
