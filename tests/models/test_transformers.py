"""The transformers of spikes: counts to the unit, any attention in any of them, and no sample that sees another."""

from __future__ import annotations

import copy

import pytest
import torch
from small_models import narrow
from torch import Tensor, nn

from saccade.compress import plan_by_ratio, score
from saccade.files import load_packed, save_packed
from saccade.layers import set_recompute
from saccade.layers.attention import ATTENTIONS, Attention
from saccade.layers.repconv import RepConv
from saccade.layers.stems import STEMS
from saccade.measure import model_size
from saccade.models import MODELS, create_model
from saccade.neurons import NEURONS
from saccade.transforms import QuantizeConfig, apply, channel_groups, fuse
from saccade.verify import verify, wake

SMALL = [
    "spikformer_small",
    "sdt_v1_small",
    "sdt_v2_small",
    "sdt_v3_small",
    "qsd_small",
    "qkformer_small",
    "spiking_resformer_small",
]

# Parameters, and what others print in millions where it is another number than ours rounded.
COUNTS = {
    "spikformer_8_384": (16_816_024, 16.83),  # with two layer norms a pair of blocks that the code never calls
    "spikformer_6_512": (23_373_352, 23.39),
    "spikformer_8_512": (29_689_384, 29.71),
    "spikformer_10_512": (36_005_416, 36.03),
    "spikformer_8_768": (66_338_632, 66.36),
    "spikformer_4_384_cifar": (9_320_122, 9.33),
    "spikformer_2_384_cifar": (5_762_746, 5.77),
    "spikformer_4_256_cifar": (4_152_106, 4.16),
    "spikformer_2_256_dvs": (2_566_666, None),  # 2.59: the norms would make it 2.57; the rest is not known
    "sdt_v1_8_384": (16_816_024, 16.82),
    "sdt_v1_6_512": (23_373_352, 23.37),
    "sdt_v1_8_512": (29_689_384, 29.69),
    "sdt_v1_10_512": (36_005_416, 36.01),
    "sdt_v1_8_768": (66_338_632, 66.34),
    "sdt_v1_2_512_cifar": (10_233_418, 10.23),
    "sdt_v1_2_256_cifar": (2_566_954, 2.57),
    "sdt_v1_2_256_dvs": (2_566_666, None),
    "sdt_v2_15m": (15_112_208, 15.11),
    "sdt_v2_31m": (31_333_864, 31.33),
    "sdt_v2_55m": (55_350_248, 55.35),
    "sdt_v2_124m": (123_741_160, 123.74),
    "sdt_v3_t": (2_702_048, 2.70),
    "sdt_v3_s": (5_105_608, 5.11),
    "sdt_v3_m": (10_023_112, 10.02),
    "sdt_v3_l": (18_987_504, 18.99),
    "qsd_8m": (8_336_504, None),  # what others print counts more, see test_qsd.py
    "qsd_15m": (15_116_720, None),
    "qsd_31m": (31_340_392, None),
    "qsd_55m": (55_358_952, None),
    "qsd_75m": (74_663_016, None),
    "qsd_124m": (123_754_216, None),
    "qkformer_10_384": (16_473_688, 16.47),
    "qkformer_10_512": (29_079_336, 29.08),
    "qkformer_10_768": (64_962_760, 64.96),
    "qkformer_4_384_cifar": (6_706_234, 6.71),
    "qkformer_gesture": (1_999_115, 2.00),
    "qkformer_cifar10dvs": (1_503_882, 1.50),
    "spiking_resformer_ti": (11_180_992, 11.18),
    "spiking_resformer_s": (17_813_824, 17.81),
    "spiking_resformer_m": (35_601_472, 35.60),
    "spiking_resformer_l": (60_375_680, 60.38),
    "spiking_resformer_cifar": (10_793_152, 10.79),
    "spiking_resformer_gesture": (2_709_542, 2.71),
}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    count, printed = COUNTS[name]
    with torch.device("meta"):
        model = create_model(name)
    assert parameters(model) == count
    if printed is None:
        return
    never_called = 4 * model.config.width * model.config.depth if name.startswith("spikformer") else 0
    assert round((count + never_called) / 1e6, 2) == printed


def test_every_size_is_counted():
    named = [
        name for name in MODELS if name.startswith(("spikformer", "sdt_", "qsd_", "qkformer", "spiking_resformer"))
    ]
    assert set(named) - set(SMALL) == set(COUNTS)


@pytest.mark.parametrize(
    ("name", "channels", "printed"),
    [("qkformer_10_512", 3584, 29.18), ("sdt_v3_s", 4608, 5.24), ("sdt_v3_l", 9024, 19.25)],
)
def test_local_branches_have_the_counts_that_their_paper_prints(name, channels, printed):
    plain = MODELS[name].config.attention
    changes = {"scale": plain.scale, "value_ratio": plain.value_ratio, "halve": plain.halve}
    with torch.device("meta"):
        model = create_model(name, attention={"name": "lrf_ssa", "config": changes})
    assert parameters(model) - COUNTS[name][0] == 29 * channels
    assert round(parameters(model) / 1e6, 2) == printed


# Any attention in any network, by name

FITTING = {"sssa_v1": {"v_th": 0.005}, "sssa_v2": {"v_th": 0.005}}


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", SMALL)
def test_any_attention_in_any_network(name, attention):
    """Built by its name, woken, every sample by itself in float64."""
    model, x = narrow(name, attention={"name": attention, "config": FITTING.get(attention, {})}, T=4)
    assert any(type(m.config) is type(ATTENTIONS[attention]) for m in model.modules() if isinstance(m, Attention))
    torch.manual_seed(0)
    model, x = model.double().eval(), x.double()
    spread(model, x)
    with torch.no_grad():
        y = model(x, steps=True)
        assert y.std() > 0
        for i in range(x.shape[1]):
            assert (model(x[:, i : i + 1], steps=True) - y[:, i : i + 1]).abs().max() <= 1e-10
        assert (model(x.flip(1), steps=True).flip(1) - y).abs().max() <= 1e-10


def spread(model: nn.Module, x: Tensor) -> None:
    """Statistics of the norms on the input, and biases that let neurons fire."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        nn.init.constant_(norm.bias, 0.3)
    model.train()
    with torch.no_grad():
        model(x)
    model.eval()


# integers for the one that is made for them; a higher threshold for the sum of all tokens, which would always pass a low one
NEURON = {"qsdsa": "ie_lif", "qkca": {"name": "spikformer", "config": {"v_th": 4.0}}}


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_attention_keeps_the_promises(attention):
    model, x = narrow("sdt_v1_small", attention=attention, neuron=NEURON.get(attention, "spikformer"))
    wake(model, x)
    found = verify(model, x, strict=True)
    failed = [check.name for check in found.checks if check.status not in ("PASS", "SKIP")]
    assert failed == [], found.table()


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("name", ["spikformer_small", "sdt_v1_small"])
def test_any_stem_in_any_network(stem, name):
    membrane = name == "sdt_v1_small" and stem != "speds"
    model, x = narrow(name, stem={"name": stem, "config": {"membrane": membrane}})
    wake(model, x)
    with torch.no_grad():
        y = model.eval()(x, steps=True)
    assert y.std() > 0
    frames = model.stem.first(x[:1])
    assert len(frames) == 1
    assert not [m for m in model.stem.first.modules() if getattr(m, "levels", None)]  # what comes before time has none


@pytest.mark.parametrize(
    ("stem", "changes", "words"),
    [
        ("sps", {"pools": "012"}, "four digits 0 or 1"),
        ("glsps", {"dilation": 0}, "dilation must be at least 1"),
        ("speds", {"pools": "1"}, "a digit 0 or 1 for each of the shares"),
        ("speds", {"before": 3}, "some but not all come before the shortcut"),
        ("speds", {"membrane": True}, "membrane must be false"),
        ("conv7", {"kernel": 4}, "kernel must be odd"),
        ("linear", {"patch": 0}, "patch must be at least one pixel"),
    ],
)
def test_settings_of_stems_are_checked(stem, changes, words):
    with pytest.raises(ValueError, match=words):
        STEMS[stem].changed(stem, changes)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("spikformer_small", {"width": 30}, "width 30 is to be a multiple of heads 4"),
        ("spikformer_small", {"width": 20}, "the stem grows from width/8, so width is a multiple of 8, got 20"),
        ("spikformer_small", {"input": "sound"}, "input must be one of imagenet, cifar, events"),
        ("spikformer_small", {"mlp_ratio": 0.0}, "mlp_ratio must be above 0"),
        ("spikformer_small", {"attention": "ssa"}, "unknown attention 'ssa'"),
        ("sdt_v2_small", {"widths": (4, 4)}, "widths are four and depths five"),
        ("sdt_v2_small", {"widths": (3, 4, 4, 4)}, "an even one"),
        ("qkformer_small", {"width": 90}, "no multiple of 4 heads"),
        ("qkformer_small", {"depths": ()}, "depths are whole numbers"),
        ("spiking_resformer_small", {"heads": (1, 2)}, "as many whole numbers"),
        ("spiking_resformer_small", {"heads": (1, 3, 4)}, "do not divide into heads"),
        ("spiking_resformer_small", {"group": 7}, "do not divide into groups of 7"),
    ],
)
def test_settings_of_models_are_checked(name, changes, words):
    with pytest.raises(ValueError, match=words):
        create_model(name, **changes)


# Re-parametrised convolutions


def test_factors_and_the_merged_convolution_are_one_up_to_the_borders():
    torch.manual_seed(0)
    factored = RepConv(6, 9).double()
    x = (torch.rand(4, 3, 6, 5, 7, dtype=torch.float64) < 0.3).double()
    for norm in (factored.first_norm, factored.second_norm):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
        norm.momentum = None
    factored(x)
    factored.eval()
    merged = factored.merged()
    assert (merged(x) - factored(x)).abs().max() < 1e-12
    assert factored.border().abs().min() > 0  # so that borders are not just zeros
    assert merged.weight.numel() == 9 * 6 * 9
    assert sum(p.weight.numel() for p in (factored.first, factored.depthwise, factored.second)) == 36 + 54 + 54


def test_folded_factors_compute_the_same():
    model, x = narrow("sdt_v2_small")
    wake(model, x)
    model.double().eval()
    folded = fuse(model, x.double())
    kept = next(m for m in folded.model.modules() if isinstance(m, RepConv))
    assert isinstance(kept.first_norm, nn.Identity)
    assert kept.border().abs().max() > 0
    assert (folded.model(x.double()) - model(x.double())).abs().max() <= 1e-10


# The leak of the released QKFormer


class OverSamplesToo(nn.Module):
    """A neuron run over steps and samples in one axis: the released ``proj_lif``, for this test alone."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.neuron(x.flatten(0, 1).unsqueeze(1)).squeeze(1)
        return y.unflatten(0, x.shape[:2])


def woken_qkformer(legacy: bool) -> tuple[nn.Module, Tensor]:
    model, x = narrow("qkformer_small", T=4)
    wake(model, x)
    if legacy:
        last = [b for b in model.blocks if isinstance(getattr(b, "backbone", [None])[0], Attention)][-1]
        last.backbone[-1] = OverSamplesToo(last.backbone[-1])
    x = torch.rand(4, 8, *x.shape[2:], generator=torch.Generator().manual_seed(3))
    return model.double().eval(), x.double()


@torch.no_grad()
def leak(model: nn.Module, x: Tensor) -> float:
    """How far logits of a sample move with its company, over the spread of logits."""
    y = model(x)
    alone = torch.cat([model(x[:, i : i + 1]) for i in range(x.shape[1])])
    return float((alone - y).abs().max() / y.std())


def test_the_released_qkformer_leaks_and_ours_does_not():
    assert leak(*woken_qkformer(legacy=False)) == 0
    assert leak(*woken_qkformer(legacy=True)) > 0.1


# Transforms


@pytest.mark.parametrize("name", ["spikformer_small", "sdt_v1_small", "sdt_v2_small", "sdt_v3_small", "qkformer_small"])
def test_removed_channels_are_those_that_were_silent(name):
    """What is left computes what the wide network computes with the others silenced."""
    model, x = narrow(name)
    wake(model, x)
    model.double().eval()
    x = x.double()
    groups = channel_groups(model, x)
    assert len(groups) >= 3
    plan = plan_by_ratio(score(model, criterion="random"), 0.25)
    wide = copy.deepcopy(model)
    for path, group in groups.items():
        mask = torch.zeros(group.size, dtype=torch.float64)
        mask[list(plan.kept[path])] = 1
        for neuron in group.neurons:
            silence = lambda module, args, y, mask=mask: y * mask[:, None, None]  # noqa: E731
            wide.get_submodule(neuron).register_forward_hook(silence)
        assert group.neurons
    with torch.no_grad():
        expected = wide(x)
        assert (expected - model(x)).abs().max() > 1e-6
        apply(model, plan.transform())
        assert (model(x) - expected).abs().max() <= 1e-9


def test_one_network_of_integers_says_the_same_at_every_length():
    """Integer neurons have no state, so a picture shown once or four times is the same."""
    model, x = narrow("sdt_v3_small", neuron="ie_lif")
    wake(model, x)
    model.double().eval()
    with torch.no_grad():
        once, often = model(x[:1].double()), model(x[0].double())
    assert model.T == 4
    assert torch.equal(once, often)
    assert once.std() > 0


@pytest.mark.parametrize("name", ["spiking_resformer_small", "qkformer_small"])
def test_blocks_that_run_again_on_the_way_back_change_nothing(name):
    """Gradients and running statistics, those of firing rates too."""
    plain, x = narrow(name)
    wake(plain, x)
    plain.double().train()
    again = copy.deepcopy(plain)
    set_recompute(again, True)
    for model in (plain, again):
        model(x.double(), steps=True).square().sum().backward()
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(plain.buffers(), again.buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["sdt_v2_small", "qkformer_small"])
def test_quantized_and_packed(name, tmp_path):
    model, x = narrow(name)
    wake(model, x)
    model.eval()
    before = model_size(model).bits
    apply(model, QuantizeConfig(bits=4))
    assert model_size(model).bits < before / 2
    save_packed(model, tmp_path / "p.safetensors", x)
    packed = load_packed(tmp_path / "p.safetensors").double()
    assert (packed(x.double()) - model.double()(x.double())).abs().max() <= 1e-4


@pytest.mark.slow
def test_a_model_in_training_is_one_graph():
    torch.compiler.reset()
    model, x = narrow("sdt_v2_small")
    wake(model, x)
    compiled = torch.compile(model.train(), fullgraph=True, backend="aot_eager")
    compiled(x, steps=True).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_channels_that_cannot_go_are_refused_by_name():
    model, _ = narrow("spiking_resformer_small")
    with pytest.raises(ValueError, match="SpikingResformer has no channels that can be removed"):
        channel_groups(model.eval())


def test_neurons_by_name_reach_every_place():
    model = create_model("spiking_resformer_small", neuron="tet")
    neurons = [m for m in model.modules() if getattr(m, "levels", None)]
    assert neurons
    assert all(type(m.config) is type(NEURONS["tet"]) for m in neurons)
