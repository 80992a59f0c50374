"""Augmentation of sequences: one draw a sample for all of its frames, whole counts, nothing from nowhere."""

import pytest
import torch

from saccade.data import augment_events as events
from saccade.data import build_augmentation
from saccade.data.augment import NAMES, OF_EVENTS, OF_PICTURES

T, N, H, W = 5, 200, 12, 10
FOR_SEQUENCES = [name for name in NAMES if name not in OF_PICTURES]


def some_frames(n=N, seed=0):
    return torch.poisson(torch.full((T, n, 2, H, W), 0.5), generator=torch.Generator().manual_seed(seed))


def run(name, x, seed=0, **settings):
    torch.manual_seed(seed)
    augment = build_augmentation((name,), classes=4, shape=(2, H, W), sequences=True, crop_padding=3, **settings)
    return augment(x, torch.arange(x.shape[1]) % 4)


@pytest.mark.parametrize("name", FOR_SEQUENCES)
def test_every_name(name):
    """Shape and type stay; the seed decides; something happens; nothing is negative; the input is left alone."""
    x = some_frames()
    before = x.clone()
    a, labels = run(name, x)
    b, _ = run(name, x)
    assert torch.equal(a, b)
    assert torch.equal(x, before)
    assert not torch.equal(a, run(name, x, seed=1)[0])
    assert a.shape == x.shape
    assert a.dtype == x.dtype
    assert a.min() >= 0
    assert not torch.equal(a, x)
    if name in ("mixup", "cutmix"):
        assert labels.shape == (N, 4)
        torch.testing.assert_close(labels.sum(1), torch.ones(N))
        assert a.max() > 1  # counts are not cut to [0, 1]
    else:
        assert torch.equal(a, a.round())
        assert a.sum() <= x.sum() * (1.02 if name == "nda" else 1)


@pytest.mark.parametrize("name", ["crop", "roll", "flip", "nda", "cutout"])
def test_all_frames_of_a_sample_share_the_draw(name):
    """A sample whose frames are all alike has frames that are all alike afterwards."""
    frame = some_frames()[:1]
    changed, _ = run(name, frame.expand(T, -1, -1, -1, -1).clone())
    assert torch.equal(changed, changed[:1].expand_as(changed))
    assert len({tuple(one.flatten().tolist()) for one in changed[0] - frame[0]}) > N / 20  # samples do not


def test_translation_never_wraps_and_a_roll_loses_nothing():
    x = torch.zeros(1, N, 1, 6, 6)
    x[..., 0] = 1
    torch.manual_seed(0)
    moved, _ = build_augmentation(("crop",), classes=2, shape=(1, 6, 6), crop_padding=2, sequences=True)(
        x, torch.zeros(N)
    )
    assert moved[..., 3:].sum() == 0
    assert 0 < moved.sum() < x.sum()
    rolled, _ = build_augmentation(("roll",), classes=2, shape=(1, 6, 6), crop_padding=2, sequences=True)(
        x, torch.zeros(N)
    )
    assert rolled.sum() == x.sum()
    assert rolled[..., 4:].sum() > 0
    assert (rolled[0, :, 0].sum((1, 2)) == 6).all()


def test_a_roll_by_hand():
    x = torch.arange(12.0).view(1, 1, 1, 3, 4)
    assert (
        events.rolled(x, torch.tensor([[1, -1]])).squeeze().tolist()
        == torch.roll(x.squeeze(), (1, -1), (0, 1)).tolist()
    )


def test_a_quarter_turn_and_a_shear_by_hand():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    assert events.nearest(x, turn).squeeze().tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    shear = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    assert events.nearest(x, shear).squeeze().tolist() == [[0, 0, 1], [3, 4, 5], [7, 8, 0]]
    assert torch.equal(events.nearest(x, torch.eye(2)[None]), x)


def test_event_drop_drops_a_time_an_area_or_single_events():
    """About a quarter of the samples each; what is left of a count is never more than it was."""
    x = some_frames(n=800).transpose(0, 1) + 1
    torch.manual_seed(0)
    y = events.event_drop(x)
    assert (y <= x).all()
    untouched = (y == x).flatten(1).all(1)
    frames = (y == 0).flatten(2).all(2) & ~untouched[:, None]  # [n, T] silent frames
    whole_times = frames.any(1) & ((y == x).flatten(2).all(2) | frames).all(1)
    boxes = ~untouched & ~whole_times & ((y == x) | (y == 0)).flatten(1).all(1)
    single = ~untouched & ~whole_times & ~boxes
    for part in (untouched, whole_times, boxes, single):
        assert 140 < int(part.sum()) < 260
    for sample in frames[whole_times]:
        run = sample.nonzero().flatten()
        assert int(run[-1] - run[0]) + 1 == len(run)  # one run
    gone = (y[boxes] == 0).any(1).any(1)  # [n, H, W]
    shares = gone.flatten(1).float().mean(1)
    assert shares.max() <= round(0.25 * H) * round(0.25 * W) / (H * W) + 1e-6
    kept = y[single].flatten(1).sum(1) / x[single].flatten(1).sum(1)
    assert kept.min() < 0.2
    assert kept.max() > 0.8


def test_names_that_do_not_fit_are_refused():
    common = {"classes": 2, "shape": (2, 8, 8)}
    with pytest.raises(ValueError, match="randaugment: for static images, and these are sequences"):
        build_augmentation(("randaugment",), classes=2, shape=(3, 8, 8), sequences=True)
    for name in OF_EVENTS:
        with pytest.raises(ValueError, match=f"{name}: for sequences, and these are static images"):
            build_augmentation((name,), **common)
    with pytest.raises(ValueError, match="eventdrop drops single events"):
        build_augmentation(("eventdrop",), **common, sequences=True, counts=False)
