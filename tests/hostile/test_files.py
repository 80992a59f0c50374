"""Broken and hostile files: one line each, from whatever reads them, and nothing is built or run on their word."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_models import narrow

from saccade.data.folder import read_image
from saccade.data.idx import read_idx
from saccade.data.safe_pickle import read_plain_pickle
from saccade.experiment import load_recipe, parse
from saccade.experiment.building import build_model
from saccade.files import load_model, load_packed, save_model, save_packed
from saccade.train import checkpoint
from saccade.transforms import apply

ODD = [None, -1, 0, 1e308, 2**63, "", "x", [], [[]], {}, {"name": "x"}, [{"name": "quantize"}], True, "$\\frac$"]


def one_line(function, *arguments):
    """Runs it; a ValueError of one line that is not too long is as good as a result. Anything else is raised."""
    words = ""
    try:
        function(*arguments)
    except (ValueError, OSError) as error:
        words = str(error)
    assert "\n" not in words
    assert len(words) < 700
    return words


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["saccade"])


def places(value, at=()):
    """The path to every part of nested metadata."""
    yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        yield from places(inner, (*at, key))


def changed(value, at, new):
    if not at:
        return new
    value = copy.deepcopy(value)
    place = value
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = new
    return value


def without(value, at):
    value = copy.deepcopy(value)
    place = value
    for key in at[:-1]:
        place = place[key]
    del place[at[-1]]
    return value


def variants(metadata):
    for at in places(metadata):
        if at:
            yield without(metadata, at)
        for new in ODD:
            yield changed(metadata, at, new)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    model, _ = narrow("or_resnet18_small", widths=(4, 6), pairs=(1, 1))
    apply(model.eval(), "quantize")
    save_model(model, folder / "model.safetensors", [str(k) for k in range(10)], (3, 16, 16))
    save_packed(model, folder / "packed.safetensors")
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 3, 16, 16)).sum().backward()
    optimizer.step()
    progress = checkpoint.Progress(epoch=1, history=[{"epoch": 0, "lr": 0.0, "train_loss": None, "seconds": 0.0}])
    checkpoint.save(folder / "checkpoint.safetensors", model.state_dict(), None, optimizer, progress)
    return folder


@pytest.mark.parametrize(
    ("name", "load"),
    [("model", load_model), ("packed", load_packed), ("checkpoint", checkpoint.load)],
    ids=["model", "packed", "checkpoint"],
)
@pytest.mark.parametrize("share", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_metadata_of_any_shape(files, name, load, share, tmp_path):
    path = files / f"{name}.safetensors"
    metadata, tensors = metadata_of(path), load_file(path)
    if name == "model":  # the weights are not read before the metadata are right
        metadata["config"]["gate_neuron"] = metadata["config"]["neuron"] = {"name": "tet", "config": {}}
    broken = tmp_path / "broken.safetensors"
    count = refused = 0
    for variant in itertools.islice(variants(metadata), 0, None, share):
        if isinstance(variant, dict) and isinstance(variant.get("groups"), list):
            variant = {**variant, "groups": variant["groups"][:1]}
        save_file(tensors, broken, {"saccade": json.dumps(variant)})
        refused += bool(one_line(load, broken))
        count += 1
    assert count > 300 / share
    assert refused > count / 10


def test_metadata_nested_without_end(files, tmp_path):
    for depth in (200, 20_000):
        text = '{"format": "saccade-model-2", "model": "vgg_small", "config": ' + "[" * depth + "]" * depth + "}"
        save_file({"a": torch.zeros(1)}, tmp_path / "deep.safetensors", {"saccade": text})
        assert one_line(load_model, tmp_path / "deep.safetensors")


@pytest.mark.parametrize(
    "config", [{"widths": [10**9, 8]}, {"pairs": [10**9, 1]}, {"widths": [2**62, 2**62]}, {"T": 10**12}]
)
def test_models_that_no_memory_holds(config, tmp_path):
    recipe = {"widths": [4, 8], "pairs": [1, 1], **config}
    metadata = {"format": "saccade-model-2", "model": "or_resnet18", "config": recipe, "transforms": []}
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", {"saccade": json.dumps(metadata)})
    assert "cannot build its model" in one_line(load_model, tmp_path / "m.safetensors")
    plan = {
        "name": "t",
        "model": {"name": "or_resnet18", "config": recipe},
        "data": {"name": "digits", "validation": 10},
        "train": {"epochs": 1, "batch_size": 4, "lr": 1e-3},
    }
    assert "or_resnet18" in one_line(build_model, parse(plan).model)


def test_a_budget_can_be_raised(monkeypatch):
    from saccade.models import create_bounded

    monkeypatch.setenv("SACCADE_MAX_PARAMETERS", "1000")
    with pytest.raises(ValueError, match="more than 1,000 parameters; set SACCADE_MAX_PARAMETERS"):
        create_bounded("or_resnet18_small", {})
    monkeypatch.setenv("SACCADE_MAX_PARAMETERS", "100000000")
    assert create_bounded("or_resnet18_small", {}).name == "or_resnet18_small"


RECIPE = """
name: t
model: {name: rows_mlp}
data: {name: digits, validation: 10}
train: {epochs: 3, batch_size: 4, lr: 1e-3}
"""
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RECIPE + "seed: 0\nseed: 1\n", "the key 'seed' stands twice"),
        (RECIPE + "notes: " + "[" * 1000 + "]" * 1000, "nested more than 50 deep"),
        (RECIPE + LAUGHS, "more than 50 aliases"),
        (RECIPE.replace("1e-3", "1e308"), "train.lr"),
        (RECIPE + "#" + "x" * (1 << 20), "bytes"),
        (RECIPE.replace("validation: 10", "validation: 10, crop_padding: 1000000000"), "data.crop_padding"),
        (RECIPE.replace("{name: rows_mlp}", "{name: rows_mlp, config: {name: x}}"), ""),
    ],
)
def test_recipes(text, words, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    answer = one_line(lambda: build_model(load_recipe(path).model))
    assert words in answer
    assert answer


def test_a_recipe_that_is_no_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in one_line(load_recipe, tmp_path / "pipe")


class Opcodes:
    """Pickles written by hand."""

    @staticmethod
    def hash_bomb():
        body = b"\x80\x02}("
        body += b")" + b"".join(b"q%c" % i + b"h%c" % i + b"\x86" for i in range(40))
        return body + b"K\x01u."

    @staticmethod
    def without_init():
        return b"\x80\x02}(X\x04\x00\x00\x00datacnumpy.core.multiarray\n_reconstruct\n)\x81u."

    @staticmethod
    def unhashable():
        return b"\x80\x02}(]K\x01u."

    @staticmethod
    def call():
        return pickle.dumps(eval)


@pytest.mark.parametrize("make", [Opcodes.hash_bomb, Opcodes.without_init, Opcodes.unhashable, Opcodes.call])
def test_pickles(make, tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(make())
    answer = one_line(read_plain_pickle, path)
    assert answer or make is Opcodes.without_init


def test_pickles_of_the_real_kind_are_read(tmp_path):
    path = tmp_path / "data_batch_1"
    content = {"data": np.arange(12, dtype=np.uint8).reshape(2, 6), "labels": [3, 4], b"names": ["a", b"b"]}
    path.write_bytes(pickle.dumps(content, protocol=2))
    found = read_plain_pickle(path)
    assert np.array_equal(found["data"], content["data"])
    assert found["labels"] == [3, 4]


@pytest.mark.parametrize("dimensions", [(0, 2**32 - 1, 2**32 - 1), (2**32 - 1,) * 4, (2, 3), (0, 28, 28)], ids=str)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx(dimensions, zipped, tmp_path):
    content = bytes([0, 0, 8, len(dimensions)]) + struct.pack(f">{len(dimensions)}I", *dimensions) + bytes(6)
    path = tmp_path / ("images.gz" if zipped else "images")
    path.write_bytes(gzip.compress(content) if zipped else content)
    answer = one_line(read_idx, path)
    if dimensions == (2, 3):
        assert read_idx(path).shape == (2, 3)
    else:
        assert answer


def test_pictures_keep_their_levels_or_are_refused(tmp_path):
    levels = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 64, 0)
    Image.fromarray(levels).save(tmp_path / "8.png")
    deep = levels.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "16.png")
    Image.fromarray(deep).save(tmp_path / "16.tif")
    Image.fromarray(levels.astype(np.int32) * 257).save(tmp_path / "32.tif")
    Image.fromarray((levels / 255).astype(np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "16.pgm").write_bytes(b"P5 64 64 65535\n" + deep.astype(">u2").tobytes())
    (tmp_path / "ps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    expected = read_image(tmp_path / "8.png", 64)
    assert expected.float().std() > 50
    for name in ("16.png", "16.tif", "16.pgm"):
        assert torch.equal(read_image(tmp_path / name, 64), expected), name
    for name in ("32.tif", "float.tif"):
        assert "32 bits a channel" in one_line(read_image, tmp_path / name, 64)
    assert "unreadable image" in one_line(read_image, tmp_path / "ps.png", 64)
    assert "no regular file" in one_line(read_image, tmp_path, 64)


def test_a_picture_that_is_too_large_is_not_decoded(tmp_path, monkeypatch):
    Image.new("1", (12_000, 9_000)).save(tmp_path / "large.png")
    assert "at most 100 million" in one_line(read_image, tmp_path / "large.png", 64)


def test_weights_that_are_not_finite_are_not_loaded(files, tmp_path):
    """A potential that is NaN never fires: such a network would answer as if nothing were wrong."""
    from safetensors import safe_open

    with safe_open(files / "model.safetensors", "pt") as opened:
        metadata = opened.metadata()
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (no mapping)
    key = next(key for key, value in tensors.items() if value.is_floating_point() and value.dim() == 4)
    tensors[key].view(-1)[0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors", metadata)
    words = one_line(load_model, tmp_path / "nan.safetensors")
    assert f"nan.safetensors: {key} holds values that are not finite" in words
