"""Settings and options: of the right type, in their range, and none that does nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import saccade.dehaze.pixel_maps  # noqa: F401  (registers the transforms)
from saccade.cli.main import run
from saccade.data import PixelMapConfig
from saccade.dehaze import Dehazer, Settings, VideoDehazer, folder, native
from saccade.dehaze.settings import settings_for


def told(capsys) -> str:
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    return line


def test_numbers_as_yaml_reads_them(tmp_path, hazy):
    assert settings_for("fidelity", guide_eps="1e-3").guide_eps == 0.001
    assert settings_for("fidelity", high="inf", radius=np.int64(3), eps=np.float32(0.5)).radius == 3
    Image.fromarray(hazy[:20, :30]).save(tmp_path / "a.png")
    words = ["dehaze", "run", str(tmp_path / "a.png"), "--out", str(tmp_path / "b.png"), "--set"]
    assert run([*words, "guide_eps=1e-3"]) == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("eps=abc", "eps: a number, not 'abc'"),
        ("eps=", "eps: a number, not None"),
        ("eps=true", "eps: a number, not True"),
        ("window=3.5", "window: a whole number or auto, not 3.5"),
        ("window=wide", "window: a whole number or auto, not 'wide'"),
        ("radius=2.5", "radius: a whole number, not 2.5"),
        ("clahe=[1]", "clahe: matlab, opencv or none"),
        ("smoothing=0.5", "unknown setting 'smoothing'"),
        ("engine=numpy", "unknown setting 'engine'"),
        ("preset=paper", "unknown setting 'preset'"),
        ("every=1", "unknown setting 'every'"),
        ("guide_eps=nan", "guide_eps above 0"),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_a_wrong_setting_is_one_line(tmp_path, capsys, hazy, setting, words, name):
    Image.fromarray(hazy[:20, :30]).save(tmp_path / name, format="PNG")
    assert run(["dehaze", "run", str(tmp_path / name), "--out", str(tmp_path / "o" / name), "--set", setting]) == 2
    assert words in told(capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "dcp", "--preset", "clear"], "--preset: does nothing for --method dcp"),
        (["--method", "dcp", "--set", "eps=0.1", "--parts"], "--set and --parts: do nothing for --method dcp"),
        (["--smoothing", "0.5"], "--smoothing: does nothing for pictures"),
        (["--every", "1", "--frames", "3"], "--frames and --every: do nothing for pictures"),
        (["--video", "--parts"], "--parts: does nothing for a video"),
        (["--video", "--method", "cap", "--smoothing", "1"], "--smoothing: does nothing for --method cap"),
    ],
)
def test_options_that_do_nothing_are_refused(tmp_path, capsys, hazy, options, words):
    (tmp_path / "in").mkdir()
    Image.fromarray(hazy[:20, :30]).save(tmp_path / "in" / "a.png")
    assert run(["dehaze", "run", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *options]) == 2
    assert words in told(capsys)


def test_transforms_of_baselines_take_no_settings():
    for config, words in (
        ({"method": "dcp", "preset": "clear"}, "'dcp' takes no preset"),
        ({"method": "cap", "window": 3}, "'cap' takes no window"),
        ({"preset": "claer"}, "unknown preset 'claer'"),
        ({"engine": "numpy"}, "dehaze takes no 'engine'"),
        ({"window": 3.5}, "dehaze: window: Input should be"),
        ({"window": 4}, "window"),
    ):
        with pytest.raises(ValueError, match=words):
            PixelMapConfig.parse({"name": "dehaze", "config": config}).build()


def test_sizes_beyond_the_picture_change_nothing(hazy):
    small = np.ascontiguousarray(hazy[:20, :33])
    tensor = torch.from_numpy(small.copy()).permute(2, 0, 1)[None]
    far, near = 10**12, 33
    for huge, least in (
        ({"window": far + 1}, {"window": 67}),
        ({"airlight_window": far + 1}, {"airlight_window": 67}),
        ({"radius": far}, {"radius": near}),
        ({"subsample": far}, {"subsample": near}),
    ):
        for engine in ("native", "numpy"):
            assert (Dehazer("fidelity", engine, **huge)(small) == Dehazer("fidelity", engine, **least)(small)).all()
        assert (Dehazer("fidelity", **huge)(tensor) == Dehazer("fidelity", **least)(tensor)).all()


def test_clip_in_the_unit_of_its_clahe():
    for clip in (1.5, float("inf")):
        with pytest.raises(ValueError, match="clip: 0 to 1"):
            Settings(clahe="matlab", clip=clip)
    with pytest.raises(ValueError, match="clip: 0 to 1 for clahe 'matlab', finite"):
        Settings(clahe="opencv", clip=float("inf"))
    assert Settings(clahe="opencv", clip=40).clip == 40


def test_too_little_memory_is_one_line(tmp_path, monkeypatch, capsys):
    def jobs(*_):
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr(folder, "jobs", jobs)
    assert run(["dehaze", "run", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert told(capsys) == "saccade: not enough memory (std::bad_alloc)"


def test_a_folder_may_have_any_name(tmp_path, monkeypatch, hazy):
    monkeypatch.chdir(tmp_path)
    for name in ("7", "x.mp4"):
        Path(name).mkdir()
        Image.fromarray(hazy[:20, :30]).save(Path(name, "a.png"))
        assert run(["dehaze", "run", name, "--out", f"out-{name}/deep"]) == 0
        assert Path(f"out-{name}/deep/a.png").is_file()


@pytest.mark.parametrize("preset", ["video", "paper", "opencv"])
@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_a_place_for_the_frame_is_checked_and_filled(hazy, monkeypatch, preset, engine):
    monkeypatch.setattr(native, "available", lambda: engine == "native")
    small = np.ascontiguousarray(hazy[:70, :90])
    settings = Settings(clahe="opencv", clip=2.0) if preset == "opencv" else settings_for(preset)
    dehazer = VideoDehazer(settings)
    expected = VideoDehazer(settings)(small)
    locked = np.zeros_like(small)
    locked.flags.writeable = False
    wide = np.zeros((70, 180, 3), np.uint8)[:, ::2]
    for bad in (small[:9].copy(), wide, np.zeros(small.shape), locked, small.tolist()):
        with pytest.raises(ValueError, match="out is"):
            dehazer(small, out=bad)
    out = np.zeros_like(small)
    assert dehazer(small, out=out) is out
    assert (out == expected).all()
    again = VideoDehazer(settings)
    frame = small.copy()
    assert again(frame, out=frame) is frame
    assert (frame == expected).all()
