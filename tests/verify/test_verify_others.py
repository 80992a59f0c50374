"""Models that nobody here wrote: nothing about them is guessed from names, and what is no fault is not called one."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import verify_replicas as replicas
from torch import nn

from saccade.graph.declared import peer_levels
from saccade.neurons import LIF
from saccade.verify import firing_rates, verify, wake


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def failed(found):
    return [check.name for check in found.checks if check.status == "FAIL"]


def hidden(model, x, **options):
    return verify(model, x, time_axis="first", reset=replicas.reset_hidden, spiking=["HiddenLIF"], **options)


class Spike(nn.Module):
    def forward(self, x):
        return (x > 0.5).to(x)


class Block(nn.Module):
    """A residual whose sum is written into the spikes of the last neuron."""

    def __init__(self, add):
        super().__init__()
        self.c1, self.c2, self.sn1, self.sn2 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), Spike(), Spike()
        self.add = add

    def forward(self, x):
        identity = self.sn1(self.c1(x) * 4)
        return self.add(self.sn2(self.c2(identity) * 4 + 1), identity)


def _masked(out, identity):
    out[identity > 0] = 2
    return out


WRITES = {
    "iadd": lambda out, identity: out.__iadd__(identity),
    "add_": lambda out, identity: out.add_(identity),
    "mul_": lambda out, identity: out.mul_(3),
    "copy_": lambda out, identity: out.copy_(identity + 5),
    "a view": lambda out, identity: out.flatten(1).add_(1).view_as(out),
    "a mask": _masked,
    "resized": lambda out, identity: out.unsqueeze_(0).add_(1).squeeze_(0),
    "out=": lambda out, identity: torch.add(out, identity, out=out),
}


@pytest.mark.parametrize("write", WRITES)
def test_what_is_written_into_spikes_later_is_not_what_the_neuron_gave(write):
    found = verify(Block(WRITES[write]), torch.rand(3, 3, 8, 8), time_axis="none", spiking=["Spike"])
    assert found["alphabet"].status == "PASS"
    assert found.rates["sn2"] < 1
    assert failed(found) in ([], ["gradients in eval"])


def test_a_model_that_writes_into_its_input_is_told_and_does_no_harm():
    class Greedy(nn.Module):
        def forward(self, x):
            return x.mul_(2)

    x = torch.rand(3, 6)
    before = x.clone()
    found = verify(nn.Sequential(Greedy(), nn.Linear(6, 3)), x, time_axis="none")
    assert torch.equal(x, before)
    assert found["calls agree"].status == "WARN"
    assert "writes into the input" in found["calls agree"].detail
    assert failed(found) == []


class Kept(nn.Module):
    def __init__(self):
        super().__init__()
        self.masks, self.by_name = [torch.ones(8, 8)], {"scale": torch.full((8,), 0.5)}

    def forward(self, x):
        return nn.functional.linear(x, self.masks[0]) @ torch.diag(self.by_name["scale"])


class Allocates(nn.Conv2d):
    def forward(self, x):
        made = torch.zeros(x.shape[0], x.shape[1], self.out_channels, *x.shape[3:])
        for t in range(x.shape[0]):
            made[t] = super().forward(x[t])
        return made


def test_models_that_allocate_in_the_default_dtype():
    model = nn.Sequential(Allocates(2, 4, 3, padding=1), Allocates(4, 4, 3, padding=1))
    model[0].kept = torch.ones(3)  # a plain attribute, no buffer
    model.append(Kept())
    found = verify(model, torch.rand(4, 3, 2, 8, 8), time_axis="first")
    assert found.passed, found.table()
    assert torch.get_default_dtype() == torch.float32
    assert model[0].kept.dtype == torch.float32
    with pytest.raises(ValueError, match="refuses"):
        verify(model, torch.rand(4, 3, 3, 8, 8), time_axis="first")
    assert torch.get_default_dtype() == torch.float32


class Narrow(replicas.HiddenLIF):
    """Emits float32 and loses its hooks when it is copied, as sinabs' layers do."""

    def forward(self, x):
        return super().forward(x).float()

    def __deepcopy__(self, memo):
        made = type(self)()
        made.v = copy.deepcopy(self.v, memo)
        return made


def test_hooks_that_a_deepcopy_drops():
    model = replicas.mlp(nn.Linear(8, 8), neuron=Narrow())
    found = hidden(model, torch.rand(4, 3, 6), strict=True)
    assert found.passed, found.table()
    assert found.inputs[-1] == "output of Narrow cast up to float64"


class NeedsAll(nn.Module):
    """A weight for each step, whatever is given."""

    def __init__(self, T):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(T, 1, 1))

    def forward(self, x):
        if x.shape[0] != len(self.weight):
            raise ValueError(f"expected {len(self.weight)} steps")
        return x * self.weight


class Mixes(nn.Module):
    """PSN: a matrix over all of time."""

    def __init__(self, T):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(T) + 0.1)

    def forward(self, x):
        return torch.tensordot(self.weight, x, 1)


class Mean(nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)


@pytest.mark.parametrize(
    ("layer", "words"),
    [(NeedsAll(4), "needs all its 4 steps"), (Mixes(4), "not causal"), (Mean(), "not causal")],
)
def test_what_cannot_be_cut_is_skipped_with_the_reason(layer, words):
    found = hidden(
        nn.Sequential(nn.Linear(6, 8), layer, replicas.HiddenLIF(), nn.Linear(8, 2)), 12 * torch.rand(4, 3, 6)
    )
    assert failed(found) == []
    assert found["whole = chunks"].status == "SKIP"
    assert words in found["whole = chunks"].detail
    assert found["whole = chunks"].layer == "1"


class Shared(nn.Module):
    def __init__(self, neuron):
        super().__init__()
        self.a, self.b, self.l = nn.Linear(6, 6), nn.Linear(6, 3), neuron

    def forward(self, x):
        return self.l(self.b(self.l(self.a(x))))


def test_one_neuron_at_two_places():
    found = verify(Shared(LIF(v_th=0.2)), torch.rand(6, 3, 6) * 2, time_axis="first")
    assert failed(found) == []
    assert found["whole = chunks"].status == "SKIP"
    assert "l is called twice" in found["whole = chunks"].detail
    assert (
        verify(Shared(Spike()), torch.rand(6, 3, 6) * 2, time_axis="first", spiking=["Spike"])["alphabet"].status
        == "PASS"
    )


class Named(nn.Module):
    """Somebody's, with attributes that mean something here."""

    def __init__(self, **named):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 1)
        for name, value in named.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.conv(x).mean((-1, -2))


@pytest.mark.parametrize(
    "named",
    [
        {"T": 4, "num_classes": 10, "in_channels": 3},
        {"levels": 3},
        {"levels": (1, 2, 4)},
        {"levels": ["low", "high"]},
        {"levels": [0]},
        {"levels": ()},
        {"causal": False, "fixed_T": 3, "role": "gate", "gives_steps": True, "state_spec": None, "joins": True},
        {"step": 3, "neuron": "lif", "config": {}},
    ],
)
def test_attributes_of_others_mean_nothing(named):
    found = verify(Named(**named), torch.rand(3, 3, 8, 8), time_axis="none")
    assert found.passed, found.table()
    assert found["activity"].status == found["alphabet"].status == "SKIP"
    assert firing_rates(Named(**named), torch.rand(3, 3, 8, 8)) == wake(Named(**named), torch.rand(3, 3, 8, 8)) == {}


def test_an_attention_of_theirs_that_is_called_not_causal_is_asked():
    model = nn.Sequential(nn.Linear(6, 8), replicas.HiddenLIF(), nn.Linear(8, 8))
    model[2].causal = False
    nn.init.constant_(model[0].bias, 1.2)
    found = hidden(model, torch.rand(4, 3, 6))
    assert found["causal"].status == "PASS"
    assert found["whole = chunks"].status == "PASS"


@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("stepped", [True, False])
def test_a_stateful_branch_evaluated_twice(twice, stepped):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.b, self.s = replicas.branch(2, 4, replicas.HiddenLIF()), replicas.branch(2, 4, replicas.HiddenLIF())

        def once(self, x):
            if twice:
                return (self.b(x) + self.s(x)) - (self.b(x) * self.s(x))
            b, s = self.b(x), self.s(x)
            return b + s - b * s

        def forward(self, x):
            return torch.cat([self.once(step[None]) for step in x]) if stepped else self.once(x)

    found = hidden(Net(), torch.rand(4, 3, 2, 8, 8))
    assert failed(found)[:1] == (["calls agree"] if twice else [])
    if twice:
        assert found["calls agree"].layer == "b.1"
        assert "asked twice in one forward" in found["calls agree"].detail


def test_the_same_current_at_every_step_is_no_second_question():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(6, 8), replicas.HiddenLIF()

        def forward(self, x):
            return torch.stack([self.lif(self.fc(x)[None])[0] for _ in range(6)]).mean(0)

    model = Constant()
    nn.init.constant_(model.fc.bias, 1.2)
    found = verify(model, torch.rand(3, 6), time_axis="none", reset=replicas.reset_hidden, spiking=["HiddenLIF"])
    assert found.passed, found.table()


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_parameters_that_are_no_numbers(value, word):
    model = replicas.mlp()
    with torch.no_grad():
        model[0].weight[2, 3] = value
    found = verify(model, torch.rand(4, 3, 6), time_axis="first")
    assert found["calls agree"].status == "FAIL"
    assert f"parameter 0.weight holds 1 {word} of 48 values" in found["calls agree"].detail
    assert found["calls agree"].layer == "0"


def test_a_nan_buffer_is_told_and_an_infinite_mask_is_fine():
    model = replicas.mlp()
    model[0].register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    assert verify(model, torch.rand(4, 3, 6), time_axis="first")["calls agree"].status == "PASS"
    model[0].register_buffer("scale", torch.tensor([float("nan")]))
    assert "buffer 0.scale holds 1 NaN" in verify(model, torch.rand(4, 3, 6), time_axis="first")["calls agree"].detail


class CutsLike(nn.Module):
    """As an older SpikingJelly: in eval mode the spikes come from a function without a surrogate, and a part of the neuron is
    called in train mode only."""

    def __init__(self):
        super().__init__()
        self.surrogate = nn.Identity()

    def forward(self, x):
        hard = (x >= 0.5).to(x)
        return self.surrogate(hard + x - x.detach()) if self.training else hard


def test_a_cut_gradient_names_the_layer():
    model = replicas.mlp(nn.Linear(8, 8), CutsLike())
    found = verify(model, torch.rand(4, 3, 6), time_axis="first", spiking=["CutsLike"])
    assert failed(found) == ["gradients in eval"]
    assert found["gradients in eval"].layer == "3"
    model = nn.Sequential(nn.Linear(6, 8), Spike())
    found = verify(model, torch.rand(4, 3, 6), time_axis="first", spiking=["Spike"])
    assert found["gradients in eval"].layer == "1"
    assert "cuts it" in found["gradients in eval"].detail
    model = nn.Sequential(nn.Linear(6, 8), Spike(), nn.Linear(8, 3))
    found = verify(model, torch.rand(4, 3, 6), time_axis="first", spiking=["Spike"])
    assert found["gradients in eval"].status == "WARN"
    assert found["gradients in eval"].layer == "1"


class Leak(nn.Module):
    """A neuron on time and batch as one axis, behind one that may be silent."""

    def __init__(self, bias):
        super().__init__()
        self.first, self.lif, self.second, self.last = nn.Linear(6, 8), LIF(), nn.Linear(8, 8), LIF()
        nn.init.constant_(self.first.bias, bias)

    def forward(self, x):
        y = self.second(self.lif(self.first(x)))
        return self.last(y.flatten(0, 1)[:, None])[:, 0].unflatten(0, y.shape[:2])


def test_silence_does_not_hide_a_leak():
    x = torch.rand(4, 3, 6)
    found = verify(Leak(bias=-5.0), x, time_axis="first")
    assert found.rates["lif"] == 0
    assert "alone = in a batch" in failed(found)
    assert found["alone = in a batch"].layer == "last"
    assert found["activity"].status == "WARN"
    assert "woken" in found["activity"].detail


def test_silence_that_cannot_be_broken_is_no_pass():
    model = nn.Sequential(nn.Linear(6, 8), LIF(v_th=float("inf")), nn.Linear(8, 3))
    found = verify(model, torch.rand(4, 3, 6), time_axis="first")
    assert not found.passed
    assert "equalities of silence prove nothing" in found["activity"].detail
    nobody_knows = nn.Sequential(nn.Linear(6, 8), Never(), nn.Linear(8, 3))
    found = verify(nobody_knows, torch.rand(4, 3, 6), time_axis="first")
    assert not found.passed
    assert "name them" in found["activity"].detail


class Never(nn.Module):
    def forward(self, x):
        return 0 * x


@pytest.mark.parametrize("stepped", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_waking_declared_neurons_with_a_reset(stepped, bias):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.l1 = nn.Linear(6, 16, bias=bias), replicas.HiddenLIF()
            self.b, self.l2 = nn.Linear(16, 16, bias=bias), replicas.HiddenLIF()
            for layer in (self.a, self.b):
                layer.weight.data.mul_(0.1)

        def forward(self, x):
            def run(x):
                return self.l2(self.b(self.l1(self.a(x))))

            return torch.cat([run(step[None]) for step in x]) if stepped else run(x)

    model, x, said = Net(), torch.rand(5, 3, 6), {"spiking": ["HiddenLIF"], "reset": replicas.reset_hidden}
    assert firing_rates(model, x, **said) == {"l1": 0, "l2": 0}
    rates = wake(model, x, time_axis="first", **said)
    assert all(0.05 <= rate <= 0.5 for rate in rates.values())
    assert rates == firing_rates(model, x, **said)
    assert model.l1.v is None  # left at rest


class Ordered(nn.Module):
    """Ten times a tenth, added up in another order for another batch, as kernels do: 1, or one unit in the last place less."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((10,), 0.1, dtype=torch.float64))

    def forward(self, x):
        terms = (self.weight * x).unbind(-1)
        if x.shape[1] == 3:
            return sum(terms)[..., None]
        total = sum(terms[:5]) + sum(terms[5:])
        return total[..., None]


class Reaches(nn.Module):
    def forward(self, x):
        return (x >= 1).to(x) + 0 * x


@pytest.mark.parametrize("neuron", ["ours", "declared", "unknown"])
def test_ties_are_told_from_leaks(neuron):
    assert sum([0.1] * 10) < 1 == sum([0.1] * 5) + sum([0.1] * 5)
    x = torch.ones(6, 3, 10)
    x[::2, 1], x[1, :, 0], x[4, 2] = 0, 0, 2.0
    told = {"spiking": ["Reaches"]} if neuron == "declared" else {}
    model = nn.Sequential(Ordered(), LIF(v_th=0.5) if neuron == "ours" else Reaches(), nn.Linear(1, 2))
    found = verify(model, x, time_axis="first", **told)
    assert found.passed, found.table()
    assert found["alone = in a batch"].status == "WARN"
    assert found["alone = in a batch"].layer == "1"
    assert "a tie: potentials of 1 meet the threshold exactly" in found["alone = in a batch"].detail

    class Leaks(Reaches):
        def forward(self, x):
            return super().forward(x + x.roll(1, 1))

    found = verify(nn.Sequential(Ordered(), Leaks(), nn.Linear(1, 2)), x, time_axis="first", spiking=["Leaks"])
    assert found["alone = in a batch"].status == "FAIL"


def test_peers_are_known_by_where_their_classes_come_from():
    def made(package, name, base=nn.Module):
        return type(name, (base,), {"__module__": package, "forward": lambda self, x: (x > 0.5).to(x)})

    base = made("spikingjelly.activation_based.neuron", "BaseNode")
    model = nn.Sequential(
        made("somebody.models", "MyNode", base)(),
        made("snntorch._neurons.neurons", "SpikingNeuron")(),
        made("norse.torch.module.lif", "LIFCell")(),
        made("norse.torch.module.leaky_integrator", "LICell")(),
        made("sinabs.layers.lif", "LIF")(),
        made("spikingjelly.activation_based.neuron", "NonSpikingLIFNode")(),
        made("somebody.neuron", "LIFNode")(),
        made("spikingjelly.activation_based.neuron.lif", "LIFNode")(),  # where 2.0 keeps them
        made("spikingjelly.activation_based.neuron.ternary", "TernaryIFNode", base)(),
        made("spikingjelly.activation_based.neuron.ilif", "ILIFNode", base)(),
        made("spikingjelly.activation_based.neuron.lif_variants", "LIAFNode", base)(),  # gives real numbers
        made("spikingjelly.activation_based.neuron.psn", "SlidingPSN")(),
        made("spikingjelly.activation_based.neuron.few_spike", "FewSpikeTable")(),
    )
    levels = peer_levels(model)
    assert list(levels) == ["0", "1", "2", "4", "7", "8", "9", "11"]
    assert levels["8"] == (-1.0, 0.0, 1.0)
    assert max(levels["9"]) > 1
    assert levels["0"] == (0.0, 1.0)
    assert max(levels["4"]) > 1


class Pair(nn.Module):
    """Template and search, ``[T, N, ...]`` and ``[N, ...]``."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.lif = nn.Linear(6, 8), nn.Linear(5, 8), LIF(v_th=0.2)

    def forward(self, x, z):
        return self.lif(self.a(x) + self.b(z))


def test_several_inputs():
    found = verify(Pair(), (torch.rand(4, 3, 6), torch.rand(3, 5)), time_axis=("first", "none"))
    assert failed(found) == [], found.table()
    assert found.inputs[0] == "sequence [4, 3, 6] and [3, 5]"
    found = verify(Pair(), (torch.rand(4, 3, 6), torch.rand(4, 3, 5)), time_axis="first")
    assert failed(found) == [], found.table()

    class Crossed(Pair):
        def forward(self, x, z):
            return super().forward(x, z.roll(1, 0))

    model = Crossed()
    nn.init.normal_(model.b.weight)
    found = verify(model, (torch.rand(4, 3, 6), torch.rand(3, 5)), time_axis=("first", "none"))
    assert "alone = in a batch" in failed(found)
    with pytest.raises(ValueError, match="different numbers of samples"):
        verify(Pair(), (torch.rand(4, 3, 6), torch.rand(2, 5)), time_axis=("first", "none"))
    with pytest.raises(ValueError, match="2 words for 1 inputs"):
        verify(replicas.mlp(), torch.rand(4, 3, 6), time_axis=("first", "none"))


def test_integer_tokens():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.lif, self.head = nn.Embedding(50, 8), LIF(v_th=0.2), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.lif(self.words(x.transpose(0, 1)))).transpose(0, 1)

    tokens = torch.randint(0, 50, (3, 6))
    found = verify(Words(), tokens, time_axis="second", input_levels=range(50))
    assert failed(found) == [], found.table()
    assert found["causal"].status == "PASS"
    assert found["gradients in eval"].status == "PASS"
    with pytest.raises(ValueError, match="not among its declared values"):
        verify(Words(), tokens, time_axis="second", input_levels=range(5))


def test_nets_on_a_grid_pass():
    """A dozen correct nets whose potentials meet their threshold exactly, in sums that kernels order as they like."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Conv2d(c, 16, 3, padding=1, bias=False) for c in (4, 16))
            self.l, self.m = LIF(reset="soft"), LIF(reset="soft")
            for conv in (self.a, self.b):
                conv.weight.data = torch.randint(-3, 6, conv.weight.shape).double() * 0.1

        def forward(self, x):
            for conv, neuron in ((self.a, self.l), (self.b, self.m)):
                x = neuron(conv(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            return x

    for seed in range(12):
        torch.manual_seed(seed)
        found = verify(Net(), (torch.rand(4, 3, 4, 9, 9) < 0.4).float(), time_axis="first")
        assert found.passed, found.table()


@pytest.mark.parametrize("forgets", [True, False])
def test_chunks_where_time_is_the_second_axis(forgets):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 8), replicas.HiddenLIF(), nn.Linear(8, 3))
            nn.init.constant_(self.net[0].bias, 1.2)

        def forward(self, x):
            y = self.net(x.transpose(0, 1)).transpose(0, 1)
            if forgets and x.shape[1] > 1:
                self.net[1].v = self.net[1].v * 0.5
            return y

    found = verify(
        Turned(), torch.rand(3, 5, 6), time_axis="second", reset=replicas.reset_hidden, spiking=["HiddenLIF"]
    )
    assert found["whole = chunks"].status == ("FAIL" if forgets else "PASS")
    assert found["causal"].status == "PASS"


def test_whole_numbers_that_are_no_tokens():
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    assert verify(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), images, time_axis="none").passed


def test_a_leak_on_a_grid_is_no_tie():
    """The same nets with a real leak fail, ties or not."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), LIF(), Rolls(), nn.Linear(8, 3))
    model[0].weight.data = torch.randint(-2, 6, (8, 6)).double() * 0.1
    found = verify(model, (torch.rand(4, 3, 6) < 0.6).float(), time_axis="first")
    assert "alone = in a batch" in failed(found)
    assert found["alone = in a batch"].layer == "2"


class Rolls(nn.Module):
    def forward(self, x):
        return x + 0.001 * x.roll(1, 1)


def test_the_table_of_public_models_skips_what_is_absent(tmp_path):
    (tmp_path / "theirs_net.py").write_text(
        "from torch import nn\n"
        "class Spike(nn.Module):\n    def forward(self, x): return (x > 0.2).to(x)\n"
        "def build(): return nn.Sequential(nn.Linear(6, 8), Spike(), nn.Linear(8, 2))\n"
    )
    listed = tmp_path / "models.yaml"
    listed.write_text(
        f"- {{name: mine, path: {tmp_path}, model: 'theirs_net:build', shape: [6], T: 4, spiking: [Spike]}}\n"
        "- {name: absent, model: 'nowhere_at_all:build', shape: [6]}\n"
    )
    script = Path(__file__).parents[2] / "benchmarks" / "public_models.py"
    command = [sys.executable, str(script), "--models", str(listed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "| mine | passed" in done.stdout
    assert "skipped: absent: nowhere_at_all:build: cannot import" in done.stdout


class Stubborn(nn.Module):
    """Says float32 wherever it can."""

    def __init__(self, leaky: bool = False):
        super().__init__()
        self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        nn.init.constant_(self.embed.bias, 0.6)
        self.leaky = leaky

    def forward(self, x):
        x = self.embed(x.float())
        v = torch.zeros(x.shape[1:], dtype=torch.float32, device=x.device)
        spikes = []
        for current in x.to(torch.float32):
            v = v / 2 + current
            s = (v >= 1).float()
            v = v - s
            spikes.append(s)
        y = torch.stack(spikes)
        if self.leaky:
            y = y - y.mean(1, keepdim=True)
        return self.head(y.type(torch.float32))


@pytest.mark.parametrize("leaky", [False, True])
def test_models_that_say_float32_are_run_in_float64(leaky):
    torch.manual_seed(0)
    net = Stubborn(leaky)
    found = verify(net, torch.rand(4, 3, 6), time_axis="first")
    assert found.inputs[-1] == "casts to narrower floats inside the model taken as float64"
    assert failed(found) == (["alone = in a batch"] if leaky else []), found.table()
    assert torch.get_default_dtype() == torch.float32
    assert net(torch.rand(4, 3, 6)).dtype == torch.float32


class Masked(nn.Module):
    """A mask over the sum of 32 channels' spikes, open when one of them fires: half open below 5 % of spikes."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 64), nn.BatchNorm1d(64)
        self.q, self.mask = LIF(), LIF(v_th=0.5)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        q = self.q(self.norm(self.embed(x.flatten(0, 2))).unflatten(0, x.shape[:3]))  # [T, N, L, 64]
        opened = self.mask(q.unflatten(-1, (2, 32)).sum(-1, keepdim=True))
        return self.head((opened * q.unflatten(-1, (2, 32))).flatten(-2).mean(2))


def test_a_mask_over_sums_of_spikes_is_woken_with_what_it_sums():
    torch.manual_seed(0)
    net = nn.Sequential(Masked()).double().eval()
    rates = wake(net, torch.rand(4, 3, 5, 6, dtype=torch.float64))
    assert 0.05 <= rates["0.q"] <= 0.5
    assert 0.5 < rates["0.mask"] <= 0.95
