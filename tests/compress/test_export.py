"""Packed files: what comes back, how large they are to the byte, and what is refused."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from saccade.compress import plan_by_ratio, score
from saccade.files import load_packed, save_packed
from saccade.files.packed import from_bits, to_bits
from saccade.layers import Conv2d, Linear
from saccade.measure import exact_size, model_size
from saccade.models import create_model
from saccade.transforms import QuantizeConfig, SubBitConfig, apply, fuse
from saccade.verify import wake

FORMS = {
    "full": None,
    "rescaw-2": lambda m: apply(m, QuantizeConfig("rescaw", 2)),
    "rescaw-4-head": lambda m: apply(m, QuantizeConfig("rescaw", 4, skip=("stem.0",))),
    "vanilla-8": lambda m: apply(m, QuantizeConfig("vanilla", 8)),
    "lsq-3": lambda m: apply(m, QuantizeConfig("lsq", 3)),
    "lsq-4-channel": lambda m: apply(m, QuantizeConfig("lsq", 4, steps="channel")),
    "dorefa-4": lambda m: apply(m, QuantizeConfig("dorefa", 4)),
    "dorefa-1": lambda m: apply(m, QuantizeConfig("dorefa", 1)),
    "binary": lambda m: apply(m, QuantizeConfig("binary", 1)),
    "balanced_binary": lambda m: apply(m, QuantizeConfig("balanced_binary", 1)),
    "subbit-5": lambda m: apply(m, SubBitConfig(5)),
}


def woken(form="full", name="vgg_small", **options):
    torch.manual_seed(0)
    options = options or {"channels": (6, 8, 8, 10, 10, 12), "T": 2}
    model = create_model(name, **options).eval()
    if FORMS[form]:
        FORMS[form](model)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    wake(model, x)
    return model, x


@pytest.mark.parametrize("bits", range(1, 10))
def test_streams_of_bits(bits):
    codes = torch.randint(2**bits, (101,), generator=torch.Generator().manual_seed(bits))
    stream = to_bits(codes, bits)
    assert stream.numel() == -(-101 * bits // 8)
    assert torch.equal(from_bits(stream, bits, 101), codes)
    assert to_bits(torch.tensor([1, 0, 2]), 2).tolist() == [0b100001]
    with pytest.raises(ValueError, match="101 numbers of"):
        from_bits(stream[:-1], bits, 101)


@pytest.mark.parametrize("sample", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_packed_model_computes_the_same(form, sample, tmp_path):
    model, x = woken(form)
    path = tmp_path / "p.safetensors"
    save_packed(model, path, x if sample else None, classes=list("abcdefghij"), input_shape=(3, 32, 32))
    loaded = load_packed(path)
    before, after = model.double()(x.double(), steps=True), loaded.double()(x.double(), steps=True)
    assert before.std() > 0
    assert torch.allclose(after, before, atol=1e-4 * before.abs().max().item())


@pytest.mark.parametrize(
    ("name", "options"), [("resnet20_wide", {"widths": (8, 12, 16)}), ("resnet19", {"widths": (8, 12, 16)})]
)
def test_pruned_residual_networks_too(name, options, tmp_path):
    model, x = woken("rescaw-2", name, **options)
    apply(model, plan_by_ratio(score(model, criterion="random"), 0.3).transform())
    save_packed(model, tmp_path / "p.safetensors", x)
    loaded = load_packed(tmp_path / "p.safetensors")
    before, after = model.double()(x.double()), loaded.double()(x.double())
    assert before.std() > 0
    assert torch.allclose(after, before, atol=1e-4 * before.abs().max().item())


@pytest.mark.parametrize("form", FORMS)
def test_sizes_are_those_on_disk(form, tmp_path):
    """Payload: the bits that are counted, each stream rounded up to bytes; total: what the file system says."""
    model, x = woken(form)
    path = tmp_path / "p.safetensors"
    save_packed(model, path, x)
    found = exact_size(path)
    assert found.total == os.path.getsize(path) == found.payload + found.header
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert found.payload == sum(t.numel() * t.element_size() for t in tensors.values())
    layers = [m for m in model.modules() if isinstance(m, Conv2d | Linear)]
    formed = [layer for layer in layers if layer.form is not None]
    streams = sum(
        -(-int(part.numbers * part.bits) // 8)
        for m in formed
        for part in m.form.storage(m.weight)
        if part.kind != "scale"
    )
    scales = 4 * sum(len(m.weight) for m in formed if isinstance(m, Linear))  # no norm takes these up
    whole = 4 * sum(m.weight.numel() for m in layers if m.form is None)
    rest = 4 * sum(m.bias.numel() for m in layers if m.bias is not None)
    norms = 8 * sum(m.num_features for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert found.payload == streams + scales + whole + rest + norms
    counted = model_size(model).bits / 8
    steps = 4 * sum(m.form.step.numel() for m in formed) if form.startswith("lsq") else 0
    assert abs(found.payload - scales - counted + steps) <= len(formed) * 2


def test_codebook_storage_is_the_formula(tmp_path):
    model, x = woken("subbit-5")
    save_packed(model, tmp_path / "p.safetensors", x)
    with safe_open(tmp_path / "p.safetensors", "pt") as file:
        for path, layer in model.named_modules():
            if isinstance(layer, Conv2d) and layer.form is not None:
                index, book = file.get_tensor(f"{path}.codes"), file.get_tensor(f"{path}.codebook")
                kernels = layer.in_channels * layer.out_channels
                assert (index.numel(), book.numel()) == (-(-5 * kernels // 8), 32 * 9 // 8)
                words = from_bits(book, 1, 32 * 9).view(32, 9) * 2 - 1
                used = layer.used_weight().sign().flatten(0, 1).flatten(1)
                assert (used.unsqueeze(1) == words).all(2).any(1).all()  # every kernel is in the codebook


def test_fused_models_pack(tmp_path):
    model, x = woken()
    fused = fuse(model, x).model
    save_packed(fused, tmp_path / "p.safetensors", x)
    assert torch.allclose(load_packed(tmp_path / "p.safetensors")(x), fused(x), atol=1e-5)


def rewrite(path, change):
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["saccade"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(meta, tensors)
    save_file(tensors, path, {"saccade": json.dumps(meta)})


def short_book(meta, tensors):
    tensors["layers.1.codebook"] = tensors["layers.1.codebook"][:9]  # eight codewords of 32


def other_form(meta, tensors):
    meta["layers"]["head"] = {"values": "octal", "bits": {"codes": 2}, "shape": [10, 48]}
    tensors["head.codes"] = torch.zeros(120, dtype=torch.uint8)


DAMAGES = {
    "288 numbers of 1 bits take 36 bytes, not 9": short_book,
    "is damaged|are damaged": lambda meta, tensors: tensors.pop("layers.1.codes"),
    r"another model: 'head.bias' is \[3\] where": lambda meta, tensors: tensors.update({"head.bias": torch.zeros(3)}),
    "unknown kind of weight values 'octal'": other_form,
    "numbers of 5 bits take": lambda meta, tensors: tensors.update({"layers.1.codes": tensors["layers.1.codes"][:3]}),
    "damaged .RuntimeError": lambda meta, tensors: tensors.update({"layers.1.scale": torch.ones(3)}),
    "unknown model 'vgg99'": lambda meta, tensors: meta.update(model="vgg99"),
    r"not a packed file written by saccade \(saccade-packed-2\)": lambda meta, tensors: meta.update(format="other"),
    "unknown model transform 'shrink'": lambda meta, tensors: meta["transforms"].append(
        {"name": "shrink", "config": {}}
    ),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_files(message, tmp_path):
    model, x = woken("subbit-5")
    path = tmp_path / "p.safetensors"
    save_packed(model, path, x)
    rewrite(path, DAMAGES[message])
    with pytest.raises(ValueError, match=message) as error:
        load_packed(path)
    assert str(path) in str(error.value)


def test_not_a_packed_file(tmp_path):
    path = tmp_path / "p.safetensors"
    with pytest.raises(ValueError, match="no such packed file"):
        load_packed(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not a readable packed file"):
        load_packed(path)
    with pytest.raises(ValueError, match="not a"):
        exact_size(path)
    model, x = woken()
    save_packed(model, path, x)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        exact_size(path)
    with pytest.raises(ValueError, match="cannot be read"):
        exact_size(tmp_path / "none")
    with pytest.raises(ValueError, match="packing needs model.eval"):
        save_packed(model.train(), path, x)
    with pytest.raises(ValueError, match="only a model from create_model can be saved"):
        save_packed(torch.nn.Identity().eval(), path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_not_packed(value, tmp_path):
    """0.1 made a legal code of them."""
    model, x = woken("vanilla-8")
    with torch.no_grad():
        model.layers[4].weight[0, 0, 0, 0] = value
    with pytest.raises(
        ValueError, match=r"layers.4.weight holds values that are not finite, so the model is not packed"
    ):
        save_packed(model, tmp_path / "p.safetensors", x)
    assert not (tmp_path / "p.safetensors").exists()
