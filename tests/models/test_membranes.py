"""Models whose membranes were replaced: what changes, what a file replays, what is refused."""

import pytest
import torch
from torch import nn

from saccade.files import load_model, save_model
from saccade.layers import Linear
from saccade.measure import profile
from saccade.models import create_model
from saccade.neurons import (
    LIF,
    LeakMixingConfig,
    MaskedMixingConfig,
    Mixing,
    QuantizedMembraneLIF,
    SlidingMixingConfig,
    Spiking,
    Triangle,
)
from saccade.transforms import (
    MemoryFreeConfig,
    PruneChannelsConfig,
    QuantizeConfig,
    QuantizeMembranesConfig,
    apply,
    channel_groups,
    fuse,
    undo,
)
from saccade.verify import verify, wake

BINARY = QuantizeConfig("balanced_binary", 1, skip=("layers.0", "head"))
FREE = [
    MemoryFreeConfig(),
    MemoryFreeConfig(LeakMixingConfig(per="channel")),
    MemoryFreeConfig(LeakMixingConfig(learn=False, v_th=0.8)),
    MemoryFreeConfig(MaskedMixingConfig()),
    MemoryFreeConfig(SlidingMixingConfig(order=3), surrogate=Triangle(0.5)),
]
QUANTIZED = [
    QuantizeMembranesConfig("qsnn", 4),
    QuantizeMembranesConfig("pow2", 3),
    QuantizeMembranesConfig("uniform", 2, alpha=1.5),
]


def rows(**kwargs):
    torch.manual_seed(0)
    return create_model("rows_mlp", **{"widths": (12, 10, 8)} | kwargs).eval()


def drive(n=4):
    return torch.rand(8, n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def rates(model, x):
    found = profile(model, x)
    return {row.name: row.firing_rate for row in found.layers if row.neurons}


@pytest.mark.parametrize("config", [*FREE, *QUANTIZED], ids=repr)
@pytest.mark.parametrize("first", ["membranes", "weights"])
def test_a_changed_model_trains_saves_and_loads(config, first, tmp_path):
    model, x = rows(), drive()
    if first == "membranes":
        paths = apply(model, config).layers
        apply(model, BINARY)
    else:
        apply(model, BINARY)
        paths = apply(model, config).layers
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
    kind = Mixing if isinstance(config, MemoryFreeConfig) else QuantizedMembraneLIF
    assert all(isinstance(m, kind) for m in loaded.modules() if isinstance(m, Spiking))
    assert loaded.layers[2].config == model.layers[2].config


@pytest.mark.parametrize("config", [*FREE, *QUANTIZED], ids=repr)
def test_a_changed_model_keeps_its_promises(config):
    model, x = rows(), drive(3)
    apply(model, config)
    wake(model, x)
    found = verify(model, x, strict=True)
    assert found.passed, found.table()
    masked = isinstance(getattr(config, "mixing", None), MaskedMixingConfig)
    assert (found["whole = chunks"].status == "SKIP") == masked


def test_other_families_change_too():
    for name, kwargs in (
        ("syna_resnet18", {"stem": "cifar", "widths": (4, 6, 8, 10)}),
        ("vgg16", {"channels": (4,) * 13}),
    ):
        model, x = create_model(name, T=4, **kwargs), torch.rand(4, 2, 3, 32, 32)
        roles = {path: m.role for path, m in model.named_modules() if isinstance(m, LIF)}
        apply(model, "memory_free")
        assert {path: m.role for path, m in model.named_modules() if isinstance(m, Mixing)} == roles
        wake(model, x)
        assert all(0.02 < rate < 0.6 for rate in rates(model.eval(), x).values())


@pytest.mark.parametrize("config", [FREE[1], QUANTIZED[0]], ids=repr)
def test_the_lif_neurons_come_back(config):
    model, x = rows(neuron="plif"), drive()
    wake(model, x)
    with torch.no_grad():
        model.layers[2].w.add_(0.3)
    before, names = model(x), list(model.state_dict())
    apply(model, BINARY)
    apply(model, config)
    undo(model, "quantize")
    undo(model, config.kind())
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == names
    assert model.transforms == []
    with pytest.raises(ValueError, match="RowsMlp has no neurons whose membranes were replaced"):
        undo(model, "memory_free")


def test_a_neuron_at_two_places_stays_one():
    shared = LIF()
    net = nn.Sequential(Linear(3, 3), shared, Linear(3, 3), shared)
    assert apply(net, MemoryFreeConfig()).layers == ("1",)
    assert net[1] is net[3]
    assert isinstance(net[1], Mixing)


def test_nonsense_is_refused_and_leaves_the_model_alone():
    model = rows()
    before = [(path, id(module)) for path, module in model.named_modules()]
    with pytest.raises(ValueError, match="masked mixing of T = 4 steps does not fit a model of T = 8"):
        apply(model, MemoryFreeConfig(MaskedMixingConfig(T=4)))
    with pytest.raises(ValueError, match="memory_free takes no 'lambda'"):
        apply(model, {"name": "memory_free", "config": {"lambda": 0.5}})
    with pytest.raises(ValueError, match="unknown surrogate 'Atan'; did you mean ATan"):
        apply(model, {"name": "memory_free", "config": {"surrogate": "Atan"}})
    with pytest.raises(ValueError, match=r"a surrogate is a name or \{name: ..., config: \{...\}\}, got 3"):
        apply(model, {"name": "memory_free", "config": {"surrogate": 3}})
    with pytest.raises(ValueError, match="quantize_membranes takes no 'bit'; did you mean 'bits'"):
        apply(model, {"name": "quantize_membranes", "config": {"bit": 4}})
    with pytest.raises(ValueError, match="membrane bits must be 2 to 8, got 9"):
        apply(model, {"name": "quantize_membranes", "config": {"bits": 9}})

    assert [(path, id(module)) for path, module in model.named_modules()] == before
    assert model.transforms == []
    with pytest.raises(ValueError, match="Identity has no LIF neurons of saccade.neurons to replace"):
        apply(nn.Identity(), MemoryFreeConfig())
    with pytest.raises(ValueError, match="LIF is itself a neuron"):
        apply(LIF(), QuantizeMembranesConfig())
    with pytest.raises(ValueError, match="give T"):
        apply(nn.Sequential(LIF()), MemoryFreeConfig(MaskedMixingConfig()))
    with pytest.raises(ValueError, match="1 has a threshold for each channel, which may hold a folded norm"):
        apply(nn.Sequential(Linear(2, 2), LIF(v_th=(0.5, 1.0))), MemoryFreeConfig())
    with pytest.raises(ValueError, match="0: a leak for each channel needs the number of channels; use per='layer'"):
        apply(nn.Sequential(LIF(), Linear(2, 2)), MemoryFreeConfig(LeakMixingConfig(per="channel")))
    with pytest.raises(ValueError, match=r"gate.*masked mixing does not fit; use leak or sliding"):
        apply(create_model("syna_resnet18", T=4, widths=(4, 6, 8, 10)), MemoryFreeConfig(MaskedMixingConfig()))


def test_membranes_are_replaced_once():
    free, few = rows(), rows()
    apply(free, MemoryFreeConfig())
    apply(few, QuantizeMembranesConfig())
    for change in (MemoryFreeConfig(), QuantizeMembranesConfig()):
        with pytest.raises(ValueError, match=r"layers.2 was given another membrane already \(LeakMixing\); undo"):
            apply(free, change)
        with pytest.raises(ValueError, match=r"layers.2 was given another membrane already \(QuantizedMembraneLIF\)"):
            apply(few, change)
    assert len(free.transforms) == len(few.transforms) == 1

    class Other(Spiking):
        def step(self, x, state=None):
            return (x > 1).to(x.dtype), None

    with pytest.raises(ValueError, match="1 is a Other, no LIF neuron"):
        apply(nn.Sequential(LIF(), Other()), MemoryFreeConfig())


def test_norms_fold_before_memory_free_neurons_but_into_no_threshold_of_theirs():
    for change in (MemoryFreeConfig(), QuantizeMembranesConfig()):
        model, x = create_model("vgg16", T=3, channels=(4,) * 13), torch.rand(3, 2, 3, 32, 32)
        apply(model, change)
        wake(model, x)
        assert fuse(model.eval(), x).total_mismatch < 1e-3
        with pytest.raises(ValueError, match="stem_neuron: no threshold of a .* can hold a norm; fold into 'conv'"):
            fuse(model, x, into="threshold")


def test_leaks_follow_the_channels_that_pruning_keeps():
    model, x = create_model("vgg_small", T=3, channels=(4, 5, 6, 5, 4, 6), image_size=16), torch.rand(3, 2, 3, 16, 16)
    apply(model, MemoryFreeConfig(LeakMixingConfig(per="channel")))
    group, description = next((name, g) for name, g in channel_groups(model).items() if "layers.6" in g.neurons)
    leaks = model.layers[6].rho
    with torch.no_grad():
        leaks.copy_(torch.linspace(-1, 1, len(leaks)))
    assert description.neurons == ("layers.6",)
    apply(model, PruneChannelsConfig({group: (0, 2, 3)}))
    assert torch.equal(model.layers[6].rho, leaks[[0, 2, 3]])
    wake(model, x)
    assert all(0.02 < rate < 0.6 for rate in rates(model.eval(), x).values())


def test_rows_are_shown_one_a_step():
    model = rows()
    x = torch.rand(2, 1, 8, 8)
    shown = model.scan(model.in_time(x[None], 8))
    assert all(torch.equal(shown[t], x[:, 0, t]) for t in range(8))
    longer, state = model.scan.step(x.expand(3, 2, 1, 8, 8), torch.tensor([7, 2]))
    assert torch.equal(longer[1], torch.stack([x[0, 0, 0], x[1, 0, 3]]))  # the first sample began again
    assert state.tolist() == [10, 5]
    with pytest.raises(ValueError, match="rows of 8 pixels were asked for, the images have 9"):
        model(torch.rand(2, 1, 8, 9))
    with pytest.raises(ValueError, match="at least one hidden width"):
        rows(widths=())
