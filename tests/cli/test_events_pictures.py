"""``saccade events view`` and ``simulate``: pictures that hold what the recording does, recordings of what a picture shows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import run
from saccade.events import EventStream, open_events, write_events
from saccade.events.pictures import full_scale, painted, sheet

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def recording(tmp_path):
    """Off events in the left column in the first half of the time, on events in the right column in the second."""
    t = np.arange(200) * 1000
    late = t >= 100_000
    x = np.where(late, 29, 0)
    path = tmp_path / "two.events"
    write_events(path, EventStream(t, x, np.full(200, 7), late.astype(int), 20, 30))
    return path


def colours(picture):
    """Whether there is red, and blue."""
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    return bool((red - blue > 80).any()), bool((blue - red > 80).any())


def test_a_sheet_of_windows(recording, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert run(["events", "view", str(recording), "--out", str(out), "--windows", "2"]) == 0
    assert "2 windows of 99.5 ms" in capsys.readouterr().out
    picture = np.asarray(Image.open(out))
    assert picture.shape == (20 * 12 + 16, 2 * (30 * 12 + 8) + 8, 3)
    middle = picture.shape[1] // 2
    assert colours(picture[:, :middle]) == (True, False)
    assert colours(picture[:, middle:]) == (False, True)
    assert not list(tmp_path.glob(".sheet*"))


def test_an_animation(recording, tmp_path):
    out = tmp_path / "two.gif"
    assert run(["events", "view", str(recording), "--out", str(out), "--window-us", "50000"]) == 0
    with Image.open(out) as animation:
        seen = []
        for i in range(animation.n_frames):
            animation.seek(i)
            seen.append(colours(np.asarray(animation.convert("RGB"))))
    assert seen[0] == (True, False)
    assert seen[-1] == (False, True)


def test_a_video(recording, tmp_path):
    av = pytest.importorskip("av", reason="needs the extra dehaze")
    out = tmp_path / "two.mp4"
    assert run(["events", "view", str(recording), "--out", str(out), "--window-us", "50000", "--frames", "3"]) == 0
    with av.open(str(out)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 3
    assert colours(frames[0]) == (True, False)
    assert colours(frames[2]) == (False, True)


def test_colours_by_hand():
    counts = np.zeros((2, 240, 241), np.float32)
    counts[0, 0, 0], counts[1, 0, 1], counts[:, 0, 2] = 4, 4, 4
    picture = painted(counts, 4)
    assert picture.shape == (240, 241, 3)
    assert picture[0, :4].tolist() == [[200, 30, 45], [25, 80, 200], [20, 9, 35], [255, 255, 255]]
    assert painted(counts, 16)[0, 0].tolist() == [228, 142, 150]  # half of the way: strength is the root
    assert full_scale(counts) == 4
    assert full_scale(np.zeros((2, 3, 3), np.float32)) == 1
    assert sheet([picture] * 5, 4).shape == (2 * 248 + 8, 4 * 249 + 8, 3)


@pytest.mark.parametrize(("name", "size"), [("a.events", "34x34"), ("a.raw", "40x30"), ("a.bin", "34x34")])
def test_a_picture_is_recorded(tmp_path, name, size, capsys):
    out = tmp_path / name
    assert run(["events", "simulate", str(EXAMPLES / "digit.png"), "--out", str(out), "--size", size]) == 0
    width, height = map(int, size.split("x"))
    events = open_events(out, height=height, width=width)
    assert f"{len(events):,} events" in capsys.readouterr().out
    assert len(events) > 3000
    assert events.t[-1] < 300_000
    other = tmp_path / f"other-{name}"
    more = ["--path", "loop", "--noise-hz", "0", "--leak-hz", "0", "--seed", "1"]
    assert run(["events", "simulate", str(EXAMPLES / "digit.png"), "--out", str(other), "--size", size, *more]) == 0
    assert not events.equal(open_events(other, height=height, width=width))


def test_frames_of_a_folder_and_of_a_video_are_recorded(tmp_path):
    pytest.importorskip("av", reason="needs the extra dehaze")
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(5):
        pixels = np.full((16, 20), 60, np.uint8)
        pixels[:, 3 * i : 3 * i + 3] = 220
        Image.fromarray(pixels).convert("RGB").save(folder / f"{i}.png")
    out = tmp_path / "bar.events"
    assert run(["events", "simulate", str(folder), "--out", str(out), "--noise-hz", "0", "--leak-hz", "0"]) == 0
    events = open_events(out)
    assert (events.height, events.width) == (16, 20)
    assert events.t[-1] <= 160_000  # four steps of 40 ms
    assert set(np.unique(events.x).tolist()) == set(range(15))
    video = tmp_path / "fog.events"
    assert run(["events", "simulate", str(EXAMPLES / "fog.mp4"), "--size", "60x44", "--out", str(video)]) == 0
    assert len(open_events(video)) > 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["view", "RECORDING", "--out", "OUT/a.bmp"], "a picture ends in .png"),
        (["view", "EMPTY", "--out", "OUT/a.gif"], "holds no events"),
        (["simulate", "PICTURE", "--out", "OUT/a.events", "--size", "12"], "write WxH"),
        (["simulate", "PICTURE", "--out", "OUT/a.events", "--size", "99999x1"], "at most 16384"),
        (["simulate", "PICTURE", "--out", "OUT/a.events", "--path", "zigzag"], "unknown path 'zigzag'"),
        (["simulate", "PICTURE", "--out", "OUT/a.unknown"], "no format is written under this name"),
        (["simulate", "RECORDING", "--out", "OUT/a.events"], "two.events"),
        (["simulate", "OUT/none.png", "--out", "OUT/a.events"], "none.png"),
    ],
)
def test_what_does_not_go_is_one_line(recording, tmp_path, capsys, arguments, words):
    empty = tmp_path / "empty.events"
    write_events(empty, EventStream(*(np.zeros(0, int) for _ in range(4)), 5, 5))
    places = {"RECORDING": recording, "EMPTY": empty, "PICTURE": EXAMPLES / "digit.png"}
    given = [str(places.get(word, word)).replace("OUT", str(tmp_path)) for word in arguments]
    assert run(["events", *given]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert error.count("\n") == 0
    assert not list(tmp_path.glob("a.*"))
