"""Networks out to NIR and in from it: spikes in the frameworks of others, and what cannot be said."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from small_models import narrow
from torch import nn

from saccade.cli.main import run
from saccade.deploy import compare, load_program, lower
from saccade.deploy.exchange import from_nir, read_nir, to_nir, write_nir
from saccade.graph import outputs
from saccade.layers import AvgPool2d, BatchNorm2d, Conv2d, Linear
from saccade.models import create_model
from saccade.models.vgg import VggConfig
from saccade.neurons import LIFConfig
from saccade.neurons.spiking import Spiking
from saccade.verify import wake

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks


def chain(config, pools=True, seed=0):
    """Two convolutions and a matrix with neurons behind them, which fire, and a sequence of one sample."""
    torch.manual_seed(seed)
    pool = [AvgPool2d(2)] if pools else []
    layers = [Conv2d(2, 6, 3, padding=1), config.build(), *pool, Conv2d(6, 8, 3, padding=1, stride=2), config.build()]
    side = 2 if pools else 4
    model = nn.Sequential(*layers, nn.Flatten(2), Linear(8 * side * side, 5), config.build()).eval()
    x = torch.rand(12, 1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    weighted = [layer for layer in model if isinstance(layer, Conv2d | Linear)]
    for place, layer in enumerate(weighted):
        for _ in range(40):
            rate = spikes(model, x)[place].mean()
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter *= 1.25 if rate < 0.1 else 0.85 if rate > 0.6 else 1.0
    rates = [value.mean().item() for value in spikes(model, x)]
    assert all(0.02 < rate < 0.98 for rate in rates), rates
    return model, x


def spikes(model, x):
    """Of each layer of neurons."""
    with torch.no_grad(), outputs(model, lambda path, module: isinstance(module, Spiking)) as seen:
        model(x)
    return [calls[0] for calls in seen.values()]


def first(answer):
    """Without the states that a framework returns along."""
    return answer[0] if isinstance(answer, tuple) else answer


def stepped(net, x):
    """A network of a framework that keeps its state, step by step."""
    found, state = [], None
    with torch.no_grad():
        for frame in x:
            y = net(frame) if state is None else net(frame, state)
            y, state = y if isinstance(y, tuple) else (y, None)
            found.append(y.reshape(-1))
    return torch.stack(found)


@pytest.mark.parametrize("name", ["vgg", "ms_resnet18_small", "sew_resnet18_small"])
def test_out_and_in_again(name, tmp_path):
    """Normalisation, norms, residual additions, maxima of spikes, means of places."""
    if name == "vgg":
        model = VggConfig(T=4, channels=(6, 8, 8), pools=(1,), image_size=8).build()
        x = torch.rand(4, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    else:
        model, x = narrow(name)
    wake(model, x)
    model.eval()
    write_nir(to_nir(model, x), tmp_path / "net.nir")
    again = read_nir(tmp_path / "net.nir", T=4)
    with torch.no_grad():
        ours, theirs = model.double()(x.double()), again.double()(x.double())
    assert ours.std() > 0
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-5 * ours.abs().max().item())
    assert torch.equal(ours.argmax(1), theirs.argmax(1))


@pytest.mark.parametrize(
    "config",
    [
        LIFConfig(tau=2.0),
        LIFConfig(tau=3.0, decay_input=False, v_th=0.7),
        LIFConfig(tau=1.0, decay_input=False),
        LIFConfig(tau=float("inf"), decay_input=False, v_reset=-0.2),
        LIFConfig(tau=2.0, v_rest=-0.1, v_reset=-0.3, v_th=0.5, decay_input=False),
    ],
    ids=str,
)
def test_neurons_keep_their_spikes(config):
    model, x = chain(config)
    again = from_nir(to_nir(model, x, dt=1e-3))
    for mine, theirs in zip(spikes(model, x), spikes(again, x), strict=True):
        assert torch.equal(mine, theirs)


def test_thresholds_by_channel_and_groups():
    torch.manual_seed(0)
    neuron = LIFConfig(tau=2.0, v_th=(0.1, 0.2, 0.3, 0.05)).build(channels=4)
    model = nn.Sequential(Conv2d(4, 4, 3, groups=2), BatchNorm2d(4), neuron).eval()
    x = torch.rand(5, 2, 4, 6, 6)
    graph = to_nir(model, x)
    assert next(node for node in graph.nodes.values() if type(node).__name__ == "Conv2d").weight.shape == (4, 4, 3, 3)
    (mine,), (theirs,) = spikes(model, x), spikes(from_nir(graph), x)
    assert 0.02 < mine.mean() < 0.98
    assert (mine != theirs).float().mean() < 1e-3  # the norm went into the weights


def test_snntorch_runs_it(tmp_path):
    importing = pytest.importorskip("snntorch.import_nir")
    model, x = chain(LIFConfig(tau=4.0, decay_input=False, v_th=0.9))
    write_nir(to_nir(model, x), tmp_path / "net.nir")
    net = importing.import_from_nir(nir.read(tmp_path / "net.nir"))
    theirs, ours = stepped(net, x), spikes(model, x)[-1][:, 0]
    assert torch.equal(theirs, ours)


def test_what_snntorch_wrote(tmp_path):
    snn, exporting = pytest.importorskip("snntorch"), pytest.importorskip("snntorch.export_nir")
    torch.manual_seed(0)

    def leaky(beta, *shape):
        given = {"beta": torch.full(shape, beta), "threshold": torch.ones(shape)}
        return snn.Leaky(**given, init_hidden=True, reset_mechanism="zero", reset_delay=False)

    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        leaky(0.9, 4, 8, 8),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 5),
        leaky(0.75, 5),
    )
    with torch.no_grad():
        net[0].weight *= 2
        net[4].weight *= 5
    x = torch.rand(15, 1, 2, 8, 8)
    nir.write(tmp_path / "theirs.nir", exporting.export_to_nir(net, x[0], ignore_dims=[0]))
    for layer in net:
        if isinstance(layer, snn.Leaky):
            layer.reset_mem()
    theirs = stepped(net, x)
    ours = spikes(read_nir(tmp_path / "theirs.nir"), x)[-1][:, 0]
    assert 0.02 < theirs.mean() < 0.98
    assert torch.equal(theirs, ours)


def test_sinabs_runs_it():
    """Set to one spike a step and to potentials without a floor, as ours are."""
    sinabs, layers = pytest.importorskip("sinabs.nir"), pytest.importorskip("sinabs.layers")
    single = pytest.importorskip("sinabs.activation").SingleSpike
    model, x = chain(LIFConfig(tau=float("inf"), decay_input=False, reset="soft", v_th=0.8), pools=False)
    net = sinabs.from_nir(to_nir(model, x, convention="sinabs"), batch_size=1)
    for layer in net.modules():
        if isinstance(layer, layers.IAFSqueeze):
            layer.spike_fn, layer.min_v_mem = single, None
    with torch.no_grad():
        theirs = first(net(x[:, 0]))
    assert torch.equal(theirs.reshape(len(x), -1), spikes(model, x)[-1][:, 0])


def test_sinabs_runs_leaks():
    """Whose neurons it reads from NIR where layers are vectors."""
    sinabs, layers = pytest.importorskip("sinabs.nir"), pytest.importorskip("sinabs.layers")
    single = pytest.importorskip("sinabs.activation").SingleSpike
    torch.manual_seed(0)
    config = LIFConfig(tau=3.0, decay_input=False, reset="soft")
    model = nn.Sequential(nn.Flatten(2), Linear(12, 20), config.build(), Linear(20, 5), config.build()).eval()
    with torch.no_grad():
        model[1].weight *= 3
        model[3].weight *= 4
    x = torch.rand(20, 1, 3, 2, 2)
    net = sinabs.from_nir(to_nir(model, x, convention="sinabs"), batch_size=1)
    for layer in net.modules():
        if isinstance(layer, layers.LIFSqueeze):
            layer.spike_fn = single
    with torch.no_grad():
        theirs = first(net(x[:, 0])).reshape(len(x), -1)
    ours = spikes(model, x)[-1][:, 0]
    assert 0.02 < ours.mean() < 0.98
    assert torch.equal(theirs, ours)


def test_what_sinabs_wrote():
    sinabs, layers = pytest.importorskip("sinabs.nir"), pytest.importorskip("sinabs.layers")
    single = pytest.importorskip("sinabs.activation").SingleSpike
    torch.manual_seed(0)
    first, second, third = (
        layers.IAFSqueeze(batch_size=1, spike_fn=single),
        layers.LIFSqueeze(tau_mem=10.0, batch_size=1, spike_fn=single, norm_input=False),
        layers.IAFSqueeze(batch_size=1, spike_fn=single),
    )
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        first,
        layers.SumPool2d(2),
        nn.Conv2d(4, 4, 3),
        second,
        nn.Flatten(),
        nn.Linear(16, 5),
        third,
    )
    x = torch.rand(12, 1, 2, 8, 8)
    graph = sinabs.to_nir(net, x[:, 0])
    for layer in (first, second, third):
        layer.reset_states()
    with torch.no_grad():
        theirs = net(x[:, 0])
    ours = from_nir(graph, convention="sinabs")
    assert "fire twice there, and once here" in ours.notes[0]
    assert 0.02 < theirs.mean() < 0.98
    assert torch.equal(theirs, spikes(ours, x)[-1][:, 0])


def lif_node(shape, **changes):
    values = {"tau": 2e-4, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | changes
    return nir.LIF(
        **{name: np.array(np.broadcast_to(value, shape), dtype=np.float64) for name, value in values.items()}
    )


def graph_of(*nodes, shape=(3,), out=(2,), edges=None):
    names = ["input", *(f"n{i}" for i in range(len(nodes))), "output"]
    ends = nir.Input({"input": np.array(shape)}), nir.Output({"output": np.array(out)})
    edges = edges if edges is not None else list(pairwise(names))
    return nir.NIRGraph(dict(zip(names, (ends[0], *nodes, ends[1]), strict=True)), edges, type_check=False)


WEIGHT = np.ones((2, 3))


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (lambda: graph_of(nir.Affine(WEIGHT, np.full(2, np.nan))), "n0: its bias holds numbers that are not finite"),
        (lambda: graph_of(nir.Linear(np.ones((2, 3, 3)))), r"n0: a weight of shape \[2, 3, 3\]"),
        (lambda: graph_of(nir.LI(np.ones(3), np.ones(3), np.zeros(3))), "n0: a LI cannot be read"),
        (lambda: graph_of(nir.Delay(np.ones(3))), "n0: a Delay cannot be read"),
        (
            lambda: graph_of(lif_node((3,), tau=np.array([2e-4, 3e-4, 2e-4]))),
            "n0: its time constant differs from neuron to neuron",
        ),
        (
            lambda: graph_of(lif_node((3,), tau=20.0)),
            "200,000 steps of 0.0001 s: name another dt, or the convention sinabs",
        ),
        (lambda: graph_of(lif_node((3,), tau=5e-5)), "shorter than a step"),
        (
            lambda: graph_of(lif_node((2, 2), v_threshold=np.arange(4).reshape(2, 2)), shape=(2, 2)),
            "differs from place to place",
        ),
        (
            lambda: graph_of(nir.CubaLIF(*(np.full(3, value) for value in (1e-3, 1e-3, 10.0, 0.0, 1.0)))),
            "n0: its synaptic current outlasts a step, and no neuron here keeps one",
        ),
        (lambda: graph_of(nir.Linear(WEIGHT), nir.Linear(WEIGHT)), "its layers do not fit together"),
        (
            lambda: graph_of(
                nir.Linear(np.ones((3, 3))),
                lif_node((3,)),
                edges=[("input", "n0"), ("n0", "n1"), ("n1", "n0"), ("n1", "output")],
            ),
            "n0: lies on a loop, and recurrent connections cannot be read",
        ),
        (
            lambda: graph_of(nir.Linear(WEIGHT), edges=[("input", "n0"), ("n0", "nowhere")]),
            "an edge leads to nowhere, which is no node",
        ),
        (lambda: graph_of(nir.Linear(WEIGHT), edges=[("n0", "output")]), "n0: nothing leads to it"),
        (lambda: graph_of(nir.Linear(WEIGHT), shape=(1 << 13, 1 << 13)), "an input of shape"),
        (
            lambda: graph_of(
                nir.Conv2d(None, np.ones((2, 3, 3, 3)), (0, 1), (0, 0), (1, 1), 1, np.ones(2)), shape=(3, 4, 4)
            ),
            "n0: its stride is",
        ),
    ],
)
def test_what_cannot_be_read_is_named(graph, said, tmp_path):
    with pytest.raises(ValueError, match=said) as error:
        from_nir(graph())
    assert "\n" not in str(error.value)


def test_what_cannot_be_written_is_named():
    x = torch.rand(1, 3, 32, 32)
    for name, said in {
        "or_resnet18_small": "a mul of signals; connections of the kind add can be written",
        "qsd_small": "neurons of the kind Integer; LIF can be written",
    }.items():
        with pytest.raises(ValueError, match=said):
            to_nir(create_model(name).eval(), x)
    soft, x = chain(LIFConfig(tau=2.0, reset="soft"))
    with pytest.raises(ValueError, match="these have reset='soft': the convention sinabs subtracts the threshold"):
        to_nir(soft, x)
    hard, x = chain(LIFConfig(tau=2.0), pools=False)
    with pytest.raises(ValueError, match="sinabs subtracts the threshold and rests at 0"):
        to_nir(hard, x, convention="sinabs")
    with pytest.raises(ValueError, match="convention must be one of euler, sinabs"):
        to_nir(hard, x, convention="exact")
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        to_nir(hard.train(), x)


def test_other_ways_to_say_the_same():
    """Currents without memory, scales, sums of branches, graphs within graphs, padding by name."""
    cuba = nir.CubaLIF(*(np.full(3, value) for value in (1e-4, 2e-4, 2.0, 0.0, 1.0)), w_in=np.full(3, 0.5))
    plain = graph_of(nir.Scale(np.full(3, 0.5)), lif_node((3,)), out=(3,))
    x = torch.rand(9, 2, 3, 1, 1) * 3
    a, b = (spikes(from_nir(graph), x)[0] for graph in (graph_of(cuba, out=(3,)), plain))
    assert 0.02 < a.mean() < 0.98
    assert torch.equal(a, b)
    inner = graph_of(nir.Linear(np.eye(3)), out=(3,))
    nested = graph_of(inner, lif_node((3,)), out=(3,))
    both = graph_of(nir.Linear(np.eye(3) / 2), nir.Linear(np.eye(3) / 2), lif_node((3,)), out=(3,), edges=[
        ("input", "n0"), ("input", "n1"), ("n0", "n2"), ("n1", "n2"), ("n2", "output"),
    ])  # fmt: skip
    found = [spikes(from_nir(graph), x)[0] for graph in (graph_of(lif_node((3,)), out=(3,)), nested, both)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[0], (from_nir(graph_of(lif_node((3,)), out=(3,)))(x, steps=True)))
    weight = np.random.default_rng(0).normal(size=(2, 3, 3, 3))
    same = nir.Conv2d(None, weight, 1, "same", 1, 1, np.zeros(2))
    one = nir.Conv2d(None, weight, (1, 1), (1, 1), (1, 1), 1, np.zeros(2))
    y = [from_nir(graph_of(node, shape=(3, 5, 5), out=(2, 5, 5)))(torch.ones(1, 1, 3, 5, 5)) for node in (same, one)]
    assert torch.equal(*y)


def test_damaged_foreign_and_later_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    model, x = chain(LIFConfig(tau=2.0))
    path = tmp_path / "net.nir"
    write_nir(to_nir(model, x), path)
    good = path.read_bytes()
    draw = np.random.default_rng(0)
    damaged = [good[: len(good) // 2], good[:100], b"", b"no graph", good[: len(good) - 2000]]
    for _ in range(60):
        bad = bytearray(good)
        for at in draw.integers(0, len(good), 8):
            bad[at] ^= int(draw.integers(1, 256))
        damaged.append(bytes(bad))
    said = []
    for bad in damaged:
        path.write_bytes(bad)
        try:
            read_nir(path)
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 10
    assert all(line.startswith(str(path)) and "\n" not in line for line in said)
    with h5py.File(path, "w") as file:
        file["version"] = "9.0"
    with pytest.raises(ValueError, match="written by NIR 9.0, and 1"):
        read_nir(path)
    with h5py.File(path, "w") as file:
        file["version"] = "1.0"
        file.create_dataset("node/weight", (1 << 20, 1 << 14), dtype="f4", chunks=(1024, 1024), compression="gzip")
    with pytest.raises(ValueError, match="its arrays take more than 2 GiB"):
        read_nir(path)
    with pytest.raises(ValueError, match="no such NIR file"):
        read_nir(tmp_path / "none.nir")


def test_the_commands(tmp_path, capsys):
    model, x = chain(LIFConfig(tau=2.0))
    write_nir(to_nir(model, x), tmp_path / "net.nir")
    assert (
        run(["deploy", "import", str(tmp_path / "net.nir"), str(tmp_path / "net.sacc"), "--steps", "12", "--sequence"])
        == 0
    )
    said = capsys.readouterr().out
    assert "3 layers of neurons" in said
    assert "a 1 of its input is 1 in the network" in said
    program = load_program(tmp_path / "net.sacc")
    pixels = (x * 3).round()
    assert compare(program, read_nir(tmp_path / "net.nir", T=12), pixels).mismatches == 0
    assert all(levels.any() for levels in program.spikes(pixels.numpy()).values())
    assert run(["deploy", "build", str(tmp_path / "net.nir"), "--out", str(tmp_path / "still.sacc")]) == 0
    assert not load_program(tmp_path / "still.sacc").sequence
    assert run(["deploy", "import", str(tmp_path / "net.nir"), str(tmp_path / "x.sacc"), "--dt", "1e-9"]) == 2
    assert "name another dt" in capsys.readouterr().err
    assert not (tmp_path / "x.sacc").exists()


def test_a_program_of_an_imported_network():
    model, x = chain(LIFConfig(tau=2.0, decay_input=False))
    net = from_nir(to_nir(model, x), T=6)
    pixels = (x[:, :1] * 255).round()
    assert compare(lower(net, pixels / 255), net, pixels).mismatches == 0
    still = lower(net, pixels[0] / 255)
    assert still.T == 6
    assert compare(still, net, pixels[0]).mismatches == 0
