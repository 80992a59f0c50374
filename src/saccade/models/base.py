"""What every model shares: its settings, its input, its time, its read-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from saccade.config import Config, Registry
from saccade.neurons import NEURONS

READOUTS = ("mean", "last")
CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # means and deviations of CIFAR-10's pixels by channel
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def preset(name: str, registry: Registry[Any] = NEURONS, **changes: Any) -> Any:
    """A field of a config that starts as the neuron (or whatever the registry holds) of a name, with some settings changed."""
    return field(default_factory=lambda: registry[name].changed(name, changes))


class Normalise(nn.Module):
    """``(x - mean) / std`` per channel of ``[T, N, C, H, W]``; the identity for event counts (no mean given)."""

    def __init__(self, channels: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.identity = mean is None
        if mean is not None and std is not None:
            if len(mean) != channels or len(std) != channels:
                raise ValueError(
                    f"normalisation has {len(mean)} means and {len(std)} deviations for {channels} channels"
                )
            self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.identity else (x - self.get_buffer("mean")) / self.get_buffer("std")


@dataclass(frozen=True)
class ModelConfig(Config):
    """What every model is asked: its steps on a static image, and how its answer is read off the steps.

    T: steps that a static image is shown for. readout: "mean" over time or "last" step.
    """

    T: int = 4
    readout: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.T <= 1 << 16:
            raise ValueError(f"T must be 1 to 65536 steps, got {self.T}")
        if self.readout not in READOUTS:
            raise ValueError(f"readout must be one of {', '.join(READOUTS)}, got {self.readout!r}")

    def build(self) -> SpikingModel:
        """The model, freshly initialised."""
        raise NotImplementedError


@dataclass(frozen=True)
class ClassifierConfig(ModelConfig):
    """A model whose answer is a logit for each of ``num_classes``."""

    num_classes: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")


class SpikingModel(nn.Module):
    """Base of the models: a function of its input that keeps nothing.

    ``model(x)``: ``x`` is a static ``[N, C, H, W]`` in [0, 1], shown for ``T`` steps, or a sequence ``[T, N, C, H, W]``.
    Returns what its task reads, ``[N, ...]`` (a classifier's logits ``[N, K]``): the mean over time, or the last step with
    ``readout="last"``. ``model(x, steps=True)`` returns ``[T, N, ...]``, which is what losses take.

    Inside, everything is ``[T, N, ...]``; a static image enters as ``[1, N, C, H, W]``, so that all that lies before the first
    neuron runs once. Subclasses implement ``step_outputs(x, T) -> [T, N, ...]`` on normalised input, and call ``in_time``
    before their first neuron.

    config: what it was built from. name: under which registered name (None: none). transforms: what was done to it since, in
    order. frames: how its input was made of event recordings (``saccade.events.framing``), None for pictures. input_size:
    height and width of an image that it takes, for examples and traces.
    """

    gives_steps = True  # it takes steps=True
    _virtual_steps = (
        1  # in each step, where integer neurons are unrolled into binary spikes (saccade.transforms.unroll)
    )

    def __init__(self, config: ModelConfig, normalise: Normalise, input_size: tuple[int, int] = (32, 32)) -> None:
        super().__init__()
        self.config: ModelConfig = config
        self.name: str | None = None
        self.normalise = normalise
        self.input_size = input_size
        self.transforms: list[Any] = []
        self.frames: dict[str, Any] | None = None

    @property
    def T(self) -> int:
        return self.config.T

    @property
    def readout(self) -> str:
        return self.config.readout

    @property
    def in_channels(self) -> int:
        return self.normalise.channels

    @property
    def num_classes(self) -> int:
        """Of a classifier. Raises AttributeError for another model."""
        if not isinstance(self.config, ClassifierConfig):
            raise AttributeError(f"{type(self).__name__} is no classifier, so it has no num_classes")
        return self.config.num_classes

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        """``[T or 1, N, C, H, W] -> [T, N, ...]``."""
        raise NotImplementedError

    def in_time(self, x: Tensor, T: int) -> Tensor:
        """``[1, N, ...]`` shown for T steps (a view); a sequence as it is, or each step for its virtual steps."""
        if len(x) == T:
            return x
        return x.expand(T, *x.shape[1:]) if len(x) == 1 else x.repeat_interleave(T // len(x), 0)

    def example_input(self, samples: int = 2) -> Tensor:
        """Random images ``[N, C, H, W]`` of a size that the model takes, always the same."""
        parameter = next(self.parameters())
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(samples, self.in_channels, *self.input_size, generator=generator, device="cpu")
        return x.to(parameter.device, parameter.dtype)

    def forward(self, x: Tensor, steps: bool = False) -> Tensor:
        """Raises ValueError naming the expected shape, or the module whose T is not the sequence's."""
        if x.dim() not in (4, 5) or x.shape[-3] != self.in_channels:
            c = self.in_channels
            raise ValueError(f"expected [N, {c}, H, W] or [T, N, {c}, H, W], got {list(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"expected images in [0, 1] as floats, got {x.dtype}; divide bytes by 255 first")
        x, T = (x.unsqueeze(0), self.T) if x.dim() == 4 else (x, len(x))
        y = self.step_outputs(self.normalise(x), T * self._virtual_steps)
        if self._virtual_steps > 1:
            y = y.unflatten(0, (T, self._virtual_steps)).mean(1)
        if steps:
            return y
        return y.mean(0) if self.readout == "mean" else y[-1]
