"""Integer inference of quantized layers: popcounts equal sums, integers give float64's spikes, tables equal convolutions."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from saccade.deploy.bitplanes import bitplane_conv, lower_layer, pack_channels, weight_planes
from saccade.deploy.lookup import codebook_words, lookup_conv, patch_codes, product_table
from saccade.layers import BatchNorm2d, Conv2d
from saccade.layers.subbit import SubBit
from saccade.layers.weight_forms import Binary, Uniform
from saccade.neurons import NEURONS, LIFConfig


def draw(*shape, rate=0.3, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (1, 0)])
def test_planes_equal_the_convolution(bits, stride, padding):
    x = draw(2, 70, 6, 7)  # more than one word of channels
    codes = torch.randint(2**bits, (5, 70, 3, 3), generator=torch.Generator().manual_seed(1))
    found = bitplane_conv(pack_channels(x), weight_planes(codes, bits), stride, padding)
    expected = F.conv2d(x.double(), (2 * codes - (2**bits - 1)).double(), stride=stride, padding=padding)
    assert np.array_equal(found, expected.long().numpy())


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_integers_give_the_spikes_of_float64(bits):
    torch.manual_seed(0)
    conv, norm = Conv2d(70, 24, 3, 1, 1, bias=False), BatchNorm2d(24)
    conv.form = Uniform(bits)
    x = draw(4, 8, 70, 9, 9)
    norm.train()
    for _ in range(60):
        norm(conv(x))
    with torch.no_grad():
        norm.weight.uniform_(-1.5, 1.5)
        norm.bias.uniform_(-0.2, 0.8)
    planes, lif = lower_layer(conv, norm.eval(), NEURONS["qp"])
    expected = NEURONS["qp"].build().double()(norm.double()(conv.double()(x.double())))
    acc = np.stack([bitplane_conv(pack_channels(step), planes, padding=1) for step in x])
    spikes = lif.run(acc)
    assert 0.1 < expected.mean() < 0.6
    assert set(lif.direction) == {-1, 1}
    assert np.array_equal(spikes, expected.byte().numpy())


def test_scales_fold_into_the_norm():
    """gamma of ReScaW multiplies a channel, so a norm can take it up: the same spikes from the bare levels."""
    torch.manual_seed(0)
    conv, norm = Conv2d(8, 6, 3, 1, 1, bias=False).double(), BatchNorm2d(6).double()
    conv.form = Uniform(2)
    x = draw(3, 8, 8, 9, 9).double()
    for _ in range(60):
        norm(conv(x))
    norm.eval()
    spikes = NEURONS["qp"].build()(norm(conv(x)))
    gamma = conv.form.scale(conv.weight).detach()
    levels = (2 * conv.form.codes(conv.weight) - 3) / 3
    slope = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bare = F.conv2d(x.flatten(0, 1), levels, padding=1) * (gamma * slope).view(-1, 1, 1)
    folded = bare + (norm.bias - norm.running_mean * slope).view(-1, 1, 1)
    assert 0.05 < spikes.mean() < 0.6
    assert torch.equal(NEURONS["qp"].build()(folded.unflatten(0, x.shape[:2])), spikes)


@pytest.mark.parametrize("eta", [4, 5, 6])
def test_tables_equal_the_convolution(eta):
    torch.manual_seed(eta)
    weight, x = torch.randn(7, 5, 3, 3), draw(2, 5, 8, 9, rate=0.15)
    form = SubBit(eta, weight)
    index = form.indices(weight)
    expected = F.conv2d(x.double(), form.signs[index].view(weight.shape).double(), padding=1)
    found = lookup_conv(x, index, form.signs)
    assert expected.abs().max() > 3
    assert np.array_equal(found, expected.long().numpy())


def test_patch_codes_slide():
    x = draw(2, 3, 6, 7)
    windows = F.unfold(x.flatten(0, 1).unsqueeze(1), 3, padding=1).view(2, 3, 9, 6, 7)
    expected = (windows.long() << torch.arange(9).view(9, 1, 1)).sum(2)
    assert np.array_equal(patch_codes(x).astype(np.int64), expected.numpy())


def test_empty_patches_are_as_many_as_expected():
    share = (patch_codes(draw(8, 4, 64, 64, rate=0.1), padding=0) == 0).mean()
    assert share == pytest.approx(0.9**9, abs=0.02)


def test_tables_fit_a_cache():
    for eta, size in ((4, 8), (5, 16), (6, 32)):
        words = codebook_words(SubBit(eta, torch.randn(2, 2, 3, 3)).signs)
        table = product_table(words)
        assert table.nbytes == size * 1024
        assert max(table.max(), -table.min()) == max(int(n) for n in np.bitwise_count([words, ~words & 511]).flat)


def test_what_cannot_be_lowered():
    conv, norm = Conv2d(4, 2, 3, bias=False), BatchNorm2d(2)
    with pytest.raises(ValueError, match="need weights of a uniform form"):
        lower_layer(conv, norm, NEURONS["qp"])
    conv.form = Binary()
    with pytest.raises(ValueError, match="need weights of a uniform form"):
        lower_layer(conv, norm, NEURONS["qp"])
    conv.form = Uniform(2)
    with pytest.raises(ValueError, match="tau=2, no input decay"):
        lower_layer(conv, norm, LIFConfig(tau=4.0))
    norm.weight.data[1] = 0
    with pytest.raises(ValueError, match="channel 1 has a scale of zero"):
        lower_layer(conv, norm, NEURONS["qp"])
    with pytest.raises(ValueError, match="spikes of 0 and 1 only"):
        pack_channels(torch.full((1, 2, 3, 3), 0.5))
