"""Scoring goes on past bad pictures, and its JSON is JSON."""

from __future__ import annotations

import json

import numpy as np
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
