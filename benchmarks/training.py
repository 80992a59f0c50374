"""Whole networks in Saccade and in its peers: a training step, inference, peak memory of training.

    python benchmarks/training.py --allocator default
    python benchmarks/training.py --allocator keep

Net "conv": conv3x3 3-64-128-256, each with batch norm and LIF neurons, average pooling after the first two, global pooling,
linear; 373,834 parameters; a static image for T steps; cross-entropy of the mean over time; SGD with momentum. Every
library in its own idiom, with the same weights. Registry nets: a model of Saccade, and the same with its neurons swapped.
Both memory formats are measured for every contender.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from neurons import plain_steps, sinabs_settings
from side_by_side import Case, Contender, run
from torch import Tensor, nn
from torch.nn import functional as F

from saccade import kernels
from saccade.layers import AvgPool2d, BatchNorm2d, Conv2d, Linear
from saccade.models import ClassifierConfig, Normalise, SpikingModel, create_model
from saccade.neurons import LIF
from saccade.transforms import fuse

T, CLASSES = 4, 10
WIDTHS = (3, 64, 128, 256)
PAIRS = list(pairwise(WIDTHS))
PARAMETERS = 373_834
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
Builder = Callable[[], nn.Module]

# The conv net, one class an idiom. Modules of all stand in the same order, so that weights can be copied.


class SaccadeNet(SpikingModel):
    """Time is an axis; what lies before the first neuron runs once for a static image."""

    def __init__(self) -> None:
        super().__init__(ClassifierConfig(T=T, num_classes=CLASSES), Normalise(3))
        layers: list[nn.Module] = []
        for a, b in PAIRS:
            layers += [Conv2d(a, b, 3, padding=1, bias=False), BatchNorm2d(b)]
            layers += [LIF(tau=2.0, decay_input=False), AvgPool2d(2)]
        self.stem = nn.Sequential(*layers[:2])
        self.body = nn.Sequential(*layers[2:-1])
        self.head = Linear(WIDTHS[-1], CLASSES)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        return self.head(self.body(self.in_time(self.stem(x), T)).mean((-2, -1)))


class EveryStep(SaccadeNet):
    """The same given a sequence, so that its stem runs at every step, as in the other libraries."""

    def forward(self, x: Tensor, steps: bool = False) -> Tensor:
        return super().forward(x.repeat(T, 1, 1, 1, 1), steps)


def conv_norm(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b))


class FoldedNet(nn.Module):
    """Plain torch: ``[T * N, ...]`` throughout. ``fire``: a plain LIF loop, or ReLU for the net without spikes."""

    def __init__(self, fire: Callable[[Tensor], Tensor], steps: int = T, stem_once: bool = False) -> None:
        super().__init__()
        self.fire, self.steps, self.stem_once = fire, steps, stem_once
        self.blocks = nn.ModuleList(conv_norm(a, b) for a, b in PAIRS)
        self.fc = nn.Linear(WIDTHS[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.blocks
        y = first(x).repeat(self.steps, 1, 1, 1) if self.stem_once else first(x.repeat(self.steps, 1, 1, 1))
        y = self.fire(second(F.avg_pool2d(self.fire(y), 2)))
        y = self.fire(third(F.avg_pool2d(y, 2)))
        return self.fc(y.mean((2, 3))).unflatten(0, (self.steps, -1)).mean(0)


def plain_fire(x: Tensor) -> Tensor:
    return torch.cat(plain_steps(x.unflatten(0, (T, -1))))  # on [N, C, H, W] keeps channels last, as a stack would not


class SpikingJellyNet(nn.Sequential):
    """Multi-step layers."""

    def __init__(self) -> None:
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(PAIRS):
            fire = neuron.LIFNode(2.0, False, detach_reset=True, surrogate_function=surrogate.ATan(2.0))
            layers += [layer.Conv2d(a, b, 3, padding=1, bias=False), layer.BatchNorm2d(b), fire]
            layers.append(layer.AvgPool2d(2, 2) if i < 2 else layer.AdaptiveAvgPool2d((1, 1)))
        super().__init__(*layers, layer.Flatten(), layer.Linear(WIDTHS[-1], CLASSES))
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.repeat(T, 1, 1, 1, 1)).mean(0)

    def forget(self) -> None:
        from spikingjelly.activation_based import functional

        functional.reset_net(self)


class LoopNet(nn.Module):
    """snnTorch and Norse: the whole net once a step, states in local variables."""

    def __init__(self, neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(conv_norm(a, b) for a, b in PAIRS)
        self.neurons = nn.ModuleList(neuron() for _ in PAIRS)
        self.fc = nn.Linear(WIDTHS[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states: list[Any] = [n.reset_mem() if hasattr(n, "reset_mem") else None for n in self.neurons]
        total = []
        for _ in range(T):
            y = x
            for i, (block, neuron) in enumerate(zip(self.blocks, self.neurons, strict=True)):
                y, states[i] = neuron(block(y if i == 0 else F.avg_pool2d(y, 2)), states[i])
            total.append(self.fc(y.mean((2, 3))))
        return torch.stack(total).mean(0)


def snntorch_net() -> nn.Module:
    import snntorch
    from snntorch import surrogate

    settings: dict[str, Any] = {"reset_mechanism": "zero", "reset_delay": False}
    return LoopNet(lambda: snntorch.Leaky(beta=0.5, spike_grad=surrogate.atan(2.0), **settings))


def norse_net() -> nn.Module:
    from norse.torch import LIFBoxCell, LIFBoxParameters

    return LoopNet(lambda: LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.tensor(500.0))))


class SinabsNet(nn.Sequential):
    """``[N * T, ...]`` with neurons that unfold it."""

    def __init__(self) -> None:
        from sinabs import layers as sinabs_layers

        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(PAIRS):
            fire = sinabs_layers.LIFSqueeze(num_timesteps=T, **sinabs_settings()).requires_grad_(False)
            layers += [*conv_norm(a, b), fire]
            layers.append(nn.AvgPool2d(2) if i < 2 else nn.AdaptiveAvgPool2d(1))
        super().__init__(*layers, nn.Flatten(), nn.Linear(WIDTHS[-1], CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.repeat_interleave(T, 0)).unflatten(0, (-1, T)).mean(1)

    def forget(self) -> None:
        import sinabs

        sinabs.reset_states(self)


NETS: dict[str, Builder] = {
    "saccade": SaccadeNet,
    "saccade, stem at every step": EveryStep,
    "saccade reference": SaccadeNet,
    "SpikingJelly": SpikingJellyNet,
    "snnTorch": snntorch_net,
    "Norse": norse_net,
    "sinabs": SinabsNet,
    "plain loop": lambda: FoldedNet(plain_fire),
    "torch.compile": lambda: FoldedNet(plain_fire),
    "torch.compile, stem once": lambda: FoldedNet(plain_fire, stem_once=True),
    "ANN, ReLU, T x N samples": lambda: FoldedNet(F.relu),
    "ANN, ReLU, T = 1": lambda: FoldedNet(F.relu, steps=1),
}
# Built from Saccade's net in eval mode.
FOR_INFERENCE: dict[str, Callable[[nn.Module], nn.Module]] = {
    "saccade, fused": lambda net: fuse(net, data(32)[0]).model,
}
NOTES = {
    "snnTorch": "batch statistics a step; gradient through the reset",
    "Norse": "batch statistics a step; norms scaled by 2, as the cell halves its input; SuperSpike surrogate",
    "sinabs": "exponential surrogate; gradient through the reset",
}


def data(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 3, 32, 32, generator=generator)
    return x, torch.randint(CLASSES, (batch,), generator=generator)


def with_layers(net: nn.Module) -> list[nn.Module]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]


@lru_cache
def source() -> nn.Module:
    """The weights for all, with running statistics that have seen the data."""
    torch.manual_seed(0)
    net = FoldedNet(plain_fire)
    x, _ = data(32)
    with torch.no_grad():
        for _ in range(20):
            net(x)
    return net


def conv_net(name: str) -> nn.Module:
    net = NETS[name]()
    for mine, given in zip(with_layers(net), with_layers(source()), strict=True):
        mine.load_state_dict(given.state_dict())
        if name == "Norse" and isinstance(mine, nn.BatchNorm2d):
            nn.init.constant_(mine.weight, 2.0)  # biases are 0
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert trained == PARAMETERS, f"{name} has {trained} parameters"
    return net


# A net of the registry with other neurons


def spikingjelly_neuron(config: Any) -> nn.Module:
    """Its neuron of the same constants."""
    from spikingjelly.activation_based import neuron, surrogate

    parameter = config.surrogate.parameter
    gradients = {"atan": lambda: surrogate.ATan(parameter), "rectangle": lambda: surrogate.Rect(0.5 / parameter)}
    gradients["sigmoid"] = lambda: surrogate.Sigmoid(parameter)
    settings = {"v_threshold": config.v_th, "v_reset": config.v_reset, "detach_reset": config.detach_reset}
    settings |= {"surrogate_function": gradients[config.surrogate.formula](), "step_mode": "m"}
    if config.tau == float("inf"):
        return neuron.IFNode(**settings)
    return neuron.LIFNode(config.tau, config.decay_input, **settings)


def with_neurons(net: nn.Module, replace: Callable[[Any], nn.Module]) -> nn.Module:
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, LIF):
                setattr(parent, name, replace(child.config))
    return net


def with_spikingjelly(net: nn.Module) -> nn.Module:
    from spikingjelly.activation_based import functional

    net = with_neurons(net, spikingjelly_neuron)
    net.forget = lambda: functional.reset_net(net)
    return net


@lru_cache
def registry_source(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = create_model(name, stem="cifar", T=T, num_classes=CLASSES)
    x, _ = data(8)
    with torch.no_grad():
        for _ in range(5):
            net(x)
    return net


def registry_nets(name: str) -> dict[str, Builder]:
    def fresh() -> nn.Module:
        return copy.deepcopy(registry_source(name))

    return {
        "saccade": fresh,
        "saccade reference": fresh,
        "SpikingJelly neurons": lambda: with_spikingjelly(fresh()),
        "ReLU for neurons": lambda: with_neurons(fresh(), lambda config: nn.ReLU()),
    }


def spikingjelly_sew_resnet() -> Callable[[], Any]:
    """SpikingJelly's own model. Its module needs torchvision; where that is not there, the row says so."""
    from spikingjelly.activation_based.model import sew_resnet

    raise NotImplementedError(f"{sew_resnet.__name__} can be imported here, but is not compared: it has no CIFAR stem")


# What is timed


def in_reference(net: nn.Module) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        with kernels.use("reference"):
            return net(x)

    return call


def contender(
    name: str, layout: str, build: Builder, x: Tensor, target: Tensor, train: bool, bf16: bool = False
) -> Contender:
    """``bf16``: a training step in mixed precision, as ``precision: bf16-mixed`` does it."""
    compiled = name.startswith("torch.compile")

    def make() -> Callable[[], Tensor]:
        net = build().train(train).to(memory_format=LAYOUTS[layout])
        forget = getattr(net, "forget", lambda: None)
        images = x.contiguous(memory_format=LAYOUTS[layout])
        call = torch.compile(net, dynamic=False) if compiled else in_reference(net) if "reference" in name else net

        def infer() -> Tensor:
            with torch.inference_mode():
                y = call(images)
                forget()
                return y

        if not train:
            return infer
        parameters = [p for p in net.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)

        def step() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(call(images), target)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            forget()
            return loss

        return step

    def facts(result: Tensor) -> dict[str, Any]:
        return {"loss": float(result.detach() if train else F.cross_entropy(result, target))}

    fields: dict[str, Any] = {"layout": layout} | ({"compiled": True} if compiled else {})
    return Contender(name, make, facts, fields | ({"note": NOTES[name]} if name in NOTES else {}))


def conv_contenders(batch: int, train: bool, layouts: tuple[str, ...] = tuple(LAYOUTS)) -> list[Contender]:
    x, target = data(batch)
    builders: dict[str, Builder] = {name: lambda name=name: conv_net(name) for name in NETS}
    if not train:
        for name, change in FOR_INFERENCE.items():
            builders[name] = lambda change=change: change(conv_net("saccade").eval())
    return [contender(name, key, build, x, target, train) for name, build in builders.items() for key in layouts]


def registry_contenders(model: str, batch: int, train: bool) -> list[Contender]:
    x, target = data(batch)
    nets = registry_nets(model)
    found = [contender(name, key, build, x, target, train) for name, build in nets.items() for key in LAYOUTS]
    return [*found, Contender("SpikingJelly sew_resnet18", spikingjelly_sew_resnet)] if "sew" in model else found


def cases(options: argparse.Namespace) -> list[Case]:
    conv, registry = (8, 2) if options.quick else (32, 16)
    models = ("ms_resnet18", "sew_resnet18")
    found = []
    for train in (True, False):
        what = "train" if train else "inference"
        fields: dict[str, Any] = {"table": what, "net": "conv", "T": T, "batch": conv}
        found.append(Case(fields, lambda small, train=train: conv_contenders(2 if small else conv, train)))
        for model in models:
            fields = {"table": what, "net": model, "T": T, "batch": registry}
            found.append(Case(fields, lambda small, m=model, train=train: registry_contenders(m, registry, train)))
    fields = {"table": "memory", "net": "conv", "T": T, "batch": conv}
    memory = Case(fields, lambda small: conv_contenders(2 if small else conv, True, ("contiguous",)), memory=True)
    return [*found, memory]


if __name__ == "__main__":
    run("training", __doc__ or "", cases)
