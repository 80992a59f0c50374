"""EventStream: what it checks, and windows by time, count and stamps."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.events import EventStream, concat


def stream(t, height=4, width=6, **columns) -> EventStream:
    n = len(t)
    given = {"x": np.arange(n) % 6, "y": np.arange(n) % 4, "p": np.arange(n) % 2} | columns
    return EventStream(np.array(t, np.int64), given["x"], given["y"], given["p"], height, width)


def test_columns_have_their_types():
    events = stream([0, 5, 5, 9])
    assert [events.t.dtype, events.x.dtype, events.y.dtype, events.p.dtype] == [
        np.int64,
        np.uint16,
        np.uint16,
        np.uint8,
    ]
    assert (len(events), events.duration_us, events.nbytes) == (4, 9, 4 * 13)
    assert stream([3], p=np.array([True])).p.tolist() == [1]
    assert stream([]).duration_us == 0
    assert len(list(stream([]).by_duration(3))) == len(list(stream([]).by_count(3))) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": np.array([0, 6])}, "event 1: x = 6 is outside 0..5"),
        ({"y": np.array([-1, 0])}, "event 0: y = -1 is outside 0..3"),
        ({"y": np.array([70000, 0])}, "event 0: y = 70000 is outside 0..3"),
        ({"p": np.array([1, 2])}, "event 1: p = 2 is outside 0..1"),
        ({"x": np.zeros(3, int)}, "columns of one length"),
        ({"x": np.zeros(2)}, "x holds integers, got float64"),
        ({"t": [5, 4]}, "event 1: time runs back from 5 to 4 us"),
        ({"height": 0}, "height is a number of pixels from 1 to 65536, got 0"),
        ({"width": 2.0}, "width is a number of pixels from 1 to 65536, got 2.0"),
    ],
)
def test_refused(changes, words):
    with pytest.raises(ValueError, match=words) as error:
        stream(**({"t": [0, 1]} | changes))
    assert "\n" not in str(error.value)


def test_slices_are_views():
    events = stream([0, 1, 2, 3])
    part = events[1:3]
    assert part.t.base is not None
    assert np.shares_memory(part.t, events.t)
    assert part.t.tolist() == [1, 2]
    with pytest.raises(ValueError, match="cut as"):
        events[::2]
    with pytest.raises(ValueError, match="cut as"):
        events[1]


def test_unchecked_is_checked_when_it_is_cut():
    columns = (np.array([0, 1, 2]), *np.array([[0, 9, 0], [0, 0, 0], [0, 0, 0]]))
    whole = EventStream(*columns, 4, 6, check=False)
    assert whole[:1].checked
    with pytest.raises(ValueError, match="x = 9"):
        whole[1:2]


times = st.lists(st.integers(-5, 60), max_size=60).map(sorted)


@given(times, st.integers(-9, 70), st.integers(0, 70))
def test_between_is_half_open(t, start, length):
    events = stream(t)
    expected = [value for value in t if start <= value < start + length]
    assert events.between(start, start + length).t.tolist() == expected


@given(times, st.integers(1, 40))
def test_windows_cover_everything_once(t, size):
    events = stream(t)
    for windows in (events.by_duration(size), events.by_count(size, incomplete=True)):
        parts = list(windows)
        assert [value for part in parts for value in part.t] == t
        if parts:
            assert concat(parts).equal(events)
    assert all(len(part) == size for part in events.by_count(size))
    for i, part in enumerate(events.by_duration(size)):
        assert all(i * size <= value - t[0] < (i + 1) * size for value in part.t)


@given(times, st.lists(st.integers(-9, 70), max_size=6).map(sorted))
def test_slices_at_stamps(t, stamps):
    parts = stream(t).slices_at(np.array(stamps, np.int64))
    expected = [[v for v in t if a <= v < b] for a, b in itertools.pairwise(stamps)]
    assert [part.t.tolist() for part in parts] == expected


def test_windows_refuse():
    events = stream([0, 1])
    for wrong, words in (
        (lambda: events.between(5, 4), "before it starts"),
        (lambda: events.by_count(0), "at least one"),
        (lambda: events.by_duration(0), "at least 1 us"),
        (lambda: events.slices_at([3, 2]), "stamp 1: runs back from 3 to 2"),
        (lambda: events.slices_at([0.5, 1.0]), "integers"),
        (lambda: concat([]), "no stream"),
        (lambda: concat([events, stream([0], height=9)]), "one size"),
        (lambda: concat([events, events]), "event 2: time runs back from 1 to 0"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()


def test_late_step_back_is_found():
    t = np.arange(200_000)
    t[131_072] = 0
    with pytest.raises(ValueError, match="event 131072: time runs back"):
        stream(t)
