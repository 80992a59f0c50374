"""Events from a pipe: handed on as they come; what is wrong is named by its line."""

import os

import numpy as np
import pytest

from saccade.events import EventStream, concat, open_events, write_events
from saccade.events.pipes import read_lines


class Pipe:
    """A file whose reads give one piece each."""

    def __init__(self, monkeypatch, *pieces):
        self.pieces = list(pieces)
        monkeypatch.setattr(os, "read", lambda fd, size: self.pieces.pop(0) if self.pieces else b"")

    def fileno(self):
        return -1


def test_whole_lines_are_handed_on_at_once(monkeypatch):
    pipe = Pipe(monkeypatch, b"# geometry 9x8\nt,x,y,p\n0 1 2 1\n5 3", b" 4 0\n7,5,6,1\n", b"8 0 0", b" 1")
    found = list(read_lines(pipe, 8, 9))
    assert [part.t.tolist() for part in found] == [[0], [5, 7], [8]]
    assert [part.x.tolist() for part in found] == [[1], [3, 5], [0]]
    assert concat(found).p.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            b"0 0 0 1\n1 0 0\n",
            r"-: line 2 is no event \(t x y p\): '1 0 0'|-: line 2 is no event \(t x y p\): b'1 0 0'",
        ),
        (b"0 0 0 1\n\nfar 0 0 1\n", "-: line 3 is no event"),
        (b"0.5 0 0 1\n", "-: line 1 is no event"),
        (b"99999999999999999999 0 0 1\n", "-: line 1 is no event"),
        (b"0 9 0 1\n", r"up to line 1: event 0: x = 9 is outside 0\.\.8"),
        (b"0 0 0 2\n", "up to line 1: event 0: p = 2"),
        (b"5 0 0 1\n4 0 0 1\n", "up to line 2: .*time runs back from 5 to 4 us"),
        (b"\x89PNG" * 3000, "a line of more than 4,096 bytes"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch, text, words):
    with pytest.raises(ValueError, match=words):
        list(read_lines(Pipe(monkeypatch, text), 8, 9))


def test_time_does_not_run_back_between_pieces(monkeypatch):
    with pytest.raises(ValueError, match="up to line 2: time runs back from 5 to 4 us"):
        list(read_lines(Pipe(monkeypatch, b"5 0 0 1\n", b"4 0 0 1\n"), 8, 9))


def test_it_reads_what_convert_writes(tmp_path):
    draw = np.random.default_rng(0)
    events = EventStream(
        np.arange(5000) * 3, draw.integers(0, 9, 5000), draw.integers(0, 8, 5000), draw.integers(0, 2, 5000), 8, 9
    )
    write_events(tmp_path / "events.txt", events)
    with (tmp_path / "events.txt").open("rb") as file:
        assert concat(read_lines(file, 8, 9)).equal(events)


def test_a_byte_order_mark_is_no_event(monkeypatch, tmp_path):
    """Spreadsheets write one before UTF-8 text."""
    text = b"\xef\xbb\xbf1 1 2 1\n2 1 3 0\n"
    (tmp_path / "a.csv").write_bytes(text)
    events = open_events(tmp_path / "a.csv", height=8, width=9)
    assert (events.t.tolist(), events.y.tolist()) == ([1, 2], [2, 3])
    assert concat(read_lines(Pipe(monkeypatch, text), 8, 9)).equal(events)
