"""Every representation: hand-worked frames, a plain loop, native = torch, stream = whole, chunks = whole, declared values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.events import REPRESENTATIONS, WINDOWS, EventStream, FrameStream, make_frames
from saccade.events.windows import AtStamps, ByCount, ByTime, EqualCount, EqualTime

H, W = 5, 7
ALL = list(REPRESENTATIONS)
SETTINGS = {
    "voxel_grid": [{}, {"bins": 1}, {"bins": 3, "polarity": "split"}],
    "gtp": [{}, {"alpha": 40.0, "beta": 0.5}],
    "time_surface": [{}, {"tau_us": 7.0}],
}
EVERY = [{"name": name, "config": config} for name in ALL for config in SETTINGS.get(name, [{}])]


def some_events(count, seed=0, longest=1000):
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(0, longest, count))
    return EventStream(t, draw.integers(0, W, count), draw.integers(0, H, count), draw.integers(0, 2, count), H, W)


def by_loop(representation, events, spans):
    """Each frame event by event, from the definitions."""
    config, frames = representation, []
    last = np.full((2, H, W), -np.inf)
    trace, before = np.zeros((H, W)), None
    for first, end, start, stop in spans:
        part = events[first:end]
        rows = list(zip(part.t.tolist(), part.x.tolist(), part.y.tolist(), part.p.tolist(), strict=True))
        count = np.zeros((2, H, W))
        for t, x, y, p in rows:
            count[p, y, x] += 1
            last[p, y, x] = t
        kind = config.kind()
        if kind == "count":
            frame = count
        elif kind == "binary":
            frame = np.minimum(count, 1)
        elif kind == "event_frame":
            frame = np.zeros((2, H, W))
            for _, x, y, p in rows:
                frame[p, y, x], frame[1 - p, y, x] = 1, 0
        elif kind == "time_surface":
            frame = np.exp(-(stop - last) / config.tau_us)
        elif kind == "voxel_grid":
            split = config.polarity == "split"
            frame = np.zeros((len(config.channels), H, W))
            for t, x, y, p in rows:
                star = (config.bins - 1) * (t - start) / (stop - start) if stop > start else 0
                for b in range(config.bins):
                    weight = max(0.0, 1 - abs(b - star))
                    frame[2 * b + p if split else b, y, x] += weight if split or p else -weight
        elif kind == "count_and_time":
            frame = np.concatenate([count, np.zeros((2, H, W))])
            for t, x, y, p in rows:
                frame[2 + p, y, x] = (t - start) / (stop - start) if stop > start else 0
        elif kind == "gtp":
            if before is None:
                trace = np.zeros((H, W))
            else:
                trace = np.minimum(255, config.beta * trace + config.alpha * ((count > 0) & (before == 0)).sum(0))
            before = count
            frame = np.floor(np.concatenate([trace[None], np.minimum(255, config.alpha * count)]))
        else:
            raise AssertionError(f"{kind}: say here, event by event, what it is")
        frames.append(frame)
    return torch.from_numpy(np.array(frames).reshape(-1, len(config.channels), H, W)).float()


@pytest.mark.parametrize("record", EVERY, ids=str)
@given(count=st.integers(0, 60), seed=st.integers(0, 99), duration=st.integers(1, 400))
@settings(deadline=None, max_examples=25)
def test_native_torch_and_a_plain_loop_agree(record, count, seed, duration):
    events, windows = some_events(count, seed), ByTime(duration_us=duration)
    representation = REPRESENTATIONS[record["name"]].changed(record["name"], record["config"])
    native, plain = (FrameStream(representation, H, W, native=native) for native in (True, False))
    found, same = native.frames(events, windows), plain.frames(events, windows)
    expected = by_loop(representation, events, windows.spans(events))
    if representation.whole:
        assert torch.equal(found, expected)
        assert torch.equal(same, expected)
        assert torch.equal(found, found.round())
    else:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(same, found, rtol=1e-6, atol=1e-6)
    for name, part in native.state.items():
        assert torch.equal(part, plain.state[name]), name
    low, high = representation.low, representation.high
    assert low is None or found.numel() == 0 or found.min() >= low
    assert high is None or found.numel() == 0 or found.max() <= high


@pytest.mark.parametrize("native", [True, False], ids=["native", "torch"])
@pytest.mark.parametrize("windows", [ByTime(duration_us=90), ByCount(events=17)], ids=lambda one: one.kind())
@pytest.mark.parametrize("record", EVERY, ids=str)
def test_a_stream_gives_the_frames_of_the_whole(record, windows, native):
    """Whatever the pieces are in which events come."""
    events = some_events(200, seed=3)
    whole = FrameStream(record, H, W, native=native).frames(events, windows)
    for size in (1, 13, 200):
        stream, cutter = FrameStream(record, H, W, native=native), windows.cutter()
        found = []
        for first in range(0, 200, size):
            found += [stream.update(*window) for window in cutter.push(events[first : first + size])]
        found += [stream.update(*window) for window in cutter.rest()]
        assert torch.equal(torch.stack(found), whole)
    stream.reset()
    assert torch.equal(stream.frames(events, windows), whole)


@pytest.mark.parametrize("name", ALL)
def test_order_within_a_window_matters_only_to_what_reads_times(name):
    events = some_events(80, seed=5)
    turned = EventStream(np.full(80, 4), events.x[::-1], events.y[::-1], events.p[::-1], H, W)
    plain = EventStream(np.full(80, 4), events.x, events.y, events.p, H, W)
    a, b = (make_frames(one, name, EqualTime(frames=1)) for one in (plain, turned))
    if name == "event_frame":
        assert not torch.equal(a, b)
    else:
        torch.testing.assert_close(a, b)


def test_an_event_frame_by_hand():
    """Three events of one pixel: off, on, off; another pixel: on."""
    events = EventStream([0, 1, 2, 2], [1, 1, 1, 0], [0, 0, 0, 1], [0, 1, 0, 1], 2, 2)
    frame = make_frames(events, "event_frame", EqualTime(frames=1))[0]
    assert frame.tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 0]]]
    assert make_frames(events, "count", EqualTime(frames=1))[0].tolist() == [[[0, 2], [0, 0]], [[0, 1], [1, 0]]]
    assert make_frames(events, "binary", EqualTime(frames=1))[0].tolist() == [[[0, 1], [0, 0]], [[0, 1], [1, 0]]]


def test_a_voxel_grid_by_hand():
    """Window 0 to 8, three bins at 0, 4, 8: t = 1 gives 3/4 to bin 0 and 1/4 to bin 1; t = 8 all to bin 2."""
    events = EventStream([1, 6, 8], [0, 0, 1], [0, 0, 0], [1, 0, 1], 1, 2)
    record = {"name": "voxel_grid", "config": {"bins": 3}}
    frame = FrameStream(record, 1, 2).update(events, 0, 8)
    assert frame[:, 0, 0].tolist() == [0.75, 0.25 - 0.5, -0.5]
    assert frame[:, 0, 1].tolist() == [0, 0, 1]


def test_a_time_surface_by_hand():
    stream = FrameStream({"name": "time_surface", "config": {"tau_us": 10.0}}, 1, 2)
    first = stream.update(EventStream([0, 5], [0, 0], [0, 0], [1, 1], 1, 2), 0, 10)
    assert first[1, 0].tolist() == pytest.approx([np.exp(-0.5), 0])
    assert first[0].tolist() == [[0, 0]]
    second = stream.update(EventStream([12], [1], [0], [0], 1, 2), 10, 20)  # the first pixel only fades
    assert second[1, 0].tolist() == pytest.approx([np.exp(-1.5), 0])
    assert second[0, 0].tolist() == pytest.approx([0, np.exp(-0.8)])


def test_counts_and_times_by_hand():
    events = EventStream([2, 4, 10], [0, 0, 0], [0, 0, 0], [0, 0, 1], 1, 1)
    assert FrameStream("count_and_time", 1, 1).update(events, 0, 20).flatten().tolist() == pytest.approx(
        [2, 1, 0.2, 0.5]
    )


def test_a_trajectory_by_hand():
    """One pixel of 3 x 3: on; nothing; on and off; on again; then its trace falls by 0.8 a window."""
    stream = FrameStream("gtp", 3, 3)
    windows = [[1], [], [0, 1], [1], [], []]
    frames = []
    for i, polarities in enumerate(windows):
        n = len(polarities)
        columns = [np.array(column, int) for column in ([i] * n, [1] * n, [2] * n, polarities)]
        frames.append(stream.update(EventStream(*columns, 3, 3), i, i + 1))
    middle = torch.stack(frames)[:, :, 2, 1]
    # windows 3 and 4: 30 + 30 began; 0.8 * 60, "on" went on, nothing began
    assert middle.tolist() == [[0, 0, 30], [0, 0, 0], [60, 30, 30], [48, 0, 30], [38, 0, 0], [30, 0, 0]]
    assert stream.state["trajectory"][2, 1] == pytest.approx(60 * 0.8**3)
    assert torch.stack(frames).sum((0, 1)).count_nonzero() == 1


def test_counts_of_gtp_add_up_over_parts_and_saturate():
    events = some_events(60, seed=1)
    knots = (0, 500, 1000)
    whole = make_frames(events, "gtp", AtStamps(stamps_us=knots))
    parts = make_frames(events, "gtp", AtStamps(stamps_us=knots, parts=5))
    assert parts.shape[0] == 10
    assert whole[:, 1:].max() < 255
    assert torch.equal(parts[:, 1:].view(2, 5, 2, H, W).sum(1), whole[:, 1:])
    many = EventStream([0] * 9, [0] * 9, [0] * 9, [1] * 9, 1, 1)
    assert make_frames(many, "gtp", EqualTime(frames=1)).flatten().tolist() == [0, 0, 255]


def test_windows_by_hand():
    events = EventStream([10, 11, 15, 19, 20, 34], [0] * 6, [0] * 6, [1] * 6, 1, 1)
    assert ByTime(duration_us=10).spans(events).tolist() == [[0, 4, 10, 20], [4, 5, 20, 30], [5, 6, 30, 40]]
    assert ByTime(duration_us=25).spans(events).tolist() == [[0, 6, 10, 35]]
    assert ByTime(duration_us=24).spans(events).tolist() == [[0, 5, 10, 34], [5, 6, 34, 58]]
    assert ByTime(duration_us=10, frames=2).spans(events)[:, :2].tolist() == [[0, 4], [4, 5]]
    assert ByTime(duration_us=20, frames=3).spans(events)[:, :2].tolist() == [[0, 5], [5, 6], [6, 6]]
    assert ByCount(events=4).spans(events).tolist() == [[0, 4, 10, 19]]
    assert ByCount(events=3, frames=3).spans(events).tolist() == [[0, 3, 10, 15], [3, 6, 19, 34], [6, 6, 34, 34]]
    assert EqualCount(frames=4).spans(events).tolist() == [
        [0, 1, 10, 10],
        [1, 2, 11, 11],
        [2, 3, 15, 15],
        [3, 6, 19, 34],
    ]
    assert EqualTime(frames=5).spans(events)[:, :2].tolist() == [[0, 2], [2, 3], [3, 5], [5, 5], [5, 6]]
    assert AtStamps(stamps_us=(0, 11, 20), parts=2).spans(events).tolist() == [
        [0, 0, 0, 5],
        [0, 1, 5, 11],
        [1, 2, 11, 15],
        [2, 4, 15, 20],
    ]


@given(count=st.integers(0, 40), seed=st.integers(0, 99), frames=st.integers(1, 9))
@settings(deadline=None)
def test_no_event_is_lost_or_seen_twice(count, seed, frames):
    events = some_events(count, seed)
    cuts = [ByTime(duration_us=37), EqualTime(frames=frames)] + [EqualCount(frames=frames)] * (count >= frames)
    for windows in cuts:
        assert make_frames(events, "count", windows).sum() == count
    if count < frames:
        with pytest.raises(ValueError, match=f"{count} events cannot fill {frames} frames"):
            make_frames(events, "count", EqualCount(frames=frames))


def test_the_last_frame_takes_the_remainder():
    assert make_frames(some_events(11), "count", EqualCount(frames=4)).sum((1, 2, 3)).tolist() == [2, 2, 2, 5]


@pytest.mark.parametrize("registry", [REPRESENTATIONS, WINDOWS], ids=lambda one: one.kind)
def test_records(registry):
    for name, config in registry.items():
        assert type(config).parse(config.record()) == config
        with pytest.raises(ValueError, match=f"{name} takes no 'no_such_field'"):
            type(config).parse({"name": name, "config": {"no_such_field": 1}})


def test_what_looks_ahead_is_no_stream():
    for name, windows in WINDOWS.items():
        if windows.look_ahead:
            with pytest.raises(ValueError, match=f"{name} cuts a recording by where it ends"):
                windows.cutter()
        else:
            windows.cutter()


def test_instruction_sets_agree():
    """Every one that this machine has, on a sensor whose pixels no vector divides."""
    _native = pytest.importorskip("saccade._native")
    events, before = some_events(300, seed=9), _native.instruction_set()
    found = {}
    try:
        for name in _native.instruction_sets():
            _native.use_instruction_set(name)
            found[name] = [FrameStream(record, H, W).frames(events, ByTime(duration_us=90)) for record in EVERY]
    finally:
        _native.use_instruction_set(before)
    for frames in found.values():
        for record, one, other in zip(EVERY, frames, found["baseline"], strict=True):
            if REPRESENTATIONS[record["name"]].whole:
                assert torch.equal(one, other), record
            else:
                torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


class Outside(ByTime):
    """Windows of somebody else, with a mistake in them."""

    def spans(self, events):
        return np.array([[0, len(events) + 1, 0, 1]])


def test_windows_outside_the_recording_are_refused():
    with pytest.raises(ValueError, match="windows reach outside a recording of 3 events"):
        FrameStream("count", H, W).frames(some_events(3), Outside())


def test_bad_input_is_one_line():
    events = some_events(4)
    with pytest.raises(ValueError, match="events of a sensor of 7 x 5 for frames of 3 x 5"):
        FrameStream("count", 5, 3).update(events)
    with pytest.raises(ValueError, match="has 1,125,899,906,842,625, more than"):
        make_frames(EventStream([0, 1 << 50], [0, 0], [0, 0], [1, 1], 1, 1), "count", ByTime(duration_us=1))
    with pytest.raises(ValueError, match="1,000 windows would take more than 16 GiB"):
        make_frames(EventStream([0], [0], [0], [1], 2400, 3600), "count", ByTime(frames=1000))
    with pytest.raises(ValueError, match="stamp 1 runs back from 5"):
        AtStamps(stamps_us=(5, 4))
    with pytest.raises(ValueError, match="two stamps make a window, got 1"):
        make_frames(events, "count", AtStamps(stamps_us=(5,)))
    changed = some_events(4)
    changed.x[2] = 9  # after it was checked
    with pytest.raises(ValueError, match="event 2: lies outside the sensor of 7 x 5"):
        make_frames(changed, "count", EqualTime(frames=1))


def test_a_representation_without_a_kernel_is_made_in_plain_torch(monkeypatch):
    """What somebody else adds needs ``window`` only."""
    from dataclasses import dataclass

    from saccade.events import Representation

    @dataclass(frozen=True)
    class Mean(Representation):
        """On events less off events."""

        low = None

        @property
        def channels(self):
            return ("both",)

        def window(self, events, start_us, stop_us, height, width, state):
            frame = torch.zeros(height * width).index_add_(0, events.place, events.p.float() * 2 - 1)
            return frame.view(1, height, width), state

    monkeypatch.setattr(REPRESENTATIONS, "_values", {**REPRESENTATIONS._values, "mean": Mean()})
    events = some_events(50)
    off, on = make_frames(events, "count", EqualCount(frames=2)).unbind(1)
    assert torch.equal(make_frames(events, "mean", EqualCount(frames=2))[:, 0], on - off)


def test_real_recordings_lose_no_event(recordings):
    """Ten gestures of 128 x 128, and a format of each kind: all events are in the counts, and in a stream's."""
    from saccade.events import open_events

    for path in sorted((recordings / "dvs-gesture-10").glob("*.bs2"))[:3]:
        events = open_events(path, height=128, width=128)
        whole = make_frames(events, "count", ByTime(duration_us=50_000))
        assert int(whole.sum(dtype=torch.float64)) == len(events)
        assert int(whole[:, 1].sum(dtype=torch.float64)) == int(events.p.sum(dtype=np.int64))
        stream, cutter = FrameStream("count", 128, 128), ByTime(duration_us=50_000).cutter()
        parts = [stream.update(*window) for window in [*cutter.push(events), *cutter.rest()]]
        assert torch.equal(torch.stack(parts), whole)
