"""Scoring goes on past bad pictures, and its JSON is JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import run


def strict(text: str):
    def refuse(word: str):
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def test_bad_pictures_are_named_and_left_out(tmp_path, hazy, capsys):
    for name in ("hazy", "gt"):
        (tmp_path / name).mkdir()
        Image.fromarray(hazy[:40, :50]).save(tmp_path / name / "1.png")
        Image.fromarray(hazy[:5, :5]).save(tmp_path / name / "2.png")
        Image.fromarray(hazy[:40, : 30 if name == "gt" else 50]).save(tmp_path / name / "3.png")
        (tmp_path / name / "4.png").write_text("no picture")
    words = ["dehaze", "eval", "--hazy", str(tmp_path / "hazy"), "--methods", "hazy,fidelity"]
    assert run([*words, "--gt", str(tmp_path / "gt"), "--out", str(tmp_path / "s.json"), "--json"]) == 1
    told = capsys.readouterr()
    for name in (
        "2.png: SSIM has windows of 11 x 11 pixels; the picture is 5 x 5",
        "3.png: 50 x 40, its reference 30 x 40",
        "4.png: unreadable",
    ):
        assert str(tmp_path / "hazy" / name) in told.err
    rows = strict(told.out)
    assert rows == strict((tmp_path / "s.json").read_text())["rows"]
    assert [row["picture"] for row in rows if "error" in row] == ["2.png", "3.png", "4.png"]
    assert [row["psnr"] for row in rows if row.get("method") == "hazy"] == [None]  # equal pictures: no number in JSON
    assert run(words) == 1
    told = capsys.readouterr()
    assert "8 x 8" in told.err
    assert "mean" in told.out


def test_the_smallest_scale(tmp_path, hazy, capsys):
    Image.fromarray(np.ascontiguousarray(hazy[:40, :50])).save(tmp_path / "1.png")
    assert run(["dehaze", "eval", "--hazy", str(tmp_path), "--methods", "hazy", "--scale", "0.001"]) == 1
    assert "1.png: FADE works on blocks" in capsys.readouterr().err


@pytest.mark.parametrize("larger", ["gt", "hazy"])
def test_a_border_of_equal_width_is_cropped_and_said(tmp_path, hazy, capsys, larger):
    """RESIDE's indoor references are 640 x 480 where its hazy pictures are 620 x 460."""
    whole, inner = np.ascontiguousarray(hazy[:80, :100]), np.ascontiguousarray(hazy[10:70, 10:90])
    for name in ("hazy", "gt"):
        (tmp_path / name).mkdir()
        for i in "12":
            Image.fromarray(whole if name == larger else inner).save(tmp_path / name / f"{i}.png")
    words = [
        "dehaze",
        "eval",
        "--hazy",
        str(tmp_path / "hazy"),
        "--gt",
        str(tmp_path / "gt"),
        "--methods",
        "hazy,clear",
    ]
    assert run([*words, "--json"]) == 0
    rows = strict(capsys.readouterr().out)
    whose = "reference" if larger == "gt" else "hazy picture"
    said = f"{whose} 100 x 80 to its centre 80 x 60"
    assert [row["cropped"] for row in rows] == [said] * 4
    assert all(row["ssim"] == 1 for row in rows if row["method"] == "hazy")  # the very same pixels
    assert run(words) == 0
    assert f"cropped for 2 of 2 pictures: {said}" in capsys.readouterr().out
    assert run([*words, "--strict-sizes"]) == 1
    assert "1.png: " in capsys.readouterr().err


@pytest.mark.parametrize("box", [(0, 0, 98, 79), (0, 0, 99, 79), (0, 0, 96, 78)])
def test_other_differences_of_size_are_refused(tmp_path, hazy, capsys, box):
    for name in ("hazy", "gt"):
        (tmp_path / name).mkdir()
        image = Image.fromarray(np.ascontiguousarray(hazy[:80, :100]))
        (image.crop(box) if name == "hazy" else image).save(tmp_path / name / "1.png")
    words = ["dehaze", "eval", "--hazy", str(tmp_path / "hazy"), "--gt", str(tmp_path / "gt"), "--methods", "hazy"]
    assert run(words) == 1
    assert "its reference 100 x 80" in capsys.readouterr().err
