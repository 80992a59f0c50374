"""Program files: what every byte means, the fewest bytes that are exact, and damage of every kind."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import narrow
from torch import nn

from saccade.deploy import Program, Wire, load_program, lower, program_bytes, program_size, save_program
from saccade.deploy.operations.combine import Combine
from saccade.deploy.operations.gates import Deal, Peak
from saccade.deploy.operations.membrane import Membrane
from saccade.deploy.operations.mixing import Mix
from saccade.deploy.operations.movement import Pad
from saccade.deploy.operations.pooling import Window
from saccade.deploy.operations.quantized_membrane import StoredMembrane
from saccade.deploy.operations.synapse import Synapse, _levels
from saccade.deploy.operations.thresholds import Thresholds
from saccade.deploy.storage import decode, encode
from saccade.files import load_packed, save_packed
from saccade.layers import Conv2d, Linear
from saccade.neurons import LIFConfig
from saccade.transforms import QuantizeConfig, apply
from saccade.verify import wake


def again(array):
    record, data = encode(array)
    return decode(json.loads(json.dumps(record)), memoryview(data)), record, len(data)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 5), min_size=0, max_size=4),
    st.integers(-(2**62), 2**62),
    st.integers(1, 1000),
    st.integers(0, 40),
    st.integers(0, 2**32 - 1),
)
def test_arrays_come_back(shape, base, step, bits, seed):
    codes = np.random.default_rng(seed).integers(0, 1 << bits, shape)
    array = np.clip(base + step * codes, -(2**62), 2**62)
    found, _, size = again(array)
    assert found.dtype == np.int64
    assert np.array_equal(found, array)
    assert size <= array.nbytes


def test_arrays_without_bytes_are_bounded():
    record, data = encode(np.full((3, 5), 7))
    assert data == b""
    assert (decode(record, memoryview(data)) == 7).all()
    with pytest.raises(ValueError, match="1,099,511,627,776 equal numbers; 67,108,864 are the most"):
        decode(record | {"shape": [1 << 20, 1 << 20]}, memoryview(b""))


def test_the_fewest_bytes_are_taken():
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], (64, 32, 3, 3))
    assert again(signs)[2] == signs.size // 8  # one bit each
    assert again(rng.integers(-8, 8, (64, 32, 3, 3)))[2] == signs.size // 2
    assert again(rng.choice([-3, 0, 3], (10, 10)))[2] == 25
    assert again(np.full((7, 5), 12345))[2] == 0
    book = rng.choice([-1, 1], (16, 9))
    kernels = book[rng.integers(0, 16, 64 * 32)].reshape(64, 32, 3, 3)
    found, record, size = again(kernels)
    assert record["form"] == "codebook"
    assert np.array_equal(found, kernels)
    assert size == 64 * 32 // 2 + 18  # 4 bits a kernel, and the book: 4/9 of a bit a weight
    reals = rng.standard_normal((3, 2))
    assert np.array_equal(again(reals)[0], reals)


def program():
    torch.manual_seed(0)
    model = nn.Sequential(Conv2d(1, 4, 3, padding=1), LIFConfig(v_th=0.3).build(), nn.Flatten(2), Linear(64, 3)).eval()
    pixels = torch.randint(256, (3, 2, 1, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    return lower(model, pixels / 255, classes=("cat", "dog", "owl")), pixels.numpy()


def test_the_file_as_it_is_documented(tmp_path):
    """Read without our reader, as docs/format.md says."""
    made, _ = program()
    save_program(made, tmp_path / "net.sacc")
    data = (tmp_path / "net.sacc").read_bytes()
    assert data == program_bytes(made) == program_bytes(made)
    magic, version, total, length, of_text, of_arrays, of_head = struct.unpack("<4sIQIIII", data[:32])
    assert (magic, version, total) == (b"SACC", 1, len(data))
    text, arrays = data[32 : 32 + length], data[32 + length :]
    assert (zlib.crc32(text), zlib.crc32(arrays), zlib.crc32(data[:28])) == (of_text, of_arrays, of_head)
    head = json.loads(zlib.decompress(text))
    assert head["classes"] == ["cat", "dog", "owl"]
    assert head["input"] == [[1, 4, 4], 0, 255]
    weight = head["arrays"][head["operations"][0]["settings"]["weight"]["array"]]
    assert weight["form"] == "packed"
    bits = int.from_bytes(arrays[weight["at"] : weight["at"] + weight["bytes"]], "little")
    codes = [bits >> i * weight["bits"] & (1 << weight["bits"]) - 1 for i in range(36)]
    found = weight["base"] + weight["step"] * np.array(codes).reshape(weight["shape"])
    assert np.array_equal(found, made.operations[0].weight)
    assert all(record["at"] % 8 == 0 for record in head["arrays"])
    size = program_size(made)
    assert size.total == len(data) == size.weights + size.other + size.header
    assert Program.load(tmp_path / "net.sacc").classes == ("cat", "dog", "owl")
    assert repr(made) == "<Program for sequences: 4 operations from [1, 4, 4] of 0 to 255 to [3]>"


def test_weights_of_a_bit_and_below_are_as_small_in_the_file():
    for bits in (1, 4):
        own, x = narrow("vgg_small")
        pixels = (x * 255).round()
        apply(own, QuantizeConfig("rescaw", bits))
        wake(own, pixels / 255)
        lowered = lower(own.eval(), pixels / 255)
        hidden = [op.weight for op in lowered.operations if op.name == "synapse"][1:-1]
        stored = sum(len(encode(weight)[1]) for weight in hidden)
        assert stored <= sum(weight.size for weight in hidden) * bits / 8 + 8


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    made, _ = program()
    target = tmp_path / "net.sacc"
    target.write_bytes(b"old")

    def full(self, data):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"net.sacc: could not be written \(no space left\); the previous file"):
        save_program(made, target)
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["net.sacc"]


def sealed(data, head):
    """A file whose checksums are right, of other records."""
    length = struct.unpack("<I", data[16:20])[0]
    text, arrays = zlib.compress(head if isinstance(head, bytes) else json.dumps(head).encode()), data[32 + length :]
    fixed = struct.pack(
        "<4sIQIII", b"SACC", 1, 32 + len(text) + len(arrays), len(text), zlib.crc32(text), zlib.crc32(arrays)
    )
    return fixed + struct.pack("<I", zlib.crc32(fixed)) + text + arrays


def refused(path, data):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=str(path)) as error:
        load_program(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(path))
    return str(error.value)


def test_every_flipped_bit_and_every_length_is_noticed(tmp_path):
    made, _ = program()
    data, path = program_bytes(made), tmp_path / "net.sacc"
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data) * 8, 300):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        refused(path, bytes(damaged))
    for length in (*range(40), *rng.integers(40, len(data), 40)):
        refused(path, data[:length])
    assert "bytes where" in refused(path, data + b"\0")
    newer = bytearray(data)
    newer[4:8] = struct.pack("<I", 2)
    newer[28:32] = struct.pack("<I", zlib.crc32(newer[:28]))
    assert "a program file of version 2; this saccade reads 1" in refused(path, bytes(newer))


def places(value, at=()):
    """All paths into records."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*at, key))


def test_records_that_do_not_fit_are_refused_before_they_run(tmp_path):
    """With right checksums, as somebody could write them: any record changed to anything is refused or gives a program whose
    numbers lie where it was proven that they do."""
    made, pixels = program()
    data, path = program_bytes(made), tmp_path / "net.sacc"
    length = struct.unpack("<I", data[16:20])[0]
    original = json.loads(zlib.decompress(data[32 : 32 + length]))
    assert "more than 67,108,864 bytes" in refused(path, sealed(data, bytes(1 << 27)))
    assert "records are damaged" in refused(path, sealed(data, b"{"))
    choices = [
        None,
        True,
        -1,
        0,
        1,
        7,
        1 << 40,
        -(1 << 70),
        0.5,
        1e308,
        "x",
        "synapse",
        [],
        [3],
        [1, 1],
        {},
        {"array": 99},
    ]
    ran, stopped = 0, []
    for at in list(places(original))[1:]:
        for value in choices:
            head = json.loads(json.dumps(original))
            inner = head
            for key in at[:-1]:
                inner = inner[key]
            inner[at[-1]] = value
            if head == original:
                continue
            path.write_bytes(sealed(data, head))
            try:
                loaded = load_program(path)
            except ValueError as error:
                stopped.append(str(error))
                continue
            ran += 1
            try:
                found = loaded.trace(pixels)
            except ValueError:
                continue  # another input is taken
            for wire, seen in zip(loaded.wires, found, strict=True):
                assert seen.shape[2:] == wire.shape, at
                assert wire.low <= seen.min() <= seen.max() <= wire.high, at
            loaded.answer(found)
    assert len(stopped) > 500
    assert not any("\n" in line for line in stopped)
    assert ran > 10


MAP, LEAST = Wire((4, 6, 6), 0, 1), -(2**63)


def constants(*values):
    return np.array(values, np.int64).reshape(-1, 1, 1)


def membrane(kind=Membrane, decay=1, **more):
    one = constants(1)
    return kind((0,), one, constants(0), constants(decay), 1, constants(1)[None], "hard", constants(0), **more)


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (Combine((0,), constants(0), (constants(1),), (1 << 20,)), "shifts from 0 to 62"),
        (Combine((0,), constants(0), (constants(1),), (0,), 63), "shifts from 0 to 62"),
        (Combine((0, 0), constants(0), (constants(1 << 62), constants(-(1 << 62))), (0, 0)), "more than 62 bits"),
        (membrane(decay=LEAST), "more than 62 bits"),
        (membrane(StoredMembrane, edges=constants(0)[None], stored=constants(0, LEAST)[:, None]), "more than 62 bits"),
        (
            membrane(StoredMembrane, edges=np.zeros((1, 1, 7, 1), np.int64), stored=np.zeros((2, 1, 1, 1), np.int64)),
            "shape",
        ),
        (Thresholds((0,), constants(2), constants(0)[None]), "signs are 1 and -1"),
        (Mix((0,), constants(0), np.eye(2, dtype=np.int64), np.zeros((2, 1, 1, 1), np.int64)), "signs are 1 and -1"),
        (Peak((0,), (1, 1)), "axes"),
        (Peak((0,), (3,)), "axes"),
        (Pad((0,), -1), "-1 places"),
        (Window((0,), "mean", (2, 2), (1, 1), (0, 0)), "kind 'mean'"),
        (Window((0,), "max", (1 << 20, 1 << 20), (1, 1), (1 << 20, 1 << 20)), "padding"),
        (Synapse((0,), np.ones((3, 4, 1, 1), np.int64), (1, 1), (1 << 20, 1 << 20)), "padding"),
        (Synapse((0,), np.ones((3, 4, 1, 1), np.int64), (1,)), "windows"),
        (Synapse((0,), np.ones((3, 6), np.int64), (2, 1)), "has no strides"),
    ],
)
def test_what_no_operation_is(operation, why):
    """Numbers that would overflow, axes twice, memory that nobody has: they are refused when the wires are derived."""
    with pytest.raises(ValueError, match=why) as error:
        operation.made(*[MAP] * len(operation.inputs)).checked()
    assert "\n" not in str(error.value)


def test_a_number_is_not_dealt_to_steps():
    with pytest.raises(ValueError, match="no axis of steps"):
        Deal((0,)).made(Wire((), 0, 1))


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("outputs", [[1, 7]], "scales of the answer are arrays of float64"),
        ("offset", 0, "scales of the answer are arrays of float64"),
        ("operations", 1 << 62, "its stride is no tuple"),
    ],
)
def test_numbers_where_arrays_belong_and_numbers_of_many_bits(key, value, why, tmp_path):
    made, _ = program()
    data = program_bytes(made)
    head = json.loads(zlib.decompress(data[32 : 32 + struct.unpack("<I", data[16:20])[0]]))
    if key == "operations":
        head[key][0]["settings"]["stride"] = [1, value]
    else:
        head[key] = value
    assert why in refused(tmp_path / "net.sacc", sealed(data, head))


@pytest.mark.parametrize("method", ["lsq", "rescaw"])
def test_a_packed_file_gives_the_program_of_its_model(method, tmp_path):
    """Its weights are plain numbers that lie on a few levels: whole numbers again, as small, with the same spikes."""
    model, x = narrow("vgg_small", neuron="ie_lif", T=1)
    apply(model, {"name": "quantize", "config": {"method": method, "bits": 4, "skip": []}})
    wake(model.eval(), x)
    save_packed(model, tmp_path / "net.safetensors")
    pixels = torch.randint(256, (6, *x.shape[-3:]), generator=torch.Generator().manual_seed(0))
    whole = lower(model, pixels / 255)
    again_ = lower(load_packed(tmp_path / "net.safetensors"), pixels / 255)
    assert again_.notes == whole.notes
    for one, other in zip(whole.operations[3:], again_.operations[3:], strict=True):
        if one.name == "synapse":
            row = np.gcd.reduce(np.abs(one.weight.reshape(len(one.weight), -1)), 1).reshape(
                -1, *[1] * (one.weight.ndim - 1)
            )
            assert np.array_equal(one.weight // np.maximum(row, 1), other.weight)
    assert program_size(again_).weights <= program_size(whole).weights + 64
    spikes, others = whole.spikes(pixels.numpy()), again_.spikes(pixels.numpy())
    assert all(np.array_equal(spikes[path], others[path]) for path in spikes)


def test_weights_that_are_on_no_levels_stay_rounded():
    rng = np.random.default_rng(0)
    levels = rng.integers(-7, 8, (5, 40)) * np.float32(0.037)
    found, scale = _levels(levels.astype(np.float64))
    assert np.abs(found * scale[:, None] - levels).max() < 1e-8
    assert _levels(rng.normal(size=(5, 40))) is None
    assert _levels(np.concatenate([levels, rng.normal(size=(1, 40))])) is None
    dead, one = _levels(np.zeros((2, 9)))
    assert not dead.any()
    assert np.isfinite(one).all()
