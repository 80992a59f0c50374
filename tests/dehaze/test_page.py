"""The page of a folder fits a phone, follows light and dark, and opens pictures only."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from saccade.report import write_comparison


def page_of(folder, picture):
    row = {"input": str(picture), "output": "out.png", "size": [8, 8], "cpu_seconds": 0.001}
    record = {"title": "t", "method": "sdo", "pictures": [row]}
    (folder / "dehaze.json").write_text(json.dumps(record))
    Image.new("RGB", (8, 8)).save(folder / "out.png")
    return write_comparison(folder).read_text()


def test_columns_are_never_wider_than_the_page_and_colours_follow_the_viewer(tmp_path):
    page = page_of(tmp_path, tmp_path / "out.png")
    assert "minmax(min(430px,100%),1fr)" in page
    assert "overflow-wrap:anywhere" in page
    assert "prefers-color-scheme:dark" in page
    assert "dehazed in 1 ms of CPU time" in page


def test_postscript_under_a_pictures_name_starts_nothing(tmp_path, monkeypatch):
    import subprocess

    (tmp_path / "in.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    )

    def started(*words, **_):
        raise AssertionError(f"started {words}")

    monkeypatch.setattr(subprocess, "Popen", started)
    assert "the picture is not there any more" in page_of(tmp_path, tmp_path / "in.png")


def test_names_that_are_not_utf8_get_a_page(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    try:
        (tmp_path / "in.png").rename(tmp_path / name)
    except OSError:
        pytest.skip("a file system of names that are text")
    assert "caf\ufffd.png" in page_of(tmp_path, tmp_path / name)
