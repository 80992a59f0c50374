"""Parts that somebody else adds: a norm, a layer with weights, a weight form, an operation with its counting rule, a lowering.

Importing this registers all of it; no file of saccade knows any of it.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.deploy import lowers
from saccade.deploy.operations.synapse import synapse
from saccade.graph.rules import counts
from saccade.layers import Codes, Linear, Norm, Weighted, WeightForm
from saccade.layers.weight_forms import VALUES, per_channel, straight_through
from saccade.models import ClassifierConfig, ModelCard, Normalise, SpikingModel, register
from saccade.neurons import NEURONS, NeuronConfig
from saccade.transforms import QUANTIZERS


class LearntScale(Norm):
    """A factor and an offset for each channel of ``[T, N, ..., C]``, and no statistics."""

    def __init__(self, channels: int, channel_axis: int = -1) -> None:
        super().__init__()
        self.channel_axis = channel_axis
        self.factor = nn.Parameter(torch.linspace(0.5, 1.5, channels))
        self.shift = nn.Parameter(torch.linspace(-0.1, 0.3, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        return self.factor.detach(), self.shift.detach()

    def keep(self, channels: Tensor) -> None:
        self.factor, self.shift = (nn.Parameter(part.detach()[channels]) for part in (self.factor, self.shift))


class Scaled(Weighted):
    """``factor * (x W^T)`` on the last axis, with a factor of its own that is no part of the weight."""

    channel_axis = -1

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.register_parameter("bias", None)

    def used_weight(self) -> Tensor:
        return super().used_weight() * self.factor

    def integers(self) -> tuple[Tensor, Tensor]:
        whole, scale = super().integers()
        return whole, scale * self.factor

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.used_weight(), self.bias)

    def set_plain(self, weight: Tensor, bias: Tensor | None) -> None:
        super().set_plain(weight, bias)
        self.factor = 1.0

    def _resize(self) -> None:
        pass


class Ternary(WeightForm):
    """``scale * {-1, 0, 1}``, with the zero below a third of the largest weight of a channel."""

    values = "ternary"
    bits = 2

    def statistics(self, weight: Tensor) -> Tensor:
        return weight.flatten(1).abs().amax(1)

    def _signs(self, weight: Tensor) -> Tensor:
        least = per_channel(self.current_statistics(weight) / 3, weight)
        return torch.sign(weight) * (weight.abs() > least)

    def forward(self, weight: Tensor) -> Tensor:
        used = self._signs(weight) * per_channel(self.current_statistics(weight), weight)
        return straight_through(used, weight)

    def encode(self, weight: Tensor) -> Codes:
        return Codes({"signs": (self._signs(weight) + 1, 2)}, self.current_statistics(weight))

    @classmethod
    def decode(cls, streams, bits, shape):
        if int(streams["signs"].max()) > 2:
            raise ValueError("a ternary code is 0, 1 or 2")
        return streams["signs"].view(*shape).float() - 1

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self._signs(weight).long(), self.current_statistics(weight)


QUANTIZERS.register("ternary", lambda config, weight: Ternary())
VALUES.register("ternary", Ternary)


@torch.library.custom_op("parts_plugin::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    return x * 2


@doubled.register_fake
def _(x):
    return torch.empty_like(x)


doubled.register_autograd(lambda context, gradient: gradient * 2)


@counts("parts_plugin::doubled")
def count_doubled(call):
    call.count(adds=call.args[0].numel())  # v + v


class Doubled(nn.Module):
    graph_layer = True

    def forward(self, x: Tensor) -> Tensor:
        return doubled(x)


@lowers(Doubled)
def lower_doubled(low, node):
    return low.of(node.inputs[0]).times(2)


lowers(Scaled)(synapse)  # it is a matrix product of its integers


@dataclass(frozen=True)
class PartsNetConfig(ClassifierConfig):
    T: int = 4
    width: int = 12
    neuron: NeuronConfig = field(default_factory=lambda: NEURONS["tet"])

    def build(self):
        return PartsNet(self)


class PartsNet(SpikingModel):
    """Pixels, doubled; three layers of neurons; logits."""

    def __init__(self, config: PartsNetConfig) -> None:
        super().__init__(config, Normalise(1), (8, 8))
        c = config
        self.doubled = Doubled()
        self.stem = Linear(64, c.width)
        self.first = c.neuron.build(channels=c.width, channel_axis=-1)
        self.hidden = nn.Sequential(
            Scaled(c.width, c.width, 2.0), LearntScale(c.width), c.neuron.build(channels=c.width, channel_axis=-1)
        )
        self.more = nn.Sequential(
            Linear(c.width, c.width, bias=False),
            LearntScale(c.width),
            c.neuron.build(channels=c.width, channel_axis=-1),
        )
        self.head = Linear(c.width, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        pixels = self.doubled(x.flatten(2))
        return self.head(self.more(self.hidden(self.first(self.in_time(self.stem(pixels), T)))))


register(
    ModelCard("parts_net", "a chain of parts, for tests", "made for tests, in no paper", (1, 8, 8), PartsNetConfig())
)
