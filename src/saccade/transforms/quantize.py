"""Weights in a few bits: put weight forms on a model's layers, and take them off. The layers go on learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor, nn

from saccade.config import Registry
from saccade.layers import Weighted, WeightForm, weighted_layers
from saccade.layers.weight_forms import GRANULARITIES, LSQ, BalancedBinary, Binary, DoReFa, Uniform, bit_utilization
from saccade.transforms.base import TRANSFORMS, Change, Transform, apply, matching
from saccade.transforms.fold_norms import refuse_folded

# By name: what makes a form from the settings and the weight it is for (a learned step starts from it).
QUANTIZERS: Registry[Callable[[QuantizeConfig, Tensor], WeightForm]] = Registry("quantizer")
QUANTIZERS.register("rescaw", lambda c, weight: Uniform(c.bits, c.scale, c.granularity, c.ste))
QUANTIZERS.register("vanilla", lambda c, weight: Uniform(c.bits, "one", "layer", c.ste))
QUANTIZERS.register("lsq", lambda c, weight: LSQ(c.bits, weight, c.steps))
QUANTIZERS.register("dorefa", lambda c, weight: DoReFa(c.bits))
QUANTIZERS.register("binary", lambda c, weight: Binary())
QUANTIZERS.register("balanced_binary", lambda c, weight: BalancedBinary())


@dataclass(frozen=True)
class WeightTransform(Transform):
    """Base of the transforms that put a form on layers. skip: paths or patterns of layers that keep their full weights; None
    is the first convolution, which sees pixels, and the last linear layer, whose logits are read, as in the papers.
    """

    changes_structure: ClassVar[bool] = False
    skip: tuple[str, ...] | None = field(default=None, kw_only=True)

    def form_for(self, weight: Tensor) -> WeightForm | None:
        """The form of a weight; None for one that stays as it is."""
        raise NotImplementedError

    def apply(self, model: nn.Module) -> Change:
        refuse_folded(model, "giving weights a form")
        layers = weighted_layers(model)
        if not layers:
            raise ValueError(f"{type(model).__name__} has no convolution or linear layer of saccade.layers to quantize")
        skip = default_skip(layers) if self.skip is None else matching(layers, self.skip, "skip")
        chosen = {path: layer for path, layer in layers.items() if path not in skip}
        for path, layer in chosen.items():
            if layer.form is not None:
                raise ValueError(
                    f"{path} has a weight form already ({type(layer.form).__name__}); undo(model, 'quantize') takes it off"
                )
        forms = {path: self.form_for(layer.weight) for path, layer in chosen.items()}
        given = {path: form.to(chosen[path].weight.device) for path, form in forms.items() if form is not None}
        for path, form in given.items():
            chosen[path].form = form
        left = tuple(path for path in layers if path not in given)
        return Change(replace(self, skip=left), tuple(given), left)

    def undo(self, model: nn.Module) -> None:
        layers = [layer for layer in weighted_layers(model).values() if layer.form is not None]
        if not layers:
            raise ValueError(f"{type(model).__name__} has no weight forms to take off")
        for layer in layers:
            layer.form = None


@dataclass(frozen=True)
class QuantizeConfig(WeightTransform):
    """method: "rescaw" (QP-SNN), "vanilla", "lsq", "dorefa", "binary" (XNOR), "balanced_binary" (IR-Net, Q-SNN).

    bits: 1 to 8; the binary methods have one. scale, granularity, ste: of "rescaw", see ``Uniform``. steps: of "lsq", one for
    the "layer" or for each output "channel", as in QSD-Transformer, which quantizes the first and the last layer too (skip=()).
    """

    method: str = "rescaw"
    bits: int = 4
    scale: str = "mean"
    granularity: str = "channel"
    ste: str = "identity"
    steps: str = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        QUANTIZERS[self.method]  # raises for an unknown one
        if self.steps not in GRANULARITIES:
            raise ValueError(f"steps must be one of {', '.join(GRANULARITIES)}, got {self.steps!r}")
        if self.method in ("binary", "balanced_binary") and self.bits != 1:
            raise ValueError(f"{self.method} has 1 bit, not {self.bits}")

    def form_for(self, weight: Tensor) -> WeightForm:
        return QUANTIZERS[self.method](self, weight)


TRANSFORMS.register("quantize", QuantizeConfig())


def quantize_(model: nn.Module, config: QuantizeConfig) -> Change:
    """``apply`` of the commonest transform. Raises ValueError, with the model untouched, where it cannot be."""
    return apply(model, config)


def default_skip(layers: Mapping[str, Weighted]) -> tuple[str, ...]:
    """The first convolution and the last linear layer."""
    convs = [path for path, layer in layers.items() if isinstance(layer, nn.modules.conv._ConvNd)]
    linears = [path for path, layer in layers.items() if isinstance(layer, nn.Linear)]
    return tuple(convs[:1] + linears[-1:])


def utilization(model: nn.Module) -> dict[str, float]:
    """Share of the levels that the weights of each uniformly quantized layer use, by path (see ``bit_utilization``)."""
    return {
        path: bit_utilization(layer.weight, layer.form)
        for path, layer in weighted_layers(model).items()
        if isinstance(layer.form, Uniform)
    }
