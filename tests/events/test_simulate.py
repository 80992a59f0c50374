"""A simulated event camera: ramps whose events are known, what its faults do, and scenes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.events import concat
from saccade.events.scenes import PATHS, cropped, grey, moving, resized, shown
from saccade.events.simulate import CAMERAS, Camera, Timed, simulate, simulate_chunks

EPS = Camera().eps


def at_log(*rows):
    """A picture whose log brightness is that."""
    return np.exp(np.array(rows, float)) - EPS


def events_of(pictures, **camera):
    return simulate([Timed(t, p) for t, p in pictures], {"name": "ideal", "config": camera})


def test_a_ramp_sends_the_known_events_at_the_known_times():
    """Up by 0.6 in 6 ms at a threshold of 0.2: events at 2, 4 and 6 ms; down by 0.5 in 5 ms: at 2 and 4 ms of them."""
    low = at_log([-2.0])
    events = events_of([(0, low), (6000, at_log([-1.4])), (11_000, at_log([-1.9]))])
    assert events.t.tolist() == [2000, 4000, 6000, 8000, 10_000]
    assert events.p.tolist() == [1, 1, 1, 0, 0]
    other = events_of([(0, low), (6000, at_log([-1.4]))], on=0.3)
    assert other.t.tolist() == [3000, 6000]
    assert len(events_of([(0, low), (6000, at_log([-1.8001]))])) == 0


def test_what_is_left_of_a_ramp_counts_for_the_next():
    events = events_of([(0, at_log([-2.0])), (100, at_log([-1.9])), (200, at_log([-1.7]))])
    assert events.t.tolist() == [150]  # 0.2 is reached in the middle of the second ramp
    cut = events_of([(0, at_log([-2.0])), (300, at_log([-1.4]))])
    pieces = [(i * 10, at_log([-2.0 + 0.02 * i])) for i in range(31)]
    assert events_of(pieces).t.tolist() == pytest.approx(cut.t.tolist(), abs=1)


def test_pixels_are_ordered_by_time_and_lie_where_they_should():
    dark, bright = np.full((2, 3), 0.1), np.full((2, 3), 0.1)
    bright[1, 2], bright[0, 1] = 0.9, 0.2
    events = events_of([(0, dark), (1000, bright), (2000, dark)])
    assert {(int(x), int(y)) for x, y in zip(events.x, events.y, strict=True)} == {(2, 1), (1, 0)}
    assert (np.diff(events.t) >= 0).all()
    assert (events.height, events.width) == (2, 3)
    for place in ((1, 2), (0, 1)):
        there = (events.y == place[0]) & (events.x == place[1])
        change = math.log(bright[place] + EPS) - math.log(0.1 + EPS)
        assert there.sum() == 2 * math.floor(change / 0.2)
        assert events.p[there].sum() == math.floor(change / 0.2)


def test_a_pixel_rests_after_an_event():
    ramp = [(0, at_log([-2.0])), (6000, at_log([-0.8]))]  # every ms
    assert events_of(ramp).t.tolist() == [1000, 2000, 3000, 4000, 5000, 6000]
    assert events_of(ramp, refractory_us=1500.0).t.tolist() == [1000, 3000, 5000]
    assert events_of(ramp, refractory_us=999.0).t.tolist() == [1000, 2000, 3000, 4000, 5000, 6000]
    twice = [*ramp, (8000, at_log([-0.8])), (14_000, at_log([-2.0]))]
    assert events_of(twice, refractory_us=4500.0).t.tolist() == [1000, 6000, 11_000]  # over the edge of pictures too


def test_a_leak_sends_on_events_at_its_rate():
    still = at_log([-1.0, -2.0])
    events = events_of([(i * 1e5, still) for i in range(31)], leak_hz=2.0)  # 3 s
    assert events.p.all()
    assert events.t.tolist() == [t for k in range(1, 7) for t in (k * 500_000,) * 2]


def test_noise_comes_at_its_rate_with_either_polarity():
    still = np.full((40, 50), 0.5)
    events = events_of([(0, still), (1e6, still)], noise_hz=5.0)
    expected = 40 * 50 * 5
    assert abs(len(events) - expected) < 5 * math.sqrt(expected)
    assert abs(events.p.mean() - 0.5) < 0.03
    assert len(np.unique(events.y * 50 + events.x)) > 1900


def test_thresholds_differ_from_pixel_to_pixel():
    dark, bright = np.full((30, 30), 0.05), np.full((30, 30), 0.9)
    events = events_of([(0, dark), (1000, bright)], mismatch=0.05)
    counts = np.bincount(events.y.astype(int) * 30 + events.x, minlength=900)
    assert len(set(counts.tolist())) > 3
    sizes = events_of([(0, dark), (1000, bright)])
    assert len(set(np.bincount(sizes.y.astype(int) * 30 + sizes.x).tolist())) == 1


@given(seed=st.integers(0, 999), steps=st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_the_level_follows_the_scene(seed, steps):
    """The sum of the events is what the scene changed by, to within a threshold."""
    draw = np.random.default_rng(seed)
    pictures = [(i * 1000.0, draw.random((3, 4))) for i in range(steps)]
    events = events_of(pictures, on=0.17, off=0.11)
    moved = np.zeros((3, 4))
    np.add.at(moved, (events.y, events.x), np.where(events.p == 1, 0.17, -0.11))
    change = np.log(pictures[-1][1] + EPS) - np.log(pictures[0][1] + EPS)
    assert (np.abs(change - moved) < 0.17 + 1e-9).all()


def test_the_seed_decides_and_pieces_make_the_whole():
    scene = [Timed(i * 1000.0, np.random.default_rng(i).random((6, 6))) for i in range(5)]
    whole = simulate(scene, "dvs", seed=3)
    assert whole.equal(simulate(scene, "dvs", seed=3))
    assert not whole.equal(simulate(scene, "dvs", seed=4))
    assert whole.equal(concat(simulate_chunks(scene, "dvs", seed=3)))


def test_bad_scenes_are_one_line():
    picture = np.zeros((2, 2))
    with pytest.raises(ValueError, match="there are no pictures"):
        simulate([])
    with pytest.raises(ValueError, match=r"pictures are grey, \[H, W\], not \[2, 2, 3\]"):
        simulate([Timed(0, np.zeros((2, 2, 3)))])
    with pytest.raises(ValueError, match=r"a picture of \[3, 2\] among pictures of \[2, 2\]"):
        simulate([Timed(0, picture), Timed(1, np.zeros((3, 2)))])
    with pytest.raises(ValueError, match="0 us after 0 us"):
        simulate([Timed(0, picture), Timed(0, picture)])
    with pytest.raises(ValueError, match="on: "):
        Camera(on=0.0)
    with pytest.raises(ValueError, match="unknown path 'zigzag'"):
        list(moving(picture, 4, 4, path="zigzag"))
    assert set(CAMERAS) == {"dvs", "ideal"}


def test_a_camera_has_finite_settings():
    for field in ("on", "off", "mismatch", "refractory_us", "leak_hz", "noise_hz", "eps"):
        with pytest.raises(ValueError, match=f"{field}: .*finite"):
            Camera(**{field: float("inf")})


@pytest.mark.parametrize("path", PATHS)
def test_a_picture_moves_along_its_path(path):
    """Against a direct look at the moved picture; it ends where it began."""
    picture = np.random.default_rng(0).random((20, 30))
    views = list(moving(picture, 12, 16, path, amplitude=3.0, duration_us=1000, step_us=125))
    assert [view.time_us for view in views] == list(range(0, 1001, 125))
    assert all(view.picture.shape == (12, 16) for view in views)
    np.testing.assert_allclose(views[0].picture, views[-1].picture)
    assert not np.allclose(views[0].picture, views[4].picture)
    stacked = list(moving(np.stack([picture, picture[::-1]]), 12, 16, path, 3.0, 1000, 125))
    for one, two in zip(views, stacked, strict=True):
        np.testing.assert_allclose(two.picture[:12], one.picture)
        assert two.picture.shape == (24, 16)


def test_frames_of_a_video_become_grey_pictures():
    frames = [(5.0, np.zeros((4, 6, 3), np.uint8)), (5.5, np.full((4, 6, 3), 255, np.uint8))]
    first, second = shown(frames)
    assert (first.time_us, second.time_us) == (0, 500_000)
    assert second.picture == pytest.approx(np.ones((4, 6)))
    small, _ = shown(frames, (2, 2))
    assert small.picture.shape == (2, 2)
    assert grey(np.full((1, 1, 3), 0.5)) == pytest.approx(0.5)
    assert cropped(np.zeros((10, 4)), 1, 1).shape == (4, 4)
    assert resized(np.ones((2, 3, 3)), 6, 5).shape == (2, 6, 5)
