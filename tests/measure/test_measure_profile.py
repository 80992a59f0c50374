"""`profile`: what is counted where, what is refused, and how it is reported."""

from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from saccade.measure import ORRC, STANDARD, profile
from saccade.models import create_model
from saccade.verify import wake


class Spike(nn.Module):
    """A memoryless neuron with a step, as models have them."""

    def __init__(self, threshold: float = 0.5, role: str = "", levels: tuple[float, ...] = (0.0, 1.0)) -> None:
        super().__init__()
        self.threshold, self.role, self.levels = threshold, role, levels

    def step(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x > self.threshold).to(x.dtype), x[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)[0]


class Net(nn.Module):
    """Static stem, shown T times, a folded convolution, classifier: `[N, 2, 6, 6]` to `[N, 3]`."""

    def __init__(self, T: int = 4) -> None:
        super().__init__()
        self.T = T
        self.stem, self.norm, self.first = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), Spike()
        self.conv, self.second, self.head = nn.Conv2d(4, 5, 3, 2, 1), Spike(0.1), nn.Linear(5, 3)
        nn.init.uniform_(self.norm.bias, 0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = self.first(x.unsqueeze(0).expand(self.T, -1, -1, -1, -1))
        x = self.second(self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        return self.head(x.mean((-2, -1))).mean(0)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def rows(profiled):
    return {row.name: row for row in profiled.layers}


def test_counts_by_layer(net, images):
    found = rows(profile(net, images))
    with torch.no_grad():
        first = net.first(net.norm.eval()(net.stem(images))[None])[0]
    taps = 16 * 16  # 3x3 with padding on 6x6: (2+3+3+3+3+2) squared
    assert found["stem"].macs == found["stem"].dense_macs == 6 * 2 * 4 * taps  # once, not T times
    assert found["norm"].norm == 6 * 4 * 36
    assert found["first"].spikes == 4 * int(first.sum()) > 0
    assert found["first"].spikes_per_step == (int(first.sum()),) * 4
    assert (found["first"].neurons, found["first"].T) == (4 * 36, 4)
    assert found["first"].state_bytes == 4 * 4 * 36
    assert found["first"].firing_rate == pytest.approx(float(first.mean()))
    assert found["first"].spikes_per_neuron == pytest.approx(4 * float(first.mean()))
    ones = torch.ones(5, 4, 3, 3)
    assert found["conv"].sops == 4 * int(nn.functional.conv2d(first, ones, None, 2, 1).sum())
    assert found["conv"].input == "{0,1}"
    assert found["stem"].input == "analog"
    assert found["head"].sops == 3 * found["second"].spikes
    assert found["head"].input.endswith("/9")
    assert found["(model)"].adds == found["second"].spikes + 4 * 6 * 3  # mean over space of spikes, mean over time
    assert found["first"].neuron_updates == 4 * 6 * 4 * 36


def test_batches_accumulate_to_one_batch(net, images):
    whole = profile(net, images)
    labels = torch.zeros(2)
    parts = profile(net, [(images[:1], labels), (images[1:4], labels), (images[4:], labels)])
    assert parts.samples == 6
    for a, b in zip(whole.layers, parts.layers, strict=True):
        assert a.energy_pj == pytest.approx(b.energy_pj)
        a.energy_pj = b.energy_pj = 0.0
        assert a == b


def test_sequence_input_runs_every_step(net, images):
    model = nn.Sequential(nn.Flatten(2), Spike(0.4), nn.Linear(72, 3))
    found = profile(model, torch.stack([images, images]))
    assert (found.samples, found.total().T) == (6, 2)
    assert rows(found)["2"].sops == 3 * 2 * int((images > 0.4).sum())


def test_neurons_called_by_step_are_seen(images):
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.inner = Spike(0.3), Spike(0.6)

        def step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
            return self.inner(self.neuron.step(x, state)[0]), None

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.step(chunk, None)[0] for chunk in x.split(1)])

    found = rows(profile(Steps(), torch.stack([images, images])))
    fired = int((images > 0.3).sum())
    assert found["neuron"].spikes_per_step == found["inner"].spikes_per_step == (fired, fired)


def test_ternary_and_integer_spikes_count_by_size():
    class Fixed(Spike):
        def forward(self, x: Tensor) -> Tensor:
            return x + 0

    x = torch.tensor([[[0.5, 1.0, 0.0]], [[-1.0, 0.0, 0.5]]])
    found = profile(Fixed(levels=(-1.0, 0.0, 0.5, 1.0)), x).layers[0]
    assert (found.spikes, found.spikes_per_step) == (1 + 2 + 2 + 1, (3, 3))
    assert found.firing_rate == 1.0


def test_a_neuron_that_lies_about_its_levels_is_named():
    class Liar(Spike):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model = nn.Sequential(nn.Identity(), Liar())
    with pytest.raises(ValueError, match=r"1: value 2 is not one of the declared levels \(0.0, 1.0\)"):
        profile(model, torch.ones(2, 3, 4))
    with pytest.raises(ValueError, match="value nan"):
        profile(NaN(), torch.ones(2, 3, 4))


class NaN(nn.Module):
    levels = (0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.nan


def test_values_changed_behind_the_alphabet_are_caught(images):
    class Tampered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.head = Spike(), nn.Linear(72, 3)

        def forward(self, x: Tensor) -> Tensor:
            buffer = torch.empty(2, *x.shape[1:]).fill_(0)
            buffer[0] = self.neuron(x)[0]
            buffer.data.numpy()[1] = 0.3  # invisible to dispatch
            return self.head(buffer.flatten(2))

    with pytest.raises(
        ValueError, match=r"head: input of addmm: value 0.3 is not in the declared spike alphabet \{0,1\}"
    ):
        profile(Tampered(), images[None])


def test_time_folded_into_the_batch_is_refused(net, images):
    model = nn.Sequential(nn.Flatten(0, 1), Spike())
    with pytest.raises(ValueError, match=r"1: a neuron works on \[T, N, ...\] with N = 6 .* time folded"):
        profile(model, torch.stack([images, images]))


def test_an_unknown_operation_is_an_error_that_names_it_and_the_layer(images):
    class Strange(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.i1(x)

    with pytest.raises(NotImplementedError, match=r"^1: no counting rule for aten.special_i1.default"):
        profile(nn.Sequential(nn.Identity(), Strange()), images)


def test_model_is_left_as_it_was(net, images):
    net.train()
    net.norm.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    profile(net, images)
    assert net.training
    assert not net.norm.training
    assert "forward" not in net.__dict__
    assert "step" not in net.first.__dict__
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    with pytest.raises(ValueError, match="no samples"):
        profile(net, [])
    with pytest.raises(RuntimeError):
        profile(net, images[:, :1])
    assert "forward" not in net.__dict__


def test_elementwise_work_is_listed():
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = Spike(role="gate")
            self.scale = nn.Parameter(torch.rand(3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = (x - 0.5) / self.scale
            g = self.neuron(x.mean((3, 4), keepdim=True))
            return torch.relu(g * x) + torch.sigmoid(x)

    x = torch.rand(2, 4, 3, 5, 5)
    found = profile(Gate(), x)
    row, gate = found.total(lambda r: r.role != "gate"), found.total(lambda r: r.role == "gate")
    size = x.numel()
    assert row.mults == size + 2 * 4 * 3  # division, and the mean's
    assert row.adds == size + size + size  # subtraction, mean, sum of the branches
    assert row.ands == 25 * gate.spikes > 0  # a spike selects its channel's analog values
    assert (row.comparisons, row.other) == (size, size)
    assert set(found.to_json()["by_role"]) == {"gate"}


def test_work_on_weights_alone_is_free(images):
    """Quantizing or combining weights happens once, before deployment; only work on the input counts."""

    class Rounded(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = torch.special.i0(self.weight).round() * 0.5 + torch.zeros_like(self.weight)
            return nn.functional.conv2d(x, weight, self.bias, padding=1)

    found = profile(Rounded(2, 3, 3), images).total()
    assert (found.macs, found.mults, found.adds, found.other) == (6 * 2 * 3 * 256, 0, 0, 0)


def test_energy_standard_and_overrides(net, images):
    found = profile(net, images)
    t = found.total()
    expected = (4.6 * t.macs + 0.9 * (t.sops + t.adds) + 3.7 * t.mults) / 6
    assert found.energy().total_pj == pytest.approx(expected)
    assert found.energy().total_uj == pytest.approx(expected * 1e-6)
    assert found.energy().total_mj == pytest.approx(expected * 1e-9)
    assert t.energy_pj == pytest.approx(expected)
    priced = found.energy(STANDARD.replace(mac_pj=0, ac_pj=0, mult_pj=0, neuron_update_pj=2.0))
    assert priced.total_pj == pytest.approx(2 * t.neuron_updates / 6)
    assert priced.convention.name == "standard*"
    assert priced.per_layer_pj["first"] == pytest.approx(2 * 4 * 144)
    with pytest.raises(ValueError, match="no price 'macs'"):
        STANDARD.replace(macs=1)
    with pytest.raises(ValueError, match="unknown energy convention 'typo'; known: standard, orrc"):
        found.energy("typo")
    assert profile(net, images, convention="orrc").total().energy_pj == pytest.approx(found.energy(ORRC).total_pj)


def test_json_and_table(net, images):
    found = profile(net, images)
    data = found.to_json()
    assert json.loads(json.dumps(data)) == data
    assert data["format"] == "saccade.profile/1"
    assert data["totals"]["spikes"] == sum(row["spikes"] for row in data["layers"])
    assert isinstance(data["totals"]["sops"], int)
    assert sum(row["energy_pj"] for row in data["layers"]) == pytest.approx(data["energy_pj"])
    assert data["convention"]["mac_pj"] == 4.6
    out = io.StringIO()
    Console(file=out, width=160).print(found.table())
    assert all(word in out.getvalue() for word in ("first", "second", "total", "analog", "all other layers"))


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_table_fits_where_it_is_shown(width):
    """Nothing is cut but the beginning of names; the narrower the place, the fewer the columns; print gives the table."""
    found = profile(awake("or_resnet18_small", T=2), torch.rand(2, 3, 32, 32))
    out = io.StringIO()
    Console(file=out, width=width).print(found.table())
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    heading, total = lines[1], lines[-1]
    assert all(
        ("energy" in heading, "SOPs" in heading, "dense MACs" in heading) if width == 200 else ("energy" in heading,)
    )
    if width >= 80:
        assert "…" not in heading + total
        assert f"{found.total().energy_pj * 1e-6:.3f}" in total or "mJ" in heading
        cut = [line.split()[0] for line in lines if line.startswith("…")]
        assert len(set(cut)) == len(cut)
    assert str(found).startswith(" ")
    assert "total" in str(found)
    assert len(repr(found)) < 400


def test_silent_layers_are_flagged(images):
    model = nn.Sequential(nn.Flatten(2), Spike(0.5), Spike(2.0, role="shortcut"))
    found = profile(model, images[None])
    assert [row.silent for row in found.layers] == [False, True]
    assert found.total(lambda row: not row.silent).neurons == 72
    assert found.to_json()["by_role"]["shortcut"]["silent"]


def test_state_is_what_modules_say_they_keep(images):
    """8-bit membranes keep a byte a neuron; who says nothing is taken to keep 32 bits, and that is said."""

    class Bytes(Spike):
        def state_spec(self, shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], int]]:
            return {"v": (shape, 8)}

    class Counts(nn.Module):
        def state_spec(self, shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], int]]:
            return {"step": ((), 12), "last": (shape, 1)}

        def forward(self, x: Tensor) -> Tensor:
            return x

    class Nothing(Spike):
        def state_spec(self, shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], int]]:
            return {}

    model = nn.Sequential(Counts(), Bytes(), Spike(), Nothing())
    profiled = profile(model, [images[None], images[None]])
    found = rows(profiled)
    assert [found[name].state_bytes for name in "0123"] == [-(-(12 + 72) // 8), 72, 4 * 72, 0]
    assert [found[name].state_assumed for name in "0123"] == [False, False, True, False]
    assert profiled.total().state_bytes == 11 + 72 + 288
    assert profiled.to_json()["totals"]["state_assumed"]
    assert profiled.to_json()["layers"][1]["state_bytes"] == 72
    assert [neuron.state_bits for neuron in profiled.neurons] == [576, None, 0]
    out = io.StringIO()
    Console(file=out, width=200).print(profiled.table())
    assert "288*" in out.getvalue()
    assert "32 bits a neuron assumed" in out.getvalue()


def test_compiled_modules_are_counted(net, images):
    plain = profile(net, images).total()
    net.conv = torch.compile(net.conv, backend="eager")
    assert profile(net, images).total().sops == plain.sops


def awake(name: str, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    model = create_model(name, **kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 1.2, 0.3)
    return model.eval()


@pytest.mark.parametrize(
    "name", ["or_resnet18_small", "sew_resnet18_small", "ms_resnet18_small", "syna_resnet18_small"]
)
def test_models_agree_with_hooks_on_every_convolution(name):
    """Independent route: hooks on the convolutions, and the same convolution with all-ones weights in float64."""
    model = awake(name)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected: dict[str, int] = {}
    dense: dict[str, int] = {}

    def hook(path: str):
        def count(module: nn.Conv2d, args: tuple[Tensor], _: Tensor) -> None:
            events = args[0].double()
            events = events.flatten(0, 1) if events.dim() == 5 else events
            ones = torch.ones_like(module.weight, dtype=torch.float64)
            geometry = (None, module.stride, module.padding, module.dilation, module.groups)
            whole = bool((events == events.round()).all())
            expected[path] = round(float(nn.functional.conv2d(events, ones, *geometry).sum())) if whole else 0
            dense[path] = round(float(nn.functional.conv2d(torch.ones_like(events), ones, *geometry).sum()))

        return count

    handles = [m.register_forward_hook(hook(p)) for p, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    profiled = profile(model, x)
    found = rows(profiled)
    assert {path: found[path].sops for path in expected} == expected
    assert {path: found[path].dense_macs for path in dense} == dense
    assert sum(expected.values()) > 0
    total = profiled.total()
    assert total.neurons == sum(row.neurons for row in profiled.layers if row.kind == "LIF")
    assert 0 < total.firing_rate < 1


def test_memory_order_changes_nothing():
    """A pooled map in channels-last order cannot be viewed as a list of planes; a copy would no longer be known as spikes."""
    model = create_model("vgg_small", channels=(4, 4, 4, 4, 4, 4)).eval()
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    wake(model, x)
    plain = profile(model, x)
    other = profile(model.to(memory_format=torch.channels_last), x)
    assert plain.total().spikes > 0
    assert [row.name for row in other.layers] == [row.name for row in plain.layers]
    assert other.total().spikes == pytest.approx(plain.total().spikes, rel=1e-2)
