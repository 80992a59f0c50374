"""Small convolutional nets of other frameworks, as ``saccade verify`` takes them: ``peer_models:factory``.

    saccade verify peer_models:spikingjelly_net --shape 2,16,16 --T 6 --spiking BaseNode \
        --reset peer_models:spikingjelly_reset

Each is two spiking convolutions and a linear head on ``[T, N, 2, 16, 16]``, written as the framework's tutorials do. The
weights are scaled up so that the layers fire; nothing is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS, CLASSES = 8, 10


def _louder(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, -0.5, 0.6)
        elif isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -0.1, 0.11)
    return model


def spikingjelly_net() -> nn.Module:
    """SpikingJelly in multi-step mode: its neurons keep their membranes until ``functional.reset_net``."""
    from spikingjelly.activation_based import functional, layer, neuron

    net = nn.Sequential(
        layer.Conv2d(2, CHANNELS, 3, padding=1, bias=False),
        layer.BatchNorm2d(CHANNELS),
        neuron.LIFNode(detach_reset=True),
        layer.MaxPool2d(2, 2),
        layer.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        layer.BatchNorm2d(CHANNELS),
        neuron.LIFNode(detach_reset=True),
        layer.AdaptiveAvgPool2d((1, 1)),
        layer.Flatten(),
        layer.Linear(CHANNELS, CLASSES),
    )
    functional.set_step_mode(net, "m")
    return _louder(net)


def spikingjelly_forgotten() -> nn.Module:
    """The same, but nobody called ``set_step_mode``: the neurons work step by step and get ``[T, N, ...]`` whole."""
    from spikingjelly.activation_based import functional, neuron

    net = spikingjelly_net()
    for module in net.modules():
        if isinstance(module, neuron.LIFNode):
            functional.set_step_mode(module, "s")
    return net


class Flattened(nn.Module):
    """Gives its neuron ``[T * N, ...]``, as QKFormer's released attention does (its issue 14)."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.neuron(x.flatten(0, 1))
        return y.unflatten(0, x.shape[:2])


def spikingjelly_flattened() -> nn.Module:
    """The same, with the second layer of neurons integrating over time and batch as one axis."""
    net = spikingjelly_net()
    assert isinstance(net, nn.Sequential)
    net[6] = Flattened(net[6])
    return net


def spikingjelly_reset(model: nn.Module) -> None:
    from spikingjelly.activation_based import functional

    functional.reset_net(model)


class SnnTorchNet(nn.Module):
    """snnTorch as in its tutorials: membranes in local variables, a loop over time, spikes and membranes returned."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch
        from snntorch import surrogate

        self.conv1, self.lif1 = nn.Conv2d(2, CHANNELS, 3, padding=1), snntorch.Leaky(0.5, spike_grad=surrogate.atan())
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.lif2 = (
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            snntorch.Leaky(0.5, spike_grad=surrogate.atan()),
        )
        self.fc, self.lif3 = nn.Linear(CHANNELS * 64, CLASSES), snntorch.Leaky(0.5, spike_grad=surrogate.atan())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2, mem3 = self.lif1.reset_mem(), self.lif2.reset_mem(), self.lif3.reset_mem()
        spikes, membranes = [], []
        for step in x:
            spk, mem1 = self.lif1(self.conv1(step), mem1)
            spk, mem2 = self.lif2(self.conv2(self.pool(spk)), mem2)
            spk, mem3 = self.lif3(self.fc(spk.flatten(1)), mem3)
            spikes.append(spk)
            membranes.append(mem3)
        return torch.stack(spikes), torch.stack(membranes)


class SnnTorchHidden(nn.Module):
    """snnTorch with ``init_hidden=True``: the neurons keep their membranes until ``utils.reset``."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch
        from snntorch import surrogate

        self.net = nn.Sequential(
            nn.Conv2d(2, CHANNELS, 3, padding=1),
            snntorch.Leaky(0.5, spike_grad=surrogate.atan(), init_hidden=True),
            nn.MaxPool2d(2),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            snntorch.Leaky(0.5, spike_grad=surrogate.atan(), init_hidden=True),
            nn.Flatten(),
            nn.Linear(CHANNELS * 64, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(step) for step in x])


def snntorch_net() -> nn.Module:
    return _louder(SnnTorchNet())


def snntorch_hidden() -> nn.Module:
    return _louder(SnnTorchHidden())


def snntorch_reset(model: nn.Module) -> None:
    """Neuron by neuron. Not ``snntorch.utils.reset``: that walks a list of the neurons ever constructed, on which a copy
    of a model (``copy.deepcopy``: ours, or an average of weights) does not stand, so that it leaves a copy as it is.
    """
    import snntorch

    for module in model.modules():
        if isinstance(module, snntorch.Leaky):
            module.reset_mem()


def snntorch_utils_reset(model: nn.Module) -> None:
    """``snntorch.utils.reset``, to show the above."""
    from snntorch import utils

    utils.reset(model)
