"""Where pictures go: never over a source or each other, and one that fails does not end the rest."""

from __future__ import annotations

import base64
import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import run
from saccade.dehaze import Dehazer, folder
from saccade.dehaze.pictures import Picture, write_picture


def save(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


def told(capsys) -> str:
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    return line


def test_a_source_is_never_written_over(tmp_path, monkeypatch, capsys, hazy):
    monkeypatch.chdir(tmp_path)
    small = np.ascontiguousarray(hazy[:20, :30])
    data = save(Path("a.png"), small).read_bytes()
    assert run(["dehaze", "run", "a.png", "--out", "a.gif"]) == 2
    assert "a.gif: cannot be written as .gif; known: .png" in told(capsys)
    assert run(["dehaze", "run", "a.png", "--out", "."]) == 2
    assert "a.png: would be written over itself as a.png; give another --out" in told(capsys)
    assert Path("a.png").read_bytes() == data
    write_picture(Path("deep.png"), Picture(small.astype(np.uint16) * 257))
    data = Path("deep.png").read_bytes()
    assert run(["dehaze", "run", "deep.png", "--out", "deep.jpg"]) == 2  # 16 bits would become deep.png
    assert "written over itself as deep.png" in told(capsys)
    assert Path("deep.png").read_bytes() == data
    data = save(Path("b.order.png"), small).read_bytes()
    assert run(["dehaze", "run", "b.order.png", "--out", "b.png", "--parts"]) == 0
    assert Path("b.order.png").read_bytes() == data
    assert Path("b.png.order.png").is_file()


def test_outputs_keep_apart(tmp_path, hazy):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = ("x.gif", "x.png", "x.ppm", "a.png", "a.order.png")
    for i, name in enumerate(names):
        save(source / name, np.ascontiguousarray(hazy[: 20 + i, :30]))
    assert run(["dehaze", "run", str(source), "--out", str(out), "--parts"]) == 0
    rows = json.loads((out / "dehaze.json").read_text())["pictures"]
    written = {Path(row["output"]).name for row in rows}
    assert written == {"a.png", "a.order.png", "x.png", "x.gif.png", "x.ppm.png"}
    for i, name in enumerate(names):
        (row,) = [row for row in rows if Path(row["input"]).name == name]
        assert row["size"] == [30, 20 + i]
    assert np.array(Image.open(out / "x.png")).shape == (21, 30, 3)  # x.png's own
    assert np.array(Image.open(out / "a.order.png")).shape == (24, 30, 3)
    assert np.array(Image.open(out / "a.png.order.png")).shape == (23, 30)


def test_one_that_cannot_be_written_does_not_end_the_rest(tmp_path, hazy, monkeypatch, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.png", "b.png"):
        save(source / name, np.ascontiguousarray(hazy[:20, :30]))
    save(source / "wide.webp", np.zeros((1, 300, 3), np.uint8))
    (out / "a.png").mkdir(parents=True)  # a folder stands in the way
    plain = Image.Image.save

    def limited(self, path, **options):
        if options.get("format") == "WEBP":
            raise ValueError("encoding error 5")
        return plain(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", limited)
    assert run(["dehaze", "run", str(source), "--out", str(out)]) == 1
    lines = capsys.readouterr().err
    assert f"{source / 'a.png'}: {out / 'a.png'}: cannot be written" in lines
    assert f"{source / 'wide.webp'}: {out / 'wide.webp'}: cannot be written (encoding error 5)" in lines
    assert (out / "b.png").is_file()
    assert (out / "report.html").is_file()
    assert not list(out.glob(".*"))


def test_a_full_disk_ends_a_folder(tmp_path, hazy, monkeypatch):
    jobs = [folder.Job(save(tmp_path / f"{i}.png", hazy[:9, :9]), tmp_path / "out" / f"{i}.png") for i in range(3)]

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        list(folder.run(jobs, folder.make("sdo", Dehazer())))


def test_long_names(tmp_path, hazy):
    name = "n" * 248 + ".png"
    assert write_picture(tmp_path / name, Picture(hazy[:9, :9])).name == name
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_signed_samples_name_their_file(tmp_path, capsys):
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "signed.tiff"
    assert cv2.imwrite(str(path), np.zeros((9, 9), np.int16))
    assert run(["dehaze", "run", str(path), "--out", str(tmp_path / "o.png")]) == 2
    assert "signed.tiff" in told(capsys)


def test_a_page_for_folders_only_and_never_over_anothers(tmp_path, hazy, capsys):
    source = tmp_path / "photos" / "hazy"
    source.mkdir(parents=True)
    save(source / "a.png", hazy[:20, :30].copy())
    assert run(["dehaze", "run", str(source), "--out", str(tmp_path / "photos")]) == 2
    assert f"{source}: lies inside {tmp_path / 'photos'}, whose own files" in told(capsys)
    out = tmp_path / "run"
    out.mkdir()
    (out / "report.html").write_text("of a training")
    assert run(["dehaze", "run", str(source / "a.png"), "--out", str(out)]) == 0
    assert run(["dehaze", "run", str(source), "--out", str(out)]) == 2
    assert "holds the report of something else" in capsys.readouterr().err
    assert (out / "report.html").read_text() == "of a training"
    assert not (out / "dehaze.json").exists()


def test_a_page_can_be_made_again_from_elsewhere(tmp_path, hazy, monkeypatch):
    from saccade.report import write_comparison

    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("elsewhere").mkdir()
    save(Path("in/a.png"), hazy[:20, :30].copy())
    for _ in range(2):
        assert run(["dehaze", "run", "in", "--out", "out"]) == 0
    page = Path("out/report.html").read_text()
    Path("out").rename("moved")
    monkeypatch.chdir("elsewhere")
    assert write_comparison("../moved").read_text() == page


def test_the_page_turns_grey_tiffs(tmp_path, hazy):
    import io

    from saccade.report.comparison import _inline

    Image.fromarray(hazy[:40, :60, 0].copy()).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    data = _inline(tmp_path / "a.tif")
    assert data is not None
    shown = np.array(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("L"))
    assert np.abs(shown.astype(int) - np.rot90(hazy[:40, :60, 0], -1)).mean() < 3
