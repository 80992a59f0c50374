"""The packed file: every number at the bits it needs, so that a size that is printed is a size on disk.

safetensors with JSON metadata, as a model file. Of a layer with a weight form: the streams of its ``encode``, ``PATH.NAME``
uint8, whole numbers as a stream of bits, least significant first, and ``PATH.scale``, a float32 a channel, unless a norm that
follows directly takes it up. Of a batch norm: ``PATH.scale`` and ``PATH.offset``, what it multiplies by and adds. Everything
else as float32 under its own name.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.files.legacy import upgrade_metadata
from saccade.files.model_file import build, describe, unwrapped
from saccade.files.schema import PackedRecord, checked
from saccade.files.tensors import (
    BROKEN,
    fit_weights,
    in_one_line,
    read_metadata,
    read_tensors,
    refuse_not_finite,
    write_tensors,
)
from saccade.layers import batch_norms, norm_of, weighted_layers
from saccade.layers.weight_forms import VALUES
from saccade.models import SpikingModel
from saccade.transforms import norm_chains

FORMAT, FORMER = "saccade-packed-2", "saccade-packed-1"


def to_bits(codes: Tensor, bits: int) -> Tensor:
    """Whole numbers below ``2**bits`` as a stream of bits, least significant first: uint8 ``[ceil(n * bits / 8)]``."""
    values = codes.flatten().cpu().numpy().astype(np.uint16)
    planes = (values[:, None] >> np.arange(bits, dtype=np.uint16)) & 1
    return torch.from_numpy(np.packbits(planes.astype(np.uint8).reshape(-1), bitorder="little"))


def from_bits(stream: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of ``to_bits``: int64 ``[count]``. Raises ValueError if the stream has another length."""
    if stream.dtype != torch.uint8 or stream.numel() != math.ceil(count * bits / 8):
        raise ValueError(
            f"{count} numbers of {bits} bits take {math.ceil(count * bits / 8)} bytes, not {stream.numel()}"
        )
    planes = np.unpackbits(stream.numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    return torch.from_numpy((planes.astype(np.int64) << np.arange(bits)).sum(1))


def save_packed(
    model: nn.Module,
    path: str | os.PathLike[str],
    sample: Tensor | None = None,
    classes: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
) -> None:
    """Write a model for inference, in eval mode, with its weights at the bits of their forms.

    ``sample``: a batch of input (default: the model's example), on which the norms that directly follow a layer are found; they
    take up its scales exactly.

    Raises ValueError for a model without a registered name or in training mode, or weights that are not finite; OSError with
    nothing overwritten.
    """
    model = unwrapped(model)
    metadata = {"format": FORMAT, **describe(model, classes, input_shape, values_only=True)}
    if model.training:
        raise ValueError("packing needs model.eval(): norms are stored as their running statistics make them")
    assert isinstance(model, SpikingModel)
    refuse_not_finite(model.state_dict(), "the model is not packed")
    tensors, metadata["layers"] = _pack(model, model.example_input() if sample is None else sample)
    write_tensors(tensors, path, metadata)


def _pack(model: SpikingModel, sample: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
    norms = {path: norm for path, norm in batch_norms(model).items() if norm.running_var is not None}
    norm_after = {chain.layer: chain.norm for chain in norm_chains(model, sample).chains if chain.norm in norms}
    scale_before: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    layers: dict[str, Any] = {}
    covered: set[str] = set()
    for path, layer in weighted_layers(model).items():
        if layer.form is None:
            continue
        codes = layer.form.encode(layer.weight.detach())
        bits = {name: width for name, (_, width) in codes.streams.items()}
        layers[path] = {"values": layer.form.values, "bits": bits, "shape": list(layer.weight.shape)}
        for name, (numbers, width) in codes.streams.items():
            tensors[f"{path}.{name}"] = to_bits(numbers, width)
        if path in norm_after and layer.bias is None:
            scale_before[norm_after[path]] = codes.scale.double()
        else:
            tensors[f"{path}.scale"] = codes.scale.float().cpu().contiguous()
        covered |= {f"{path}.weight", *(f"{path}.form.{key}" for key in layer.form.state_dict())}
    for path, norm in norms.items():
        scale, offset = (part.double() for part in norm_of(_doubled(norm)).scale_and_offset())
        tensors[f"{path}.offset"] = offset.float().cpu()
        tensors[f"{path}.scale"] = (scale * scale_before.get(path, 1.0)).float().cpu()
        covered |= {f"{path}.{key}" for key in norm.state_dict()}
    for key, value in model.state_dict().items():
        if key not in covered:
            tensors[key] = (value.detach().float() if value.is_floating_point() else value).cpu().contiguous()
    return tensors, layers


def _doubled(norm: nn.Module) -> nn.Module:
    return copy.deepcopy(norm).double()


def packed_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of a packed file, as of a model file, with the forms of its layers. Raises ValueError for anything else."""
    metadata = read_metadata(path, (FORMAT, FORMER), "packed file")
    if metadata["format"] == FORMER:
        metadata = upgrade_metadata(metadata, str(path))
        try:
            for layer in metadata["layers"].values():
                layer |= {"values": layer["form"], "bits": {"codes": layer["bits"]}}
                if layer["form"] == "codebook":
                    layer["bits"]["codebook"] = 1
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: its metadata are damaged ({type(error).__name__}: {error})") from None
    return checked(metadata, PackedRecord, str(path))


def load_packed(path: str | os.PathLike[str]) -> SpikingModel:
    """Build the model of a packed file, in eval mode, with the values of its codes as plain weights (32 bits from here on).

    Raises ValueError in one line for another kind of file, damaged metadata, streams of a wrong length, an index that its
    codebook does not have, or tensors that do not fit.
    """
    metadata = packed_info(path)
    tensors = read_tensors(path, "packed file")
    model = build(metadata, str(path))
    try:
        state = _unpack(model, tensors, metadata["layers"])
    except ValueError as error:
        raise ValueError(f"{path}: {in_one_line(error)}") from None
    except BROKEN as error:
        raise ValueError(f"{path}: its metadata or tensors are damaged ({in_one_line(error)})") from None
    fit_weights(model, state, str(path))
    return model.eval()


def _unpack(model: SpikingModel, tensors: dict[str, Tensor], layers: dict[str, Any]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path, layer in layers.items():
        form, bits, shape = VALUES[layer["values"]], layer["bits"], [int(n) for n in layer["shape"]]
        streams = {
            name: from_bits(tensors.pop(f"{path}.{name}"), int(width), form.stream_length(name, bits, shape))
            for name, width in bits.items()
        }
        try:
            weight = form.decode(streams, bits, shape)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        scale = tensors.pop(f"{path}.scale", None)
        if scale is not None:
            weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        state[f"{path}.weight"] = weight
    for path, norm in batch_norms(model).items():
        if f"{path}.offset" in tensors:
            scale, offset = tensors.pop(f"{path}.scale"), tensors.pop(f"{path}.offset")
            state |= {f"{path}.{name}": value for name, value in norm_of(norm).state_of(scale, offset).items()}
    return state | tensors
