"""SDTrack: sizes, layouts, neurons, heads, released checkpoints."""

import copy

import pytest
import torch

from saccade.graph import outputs
from saccade.layers.joint import CornerNorm, EachMap, laid_out, on_canvas, taken_apart
from saccade.models import create_model
from saccade.models.sdtrack import BodyConfig
from saccade.neurons import Stream
from saccade.neurons.spiking import Spiking
from saccade.track.official import _body_names, load_official
from saccade.verify import wake

MINI = {
    "widths": (8, 8, 12, 16),
    "depths": (1, 1, 1, 1, 1),
    "heads": 2,
    "search": 64,
    "template": 32,
    "head_width": 16,
    # few tokens make small products, so they are scaled up
    "attention": {"name": "ssa_kv", "config": {"scale": 4.0, "value_ratio": 4, "halve": False}},
}


def mini(**changes):
    torch.manual_seed(0)
    return create_model("sdtrack_tiny", **(MINI | changes)).eval()


def canvas(samples=2, steps=None):
    draw = torch.Generator().manual_seed(1)
    lead = (samples,) if steps is None else (steps, samples)
    search, template = (torch.rand(*lead, 3, side, side, generator=draw) for side in (64, 32))
    return on_canvas(search, template)


def woken(**changes):
    model = mini(**changes).double()
    x = canvas().double()[None].repeat(model.T, 1, 1, 1, 1)
    wake(model, x)
    return model, x


@pytest.mark.parametrize(
    ("name", "changes", "body", "total"),
    [
        ("sdtrack_tiny", {}, 15_953_672, 19_607_693),  # published: 19.61 M
        ("sdtrack_base", {"classifier": True}, 91_221_120, 107_260_781),  # published: 107.26 M
        ("sdtrack_base", {}, 91_221_120, 106_491_781),
    ],
)
def test_published_sizes(name, changes, body, total):
    with torch.device("meta"):
        model = create_model(name, **changes)
    assert sum(p.numel() for p in model.body.parameters()) == body
    assert sum(p.numel() for p in model.parameters()) == total


def test_shapes_of_tiny():
    """320 tokens of template and search, 4 pads; the head reads the 256 of the search region."""
    model = create_model("sdtrack_tiny").eval()
    with torch.no_grad(), outputs(model, lambda path, _: path in ("body", "head.score")) as seen:
        y = model(model.example_input(1))
    (body,), (score,) = seen["body"], seen["head.score"]
    assert (y.shape, body.shape, score.shape) == ((1, 5, 16, 16), (1, 1, 360, 1, 324), (1, 1, 1, 16, 16))


def test_maps_side_by_side():
    a, b = torch.rand(1, 2, 3, 4, 5), torch.rand(1, 2, 3, 2, 2)
    tokens = laid_out([a, b])
    assert tokens.shape == (1, 2, 3, 1, 24)
    for given, back in zip((a, b), taken_apart(tokens, ((4, 5), (2, 2))), strict=True):
        assert torch.equal(given, back)
    with pytest.raises(ValueError, match=r"expected \[T, N, C, 1, 25\]"):
        taken_apart(tokens, ((5, 5),))
    whole = on_canvas(torch.ones(1, 1, 3, 3), torch.full((1, 1, 2, 2), 2.0))[0, 0]
    assert whole.tolist() == [[1, 1, 1, 0, 0]] * 3 + [[0, 0, 0, 2, 2]] * 2


@pytest.mark.parametrize(
    ("neuron", "T"),
    [
        ("i_lif", 1),
        ({"name": "i_lif", "config": {"D": 2, "stateful": True, "decay": 0.25}}, 2),
        ("spikformer", 4),
        ({"name": "di_lif", "config": {"D": 2}}, 1),
    ],
)
def test_published_neurons(neuron, T):
    """1 x 4, 2 x 2 and 4 x 1 run, fire and, but for levels that a sample chooses, stream; each sample by itself."""
    model, x = woken(neuron=neuron, T=T)
    with torch.no_grad():
        y = model(x, steps=True)
        alone = model(x[:, :1], steps=True)
        torch.testing.assert_close(alone, y[:, :1], rtol=0, atol=1e-10)
        assert y.shape == (T, 2, 5, 4, 4)
        if "di_lif" in str(neuron):
            with pytest.raises(ValueError, match="looks at later steps"):
                Stream(model)
            return
        stream = Stream(model)
        parts = torch.cat([stream(step[None]) for step in x])
    torch.testing.assert_close(parts, y, rtol=0, atol=1e-10)
    assert T == 1 or not torch.equal(y[0], y[-1]), "potentials carry on"


@pytest.mark.parametrize("layout", ["plain", "mask", "siamese"])
def test_query_first_is_the_same(layout):
    linear, x = woken(layout=layout)
    released = mini(layout=layout, attention=MINI["attention"] | {"name": "ssa_qk"}).double()
    released.load_state_dict(linear.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(released(x), linear(x), rtol=0, atol=1e-10)


def test_masked_canvas_is_two_passes_but_for_the_corner():
    """With the mask nothing fires outside the two blocks, and convolutions see what they would see of each region by itself,
    except near the corner where the blocks touch; without it both is wrong."""
    sides = {"search": 128, "template": 64}
    draw = torch.Generator().manual_seed(1)
    x = on_canvas(*(torch.rand(1, 3, side, side, generator=draw).double() for side in (128, 64)))
    mask = mini(layout="mask", **sides).double()
    wake(mask, x[None])
    plain, siamese = mini(layout="plain", **sides).double(), mini(layout="siamese", **sides).double()
    plain.load_state_dict({key.replace(".norm.", "."): value for key, value in mask.state_dict().items()})
    siamese.load_state_dict(dict(zip(siamese.state_dict(), mask.state_dict().values(), strict=True)))

    def watched(path, module):
        return path == "body.stages" or (isinstance(module, Spiking) and path.startswith("body.stages"))

    found, silent = {}, {}
    for name, model in (("mask", mask), ("plain", plain), ("siamese", siamese)):
        with torch.no_grad(), outputs(model, watched) as seen:
            model(x)
        features = seen.pop("body.stages")[0]
        if name != "siamese":
            silent[name] = sum(_outside(spikes).count_nonzero().item() for (spikes,) in seen.values())
            features = laid_out([features[..., 8:, 8:], features[..., :8, :8]])
        found[name] = features
    assert silent["mask"] == 0 < silent["plain"]
    wrong = {name: (found[name] - found["siamese"]).abs().amax((0, 1, 2, 3)) > 1e-9 for name in ("mask", "plain")}
    search = wrong["mask"][16:].view(8, 8)
    assert search[7, 7]
    assert not search[:3].any()
    assert not search[:, :3].any()
    assert wrong["plain"][16:].sum() >= 2 * search.sum()


def _outside(spikes):
    """Of maps on a canvas of which the template takes a third."""
    side = spikes.shape[-1] * 2 // 3
    return torch.cat([spikes[..., :side, side:].flatten(), spikes[..., side:, :side].flatten()])


def test_joint_statistics():
    """In training the siamese layout and the mask take the statistics of both regions together, and of nothing else."""
    siamese = mini(layout="siamese").train()
    norm = siamese.body.first[1]
    x = canvas()
    siamese(x)
    conv = siamese.body.first[0]
    assert isinstance(conv, EachMap)
    with torch.no_grad():
        maps = [conv.layer(part[None]).flatten(3) for part in (x[..., 64:, 64:], x[..., :64, :64])]
        values = torch.cat(maps, -1)
    torch.testing.assert_close(norm.running_mean, 0.1 * values.mean((0, 1, 3)))
    mask = mini(layout="mask").train()
    mask.load_state_dict(dict(zip(mask.state_dict(), mini(layout="siamese").state_dict().values(), strict=True)))
    mask(x)
    assert isinstance(mask.body.first[1], CornerNorm)
    # the same but for what the 7x7 windows see across the corner
    torch.testing.assert_close(mask.body.first[1].norm.running_mean, norm.running_mean, rtol=0, atol=2e-3)


def test_corner_norm_in_both_modes():
    draw = torch.Generator().manual_seed(0)
    norm = CornerNorm(copy.deepcopy(mini().body.first[1]), 4, 2)
    x = torch.randn(1, 2, 4, 6, 6, generator=draw)
    y = norm.train()(x)
    assert _outside(y).abs().sum() == 0
    assert abs(float(laid_out([y[..., :4, :4], y[..., 4:, 4:]]).detach().mean())) < 1e-6
    assert _outside(norm.eval()(x)).abs().sum() == 0


def test_the_released_base_carries_scaling():
    """A mean leaves what is outside the regions at 0."""
    model = mini(mean=(1.0, 2.0, 3.0), std=(2.0, 2.0, 2.0))
    with outputs(model, lambda path, _: path == "body.first.0") as seen, torch.no_grad():
        model(on_canvas(torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1).expand(1, 3, 64, 64), torch.zeros(1, 3, 32, 32)))
    (y,) = seen["body.first.0"]
    nothing = model.body.first[0].bias.view(-1, 1, 1)
    torch.testing.assert_close(y[0, 0, :, :20, :20], nothing.expand(-1, 20, 20))  # the search region is the mean
    torch.testing.assert_close(y[0, 0, :, :20, 40:], nothing.expand(-1, 20, 8))  # outside both


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": 100}, "multiples of 16 pixels, got 100, 32"),
        ({"pads": 3}, "pads is a square number, got 3"),
        ({"head_width": 12}, "head_width is a multiple of 8"),
        ({"widths": (8, 8, 12)}, "widths are four"),
        ({"widths": (8, 8, 13, 16)}, "divide into 2 heads"),
        ({"mean": (1.0,)}, "mean and std are 3 numbers each"),
        ({"layout": "crops"}, "layout"),
        ({"head": "box"}, "head"),
    ],
)
def test_bad_settings(changes, words):
    with pytest.raises(ValueError, match=words):
        mini(**changes)


def test_bad_input():
    with pytest.raises(ValueError, match=r"a canvas of 96 x 96 pixels, got \[1, 1, 3, 64, 64\]"):
        mini()(torch.zeros(1, 3, 64, 64))


def as_released(model):
    """Its tensors under the names of the authors' checkpoints."""
    own = model.state_dict()
    convs = [key[:-7] for key, value in own.items() if key.endswith("weight") and value.dim() == 4]
    norms = [key[:-13] for key in own if key.endswith(".running_mean")]
    names = [(f"backbone.{conv}", f"backbone.{norm}") for conv, norm in _body_names(model.config)]
    branches = ("ctr", "size", "offset") if model.config.head == "centre" else ("tl", "br")
    for branch in branches:
        names += [(f"box_head.conv{i}_{branch}.1", f"box_head.conv{i}_{branch}.2") for i in (1, 2, 3, 4)]
        names.append((f"box_head.conv5_{branch}", ""))
    made = {}
    for ours, theirs in (
        *zip(convs, [conv for conv, _ in names], strict=True),
        *zip(norms, [norm for _, norm in names if norm], strict=True),
    ):
        for key, value in own.items():
            if key.startswith(f"{ours}."):
                flat = ".fc1_conv" in theirs or ".fc2_conv" in theirs  # convolutions along one axis there
                made[theirs + key.removeprefix(ours)] = value.squeeze(-1) if flat and value.dim() == 4 else value
    assert len(made) == len(own)
    return made


@pytest.mark.parametrize("head", ["centre", "corner"])
def test_released_checkpoint(head, tmp_path):
    model, x = woken(head=head)
    model = model.float()
    path = tmp_path / "SDTrack_ep0100.pth.tar"
    torch.save({"net": as_released(model), "epoch": 100}, path)
    fresh = mini(head=head)
    assert load_official(path, fresh) == ()
    with torch.no_grad():
        assert torch.equal(fresh(x.float()), model(x.float()))
    body = {key.removeprefix("backbone."): value for key, value in as_released(model).items() if "backbone" in key}
    torch.save({"model": body | {"head.weight": torch.zeros(3)}}, path)
    assert load_official(path, mini(head=head)) == ("its head: freshly initialised",)


class Trap:
    def __reduce__(self):
        return print, ("a pickle ran",)


def test_checkpoints_that_are_none(tmp_path, capsys):
    path = tmp_path / "a.pth"
    tensors = as_released(mini())
    first = "backbone.block3.0.attn.q_conv.0.weight"
    for given, words in (
        ({"net": {"weights": Trap()}}, "not a checkpoint of tensors alone"),
        (
            {"net": {key: value for key, value in tensors.items() if key != first}},
            "lacks the tensor 'block3.0.attn.q_conv",
        ),
        ({"net": tensors | {first: torch.zeros(3, 3, 1, 1)}}, r"is \[3, 3, 1, 1\] where the model has"),
        ({"net": tensors | {first: tensors[first] * float("nan")}}, "not finite"),
        ([1, 2], "holds no tensors by name"),
    ):
        torch.save(given, path)
        with pytest.raises(ValueError, match=words):
            load_official(path, mini())
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a checkpoint of tensors alone"):
        load_official(path, mini())
    torch.save({"net": tensors}, path)
    with pytest.raises(ValueError, match="released weights are of layout 'plain'"):
        load_official(path, mini(layout="siamese"))
    assert capsys.readouterr().out == ""


def test_body_of_the_classifier_fits():
    """What is trained on images is what the tracker has, name for name."""
    own = {key: MINI[key] for key in ("widths", "depths", "heads", "attention")}
    classifier = create_model("sdtrack_tiny_classifier", side=32, num_classes=5, **own)
    assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, 5)
    theirs = {key: value for key, value in classifier.state_dict().items() if key.startswith("body.")}
    tracker = mini()
    missing = tracker.load_state_dict(theirs, strict=False)
    assert not missing.unexpected_keys
    assert {key.partition(".")[0] for key in missing.missing_keys} == {"head"}
    assert isinstance(classifier.config, BodyConfig)


def test_convert_command(tmp_path, capsys, monkeypatch):
    """A released checkpoint, or a classifier of ours, becomes a tracker's file."""
    from saccade.cli.main import run
    from saccade.files import load_model, save_model
    from saccade.models import MODELS
    from saccade.models.registry import ModelCard

    monkeypatch.setattr(MODELS, "_values", dict(MODELS._values))
    card = MODELS["sdtrack_tiny"]
    small = card.config.changed("mini", MINI | {"classifier": False})
    MODELS.register("mini", ModelCard("mini", card.summary, card.source, card.input, small))
    like = MODELS["sdtrack_tiny_classifier"].config
    own = {key: MINI[key] for key in ("widths", "depths", "heads", "attention")}
    wide = like.changed("mini", own | {"side": 32, "num_classes": 3})
    MODELS.register("mini_classifier", ModelCard("mini_classifier", card.summary, card.source, card.input, wide))
    model = create_model("mini")
    torch.save({"net": as_released(model)}, tmp_path / "a.pth")
    arguments = ["track", "convert", str(tmp_path / "a.pth"), str(tmp_path / "a.safetensors"), "--model", "mini"]
    assert run(arguments) == 0
    assert "note" not in capsys.readouterr().out
    back = load_model(tmp_path / "a.safetensors")
    assert torch.equal(back(canvas()), model.eval()(canvas()))
    assert back.frames["windows"]["config"]["duration_us"] == 25_000
    classifier = create_model("mini_classifier")
    save_model(classifier, tmp_path / "c.safetensors")
    assert (
        run(["track", "convert", str(tmp_path / "c.safetensors"), str(tmp_path / "b.safetensors"), "--model", "mini"])
        == 0
    )
    assert "its head: freshly initialised" in capsys.readouterr().out
    started = load_model(tmp_path / "b.safetensors")
    assert torch.equal(started.body.state_dict()["first.0.weight"], classifier.body.state_dict()["first.0.weight"])
    assert run([*arguments[:-1], "or_resnet18_small"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run([*arguments, "--imagenet"]) == 0
    assert load_model(tmp_path / "a.safetensors").config.mean[0] == pytest.approx(255 * 0.485)
