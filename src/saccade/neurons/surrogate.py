"""Surrogate gradients: what the backward pass uses for the derivative of the firing step.

Each is a frozen dataclass with ``derivative(d)`` and its integral ``primitive(d)``, where ``d`` = potential - threshold.
The primitive rises by one over the real line (except for the straight-through estimator), so that a network whose step is
replaced by it has exactly these gradients; tests use that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from saccade.config import Config, Registry

SURROGATES: Registry[Surrogate] = Registry("surrogate")


@dataclass(frozen=True)
class Surrogate(Config):
    """Base of the surrogates; subclasses define ``derivative`` and ``primitive``, both elementwise.

    ``formula`` names the derivative to the fused kernels, which have these six; a surrogate without one (yours) runs in the
    reference, where its ``derivative`` is called.
    """

    registry: ClassVar[Registry[Surrogate]] = SURROGATES
    formula: ClassVar[str] = ""

    @property
    def parameter(self) -> float:
        """The one number of the formula."""
        return float(next((getattr(self, field.name) for field in fields(self)), 0.0))

    def derivative(self, distance: Tensor) -> Tensor:
        raise NotImplementedError

    def primitive(self, distance: Tensor) -> Tensor:
        raise NotImplementedError

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{type(self).__name__}: {name} must be positive, got {value}")


@dataclass(frozen=True)
class ATan(Surrogate):
    """(alpha/2) / (1 + (pi/2 * alpha * d)^2). Source: Fang et al. (2021), Incorporating Learnable Membrane Time Constant."""

    formula: ClassVar[str] = "atan"
    alpha: float = 2.0

    def derivative(self, distance: Tensor) -> Tensor:
        return (self.alpha / 2) / (1 + (math.pi / 2 * self.alpha * distance).square())

    def primitive(self, distance: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * distance) / math.pi + 0.5


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """alpha * sigma(alpha d) * (1 - sigma(alpha d)). Source: Neftci et al. (2019), Surrogate Gradient Learning."""

    formula: ClassVar[str] = "sigmoid"
    alpha: float = 4.0

    def derivative(self, distance: Tensor) -> Tensor:
        y = torch.sigmoid(self.alpha * distance)
        return self.alpha * y * (1 - y)

    def primitive(self, distance: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * distance)


@dataclass(frozen=True)
class Triangle(Surrogate):
    """max(0, width - |d|) / width^2. Source: Bellec et al. (2018); the form of Deng et al. (2022), TET."""

    formula: ClassVar[str] = "triangle"

    width: float = 1.0

    def derivative(self, distance: Tensor) -> Tensor:
        return (self.width - distance.abs()).clamp(min=0) / self.width**2

    def primitive(self, distance: Tensor) -> Tensor:
        z = (distance / self.width).clamp(-1, 1)
        return 0.5 + z - z * z.abs() / 2


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """1 / (2 * half_width) where |d| < half_width. Source: Wu et al. (2018), STBP, eq. 24."""

    formula: ClassVar[str] = "rectangle"

    half_width: float = 0.5

    def derivative(self, distance: Tensor) -> Tensor:
        return (distance.abs() < self.half_width).to(distance.dtype) / (2 * self.half_width)

    def primitive(self, distance: Tensor) -> Tensor:
        return (distance / (2 * self.half_width) + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """Normal density of standard deviation sigma. Source: Wu et al. (2018), STBP, eq. 27."""

    formula: ClassVar[str] = "gaussian"

    sigma: float = 0.5

    def derivative(self, distance: Tensor) -> Tensor:
        return torch.exp(-((distance / self.sigma).square()) / 2) / (self.sigma * math.sqrt(2 * math.pi))

    def primitive(self, distance: Tensor) -> Tensor:
        return 0.5 * (1 + torch.erf(distance / (self.sigma * math.sqrt(2))))


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """1 everywhere: the gradient passes as if firing were the identity. Source: Bengio et al. (2013)."""

    formula: ClassVar[str] = "straight_through"

    def derivative(self, distance: Tensor) -> Tensor:
        return torch.ones_like(distance)

    def primitive(self, distance: Tensor) -> Tensor:
        return distance


for _kind in (ATan, Sigmoid, Triangle, Rectangle, Gaussian, StraightThrough):
    SURROGATES.register(_kind.__name__, _kind())
