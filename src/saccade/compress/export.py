"""The packed file: every number at the bits it needs, so that a size that is printed is a size on disk.

safetensors with JSON metadata. Of a layer with a weight form: ``PATH.codes``, uint8, its codes as a stream of bits, least
significant first, in the order of the weight; of a codebook also ``PATH.codebook``, a stream of one bit a sign; and
``PATH.scale``, a float32 a channel, unless a norm that follows directly takes it up. Of a batch norm: ``PATH.scale`` and
``PATH.offset``, what it multiplies by and adds. Everything else as float32 under its own name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from saccade.layers import Conv2d, Linear
from saccade.layers.subbit import SubBit
from saccade.layers.weight_forms import WeightForm
from saccade.models import SpikingModel, create_model
from saccade.models.files import fit_weights, read_metadata, tuples, write_tensors
from saccade.models.fuse import conv_norm_chains
from saccade.models.transforms import apply_transform

FORMAT = "saccade-packed-1"
VALUES_ONLY = ("quantize", "subbit", "thaw_scales")  # transforms that change weights, not the structure that is rebuilt


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
    model: SpikingModel,
    path: str | os.PathLike[str],
    sample: Tensor | None = None,
    classes: Sequence[str] | None = None,
    input_shape: Sequence[int] | None = None,
) -> None:
    """Write a model for inference, in eval mode, with its weights at the bits of their forms.

    ``sample``: a batch of input, by which the norms that directly follow a convolution are found; they take up its scales
    exactly. Without one, scales are stored apart.

    Raises ValueError for a model without a registered name or in training mode, OSError with nothing overwritten.
    """
    created: Any = getattr(model, "created_as", None)
    if created is None:
        raise ValueError("only models from create_model can be packed: the file must say how to build them again")
    if model.training:
        raise ValueError("packing needs model.eval(): norms are stored as their running statistics make them")
    tensors, layers = _pack(model, sample)
    meta = {
        "format": FORMAT,
        "model": created[0],
        "kwargs": created[1],
        "classes": list(classes) if classes else None,
        "input": list(input_shape) if input_shape else None,
        "transforms": [one for one in model.transforms if one["name"] not in VALUES_ONLY],
        "layers": layers,
    }
    write_tensors(tensors, path, {"saccade": json.dumps(meta, separators=(",", ":"))})


def _pack(model: SpikingModel, sample: Tensor | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    follows: dict[str, str] = {}
    if sample is not None:
        follows = {conv: norm for conv, norm in conv_norm_chains(model, sample)}
    taken_up: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    layers: dict[str, Any] = {}
    covered: set[str] = set()
    for path, module in model.named_modules():
        if not isinstance(module, Conv2d | Linear) or module.form is None:
            continue
        form: WeightForm = module.form
        codes, scale = form.encoded(module.weight.detach())
        bits = form.eta if isinstance(form, SubBit) else int(form.bits)
        layers[path] = {"form": form.values, "bits": bits, "shape": list(module.weight.shape)}
        tensors[f"{path}.codes"] = to_bits(codes, bits)
        if isinstance(form, SubBit):
            tensors[f"{path}.codebook"] = to_bits((form.signs > 0).long(), 1)
        if path in follows and module.bias is None:
            taken_up[follows[path]] = scale.double()
        else:
            tensors[f"{path}.scale"] = scale.float().cpu().contiguous()
        covered |= {f"{path}.weight", *(f"{path}.form.{key}" for key in form.state_dict())}
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
            assert module.running_mean is not None
            spread = torch.sqrt(module.running_var.double() + module.eps)
            scale = module.weight.detach().double() * getattr(module, "scale", 1.0) / spread
            tensors[f"{path}.offset"] = (
                (module.bias.detach().double() - module.running_mean.double() * scale).float().cpu()
            )
            tensors[f"{path}.scale"] = (scale * taken_up.get(path, 1.0)).float().cpu()
            covered |= {f"{path}.{key}" for key in module.state_dict()}
    for key, value in model.state_dict().items():
        if key not in covered:
            tensors[key] = (value.detach().float() if value.is_floating_point() else value).cpu().contiguous()
    return tensors, layers


def packed_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of a packed file, as of a model file, with the forms of its layers. Raises ValueError for anything else."""
    return read_metadata(path, FORMAT, "packed file", "one that saccade packed")


def load_packed(path: str | os.PathLike[str]) -> SpikingModel:
    """Build the model of a packed file, in eval mode, with the values of its codes as plain weights (32 bits from here on).

    Raises ValueError in one line for another kind of file, damaged metadata, streams of a wrong length, an index that its
    codebook does not have, or tensors that do not fit.
    """
    meta = packed_info(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable packed file ({error})") from None
    try:
        model = create_model(meta["model"], **tuples(meta["kwargs"]))
        for transform in meta["transforms"]:
            apply_transform(model, transform["name"], transform["config"])
        layers = dict(meta["layers"])
        state = _unpack(model, tensors, layers)
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path}: its metadata or tensors are damaged ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    fit_weights(model, state, str(path))
    return model.eval()


def _unpack(model: SpikingModel, tensors: dict[str, Tensor], layers: dict[str, Any]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path, layer in layers.items():
        weight = _weight(path, layer, tensors)
        scale = tensors.pop(f"{path}.scale", None)
        if scale is not None:
            weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        state[f"{path}.weight"] = weight
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and f"{path}.offset" in tensors:
            scale, offset = tensors.pop(f"{path}.scale"), tensors.pop(f"{path}.offset")
            state |= {f"{path}.weight": scale / getattr(module, "scale", 1.0), f"{path}.bias": offset}
            state[f"{path}.running_mean"] = torch.zeros_like(scale)
            state[f"{path}.running_var"] = torch.full_like(scale, 1 - module.eps)
            state[f"{path}.num_batches_tracked"] = torch.tensor(0)
    return state | tensors


def _weight(path: str, layer: dict[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    """The values of a layer's codes, before its scale."""
    shape, bits = [int(n) for n in layer["shape"]], int(layer["bits"])
    stream = tensors.pop(f"{path}.codes")
    if layer["form"] == "codebook":
        places = math.prod(shape[2:])
        book = tensors.pop(f"{path}.codebook")
        words = book.numel() * 8 // places
        signs = from_bits(book[: math.ceil(words * places / 8)], 1, words * places).view(words, places).float() * 2 - 1
        index = from_bits(stream, bits, shape[0] * shape[1])
        if index.numel() and int(index.max()) >= words:
            raise ValueError(f"{path}: index {int(index.max())} in a codebook of {words} kernels")
        return signs[index].view(shape)
    codes = from_bits(stream, bits, math.prod(shape)).view(shape).float()
    if layer["form"] == "signed":
        return codes - 2 ** (bits - 1)
    if layer["form"] != "odd":
        raise ValueError(f"{path}: unknown form {layer['form']!r}")
    return (2 * codes - (2**bits - 1)) / (2**bits - 1)
