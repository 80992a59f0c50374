"""The networks of the compression papers: counts to the unit, and the 39 published sizes of QP-SNN."""

import pytest
import torch

from saccade.layers import Conv2d, Linear
from saccade.measure import bit_operations, model_size, profile, shared_operations
from saccade.models import create_model, model_card
from saccade.transforms import QuantizeConfig, SubBitConfig, apply, undo
from saccade.verify import wake

VGG16, VGGSNN = (list(model_card(name).config.channels) for name in ("vgg16", "vggsnn"))


def built(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def kept(widths, ratio):
    return [int(width * (1 - ratio)) for width in widths]


def megabytes(model, bits):
    """With its convolutions but the first quantized, as QP-SNN does."""
    head = next(path for path, m in model.named_modules() if isinstance(m, Linear))
    apply(model, QuantizeConfig("rescaw", bits, skip=("stem.0", head)))
    size = model_size(model).megabytes
    undo(model, "quantize")
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
    quantized = sum(m.weight.numel() for m in [m for m in resnet20(10, "high").modules() if isinstance(m, Conv2d)][1:])
    assert quantized == 3_866_436


def test_bad_shapes():
    with pytest.raises(ValueError, match="sides must be multiples of 32, got 48"):
        create_model("vgg16", image_size=48)
    with pytest.raises(ValueError, match="resnet20 has 9 blocks, got 2 middle widths"):
        create_model("resnet20_wide", middles=(3, 3))
    with pytest.raises(ValueError, match="cannot lose channels: 64 to 32"):
        create_model("resnet20_wide", stem=64, widths=(32, 64, 64))


def test_size_by_kind():
    """By hand: two convolutions, one of them at 4 bits, two norms, a linear layer."""
    model = create_model("or_resnet18", stem="mnist", T=2, widths=(4,), pairs=(1,))
    apply(model, QuantizeConfig("lsq", 4))
    convs = [m for m in model.modules() if isinstance(m, Conv2d)]
    found = model_size(model).by_kind()
    quantized = sum(conv.weight.numel() for conv in convs[1:])
    assert found == {
        "weight": 32 * (convs[0].weight.numel() + 4 * 10) + 4 * quantized,
        "scale": 32 * (len(convs) - 1),
        "norm": 32 * 2 * 4 * len(convs),
        "bias": 32 * 10,
    }
    assert model_size(model).bits == sum(found.values())


S2NN_SIZES = {  # Mbit at 0.67, 0.56, 0.44 bits a weight; then binary and full, as printed
    ("resnet19", 10): (8.92, 7.55, 6.05, 13.04, 400.07),
    ("resnet19", 100): (10.40, 9.03, 7.53, 14.52, 401.55),
    ("vggsnn", 10): (7.86, 6.85, 5.74, 10.91, 296.60),
}


@pytest.mark.parametrize(("name", "classes"), S2NN_SIZES)
def test_published_sizes_of_s2nn(name, classes):
    """All nine, the binary rows and the full ones (5.745 prints as 5.74, and 401.544 as 401.55)."""
    *below, one, whole = S2NN_SIZES[name, classes]
    for eta, printed in zip((6, 5, 4), below, strict=True):
        model = create_model(name, num_classes=classes)
        apply(model, SubBitConfig(eta))
        assert model_size(model, "paper_s2nn").bits / 1e6 == pytest.approx(printed, abs=0.0075)
    model = built(name, num_classes=classes)
    apply(model, QuantizeConfig("binary", 1))
    for preset in ("paper_qp", "paper_s2nn"):
        assert model_size(model, preset).bits / 1e6 == pytest.approx(one, abs=0.0051)
    undo(model, "quantize")
    assert model_size(model).bits / 1e6 == pytest.approx(whole, abs=0.0065)


@pytest.mark.parametrize(
    ("name", "classes", "exact"),
    [
        ("resnet19", 10, (8.949, 7.576, 6.206)),
        ("resnet19", 100, (10.426, 9.054, 7.683)),
        ("vggsnn", 10, (7.838, 6.812, 5.787)),
    ],
)
def test_s2nn_by_its_own_formula(name, classes, exact):
    """eta a kernel, the codebooks, 1x1 kernels at a bit: what a file holds."""
    for eta, megabits in zip((6, 5, 4), exact, strict=True):
        model = create_model(name, num_classes=classes)
        apply(model, SubBitConfig(eta))
        assert model_size(model).bits / 1e6 == pytest.approx(megabits, abs=0.0006)


RESNET18 = [(64, 64, 56)] * 4 + [(64, 128, 28), *[(128, 128, 28)] * 3] + [(128, 256, 14), *[(256, 256, 14)] * 3]
RESNET18 += [(256, 512, 7), *[(512, 512, 7)] * 3]


def test_published_rows_of_the_parent():
    """Sub-bit ResNet-18 on ImageNet: BOPs 1.677, 0.883, 0.501, 0.297 G and 10.99, 7.324, 6.103, 4.882 Mbit of 3x3 kernels."""
    kernels = sum(a * b for a, b, _ in RESNET18)
    assert kernels * 9 / 1e6 == pytest.approx(10.99, abs=0.0051)
    for eta, giga, megabits in ((6, 0.883, 7.324), (5, 0.501, 6.103), (4, 0.297, 4.882)):
        found = sum(shared_operations(a, b, 9, side**2, eta) for a, b, side in RESNET18) / 1e9
        assert found == pytest.approx(giga, abs=0.001)
        assert kernels * eta / 1e6 == pytest.approx(megabits, abs=0.0011)
    assert sum(shared_operations(a, b, 9, side**2, 9) for a, b, side in RESNET18) / 1e9 == pytest.approx(
        1.677, abs=0.001
    )


def test_presets_are_named():
    with pytest.raises(
        ValueError,
        match="unknown preset 'mine'; known: paper_qp, paper_s2nn, paper_qsd; exact sizes are of packed files",
    ):
        model_size(built("vggsnn"), "mine")


def test_bit_operations_by_hand():
    """One layer of 4 bits after the stem: multiply-accumulates times bits, words of 64 channels, exact and approximate sums."""
    torch.manual_seed(0)
    model = create_model("vgg_small", channels=(6, 70, 8, 8, 8, 8), T=3).eval()
    apply(model, QuantizeConfig("rescaw", 4))
    subbit_sized = create_model("vgg_small", channels=(6, 70, 8, 8, 8, 8), T=3).eval()
    apply(subbit_sized, SubBitConfig(4))
    x = torch.rand(2, 3, 32, 32)
    wake(model, x)
    found = bit_operations(model, profile(model, x))
    assert "stem.0" not in found  # fed by pixels
    first, second = found["layers.1"], found["layers.4"]
    assert first.ace == 3 * 16**2 * 6 * 70 * 9 * 4
    assert first.words == 3 * 16**2 * 70 * 9 * 1 * 4
    assert second.words == 3 * 16**2 * 8 * 9 * 2 * 4  # 70 channels are two words
    assert second.patch_words == 3 * 16**2 * 9 * 2
    assert 0 < first.sops < first.approximate_sops < first.ace / 4  # borders have a smaller fan-out
    assert first.sops == pytest.approx(first.approximate_sops, rel=0.15)
    assert first.shared is None
    wake(subbit_sized, x)
    shared = bit_operations(subbit_sized, profile(subbit_sized, x))["layers.1"]
    assert shared.shared == 3 * 16**2 * (6 * 16 * 9 + 6 * 70 / 2)
    assert shared.ace == pytest.approx(3 * 16**2 * 6 * 70 * 9 * 4 / 9)
