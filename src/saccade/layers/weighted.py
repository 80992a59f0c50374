"""Layers with weights: what they compute with, what they store, and how they lose channels.

Everything that changes or counts weights asks a ``Weighted``; ``weighted(module)`` gives one for torch's own layers too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.kernels.bits import Bits, Grid, pack, pack_any
from saccade.kernels.onlookers import somebody
from saccade.layers import packed
from saccade.layers.fold import fold_time
from saccade.layers.weight_forms import Stored, WeightForm

ANALOG = "analog"
SMALLEST = 1 << 14  # elements; below, the bytes saved are not worth the calls


class Weighted(nn.Module):
    """Mixed into a layer with a ``weight`` ``[O, I, ...]``: the form that it takes, and whether the input is kept as bits.

    The first input that is seen in training tells the grid of values; each later one is checked against it while it is
    packed, and kept whole where it does not fit. Layers fed by anything but spikes find out once and do nothing more.

    The channels that it reads and those that it makes lie on ``channel_axis``; the axes behind that one come out as others.
    """

    graph_layer = True  # one node of a graph
    form: WeightForm | None
    weight: Any  # nn.Parameter [O, I, ...]
    bias: Any  # nn.Parameter [O], or None
    channel_axis: int  # of input and output, from the end
    _pack_spikes: bool | None = None  # None: on a CPU; on a GPU it takes more time than it saves memory
    _grid: Grid | str | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register_module("form", None)

    def used_weight(self) -> Tensor:
        """The weight that the layer computes with: its own, or what its form makes of it (see ``layers.weight_forms``)."""
        used: Tensor = self.weight if self.form is None else self.form(self.weight)
        return used

    def integers(self) -> tuple[Tensor, Tensor]:
        """``used_weight`` as int64 ``[O, I, ...]`` times a scale ``[O]``. Raises ValueError where it is none."""
        if self.form is None:
            raise ValueError("full weights; lowering needs quantized ones first, e.g. by rescaw")
        return self.form.integers(self.weight.detach())

    @property
    def depthwise(self) -> bool:
        """Whether every output channel reads the input channel of its number alone."""
        groups = getattr(self, "groups", 1)
        return groups > 1 and groups == len(self.weight) and self.weight.shape[1] == 1

    def set_plain(self, weight: Tensor, bias: Tensor | None) -> None:
        """Compute with these numbers from here on: weight ``[O, I, ...]`` without a form, bias ``[O]`` or none."""
        self.form = None
        self.weight = _parameter(weight, self.weight)
        self.bias = None if bias is None else _parameter(bias, self.weight)

    def keep_outputs(self, keep: Tensor) -> None:
        """Keep the output channels of the indices ``keep``; of a depthwise layer its inputs too."""
        keep = keep.to(self.weight.device)
        self.weight = _parameter(self.weight.detach()[keep], self.weight)
        if self.bias is not None:
            self.bias = _parameter(self.bias.detach()[keep], self.bias)
        if self.form is not None:
            self.form.keep_outputs(keep)
        self._resize()

    def keep_inputs(self, keep: Tensor, block: int = 1) -> None:
        """Keep the input channels ``keep``; each has ``block`` inputs in a row (H * W after flattening maps)."""
        columns = (keep[:, None] * block + torch.arange(block)).flatten().to(self.weight.device)
        self.weight = _parameter(self.weight.detach()[:, columns], self.weight)
        self._resize()

    def storage(self) -> list[Stored]:
        """What a file must hold of the layer's own numbers, by kind."""
        weight = self.weight
        parts = [Stored("weight", weight.numel(), 32)] if self.form is None else self.form.storage(weight)
        return parts + ([] if self.bias is None else [Stored("bias", self.bias.numel(), 32)])

    def bits_of(self, x: Tensor) -> Bits | None:
        """The input as bits, or None where it should be kept as it is."""
        if (
            somebody(x)  # first: what is asked of x below would be a guard on its size
            or not (x.device.type == "cpu" if self._pack_spikes is None else self._pack_spikes)
            or self._grid == ANALOG
            or not torch.is_grad_enabled()
            or not self.weight.requires_grad
            or x.numel() < SMALLEST
            or x.dtype not in (torch.float32, torch.bfloat16, torch.float16)
        ):
            return None
        with torch.no_grad():
            bits = pack(x, self._grid) if isinstance(self._grid, Grid) else None
            if bits is None:
                bits = pack_any(x)
                self._grid = bits.form.grid if bits else ANALOG
        return bits

    def _resize(self) -> None:
        """Say the number of channels that the weight has now, in the words of the layer."""
        raise NotImplementedError


class Conv2d(Weighted, nn.Conv2d):
    """``nn.Conv2d`` over ``[T, N, C, H, W]``; in training, input that is spikes is kept as bits (see ``layers.packed``)."""

    channel_axis = -3

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() > 2 and input.shape[-3] != self.in_channels:
            raise ValueError(f"expected {self.in_channels} channels, got an input {list(input.shape)}")
        return fold_time(self._convolve, input, "T, N, C, H, W")

    def _convolve(self, x: Tensor) -> Tensor:
        bits = self.bits_of(x) if self.padding_mode == "zeros" and not isinstance(self.padding, str) else None
        if bits is None:
            return self._conv_forward(x, self.used_weight(), self.bias)
        geometry = self.stride, self.padding, self.dilation, self.groups
        return packed.conv2d(x, self.used_weight(), self.bias, bits, *geometry)

    def _resize(self) -> None:
        self.out_channels = len(self.weight)
        if self.groups > 1:  # only depthwise layers lose channels
            self.groups = self.in_channels = len(self.weight)
        else:
            self.in_channels = self.weight.shape[1]


class Linear(Weighted, nn.Linear):
    """``nn.Linear`` over the last axis of ``[T, N, ..., D]``; in training, input that is spikes is kept as bits."""

    channel_axis = -1

    def forward(self, input: Tensor) -> Tensor:
        bits = self.bits_of(input)
        if bits is None:
            return F.linear(input, self.used_weight(), self.bias)
        return packed.linear(input, self.used_weight(), self.bias, bits)

    def _resize(self) -> None:
        self.out_features, self.in_features = self.weight.shape


def weighted(module: nn.Module) -> Any:
    """The module as a ``Weighted``: itself, or torch's own convolution or linear layer seen as one; None for others."""
    if isinstance(module, Weighted):
        return module
    if isinstance(module, nn.Conv2d):
        return _Borrowed(module, Conv2d)
    return _Borrowed(module, Linear) if isinstance(module, nn.Linear) else None


class _Borrowed:
    """One of torch's layers, speaking as ours would; what is written reaches the layer."""

    def __init__(self, module: nn.Module, kind: type[Weighted]) -> None:
        object.__setattr__(self, "module", module)
        object.__setattr__(self, "kind", kind)

    def __getattr__(self, name: str) -> Any:
        if name == "form":
            return None
        if hasattr(self.module, name):
            return getattr(self.module, name)
        value = getattr(self.kind, name)
        if isinstance(value, property):
            return value.fget(self)  # type: ignore[misc]
        return value.__get__(self) if callable(value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "form":
            setattr(self.module, name, value)


def weighted_layers(model: nn.Module) -> dict[str, Weighted]:
    """The layers of ``saccade.layers`` with weights, by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Weighted)}


def weight_forms(model: nn.Module) -> Iterator[WeightForm]:
    """The forms on a model's layers."""
    for module in model.modules():
        if isinstance(module, WeightForm):
            yield module


def set_spike_packing(model: nn.Module, on: bool | None) -> None:
    """Switch the packing of spikes on or off in all layers of a model; None, which is how they start: on where it is a CPU."""
    for layer in weighted_layers(model).values():
        layer._pack_spikes = on


def _parameter(values: Tensor, like: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(values.detach().to(like.dtype).clone(), requires_grad=like.requires_grad)
