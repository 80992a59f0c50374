"""Every registered neuron and every public layer passes the contract."""

import json
from dataclasses import replace

import pytest
import torch
from contract import check_alphabet, check_compiled, check_module, check_state
from torch import nn

from saccade import layers
from saccade.layers.residual import CONNECTIONS
from saccade.neurons import NEURONS, NeuronConfig, state_bits

T, N, C = 4, 3, 6


def maps(channels=C, T=T):
    return torch.randn(T, N, channels, 8, 8, generator=torch.Generator().manual_seed(0)) * 2


def tokens():
    return torch.randn(T, N, 5, C, generator=torch.Generator().manual_seed(0)) * 2


def spikes():
    return (maps() > 0).float()


def config_of(name):
    """The registered one, told its number of steps where it is for one only."""
    config = NEURONS[name]
    return replace(config, T=T) if getattr(config, "T", T) is None else config


@pytest.mark.parametrize("axis", [2, -1])
@pytest.mark.parametrize("name", NEURONS)
def test_neuron(name, axis):
    x = (maps() if axis == 2 else tokens()).abs()
    build = lambda: config_of(name).build(channels=C, channel_axis=axis)  # noqa: E731
    check_module(build, x, exact=True)
    neuron = build().double().eval()
    check_alphabet(neuron, x.double())
    check_state(neuron, x.double())
    check_compiled(neuron, x.double())
    assert state_bits(neuron, tuple(x.shape[2:])) >= 0


@pytest.mark.parametrize("name", NEURONS)
def test_neuron_config(name):
    """What recipes and files say of it is JSON and makes it again; a config cannot be changed."""
    config = NEURONS[name]
    assert NeuronConfig.parse(json.loads(json.dumps(config.record()))) == config
    assert NeuronConfig.parse(name) == config
    assert type(config).__name__ in repr(config)
    with pytest.raises(AttributeError):
        config.anything = 1
    with pytest.raises(ValueError, match=f"{name} takes no 'taau'"):
        NeuronConfig.parse({"name": name, "config": {"taau": 2}})
    assert config_of(name).build(channels=C).config == config_of(name)


EXAMPLES = {
    "AdaptiveAvgPool2d": (lambda: layers.AdaptiveAvgPool2d(2), maps),
    "AvgPool2d": (lambda: layers.AvgPool2d(2), maps),
    "MaxPool2d": (lambda: layers.MaxPool2d(2), maps),
    "BatchNorm": (lambda: layers.BatchNorm(C, channel_axis=-1), tokens),
    "BatchNorm2d": (lambda: layers.BatchNorm2d(C), maps),
    "ThresholdBatchNorm2d": (lambda: layers.ThresholdBatchNorm2d(C, alpha=0.5), maps),
    "LayerNorm": (lambda: layers.LayerNorm(C), tokens),
    "Conv2d": (lambda: layers.Conv2d(C, 4, 3, padding=1), maps),
    "Linear": (lambda: layers.Linear(C, 4), tokens),
    "Dropout": (lambda: layers.Dropout(0.3), maps),
    "PadShortcut": (lambda: layers.PadShortcut(C, 8, 2), maps),
    "ChannelGate": (lambda: layers.ChannelGate(C, 2), maps),
    "SpatialGate": (lambda: layers.SpatialGate(3), maps),
    "TimeGate": (lambda: layers.TimeGate(T, 2), maps),
    "SynAGate": (lambda: layers.SynA(reduction_t=2, open_bias=3.0).shortcut(C, T), maps),
    "SMA": (lambda: layers.SMAConfig(kernels=(1, 3), neuron=NEURONS["lif"]).build(C, T), maps),
    "ResidualBlock": (
        lambda: layers.ResidualBlock(
            nn.Sequential(layers.Conv2d(C, C, 3, padding=1), NEURONS["lif"].build(channels=C)),
            nn.Identity(),
            CONNECTIONS["or"],
        ),
        spikes,
    ),
    "MembraneBlock": (lambda: layers.MembraneBlock(layers.Conv2d(C, C, 3, padding=1), nn.Identity()), maps),
    "SpikingShortcut": (
        lambda: layers.SpikingShortcut(C, C, 2, nn.Identity(), replace(NEURONS["lif"], v_th=0.1).build(channels=C)),
        spikes,
    ),
    "Blocks": (lambda: layers.Blocks(layers.Conv2d(C, C, 1), NEURONS["lif"].build(channels=C)), maps),
}
ABSTRACT = {"Norm", "Weighted", "WeightForm"}


def test_every_public_layer_has_an_example():
    public = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    modules = {name for name in public if issubclass(getattr(layers, name), nn.Module)}
    assert modules - ABSTRACT == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_layer(name):
    make, example = EXAMPLES[name]
    assert type(make()).__name__ == name
    check_module(make, example())


@pytest.mark.parametrize("name", CONNECTIONS)
def test_connection(name):
    """A residual connection of spikes gives what it declares of the alphabets of its sides, and streams."""

    def build():
        torch.manual_seed(0)
        neuron = NEURONS["tet"].build(channels=C)
        return layers.ResidualBlock(
            nn.Sequential(layers.Conv2d(C, C, 3, padding=1), neuron), nn.Identity(), CONNECTIONS[name]
        )

    check_module(build, spikes())
