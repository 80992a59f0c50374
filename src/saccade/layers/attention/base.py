"""What all attentions of spikes share: their place in a network, their projections, what they declare; the registry.

Tokens are the places of a map: an attention takes maps ``[T, N, C, H, W]`` and gives maps, and token n is place n in raster
order. Inside, ``to_heads`` makes ``[T, N, h, C/h, L]`` of them, a view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from saccade.config import Config, Registry
from saccade.graph.records import Counts
from saccade.layers.norms import BatchNorm2d
from saccade.layers.weighted import Conv2d
from saccade.neurons import NeuronConfig

ATTENTIONS: Registry[AttentionConfig] = Registry("attention")


def pointwise(inputs: int, outputs: int, bias: bool = False) -> nn.Sequential:
    """A linear layer of every token (a 1x1 convolution) and its norm: spikes to currents."""
    return nn.Sequential(Conv2d(inputs, outputs, 1, bias=bias), BatchNorm2d(outputs))


@dataclass(frozen=True)
class Site:
    """Where an attention stands in a network.

    channels, heads: of its input. neuron: of the network. T: steps that it is built for (None: any). reduction: by how much
    a network that says so coarsens keys and values, a side. projection: ``(inputs, outputs) -> module`` from spikes to
    currents. Raises ValueError for channels that do not divide into the heads.
    """

    channels: int
    heads: int
    neuron: NeuronConfig
    T: int | None = None
    reduction: int = 1
    projection: Callable[[int, int], nn.Module] = pointwise

    def __post_init__(self) -> None:
        if self.heads < 1 or self.channels % self.heads:
            raise ValueError(f"{self.channels} channels do not divide into {self.heads} heads")

    def spikes(self, outputs: int) -> nn.Sequential:
        """A projection and its neurons: spikes ``[T, N, C, H, W]`` to spikes of ``outputs`` channels."""
        return nn.Sequential(self.projection(self.channels, outputs), self.neuron.build(channels=outputs))


@dataclass(frozen=True)
class AttentionConfig(Config):
    """Base of the settings of attentions: frozen, chosen by name in recipes, kept in model files.

    What lies behind the projections says of itself whether it is causal in time and in tokens, what it costs and what it keeps.
    """

    registry: ClassVar[Registry[AttentionConfig]] = ATTENTIONS

    @property
    def causal_in_time(self) -> bool:
        """Whether no step depends on a later one."""
        return True

    @property
    def causal_in_tokens(self) -> bool:
        """Whether no token depends on a later one, in raster order."""
        return False

    def build(self, site: Site) -> Attention:
        raise NotImplementedError

    def ops(self, N: int, d: int, h: int) -> Counts:
        """Operations of one step of one sample behind the projections and without neurons, were every spike there.

        N tokens, d channels, h heads. Products of matrices are ``dense_macs`` (additions, since an operand is spikes).
        """
        raise NotImplementedError

    def state(self, N: int, d: int, h: int) -> int:
        """Numbers that it holds at once besides q, k and v to work off one step of a sample, token by token where it can."""
        raise NotImplementedError

    def output(self, neuron: NeuronConfig) -> tuple[float, ...]:
        """The values that it can give in a network of these neurons."""
        return emitted(neuron.after_product())


class Attention(nn.Module):
    """Base of the attentions, ``[T, N, C, H, W] -> [T, N, C', H, W]``: spikes (or small integers) in, spikes out.

    A subclass builds the ``parts`` that it names by ``Site.spikes`` and says by ``mix`` what becomes of them; ``neuron``
    fires on the result. ``out_channels``: C', which whoever projects the result has to know.
    """

    parts: tuple[str, ...] = ("q", "k", "v")
    neuron: nn.Module

    def __init__(self, config: AttentionConfig, site: Site) -> None:
        super().__init__()
        self.config = config
        self.heads = site.heads
        self.out_channels = site.channels

    def extra_repr(self) -> str:
        return f"{self.config!r}, heads={self.heads}"

    def mix(self, *parts: Tensor) -> Tensor:
        """What the parts, maps ``[T, N, C, H, W]``, make of each other."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.neuron(self.mix(*(self.get_submodule(part)(x) for part in self.parts)))
        return y


def attention_parts(model: nn.Module) -> dict[str, int]:
    """Paths of what the attentions of a model mix (queries, keys, values), in order, with their heads."""
    return {
        f"{path}.{part}": module.heads
        for path, module in model.named_modules()
        if isinstance(module, Attention)
        for part in module.parts
    }


def to_heads(x: Tensor, heads: int) -> Tensor:
    """Maps ``[T, N, C, H, W]`` as ``[T, N, heads, C/heads, H*W]``."""
    return x.flatten(3).unflatten(2, (heads, -1))


def to_maps(x: Tensor, like: Tensor) -> Tensor:
    """``[T, N, heads, C/heads, L]`` as maps of the height and width of ``like``."""
    return x.flatten(2, 3).unflatten(-1, like.shape[-2:])


def emitted(neuron: NeuronConfig) -> tuple[float, ...]:
    """The values that these neurons emit."""
    return neuron.build(channels=1).levels


def masked(neuron: NeuronConfig) -> tuple[float, ...]:
    """The values of a spike times one of a mask that fires on a product or sum of spikes, in order."""
    return tuple(sorted({a * b for a in emitted(neuron) for b in emitted(neuron.after_product())}))
