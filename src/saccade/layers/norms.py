"""Norms over ``[T, N, ...]``. Each names its channel axis; folding, packing and lowering ask it what it multiplies by and
adds.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from saccade.layers.recompute import running_again
from saccade.layers.weight_forms import Stored


class Norm(nn.Module):
    """Base of the norms. ``channel_axis``: of ``[T, N, ...]``, where the channels lie (2 for maps and rows, -1 for tokens)."""

    graph_layer = True  # one node of a graph
    channel_axis: int

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        """What the norm does in eval mode: times a scale, plus an offset, ``[C]`` each.

        Raises ValueError for a norm that is no such function (without running statistics, or of each sample's own).
        """
        raise NotImplementedError

    def state_of(self, scale: Tensor, offset: Tensor) -> dict[str, Tensor]:
        """The state dict with which the norm multiplies by ``scale`` and adds ``offset`` in eval mode."""
        raise NotImplementedError

    def keep(self, channels: Tensor) -> None:
        """Keep the channels of these indices, with their statistics."""
        raise NotImplementedError

    def storage(self) -> list[Stored]:
        """What a file must hold of the norm's learnt numbers."""
        return [Stored("norm", parameter.numel(), 32) for parameter in self.parameters(recurse=False)]


class BatchNorm(Norm, _BatchNorm):
    """Batch norm whose statistics are over all axes but the channels', those of time included (tdBN, Zheng et al. 2021).

    ``init_weight`` is where gamma starts (MS-ResNet: V_th, or 0). ``channel_axis``: 2 for maps ``[T, N, C, H, W]`` and rows
    ``[T, N, D]``, -1 for tokens ``[T, N, L, D]``.
    """

    gain = 1.0  # what gamma is multiplied by

    def __init__(self, channels: int, init_weight: float = 1.0, channel_axis: int = 2, **options: Any) -> None:
        if channel_axis in (0, 1):
            raise ValueError(f"axes 0 and 1 are time and samples; channels lie behind them, not on axis {channel_axis}")
        super().__init__(channels, **options)
        self.channel_axis = channel_axis
        if self.weight is not None:
            nn.init.constant_(self.weight, init_weight)

    @property  # type: ignore[override]
    def affine(self) -> bool:
        """Whether it has gamma and beta. Raises ValueError for what would take axis 1, the samples, for the channels."""
        if sys._getframe(1).f_code.co_name == "convert_sync_batchnorm":
            raise ValueError(
                f"torch's SyncBatchNorm takes axis 1 for the channels, which are the samples of {type(self).__name__}'s "
                "[T, N, ...]: statistics over several processes are not supported, leave these norms as they are"
            )
        return bool(vars(self)["affine"])

    @affine.setter
    def affine(self, value: bool) -> None:
        vars(self)["affine"] = value

    def forward(self, input: Tensor) -> Tensor:
        axis = self.channel_axis % input.dim()
        if input.dim() < 3 or axis < 2 or input.shape[axis] != self.num_features:
            raise ValueError(
                f"expected [T, N, ...] with {self.num_features} channels on axis {self.channel_axis}, got {list(input.shape)}"
            )
        x = input.flatten(0, 1)
        if axis == 2:
            return self._normalized(x).unflatten(0, input.shape[:2])
        return self._normalized(x.movedim(axis - 1, 1)).movedim(1, axis - 1).unflatten(0, input.shape[:2])

    def _normalized(self, x: Tensor) -> Tensor:
        gamma = self.weight if self.gain == 1 else self.weight * self.gain
        if self.training and running_again():  # the same output without another update of the running statistics
            return F.batch_norm(x, None, None, gamma, self.bias, True, 0.0, self.eps)
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        statistics = (
            (self.running_mean, self.running_var) if not self.training or self.track_running_stats else (None, None)
        )
        batch = self.training or self.running_mean is None
        return F.batch_norm(x, *statistics, gamma, self.bias, batch, momentum or 0.0, self.eps)

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        return batch_scale_and_offset(self, self.gain)

    def state_of(self, scale: Tensor, offset: Tensor) -> dict[str, Tensor]:
        return batch_state_of(self, scale, offset, self.gain)

    def keep(self, channels: Tensor) -> None:
        keep_batch_norm(self, channels)


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    """``BatchNorm`` over maps ``[T, N, C, H, W]``."""

    def __init__(self, channels: int, init_weight: float = 1.0, **options: Any) -> None:
        super().__init__(channels, init_weight, 2, **options)

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 5:
            raise ValueError(f"expected [T, N, C, H, W], got {list(input.shape)}")
        return super().forward(input)


class ThresholdBatchNorm2d(BatchNorm2d):
    """Threshold-dependent batch norm: ``gamma * (alpha * V_th * (x - mean) / sqrt(var + eps)) + beta``.

    ``alpha`` is 1, or 1/sqrt(2) where two branches are summed before a neuron. Source: Zheng et al. (2021) eq. 8-9.
    """

    def __init__(self, channels: int, v_th: float = 1.0, alpha: float = 1.0, **options: Any) -> None:
        super().__init__(channels, **options)
        self.gain = alpha * v_th

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, gain={self.gain:g}"


class LayerNorm(Norm, nn.LayerNorm):
    """``nn.LayerNorm`` over the channels of tokens ``[T, N, L, D]``, each token of each step by itself."""

    channel_axis = -1

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        raise ValueError("a layer norm divides by what each token is, so it is no scale and offset")

    def keep(self, channels: Tensor) -> None:
        raise ValueError("a layer norm takes its mean over all channels, so none can be removed")


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """The batch norms of a model by path, torch's own too."""
    return {path: module for path, module in model.named_modules() if isinstance(module, _BatchNorm)}


def norm_of(module: nn.Module) -> Any:
    """The module as a ``Norm``: itself, or torch's own batch or layer norm seen as one; None for others."""
    if isinstance(module, Norm):
        return module
    return _Borrowed(module) if isinstance(module, _BatchNorm | nn.LayerNorm) else None


class _Borrowed:
    """One of torch's norms, speaking as ours would."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.channel_axis = 1 if isinstance(module, _BatchNorm) else -1

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        if isinstance(self.module, _BatchNorm):
            return batch_scale_and_offset(self.module)
        return LayerNorm.scale_and_offset(self.module)  # type: ignore[arg-type]

    def state_of(self, scale: Tensor, offset: Tensor) -> dict[str, Tensor]:
        return batch_state_of(self.module, scale, offset)  # type: ignore[arg-type]

    def keep(self, channels: Tensor) -> None:
        if isinstance(self.module, _BatchNorm):
            keep_batch_norm(self.module, channels)
        else:
            LayerNorm.keep(self.module, channels)  # type: ignore[arg-type]


def batch_scale_and_offset(norm: _BatchNorm, gain: float = 1.0) -> tuple[Tensor, Tensor]:
    """Scale and offset ``[C]`` of a batch norm in eval mode: ``g / sqrt(var + eps)``, ``beta - mean * scale``.

    g is gamma times ``gain`` (alpha * V_th of a threshold-dependent norm). Source: Zheng et al. (2021) eq. 12-13.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("it has no running statistics")
    spread = torch.sqrt(norm.running_var + norm.eps)
    scale = gain / spread if norm.weight is None else norm.weight.detach() * gain / spread
    offset = -norm.running_mean * scale
    return scale, offset if norm.bias is None else norm.bias.detach() + offset


def batch_state_of(norm: _BatchNorm, scale: Tensor, offset: Tensor, gain: float = 1.0) -> dict[str, Tensor]:
    """The state dict of a batch norm with that scale and offset ``[C]`` in eval mode."""
    return {
        "weight": scale / gain,
        "bias": offset,
        "running_mean": torch.zeros_like(scale),
        "running_var": torch.full_like(scale, 1 - norm.eps),
        "num_batches_tracked": torch.tensor(0),
    }


def keep_batch_norm(norm: _BatchNorm, channels: Tensor) -> None:
    """Keep the channels of these indices, with their statistics."""
    for name in ("weight", "bias"):
        old = getattr(norm, name)
        if old is not None:
            setattr(
                norm, name, nn.Parameter(old.detach()[channels.to(old.device)].clone(), requires_grad=old.requires_grad)
            )
    if norm.running_mean is not None and norm.running_var is not None:
        channels = channels.to(norm.running_mean.device)
        norm.running_mean, norm.running_var = norm.running_mean[channels], norm.running_var[channels]
    norm.num_features = len(channels)
