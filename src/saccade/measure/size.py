"""How many bits the learnt numbers of a model take, by layer and kind, as the papers count them, and as a file has them.

"paper_qp" (default): weights at the bits of their form (32 without one), codebooks and learnt steps as their form states;
biases, gamma and beta of every norm and all other parameters at 32. Running statistics are not counted, nor are scales a
channel that fold into a norm. Source: Wei et al. (2025), QP-SNN: all 39 sizes that it prints for CIFAR, TinyImageNet and
DVS-CIFAR10 follow.

"paper_s2nn": as S2NN's tables are (Wei et al. 2025): eta/9 bits rounded to two digits (0.67, 0.56, 0.44), binary 1x1 kernels
beside them charged alike, codebooks left out. By the paper's own formula, eta a kernel and the codebook, sizes are larger or
smaller by up to 3 %; that is "paper_qp", and the file.

"paper_qsd": as QSD-Transformer's labels are (Qiu et al. 2025): every learnt number at the bits of the weights, those of norms
too, which no file does. Its "1.8 M", "3.9 M" and "6.8 M" are this count in numbers of 32 bits (``fp32_equivalents``, in
millions) of networks of 15, 31 and 55 million parameters.

Parameters, bits, bytes and fp32-equivalents are four things: "parameters" is a count of numbers, whatever their bits.

"exact" sizes are of files that ``saccade.compress.save_packed`` wrote: ``exact_size``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from saccade.layers import Norm, Stored, Weighted, WeightForm, weight_forms

PRESETS = ("paper_qp", "paper_s2nn", "paper_qsd")


@dataclass(frozen=True)
class ModelSize:
    """What each layer stores, by path."""

    layers: dict[str, tuple[Stored, ...]]

    @property
    def bits(self) -> float:
        return sum(part.numbers * part.bits for stored in self.layers.values() for part in stored)

    @property
    def megabytes(self) -> float:
        """In 10^6 bytes."""
        return self.bits / 8e6

    @property
    def fp32_equivalents(self) -> float:
        """How many numbers of 32 bits would take as much. Papers print it as if it were parameters."""
        return self.bits / 32

    def by_kind(self) -> dict[str, float]:
        """Bits by kind: weight, index, codebook, scale, bias, norm, other."""
        found: dict[str, float] = {}
        for part in (part for stored in self.layers.values() for part in stored):
            found[part.kind] = found.get(part.kind, 0) + part.numbers * part.bits
        return found


@dataclass(frozen=True)
class FileSize:
    """Bytes of a safetensors file: its tensors, its header (with the eight bytes that say how long it is), and both."""

    payload: int
    header: int
    total: int


def exact_size(path: str | os.PathLike[str]) -> FileSize:
    """What a safetensors file holds; ``total`` is the size of the file. Raises ValueError if header and size disagree."""
    try:
        total = os.stat(path).st_size
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < total else {}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise ValueError(f"{path}: not a safetensors file") from None
    ends = [part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"]
    payload = max(ends, default=0)
    if 8 + length + payload != total:
        raise ValueError(
            f"{path}: not a whole safetensors file: {total} bytes where its header speaks of {8 + length + payload}"
        )
    return FileSize(payload, 8 + length, total)


def model_size(model: nn.Module, preset: str = "paper_qp") -> ModelSize:
    """Count a model; its weights need not be there (``torch.device("meta")`` will do).

    Raises ValueError for another preset, or for "paper_qsd" of weights of several numbers of bits.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}; exact sizes are of packed files")
    charged = _rounded_bits(model) if preset == "paper_s2nn" else None
    layers: dict[str, tuple[Stored, ...]] = {}
    for path, module in model.named_modules():
        if isinstance(module, WeightForm):
            continue  # what a form learns is in its layer's account
        if isinstance(module, Weighted) and charged is not None and module.form is not None and module.form.bits <= 1:
            stored = [Stored("weight", module.weight.numel(), charged)]
            stored += [] if module.bias is None else [Stored("bias", module.bias.numel(), 32)]
        elif isinstance(module, Weighted | Norm):
            stored = module.storage()
        else:
            stored = [Stored("other", parameter.numel(), 32) for parameter in module.parameters(recurse=False)]
        if stored:
            layers[path or "(model)"] = tuple(stored)
    if preset == "paper_qsd":
        bits = _one_number_of_bits(model)
        layers = {path: tuple(part._replace(bits=bits) for part in stored) for path, stored in layers.items()}
    return ModelSize(layers)


def _one_number_of_bits(model: nn.Module) -> float:
    """The bits of all weights. Raises ValueError where they are of several numbers."""
    found = {form.bits for form in weight_forms(model)} or {32}
    if len(found) > 1:
        raise ValueError(
            f"paper_qsd charges all numbers alike, and weights have {', '.join(map(str, sorted(found)))} bits"
        )
    return found.pop()


def _rounded_bits(model: nn.Module) -> float | None:
    """The two-digit bits a weight of a sub-bit model; None if it has no codebooks."""
    return min((round(form.bits, 2) for form in weight_forms(model) if form.bits < 1), default=None)
