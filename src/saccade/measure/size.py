"""How many bits the learnt numbers of a model take, by layer and kind, as the compression papers count them.

Weights at the bits of their form (32 without one), codebooks and learnt steps as their form states; biases, gamma and beta of
every norm and all other parameters at 32. Running statistics are not counted, nor are scales a channel that fold into a norm.
Source: Wei et al. (2025), QP-SNN: all 39 sizes that it prints for CIFAR, TinyImageNet and DVS-CIFAR10 follow this rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from saccade.layers.packed import Weighted
from saccade.layers.weight_forms import Stored


@dataclass(frozen=True)
class ModelSize:
    """What each layer stores, by path."""

    layers: dict[str, tuple[Stored, ...]]

    @property
    def bits(self) -> int:
        return sum(part.numbers * part.bits for stored in self.layers.values() for part in stored)

    @property
    def megabytes(self) -> float:
        """In 10^6 bytes."""
        return self.bits / 8e6

    def by_kind(self) -> dict[str, int]:
        """Bits by kind: weight, codebook, scale, bias, norm, other."""
        found: dict[str, int] = {}
        for part in (part for stored in self.layers.values() for part in stored):
            found[part.kind] = found.get(part.kind, 0) + part.numbers * part.bits
        return found


def model_size(model: nn.Module) -> ModelSize:
    """Count a model; its weights need not be there (``torch.device("meta")`` will do)."""
    layers: dict[str, tuple[Stored, ...]] = {}
    for path, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        stored: list[Stored] = []
        if isinstance(module, Weighted):
            weight = own.pop("weight")
            stored += module.form.storage(weight) if module.form else [Stored("weight", weight.numel(), 32)]
            if "bias" in own:
                stored.append(Stored("bias", own.pop("bias").numel(), 32))
        elif path.endswith(".form"):
            continue  # what a form learns is in its own account
        kind = "norm" if isinstance(module, nn.modules.batchnorm._BatchNorm) else "other"
        stored += [Stored(kind, parameter.numel(), 32) for parameter in own.values()]
        if stored:
            layers[path or "(model)"] = tuple(stored)
    return ModelSize(layers)
