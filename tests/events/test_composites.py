"""Composites: boxes are the extent of the target's events, to the pixel; nothing leaves the sensor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.events import EventStream
from saccade.events.composites import composite


def blob(count=300, seed=0, side=34):
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(0, 90_000, count))
    place = draw.integers(10, 24, (2, count))
    return EventStream(t, place[0], place[1], draw.integers(0, 2, count), side, side)


@given(seed=st.integers(0, 200))
@settings(deadline=None, max_examples=20)
def test_boxes_hold_the_target_and_no_more(seed):
    made = composite(blob(seed=seed), (blob(seed=seed + 1),), seed, windows=6)
    assert made.boxes.shape == (6, 4)
    assert made.events.t[-1] < 6 * 20_000
    for i, box in enumerate(made.boxes):
        inside = (made.events.t >= made.stamps_us[i]) & (made.events.t < made.stamps_us[i + 1]) & made.of_target
        x, y = made.events.x[inside], made.events.y[inside]
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert 0 <= box[0] < box[2] <= 128
        assert 0 <= box[1] < box[3] <= 128


def test_a_target_alone_is_played_again_and_again():
    target = blob(count=50)
    made = composite(target, seed=1, windows=20, window_us=10_000, noise_hz=0.0)
    assert made.of_target.all()
    period = target.duration_us + 1
    repeated = [t for k in range(4) for t in (target.t - target.t[0] + k * period).tolist()]
    assert made.events.t.tolist() == [t for t in repeated if t < 200_000]
    assert len({tuple(box) for box in made.boxes.tolist()}) > 10  # it moves


def test_windows_without_the_target_have_no_box():
    early = EventStream([0, 200_000], [3, 3], [3, 3], [1, 1], 34, 34)
    made = composite(early, seed=0, windows=3, window_us=50_000)
    assert np.isnan(made.boxes[1:]).all()
    assert not np.isnan(made.boxes[0]).any()


def test_the_seed_decides():
    one, same, other = (composite(blob(), (blob(seed=1),), seed) for seed in (0, 0, 1))
    assert one.events.equal(same.events)
    assert np.array_equal(one.boxes, same.boxes)
    assert not one.events.equal(other.events)


def test_bad_input_is_one_line():
    none = EventStream(*(np.zeros(0, int) for _ in range(4)), 34, 34)
    with pytest.raises(ValueError, match="a recording without events"):
        composite(none)
    with pytest.raises(ValueError, match="does not fit into 20"):
        composite(blob(), height=20, width=20)
    with pytest.raises(ValueError, match="scales rise from above 0"):
        composite(blob(), scales=(2.0, 1.0))
