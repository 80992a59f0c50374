"""Quantized models: what gets a form, what a file replays, what is refused."""

import pytest
import torch

from saccade.files import load_model, save_model
from saccade.layers import Conv2d, Linear, weight_forms
from saccade.layers.subbit import SubBit
from saccade.layers.weight_forms import Uniform
from saccade.models import create_model
from saccade.transforms import QuantizeConfig, fuse, quantize_, undo
from saccade.verify import verify, wake

TINY = {"stem": "cifar", "T": 4, "widths": (4, 6, 8, 10)}
METHODS = [("rescaw", 4), ("vanilla", 8), ("lsq", 3), ("dorefa", 2), ("binary", 1), ("balanced_binary", 1)]


def tiny():
    torch.manual_seed(0)
    return create_model("or_resnet18", **TINY).eval()


@pytest.mark.parametrize(("method", "bits"), METHODS)
def test_a_quantized_model_trains_saves_and_loads(method, bits, tmp_path):
    model, x = tiny(), torch.rand(4, 3, 16, 16)
    done = quantize_(model, QuantizeConfig(method, bits))
    assert done.left == ("stem.0", "head")
    convs = [m for m in model.modules() if isinstance(m, Conv2d)]
    assert len(done.layers) == len(convs) - 1
    assert convs[0].form is None
    assert all(len(conv.used_weight()[0].unique()) <= 2**bits for conv in convs[1:])
    wake(model, x)
    model.train()
    model(x, steps=True).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    save_model(model.eval(), tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert torch.equal(loaded(x), model(x))
    assert loaded(x).std() > 0


@pytest.mark.parametrize("method", ["rescaw", "balanced_binary"])
def test_a_quantized_model_keeps_its_promises(method):
    model = tiny()
    quantize_(model, QuantizeConfig(method, 1 if "binary" in method else 2))
    x = torch.rand(4, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    wake(model, x)
    found = verify(model, x, strict=True)
    assert found.passed, found.table()


def test_the_weights_come_back():
    model, x = tiny(), torch.rand(4, 3, 16, 16)
    wake(model, x)
    before = model(x)
    quantize_(model, QuantizeConfig("rescaw", 1))
    assert not torch.equal(model(x), before)
    undo(model, "quantize")
    assert torch.equal(model(x), before)
    assert model.transforms == []


def test_norms_fold_into_quantized_convolutions():
    model, x = tiny(), torch.rand(4, 3, 16, 16)
    quantize_(model, QuantizeConfig("rescaw", 2))
    wake(model, x)
    found = fuse(model, x)
    assert found.total_mismatch < 1e-3
    assert len(found.folded) == 20


def test_progress_reaches_the_forms():
    model = tiny()
    quantize_(model, QuantizeConfig("balanced_binary", 1))
    for form in weight_forms(model):
        form.before_epoch(0.5)
    assert {form._t for form in weight_forms(model)} == {1.0}


def test_paths_may_be_patterns():
    model = tiny()
    done = quantize_(model, QuantizeConfig(skip=("stem.*", "blocks.*.backbone.0", "head")))
    assert {"stem.0", "blocks.0.backbone.0", "blocks.7.backbone.0", "head"} <= set(done.left)
    assert "blocks.0.backbone.3" in done.layers
    assert model.transforms == [done.config]
    assert done.config.skip == done.left  # a file names the layers, not the pattern


def test_bad_requests_leave_the_model_alone():
    model = tiny()
    with pytest.raises(ValueError, match="skip: 'nowhere' fits none of stem.0, "):
        quantize_(model, QuantizeConfig(skip=("nowhere",)))
    with pytest.raises(ValueError, match="bits must be 1 to 8, got 9"):
        quantize_(model, QuantizeConfig(bits=9))
    with pytest.raises(ValueError, match="unknown quantizer 'int8'; known: rescaw, vanilla"):
        QuantizeConfig("int8")
    with pytest.raises(ValueError, match="binary has 1 bit, not 4"):
        QuantizeConfig("binary", 4)
    with pytest.raises(ValueError, match="Identity has no convolution or linear layer"):
        quantize_(torch.nn.Identity(), QuantizeConfig())
    with pytest.raises(ValueError, match="SynaResNet has no weight forms"):
        undo(model, "quantize")
    assert all(m.form is None for m in model.modules() if isinstance(m, Conv2d | Linear))
    assert model.transforms == []
    quantize_(model, QuantizeConfig())
    with pytest.raises(ValueError, match=r"has a weight form already \(Uniform\)"):
        quantize_(model, QuantizeConfig())
    assert isinstance(next(m for m in model.modules() if isinstance(m, Conv2d) and m.form is not None).form, Uniform)


@pytest.mark.parametrize("shape", [(3, 1, 1, 1), (3, 4, 3, 3)])
@pytest.mark.parametrize("form", ["balanced_binary", "lsq"])
def test_weights_without_spread_stay_numbers(form, shape):
    """One input, or a channel of zeros: no NaN forward or backward (a neuron that gets NaN is silent, so nobody would see)."""
    weight = torch.zeros(shape, requires_grad=True)
    made = QuantizeConfig(form, 1 if form == "balanced_binary" else 2).form_for(weight)
    used = made(weight)
    used.sum().backward()
    assert used.isfinite().all()
    assert weight.grad.isfinite().all()
    single = torch.randn(3, 1, 1, 1)
    assert made(single).isfinite().all()


def test_moving_averages_leave_signs_alone(tmp_path):
    """An average of signs is no sign: a codebook's are copied."""
    from saccade.experiment import parse, run

    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    recipe = parse(
        {
            "name": "ema",
            "model": {
                "name": "or_resnet18",
                "config": {"stem": "mnist", "T": 2, "widths": [4, 8], "pairs": [1, 1]},
                "transforms": [{"name": "subbit", "config": {"eta": 4}}],
            },
            "data": {"name": "digits", "validation": 100, "train_size": 320, "test_size": 50},
            "train": {"epochs": 3, "batch_size": 32, "lr": 0.05, "ema": 0.9, "accelerator": "cpu"},
        }
    )
    run(recipe, tmp_path / "run", quiet=True, report=False)
    model = load_model(tmp_path / "run" / "model.safetensors")
    books = [m.form for m in model.modules() if isinstance(m, Conv2d) and isinstance(m.form, SubBit)]
    assert books
    assert all(set(book.signs.unique().tolist()) == {-1.0, 1.0} for book in books)
    assert any(not torch.equal(book.book, book.signs) for book in books)  # they have learnt
