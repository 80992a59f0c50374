"""Models whose membranes were replaced: what changes, what a file replays, what is refused."""

import pytest
import torch
from torch import nn

from saccade.layers import (
    BatchNorm1d,
    Linear,
    QuantizeConfig,
    memory_free_,
    quantize_,
    quantize_membranes_,
    restore_membranes_,
    unquantize_,
)
from saccade.measure import profile
from saccade.models import create_model, fuse, load_model, save_model
from saccade.models.channels import channel_groups, narrow
from saccade.models.transforms import apply_transform
from saccade.neurons import LIF, MembraneConfig, MemoryFree, MemoryFreeConfig, QuantizedMembraneLIF, Spiking, Triangle
from saccade.verify import verify, wake

BINARY = QuantizeConfig("balanced_binary", 1, skip=("layers.0", "head"))
FREE = [
    MemoryFreeConfig("leak"),
    MemoryFreeConfig("leak", per="channel"),
    MemoryFreeConfig("leak", learn=False, v_th=0.8),
    MemoryFreeConfig("masked"),
    MemoryFreeConfig("sliding", order=3, surrogate=Triangle(0.5)),
]
QUANTISED = [MembraneConfig("qsnn", 4), MembraneConfig("pow2", 3), MembraneConfig("uniform", 2, alpha=1.5)]


def rows(**kwargs):
    torch.manual_seed(0)
    return create_model("rows_mlp", **{"widths": (12, 10, 8)} | kwargs).eval()


def drive(n=4):
    return torch.rand(8, n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def change_(model, config):
    return (memory_free_ if isinstance(config, MemoryFreeConfig) else quantize_membranes_)(model, config)


def rates(model, x):
    found = profile(model, x)
    return {row.name: row.firing_rate for row in found.layers if row.neurons}


@pytest.mark.parametrize("config", [*FREE, *QUANTISED], ids=repr)
@pytest.mark.parametrize("first", ["membranes", "weights"])
def test_a_changed_model_trains_saves_and_loads(config, first, tmp_path):
    model, x = rows(), drive()
    if first == "membranes":
        paths = change_(model, config)
        quantize_(model, BINARY)
    else:
        quantize_(model, BINARY)
        paths = change_(model, config)
    assert paths == ("layers.2", "layers.5", "layers.8")
    wake(model, x)
    assert all(0.02 < rate < 0.6 for rate in rates(model, x).values())
    model.train()
    model(x, steps=True).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    torch.optim.SGD(model.parameters(), 0.01).step()
    save_model(model.eval(), tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.transforms == model.transforms
    assert torch.equal(loaded(x), model(x))
    assert loaded(x).std() > 0
    kinds = {type(m) for m in loaded.modules() if isinstance(m, Spiking)}
    assert kinds == {MemoryFree if isinstance(config, MemoryFreeConfig) else QuantizedMembraneLIF}
    neuron = loaded.layers[2]
    surrogates = [
        m.layers[2].surrogate if isinstance(neuron, MemoryFree) else m.layers[2].config.surrogate
        for m in (model, loaded)
    ]
    assert surrogates[0] == surrogates[1]


@pytest.mark.parametrize("config", [*FREE, *QUANTISED], ids=repr)
def test_a_changed_model_keeps_its_promises(config):
    model, x = rows(), drive(3)
    change_(model, config)
    wake(model, x)
    found = verify(model, x, strict=True)
    assert found.passed, found.table()
    masked = getattr(config, "mode", "") == "masked"
    assert (found["whole = chunks"].status == "SKIP") == masked


def test_other_families_change_too():
    for name, kwargs in (
        ("syna_resnet18", {"stem": "cifar", "widths": (4, 6, 8, 10)}),
        ("vgg16", {"channels": (4,) * 13}),
    ):
        model, x = create_model(name, T=4, **kwargs), torch.rand(4, 2, 3, 32, 32)
        roles = {path: m.role for path, m in model.named_modules() if isinstance(m, LIF)}
        memory_free_(model, MemoryFreeConfig())
        assert {path: m.role for path, m in model.named_modules() if isinstance(m, MemoryFree)} == roles
        wake(model, x)
        assert all(0.02 < rate < 0.6 for rate in rates(model.eval(), x).values())


@pytest.mark.parametrize("config", [FREE[1], QUANTISED[0]], ids=repr)
def test_the_lif_neurons_come_back(config):
    model, x = rows(preset="plif"), drive()
    wake(model, x)
    with torch.no_grad():
        model.layers[2].w.add_(0.3)
    before, names = model(x), list(model.state_dict())
    quantize_(model, BINARY)
    change_(model, config)
    unquantize_(model)
    restore_membranes_(model)
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == names
    assert model.transforms == []
    with pytest.raises(ValueError, match="RowsMlp has no neurons whose membranes were replaced"):
        restore_membranes_(model)


def test_a_neuron_at_two_places_stays_one():
    shared = LIF()
    net = nn.Sequential(Linear(3, 3), shared, Linear(3, 3), shared)
    assert memory_free_(net, MemoryFreeConfig()) == ("1",)
    assert net[1] is net[3]
    assert isinstance(net[1], MemoryFree)


def test_nonsense_is_refused_and_leaves_the_model_alone():
    model = rows()
    before = [(path, id(module)) for path, module in model.named_modules()]
    with pytest.raises(ValueError, match="masked mixing of T = 4 steps does not fit a model of T = 8"):
        memory_free_(model, MemoryFreeConfig("masked", T=4))
    with pytest.raises(ValueError, match="memory_free: .*unexpected keyword argument 'lambda'"):
        apply_transform(model, "memory_free", {"lambda": 0.5})
    with pytest.raises(ValueError, match="unknown surrogate 'Atan'; known: ATan, Sigmoid"):
        apply_transform(model, "memory_free", {"surrogate": {"name": "Atan"}})
    with pytest.raises(ValueError, match="a surrogate is a mapping such as {name: ATan, alpha: 2.0}, got 'atan'"):
        apply_transform(model, "memory_free", {"surrogate": "atan"})
    with pytest.raises(ValueError, match="quantize_membranes: .*unexpected keyword argument 'bit'"):
        apply_transform(model, "quantize_membranes", {"bit": 4})
    with pytest.raises(ValueError, match="membrane bits must be 2 to 8, got 9"):
        apply_transform(model, "quantize_membranes", {"bits": 9})

    class Own(Triangle):
        pass

    with pytest.raises(ValueError, match="Own is none of the surrogates that a model file can name"):
        memory_free_(model, MemoryFreeConfig(surrogate=Own()))
    assert [(path, id(module)) for path, module in model.named_modules()] == before
    assert model.transforms == []
    with pytest.raises(ValueError, match="Identity has no LIF neurons of saccade.neurons to replace"):
        memory_free_(nn.Identity())
    with pytest.raises(ValueError, match="LIF is itself a neuron"):
        quantize_membranes_(LIF())
    with pytest.raises(ValueError, match="give T"):
        memory_free_(nn.Sequential(LIF()), MemoryFreeConfig("masked"))
    with pytest.raises(ValueError, match="1 has a threshold for each channel, which may hold a folded norm"):
        memory_free_(nn.Sequential(Linear(2, 2), LIF(v_th=(0.5, 1.0))))
    with pytest.raises(ValueError, match="0: no layer lies before it to tell its channels"):
        memory_free_(nn.Sequential(LIF(), Linear(2, 2)), MemoryFreeConfig(per="channel"))
    with pytest.raises(ValueError, match=r"gate.*masked mixing does not fit; use leak or sliding"):
        memory_free_(create_model("syna_resnet18", stem="cifar", T=4, widths=(4, 6, 8, 10)), MemoryFreeConfig("masked"))


def test_membranes_are_replaced_once():
    free, few = rows(), rows()
    memory_free_(free)
    quantize_membranes_(few)
    for change in (memory_free_, quantize_membranes_):
        with pytest.raises(
            ValueError, match=r"layers.2 is memory-free already: it has no membrane; restore_membranes_"
        ):
            change(free)
        with pytest.raises(ValueError, match=r"layers.2 has a quantised membrane already; restore_membranes_"):
            change(few)
    assert len(free.transforms) == len(few.transforms) == 1

    class Other(Spiking):
        def step(self, x, state=None):
            return (x > 1).to(x.dtype), None

    with pytest.raises(ValueError, match="1 is a Other, no LIF neuron"):
        memory_free_(nn.Sequential(LIF(), Other()))


def test_norms_fold_before_memory_free_neurons_but_into_no_threshold_of_theirs():
    for change in (memory_free_, quantize_membranes_):
        model, x = create_model("vgg16", T=3, channels=(4,) * 13), torch.rand(3, 2, 3, 32, 32)
        change(model)
        wake(model, x)
        assert fuse(model.eval(), x).total_mismatch < 1e-3
        with pytest.raises(ValueError, match="stem_neuron: no threshold of a .* can hold a norm; fold into 'conv'"):
            fuse(model, x, into="threshold")


def test_leaks_follow_the_channels_that_pruning_keeps():
    model, x = create_model("vgg_small", T=3, channels=(4, 5, 6, 5, 4, 6), image_size=16), torch.rand(3, 2, 3, 16, 16)
    memory_free_(model, MemoryFreeConfig(per="channel"))
    group, description = next((name, g) for name, g in channel_groups(model).items() if "layers.6" in g.neurons)
    leaks = model.layers[6].rho
    with torch.no_grad():
        leaks.copy_(torch.linspace(-1, 1, len(leaks)))
    assert description.neurons == ("layers.6",)
    narrow(model, {group: [0, 2, 3]})
    assert torch.equal(model.layers[6].rho, leaks[[0, 2, 3]])
    wake(model, x)
    assert all(0.02 < rate < 0.6 for rate in rates(model.eval(), x).values())


def test_rows_are_shown_one_a_step():
    model = rows()
    x = torch.rand(2, 1, 8, 8)
    shown = model.scan(model.in_time(x))
    assert all(torch.equal(shown[t], x[:, 0, t]) for t in range(8))
    longer, state = model.scan.step(x.expand(3, 2, 1, 8, 8), torch.tensor([7, 2]))
    assert torch.equal(longer[1], torch.stack([x[0, 0, 0], x[1, 0, 3]]))  # the first sample began again
    assert state.tolist() == [10, 5]
    with pytest.raises(ValueError, match="rows of 8 pixels were asked for, the images have 9"):
        model(torch.rand(2, 1, 8, 9))
    with pytest.raises(ValueError, match="at least one hidden width"):
        rows(widths=())


def test_one_dimensional_norm_pools_time_into_the_batch():
    norm, plain = BatchNorm1d(3), nn.BatchNorm1d(3)
    x = torch.randn(4, 5, 3)
    assert torch.equal(norm(x), plain(x.flatten(0, 1)).unflatten(0, (4, 5)))
    assert torch.equal(norm.running_var, plain.running_var)
    with pytest.raises(ValueError, match=r"expected \[T, N, D\], got \[4, 3\]"):
        norm(x[:, 0])
