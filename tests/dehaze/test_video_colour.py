"""Video keeps its colours, its pixels' shape and its size, in containers that browsers play."""

from __future__ import annotations

import ast
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import run
from saccade.dehaze import VideoDehazer
from saccade.dehaze.video import Writer, dehaze_video, open_clip

av = pytest.importorskip("av")

COLOURS = np.array([[200, 60, 40], [30, 180, 220], [128, 140, 120], [60, 190, 60]])
# red's and blue's share of luma by the number of the matrix (ITU-T H.273)
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
UNSAID, LIMITED, FULL = 2, 1, 2


def patches(height: int, width: int) -> np.ndarray:
    """Four even colours, a quarter each."""
    image = np.empty((height, width, 3), np.uint8)
    for i, colour in enumerate(COLOURS):
        rows, columns = (slice(height // 2), slice(height // 2, None)), (slice(width // 2), slice(width // 2, None))
        image[rows[i // 2], columns[i % 2]] = colour
    return image


def yuv(image: np.ndarray, matrix: int, full: bool) -> np.ndarray:
    """Planes of yuv420p, by the definition."""
    red, blue = LUMA[matrix]
    r, g, b = np.moveaxis(image / 255.0, 2, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / 2 / (1 - blue), (r - y) / 2 / (1 - red)
    y, chroma = (255 * y, 255) if full else (219 * y + 16, 224)
    planes = [y, *(chroma * plane[::2, ::2] + 128 for plane in (u, v))]
    whole = np.concatenate([np.round(plane).clip(0, 255).ravel() for plane in planes])
    return whole.astype(np.uint8).reshape(-1, image.shape[1])


def rgb(planes: np.ndarray, matrix: int, full: bool) -> np.ndarray:
    """What a player shows in the middle of the four patches."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    y = planes[:height].astype(float)
    u, v = planes[height:].astype(float).reshape(2, height // 2, width // 2)
    red, blue = LUMA[matrix]
    found = []
    for down in (height // 4, 3 * height // 4):
        for across in (width // 4, 3 * width // 4):
            luma, cb, cr = y[down, across], u[down // 2, across // 2] - 128, v[down // 2, across // 2] - 128
            luma, chroma = (luma / 255, 255) if full else ((luma - 16) / 219, 224)
            r, b = luma + 2 * (1 - red) * cr / chroma, luma + 2 * (1 - blue) * cb / chroma
            found.append([r, (luma - red * r - blue * b) / (1 - red - blue), b])
    return np.array(found) * 255


def coloured(path: Path, size: tuple[int, int], matrix: int, tags: tuple[int, int, int], full: bool = False) -> Path:
    """A video of the patches in a matrix and range, with tags for matrix, primaries and transfer."""
    width, height = size
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "4"}
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = tags
        context.color_range = FULL if full else (LIMITED if tags[0] != UNSAID else 0)
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(yuv(patches(height, width), matrix, full), format="yuv420p")
            frame.colorspace, frame.color_range = tags[0], context.color_range
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def first(path: Path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream, next(container.decode(stream))


@pytest.mark.parametrize("name", ["out.mp4", "out.webm", "out.mkv"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("size", "matrix", "tags"),
    [
        ((320, 240), 6, (6, 6, 6)),
        ((320, 240), 5, (5, 5, 6)),
        ((320, 240), 1, (1, 1, 1)),
        ((1280, 720), 1, (1, 1, 1)),
        ((1280, 720), 6, (6, 6, 6)),
        ((1280, 720), 9, (9, 9, 14)),
        ((1280, 720), 9, (9, 9, 16)),
    ],
)
def test_colours_are_those_of_the_input(tmp_path, name, full, size, matrix, tags):
    coloured(tmp_path / "in.mp4", size, matrix, tags, full)
    seen = []

    def unchanged(frame):
        seen.append(frame)
        return frame

    dehaze_video(tmp_path / "in.mp4", tmp_path / name, unchanged)
    height, width = seen[0].shape[:2]
    middle = seen[0][[height // 4, 3 * height // 4]][:, [width // 4, 3 * width // 4]].reshape(4, 3)
    assert np.abs(middle.astype(int) - COLOURS).max() <= 3  # decoded by its own matrix and range
    stream, frame = first(tmp_path / name)
    found = (int(frame.colorspace), stream.codec_context.color_primaries, stream.codec_context.color_trc)
    assert found == tags
    assert int(frame.color_range) == LIMITED
    shown = rgb(frame.to_ndarray(format="yuv420p"), int(frame.colorspace), full=False)
    assert np.abs(shown - COLOURS).max() <= 5  # and the tags say what was written


@pytest.mark.parametrize(("size", "matrix", "tags"), [((320, 240), 6, (6, 6, 6)), ((1280, 720), 1, (1, 1, 1))])
def test_what_is_not_said_is_what_players_assume(tmp_path, size, matrix, tags):
    coloured(tmp_path / "in.mp4", size, matrix, (UNSAID, UNSAID, UNSAID))
    dehaze_video(tmp_path / "in.mp4", tmp_path / "out.mp4", lambda frame: frame)
    stream, frame = first(tmp_path / "out.mp4")
    assert (int(frame.colorspace), stream.codec_context.color_primaries, stream.codec_context.color_trc) == tags
    assert np.abs(rgb(frame.to_ndarray(format="yuv420p"), matrix, full=False) - COLOURS).max() <= 5


def test_pictures_as_frames_are_tagged(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(patches(720, 1280)).save(tmp_path / "in" / "0.png")
    dehaze_video(tmp_path / "in", tmp_path / "out.mp4", lambda frame: frame)
    stream, frame = first(tmp_path / "out.mp4")
    assert (int(frame.colorspace), stream.codec_context.color_primaries, int(frame.color_range)) == (1, 1, LIMITED)
    assert np.abs(rgb(frame.to_ndarray(format="yuv420p"), 1, full=False) - COLOURS).max() <= 5


def test_a_matrix_that_is_not_read_is_named(tmp_path, capsys):
    coloured(tmp_path / "in.mp4", (320, 240), 6, (8, 1, 1))
    assert run(["dehaze", "run", str(tmp_path / "in.mp4"), "--out", str(tmp_path / "out.mp4")]) == 2
    told = capsys.readouterr().err
    assert "in.mp4: colour matrix YCgCo is not read; known: BT.709, FCC, BT.601" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", ["a.mp4", "a.m4v", "a.mov", "a.mkv", "a.webm", "a.ts", "a.avi"])
@pytest.mark.parametrize("turn", [0, 90])
def test_pixels_keep_their_shape(tmp_path, name, turn):
    with av.open(str(tmp_path / "in.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        if turn:
            stream.set_display_rotation(turn)
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(patches(64, 96), format="rgb24")))
        out.mux(stream.encode())
    assert run(["dehaze", "run", str(tmp_path / "in.mp4"), "--out", str(tmp_path / name)]) == 0
    stream, frame = first(tmp_path / name)
    aspect = stream.codec_context.sample_aspect_ratio or 1
    shape = Fraction(frame.width, frame.height) * aspect
    assert float(shape) == pytest.approx(2 if not turn else 0.5, rel=0.02)
    if not name.endswith("webm"):  # which has square pixels
        assert aspect == (Fraction(3, 4) if turn else Fraction(4, 3))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (67, 51), (96, 51), (67, 64)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_size_and_count_in_formats_that_browsers_play(tmp_path, hazy, capsys, size, count):
    width, height = size
    (tmp_path / "in").mkdir()
    for i in range(count):
        Image.fromarray(hazy[i : i + height, :width].copy()).save(tmp_path / "in" / f"{i}.png")
    for name, codec, even in (("a.mp4", "h264", True), ("a.webm", "vp9", False)):
        assert run(["dehaze", "run", str(tmp_path / "in"), "--video", "--out", str(tmp_path / name)]) == 0
        told = capsys.readouterr().out
        stream, frame = first(tmp_path / name)
        assert stream.codec_context.name == codec
        assert frame.format.name == "yuv420p"
        grown = (width % 2, height % 2) if even else (0, 0)
        assert (frame.width, frame.height) == (width + grown[0], height + grown[1])
        assert ("padded by" in told) == any(grown)
        assert len(list(open_clip(tmp_path / name).frames)) == count


def test_webm_keeps_uneven_times(tmp_path, hazy):
    writer = Writer(tmp_path / "in.mkv", Fraction(25), Fraction(1, 1000))
    times = [Fraction(0), Fraction(4, 100), Fraction(20, 100), Fraction(90, 100)]
    for time in times:
        writer.add(np.ascontiguousarray(hazy[:64, :96]), time)
    writer.close()
    dehaze_video(tmp_path / "in.mkv", tmp_path / "out.webm", VideoDehazer())
    clip = open_clip(tmp_path / "out.webm")
    assert [clip.time() for _ in clip.frames] == times


def test_without_an_encoder_the_possible_is_named(tmp_path, hazy, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(hazy[:64, :96].copy()).save(tmp_path / "in" / "0.png")
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    assert run(["dehaze", "run", str(tmp_path / "in"), "--video", "--out", str(tmp_path / "o.webm")]) == 2
    told = capsys.readouterr().err
    assert "o.webm: no encoder for .webm here (libvpx-vp9 or libvpx); possible: .avi, .m4v, .mkv, .mov, .mp4" in told
    assert told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_the_parts_of_the_package_import_in_one_direction():
    """Imports inside functions count: what asks for another file must not be asked for by it."""
    folder = Path(__file__).parents[2] / "src" / "saccade" / "dehaze"
    needs: dict[str, set[str]] = {}
    for path in folder.glob("*.py"):
        asked: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("saccade.dehaze"):
                whole = node.module.removeprefix("saccade.dehaze").lstrip(".")
                asked |= {whole} if whole else {alias.name for alias in node.names}
        needs[path.stem] = asked
    needs = {name: {other for other in asked if other in needs} for name, asked in needs.items() if name != "__init__"}
    while free := [name for name, asked in needs.items() if not asked & set(needs)]:
        for name in free:
            del needs[name]
    assert not needs, f"in a circle: {sorted(needs)}"
