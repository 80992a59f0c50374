"""Frames by number, and the geometry of event augmentation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data.augment import random_crop, random_flip
from saccade.events import frames_by_number


def some_events(count, seed=0, height=5, width=7):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda high: torch.randint(0, high, (count,), generator=generator)  # noqa: E731
    return draw(width), draw(height), draw(2)


@given(count=st.integers(1, 60), frames=st.integers(1, 12), seed=st.integers(0, 99))
@settings(deadline=None)
def test_counts_are_those_of_a_plain_loop(count, frames, seed):
    if count < frames:
        return
    x, y, p = some_events(count, seed)
    expected = torch.zeros(frames, 2, 5, 7)
    for i in range(count):
        expected[min(i // (count // frames), frames - 1), int(p[i]), y[i], x[i]] += 1
    found = frames_by_number(x, y, p, frames=frames, height=5, width=7)
    assert torch.equal(found, expected)
    assert found.sum() == count


def test_the_last_frame_takes_the_remainder():
    found = frames_by_number(*some_events(11), frames=4, height=5, width=7)
    assert found.sum((1, 2, 3)).tolist() == [2, 2, 2, 5]


def test_bad_events():
    x, y, p = some_events(4)
    with pytest.raises(ValueError, match="4 events cannot fill 5 frames"):
        frames_by_number(x, y, p, frames=5, height=5, width=7)
    with pytest.raises(ValueError, match="x, y and polarity have 4, 3 and 4 events"):
        frames_by_number(x, y[:3], p, frames=2, height=5, width=7)
    x[2] = 7
    with pytest.raises(ValueError, match=r"event 2: x = 7 is outside 0\.\.6"):
        frames_by_number(x, y, p, frames=2, height=5, width=7)


def test_flipping_twice_is_the_identity(monkeypatch):
    x = torch.rand(6, 2, 5, 7)
    monkeypatch.setattr(torch, "rand", lambda n: torch.zeros(n))  # everybody flips
    once = random_flip(x)
    assert torch.equal(once, x.flip(3))
    assert torch.equal(random_flip(once), x)


def test_translation_never_wraps():
    """A crop of the padded image is a translation with zero fill: what leaves on one side does not come back."""
    x = torch.zeros(200, 1, 6, 6)
    x[:, :, :, 0] = 1
    moved = random_crop(x, 2)
    assert moved[:, :, :, 3:].sum() == 0
    assert moved.sum() < x.sum()
