"""Scores, plans, and narrower networks that compute what the wide ones did with channels silenced."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch

from saccade.compress import (
    CRITERIA,
    ChannelPlan,
    Scores,
    plan_by_budget,
    plan_by_ratio,
    read_scores,
    recalibrate_,
    score,
    spike_map_rank,
)
from saccade.files import load_model, save_model
from saccade.layers import BatchNorm2d, Conv2d
from saccade.measure import model_size
from saccade.models import create_model
from saccade.neurons import LIF, LeakMixing, LeakMixingConfig
from saccade.transforms import (
    MemoryFreeConfig,
    QuantizeConfig,
    SubBitConfig,
    apply,
    channel_groups,
    fuse,
)
from saccade.verify import wake

MODELS = {
    "vgg_small": {"channels": (6, 8, 8, 10, 10, 12), "T": 3},
    "resnet20_wide": {"stem": 4, "widths": (8, 12, 16), "T": 2},
    "resnet19": {"stem": 4, "widths": (8, 12, 16), "T": 2},
    "ms_resnet18": {"stem": "cifar", "widths": (6, 8, 10, 12), "num_classes": 10, "T": 2},
}
SIZE = 32


SCORED = {"format": "saccade-scores-1", "criterion": "svs", "images": 1, "seed": 0}
SCORED |= {"values": {"a": [1.0, 2.0]}, "ties": {"a": [0.0, 0.0]}}


def images(n=6, seed=0):
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def woken(name, change=None):
    torch.manual_seed(0)
    model = create_model(name, **MODELS[name]).eval()
    if change:
        change(model)
    wake(model, images())
    return model


def silenced(model, kept):
    """The wide network with zeros where the removed channels are read."""
    model = copy.deepcopy(model)
    for name, group in channel_groups(model).items():
        mask = torch.zeros(group.size)
        mask[list(kept.get(name, range(len(mask))))] = 1
        for path, block in group.consumers:
            flat = isinstance(model.get_submodule(path), torch.nn.Linear)
            shape = mask.repeat_interleave(block).view(-1, *[1] * (0 if flat else 2))
            model.get_submodule(path).register_forward_pre_hook(lambda m, x, mask=shape: (x[0] * mask,))
    return model


FORMS = {
    "full": None,
    "rescaw": lambda m: apply(m, QuantizeConfig("rescaw", 2)),
    "dorefa": lambda m: apply(m, QuantizeConfig("dorefa", 4)),
    "lsq": lambda m: apply(m, QuantizeConfig("lsq", 3)),
    "lsq, channel": lambda m: apply(m, QuantizeConfig("lsq", 3, steps="channel")),
    "binary": lambda m: apply(m, QuantizeConfig("binary", 1)),
    "balanced_binary": lambda m: apply(m, QuantizeConfig("balanced_binary", 1)),
    "subbit": lambda m: apply(m, SubBitConfig(5)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["vgg_small", "resnet20_wide"])
def test_a_pruned_network_is_the_silenced_one(name, form):
    model, x = woken(name, FORMS[form]), images(4, seed=1)
    check_pruned(model, x)


def test_memory_free_networks_lose_channels_with_their_leaks():
    x = images(4, seed=1)
    model = woken("vgg_small", lambda m: apply(m, MemoryFreeConfig(LeakMixingConfig(per="channel"))))
    for module in model.modules():
        if isinstance(module, LeakMixing):
            torch.nn.init.uniform_(module.rho, -2, 2)
    check_pruned(model, x)
    assert model.stem_neuron.rho.shape == (3,)


def test_rows_mlp():
    torch.manual_seed(0)
    model = create_model("rows_mlp", widths=(12, 10, 8)).eval()
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wake(model, x)
    assert list(channel_groups(model)) == ["layers.0", "layers.3"]
    check_pruned(model, x)
    assert model.layers[3].weight.shape == (6, 7)
    model = create_model("rows_mlp", widths=(12, 10, 8)).eval()
    wake(model, x)
    with pytest.warns(UserWarning, match="one pixel wide"):
        score(model, [x], "svs")
    for criterion in ("rate", "sca"):
        assert sum(score(model, [x], criterion).values["layers.0"]) > 0


FAMILIES = {
    "or_resnet18": {},
    "add_resnet18": {"identity_shortcuts": True},
    "iand_resnet18": {},
    "and_resnet18": {},
    "plain_resnet18": {},
    "sew_resnet18": {"stem": "cifar", "num_classes": 10},
    "sew_resnet50": {"stem": "cifar", "num_classes": 10},
    "ms_resnet18": {"stem": "cifar", "num_classes": 10, "ma": "C"},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_that_could_not_lose_channels_in_the_first_version(name):
    torch.manual_seed(0)
    model = create_model(name.split()[0], T=4, widths=(8, 8, 10, 12), **FAMILIES[name]).eval()
    wake(model, images())
    check_pruned(model, images(4, seed=1))


@pytest.mark.parametrize("gates", [{"ma": "T", "ia": "T"}, {"ma": "C", "ia": "C"}, {"ma": "TCS", "ia": "S"}])
def test_gates_that_average_over_channels_see_fewer_of_them(gates, tmp_path):
    """So the narrower network is not the silenced one, but it is whole: it runs, learns, saves and loads."""
    torch.manual_seed(0)
    model = create_model("syna_resnet18", T=4, widths=(8, 8, 10, 12), **gates).eval()
    wake(model, images())
    plan = plan_by_ratio(score(model, criterion="random", seed=3), 0.4)
    apply(model, plan.transform())
    assert {name: group.size for name, group in channel_groups(model).items()} == {
        name: len(channels) for name, channels in plan.kept.items()
    }
    recalibrate_(model, [images()])
    save_model(model, tmp_path / "m.safetensors")
    x = images(2, seed=1)
    assert torch.equal(load_model(tmp_path / "m.safetensors")(x), model(x))
    model.train()(x, steps=True).square().sum().backward()


@pytest.mark.parametrize("name", ["resnet19", "ms_resnet18"])
def test_membrane_shortcuts_too(name):
    check_pruned(woken(name), images(4, seed=1))


def check_pruned(model, x):
    scores = score(model, criterion="random", seed=3)
    plan = plan_by_ratio(scores, 0.4)
    expected = silenced(model, plan.kept)(x, steps=True)
    assert (expected - model(x, steps=True)).abs().max() > 0.01
    kept = plan.kept
    apply(model, plan.transform())
    found = model(x, steps=True)
    assert expected.std() > 0
    assert torch.allclose(found, expected, atol=1e-5)
    for group, channels in kept.items():
        assert channel_groups(model)[group].size == len(channels)


def test_letting_scales_move_changes_what_is_computed():
    """The trap: gamma is the mean |w| of a filter, so losing inputs re-quantizes it."""
    model, x = woken("vgg_small", FORMS["rescaw"]), images(4, seed=1)
    apply(model, plan_by_ratio(score(model, criterion="random"), 0.5).transform())
    frozen = model(x)
    apply(model, "thaw_scales")
    assert not torch.allclose(model(x), frozen, atol=1e-3)


@pytest.mark.parametrize("thaw", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_files_replay_pruning(name, thaw, tmp_path):
    model, x = woken(name, FORMS["rescaw"]), images(2, seed=1)
    apply(model, plan_by_ratio(score(model, criterion="random"), 0.3).transform())
    apply(model, plan_by_ratio(score(model, criterion="random", seed=1), 0.2).transform())  # again, of what is left
    if thaw:
        apply(model, "thaw_scales")
    recalibrate_(model, [images()])
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert torch.equal(loaded(x), model(x))
    assert model(x).std() > 0
    model.train()
    model(x, steps=True).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_svs_is_the_rank_of_the_map_of_spike_counts():
    spikes = (torch.rand(4, 3, 5, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.15).float()
    spikes[:, 0, 0] = 0
    spikes[:, 1, 1, 3:] = spikes[:, 1, 1, :3]  # repeated rows
    rank, nuclear = spike_map_rank(spikes)
    counts = spikes.sum(0).numpy()
    assert np.array_equal(rank.numpy(), np.linalg.matrix_rank(counts))
    assert rank[0, 0] == 0
    assert nuclear[0, 0] == 0
    assert rank.max() == 6
    assert np.allclose(nuclear.numpy(), np.linalg.norm(counts / 4, "nuc", axis=(-2, -1)))


def test_svs_follows_a_permutation_of_channels():
    spikes = (torch.rand(2, 3, 8, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(spike_map_rank(spikes[:, :, order])[0], spike_map_rank(spikes)[0][:, order])


def test_rank_of_a_large_map_is_not_rounding():
    """In float32 the vanishing singular values of a 64x64 map of low rank come out above the 1e-6 of the paper."""
    rows = (torch.rand(64, 3, generator=torch.Generator().manual_seed(0)) < 0.7).float()
    counts = rows @ (torch.rand(3, 64, generator=torch.Generator().manual_seed(1)) < 0.7).float()
    spikes = torch.stack([(counts > t).float() for t in range(3)]).view(3, 1, 1, 64, 64)
    assert spike_map_rank(spikes)[0].item() == 3
    assert (torch.linalg.svdvals(counts / 3) > 1e-6).sum() > 3


@pytest.mark.parametrize("criterion", CRITERIA)
def test_criteria(criterion, tmp_path):
    model = woken("resnet20_wide")
    for norm in (m for m in model.modules() if isinstance(m, BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    found = score(model, [images(3), images(2, seed=1)], criterion, seed=5)
    for name, group in channel_groups(model).items():
        assert len(found.values[name]) == group.size
        assert len(set(found.values[name])) > 1
    assert found.images == (5 if criterion in ("svs", "sca", "rate") else 0)
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(found.to_json()))
    assert read_scores(path) == found


def test_scores_of_a_stage_are_sums():
    """By hand: the firing rates of the three layers that meet in a stage."""
    model, rates = woken("resnet20_wide"), {}
    for i in range(3):
        model.blocks[i].neuron2.register_forward_hook(lambda m, x, y, i=i: rates.update({i: y.mean((0, 1, 3, 4))}))
    found = score(model, [images()], "rate").values["blocks.0.conv2"]
    assert torch.allclose(torch.tensor(found), sum(rates.values()), atol=1e-6)
    assert sum(found) > 0


def test_scores_do_not_depend_on_batches():
    model, x = woken("vgg_small"), images(6)
    whole, parts = score(model, [x]), score(model, [x[:1], x[1:]])
    for name, values in whole.values.items():
        assert values == pytest.approx(parts.values[name], abs=0.34)  # in float32 a spike may flip between batch sizes
        assert sum(values) > 0


def test_ties_are_broken_in_writing():
    scores = Scores("svs", {"a": [2, 3, 2, 2, 1]}, {"a": [0.5, 0, 0.7, 0.5, 9]}, 1, 0)
    assert scores.order("a") == [1, 2, 0, 3, 4]
    assert plan_by_ratio(scores, 0.4).kept == {"a": (0, 1, 2)}


def test_tenth_of_a_hundred():
    scores = Scores("l1", {"a": [float(i) for i in range(100)]}, {"a": [0.0] * 100}, 0, 0)
    assert plan_by_ratio(scores, 0.9).kept["a"] == tuple(range(90, 100))


def test_a_budget_is_kept_and_used():
    model = woken("vgg_small", FORMS["rescaw"])
    scores = score(model, criterion="l1")
    before = model_size(model).bits / 8e3
    for share in (0.9, 0.8, 0.7):
        plan = plan_by_budget(model, scores, share * before)
        narrow = copy.deepcopy(model)
        apply(narrow, plan.transform())
        assert 0.8 * share * before < model_size(narrow).bits / 8e3 <= share * before
    assert plan_by_budget(model, scores, before).kept == plan_by_ratio(scores, 0.0).kept


def test_recalibration_gives_the_statistics_of_the_data():
    model, x = woken("vgg_small"), images(12)
    seen = {}
    model.stem[0].register_forward_hook(lambda m, i, y: seen.update(y=y))
    assert recalibrate_(model, [x[:6], x[6:]]) == 12
    model(x)
    assert torch.allclose(model.stem[1].running_mean, seen["y"].mean((0, 1, 3, 4)), atol=1e-5)
    assert model.stem[1].momentum == 0.1
    before = model.stem[1].running_mean.clone()
    with pytest.raises(ValueError, match="needs images"):
        recalibrate_(model, [])
    assert torch.equal(model.stem[1].running_mean, before)


class OnePixel(torch.nn.Module):
    """A convolution as large as the image, then neurons."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.neuron = Conv2d(3, 8, 6), BatchNorm2d(8), LIF(tau=2.0)
        self.read = Conv2d(8, 2, 1)

        self.second, self.last = LIF(tau=2.0), Conv2d(2, 2, 1)

    def forward(self, x):
        spikes = self.neuron(self.norm(self.conv(x[None])).expand(3, *x.shape[:1], 8, 1, 1) * 4)
        return self.last(self.second(self.read(spikes)))


def test_maps_of_one_pixel_are_warned_of():
    torch.manual_seed(0)
    model = OnePixel().eval()
    with pytest.warns(UserWarning, match=r"the maps of neuron are one pixel wide, so only their tie-break tells"):
        found = score(model, [images(20)[:, :, :6, :6]], "svs")
    rates = score(model, [images(20)[:, :, :6, :6]], "rate").values["conv"]
    assert max(found.values["conv"]) <= 1
    assert found.ties["conv"] == pytest.approx(rates)  # one value: its nuclear norm is the firing rate
    assert len(set(rates)) > 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(woken("vgg_small"), [images(2)], "svs")


def test_bad_requests_leave_the_model_alone():
    model = woken("resnet20_wide")
    before = copy.deepcopy(model.state_dict())
    scores = score(model, criterion="random")
    with pytest.raises(ValueError, match="unknown criterion 'taylor'; known: svs, sca, rate, l1, bn_gamma, random"):
        score(model, criterion="taylor")
    with pytest.raises(ValueError, match="looks at spikes: give it batches"):
        score(model, [], "svs")
    with pytest.raises(ValueError, match="stem.0: a ratio of 0.9 leaves none of its 4 channels"):
        plan_by_ratio(scores, 0.9)
    with pytest.raises(ValueError, match=r"stem.0: a ratio must be at least 0 and below 1, got 1.5"):
        plan_by_ratio(scores, {"stem.0": 1.5})
    with pytest.raises(ValueError, match="no group 'stage9' was scored; there are stem.0, "):
        plan_by_ratio(scores, {"stage9": 0.1})
    with pytest.raises(ValueError, match="budget: 0.5 kB cannot be reached: one channel a group takes"):
        plan_by_budget(model, scores, 0.5)
    other = score(woken("vgg_small"), criterion="random")
    with pytest.raises(ValueError, match="scores are of another network: stem.0 has 4 channels here and 6 there"):
        plan_by_budget(model, other, 5)
    for kept, message in (
        ({"stem.0": ()}, "stem.0: no channel would be left of 4"),
        ({"stem.0": (3, 1)}, "stem.0: channels to keep must be ascending and between 0 and 3"),
        ({"stem.0": (0, 4)}, "between 0 and 3"),
        ({"nowhere": (0,)}, "no group of channels 'nowhere'; the model has stem.0, "),
        (
            {"blocks.0.conv1": (0,), "blocks.1.conv2": (0,)},
            r"blocks.1.conv2 belongs to 'blocks.0.conv2', whose sum ties it to blocks.0.conv2, blocks.2.conv2: they keep",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            apply(model, ChannelPlan(kept).transform())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model.transforms == []


def test_scores_belong_to_weights():
    """The same widths are not enough: a quantized copy's filters are others."""
    model = woken("vgg_small")
    scores = score(model, criterion="l1")
    plan_by_budget(model, scores, 5)
    FORMS["rescaw"](model)
    with pytest.raises(ValueError, match="its channels are as many, but its weights differ"):
        plan_by_budget(model, scores, 5)


def test_orders_that_make_no_sense():
    model = woken("vgg_small")
    fused = fuse(model, images()).model
    plan = plan_by_ratio(score(model, criterion="random"), 0.3)
    with pytest.raises(ValueError, match="pruning comes before fusing"):
        apply(fused, plan.transform())
    with pytest.raises(ValueError, match="changing membranes comes before fusing"):
        apply(fused, "memory_free")
    for change in (FORMS["rescaw"], FORMS["subbit"]):
        with pytest.raises(ValueError, match="giving weights a form comes before fusing"):
            change(fused)
    FORMS["rescaw"](model)
    with pytest.raises(ValueError, match=r"has a weight form already \(Uniform\)"):
        FORMS["subbit"](model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a file of scores"),
        ("[]", "not a file of scores"),
        ('{"format": "x"}', "not a file of scores"),
        ('{"format": "saccade-scores-1", "criterion": "svs"}', "not a file of scores"),
        (json.dumps(SCORED | {"ties": {}}), "values and ties are of different groups"),
        (json.dumps(SCORED | {"ties": {"a": [1.0]}}), "a: not as many finite ties as values"),
        (json.dumps(SCORED | {"values": {"a": [1.0, float("nan")]}}), "a: not as many finite ties as values"),
        (json.dumps(SCORED | {"values": {"a": None}}), "not a file of scores"),
        (json.dumps(SCORED | {"values": [1, 2]}), "not a file of scores"),
    ],
)
def test_damaged_scores(text, message, tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_scores(path)
    with pytest.raises(ValueError, match="cannot read the scores"):
        read_scores(tmp_path / "none.json")
