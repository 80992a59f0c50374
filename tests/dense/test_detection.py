"""Detection on made pictures: boxes, overlaps, the loss, average precision against a plain implementation."""

import pytest
import torch

from saccade.data import load
from saccade.models import create_model
from saccade.train.tasks.detection import Detection, boxes_of, flips, generalised, outlined, overlaps, suppressed

SOURCE = {
    "name": "made_shapes",
    "config": {"textures": "noise", "images": 24, "test_images": 8, "targets": "boxes"},
}
SMALL = {"widths": (8, 8, 8, 8), "heads": 2, "fpn_width": 8, "T": 2}
NOTHING = [-1.0] * 5


def task(**config):
    return Detection(**config).build(create_model("detector_small", **SMALL))


def cells(boxes, side=8, classes=4, sure=8.0):
    """A perfect answer ``[1, 1, 5 + K, side, side]`` for boxes (class, left, top, right, bottom, each in a cell of its own)."""
    y = torch.zeros(1, 1, 5 + classes, side, side)
    y[:, :, 0] = -sure
    for k, left, top, right, bottom in boxes:
        x, z = (left + right) / 2 * side, (top + bottom) / 2 * side
        at = y[0, 0, :, int(z), int(x)]
        at[0] = sure
        at[1], at[2] = (torch.logit(torch.tensor(value % 1)) for value in (x, z))
        at[3], at[4] = (torch.log(torch.tensor(size * side / 4)) for size in (right - left, bottom - top))
        at[5 + int(k)] = sure
    return y


BOXES = [[0, 0.1, 0.2, 0.4, 0.5], [2, 0.55, 0.5, 0.9, 0.95]]


def test_overlaps_by_hand():
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [3.0, 0.0, 4.0, 2.0]])
    assert overlaps(a, b).tolist() == pytest.approx([1 / 7, 1, 0])
    assert generalised(a, b).tolist() == pytest.approx([1 / 7 - 2 / 9, 1, -2 / 8])


def test_cells_say_boxes():
    boxes, something, classes = boxes_of(cells(BOXES)[0])
    found = something[0].sigmoid() > 0.5
    assert found.sum() == 2
    expected = torch.tensor(BOXES)
    assert torch.allclose(boxes[0, found], expected[:, 1:], atol=1e-5)
    assert classes[0, found].argmax(-1).tolist() == [0, 2]


def test_a_perfect_answer_has_no_loss_and_full_precision():
    target = torch.tensor([[*BOXES, NOTHING]])
    answer = cells(BOXES)
    assert task().loss(answer, target).item() < 0.05
    assert task().loss(-answer, target).item() > 5
    metrics = task().metrics()
    metrics.update(answer, target)
    found = metrics.result()
    assert found["map"] == pytest.approx(1)
    assert found["ap"] == [1.0, None, 1.0, None]


def test_without_boxes_only_silence_is_asked():
    target = torch.tensor([[NOTHING]])
    empty = cells([])
    assert 0 < task().loss(empty, target).item() < 0.05
    metrics = task().metrics()
    metrics.update(cells(BOXES), target)
    assert metrics.result() == {"map": 0.0, "map50": 0.0, "ap": [None] * 4}


def test_gradients_reach_the_places_that_matter():
    answer = (cells(BOXES) * 0.3).requires_grad_()
    task().loss(answer, torch.tensor([BOXES])).backward()
    there = torch.zeros(8, 8, dtype=torch.bool)
    there[2, 2] = there[5, 5] = True
    assert (answer.grad[0, 0, 0] != 0).all()  # every cell says whether something is there
    assert (answer.grad[0, 0, 1:][:, ~there] == 0).all()
    assert (answer.grad[0, 0, 1:][:, there].abs().sum(0) > 0).all()
    with pytest.raises(ValueError, match=r"expected \[T, N, 9, h, w\]"):
        task().loss(answer[:, :, :7], torch.tensor([BOXES]))


def test_the_better_of_two_boxes_that_overlap_is_kept():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.9], [0.0, 0.0, 1.0, 0.95], [0.0, 0.0, 0.1, 0.1]])
    scores = torch.tensor([0.5, 0.9, 0.7, 0.2])
    assert suppressed(boxes, scores, torch.tensor([0, 0, 0, 0]), 0.5).tolist() == [1, 3]
    assert suppressed(boxes, scores, torch.tensor([0, 0, 1, 0]), 0.5).tolist() == [1, 2, 3]


def plain_precision(images, truth, k, least):
    """Average precision as COCO has it, of boxes sorted by score over all images at once."""
    said = [(float(b[4]), i, b) for i, boxes in enumerate(images) for b in boxes if b[5] == k]
    real = [[list(b) for b in boxes if b[0] == k] for boxes in truth]
    used = [[False] * len(r) for r in real]
    right = []
    for _, i, box in sorted(said, key=lambda one: -one[0]):
        best, at = 0.0, -1
        for j, one in enumerate(real[i]):
            if not used[i][j]:
                shared = float(overlaps(box[:4], torch.tensor(one[1:])))
                if shared > best:
                    best, at = shared, j
        if at >= 0 and best >= least:
            used[i][at] = True
        right.append(at >= 0 and best >= least)
    total, hits, points = sum(map(len, real)), 0, []
    for n, hit in enumerate(right, 1):
        hits += hit
        points.append((hits / total, hits / n))
    levels = [max((p for r, p in points if r >= level - 1e-12), default=0.0) for level in (i / 100 for i in range(101))]
    return sum(levels) / 101


def test_average_precision_is_that_of_a_plain_implementation():
    generator = torch.Generator().manual_seed(0)
    detecting = task(least=0.05)
    answer = torch.randn(1, 12, 9, 8, 8, generator=generator)
    answer[:, :, 0] -= 2
    found = detecting.found(answer)
    targets = torch.full((12, 4, 5), -1.0)
    for i, boxes in enumerate(found):  # true boxes near some that are found
        for j, box in enumerate(boxes[:: max(len(boxes) // 4, 1)][:4]):
            targets[i, j, 0] = box[5]
            targets[i, j, 1:] = box[:4] + 0.03 * torch.randn(4, generator=generator)
    metrics = detecting.metrics()
    for part in (slice(0, 5), slice(5, 12)):
        metrics.update(answer[:, part], targets[part])
    result = metrics.result()
    expected = [plain_precision(found, targets.tolist(), k, 0.5) for k in range(4)]
    assert result["map50"] == pytest.approx(sum(expected) / 4, abs=0.01)  # scores are told apart to a thousandth
    assert 0.05 < result["map50"] < 0.95
    assert result["map"] < result["map50"]


def test_images_and_boxes_are_mirrored_together():
    torch.manual_seed(0)
    x = torch.zeros(30, 3, 8, 8)
    x[..., 1] = 1
    y = torch.tensor([[[0, 0.125, 0, 0.25, 1.0], NOTHING]]).repeat(30, 1, 1)
    a, b = flips(x, y)
    for image, box in zip(a, b, strict=True):
        at = int(box[0, 1] * 8)
        assert image[..., at].min() == 1
    assert torch.equal(b[:, 1], y[:, 1])
    assert 0 < (b[:, 0, 1] == 0.125).sum() < 30


def test_what_does_not_fit_is_told():
    model = create_model("detector_small", **SMALL)
    splits = load(SOURCE, None, validation=4)
    Detection().check(model, splits)
    with pytest.raises(ValueError, match="the model has 2 classes, the targets have class 3"):
        Detection().check(create_model("detector_small", **SMALL, num_classes=2), splits)
    with pytest.raises(ValueError, match="1 names of classes for a model of 4"):
        Detection(names=("a",)).check(model, splits)
    masks = load({**SOURCE, "config": {**SOURCE["config"], "targets": "masks"}}, None, validation=4)
    with pytest.raises(ValueError, match=r"needs boxes float \[M, boxes, 5\], got torch.uint8"):
        Detection().check(model, masks)


def test_boxes_of_made_pictures_hold_their_shapes():
    """The masks of the same pictures: every box is that of the pixels of its shape."""
    boxes = load(SOURCE, None, validation=0).train.targets
    masks = load({**SOURCE, "config": {**SOURCE["config"], "targets": "masks"}}, None, validation=0).train.targets
    seen = 0
    for mask, some in zip(masks, boxes, strict=True):
        covered = torch.zeros_like(mask)
        for k, *corners in some[some[:, 0] >= 0].tolist():
            left, top, right, bottom = (round(value * 64) for value in corners)
            part = mask[top:bottom, left:right] == 1 + int(k)
            assert part.any(0).all()
            assert part.any(1).all()
            covered[top:bottom, left:right] = 1
            seen += 1
        assert (mask[covered == 0] == 0).all()
    assert 24 < seen <= 72


def test_what_it_says_in_words_and_pictures():
    detecting = task(names=("disc", "square", "triangle", "cross"))
    (said,) = detecting.predictions(cells(BOXES), top=5)
    assert [one["class"] for one in said["boxes"]] == ["disc", "triangle"]
    words = detecting.describe_prediction(said)
    assert "disc 99" in words
    assert "at 0.10, 0.20, 0.40, 0.50" in words
    assert detecting.describe_prediction(detecting.predictions(cells([]), top=5)[0]) == "nothing"
    images = torch.zeros(1, 3, 20, 20)
    truth, found = detecting.drawn(images, cells(BOXES), torch.tensor([BOXES]))
    assert torch.equal(truth, found)
    assert (truth[0].sum(0) > 0).sum() == 2 * (7 + 7) - 4 + 2 * (8 + 10) - 4
    assert torch.equal(outlined(images, [torch.zeros(0, 6)]), images)
