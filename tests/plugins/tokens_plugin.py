"""What a package of somebody else adds: an integer neuron, a transformer of spikes with an attention of its own, a transform.

Importing this registers all of it; no file of saccade knows any of it.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from saccade.layers import BatchNorm, BatchNorm2d, Conv2d, Linear
from saccade.models import ClassifierConfig, ModelCard, Normalise, SpikingModel, register
from saccade.neurons import NEURONS, NeuronConfig, Spiking
from saccade.transforms import TRANSFORMS, Change, Transform


@dataclass(frozen=True)
class IntegerNeuronConfig(NeuronConfig):
    """Potentials are rounded to one of ``steps`` + 1 levels, which are subtracted again; v decays by a half a step."""

    steps: int = 4

    def __post_init__(self):
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def build(self, *, channels=None, channel_axis=2, role=""):
        return IntegerNeuron(self, channels=channels, channel_axis=channel_axis, role=role)


class IntegerNeuron(Spiking):
    def __init__(self, config, **options):
        super().__init__(**options)
        self.config = config
        self.levels = tuple(level / config.steps for level in range(config.steps + 1))

    def step(self, x, state=None):
        v = torch.zeros_like(x[0]) if state is None else state
        spikes, potentials = [], []
        for current in x:
            u = 0.5 * v + current
            inside = u.clamp(0, self.config.steps)
            whole = inside + (torch.floor(inside + 0.5) - inside).detach()
            v = u - whole
            spikes.append(whole / self.config.steps)
            potentials.append(u)
        if self.recorded:
            self.note(torch.stack(potentials))
        return torch.stack(spikes), v

    def state_spec(self, shape):
        return {"v": (shape, 32)}


class TokenAttention(nn.Module):
    """``(q k^T) v`` of spikes ``[T, N, L, D]``, without a softmax; each step by itself."""

    def __init__(self, neuron: NeuronConfig, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (projection(neuron, width, width) for _ in range(3))
        self.norm = BatchNorm(width, channel_axis=-1)
        self.mixed = neuron.build(channels=width, channel_axis=-1)
        self.out = nn.Sequential(Linear(width, width, bias=False), BatchNorm(width, channel_axis=-1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.out(self.mixed(self.norm((q @ k.transpose(-1, -2)) @ v)))


def projection(neuron: NeuronConfig, inputs: int, outputs: int) -> nn.Sequential:
    norm = BatchNorm(outputs, channel_axis=-1)
    return nn.Sequential(Linear(inputs, outputs, bias=False), norm, neuron.build(channels=outputs, channel_axis=-1))


class Block(nn.Module):
    """Currents in and out, ``[T, N, L, D]``: attention, then two layers, each with a shortcut."""

    def __init__(self, neuron: NeuronConfig, width: int) -> None:
        super().__init__()
        self.first = neuron.build(channels=width, channel_axis=-1)
        self.attention = TokenAttention(neuron, width)
        self.second = neuron.build(channels=width, channel_axis=-1)
        self.mlp = nn.Sequential(
            *projection(neuron, width, 2 * width),
            Linear(2 * width, width, bias=False),
            BatchNorm(width, channel_axis=-1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        return x + self.mlp(self.second(x))


@dataclass(frozen=True)
class TokenNetConfig(ClassifierConfig):
    """width: channels of a token; patch: side of the square that one is made of."""

    T: int = 4
    width: int = 16
    blocks: int = 1
    patch: int = 2
    neuron: NeuronConfig = field(default_factory=lambda: NEURONS["tet"])

    def build(self):
        return TokenNet(self)


class TokenNet(SpikingModel):
    def __init__(self, config: TokenNetConfig) -> None:
        super().__init__(config, Normalise(1), (8, 8))
        c = config
        self.embed = nn.Sequential(
            Conv2d(1, c.width, c.patch, c.patch, bias=False),
            BatchNorm2d(c.width),
        )
        self.blocks = nn.Sequential(*(Block(c.neuron, c.width) for _ in range(c.blocks)))
        self.last = c.neuron.build(channels=c.width, channel_axis=-1)
        self.head = Linear(c.width, c.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        tokens = self.embed(self.in_time(x, T)).flatten(3).transpose(-1, -2)
        return self.head(self.last(self.blocks(tokens)).mean(-2))


class Temperature(nn.Module):
    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start
        self.factor = nn.Parameter(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@dataclass(frozen=True)
class TemperatureConfig(Transform):
    """A learnt factor on the logits of a model's ``head``."""

    start: float = 1.0

    def apply(self, model):
        model.head = nn.Sequential(model.head, Temperature(self.start).to(next(model.parameters())))
        return Change(self, ("head",))

    def undo(self, model):
        model.head = model.head[0]


NEURONS.register("integer_for_tests", IntegerNeuronConfig())
TRANSFORMS.register("temperature", TemperatureConfig())
register(
    ModelCard(
        "token_net",
        "a transformer of spikes, for tests",
        "made for tests, in no paper on arXiv",
        (1, 8, 8),
        TokenNetConfig(),
    )
)
