"""Channel groups read off the graph: those written by hand, those of an independent oracle, and of models of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from export_oracle import Found, exported_groups
from small_models import distinct, narrow
from torch import Tensor, nn

from saccade.graph import ties, trace
from saccade.models import model_card
from saccade.models.sdtrack import BodyConfig
from saccade.models.transformer import TransformerConfig
from saccade.transforms import ChannelGroup, apply, channel_groups, channels_of
from saccade.transforms.layer_rules import our_axes


def example(name: str, **changes: object) -> tuple[nn.Module, Tensor]:
    """A narrow model in eval mode, and two images for it."""
    model, x = narrow(name, **changes)
    return model.eval(), x[0, :2]


# The groups of 0.1, which its models wrote down by hand: {model: [{producers, norms, neurons, consumers, shortcuts}]}
BY_HAND = json.loads(Path(__file__).with_name("groups_by_hand.json").read_text())


def sides(group: dict[str, Any]) -> dict[str, set[Any]]:
    return {
        part: {tuple(item) if isinstance(item, list) else item for item in group[part]}
        for part in ("producers", "norms", "neurons", "consumers", "shortcuts")
    }


@pytest.mark.parametrize("name", BY_HAND)
def test_what_was_written_by_hand_is_found(name):
    model, x = example(name)
    found = [sides(vars(group)) for group in channel_groups(model, x).values()]
    written = [sides(group) for group in BY_HAND[name]]
    assert [group for group in written if group not in found] == []
    assert len(found) == len(written)


# what the oracle reads: it knows no products of tokens, whose groups tests/models/test_transformers.py tries by removing them,
# and no weights of several scales, whose groups are tried below
CONVOLUTIONAL = [
    name
    for name in distinct()
    if not isinstance(model_card(name).config, TransformerConfig | BodyConfig) and not name.startswith("sma_")
]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_an_independent_oracle_finds_the_same_groups(name):
    if "104" in name:
        pytest.skip("slow to export")
    model, x = example(name)
    found = {}
    for group in ties(trace(model, x), our_axes).groups:
        producers = frozenset(node.path for node in group.producers)
        consumers = frozenset(
            (r.node.path, r.block) for r in group.consumers if not hasattr(r.node.module, "keep_sides")
        )
        norms, neurons = ({node.path for node in nodes} for nodes in (group.norms, group.neurons))
        found[producers] = Found(producers, consumers, frozenset(norms), frozenset(neurons))
    oracle = exported_groups(model, x)
    assert found == oracle
    assert len(found) > 3


@pytest.mark.parametrize("syna", [{"ma": "TCS", "ia": "TCS"}, {"ma": "C", "ia": ""}, {"ma": "S", "ia": "T"}])
def test_attention_gates_are_no_obstacle(syna):
    model, x = example("syna_resnet18_small", reduction_t=2, T=4, widths=(16, 16, 16, 16), **syna)
    found = ties(trace(model, x), our_axes).groups
    oracle = exported_groups(model, x)
    assert {frozenset(node.path for node in group.producers) for group in found} == set(oracle)
    groups = channel_groups(model, x)
    assert {"stem.0", "blocks.0.backbone.0", "blocks.2.backbone.0"} <= groups.keys()
    joined = next(group for group in groups.values() if "blocks.2.shortcut.conv" in group.producers)
    backbone = "blocks.2.backbone.3" if "blocks.2.backbone.3" in joined.producers else "blocks.2.backbone.4"
    assert backbone in joined.producers
    assert {"blocks.2.shortcut.norm", "blocks.2.backbone.4"} & set(joined.norms)
    if "C" in syna["ma"]:
        gates = [path for path in joined.producers if ".gates." in path]
        assert gates  # a gate for each channel makes as many
        assert {path for path, _ in joined.consumers} > {gate.replace("mlp.2", "mlp.0") for gate in gates}


CONNECTIONS = ("or", "add", "iand", "and", "plain")


@pytest.mark.parametrize("connection", CONNECTIONS)
@pytest.mark.parametrize("identity", [True, False])
def test_residuals_of_all_kinds_have_groups(connection, identity):
    model, x = narrow(f"{connection}_resnet18_small", identity_shortcuts=identity)
    groups = channel_groups(model, x)
    if connection == "plain":
        assert all(len(group.producers) == 1 for group in groups.values())
        return
    joined = groups["blocks.2.backbone.3"]
    others = {"blocks.2.shortcut.conv"} | ({"blocks.3.backbone.3"} if identity else set())
    assert set(joined.producers) == {"blocks.2.backbone.3"} | others
    assert {"blocks.2.backbone.5", "blocks.2.shortcut.neuron"} <= set(joined.neurons)
    assert ("blocks.3.backbone.0", 1) in joined.consumers


@pytest.mark.parametrize("connection", ["add", "or"])
def test_bottlenecks_of_sew(connection):
    model, x = example("sew_resnet50_small", connection=connection)
    groups = channel_groups(model, x)
    assert groups["blocks.0.backbone.0"].consumers == (("blocks.0.backbone.3", 1),)
    assert {"blocks.0.backbone.6", "blocks.0.shortcut.conv", "blocks.2.backbone.6"} <= set(
        groups["blocks.0.backbone.6"].producers
    )


def test_what_stays_and_why():
    model, x = example("vgg_small")
    channels = channels_of(model, x)
    assert channels.left == {"layers.15": "the read-out head reads it", "head": "the model's output"}
    assert list(channels.groups) == ["stem.0", "layers.1", "layers.4", "layers.8", "layers.11"]
    assert channels.groups["stem.0"].size == 4


def test_layers_that_share_a_weight_stay():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)
            self.b.weight = self.a.weight
            self.fire, self.head = Step(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.fire(self.c(self.a(x) + self.b(x))))

    channels = channels_of(Shared().eval(), torch.rand(2, 3, 4), spiking={"fire": (0.0, 1.0)})
    assert channels.left == {
        "a": "a and b share a weight",
        "c": "the read-out head reads it",
        "head": "the model's output",
    }


class Foreign(nn.Module):
    """Somebody else's network, a step a call: torch's own layers, time folded by hand, a table of positions."""

    def __init__(self, table: Tensor | None) -> None:
        super().__init__()
        self.conv, self.norm, self.fire = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), Step()
        self.hidden, self.norm2, self.fire2 = nn.Linear(6 * 16, 5), nn.BatchNorm1d(5), Step()
        self.head = nn.Linear(5, 3)
        self.table = nn.Parameter(torch.zeros(6, 1, 1)) if table is None else None
        self.fixed = None if table is None else [table]

    def forward(self, x: Tensor) -> Tensor:
        T = len(x)
        y = self.norm(self.conv(x.flatten(0, 1)))
        y = y + (self.fixed[0] if self.table is None else self.table)
        y = self.fire(y.view(T, -1, 6, 4, 4)).flatten(0, 1)
        y = self.norm2(self.hidden(y.flatten(1)))
        return self.head(self.fire2(y.view(T, -1, 5))).mean(0)


class Step(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.5).to(x.dtype)


SPIKING = {"fire": (0.0, 1.0), "fire2": (0.0, 1.0)}


def test_models_of_others():
    x = torch.rand(3, 2, 2, 4, 4)
    channels = channels_of(Foreign(None).eval(), x, spiking=SPIKING)
    assert channels.groups == {
        "conv": ChannelGroup(6, ("conv",), ("norm",), ("fire",), (("hidden", 16),), parameters=(("table", 0),))
    }
    assert channels.left == {"hidden": "the read-out head reads it", "head": "the model's output"}
    channels = channels_of(Foreign(torch.zeros(6, 1, 1)).eval(), x, spiking=SPIKING)
    assert channels.left["conv"] == "it meets a constant of [6, 1, 1] that is no parameter or buffer, in add"
    with pytest.raises(ValueError, match="no module 'fire3'; did you mean 'fire'"):
        channels_of(Foreign(None).eval(), x, spiking={"fire3": (0, 1)})


def test_multiscale_attention_loses_channels():
    """What comes out of an SMA hangs together with its scales and stays; what goes in does not."""
    model, x = example("sma_vgg8")
    found = channel_groups(model, x)
    assert [consumer for consumer, _ in found["layers.3"].consumers] == [f"layers.4.scales.{n}.0" for n in range(4)]
    kept = [path for group in found.values() for path in group.producers]
    assert not any(path.startswith("layers.4.scales") or path == "layers.4.channel_weights.2" for path in kept)
    with torch.no_grad():
        layer = model.layers[3]
        layer.weight[:2] = 0  # channels that are always silent say nothing
        layer.bias[:2] = 0
        silenced = model(x)
        apply(model, {"name": "prune", "config": {"kept": {"layers.3": list(range(2, 8))}}})
        assert model.layers[3].out_channels == 6
        assert torch.allclose(model(x), silenced, atol=1e-6)
