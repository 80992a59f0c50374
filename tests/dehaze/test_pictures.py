"""Files in every shape that people have, and folders with damaged ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from saccade.cli.main import run
from saccade.dehaze import Dehazer, Settings
from saccade.dehaze.pictures import Picture, read_picture, write_picture


def save(path: Path, image: np.ndarray, mode: str | None = None, **options) -> Path:
    whole = Image.fromarray(image)
    (whole.convert(mode) if mode else whole).save(path, **options)
    return path


def deep(path: Path, image: np.ndarray) -> Path:
    return write_picture(path, Picture(image))


def test_modes(tmp_path, hazy):
    small = np.ascontiguousarray(hazy[:40, :60])
    grey = read_picture(save(tmp_path / "grey.png", small, "L"))
    assert grey.pixels.shape == (40, 60)
    alpha = read_picture(save(tmp_path / "alpha.png", np.dstack([small, small[..., 0]])))
    assert (alpha.pixels == small).all()
    assert (alpha.alpha == small[..., 0]).all()
    palette = read_picture(save(tmp_path / "palette.gif", small, "P"))
    assert palette.pixels.shape == (40, 60, 3)
    cmyk = read_picture(save(tmp_path / "cmyk.jpg", small, "CMYK"))
    assert cmyk.pixels.shape == (40, 60, 3)
    assert np.abs(cmyk.pixels.astype(int) - small).mean() < 12
    bits = read_picture(save(tmp_path / "bits.png", small, "1"))
    assert bits.pixels.dtype == np.uint8
    with pytest.raises(ValueError, match=r"float.tiff: unreadable picture \(mode F, 32 bits"):
        read_picture(save(tmp_path / "float.tiff", small[..., 0].astype(np.float32)))


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
def test_sixteen_bits_stay_sixteen(tmp_path, hazy, name):
    wide = hazy[:40, :60].astype(np.uint16) * 257 - (hazy[:40, :60] > 0) * np.uint16(100)
    for image in (wide, wide[..., 0]):
        path = deep(tmp_path / name, np.ascontiguousarray(image))
        back = read_picture(path)
        assert back.pixels.dtype == np.uint16
        assert (back.pixels == image).all()
        out = Dehazer("paper")(back.pixels)
        assert out.dtype == np.uint16
        assert out.shape == image.shape
    with_alpha = write_picture(tmp_path / "alpha.png", Picture(wide, wide[..., 1].copy()))
    assert (read_picture(with_alpha).alpha == wide[..., 1]).all()
    assert write_picture(tmp_path / "deep.jpg", Picture(wide)).suffix == ".png"  # JPEG has 8 bits


def test_exif_turns_the_picture(tmp_path, hazy):
    image = Image.fromarray(hazy[:40, :60])
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "turned.png", exif=exif)
    assert read_picture(tmp_path / "turned.png").pixels.shape == (60, 40, 3)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["deep.png", "colour.png", "grey.tif", "rgb.tif", "deep.tif"])
def test_every_turn_of_every_kind(tmp_path, hazy, turn, name):
    stored = hazy[:20, :30, 0] if name[0] in "gd" else hazy[:20, :30]
    wide = stored.astype(np.uint16) * 257 if name[0] == "d" else stored
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"exif": exif} if name.endswith("png") else {"tiffinfo": {0x0112: turn}}
    save(tmp_path / name, np.ascontiguousarray(wide), **options)
    save(tmp_path / "plain.png", np.ascontiguousarray(stored), exif=exif)
    with Image.open(tmp_path / "plain.png") as file:
        upright = np.array(ImageOps.exif_transpose(file))
    found = read_picture(tmp_path / name).pixels
    assert found.dtype == wide.dtype
    assert (found == upright.astype(wide.dtype) * (257 if name[0] == "d" else 1)).all()


def test_a_transparent_grey_keeps_it(tmp_path, hazy):
    grey = hazy[:20, :30, 0].copy()
    grey[3, 4] = 7
    found = read_picture(save(tmp_path / "a.png", grey, transparency=7))
    assert found.alpha is not None
    assert (found.alpha == np.where(grey == 7, 0, 255)).all()
    out = write_picture(tmp_path / "b.png", found)
    assert (read_picture(out).alpha == found.alpha).all()


def test_arrays_that_are_no_pictures(noise):
    bad = noise.copy()
    bad[3, 4] = np.nan
    for array, words in (
        (bad, "3 values that are not finite"),
        (noise * 255, r"lies in \[0, 1\], this one in"),
        (noise - 1, r"lies in \[0, 1\]"),
        (noise[..., :2], r"\[H, W, 3\]"),
        (noise[:0], r"\[H, W, 3\]"),
        (noise.astype(np.int32), "int32"),
        ([1, 2], "not list"),
    ):
        with pytest.raises(ValueError, match=words):
            Dehazer("fidelity")(array)
    for preset, changes, words in (
        ("fidelty", {}, "unknown preset 'fidelty'; known: paper, demo"),
        ("paper", {"epsilon": 1}, "unknown setting 'epsilon'; known: airlight_fraction"),
        ("paper", {"window": 4}, "odd number of pixels"),
        ("paper", {"eps": 2}, "eps: a share between 0 and 1"),
        ("paper", {"clahe": "matlap"}, "clahe: matlab, opencv or none"),
    ):
        with pytest.raises(ValueError, match=words):
            Dehazer(preset, **changes)


def test_auto_window_follows_the_size():
    auto = Settings(window="auto")
    assert auto.window_for(600, 833) == 35
    assert auto.window_for(32, 32) == 3
    assert auto.window_for(2000, 2800) > 100
    assert Settings().window_for(2000, 2800) == 35


def test_opencv_clahe_and_grey_floats(hazy):
    assert Dehazer("fidelity", clahe="opencv", clip=1.0)(hazy).dtype == np.uint8
    grey = hazy[..., 0] / np.float32(255)
    out = Dehazer("fidelity")(grey)
    assert out.dtype == np.float32
    assert out.shape == grey.shape


def test_run_on_a_folder_with_damaged_files(tmp_path, hazy, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deeper").mkdir(parents=True)
    save(source / "a.png", hazy[:60, :80])
    save(source / "deeper" / "b.jpg", hazy[:50, :70])
    save(source / "tiny.png", hazy[:1, :1])
    save(source / "half.png", hazy)
    data = (source / "half.png").read_bytes()
    (source / "half.png").write_bytes(data[: len(data) // 2])
    (source / "text.jpg").write_text("no picture")
    (source / "notes.txt").write_text("passed over")
    assert run(["dehaze", "run", str(source), "--out", str(out), "--parts"]) == 1
    told = capsys.readouterr()
    assert "wrote 3 of 5 pictures" in told.out
    assert f"{source / 'half.png'}: unreadable picture" in told.err
    assert f"{source / 'text.jpg'}: unreadable picture" in told.err
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"a.png", "deeper/b.jpg", "tiny.png", "a.transmission.png", "deeper/b.order.png", "report.html"} <= written
    assert not any(".part" in name for name in written)
    page = (out / "report.html").read_text()
    assert "sdo, preset clear" in page
    assert "2 could not be done" in page
    assert page.count('type="range"') == 3
    rows = json.loads((out / "dehaze.json").read_text())["pictures"]
    assert {"airlight", "theta", "clamped", "outside"} <= set(next(row for row in rows if "output" in row))
    again = Dehazer("clear")(np.array(Image.open(source / "a.png")))  # the default of the command
    assert (np.array(Image.open(out / "a.png")) == again).all()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nowhere", "--out", "x"], "nowhere: no such file or folder"),
        (["IN", "--out", "IN"], "would be written over themselves"),
        (["EMPTY", "--out", "x"], "holds no picture"),
        (["BROKEN.png", "--out", "x"], "unreadable picture"),
        (["IN", "--out", "x", "--method", "magic"], "unknown method 'magic'; known: sdo, dcp, cap, bccr, clahe"),
        (["IN", "--out", "x", "--preset", "magic"], "unknown preset 'magic'"),
        (["IN", "--out", "x", "--set", "eps"], "--set 'eps': write setting=value"),
        (["IN", "--out", "x", "--set", "eps=7"], "eps: a share between 0 and 1"),
        (["IN", "--out", "FILE"], "is a file; a folder of pictures needs a folder"),
    ],
)
def test_bad_input_is_one_line_and_two(tmp_path, monkeypatch, capsys, hazy, words, error):
    monkeypatch.chdir(tmp_path)
    Path("IN").mkdir()
    Path("EMPTY").mkdir()
    save(Path("IN/a.png"), hazy[:30, :30])
    Path("BROKEN.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = [word.replace("FILE", "IN/a.png") for word in words]
    assert run(["dehaze", "run", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert error in told
    assert "\n" not in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path, hazy, capsys):
    save(tmp_path / "a.png", hazy[:30, :30])
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert run(["dehaze", "run", str(tmp_path / "a.png"), "--out", str(locked / "b.png")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_place_that_cannot_be_written(tmp_path, hazy, capsys):
    save(tmp_path / "a.png", hazy[:30, :30])
    assert run(["dehaze", "run", str(tmp_path / "a.png"), "--out", str(tmp_path / "a.png" / "b.png")]) == 2
    told = capsys.readouterr().err
    assert "b.png: cannot be written" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("method", ["dcp", "cap", "bccr", "clahe"])
def test_baselines_run(tmp_path, hazy, method):
    save(tmp_path / "a.png", hazy[:60, :60])
    save(tmp_path / "g.png", hazy[:60, :60], "L")
    assert run(["dehaze", "run", str(tmp_path), "--out", str(tmp_path / "out"), "--method", method]) == 0
    assert np.array(Image.open(tmp_path / "out" / "g.png")).shape == (60, 60)


def test_eval_and_bench(tmp_path, hazy, capsys):
    from saccade.dehaze.synthesis import stereo_scene

    clear = (stereo_scene()[0][::2, ::2][:250, :370] * 255).astype(np.uint8)
    for name in ("hazy", "gt"):
        (tmp_path / name).mkdir()
    save(tmp_path / "hazy" / "7_outdoor_hazy.png", hazy)
    save(tmp_path / "gt" / "7_outdoor_GT.png", np.ascontiguousarray(clear))
    both = ["--hazy", str(tmp_path / "hazy"), "--gt", str(tmp_path / "gt")]
    assert (
        run(["dehaze", "eval", *both, "--methods", "hazy,fidelity,dcp", "--out", str(tmp_path / "s.json"), "--json"])
        == 0
    )
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["fidelity"]["psnr"] > rows["hazy"]["psnr"] + 4
    assert rows["fidelity"]["ciede2000"] < rows["hazy"]["ciede2000"]
    assert len(json.loads((tmp_path / "s.json").read_text())["rows"]) == 3
    assert run(["dehaze", "eval", "--hazy", str(tmp_path / "hazy"), "--methods", "hazy,paper"]) == 0
    assert "fade" in capsys.readouterr().out
    (tmp_path / "gt" / "7_outdoor_GT.png").rename(tmp_path / "gt" / "8_outdoor_GT.png")
    assert run(["dehaze", "eval", *both]) == 2
    assert "has no references" in capsys.readouterr().err
    assert run(["dehaze", "bench", "--size", "64x48", "--rounds", "3", "--json"]) == 0
    assert {row["preset"] for row in json.loads(capsys.readouterr().out)} >= {"paper", "fast"}
    assert run(["dehaze", "bench", "--size", "big"]) == 2


def test_missing_extra_is_one_line(monkeypatch):
    import sys

    from saccade.optional import need

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'saccade-snn\[dehaze\]'"):
        need("cv2", "dehaze")
