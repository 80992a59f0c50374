"""Counts to the unit, the families' exact properties, model files."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from saccade.files import fingerprint, load_model, model_info, save_model
from saccade.graph import outputs
from saccade.layers import CONNECTIONS, Conv2d, ResidualBlock, SynAGate
from saccade.models import create_model, list_models, model_card
from saccade.models.ms_resnet import MsResNetConfig, ms_block
from saccade.neurons import LIF, ATan, SlidingMixingConfig
from saccade.plugins import plugin_of
from saccade.transforms import MemoryFreeConfig, PruneChannelsConfig, apply

TINY = {"stem": "mnist", "T": 4, "widths": (4, 8), "pairs": (1, 2), "neuron": "tet"}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("stem", "options", "count", "gates"),
    [
        ("dvs48", {"T": 16}, 11_174_794, (8, 3)),
        ("cifar", {"T": 16}, 11_175_370, (8, 3)),
        ("dvs", {"T": 32, "num_classes": 11}, 11_183_115, (5, 3)),
        ("mnist", {"T": 16}, 11_172_810, (0, 0)),
    ],
)
def test_syna_resnet_matches_the_released_files(stem, options, count, gates):
    model = create_model("syna_resnet18", stem=stem, **options)
    assert parameters(model) == count
    spiking = [m for m in model.modules() if isinstance(m, SynAGate) and m.gates[0].neuron is not None]
    analog = [m for m in model.modules() if isinstance(m, SynAGate) and m.gates[0].neuron is None]
    assert (len(analog), len(spiking)) == gates
    assert [n.role for n in model.modules() if isinstance(n, LIF)].count("shortcut") == 3


@pytest.mark.parametrize(
    ("name", "count", "convs", "neurons"),
    [
        ("ms_resnet18", 11_693_736, 21, 17),
        ("ms_resnet34", 21_801_896, 37, 33),
        ("ms_resnet104", 77_350_504, 109, 103),
        ("sew_resnet18", 11_689_512, 20, None),
        ("sew_resnet34", 21_797_672, 36, None),
        ("sew_resnet50", 25_557_032, 53, None),
    ],
)
def test_imagenet_models_have_the_published_size(name, count, convs, neurons):
    model = create_model(name)
    assert parameters(model) == count
    assert sum(isinstance(m, Conv2d) for m in model.modules()) == convs
    if neurons:
        assert sum(isinstance(m, LIF) for m in model.modules()) == neurons


@pytest.mark.parametrize(
    ("name", "classes", "count", "convs", "neurons"),
    [
        ("spiking_vgg11", 10, 61_377_034, 8, 10),
        ("spiking_vgg11", 100, 61_745_764, 8, 10),
        ("wrn16_4", 10, 2_748_902, 16, 13),
        ("wrn16_4", 100, 2_772_032, 16, 13),
    ],
)
def test_models_of_papers_on_attacks_have_the_released_size(name, classes, count, convs, neurons):
    with torch.device("meta"):
        model = create_model(name, num_classes=classes)
    assert parameters(model) == count
    assert sum(isinstance(m, Conv2d) for m in model.modules()) == convs
    assert sum(isinstance(m, LIF) for m in model.modules()) == neurons


def test_learnt_sums_start_even_and_are_brought_back():
    from saccade.layers.convex_sum import ConvexSum

    both, x, y = ConvexSum(), torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(both(x, y), 0.5 * x + 0.5 * y)
    for given, expected in (((0.9, 0.5), (0.7, 0.3)), ((2.0, 0.1), (1.0, 0.0)), ((-1.0, -3.0), (1.0, 0.0))):
        both.weight.data = torch.tensor(given)
        both.project()
        assert torch.allclose(both.weight, torch.tensor(expected))


def test_shortcuts_cost_what_was_published():
    assert parameters(create_model("or_resnet18")) - parameters(create_model("plain_resnet18")) == 173_824


def woken(name, x, **kwargs):
    """A small network whose layers fire: biases of the norms raised."""
    torch.manual_seed(0)
    model = create_model(name, **kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1.0)
            nn.init.constant_(module.bias, 0.4)
            module.momentum = None
    for _ in range(3):
        model(x)
    return model.eval()


def outputs_of(model, kinds, x):
    """Outputs of all modules of the given kinds, by path."""
    with torch.no_grad(), outputs(model, lambda path, module: isinstance(module, kinds)) as given:
        model(x)
    return given


CIFAR = {"stem": "cifar", "T": 3, "widths": (4, 6, 8, 10)}


@pytest.mark.parametrize("connection", ["or", "and", "iand", "add"])
def test_sew_values_grow_with_add_and_stay_binary_otherwise(connection):
    x = torch.rand(4, 3, 16, 16)
    model = woken("sew_resnet18", x, **CIFAR, num_classes=5, connection=connection)
    if connection == "and":  # nothing survives eight ANDs unless both sides fire often
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, 1.2)
    blocks = [ys[0] for ys in outputs_of(model, ResidualBlock, x).values()]
    assert all(y.sum() > 0 for y in blocks)
    since_projection = 0
    for i, y in enumerate(blocks):
        values = set(y.unique().tolist())
        if connection == "add":
            since_projection = 1 if i in (2, 4, 6) else since_projection + 1  # a projection ends in a neuron
            assert values <= set(range(since_projection + 2))
        else:
            assert values <= {0, 1}
    if connection == "add":
        assert max(float(y.max()) for y in blocks) >= 2


def test_ms_block_is_its_shortcut_at_initialisation():
    block = ms_block(MsResNetConfig(T=3), 4, 4, 1, False)
    x = torch.randn(3, 2, 4, 8, 8)
    assert torch.equal(block(x), x)
    projecting = ms_block(MsResNetConfig(T=3), 4, 6, 2, False)
    assert torch.equal(projecting(x), projecting.shortcut(x))


def test_convolutions_inside_ms_blocks_see_only_spikes():
    x = torch.rand(4, 3, 16, 16)
    model = woken("ms_resnet18", x, **CIFAR, num_classes=5)
    inputs = {}
    for path, module in model.named_modules():
        if isinstance(module, Conv2d) and ".residual." in path:
            module.register_forward_pre_hook(lambda _, args, path=path: inputs.setdefault(path, args[0]))
    model(x)
    assert len(inputs) == 16
    for path, value in inputs.items():
        assert set(value.unique().tolist()) == {0, 1}, path


def test_or_rates_are_bounded_by_their_parts():
    x = torch.rand(4, 1, 12, 12)
    model = woken("or_resnet18", x, **TINY)
    branches = {}
    pair = next(m for m in model.modules() if isinstance(m, ResidualBlock) and m.shortcut is not None)
    pair.backbone.register_forward_hook(lambda _, __, y: branches.update(a=y))
    pair.shortcut.register_forward_hook(lambda _, __, y: branches.update(s=y))
    pair.register_forward_hook(lambda _, __, y: branches.update(o=y))
    model(x)
    a, s, o = (branches[key].mean().item() for key in "aso")
    assert a > 0.02
    assert s > 0.02
    assert max(a, s) <= o <= min(1, a + s)
    assert torch.equal(branches["o"], CONNECTIONS["or"](branches["a"], branches["s"]))


def test_a_silent_shortcut_leaves_the_backbone_bit_for_bit():
    x = torch.rand(4, 1, 12, 12)
    model = woken("or_resnet18", x, **TINY)
    pair = next(m for m in model.modules() if isinstance(m, ResidualBlock) and m.shortcut is not None)
    nn.init.constant_(pair.shortcut.norm.weight, 0)
    nn.init.constant_(pair.shortcut.norm.bias, -1)
    spikes = (torch.rand(4, 2, 4, 12, 12) < 0.4).float()
    assert pair.shortcut(spikes).sum() == 0
    assert pair.backbone(spikes).sum() > 0
    assert torch.equal(pair(spikes), pair.backbone(spikes))


def test_every_branch_runs_once_a_forward():
    """The published code runs every branch twice, and its neurons' state goes on between the two."""
    x = torch.rand(2, 1, 12, 12)
    model = woken("syna_resnet18", x, **TINY, position="b")
    calls = outputs_of(model, (LIF, Conv2d, SynAGate), x)
    assert calls
    assert all(len(ys) == 1 for ys in calls.values())


@pytest.mark.parametrize("name", ["or_resnet18", "sew_resnet18", "ms_resnet18"])
def test_a_static_image_is_the_same_image_at_every_step(name):
    x = torch.rand(3, 3, 16, 16, dtype=torch.float64)
    model = woken(name, x.float(), **CIFAR, num_classes=5).double()
    shown = model(x, steps=True)
    assert torch.allclose(shown, model(x.expand(3, *x.shape), steps=True), atol=1e-12)
    assert torch.allclose(model(x), shown.mean(0), atol=1e-12)
    stem = outputs_of(model, Conv2d, x)["stem.0"][0]
    assert len(stem) == 1  # computed once


def test_readout_last():
    torch.manual_seed(0)
    model = create_model("or_resnet18", **TINY, readout="last").eval()
    x = torch.rand(2, 1, 12, 12)
    assert torch.equal(model(x), model(x, steps=True)[-1])
    with pytest.raises(ValueError, match="readout must be one of mean, last, got 'max'"):
        create_model("or_resnet18", readout="max")


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("or_resnet81", {}, "unknown model 'or_resnet81'; did you mean or_resnet18"),
        ("or_resnet18", {"width": 3}, "or_resnet18 takes no 'width'; did you mean 'widths'"),
        ("or_resnet18", {"stem": "imagenet"}, "unknown stem 'imagenet'; known: dvs48, dvs, cifar, mnist"),
        ("sew_resnet18", {"stem": "dvs"}, "unknown stem 'dvs'; known: imagenet, cifar"),
        ("or_resnet18", {"widths": (4, 8)}, "2 widths but 4 pair counts"),
        ("or_resnet18", {"T": 0}, "T must be 1 to 65536 steps, got 0"),
        ("or_resnet18", {"T": 2.5}, "or_resnet18: T: Input should be a valid integer, got 2.5"),
        ("or_resnet18", {"T": True}, "T: Input should be a valid integer, got True"),
        ("or_resnet18", {"widths": (4, 0), "pairs": (1, 1)}, "whole numbers from 1"),
        ("or_resnet18", {"connection": "xor"}, "unknown residual connection 'xor'"),
        ("vgg_small", {"image_size": (32, 40)}, "sides must be multiples of 16"),
        ("syna_resnet18", {"T": 3}, "a time gate with reduction 4 needs at least 4 steps \\(T\\), got 3"),
    ],
)
def test_bad_models_are_refused(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, **kwargs)


def test_bad_input_is_named():
    model = create_model("syna_resnet18", **TINY, position="b").eval()
    with pytest.raises(ValueError, match=r"expected \[N, 1, H, W\] or \[T, N, 1, H, W\], got \[2, 3, 12, 12\]"):
        model(torch.rand(2, 3, 12, 12))
    with pytest.raises(ValueError, match=r"got \[12, 12\]"):
        model(torch.rand(12, 12))
    with pytest.raises(ValueError, match="a time gate built for T = 4 got a sequence of T = 5"):
        model(torch.rand(5, 2, 1, 12, 12))


def test_every_model_has_a_card():
    assert len(list_models()) >= 24
    for name in list_models():
        card = model_card(name)
        if plugin_of(card.config):
            continue  # of a test's plugin that was loaded before
        assert card.summary
        assert "arXiv" in card.source
        assert card.licence.startswith("Apache-2.0")
    assert list_models("ms_*_small") == ["ms_resnet104_small", "ms_resnet18_small", "ms_resnet34_small"]


def test_model_files_round_trip(tmp_path):
    torch.manual_seed(0)
    model = create_model("syna_resnet18", **TINY, position="b", num_classes=3)
    x = torch.rand(2, 1, 12, 12)
    model(x)  # statistics other than the initial ones
    save_model(model, tmp_path / "m.safetensors", ["a", "b", "c"], (1, 12, 12))
    loaded = load_model(tmp_path / "m.safetensors")
    assert not loaded.training
    assert torch.equal(loaded(x), model.eval()(x))
    info = model_info(tmp_path / "m.safetensors")
    assert info["classes"] == ["a", "b", "c"]
    assert info["input"] == [1, 12, 12]
    assert list(tmp_path.iterdir()) == [tmp_path / "m.safetensors"]
    (tmp_path / "plain").touch()
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def broken(tmp_path, **changes):
    meta = {"format": "saccade-model-1", "model": "or_resnet18", "kwargs": {}, "classes": None, "transforms": []}
    path = tmp_path / "broken.safetensors"
    save_file({"w": torch.zeros(1)}, path, {"saccade": json.dumps(meta | changes)})
    return path


def test_bad_model_files_give_one_line(tmp_path):
    with pytest.raises(ValueError, match="gone.safetensors: no such model file"):
        load_model(tmp_path / "gone.safetensors")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="text: not a readable model file"):
        load_model(tmp_path / "text")
    with pytest.raises(ValueError, match="not a model file written by saccade"):
        load_model(broken(tmp_path, format="other"))
    with pytest.raises(ValueError, match="cannot build its model: unknown model 'x'"):
        load_model(broken(tmp_path, model="x"))
    with pytest.raises(ValueError, match="unknown model transform 'shrink'"):
        load_model(broken(tmp_path, transforms=[{"name": "shrink", "config": {}}]))
    with pytest.raises(ValueError, match="belongs to another model: it lacks the tensor"):
        load_model(broken(tmp_path))
    whole = tmp_path / "whole.safetensors"
    save_model(create_model("or_resnet18", **TINY), whole)
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(ValueError, match="whole.safetensors: not a readable"):
        load_model(whole)


def test_weights_of_another_shape_are_named(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(create_model("or_resnet18", **TINY), path)
    from saccade.files import load_weights

    with pytest.raises(
        ValueError, match=r"belongs to another model: 'head.weight' is \[10, 8\] where the model has \[3, 8\]"
    ):
        load_weights(create_model("or_resnet18", **TINY, num_classes=3), path)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    model = create_model("or_resnet18", **TINY)
    save_model(model, path)
    before = path.read_bytes()

    def full(tensors, filename, metadata):
        filename.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saccade.files.tensors.save_file", full)
    with pytest.raises(OSError, match=r"m.safetensors: could not be written .*No space left.*untouched"):
        save_model(model, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="only a model from create_model"):
        save_model(nn.Linear(1, 1), path)


@pytest.mark.parametrize("name", ["or_resnet18", "sew_resnet18", "ms_resnet18"])
def test_a_static_image_runs_once_before_time_with_the_same_gradients(name):
    """Against the image given at every step, in float64: the stem's work is saved, nothing else changes."""
    torch.manual_seed(0)
    model = create_model(name, stem="cifar", T=4, widths=(4, 6, 8, 8)).double().train()
    x = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    stems, found = [], []
    stem = next(m for m in model.modules() if isinstance(m, Conv2d))
    stem.register_forward_hook(lambda m, i, y: stems.append(len(y)))
    for images in (x, x.expand(4, *x.shape).clone()):
        model.zero_grad()
        steps = model(images, steps=True)
        steps.square().sum().backward()
        found.append([steps, *(p.grad for p in model.parameters())])
    assert stems == [1, 4], "once for the image, and for every step of the sequence"
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)


def test_images_of_another_size_are_named():
    model = create_model("vgg_small", T=2).eval()
    with pytest.raises(ValueError, match="images of 32x48 do not fit a model built for image_size 32x32"):
        model(torch.rand(1, 3, 32, 48))
    oblong = create_model("vgg_small", T=2, image_size=(32, 48)).eval()
    assert oblong(torch.rand(1, 3, 32, 48)).shape == (1, 10)
    with pytest.raises(ValueError, match="expected images in \\[0, 1\\] as floats, got torch.uint8"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("change", ["neuron", "layer", "residual"])
def test_a_model_changed_by_hand_is_not_saved_as_another_function(change, tmp_path):
    """0.1 saved it and loaded something else, without a word."""
    model = create_model("or_resnet18_small", T=2).eval()
    if change == "neuron":
        model.stem_neuron = LIF(tau=3.0)
    elif change == "layer":
        model.blocks[0].backbone[0] = Conv2d(16, 16, 3, 1, 2, dilation=2, bias=False)  # the same weights, another place
    else:
        model.blocks[2].connection = CONNECTIONS["iand"]
    with pytest.raises(ValueError, match="a file would load as another function: .*change models by transforms"):
        save_model(model, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_structure_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    model = create_model("or_resnet18_small", T=2)
    save_model(model, path)
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["saccade"])
    metadata["config"]["neuron"]["config"]["tau"] = 3.0
    save_file(model.state_dict(), path, {"saccade": json.dumps(metadata)})
    with pytest.raises(ValueError, match="was saved from a model of another structure"):
        load_model(path)


@pytest.mark.parametrize(
    "wrap", [torch.compile, lambda m: nn.DataParallel(m), lambda m: torch.compile(nn.DataParallel(m))]
)
def test_the_model_inside_is_saved(wrap, tmp_path):
    model = create_model("or_resnet18_small", T=2).eval()
    save_model(wrap(model), tmp_path / "m.safetensors")
    x = model.example_input()
    assert torch.equal(load_model(tmp_path / "m.safetensors")(x), model(x))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = create_model("or_resnet18_small", T=2)
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"head.weight holds values that are not finite, so the model is not saved"):
        save_model(model, tmp_path / "m.safetensors")


def test_files_of_the_first_version_load(tmp_path):
    """What 0.1 wrote: presets by name, a prune by its group's name, a memory-free neuron by its mode."""
    model = create_model("vgg_small", T=2, neuron="lif", channels=(4,) * 6).eval()
    apply(model, PruneChannelsConfig({"stem.0": (0, 2), "layers.4": (1, 2, 3)}))
    apply(model, MemoryFreeConfig(SlidingMixingConfig(order=3), surrogate=ATan(1.5)))
    old = {"mode": "sliding", "decay": 0.5, "learn": True, "per": "layer", "T": None, "order": 3, "v_th": 1.0}
    metadata = {
        "format": "saccade-model-1",
        "model": "vgg_small",
        "kwargs": {"T": 2, "preset": "lif", "channels": [4] * 6},
        "classes": None,
        "input": None,
        "transforms": [
            {"name": "prune", "config": {"kept": {"stem": 2, "conv2": 3}}},
            {"name": "memory_free", "config": old | {"surrogate": {"name": "ATan", "alpha": 1.5}, "channel_axis": 2}},
        ],
    }
    save_file(model.state_dict(), tmp_path / "old.safetensors", {"saccade": json.dumps(metadata)})
    loaded, x = load_model(tmp_path / "old.safetensors"), model.example_input()
    assert torch.equal(loaded(x), model(x))
    assert fingerprint(loaded) == fingerprint(model)
