"""Video: steadiness, scene cuts, files that stay whole."""

from __future__ import annotations

import signal
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from saccade.cli.main import run
from saccade.dehaze import Dehazer
from saccade.dehaze.video import VideoDehazer, Writer, dehaze_video, open_clip

pytest.importorskip("av")


def shaky(hazy: np.ndarray, count: int, seed: int = 0) -> list[np.ndarray]:
    """One still scene with the camera's noise."""
    rng = np.random.default_rng(seed)
    return [np.clip(hazy + rng.normal(0, 2, hazy.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def test_without_smoothing_a_frame_is_a_picture(hazy):
    dehazer = VideoDehazer("fidelity", smoothing=1, every=1, reduce=1)
    for frame in shaky(hazy, 3):
        assert (dehazer(frame) == Dehazer("fidelity", "native")(frame)).all()


def test_a_white_block_that_enters_moves_the_rest_less(hazy):
    frames = shaky(hazy, 16)
    for frame in frames[8:]:
        frame[:60, :60] = 255

    def worst_step(**options) -> float:
        dehazer = VideoDehazer("video", reduce=1, every=1, **options)
        out = [dehazer(frame)[80:, 80:].astype(float).mean() for frame in frames]
        return float(np.abs(np.diff(out))[7])

    alone, smoothed = worst_step(smoothing=1), worst_step(smoothing=0.1)
    assert alone > 0.3
    assert smoothed < alone / 2


def test_scene_cuts_start_anew(hazy):
    other = 255 - np.ascontiguousarray(hazy[::-1])
    dehazer = VideoDehazer("video", smoothing=0.05)
    for frame in [hazy] * 3 + [other]:
        after = dehazer(frame)
    fresh = VideoDehazer("video", smoothing=0.05)
    assert (after == fresh(other)).all()
    dehazer.reset()
    assert dehazer.state is None
    assert dehazer(hazy[:50]).shape == (50, *hazy.shape[1:])


def test_estimates_only_every_so_many_frames(hazy, monkeypatch):
    dehazer = VideoDehazer("video", every=4)
    count = 0
    plain = dehazer._estimate

    def counted(frame):
        nonlocal count
        count += 1
        return plain(frame)

    monkeypatch.setattr(dehazer, "_estimate", counted)
    for frame in shaky(hazy, 9):
        dehazer(frame)
    assert count == 3


def test_numpy_gives_the_same_frames(hazy, monkeypatch):
    from saccade.dehaze import native

    small = np.ascontiguousarray(hazy[:90, :110])
    ours = [VideoDehazer("video")(small), VideoDehazer("paper")(small)]
    monkeypatch.setattr(native, "available", lambda: False)
    plain = [VideoDehazer("video")(small), VideoDehazer("paper")(small)]
    for a, b in zip(ours, plain, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 2


def test_files_folders_and_back(tmp_path, hazy):
    frames = shaky(hazy, 7)
    writer = Writer(tmp_path / "in.mp4", Fraction(20))
    for frame in frames:
        writer.add(frame)
    writer.close()
    seen: list = []
    found = dehaze_video(tmp_path / "in.mp4", tmp_path / "out.mp4", VideoDehazer(), tell=seen.append)
    assert found["frames"] == 7
    assert found["flicker"] > 0
    assert len(seen) == 7
    clip = open_clip(tmp_path / "out.mp4")
    assert clip.rate == 20
    assert len(list(clip.frames)) == 7
    assert run(["dehaze", "run", str(tmp_path / "in.mp4"), "--out", str(tmp_path / "stills"), "--frames", "3"]) == 0
    assert (tmp_path / "stills" / "in.mp4").is_file()
    dehaze_video(tmp_path / "in.mp4", tmp_path / "png", VideoDehazer(), frames=4)
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == [f"{i:06d}.png" for i in range(4)]
    words = ["dehaze", "run", str(tmp_path / "png"), "--video", "--out", str(tmp_path / "again.mkv"), "--method", "dcp"]
    assert run(words) == 0
    assert len(list(open_clip(tmp_path / "again.mkv").frames)) == 4
    assert not list(tmp_path.glob(".*part*"))


def uneven(path: Path, frames: list[np.ndarray], times: list[int], turn: int = 0) -> Path:
    """A video with frames at ``times`` in hundredths of a second, to be shown turned."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        if turn:
            stream.set_display_rotation(turn)
        for image, at in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 100)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def times_of(path: Path) -> list[float]:
    clip = open_clip(path)
    return [round(float(clip.time() or 0), 3) for _ in clip.frames]


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_a_turned_video_is_upright(tmp_path, hazy, turn):
    path = uneven(tmp_path / "in.mp4", shaky(hazy[:64, :96], 3), [0, 4, 8], turn)
    upright = np.rot90(hazy[:64, :96], turn // 90)
    frame = next(open_clip(path).frames)
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).mean() < 12
    assert run(["dehaze", "run", str(path), "--out", str(tmp_path / "out.mp4")]) == 0
    assert next(open_clip(tmp_path / "out.mp4").frames).shape == upright.shape


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.avi"])
def test_frames_keep_their_times(tmp_path, hazy, name):
    path = uneven(tmp_path / "in.mp4", shaky(hazy[:64, :96], 6), [0, 4, 20, 36, 37, 90])
    found = dehaze_video(path, tmp_path / name, VideoDehazer())
    assert found["frames"] == 6
    if not name.endswith("avi"):  # which has but a rate
        assert times_of(tmp_path / name) == times_of(path) == [0, 0.04, 0.2, 0.36, 0.37, 0.9]
    assert len(list(open_clip(tmp_path / name).frames)) == 6


def test_times_that_are_missing_or_run_back():
    writer = Writer(Path("none.mp4"), Fraction(25), Fraction(1, 100))
    placed = []
    for hundredths in (500, 504, None, 512, 3, 7, 20):
        placed.append(writer._place(None if hundredths is None else Fraction(hundredths, 100), Fraction(1, 100)))
        writer.count += 1
    assert placed == [0, 4, 8, 12, 16, 20, 33]


def test_odd_sizes_are_written(tmp_path, hazy):
    writer = Writer(tmp_path / "odd.mp4", Fraction(25))
    writer.add(np.ascontiguousarray(hazy[:51, :67]))
    writer.close()
    back = next(open_clip(tmp_path / "odd.mp4").frames).astype(int)
    assert back.shape == (52, 68, 3)  # H.264 with even sides, which browsers play
    assert writer.padding == (1, 1)
    assert np.abs(back[51, :67] - back[50, :67]).mean() < 3  # the last row again


def test_ctrl_c_leaves_a_file_that_plays(tmp_path, hazy):
    writer = Writer(tmp_path / "in.mp4", Fraction(25))
    for frame in shaky(hazy[:64, :64], 30):
        writer.add(frame)
    writer.close()
    done = 0

    def slow(frame):
        nonlocal done
        done += 1
        if done == 5:
            signal.raise_signal(signal.SIGINT)
        return frame

    found = dehaze_video(tmp_path / "in.mp4", tmp_path / "out.mp4", slow)
    assert found["interrupted"]
    assert found["frames"] == 5
    assert len(list(open_clip(tmp_path / "out.mp4").frames)) == 5
    assert threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize("name", ["text.mp4", "sound.wav", "none.mp4", "empty"])
def test_no_frames_is_one_line(tmp_path, name, capsys):
    import av

    path = tmp_path / name
    if name == "text.mp4":
        path.write_text("no video at all")
    elif name == "empty":
        path.mkdir()
    elif name == "sound.wav":
        with av.open(str(path), "w") as out:
            stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            sound.sample_rate = 8000
            out.mux(stream.encode(sound))
            out.mux(stream.encode())
    else:
        assert not path.exists()
    code = run(["dehaze", "run", str(path), "--video", "--out", str(tmp_path / "out.mp4")])
    told = capsys.readouterr().err
    assert code == 2
    assert str(path) in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()
    assert not list(tmp_path.glob(".*part*"))


def test_a_broken_file_keeps_what_was_whole(tmp_path, hazy, capsys):
    writer = Writer(tmp_path / "in.avi", Fraction(25))
    for frame in shaky(hazy, 40):
        writer.add(frame)
    writer.close()
    data = (tmp_path / "in.avi").read_bytes()
    (tmp_path / "in.avi").write_bytes(data[: len(data) // 2])
    code = run(["dehaze", "run", str(tmp_path / "in.avi"), "--out", str(tmp_path / "out.mp4")])
    assert code in (0, 1)  # a decoder may take the end of the data for the end of the video
    assert 1 <= len(list(open_clip(tmp_path / "out.mp4").frames)) < 40


def test_frames_of_another_size_and_bad_options(hazy):
    dehazer = VideoDehazer()
    dehazer(hazy)
    with pytest.raises(ValueError, match="in a video of"):
        dehazer(hazy[:50])
    with pytest.raises(ValueError, match="uint8"):
        dehazer(hazy / 255.0)
    with pytest.raises(ValueError, match="smoothing lies in"):
        VideoDehazer(smoothing=0)
    with pytest.raises(ValueError, match="camera 77: cannot be opened"):
        open_clip(77)


def test_real_fog(haze_data: Path, tmp_path):
    found = dehaze_video(haze_data / "video" / "fog2.mp4", tmp_path / "out.mp4", VideoDehazer(), frames=20)
    assert found["frames"] == 20
    assert found["error"] is None
