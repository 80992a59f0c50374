"""Names that are no text: folders, classes, pictures, runs and their pages; and ends of files that are no Ctrl-D."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import saccade.models
from saccade.cli.main import run
from saccade.files import model_info

RECIPE = """
name: t
model: {name: or_resnet18, config: {stem: cifar, T: 2, widths: [4, 8], pairs: [1, 1], num_classes: 2}}
data: {name: folder, config: {size: 16}, validation: 6}
train: {epochs: 1, batch_size: 6, lr: 1e-3, accelerator: cpu}
stages: [profile, samples]
"""


@pytest.fixture
def odd_names(tmp_path, monkeypatch):
    """A data folder, a class and pictures with bytes that are no UTF-8."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    try:
        for part, count in ((b"train", 12), (b"test", 4)):
            for shade, name in enumerate((b"caf\xe9", b"dog")):
                folder = os.path.join(b"data\xff", part, name)
                os.makedirs(folder)
                for number in range(count):
                    pixels = np.clip(rng.normal(80 + 90 * shade, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(os.fsdecode(os.path.join(folder, b"p\xfe%d.png" % number)))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux only")
def test_names_that_are_no_text(odd_names, capfd):
    def go(*words):
        code = run([os.fsdecode(word) for word in words])
        out, err = capfd.readouterr()
        assert code == 0, err
        return out

    picture = b"data\xff/test/caf\xe9/p\xfe1.png"
    go("train", "r.yaml", "--data", b"data\xff", "--out", b"run\xfd", "--quiet")
    directory = os.fsdecode(b"run\xfd")
    page = (Path(directory) / "report.html").read_bytes().decode("utf-8")
    assert "caf\\xe9" in page
    assert model_info(os.path.join(directory, "model.safetensors"))["classes"] == ["caf\\xe9", "dog"]
    assert "caf\\xe9" in go("evaluate", b"run\xfd")
    (found,) = json.loads(go("predict", b"run\xfd/model.safetensors", picture, "--json"))
    assert os.fsencode(found["image"]) == picture
    json.loads(go("profile", b"run\xfd", "--json"))
    go("report", b"run\xfd")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux only")
def test_pictures_whose_names_are_no_text_are_dehazed(odd_names, capfd):
    pytest.importorskip("cv2")
    for target in (b"o\xfa.png", b"o\xfa"):
        source = b"data\xff/test/caf\xe9" + (b"/p\xfe1.png" if target.endswith(b"png") else b"")
        code = run(["dehaze", "run", os.fsdecode(source), "--out", os.fsdecode(target)])
        assert code == 0, capfd.readouterr().err
    assert len(os.listdir(b"o\xfa")) == 6  # the pictures, dehaze.json, report.html
    assert b"\xef\xbf\xbd" in (Path(os.fsdecode(b"o\xfa")) / "report.html").read_bytes()


def test_the_end_of_a_file_is_no_interruption(monkeypatch, capsys):
    def ends(*_):
        raise EOFError("compressed file ended")

    monkeypatch.setattr(saccade.models, "list_models", ends)
    assert run(["models"]) == 2
    assert capsys.readouterr().err.strip() == "saccade: a file ends too early (compressed file ended)"


def test_what_a_terminal_would_obey_is_shown(capsys):
    assert run(["evaluate", "x\x1b[31my"]) == 2
    err = capsys.readouterr().err
    assert "x\\x1b[31my" in err
    assert "\x1b" not in err
