"""`trace`: what follows what in hand-made modules, and what is known of each tensor."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from saccade.graph import Graph, Node, Value, trace
from saccade.layers import Conv2d
from saccade.models import create_model
from saccade.neurons import LIF


class Function(nn.Module):
    """A module of a function and the modules that it calls."""

    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *x: Tensor, **named: Tensor):
        return self.function(self, *x, **named)


def ops(graph: Graph) -> list[str]:
    return [node.op if node.op not in ("layer", "neuron") else node.path for node in graph.nodes]


def reached(value: Value) -> set[Value]:
    """All that a value is made of."""
    seen, todo = set(), [value]
    while todo:
        value = todo.pop()
        if value not in seen:
            seen.add(value)
            todo += value.producer.inputs if value.producer else []
    return seen


def names(value: Value) -> set[str]:
    return {v.name for v in reached(value)} - {""}


def only(graph: Graph, op: str) -> Node:
    (node,) = [node for node in graph.nodes if node.op == op]
    return node


IMAGES = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_layers_are_one_node_whatever_they_do_inside():
    model = nn.Sequential(Conv2d(3, 4, 3), nn.BatchNorm2d(4), LIF()).eval()
    model = Function(lambda m, x: m.body(x.unsqueeze(0).expand(5, -1, -1, -1, -1)), body=nn.Sequential(model[0], LIF()))
    graph = trace(model, IMAGES)
    assert ops(graph) == ["unsqueeze", "expand", "body.0", "body.1"]
    conv, neuron = graph.layer_nodes()
    assert (conv.op, neuron.op) == ("layer", "neuron")
    assert conv.module is model.body[0]
    assert conv.inputs[0].shape == (5, 2, 3, 6, 6)
    assert conv.outputs[0].shape == (5, 2, 4, 4, 4)
    assert neuron.inputs == conv.outputs
    assert graph.outputs == neuron.outputs
    assert graph.inputs[0].users == [graph.nodes[0]]
    assert graph.nodes[1].argument(1, "size") == [5, -1, -1, -1, -1]


def test_what_depends_on_the_input_on_time_and_on_which_values():
    model = Function(
        lambda m, x: (m.neuron(m.conv(x)[None]) + m.offset.relu(), m.offset.relu() * 2),
        conv=nn.Conv2d(3, 4, 3),
        neuron=LIF(),
    )
    model.register_buffer("offset", torch.zeros(1))
    graph = trace(model, IMAGES)
    conv, neuron = graph.layer_nodes()
    assert (conv.output.live, conv.output.timed, conv.output.alphabet) == (True, False, None)
    assert (neuron.output.live, neuron.output.timed, str(neuron.output.alphabet)) == (True, True, "{0,1}")
    assert (graph.outputs[0].live, graph.outputs[0].timed) == (True, True)
    assert (graph.outputs[1].live, graph.outputs[1].timed) == (False, False)
    (offset,) = {v for v in reached(graph.outputs[1]) if v.constant}
    assert offset.name == "offset"
    assert offset.tensor is model.offset
    assert all(value.timed for node in trace(model, IMAGES, sequence=True).layer_nodes() for value in node.outputs)


class Scan(nn.Module):
    """A module that mixes time and is no neuron."""

    def step(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, None]:
        return x.cumsum(0), None

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)[0]


def test_a_module_with_a_step_makes_time():
    model = nn.Sequential(nn.Linear(6, 5), Scan(), nn.Linear(5, 4))
    graph = trace(model, IMAGES)
    assert [node.output.timed for node in graph.layer_nodes()] == [False, True]


RESIDUALS = {
    "add": lambda a, s: a + s,
    "or": lambda a, s: a + s - a * s,
    "de morgan": lambda a, s: 1 - (1 - a) * (1 - s),
    "iand": lambda a, s: (1 - a) * s,
    "and": lambda a, s: a * s,
    "maximum": torch.maximum,
    "in place": lambda a, s: a.add_(s).sub_(a - s),
    "mean": lambda a, s: (a + s) / 2,
    "lerp": lambda a, s: torch.lerp(a, s, 0.25),
    "difference": lambda a, s: (a - s) * (a - s),
    "cancelled": lambda a, s: a * s - s * a + a,
}
SHOWN = {"add": "{0,1,2}", "mean": "{0,1,2}/2", "lerp": "{0..4}/4"}


@pytest.mark.parametrize("name", RESIDUALS)
def test_alphabets_of_residuals_hold_for_every_run(name):
    """Not what a sample happened to hold: the sample here is silent."""
    model = Function(lambda m, x: RESIDUALS[name](m.a(x), m.b(x)), a=LIF(), b=LIF())
    graph = trace(model, torch.zeros(2, 3, 4))
    assert str(graph.outputs[0].alphabet) == SHOWN.get(name, "{0,1}")


def test_a_view_of_the_same_memory_is_not_the_same_tensor():
    """``a - a^T`` reaches -1, although both lie in one storage."""
    graph = trace(
        Function(lambda m, x: m.n(x) - m.n(x).flip(-1) * 0 - m.n(x).transpose(2, 3), n=LIF()), torch.rand(1, 1, 3, 3)
    )
    assert graph.outputs[0].alphabet.low == -1
    model = Function(lambda m, a: a - a.transpose(2, 3), n=LIF())
    graph = trace(nn.Sequential(LIF(), model), torch.rand(1, 1, 3, 3))
    assert str(graph.outputs[0].alphabet) == "{-1,0,1}"


def test_an_operation_in_place_makes_another_value():
    def residual(m, x):
        out = m.conv(x)
        before = out.sum()
        out += x
        return out, before

    graph = trace(Function(residual, conv=nn.Conv2d(3, 3, 1)), IMAGES)
    conv, add = graph.calls("conv")[0], only(graph, "add")
    assert add.inputs == (conv.output, graph.inputs[0])
    assert graph.outputs[0] is add.output
    assert only(graph, "sum").inputs == (conv.output,)
    assert conv.output.users == [only(graph, "sum"), add]


def test_a_later_read_through_another_view_depends_on_the_write():
    def fill(m, x):
        buffer = torch.zeros(3, *x.shape)
        first, last = buffer[0], buffer[2]
        buffer[0] = m.a(x)
        buffer[1].copy_(m.b(x))
        return buffer, first, last.clone()

    model = Function(fill, a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 3, 1))
    graph = trace(model, IMAGES)
    a, b = (graph.calls(name)[0].output for name in "ab")
    whole, first, last = graph.outputs
    assert {a, b} <= reached(whole)
    assert a in reached(first)
    assert b not in reached(first)
    assert not {a, b} & reached(last)
    assert (whole.live, last.live) == (True, False)
    assert whole.producer.op == "written"
    assert whole.shape == (3, 2, 3, 6, 6)


def test_in_place_through_a_view_reaches_the_base():
    def relu(m, x):
        y = m.conv(x)
        y.flatten(1).relu_()
        return y

    graph = trace(Function(relu, conv=nn.Conv2d(3, 3, 1)), IMAGES)
    assert only(graph, "relu").output in reached(graph.outputs[0])


def test_views_in_place_change_the_tensor_and_nothing_else():
    def turn(m, x):
        y = m.layer(x)
        z = y.view(-1)
        y.unsqueeze_(0)
        y.transpose_(0, 1)
        return y, z

    graph = trace(Function(turn, layer=nn.Linear(6, 5)), IMAGES)
    assert ops(graph) == ["layer", "view", "unsqueeze", "transpose"]
    assert graph.outputs[0].shape == (2, 1, 3, 6, 5)
    assert graph.outputs[1].producer.op == "view"
    assert graph.outputs[0].producer.inputs[0].producer.inputs[0] is graph.calls("layer")[0].output


def test_a_module_called_twice_and_one_at_two_paths():
    shared = nn.Linear(6, 6)
    model = Function(lambda m, x: m.second(m.first(m.first(x))), first=shared, second=shared)
    graph = trace(model, IMAGES)
    assert [node.path for node in graph.layer_nodes()] == ["first"] * 3
    assert graph.calls("first") == graph.calls("second") == graph.layer_nodes()
    assert [a.output for a in graph.nodes[:-1]] == [b.inputs[0] for b in graph.nodes[1:]]
    with pytest.raises(ValueError, match="no module 'third'"):
        graph.calls("third")


def test_tied_weights_have_one_name():
    model = Function(lambda m, x: nn.functional.linear(m.a(x), m.b.weight), a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    model.b.weight = model.a.weight
    graph = trace(model, IMAGES)
    assert "a.weight" in names(graph.outputs[0])


def test_inputs_by_keyword_and_results_in_dictionaries():
    class Two(nn.Module):
        graph_layer = True

        def forward(self, *, left: Tensor, right: list[Tensor]) -> dict[str, object]:
            return {"sum": left + right[0], "rest": (left, [right[0] * 2])}

    def run(m, x, y):
        out = m.two(left=m.a(x), right=[y])
        return {"deep": [out["rest"][1][0].relu()], "sum": out["sum"]}

    graph = trace(Function(run, two=Two(), a=nn.Linear(6, 6)), (IMAGES, IMAGES + 1))
    a, two = graph.layer_nodes()
    assert two.inputs == (a.output, graph.inputs[1])
    assert two.kwargs["left"] is a.output
    assert two.kwargs["right"] == [graph.inputs[1]]
    assert two.outputs[1] is a.output  # given back as it came
    assert only(graph, "relu").inputs == (two.outputs[2],)
    assert graph.outputs == (only(graph, "relu").output, two.outputs[0])
    assert [value.name for value in graph.inputs] == ["input 0", "input 1"]


def test_a_call_of_ones_own_and_nested_inputs():
    model = Function(lambda m, *, image, scale: m.conv(image) * scale, conv=nn.Conv2d(3, 4, 1))
    graph = trace(model, {"image": IMAGES, "scale": torch.ones(1)}, call=lambda m, x: m(**x))
    assert only(graph, "mul").inputs == (graph.calls("conv")[0].output, graph.inputs[1])


def test_foreign_layers_with_time_folded_by_hand():
    def run(m, x):
        y = m.norm(m.conv(x.flatten(0, 1)))
        return m.act(y.reshape(2, 2, *y.shape[1:]).contiguous())

    model = Function(run, conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4), act=Foreign()).eval()
    graph = trace(model, torch.rand(2, 2, 3, 6, 6), spiking={"act": (0.0, 1.0)})
    assert ops(graph) == ["view", "conv", "norm", "view", "act"]
    conv, norm, act = graph.layer_nodes()
    source = graph.source(act.inputs[0])
    assert source.value is norm.output
    assert not source.shared
    assert graph.follow(conv.output) == [(norm, conv.output)]
    assert graph.follow(norm.output) == [(act, act.inputs[0])]
    assert str(act.output.alphabet) == "{0,1}"


class Foreign(nn.Module):
    """A neuron of somebody else: keeps its potential as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.v = 0.0

    def forward(self, x: Tensor) -> Tensor:
        spikes = []
        for step in x:
            self.v = self.v * 0.5 + step
            spikes.append((self.v >= 0.5).float())
            self.v = self.v * (1 - spikes[-1])
        return torch.stack(spikes)


def test_a_potential_read_outside_the_neuron_comes_from_it():
    graph = trace(
        Function(lambda m, x: (m.n(x), m.n.v * 2), n=Foreign()), torch.rand(3, 2, 4), spiking={"n": (0.0, 1.0)}
    )
    (neuron,) = graph.layer_nodes()
    assert neuron.side_outputs == [only(graph, "mul").inputs[0]]
    assert (graph.outputs[1].live, graph.outputs[1].timed, graph.outputs[1].alphabet) == (True, True, None)


def test_source_says_whether_something_else_reads_on_the_way():
    def run(m, x, elsewhere):
        y = m.conv(x)
        shown = y.unsqueeze(0).expand(4, *y.shape)
        return m.norm(shown.flatten(0, 1)), (shown.mean() if elsewhere else None)

    for elsewhere in (False, True):
        model = Function(lambda m, x, e=elsewhere: run(m, x, e), conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4)).eval()
        graph = trace(model, IMAGES)
        source = graph.source(graph.calls("norm")[0].inputs[0])
        assert source.value is graph.calls("conv")[0].output
        assert source.shared == elsewhere
    graph = trace(Function(lambda m, x: (m.conv(x), m.conv(x).detach().relu()), conv=nn.Conv2d(3, 4, 1)), IMAGES)
    assert not graph.source(only(graph, "relu").inputs[0]).shared
    graph = trace(
        Function(lambda m, x: (lambda y: (y, y.double().detach().relu()))(m.conv(x)), conv=nn.Conv2d(3, 4, 1)), IMAGES
    )
    assert graph.source(only(graph, "relu").inputs[0]).value.producer.op == "_to_copy"


def test_attention_is_seen_operation_by_operation():
    def attend(m, x):
        q, k, v = m.q(x), m.k(x), m.v(x)
        return m.out((q @ k.transpose(-1, -2)).softmax(-1) @ v)

    model = Function(attend, **{name: nn.Linear(6, 6) for name in ("q", "k", "v", "out")})
    graph = trace(model, torch.rand(2, 5, 6))
    q, k, v, out = (graph.calls(name)[0] for name in ("q", "k", "v", "out"))
    assert [node.op for node in graph.nodes if node.op in ("bmm", "_softmax")] == ["bmm", "_softmax", "bmm"]
    assert {q.output, k.output, v.output} <= reached(out.output)


def test_an_operation_without_a_counting_rule_is_a_node_all_the_same():
    graph = trace(Function(lambda m, x: torch.special.i1(x)), IMAGES)
    assert ops(graph) == ["special_i1"]


def test_training_mode_writes_running_statistics():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    graph = trace(model, IMAGES)
    norm = graph.calls("1")[0]
    assert len(norm.outputs) == 1
    assert norm.side_outputs  # the count of batches at least
    assert all(value.producer is norm for value in norm.side_outputs)


def test_layers_can_be_chosen():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.ReLU())
    assert ops(trace(model, IMAGES)) == ["0.0", "relu", "relu"]
    assert ops(trace(model, IMAGES, layers=lambda m: isinstance(m, nn.ReLU))) == ["convolution", "0.1", "1"]
    assert ops(trace(model, IMAGES, layers=lambda m: m is model[0])) == ["0", "relu"]
    assert ops(trace(nn.Conv2d(3, 4, 1), IMAGES)) == [""]


def test_a_layer_that_hands_its_input_through():
    class Through(nn.Module):
        graph_layer = True

        def forward(self, x: Tensor) -> Tensor:
            return x

    graph = trace(Function(lambda m, x: m.conv(x) + m.same(x), conv=nn.Conv2d(3, 3, 1), same=Through()), IMAGES)
    assert graph.calls("same")[0].outputs == graph.inputs
    assert only(graph, "add").inputs == (graph.calls("conv")[0].output, graph.inputs[0])


def test_bad_input_is_refused_in_one_line():
    model = nn.Sequential(nn.Identity(), Foreign())
    with pytest.raises(ValueError, match="a trace needs a tensor to run Sequential on, got list"):
        trace(model, [1, 2])
    with pytest.raises(ValueError, match="Sequential has no module '2'"):
        trace(model, IMAGES, spiking={"2": (0, 1)})
    with pytest.raises(ValueError, match="1: levels .* no common grid"):
        trace(model, IMAGES, spiking={"1": (0, 1, 3.14159265358979)})
    with pytest.raises(ValueError, match="1: value 1 is not one of the declared levels"):
        trace(model, torch.ones(2, 3), spiking={"1": (0.0, 0.5)})
    with torch.inference_mode():
        x = torch.rand(2, 3)
    assert trace(model, x).outputs
    with pytest.raises(ValueError, match="clone them outside"):
        trace(model, x, call=lambda m, y: m(y))


def test_a_failed_run_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6))
    with pytest.raises(RuntimeError):
        trace(model, torch.rand(2, 3))
    assert all("forward" not in module.__dict__ for module in model.modules())
    assert trace(model[0], torch.rand(2, 3)).nodes


@pytest.mark.parametrize("name", ["vgg_small", "syna_resnet18_small", "ms_resnet18_small", "rows_mlp"])
def test_our_models_flow_from_input_to_output(name):
    model = create_model(name).eval()
    size = 8 if name == "rows_mlp" else 32
    graph = trace(model, torch.rand(2, model.in_channels, size, size))
    assert graph.inputs[0] in reached(graph.outputs[0])
    assert not any(node.op in ("written", "hidden") for node in graph.nodes)
    seen: set[Value] = set(graph.inputs)
    for node in graph.nodes:  # in order: nothing is read before it was made
        assert all(value in seen or value.constant for value in node.inputs)
        seen |= set(node.outputs)
    declared = {path for path, module in model.named_modules() if getattr(module, "levels", None)}
    assert {node.path for node in graph.nodes if node.op == "neuron"} == declared


def test_memory_is_let_go():
    """What a run computes does not outlive it; during the run, what the model lets go is gone."""
    import weakref

    gone: list[bool] = []

    def run(m, x):
        y = x * 2
        held = weakref.ref(y)
        y = y + 1
        gone.append(held() is None)
        return y

    graph = trace(Function(run), IMAGES)
    assert gone == [True]
    assert all(value.tensor is None for node in graph.nodes for value in node.outputs)


@pytest.mark.parametrize("name", ["vgg_small", "or_resnet18_small", "ms_resnet18_small"])
def test_a_trace_costs_few_forward_passes(name):
    """About 3 to 7 in benchmarks/graph.py; here the best of several, so that a busy machine does not fail it."""
    model = create_model(name).eval()
    x = torch.rand(4, 3, 32, 32)

    def best(run) -> float:
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    with torch.no_grad():
        model(x)
        forward = best(lambda: model(x))
    assert best(lambda: trace(model, x)) < 15 * forward


FOREIGN = {
    "transformer": (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), torch.rand(2, 5, 16)),
    "recurrent cell": (nn.GRUCell(6, 5), torch.rand(2, 6)),
    "group norm": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.InstanceNorm2d(8)), IMAGES),
    "one axis": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.MaxPool1d(2)), torch.rand(2, 3, 16)),
    "weight norm": (torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), torch.rand(2, 6)),
    "in place": (nn.Sequential(nn.Linear(6, 5), nn.Hardswish(inplace=True)), torch.rand(2, 6)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_torchs_own_modules_are_seen_through(name):
    """Fused forms of attention are run step by step, so that nothing in them is missed."""
    from saccade.measure import profile

    module, x = FOREIGN[name]
    graph = trace(module.eval(), x)
    assert graph.inputs[0] in reached(graph.outputs[0])
    assert len([node for node in graph.layer_nodes() if node.path == "linear1"]) == (name == "transformer")
    assert profile(module, x, batch_dim=0).total().macs > 0
    assert torch.backends.mha.get_fastpath_enabled()
