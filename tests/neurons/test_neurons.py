"""Surrogates, presets against the papers' loops, recording and streaming."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from saccade import neurons
from saccade.layers import BatchNorm2d, Conv2d, TimeGate
from saccade.models import create_model
from saccade.neurons import LIF, NEURONS, LIFConfig, NeuronConfig, Stream, Temporal, recording, strict
from saccade.verify import wake

SURROGATES = [
    neurons.ATan(2.0),
    neurons.ATan(5.0),
    neurons.Sigmoid(4.0),
    neurons.Triangle(1.0),
    neurons.Triangle(0.5),
    neurons.Rectangle(0.5),
    neurons.Rectangle(0.25),
    neurons.Gaussian(0.5),
]


@pytest.mark.parametrize("surrogate", [*SURROGATES, neurons.StraightThrough()], ids=repr)
def test_derivative_is_that_of_the_primitive(surrogate):
    d = torch.linspace(-2.013, 2.017, 401, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(surrogate.primitive(d).sum(), d)
    assert torch.allclose(slope, surrogate.derivative(d.detach()), atol=1e-12)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_the_primitive_rises_from_zero_to_one(surrogate):
    far = torch.tensor([-1e7, 0.0, 1e7], dtype=torch.float64)
    assert torch.allclose(surrogate.primitive(far), torch.tensor([0, 0.5, 1], dtype=torch.float64), atol=1e-6)


def test_hand_worked_derivatives():
    at = torch.tensor([0.0, 0.5])
    assert neurons.ATan(2.0).derivative(at).tolist() == pytest.approx([1, 1 / (1 + (math.pi / 2) ** 2)])
    assert neurons.Triangle(1.0).derivative(at).tolist() == pytest.approx([1, 0.5])
    assert neurons.Rectangle(0.25).derivative(at).tolist() == pytest.approx([2, 0])
    assert neurons.Sigmoid(4.0).derivative(at)[0] == pytest.approx(1)
    assert neurons.Gaussian(0.5).derivative(at)[0] == pytest.approx(1 / (0.5 * math.sqrt(2 * math.pi)))
    with pytest.raises(ValueError, match="ATan: alpha must be positive, got 0"):
        neurons.ATan(0)


def drive(seed=0, T=12, scale=1.5):
    return torch.randn(T, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def run(name, x):
    spikes = NEURONS[name].build().double()(x)
    assert 0.02 < spikes.mean() < 0.6  # silence would agree with anything
    return spikes


def test_lif_is_the_published_form():
    x, v, expected = drive(), torch.zeros(3, 4, dtype=torch.float64), []
    for current in x:  # H = V + (X - V) / 2; S = [H >= 1]; V = H (1 - S)
        h = v + (current - v) / 2
        s = (h >= 1).double()
        v = h * (1 - s)
        expected.append(s)
    assert torch.equal(run("lif", x), torch.stack(expected))


def test_ms_is_the_published_mem_update():
    x, expected = drive(1), []
    u = s = torch.zeros(3, 4, dtype=torch.float64)
    for current in x:  # u = 0.25 u (1 - s) + x; s = [u > 0.5]
        u = 0.25 * u * (1 - s) + current
        s = (u > 0.5).double()
        expected.append(s)
    assert torch.equal(run("ms", x), torch.stack(expected))


def test_ms_is_a_lif_of_tau_four_thirds_off_threshold():
    x = drive(8)
    plain = LIF(tau=4 / 3, decay_input=False, v_th=0.5).double()
    _, _, potentials = plain.run(x, record=True)
    assert (potentials - 0.5).abs().min() > 1e-6
    assert torch.equal(run("ms", x), plain(x))


def test_ma_cell_goes_to_v_th_after_a_spike_and_leaks():
    x, h, expected = drive(2, scale=0.3), torch.zeros(3, 4, dtype=torch.float64), []
    for current in x:  # u = h + x; s = [u - .3 >= 0]; h = .3 (s V_th + (1 - s) u)
        u = h + current
        s = (u - 0.3 >= 0).double()
        h = 0.3 * (s * 0.3 + (1 - s) * u)
        expected.append(s)
    assert torch.equal(run("ma", x), torch.stack(expected))


@pytest.mark.parametrize(("name", "v_th"), [("qp", 1.0), ("tet", 1.0)])
def test_qp_and_tet(name, v_th):
    x, u, expected = drive(3), torch.zeros(3, 4, dtype=torch.float64), []
    for current in x:  # u~ = 0.5 u + x; s = [u~ > v_th]; u = u~ (1 - s)
        u = 0.5 * u + current
        s = (u > v_th).double()
        u = u * (1 - s)
        expected.append(s)
    assert torch.equal(run(name, x), torch.stack(expected))


def test_stbp_if_and_memory_free_leak():
    x = drive(4)
    expected, u, s = [], 0.0, 0.0
    for current in x:
        u = 0.25 * u * (1 - s) + current
        s = (u > 0.2).double()
        expected.append(s)
    assert torch.equal(NEURONS["stbp"].build().double()(x), torch.stack(expected))
    expected, v = [], 0.0
    for current in x:
        v = v + current
        s = (v >= 1).double()
        v = v * (1 - s)
        expected.append(s)
    assert torch.equal(run("if", x), torch.stack(expected))
    # no reset: the potential is the causal filter A x with A_ij = 2^-(i-j)
    T = len(x)
    lags = torch.arange(T)[:, None] - torch.arange(T)
    weights = torch.where(lags >= 0, 0.5 ** lags.double(), 0.0)
    mixed = torch.einsum("ij,jnd->ind", weights, x)
    assert torch.equal(run("memory_free_leak", x), (mixed >= 1).double())


def test_strict_threshold_is_the_next_float32():
    assert strict(1.0) > 1.0
    layer = LIF(tau=2.0, decay_input=False, v_th=strict(1.0))
    assert layer(torch.ones(1, 1)).item() == 0
    assert layer(torch.full((1, 1), strict(1.0))).item() == 1


def test_plif_starts_as_lif_and_learns_its_tau():
    x = drive(5).float()
    plif = NEURONS["plif"].build()
    assert plif.w.item() == 0
    assert torch.equal(plif(x), NEURONS["lif"].build()(x))
    plif(x).sum().backward()
    assert plif.w.grad.abs() > 0
    assert plif.tau() == 2


def test_plif_gradient_against_finite_differences_of_the_smooth_network(monkeypatch):
    module = sys.modules["saccade.kernels.reference"]

    monkeypatch.setattr(module, "spike", lambda d, s: s.primitive(d))
    layer = LIF(tau=3.0, learn_tau=True, detach_reset=False).double()
    x = drive(6)

    def loss(w):
        with torch.no_grad():
            layer.w.copy_(w)
        return float(layer(x).detach().square().sum())

    at = layer.w.detach().clone()
    layer(x).square().sum().backward()
    slope = (loss(at + 1e-6) - loss(at - 1e-6)) / 2e-6
    assert layer.w.grad.item() == pytest.approx(slope, rel=1e-6)


def test_every_preset_runs_and_prints_itself():
    for config in NEURONS.values():
        layer = (replace(config, T=2) if getattr(config, "T", 2) is None else config).build(channels=3)
        assert layer(torch.ones(2, 1, 3)).shape == (2, 1, 3)
        assert repr(layer.config) in repr(layer)
        assert NeuronConfig.parse(layer.config.record()) == layer.config
    with pytest.raises(ValueError, match="unknown neuron 'lfi'; did you mean lif"):
        NEURONS["lfi"]


def test_thresholds_per_channel():
    layer = LIF(tau=math.inf, decay_input=False, v_th=(0.5, 2.0))
    spikes = layer(torch.ones(1, 1, 2, 3, 3))
    assert spikes[0, 0, :, 0, 0].tolist() == [1, 0]
    tokens = LIF(tau=math.inf, decay_input=False, v_th=(0.5, 2.0), channel_axis=3)
    assert tokens(torch.ones(1, 1, 5, 2))[0, 0, 0].tolist() == [1, 0]
    assert "v_th" in layer.state_dict()
    with pytest.raises(ValueError, match=r"values of 2 channels do not fit axis 2 of an input \[1, 1, 3\]"):
        layer(torch.ones(1, 1, 3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tau": 0.5}, "tau must be at least 1"),
        ({"tau": math.inf}, "would ignore its input"),
        ({"tau": 1.0, "learn_tau": True}, "learnable tau must start above 1"),
        ({"reset": "Soft"}, "reset must be one of"),
        ({"tau": "2"}, "tau: Input should be a valid number, got '2'"),
        ({"v_th": "1.0"}, "v_th: Input should be a valid number, got '1.0'"),
        ({"v_th": math.nan}, "v_th: is not a number"),
        ({"surrogate": "ATan "}, "surrogate: unknown surrogate 'ATan '; did you mean ATan"),
    ],
)
def test_config_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        LIFConfig(**fields)


@pytest.mark.parametrize("v_th", [np.float64(0.5), np.float32(0.5), torch.tensor(0.5), 0.5])
def test_thresholds_of_other_types(v_th):
    assert LIFConfig(v_th=v_th).v_th == 0.5
    assert LIF(v_th=[v_th, 2.0])(torch.ones(1, 1, 2)).tolist() == [[[1, 0]]]


def test_a_threshold_for_each_channel_stands_in_one_place():
    """The buffer is what a file restores; the config says what is there."""
    layer = LIF(v_th=(0.5, 2.0))
    with torch.no_grad():
        layer.v_th.copy_(torch.tensor([0.25, 4.0]))
    assert layer.config.v_th == (0.25, 4.0)
    layer.keep_channels(torch.tensor([1]))
    assert layer.config.v_th == (4.0,)
    with pytest.raises(ValueError, match="are not one for each"):
        layer.set_thresholds(torch.ones(3))


def test_a_stream_keeps_no_graph():
    """5,000 chunks with gradients on: what is kept does not grow."""
    layer = LIF(NEURONS["plif"])
    stream = Stream(nn.Sequential(layer).eval())
    for _ in range(5000):
        stream(torch.ones(1, 1, 2))
    assert not stream.states["0"].requires_grad


class TwoParts(Temporal):
    """A state of two tensors: the sum so far and the step."""

    def step(self, x, state=None):
        total = torch.zeros_like(x[0]) if state is None else state["total"]
        count = torch.zeros(x.shape[1]) if state is None else state["count"]
        sums = x.cumsum(0) + total
        return sums, {"total": sums[-1], "count": count + len(x)}

    def state_spec(self, shape):
        return {"total": (shape, 32), "count": ((), 32)}


def test_a_state_may_be_a_dict(tmp_path):
    net, x = nn.Sequential(TwoParts()).eval(), drive(1).float()
    stream = Stream(net)
    first = stream(x[:2])
    stream.save(tmp_path / "s.safetensors")
    again = Stream(net)
    again.load(tmp_path / "s.safetensors")
    assert torch.allclose(torch.cat([first, again(x[2:])]), net(x))
    assert again.states["0"]["count"].tolist() == [len(x)] * x.shape[1]
    spec = net[0].state_spec(tuple(x.shape[2:]))
    assert {name: shape for name, (shape, _) in spec.items()} == {
        k: tuple(v.shape[1:]) for k, v in again.states["0"].items()
    }


@pytest.mark.parametrize("name", [name for name, config in NEURONS.items() if getattr(config, "T", 0) is not None])
def test_the_state_is_what_the_spec_says(name):
    layer, x = NEURONS[name].build(channels=3), torch.randn(6, 2, 3, 4, 4)
    _, state = layer.step(x)
    spec = layer.state_spec((3, 4, 4))
    parts = {} if state is None else {next(iter(spec)): state} if isinstance(state, torch.Tensor) else state
    assert {key: tuple(value.shape[1:]) for key, value in parts.items()} == {
        key: shape for key, (shape, _) in spec.items()
    }


def test_a_module_keeps_nothing():
    layer, x = NEURONS["lif"].build(), drive(7).float()
    assert torch.equal(layer(x), layer(x))
    assert set(layer.state_dict()) == set()


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        Conv2d(2, 4, 3, padding=1), BatchNorm2d(4), NEURONS["lif"].build(), Conv2d(4, 3, 3), NEURONS["plif"].build()
    )
    with torch.no_grad():
        net[1].bias.fill_(1.0)
        net[3].bias.fill_(1.5)
    return net.eval()


def test_recording_gives_the_potentials_of_every_layer():
    net, x = small_net(), torch.randn(3, 2, 2, 5, 5)
    with recording(net) as potentials:
        spikes = net(x)
    assert list(potentials) == ["2", "4"]
    assert torch.equal((potentials["4"][0] >= 1).float(), spikes)
    net(x)
    assert len(potentials["4"]) == 1  # recording ends with the block


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1, 1), (2, 4), (6,), (5, 1)])
def test_stream_equals_the_whole(cuts):
    net, x = small_net(), torch.randn(6, 2, 2, 5, 5, generator=torch.Generator().manual_seed(1)) * 2
    stream = Stream(net)
    whole = net(x)
    assert 0.02 < whole.mean() < 0.6
    assert torch.equal(torch.cat([stream(part) for part in x.split(cuts)]), whole)
    assert not torch.equal(stream(x), whole)  # it went on from the last state
    stream.reset()
    assert torch.equal(stream(x), whole)
    assert torch.equal(net(x), whole)  # and the model itself kept nothing


def test_a_frame_in_a_stream_is_one_step():
    """A camera's frame, [N, C, H, W], is not shown for the model's T steps as a picture is."""
    torch.manual_seed(0)
    model = create_model("or_resnet18_small", T=4).eval()
    wake(model, torch.rand(4, 2, 3, 16, 16))
    frames = torch.rand(3, 2, 3, 16, 16)
    stream, whole = Stream(model), model(frames, steps=True)
    assert whole.std() > 0
    for frame, expected in zip(frames, whole, strict=True):
        assert torch.equal(stream(frame), expected)


def test_stream_states_can_be_saved(tmp_path):
    net, x = small_net(), torch.randn(6, 2, 2, 5, 5) * 2
    first, second = Stream(net), Stream(net)
    first(x[:4])
    first.save(tmp_path / "state.safetensors")
    second.load(tmp_path / "state.safetensors")
    assert torch.equal(first(x[4:]), second(x[4:]))
    with pytest.raises(ValueError, match="holds states of another model, e.g. for '2'"):
        Stream(nn.Sequential(NEURONS["lif"].build())).load(tmp_path / "state.safetensors")
    (tmp_path / "bad").write_bytes(b"no")
    with pytest.raises(ValueError, match="bad: cannot read the stream's states"):
        first.load(tmp_path / "bad")


def test_stream_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"0 \(TimeGate\) looks at later steps, so it cannot be streamed"):
        Stream(nn.Sequential(TimeGate(4)))
    net = small_net()
    stream = Stream(net)
    stream(torch.randn(1, 2, 2, 5, 5))
    with pytest.raises(ValueError, match="the stream holds 2 samples, got 3"):
        stream(torch.randn(1, 3, 2, 5, 5))
    shared = NEURONS["lif"].build()
    with pytest.raises(ValueError, match="is called twice in one forward"):
        Stream(nn.Sequential(shared, shared).eval())(torch.randn(1, 2, 3))
    with pytest.raises(ValueError, match="needs model.eval"):
        Stream(net.train())(torch.randn(1, 2, 2, 5, 5))
