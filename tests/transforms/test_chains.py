"""Norms and the layers before them, read off the graph."""

from __future__ import annotations

import pytest
import torch
from small_models import distinct
from test_channels import SPIKING, Foreign, Step, example
from torch import Tensor, nn

from saccade.layers import BatchNorm, BatchNorm2d, Conv2d, Linear
from saccade.layers.joint import EachMap
from saccade.layers.layer_scale import LayerScale
from saccade.layers.repconv import RepConv
from saccade.layers.sma import SMA
from saccade.layers.stems.glsps import NearAndFar
from saccade.neurons import LIF
from saccade.transforms import NormChain, norm_chains

X = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", distinct())
def test_our_models_have_a_layer_before_every_norm(name):
    """Rows too, whose norms 0.1 did not see."""
    model, x = example(name)
    found = norm_chains(model, x)
    kinds = nn.modules.batchnorm._BatchNorm, LayerScale
    norms = [path for path, module in model.named_modules() if isinstance(module, kinds)]
    assert sorted([*(chain.norm for chain in found.chains), *found.left]) == sorted(norms)
    behind = [path for path, module in model.named_modules() if isinstance(module, RepConv)]  # a norm and then another
    # of convolutions: added up, or of several maps side by side
    sums = [path for path, module in model.named_modules() if isinstance(module, NearAndFar | SMA | EachMap)]
    after = [f"{path.rpartition('.')[0]}.{int(path.rpartition('.')[2]) + 1}" for path in sums]
    scales = [path for path, module in model.named_modules() if isinstance(module, LayerScale)]
    joined = []  # behind sums of branches
    if name.startswith("wrn"):
        joined = ["norm", *(path for path in norms if path.endswith("norm1") and path != "blocks.0.norm1")]
    assert sorted(found.left) == sorted([*(f"{path[:-1]}1" for path in behind), *after, *scales, *joined])
    if name == "rows_mlp":
        assert found.chains == tuple(
            NormChain(f"layers.{i}", f"layers.{i + 1}", f"layers.{i + 2}") for i in range(0, 12, 3)
        )


def test_which_neuron_follows():
    model, x = example("syna_resnet18_small", position="a")
    found = {chain.norm: chain for chain in norm_chains(model, x).chains}
    assert found["stem.1"].neuron == "stem_neuron"  # shown for four steps in between
    assert (found["blocks.0.backbone.1"].neuron, found["blocks.0.backbone.1"].between[:9]) == ("", "3 readers")
    assert found["blocks.0.backbone.5"].neuron == "blocks.0.backbone.6"
    model, x = example("ms_resnet18_small")
    found = {chain.norm: chain for chain in norm_chains(model, x).chains}
    assert found["blocks.0.residual.2"].neuron == "blocks.0.residual.3"
    assert found["blocks.0.residual.5"].between == "add in blocks.0"


def test_models_of_others_with_time_folded_by_hand():
    x = torch.rand(3, 2, 2, 4, 4)
    found = norm_chains(Foreign(None).eval(), x, spiking=SPIKING)
    assert found.chains == (
        NormChain("conv", "norm", between="add"),
        NormChain("hidden", "norm2", "fire2"),
    )
    assert found.left == {}


class Net(nn.Module):
    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def shared_weight() -> dict[str, nn.Module]:
    a, b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
    b.weight = a.weight
    return {"a": a, "b": b, "norm": nn.BatchNorm2d(4)}


CONV = {"a": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4)}
LEFT = {
    "not reached": (lambda m, x: m.a(x), CONV, "not reached by the sample"),
    "input": (lambda m, x: m.norm(x), {"norm": nn.BatchNorm2d(3)}, "its input is an input, no layer's output as it is"),
    "after a sum": (
        lambda m, x: m.norm(m.a(x) + 1),
        CONV,
        "its input is the output of add, no layer's output as it is",
    ),
    "after a pool": (
        lambda m, x: m.norm(nn.functional.max_pool2d(m.a(x), 2)),
        CONV,
        "its input is the output of max_pool2d_with_indices, no layer's output as it is",
    ),
    "after a neuron": (
        lambda m, x: m.norm(m.n(m.a(x)[None])[0]),
        CONV | {"n": LIF()},
        "its input is the output of select, no layer's output as it is",
    ),
    "after a norm": (
        lambda m, x: m.norm(m.first(m.a(x))),
        CONV | {"first": nn.LayerNorm(6)},
        "its input is the output of layer in first, no layer's output as it is",
    ),
    "used twice": (lambda m, x: m.norm(m.a(x)) + (lambda y: y)(m.a(x)), CONV, "its layer a is called more than once"),
    "read elsewhere": (
        lambda m, x: (lambda y: m.norm(y) + y.mean())(m.a(x)),
        CONV,
        "the output of a is used elsewhere too",
    ),
    "view read elsewhere": (
        lambda m, x: (lambda y: m.norm(y[None].flatten(0, 1)) + y[None].mean())(m.a(x)),
        CONV,
        "the output of a is used elsewhere too",
    ),
    "returned": (lambda m, x: (lambda y: (m.norm(y), y))(m.a(x)), CONV, "the output of a is used elsewhere too"),
    "called twice": (lambda m, x: m.norm(m.a(x)) + m.norm(m.a(x)), CONV, "called more than once"),
    "shared weight": (lambda m, x: m.norm(m.a(x)) + m.b(x), shared_weight(), "a shares its weight with b"),
    "no statistics": (
        lambda m, x: m.norm(m.a(x)),
        CONV | {"norm": nn.BatchNorm2d(4, track_running_stats=False)},
        "it has no running statistics",
    ),
    "another axis": (
        lambda m, x: m.norm(m.a(x).transpose(1, 2)),
        {"a": nn.Linear(6, 3), "norm": nn.BatchNorm2d(6)},
        "its input is the output of transpose, no layer's output as it is",
    ),
    "another axis behind a view": (
        lambda m, x: m.norm(m.a(x)),
        {"a": nn.Linear(6, 3), "norm": nn.BatchNorm2d(3)},
        "it normalises another axis than the one that a makes",
    ),
    "of each input": (
        lambda m, x: m.norm(m.a(x)),
        CONV | {"norm": nn.GroupNorm(2, 4)},
        "a GroupNorm takes its statistics from each input",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_norms_that_stay_and_why(name):
    function, modules, reason = LEFT[name]
    found = norm_chains(Net(function, **modules).eval(), X)
    assert found.chains == ()
    assert found.left["norm"] == reason
    assert found.left.keys() == {"norm", "first"} & modules.keys()


def test_an_addition_in_place_to_a_layers_output_is_seen():
    def residual(m, x):
        y = m.a(x)
        z = m.norm(y)
        y += 1
        return y * z

    assert norm_chains(Net(residual, **CONV).eval(), X).left == {"norm": "the output of a is used elsewhere too"}


def test_sequences_rows_and_depthwise_convolutions():
    model = nn.Sequential(
        Conv2d(3, 4, 3),
        BatchNorm2d(4),
        LIF(),
        Conv2d(4, 4, 3, groups=4),
        BatchNorm2d(4),
        LIF(),
        nn.Flatten(2),
        Linear(16, 5),
        BatchNorm(5),
        LIF(),
        Linear(5, 2),
    ).eval()
    found = norm_chains(model, X.expand(3, -1, -1, -1, -1))
    assert found.chains == (NormChain("0", "1", "2"), NormChain("3", "4", "5"), NormChain("7", "8", "9"))


def test_a_neuron_called_for_every_step_follows_nothing_directly():
    def steps(m, x):
        return torch.stack([m.n(m.norm(m.a(x))[None]) for _ in range(2)])

    model = Net(steps, a=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4), n=Step()).eval()
    assert norm_chains(model, X, spiking={"n": (0.0, 1.0)}).left == {"norm": "called more than once"}
