"""The released checkpoints of SDTrack, read into our models without running what a pickle may ask for."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from saccade.layers import BatchNorm2d, Conv2d
from saccade.models.sdtrack import SDTrack, SDTrackConfig

BRANCHES = {"centre": ("ctr", "size", "offset"), "corner": ("tl", "br")}
BODY, HEAD = "backbone.", "box_head."


def load_official(path: str | Path, model: SDTrack) -> tuple[str, ...]:
    """Load a released checkpoint into a model of layout "plain" with the same widths and depths; what it lacked, in words.

    Takes what the authors' trainer saves (all of a tracker under "net"), and what it starts from (a body alone under "model").
    Source: Shan et al. (2025), arXiv 2503.08703. Raises ValueError, in one line, for a file that holds anything but tensors,
    or the tensors of another model.
    """
    tensors = _tensors(Path(path))
    whole = any(key.startswith(BODY) for key in tensors)
    body = {key.removeprefix(BODY): value for key, value in tensors.items() if not key.startswith(HEAD)}
    head = {key.removeprefix(HEAD): value for key, value in tensors.items() if key.startswith(HEAD)}
    c = model.config
    if c.layout != "plain":
        raise ValueError(f"{path}: released weights are of layout 'plain', this model is of layout {c.layout!r}")
    made: dict[str, Tensor] = {}
    _fill(made, model, "body", list(_body_names(c)), body, path)
    notes = []
    if whole:
        for ours, name in zip(model.head.named_children(), BRANCHES[c.head], strict=True):
            places = [_found(head, f"conv{i}_{name}.", path) for i in (1, 2, 3, 4)]
            _fill(made, model, f"head.{ours[0]}", [*places, (f"conv5_{name}", "")], head, path)
    else:
        notes.append("its head: freshly initialised")
    if c.classifier:
        for part in ("weight", "bias"):
            if f"head.{part}" in body:
                made[f"classifier.{part}"] = body[f"head.{part}"]
            else:
                notes.append(f"the classifier's {part}: freshly initialised")
    own = model.state_dict()
    for key, value in made.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{path}: holds values that are not finite ({key})")
        if own[key].shape != value.shape:
            raise ValueError(f"{path}: {key} is {list(value.shape)} where the model has {list(own[key].shape)}")
    model.load_state_dict(own | made)
    return tuple(notes)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())[:100]
        raise ValueError(f"{path}: not a checkpoint of tensors alone ({type(error).__name__}: {words})") from None
    for key in ("net", "model", "state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: holds no tensors by name")
    return {str(key): value for key, value in found.items() if isinstance(value, Tensor)}


def _body_names(c: SDTrackConfig) -> Iterator[tuple[str, str]]:
    """Of every convolution and its norm, in the order in which they are built."""

    def block(at: str) -> Iterator[tuple[str, str]]:
        yield from ((f"{at}.Conv.{part}.0", f"{at}.Conv.{part}.1") for part in ("pwconv1", "dwconv", "pwconv2"))
        yield from ((f"{at}.conv{i}", f"{at}.bn{i}") for i in (1, 2))

    def mixing(at: str) -> Iterator[tuple[str, str]]:
        yield from ((f"{at}.attn.{part}_conv.0", f"{at}.attn.{part}_conv.1") for part in ("q", "k", "v", "proj"))
        yield from ((f"{at}.mlp.fc{i}_conv", f"{at}.mlp.fc{i}_bn") for i in (1, 2))

    def down(name: str) -> tuple[str, str]:
        return f"downsample{name}.encode_conv", f"downsample{name}.encode_bn"

    yield down("1_1")
    for i in range(c.depths[0]):
        yield from block(f"ConvBlock1_1.{i}")
    yield down("1_2")
    for i in range(c.depths[1]):
        yield from block(f"ConvBlock1_2.{i}")
    yield down("2")
    for i in range(c.depths[2]):
        yield from block(f"ConvBlock2_{i + 1}.0")
    yield down("3")
    for i in range(c.depths[3]):
        yield from mixing(f"block3.{i}")
    yield down("4")
    for i in range(c.depths[4]):
        yield from mixing(f"block4.{i}")


def _found(tensors: Mapping[str, Tensor], prefix: str, path: str | Path) -> tuple[str, str]:
    """The convolution and the norm under a prefix, wherever in their sequence they stand."""
    inside = [key for key in tensors if key.startswith(prefix)]
    conv = [key.rpartition(".")[0] for key in inside if key.endswith(".weight") and tensors[key].dim() == 4]
    norm = [key.rpartition(".")[0] for key in inside if key.endswith(".running_mean")]
    if len(conv) != 1 or len(norm) != 1:
        raise ValueError(f"{path}: lacks a convolution and a norm under {HEAD}{prefix}")
    return conv[0], norm[0]


def _fill(
    made: dict[str, Tensor],
    model: SDTrack,
    part: str,
    names: list[tuple[str, str]],
    tensors: Mapping[str, Tensor],
    path: str | Path,
) -> None:
    """Tensors under the names of a part of our model. Raises ValueError for one that is not there."""
    inside = {f"{part}.{key}": module for key, module in model.get_submodule(part).named_modules()}
    convs = [key for key, module in inside.items() if isinstance(module, Conv2d)]
    norms = [key for key, module in inside.items() if isinstance(module, BatchNorm2d)]
    for ours, theirs in (
        *zip(convs, [conv for conv, _ in names], strict=True),
        *zip(norms, [norm for _, norm in names if norm], strict=True),
    ):
        for key, value in model.get_submodule(ours).state_dict().items():
            name = f"{theirs}.{key}"
            if name not in tensors:
                raise ValueError(f"{path}: lacks the tensor {name!r}, so it belongs to another model")
            found = tensors[name]
            made[f"{ours}.{key}"] = found.unsqueeze(-1) if found.dim() == 3 and value.dim() == 4 else found
