"""The networks of the compression papers: counts to the unit, and the 39 published sizes of QP-SNN."""

import pytest
import torch

from saccade.layers import Conv2d, Linear, QuantizeConfig, quantize_, unquantize_
from saccade.measure import model_size
from saccade.models import create_model
from saccade.models.vgg import VGG16, VGGSNN


def built(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def kept(widths, ratio):
    return [int(width * (1 - ratio)) for width in widths]


def megabytes(model, bits):
    """With its convolutions but the first quantised, as QP-SNN does."""
    head = next(path for path, m in model.named_modules() if isinstance(m, Linear))
    quantize_(model, QuantizeConfig("rescaw", bits, skip=("stem.0", head)))
    size = model_size(model).megabytes
    unquantize_(model)
    return size


def resnet20(classes, ratio):
    mids = {"low": (89, 51, 51, 102, 102, 102, 204, 204, 204), "high": (83, 32, 32, 64, 64, 64, 128, 128, 128)}[ratio]
    widths = {"low": (89, 179, 512), "high": (83, 166, 512)}[ratio]
    return built("resnet20_wide", num_classes=classes, stem=57, widths=widths, middles=mids)


def vgg(first, second, classes=10, size=32):
    channels = [*kept(VGG16[:7], first), *kept(VGG16[7:12], second), 512]
    return built("vgg16", num_classes=classes, image_size=size, channels=channels)


def vggsnn(first, second):
    return built("vggsnn", channels=[*kept(VGGSNN[:3], first), *kept(VGGSNN[3:7], second), 512])


QP_SIZES = [
    (lambda: resnet20(10, "low"), (6.27, 3.16, 1.61)),
    (lambda: resnet20(10, "high"), (3.92, 1.98, 1.02)),
    (lambda: vgg(0.45, 0.51), (4.28, 2.16, 1.10)),
    (lambda: vgg(0.49, 0.80), (1.45, 0.74, 0.39)),
    (lambda: resnet20(100, "low"), (6.45, 3.35, 1.79)),
    (lambda: resnet20(100, "high"), (4.10, 2.17, 1.20)),
    (lambda: vgg(0.45, 0.70, 100), (2.48, 1.35, 0.79)),
    (lambda: vgg(0.45, 0.78, 100), (1.85, 1.04, 0.63)),
    (lambda: vgg(0.45, 0.51, 200, 64), (5.90, 3.78, 2.72)),
    (lambda: vgg(0.45, 0.62, 200, 64), (4.67, 3.17, 2.41)),
    (lambda: vggsnn(0.5, 0.7), (1.61, 0.90, 0.55)),
    (lambda: vggsnn(0.5, 0.8), (1.05, 0.62, 0.41)),
    (lambda: vggsnn(0.82, 0.93), (0.40, 0.29, 0.24)),
]


@pytest.mark.parametrize(("build", "sizes"), QP_SIZES)
def test_published_sizes_of_qp_snn(build, sizes):
    model = build()
    for bits, size in zip((8, 4, 2), sizes, strict=True):
        assert megabytes(model, bits) == pytest.approx(size, abs=0.0051), bits


def test_counts_to_the_unit():
    model = built("resnet19")
    convs = [m for m in model.modules() if isinstance(m, Conv2d)]
    assert parameters(model) == 12_502_090
    assert sum(m.weight.numel() for m in convs[1:] if m.kernel_size == (3, 3)) == 12_312_576
    assert sum(m.weight.numel() for m in convs if m.kernel_size == (1, 1)) == 172_032
    wide = [m.weight.numel() for m in built("resnet20_wide").modules() if isinstance(m, Conv2d)]
    assert sum(wide[1:]) == 17_031_168
    quantised = sum(m.weight.numel() for m in [m for m in resnet20(10, "high").modules() if isinstance(m, Conv2d)][1:])
    assert quantised == 3_866_436


def test_bad_shapes():
    with pytest.raises(ValueError, match="image_size must be a multiple of 32, got 48"):
        create_model("vgg16", image_size=48)
    with pytest.raises(ValueError, match="resnet20 has 9 blocks, got 2 middle widths"):
        create_model("resnet20_wide", middles=(3, 3))
    with pytest.raises(ValueError, match="cannot lose channels: 64 to 32"):
        create_model("resnet20_wide", stem=64, widths=(32, 64, 64))


def test_size_by_kind():
    """By hand: two convolutions, one of them at 4 bits, two norms, a linear layer."""
    model = create_model("or_resnet18", stem="mnist", T=2, widths=(4,), pairs=(1,))
    quantize_(model, QuantizeConfig("lsq", 4))
    convs = [m for m in model.modules() if isinstance(m, Conv2d)]
    found = model_size(model).by_kind()
    quantised = sum(conv.weight.numel() for conv in convs[1:])
    assert found == {
        "weight": 32 * (convs[0].weight.numel() + 4 * 10) + 4 * quantised,
        "scale": 32 * (len(convs) - 1),
        "norm": 32 * 2 * 4 * len(convs),
        "bias": 32 * 10,
    }
    assert model_size(model).bits == sum(found.values())
