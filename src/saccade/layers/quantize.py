"""Weights in a few bits: put weight forms on a model's layers, take them off, say what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from saccade.layers.fold import Conv2d, Linear
from saccade.layers.weight_forms import LSQ, BalancedBinary, Binary, DoReFa, Uniform, WeightForm

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
class Quantized:
    """What ``quantize_`` did: paths of the layers with a form, and those left whole."""

    layers: tuple[str, ...]
    skipped: tuple[str, ...]


def quantize_(model: nn.Module, config: QuantizeConfig) -> Quantized:
    """Give the convolutions and linear layers of a model quantised weights, in place; they go on learning.

    Reversible: ``unquantize_(model)`` gives the weights back. Noted in ``model.transforms``, so that model files replay it.
    Raises ValueError, with the model untouched, for an unknown path in ``skip``, a layer that has a form already, or a model
    without such layers.
    """
    done = attach_forms(model, config)
    transforms: Any = getattr(model, "transforms", None)
    if transforms is not None:
        transforms.append({"name": "quantize", "config": asdict(config) | {"skip": list(done.skipped)}})
    return done


def attach_forms(model: nn.Module, config: QuantizeConfig) -> Quantized:
    """``quantize_`` without the note."""
    layers: dict[str, Conv2d | Linear] = {
        path: m for path, m in model.named_modules() if isinstance(m, Conv2d | Linear)
    }
    if not layers:
        raise ValueError(f"{type(model).__name__} has no convolution or linear layer of saccade.layers to quantise")
    skip = default_skip(layers) if config.skip is None else config.skip
    for path in skip:
        if path not in layers:
            raise ValueError(f"skip: {path!r} is no convolution or linear layer; the model has {', '.join(layers)}")
    chosen = {path: layer for path, layer in layers.items() if path not in skip}
    for path, layer in chosen.items():
        if layer.form is not None:
            raise ValueError(
                f"{path} has a weight form already ({type(layer.form).__name__}); unquantize_ takes it off"
            )
    for layer in chosen.values():
        layer.form = make_form(config, layer.weight)
    return Quantized(tuple(chosen), tuple(skip))


def unquantize_(model: nn.Module) -> None:
    """Take all weight forms off. Raises ValueError if there are none."""
    found = [m for m in model.modules() if isinstance(m, Conv2d | Linear) and m.form is not None]
    if not found:
        raise ValueError(f"{type(model).__name__} has no weight forms to take off")
    for layer in found:
        layer.form = None
    transforms: Any = getattr(model, "transforms", [])
    transforms[:] = [one for one in transforms if one["name"] != "quantize"]


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
