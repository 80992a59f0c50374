"""Crops, codec, losses, samples, data sets, and a tracker that learns."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data import DATA_SETS
from saccade.events import EventStream, write_events
from saccade.events.formats.aedat4 import frame_stamps
from saccade.experiment import parse, run
from saccade.files import load_model
from saccade.track.codec import boxes_at, decoded, encoded, ends, focal, heat, places
from saccade.track.composites import Composites
from saccade.track.crops import canvas, cut, region_of
from saccade.track.evaluate import tracked
from saccade.track.folders import FE108
from saccade.track.metrics import PROTOCOLS
from saccade.track.results import write_boxes
from saccade.track.task import Tracking
from saccade.track.tracker import Tracker

SIDES = st.floats(2, 60)
PLACES = st.floats(-40, 120)


@given(x=PLACES, y=PLACES, w=SIDES, h=SIDES)
@settings(deadline=None, max_examples=50)
def test_regions_are_undone(x, y, w, h):
    region = region_of((x, y, w, h), 4.0, 96)
    assert region.side == int(np.ceil(np.sqrt(w * h) * 4))
    np.testing.assert_allclose(region.outside(region.within((x, y, w, h))), (x, y, w, h), atol=1e-9)
    cx, cy, _, _ = region.within((x, y, w, h))
    assert abs(cx - 0.5) <= 0.5 / region.side + 1e-9
    assert abs(cy - 0.5) <= 0.5 / region.side + 1e-9


def test_crops():
    frame = torch.arange(24.0).view(1, 4, 6)
    whole = cut(frame, region_of((1, 1, 2, 2), 1.0, 2))
    assert torch.equal(whole, frame[:, 1:3, 1:3])
    outside = cut(frame, region_of((-2, -2, 4, 4), 1.0, 4))
    assert torch.equal(outside[:, 2:, 2:], frame[:, :2, :2])
    assert outside[:, :2].abs().sum() == outside[:, :, :2].abs().sum() == 0
    larger = cut(frame, region_of((1, 1, 2, 2), 1.0, 8))
    assert larger.min() == frame[0, 1, 1]  # linear, no more than what is there
    assert larger.max() == frame[0, 2, 2]
    assert torch.equal(cut(frame, region_of((0, 0, 3, 3), 1.0, 8), whole=True) % 1, torch.zeros(1, 8, 8))
    given = canvas(torch.ones(2, 4, 4), torch.full((2, 2, 2), 3.0))
    assert given.sum() == 2 * (16 + 12)
    for box in ((0, 0, 0, 2), (0, 0, float("nan"), 2)):
        with pytest.raises(ValueError, match="a box of finite numbers and positive sides"):
            region_of(box, 4.0, 8)


@given(cx=st.floats(0.03, 0.97), cy=st.floats(0.03, 0.97), w=st.floats(0.01, 0.9), h=st.floats(0.01, 0.9))
@settings(deadline=None, max_examples=50)
def test_what_is_encoded_is_decoded(cx, cy, w, h):
    box = torch.tensor([[cx, cy, w, h]], dtype=torch.float64)
    found, score, maps = decoded(encoded(box, 16))
    torch.testing.assert_close(found, box, rtol=0, atol=1e-6)
    assert float(score) == pytest.approx(1 - 1e-4)
    assert maps.shape == (1, 16, 16)


def test_heat_by_hand():
    """A box of 4 x 4 cells: the least of the three radii is 1 (1.06), sigma a half."""
    value = heat(torch.tensor([[0.5, 0.25, 0.25, 0.25]]), 16)[0]
    assert value[4, 8] == 1
    assert value[4, 9] == pytest.approx(np.exp(-2))
    assert value[5, 9] == pytest.approx(np.exp(-4))
    assert value[4, 10] == 0
    assert (value > 0).sum() == 9


def test_focal_by_hand():
    score, target = torch.tensor([[[0.8, 0.3]]]), torch.tensor([[[1.0, 0.5]]])
    expected = -(np.log(0.8) * 0.2**2 + np.log(0.7) * 0.3**2 * 0.5**4)
    assert float(focal(score, target)) == pytest.approx(expected)


def test_corner_head():
    """The mean place under a softmax: sharp maps give the places themselves."""
    maps = torch.full((1, 2, 8, 8), -100.0)
    maps[0, 0, 2, 1] = maps[0, 1, 6, 4] = 100.0
    box, score, _ = decoded(maps)
    torch.testing.assert_close(ends(box), torch.tensor([[1.0, 2, 4, 6]]) / 8)
    assert float(score) == 1
    with pytest.raises(ValueError, match="of a corner head, got"):
        decoded(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("at", ["peak", "truth"])
def test_gradients_of_boxes(at):
    """They reach size and offset at one place: the best score's, or the true one's."""
    torch.manual_seed(0)
    output = torch.randn(1, 2, 5, 8, 8, requires_grad=True)
    target = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.8, 0.2, 0.3]])
    task = Tracking(boxes_at=at).build(torch.nn.Identity())
    task.loss(output, target).backward()
    reached = output.grad[0, :, 1:].abs().sum(1).flatten(1) > 0
    assert reached.sum(1).tolist() == [1, 1]
    wanted = places(target, 8) if at == "truth" else output.detach()[0, :, 0].flatten(1).argmax(-1)
    assert reached.int().argmax(-1).tolist() == wanted.tolist()
    assert (output.grad[0, :, 0] != 0).all()


def test_loss_of_the_truth_is_small():
    boxes = torch.tensor([[0.5, 0.5, 0.25, 0.25], [0.2, 0.7, 0.3, 0.1]])
    task = Tracking().build(torch.nn.Identity())
    right = encoded(boxes, 16)
    assert float(task.loss(right[None], boxes)) < 0.1 < 1 < float(task.loss(torch.randn_like(right)[None], boxes))
    metrics = task.metrics()
    metrics.update(right[None], boxes)
    metrics.update(right[None], boxes.flip(0))
    assert metrics.result() == {"overlap": pytest.approx(0.5), "half": 0.5}
    # of several windows, each has its own box
    metrics = task.metrics()
    metrics.update(torch.stack([right, right.flip(0)]), torch.stack([boxes, boxes.flip(0)], 1))
    assert metrics.result()["overlap"] == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="boxes of 3 windows for answers of 1 steps"):
        task.loss(right[None], torch.zeros(2, 3, 4))
    torch.testing.assert_close(boxes_at(right, places(boxes, 16)), boxes)


SMALL = {"search": 32, "template": 16, "search_factor": 3.0, "centre_jitter": 1.5, "windows": 8}


@pytest.fixture(scope="module")
def source():
    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    return DATA_SETS["composites"].changed(
        "composites",
        {**SMALL, "recordings": "digits", "train_sequences": 3, "test_sequences": 2, "pairs": 20, "test_pairs": 10},
    )


def test_samples(source, tmp_path):
    parts = source.read(tmp_path)
    images, targets = parts.train.__getitems__([0, 5, 7])
    assert (images.shape, targets.shape) == ((3, 3, 48, 48), (3, 4))
    assert images[:, :, :32, 32:].abs().sum() == 0
    assert images[:, :, :32, :32].abs().sum() > 0
    again, _ = source.read(tmp_path).train.__getitems__([5])
    assert torch.equal(again[0], images[1])
    assert parts.train.frames["representation"]["name"] == "gtp"
    boxes = parts.train.made.recordings.boxes
    for sample, target in zip(parts.train.samples, parts.train.targets, strict=True):
        (at,) = sample.search
        assert sample.template < at
        torch.testing.assert_close(
            torch.tensor(sample.regions[1].within(boxes[sample.sequence][at])).float(), target, rtol=1e-5, atol=1e-5
        )
    middles = parts.train.targets[:, :2]
    assert ((middles > 0) & (middles < 1)).all()  # half the region is 1.5 sides away, and the jitter at most 0.75
    assert len(parts.train.subset([3, 4])) == 2


def test_several_windows(source, tmp_path):
    parts = source.changed("composites", {"steps": 3}).read(tmp_path)
    images, targets = parts.train.__getitems__([0, 1])
    assert (images.shape, targets.shape) == ((2, 3, 3, 48, 48), (2, 3, 4))
    assert torch.equal(images[:, 0, :, 32:, 32:], images[:, 2, :, 32:, 32:])  # one template
    assert not torch.equal(images[:, 0, :, :32, :32], images[:, 2, :, :32, :32])
    for sample in parts.train.samples:
        assert list(np.diff(sample.search)) == [1, 1]
    assert parts.train.frames["steps"] == 3


def test_targets_out_of_sight(source):
    """Windows without a target are no templates and no search windows; a gap that is too small grows."""
    visible = np.tile([[10.0, 10, 8, 8]], (30, 1))
    visible[1:25] = np.nan
    near = source.changed("composites", {"gap": 2})
    for sample in near.draw([visible], 40, 0):
        assert sample.template in {0, *range(25, 30)}
        assert sample.search[0] >= 25
    with pytest.raises(ValueError, match="no sequence shows its target in a template and 1 windows behind it"):
        near.draw([visible[:25]], 1, 0)
    alone = visible.copy()
    alone[26:] = np.nan
    with pytest.raises(ValueError, match="and 2 windows behind it"):
        near.changed("composites", {"steps": 2}).draw([alone], 1, 0)


@pytest.fixture
def fe108(tmp_path):
    """Two tiny sequences in the folders of FE108."""
    for number, part in enumerate(("train", "test")):
        folder = tmp_path / "fe108" / part / "ball"
        folder.mkdir(parents=True)
        draw = np.random.default_rng(number)
        t = np.sort(draw.integers(0, 60_000, 4000))
        x, y = 50 + t // 3000 + draw.integers(0, 12, 4000), 40 + draw.integers(0, 12, 4000)
        write_events(folder / "events.raw", EventStream(t, x, y, draw.integers(0, 2, 4000), 260, 346))
        boxes = np.array([[50.0 + 10_000 * i / 3000, 40, 15, 12] for i in range(6)])
        boxes[3] = 0
        write_boxes(folder / "groundtruth_rect.txt", boxes)
    return tmp_path


def test_folders(fe108):
    source = FE108(search=32, template=16, pairs=6, test_pairs=4, cache=False)
    parts = source.read(fe108)
    assert parts.train.__getitems__([0])[0].shape == (1, 3, 48, 48)
    assert np.isnan(parts.train.made.recordings.boxes[0][3]).all()
    recordings = parts.test.made.recordings
    events, stamps = recordings.events(0)
    assert len(stamps) == 7
    assert stamps[0] == events.t[0]
    place = fe108 / "fe108" / "test" / "ball"
    (place / "timestamps.txt").write_text("\n".join(str(10_000 * i) for i in range(6)))
    assert recordings.events(0)[1].tolist() == [*range(0, 60_000, 10_000), int(events.t[-1]) + 1]
    for text, words in (
        ("0\n10\n", "2 stamps for 6 boxes"),
        ("a b", "whole numbers"),
        ("0\n50\n20\n60\n70\n80\n90", "stamp 3 runs back from 50 to 20"),
    ):
        (place / "timestamps.txt").write_text(text)
        with pytest.raises(ValueError, match=words):
            recordings.events(0)


def test_stamps_of_the_frames_in_a_recording(fe108):
    """An AEDAT 4 of FE108 holds the camera's grey frames, and a window lasts from one to the next."""
    pytest.importorskip("lz4")
    import lz4.frame

    place = fe108 / "fe108" / "test" / "ball"
    events, _ = FE108(cache=False, pairs=1, test_pairs=1).read(fe108).test.made.recordings.events(0)
    (place / "events.raw").unlink()
    write_events(place / "events.aedat4", events)
    begun = [1000 * i + 7 for i in range(6)]
    with (place / "events.aedat4").open("ab") as file:
        for stamp in begun:
            # a table of two numbers: the stamp of the packet, and of the start of the frame
            table = struct.pack("<I4sHHHHiqq", 16, b"FRME", 8, 20, 4, 12, 8, stamp + 500, stamp)
            packet = lz4.frame.compress(struct.pack("<I", len(table)) + table)
            file.write(struct.pack("<ii", 1, len(packet)) + packet)
    assert frame_stamps(place / "events.aedat4").tolist() == begun
    recordings = FE108(cache=False, pairs=1, test_pairs=1).read(fe108).test.made.recordings
    again, stamps = recordings.events(0)
    assert again.equal(events)
    assert stamps.tolist() == [*begun, int(events.t[-1]) + 1]
    with pytest.raises(ValueError, match=r"is not that of AEDAT 4"):
        frame_stamps(place / "groundtruth_rect.txt")
    cut = place / "cut.aedat4"
    cut.write_bytes((place / "events.aedat4").read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"cut.aedat4: byte \d+: a packet of \d+ bytes, and \d+ are left"):
        frame_stamps(cut)


def test_folders_that_are_none(fe108, tmp_path):
    source = FE108(cache=False)
    with pytest.raises(FileNotFoundError, match=r"holds no train sequences; place them in .*train/SEQUENCE"):
        source.read(tmp_path / "nowhere")
    parts = source.changed("fe108", {"pairs": 4, "test_pairs": 4}).read(fe108)
    (fe108 / "fe108" / "train" / "ball" / "events.raw").unlink()
    with pytest.raises(FileNotFoundError, match="holds no recording"):
        parts.train.__getitems__([0])
    (fe108 / "fe108" / "test" / "ball" / "groundtruth_rect.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds neither groundtruth_rect.txt nor"):
        source.read(fe108)


def test_lists_of_names(fe108):
    place = fe108 / "fe108"
    for part, name in (("train", "a"), ("test", "b")):
        (place / part / "ball").rename(place / name)
        (place / part).rmdir()
        (place / f"{part}.txt").write_text(f"{name}\n")
    parts = FE108(search=32, template=16, pairs=4, test_pairs=4, cache=False).read(fe108)
    assert parts.train.__getitems__([1])[0].shape == (1, 3, 48, 48)
    (place / "test.txt").write_text("b c\n")
    with pytest.raises(ValueError, match=r"test.txt: names c, and .* is no folder"):
        FE108(cache=False).read(fe108)


RECIPE = {
    "name": "test-track",
    "model": {
        "name": "sdtrack_small",
        "config": {
            "widths": [8, 8, 16, 16],
            "heads": 2,
            "search": 64,
            "template": 32,
            "search_factor": 3,
            "head_width": 16,
        },
    },
    "data": {
        "name": "composites",
        "config": {
            **SMALL,
            "search": 64,
            "template": 32,
            "recordings": "digits",
            "train_sequences": 4,
            "test_sequences": 2,
            "pairs": 60,
            "test_pairs": 10,
        },
        "validation": 20,
    },
    "task": {"name": "tracking"},
    "train": {"epochs": 1, "batch_size": 8, "lr": 1e-3, "accelerator": "cpu"},
}


def test_training_from_a_recipe(tmp_path):
    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    summary = run(parse(RECIPE), tmp_path / "run", quiet=True, report=False)
    assert 0 <= summary["test_overlap"] <= 1
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.frames["representation"]["config"]["alpha"] == 30
    Tracker(model)


def test_what_does_not_go_together(tmp_path):
    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    for key, value, words in (
        (("data", "config", "search"), 48, r"make a canvas of 96, the data's one of 80"),
        (("data", "config", "search_factor"), 4, "search_factor is 3 in the model and 4 in the data"),
        (("model",), {"name": "or_resnet18_small"}, "tracking needs a tracker"),
        (("model", "config", "inputs"), 2, "the model takes 2 channels, the images have 3"),
    ):
        recipe = {**RECIPE, "data": {**RECIPE["data"], "config": dict(RECIPE["data"]["config"])}}
        recipe["model"] = {**RECIPE["model"], "config": dict(RECIPE["model"]["config"])}
        place = recipe
        for part in key[:-1]:
            place = place[part]
        place[key[-1]] = value
        with pytest.raises(ValueError, match=words):
            run(parse(recipe), tmp_path / "run", quiet=True, report=False)


@pytest.mark.slow
def test_a_tracker_learns(tmp_path):
    """In about two minutes on one core, from scratch, a tracker is far above the first box for ever."""
    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    config = {"recordings": "digits", "pairs": 4100, "test_pairs": 50, "train_sequences": 100}
    recipe = [f"data.config.{key}={value}" for key, value in config.items()]
    from saccade.experiment import load_recipe

    run(
        load_recipe("sdtrack/composites-small", [*recipe, "data.validation=100"]),
        tmp_path / "run",
        quiet=True,
        report=False,
    )
    source = Composites(recordings="digits", train_sequences=1, test_sequences=6)
    _, test = source.parts(tmp_path)
    from saccade.track.baselines import BASELINES

    tracker = Tracker(load_model(tmp_path / "run" / "model.safetensors"))
    scores = {}
    for name, one in (("learnt", tracker), ("static", BASELINES["static"]())):
        tracks = []
        for i in range(len(test)):
            made = test.composite(i)
            tracks.append(tracked(one, source.representation, made.events, made.stamps_us, test.boxes[i], str(i)))
        scores[name] = PROTOCOLS["pytracking"].score(tracks).numbers["AUC"]
    assert scores["learnt"] > 25
    assert scores["learnt"] > 1.5 * scores["static"]


@pytest.mark.parametrize("name", ["fe108", "visevent", "felt", "imagenet-classifier"])
def test_recipes_of_published_sets(name):
    """They are read, and their models and data make canvases of one size."""
    from saccade.experiment import load_recipe
    from saccade.models import create_model

    recipe = load_recipe(f"sdtrack/{name}")
    with torch.device("meta"):
        model = create_model(recipe.model.name, **recipe.model.config)
    source = recipe.data.source()
    assert "Not run here" in recipe.notes
    if name != "imagenet-classifier":
        assert (source.search, source.template) == (model.config.search, model.config.template)
        assert len(source.representation.channels) == model.in_channels


def test_the_tracker_that_comes_along(tmp_path):
    """On simulated digits, which it never saw, it is far above the first box for ever, and above the median."""
    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    from saccade.track import BASELINES, shipped

    source = Composites(recordings="digits", train_sequences=1, test_sequences=6)
    _, test = source.parts(tmp_path)
    tracker = Tracker(load_model(shipped()), momentum=0.5)
    scores = {}
    for name, one in (("learnt", tracker), ("static", BASELINES["static"]()), ("median", BASELINES["median"]())):
        tracks = []
        for i in range(len(test)):
            made = test.composite(i)
            tracks.append(tracked(one, source.representation, made.events, made.stamps_us, test.boxes[i], str(i)))
        scores[name] = PROTOCOLS["pytracking"].score(tracks).numbers["AUC"]
    assert scores["learnt"] > 1.5 * scores["static"], scores
    assert scores["learnt"] > scores["median"], scores
