"""Segmentation on made pictures: the sums, the loss, the model, and a run from recipe to report."""

import pytest
import torch
import torch.nn.functional as F

from saccade.data import AugmentSettings, load
from saccade.experiment import load_recipe, run
from saccade.models import create_model
from saccade.train import TASKS
from saccade.train.tasks.segmentation import UNLABELLED, Segmentation, flips, painted

SOURCE = {"name": "made_shapes", "config": {"textures": "noise", "images": 24, "test_images": 8}}
SMALL = {"widths": (8, 8, 8, 8), "heads": 2, "fpn_width": 8, "T": 2}


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load(SOURCE, tmp_path_factory.mktemp("none"), validation=4)


def task(**config):
    return Segmentation(**config).build(create_model("segmenter_small", **SMALL))


def logits_of(classes, count=5):
    """[2, N, K, H, W] whose mean over time peaks at these classes."""
    one = F.one_hot(classes.long(), count).movedim(-1, 1).float()
    return torch.stack([one * 3, one])


def test_intersection_over_union_by_hand():
    metrics = task().metrics()
    true = torch.tensor([[[0, 0, 1, 1], [0, 0, 2, UNLABELLED]]], dtype=torch.uint8)
    said = torch.tensor([[[0, 0, 0, 1], [0, 1, 2, 2]]])
    metrics.update(logits_of(said), true)
    found = metrics.result()
    assert found["iou"] == pytest.approx([3 / 5, 1 / 3, 1.0, None, None])
    assert found["mean_iou"] == pytest.approx((3 / 5 + 1 / 3 + 1) / 3)
    assert found["pixel_accuracy"] == pytest.approx(5 / 7)


def test_it_is_the_index_of_torchmetrics():
    other = pytest.importorskip("torchmetrics.classification")
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(0, 5, (6, 9, 7), generator=generator)
    others = torch.randint(0, 5, (6, 9, 7), generator=generator)
    said = torch.where(torch.rand(6, 9, 7, generator=generator) < 0.6, true, others)
    true[0, :2] = UNLABELLED
    metrics = task().metrics()
    for part in (slice(0, 2), slice(2, 6)):
        metrics.update(logits_of(said[part]), true[part].to(torch.uint8))
    expected = other.MulticlassJaccardIndex(5, ignore_index=UNLABELLED)(said, true)
    assert metrics.result()["mean_iou"] == pytest.approx(float(expected), abs=1e-6)


def test_the_loss_is_cross_entropy_of_the_mean_over_time_and_leaves_unknown_pixels_out():
    output = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.randint(0, 5, (3, 4, 4), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    target[:, 0] = UNLABELLED
    loss = task().loss(output, target)
    mean = output.mean(0)
    assert torch.allclose(loss, F.cross_entropy(mean[:, :, 1:], target[:, 1:].long()))
    loss.backward()
    assert output.grad[..., 0, :].abs().max() == 0
    assert output.grad[..., 1:, :].abs().min() > 0
    with pytest.raises(ValueError, match="do not fit classes"):
        task().loss(output, target[:, :2])


def test_images_and_classes_are_mirrored_together():
    torch.manual_seed(0)
    x = torch.rand(40, 3, 4, 6)
    y = (x[:, 0] > 0.5).to(torch.uint8)
    a, b = flips(x, y)
    assert torch.equal(b, (a[:, 0] > 0.5).to(torch.uint8))
    assert 0 < sum(not torch.equal(p, q) for p, q in zip(a, x, strict=True)) < 40


def test_what_does_not_fit_is_told(splits):
    model = create_model("segmenter_small", **SMALL)
    with pytest.raises(ValueError, match="the model has 3 classes, the targets have class 4"):
        TASKS["segmentation"].check(create_model("segmenter_small", **SMALL, num_classes=3), splits)
    with pytest.raises(ValueError, match="2 names of classes for a model of 5"):
        Segmentation(names=("a", "b")).check(model, splits)
    boxes = load({**SOURCE, "config": {**SOURCE["config"], "targets": "boxes"}}, None, validation=4)
    with pytest.raises(ValueError, match=r"needs classes uint8 \[M, H, W\], got torch.float32"):
        Segmentation().check(model, boxes)
    with pytest.raises(ValueError, match="does not say what becomes of a target under crop"):
        task().augmentation(AugmentSettings(names=("crop",)), splits.train)


def test_what_it_says_in_words_and_pictures(splits):
    x, y = splits.test.__getitems__(range(2))
    segmenting = task(names=("background", "disc", "square", "triangle", "cross"))
    (first, _) = segmenting.predictions(logits_of(y), top=2)
    assert first["classes"][0]["class"] == "background"
    assert segmenting.describe_prediction(first).startswith("background ")
    truth, found = segmenting.drawn(x / 255, logits_of(y), y)
    assert torch.equal(truth, found)
    background = (y == 0).unsqueeze(1).expand_as(x)
    assert torch.equal(truth[background], (x / 255)[background])
    assert not torch.equal(painted(x / 255, y), x / 255)


def test_a_pyramid_has_the_sizes_it_says():
    model = create_model("sdt_v2_small", T=2)
    x = torch.rand(2, 3, 64, 64)
    shapes = [tuple(found.shape[2:]) for found in model.forward_features(x, (0, 1, 2, 3, 4))]
    assert shapes == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4), (64, 4, 4)]
    with torch.no_grad():
        model.eval()
        last = model.forward_features(x, (4,))[0]
        y = model.head(model.last(last.mean((-2, -1)))).mean(0)
        assert torch.equal(model(x), y)
    with pytest.raises(ValueError, match="stages are numbers from 0 to 4"):
        model.forward_features(x, (5,))


def test_widths_of_the_released_pyramids():
    model = create_model("sdt_v2_15m", T=1, depths=(1, 1, 1, 1, 1)).eval()
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        for taps, widths in (((0, 1, 2, 4), [32, 64, 128, 360]), ((1, 2, 3, 4), [64, 128, 256, 360])):
            assert [found.shape[2] for found in model.forward_features(x, taps)] == widths


def test_settings_of_the_pyramid_are_checked():
    for taps in ((), (2, 1), (1, 5)):
        with pytest.raises(ValueError, match="taps are stages from 0 to 4 in order"):
            create_model("segmenter_small", taps=taps)
    with pytest.raises(ValueError, match="fpn_width must be at least 1"):
        create_model("detector_small", fpn_width=0)


def test_it_learns_to_tell_shapes_from_the_background():
    """A few steps on a few pictures: the loss falls well below that of the shares of the classes."""
    train = load(SOURCE, None, validation=4).train
    x, y = train.__getitems__(range(8))
    torch.manual_seed(0)
    model = create_model("segmenter_small", **SMALL)
    segmenting = Segmentation().build(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = segmenting.loss(model(x / 255, steps=True), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_recipe_to_report(name, tmp_path):
    settings = ["data.config.textures=noise", "data.config.images=20", "data.config.test_images=6", "data.validation=4"]
    settings += ["train.epochs=1", "train.warmup_epochs=0", "train.batch_size=8"]
    settings += ["model.config.widths=[8,8,8,8]", "model.config.heads=2", "model.config.fpn_width=8"]
    settings += ["stages=[pictures, attention]"]
    recipe = load_recipe(f"dense/shapes-{name}", settings)
    summary = run(recipe, tmp_path / "run", quiet=True)
    score = "test_mean_iou" if name == "segmentation" else "test_map"
    assert 0 <= summary[score] <= 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Pictures" in page
    assert page.count('class="panel drawn"') == 1
    assert page.count('class="panel looks"') == 1
    assert "sdsa3" in page
