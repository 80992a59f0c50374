"""`ties`: which channels hang together, and what keeps them from going, in hand-made modules."""

from __future__ import annotations

import pytest
import torch
from test_trace import Foreign, Function
from torch import Tensor, nn

from saccade.graph import Group, LayerAxes, Ties, layer_axes, ties, trace
from saccade.graph.slots import Slots
from saccade.neurons import LIF

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def conv(a: int, b: int, **options) -> nn.Conv2d:
    return nn.Conv2d(a, b, 3, padding=1, **options)


def tied(function, *x: Tensor, spiking=None, rule=layer_axes, **modules: nn.Module) -> Ties:
    model = Function(function, **modules).eval()
    return ties(trace(model, x or (X,), spiking=spiking), rule)


def described(groups: Ties) -> dict[str, tuple]:
    """By first producer: other producers, consumers with blocks, reason."""
    return {
        group.producers[0].path: (
            [node.path for node in group.producers[1:]],
            [(reader.node.path, reader.block) for reader in group.consumers],
            group.fixed,
        )
        for group in groups.groups
    }


def group(groups: Ties, path: str) -> Group:
    (one,) = [g for g in groups.groups if path in [node.path for node in g.producers]]
    return one


END = "the model's output"


def test_a_chain_with_norm_and_neuron():
    found = tied(lambda m, x: m.b(m.norm(m.a(x))), a=conv(3, 4), norm=nn.BatchNorm2d(4), b=conv(4, 5))
    assert described(found) == {"a": ([], [("b", 1)], ""), "b": ([], [], END)}
    assert [node.path for node in group(found, "a").norms] == ["norm"]
    assert (group(found, "a").size, group(found, "b").size) == (4, 5)


def test_time_folded_by_hand_around_neurons():
    def run(m, x):
        y = m.n(m.norm(m.a(x.flatten(0, 1))).unflatten(0, x.shape[:2]))
        return m.b(y.flatten(0, 1)).view(*x.shape[:2], 5, 8, 8).mean((0, 3, 4))

    found = tied(
        run,
        X.expand(6, -1, -1, -1, -1),
        a=conv(3, 4),
        norm=nn.BatchNorm2d(4),
        n=Foreign(),
        b=conv(4, 5),
        spiking={"n": (0.0, 1.0)},
    )
    assert described(found) == {"a": ([], [("b", 1)], ""), "b": ([], [], END)}
    assert [node.path for node in group(found, "a").neurons] == ["n"]


@pytest.mark.parametrize("join", ["plus", "in place", "product", "maximum", "where", "gate", "buffer"])
def test_what_meets_in_a_sum_shares_its_channels(join):
    def run(m, x):
        a, b = m.a(x), m.b(x)
        if join == "plus":
            y = a + b * 0.5
        elif join == "in place":
            y = a
            y += b
        elif join == "product":
            y = a * torch.sigmoid(b)
        elif join == "maximum":
            y = torch.maximum(a, b).clamp(0, 1)
        elif join == "where":
            y = torch.where(a > 0, a, b)
        elif join == "gate":
            y = a * m.gate(b.mean((2, 3), keepdim=True))
        else:
            buffer = torch.zeros(2, *a.shape)
            buffer[0] = a
            buffer[1].copy_(b)
            y = buffer.flatten(0, 1)
        return m.c(y)

    found = tied(run, a=conv(3, 4), b=conv(3, 4), c=conv(4, 5), gate=nn.Conv2d(4, 4, 1))
    if join == "gate":
        assert described(found) == {"a": (["gate"], [("c", 1)], ""), "b": ([], [("gate", 1)], ""), "c": ([], [], END)}
        assert group(found, "b").reduced == ()  # the mean is over places
    else:
        assert described(found) == {"a": (["b"], [("c", 1)], ""), "c": ([], [], END)}


def test_a_residual_over_the_input_keeps_the_inputs_channels():
    found = tied(lambda m, x: m.b(m.a(x) + x), a=conv(3, 3), b=conv(3, 5))
    assert described(found)["a"] == ([], [("a", 1), ("b", 1)], "the model's input")


def test_operations_over_the_channels_are_listed():
    def run(m, x):
        y = m.a(x)
        return m.b(y * y.amax(1, keepdim=True) + y.mean(1, keepdim=True))

    found = tied(run, a=conv(3, 4), b=conv(4, 5))
    assert described(found)["a"] == ([], [("b", 1)], "")
    assert [node.op for node in group(found, "a").reduced] == ["amax", "mean"]


@pytest.mark.parametrize("way", ["flatten", "reshape", "view after pool", "step by step"])
def test_a_linear_layer_after_a_map_has_a_block_for_each_channel(way):
    def run(m, x):
        y = m.a(x)
        if way == "flatten":
            y = y.flatten(1)
        elif way == "reshape":
            y = y.transpose(2, 3).reshape(len(y), -1)
        elif way == "view after pool":
            y = nn.functional.max_pool2d(nn.functional.pad(y, (1, 1, 1, 1)), 2, ceil_mode=True)
            y = nn.functional.adaptive_avg_pool2d(y, 8).view(len(y), -1)
        else:
            y = y.flatten(2).unsqueeze(0).expand(3, -1, -1, -1).flatten(2).flatten(0, 1)
        return m.head(y)

    found = tied(run, a=conv(3, 4), head=nn.Linear(4 * 64, 5))
    assert described(found)["a"] == ([], [("head", 64)], "")


def test_channels_last_before_flattening_are_not_outermost():
    found = tied(lambda m, x: m.head(m.a(x).permute(0, 2, 3, 1).flatten(1)), a=conv(3, 4), head=nn.Linear(4 * 64, 5))
    assert described(found)["a"] == ([], [], "read place by place by head")


def test_tokens_have_their_channels_last():
    def run(m, x):
        tokens = m.a(x).flatten(2).transpose(1, 2)
        return m.head((tokens + m.position) @ m.mixing.t())

    model = Function(run, a=conv(3, 4), head=nn.Linear(6, 5))
    model.position, model.mixing = nn.Parameter(torch.zeros(64, 4)), nn.Parameter(torch.zeros(6, 4))
    found = ties(trace(model, X))
    assert described(found)["a"] == ([], [], "")
    assert {(value.name, axis) for value, axis in group(found, "a").parameters} == {("position", 1), ("mixing", 1)}


def test_attention_ties_queries_to_keys_and_fixes_split_heads():
    def attend(m, x, heads):
        q, k, v = (layer(x) for layer in (m.q, m.k, m.v))
        if heads:
            q, k, v = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in (q, k, v))
        y = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return m.out(y.transpose(1, 2).flatten(2) if heads else y)

    layers = lambda: {name: nn.Linear(6, 8) for name in "qkv"} | {"out": nn.Linear(8, 5)}  # noqa: E731
    tokens = torch.rand(2, 7, 6)
    found = tied(lambda m, x: attend(m, x, False), tokens, **layers())
    assert described(found) == {"q": (["k"], [], ""), "v": ([], [("out", 1)], ""), "out": ([], [], END)}
    found = tied(lambda m, x: attend(m, x, True), tokens, **layers())
    assert {path: reason for path, (_, _, reason) in described(found).items()} == {
        **dict.fromkeys("qkv", "cut in pieces by view"),
        "out": END,
    }
    fused = tied(
        lambda m, x: m.out(
            nn.functional.scaled_dot_product_attention(*(layer(x)[:, None] for layer in (m.q, m.k, m.v)))[:, 0]
        ),
        tokens,
        **layers(),
    )
    assert described(fused)["q"] == (["k"], [], "")
    assert described(fused)["v"] == ([], [("out", 1)], "")


FIXED = {
    "cat": (lambda m, x: m.b(torch.cat((m.a(x), m.a2(x)), 1)), 8, "cat over it in the model"),
    "pad": (lambda m, x: m.b(nn.functional.pad(m.a(x), (0, 0, 0, 0, 1, 1))), 6, "padded by constant_pad_nd"),
    "slice": (lambda m, x: m.b(m.a(x)[:, 1:]), 3, "cut by slice"),
    "chunk": (lambda m, x: m.b(m.a(x).chunk(2, 1)[0]), 2, "read in places by split"),
    "index": (lambda m, x: m.b(m.a(x)[:, torch.tensor([2, 0])]), 2, "read in places by index"),
    "flip": (lambda m, x: m.b(m.a(x).flip(1)), 4, "reordered by flip"),
    "cumsum": (lambda m, x: m.b(m.a(x).cumsum(1)), 4, "summed up along by cumsum"),
    "sort": (lambda m, x: m.b(m.a(x).sort(1).values), 4, "ordered by sort"),
    "shuffle": (
        lambda m, x: m.b(nn.functional.pixel_shuffle(m.a(x), 2)),
        1,
        "what pixel_shuffle does to its axes is not known",
    ),
    "unknown": (lambda m, x: m.b(torch.special.i1(m.a(x))), 4, "what special_i1 does to its axes is not known"),
    "groups of channels": (lambda m, x: m.b(m.a(x).unflatten(1, (2, 2)).mean(2)), 2, "cut in pieces by view"),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_needs_channels_as_they_are_says_so(name):
    function, width, reason = FIXED[name]
    found = tied(function, a=conv(3, 4), a2=conv(3, 4), b=conv(width, 5))
    assert described(found)["a"][2] == reason


def test_the_other_axes_of_a_concatenation_are_tied():
    found = tied(lambda m, x: m.b(torch.cat((m.a(x), m.a2(x)), 3)), a=conv(3, 4), a2=conv(3, 4), b=conv(4, 5))
    assert described(found)["a"] == (["a2"], [("b", 1)], "")
    found = tied(lambda m, x: m.b(torch.stack((m.a(x), m.a2(x))).mean(0)), a=conv(3, 4), a2=conv(3, 4), b=conv(4, 5))
    assert described(found)["a"] == (["a2"], [("b", 1)], "")


def test_reasons_name_the_module():
    inner = Function(lambda m, x: x.flip(1))
    found = tied(lambda m, x: m.b(m.inner(m.a(x))), a=conv(3, 4), inner=inner, b=conv(4, 5))
    assert described(found)["a"][2] == "reordered by flip in inner"


def test_a_module_called_twice_and_tied_weights_share_channels():
    found = tied(lambda m, x: m.c(m.b(m.b(m.a(x)))), a=conv(3, 4), b=conv(4, 4), c=conv(4, 5))
    assert described(found)["a"] == (["b", "b"], [("b", 1), ("b", 1), ("c", 1)], "")
    first, second = nn.Linear(8, 6), nn.Linear(8, 6)
    second.weight = first.weight
    found = tied(lambda m, x: m.c(m.a(x)) + m.d(m.b(x)), a=first, b=second, c=nn.Linear(6, 2), d=nn.Linear(6, 2))
    assert described(found)["a"] == (["b"], [("c", 1), ("d", 1)], "")
    found = tied(
        lambda m, x: m.d(m.norm(m.a(x))) + m.d2(m.norm(m.b(x))),
        a=conv(3, 4),
        b=conv(3, 4),
        norm=nn.BatchNorm2d(4),
        d=conv(4, 2),
        d2=conv(4, 2),
    )
    assert described(found)["a"] == (["b"], [("d", 1), ("d2", 1)], "")


def test_depthwise_and_grouped_convolutions():
    found = tied(lambda m, x: m.b(m.depth(m.a(x))), a=conv(3, 4), depth=conv(4, 4, groups=4), b=conv(4, 5))
    assert described(found)["a"] == ([], [("b", 1)], "")
    assert [node.path for node in group(found, "a").depthwise] == ["depth"]
    found = tied(lambda m, x: m.b(m.grouped(m.a(x))), a=conv(3, 4), grouped=conv(4, 4, groups=2), b=conv(4, 5))
    assert described(found)["a"][2] == described(found)["grouped"][2] == "convolved in 2 groups by grouped"


def test_layer_norm_keeps_what_it_normalises():
    found = tied(lambda m, x: m.b(m.norm(m.a(x))), a=nn.Linear(8, 6), norm=nn.LayerNorm(6), b=nn.Linear(6, 5))
    assert described(found)["a"] == ([], [("b", 1)], "normalised together by norm")


def test_a_batch_norm_of_rows_and_one_that_names_its_axis():
    rows = tied(
        lambda m, x: m.b(m.norm(m.a(x.flatten(1)))), a=nn.Linear(192, 6), norm=nn.BatchNorm1d(6), b=nn.Linear(6, 5)
    )
    assert described(rows)["a"] == ([], [("b", 1)], "")
    assert [node.path for node in group(rows, "a").norms] == ["norm"]

    class Last(nn.BatchNorm1d):
        channel_axis = 2

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    named = tied(
        lambda m, x: m.b(m.norm(m.a(x))), torch.rand(2, 5, 8), a=nn.Linear(8, 6), norm=Last(6), b=nn.Linear(6, 5)
    )
    assert [node.path for node in group(named, "a").norms] == ["norm"]


def test_a_layer_nobody_knows_and_a_rule_for_it():
    class Mixer(nn.Module):
        graph_layer = True

        def forward(self, x: Tensor) -> Tensor:
            return x.roll(1, 1)

    modules = {"a": conv(3, 4), "mix": Mixer(), "b": conv(4, 5)}
    found = tied(lambda m, x: m.b(m.mix(m.a(x))), **modules)
    assert described(found)["a"][2] == "what mix (Mixer) does to its axes is not known"

    def rule(node):
        return LayerAxes("shortcut", -3, -3) if node.path == "mix" else None

    found = tied(lambda m, x: m.b(m.mix(m.a(x)) + m.a2(x)), rule=rule, a2=conv(3, 4), **modules)
    assert described(found)["a"] == ([], [("mix", 1)], "")
    assert described(found)["a2"] == ([], [("b", 1)], "")
    assert [node.path for node in group(found, "a2").shortcuts] == ["mix"]
    with pytest.raises(ValueError, match="the role of a layer is one of weighted, .* got 'mixer'"):
        LayerAxes("mixer")


def test_bare_functional_layers_pass_the_channels_on():
    def run(m, x):
        y = nn.functional.batch_norm(m.a(x), m.mean, m.var, m.gain)
        return m.b(nn.functional.conv2d(y, m.weight))

    model = Function(run, a=conv(3, 4), b=conv(6, 5)).eval()
    model.weight, model.gain = nn.Parameter(torch.rand(6, 4, 1, 1)), nn.Parameter(torch.ones(4))
    model.register_buffer("mean", torch.zeros(4))
    model.register_buffer("var", torch.ones(4))
    found = ties(trace(model, X))
    parameters = {(value.name, axis) for value, axis in group(found, "a").parameters}
    assert parameters == {("gain", 0), ("mean", 0), ("var", 0), ("weight", 1)}
    assert described(found)["a"] == ([], [], "")


def test_steps_of_a_gate_over_time_are_no_channels():
    def run(m, x):
        y = m.n(m.a(x).unsqueeze(0).expand(4, -1, -1, -1, -1))
        gate = m.mlp(y.mean((2, 3, 4)).t()).t()[:, :, None, None, None]
        return m.b((y * gate).flatten(0, 1))

    found = tied(run, a=conv(3, 6), n=LIF(), mlp=nn.Linear(4, 4), b=conv(6, 5))
    assert described(found)["mlp"][2].startswith(("repeated by expand", "steps or samples"))
    assert described(found)["a"] == ([], [("b", 1)], "")


def test_a_group_is_found_by_a_tensor():
    model = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 5))
    graph = trace(model, X)
    found = ties(graph)
    relu = next(node for node in graph.nodes if node.op == "relu")
    assert found.group_of(relu.output, 1) is found.groups[0]
    assert found.group_of(relu.output, 2) is None


@pytest.mark.parametrize(
    ("shape", "to", "made", "fixed"),
    [
        ((2, 3, 4), (2, 12), [(0,), (1, 2)], []),
        ((2, 12), (2, 12), [(0,), (1,)], []),
        ((2, 3, 1, 4), (2, 1, 3, 4), [(0,), (), (1,), (2,)], []),
        ((6, 4), (2, 3, 4), [(2,), (3,), (1,)], [0]),
        ((4, 6), (6, 4), [(2,), (3,)], [0, 1]),
        ((2, 4, 6, 5), (2, 6, 4, 5), [(0,), (4,), (5,), (3,)], [1, 2]),
        ((), (1, 1), [(), ()], []),
    ],
)
def test_views_regroup_factors(shape, to, made, fixed):
    slots = Slots()
    axes = [slots.fresh(size) for size in shape]
    before = len(slots.sizes)
    assert slots.regroup(axes, to, "here") == made
    assert [f for f in range(before) if slots.reason(f)] == fixed
    assert all(slots.reason(f) == "cut in pieces by here" for f in range(before, len(slots.sizes)))


def test_axes_of_another_make_cannot_be_tied():
    slots = Slots()
    a, b, c = slots.fresh(2), slots.fresh(3), slots.fresh(6)
    slots.tie((*a, *b), c, "a sum")
    assert {slots.reason(f) for f in range(3)} == {"tied to an axis of another make by a sum"}
