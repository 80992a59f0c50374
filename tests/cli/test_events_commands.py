"""``saccade events``: info, convert, cut, stats."""

import json

import numpy as np
import pytest

from saccade.cli.main import run
from saccade.events import EventStream, open_events, write_events


@pytest.fixture
def events() -> EventStream:
    rng = np.random.default_rng(0)
    t = 1000 + np.sort(rng.integers(0, 100_000, 3000))
    return EventStream(t, rng.integers(0, 60, 3000), rng.integers(0, 40, 3000), rng.integers(0, 2, 3000), 40, 60)


def test_info(events, tmp_path, capsys):
    one, two = tmp_path / "a.raw", tmp_path / "b.dat"
    write_events(one, events)
    write_events(two, events)
    assert run(["events", "info", str(one), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["format"], row["width"], row["height"], row["events"]) == ("evt3", 60, 40, 3000)
    assert (row["first_us"], row["last_us"]) == (events.t[0], events.t[-1])
    assert row["on_share"] == pytest.approx(events.p.mean())
    (tmp_path / "c.raw").write_bytes(b"nothing")
    assert run(["events", "info", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "a.raw: evt3, 60 x 40, 3,000 events in 0.09" in out
    assert "b.dat: dat, 60 x 40" in out
    assert err.count("\n") == 1
    assert "c.raw: no format of event recordings that is known" in err


def test_convert(events, tmp_path, capsys):
    source, target = tmp_path / "a.raw", tmp_path / "b.events"
    write_events(source, events)
    assert run(["events", "convert", str(source), str(target)]) == 0
    assert "container, 3,000 events" in capsys.readouterr().out
    assert open_events(target).equal(events)
    assert run(["events", "convert", str(target), str(tmp_path / "c.es"), "--rebase"]) == 0
    back = open_events(tmp_path / "c.es")
    assert np.array_equal(back.t, events.t - events.t[0])
    assert run(["events", "convert", str(source), str(tmp_path / "d.raw"), "--to", "evt2"]) == 0
    assert open_events(tmp_path / "d.raw", "evt2").equal(events)


def test_convert_a_folder(events, tmp_path, capsys):
    folder = tmp_path / "in"
    (folder / "class").mkdir(parents=True)
    write_events(folder / "class" / "1.raw", events)
    write_events(folder / "2.raw", events[:5])
    assert run(["events", "convert", str(folder), str(tmp_path / "out")]) == 2
    assert "say with --to" in capsys.readouterr().err
    assert run(["events", "convert", str(folder), str(tmp_path / "out"), "--to", "container"]) == 0
    assert open_events(tmp_path / "out" / "class" / "1.events").equal(events)
    write_events(folder / "3.dat", events)
    assert run(["events", "convert", str(folder), str(tmp_path / "out"), "--to", "container"]) == 2
    assert "3.dat: is of format dat, and " in capsys.readouterr().err


def test_no_events_are_converted(events, tmp_path):
    write_events(tmp_path / "a.raw", events[:0])
    assert run(["events", "convert", str(tmp_path / "a.raw"), str(tmp_path / "b.events")]) == 0
    assert open_events(tmp_path / "b.events").equal(events[:0])


@pytest.mark.parametrize("name", ["a.raw", "a.events"])
def test_cut(events, name, tmp_path, capsys):
    source, target = tmp_path / name, tmp_path / "b.raw"
    write_events(source, events)

    def cut(*options):
        assert run(["events", "cut", str(source), str(target), *map(str, options)]) == 0
        return open_events(target)

    assert cut("--start-us", 30_000, "--stop-us", 50_000).equal(events.between(30_000, 50_000))
    begin = int(events.t[0])
    assert cut("--relative", "--stop-us", 500).equal(events.between(begin, begin + 500))
    assert cut("--skip", 10, "--count", 50).equal(events[10:60])
    assert cut("--start-us", 30_000, "--skip", 3, "--count", 2).equal(events.between(30_000, 10**9)[3:5])
    assert cut("--count", 4, "--rebase").t[0] == 0
    assert run(["events", "cut", str(source), str(tmp_path / "no.raw"), "--start-us", "10000000"]) == 2
    assert "holds no events there" in capsys.readouterr().err
    assert not (tmp_path / "no.raw").exists()
    assert run(["events", "cut", str(source), str(target), "--start-us", "5", "--stop-us", "4"]) == 2


def test_cut_over_chunks(events, tmp_path, monkeypatch):
    import saccade.events
    from saccade.events import opening

    write_events(tmp_path / "a.raw", events)
    monkeypatch.setattr(
        saccade.events, "read_chunks", lambda *given, **named: opening.read_chunks(*given, events=100, **named)
    )
    for skip, count in ((0, 1), (99, 2), (100, 100), (250, 333), (0, 3000)):
        options = ["--skip", str(skip), "--count", str(count)]
        assert run(["events", "cut", str(tmp_path / "a.raw"), str(tmp_path / "b.raw"), *options]) == 0
        assert open_events(tmp_path / "b.raw").equal(events[skip : skip + count])


def test_stats(tmp_path, capsys):
    t = np.array([0, 0, 5, 10, 35])
    events = EventStream(t, np.array([1, 1, 1, 2, 3]), np.array([0, 0, 0, 1, 1]), np.array([1, 1, 1, 0, 0]), 2, 5)
    write_events(tmp_path / "a.raw", events)
    assert run(["events", "stats", str(tmp_path / "a.raw"), "--window-us", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["events"], found["span_us"], found["windows"], found["empty_windows"]) == (5, 35, 4, 1)
    assert found["events_a_window"] == {"least": 0, "median": 1.0, "most": 3}
    assert (found["longest_pause_us"], found["same_time_share"], found["on_share"]) == (25, 0.2, 0.6)
    assert found["busiest_pixels"] == [[1, 0, 3], [3, 1, 1], [2, 1, 1]]
    assert found["silent_share"] == 0.7
    assert run(["events", "stats", str(tmp_path / "a.raw")]) == 0
    assert "5 events in 3.5e-05 s, 60.0% on" in capsys.readouterr().out


def test_stats_of_nothing_have_the_same_keys(tmp_path, capsys):
    whole = EventStream(np.array([1]), np.array([1]), np.array([0]), np.array([1]), 2, 5)
    keys = []
    for events in (whole, whole[:0]):
        write_events(tmp_path / "a.npz", events)
        assert run(["events", "stats", str(tmp_path / "a.npz"), "--height", "2", "--width", "5", "--json"]) == 0
        keys.append(list(json.loads(capsys.readouterr().out)))
    assert sorted(keys[0]) == sorted(keys[1])
    assert run(["events", "info", str(tmp_path / "a.npz"), "--height", "2", "--width", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert (found["events"], found["height"], found["width"]) == (0, 2, 5)


def test_lenient_says_what_it_left_out(events, tmp_path, capsys):
    path = tmp_path / "a.dat"
    write_events(path, events)
    path.write_bytes(path.read_bytes() + b"\x01\x02\x03")
    assert run(["events", "stats", str(path)]) == 2
    assert "ends in the middle of a word: 3 bytes (lenient leaves it out)" in capsys.readouterr().err
    assert run(["events", "info", str(path), "--lenient", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["events"] == 3000
    assert "left out 1 unfinished words at the end (first at byte" in err
