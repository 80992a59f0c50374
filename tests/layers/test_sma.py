"""Multiscale attention and attention zoneout: what the weights sum to, and which values are replaced."""

from dataclasses import replace

import pytest
import torch

from saccade.layers import SMAConfig, scale_weights
from saccade.layers.sma import SMAS, azo, zoneout_points
from saccade.models import create_model
from saccade.neurons import NEURONS, Stream

T, N, C = 6, 3, 8


def maps(seed=0):
    return torch.randn(T, N, C, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def build(**changes):
    torch.manual_seed(0)
    return replace(SMAConfig(), **changes).build(C, T).double().eval()


@pytest.mark.parametrize("name", SMAS)
def test_weights_of_the_scales_sum_to_one(name):
    torch.manual_seed(0)
    sma = SMAS[name].build(C, T).double().eval()
    steps, channels = sma.weights([scale(maps()) for scale in sma.scales])
    assert channels.shape == (4, T, N, C)
    assert torch.allclose(channels.sum(0), torch.ones(T, N, C).double())
    if name == "sma_c":
        assert steps is None
    else:
        assert steps.shape == (4, T, N)
        assert torch.allclose(steps.sum(0), torch.ones(T, N).double())
    same = bool((channels == channels[:, :1]).all())
    assert same == (name == "sma_l")  # the lightweight one gives all steps the same


def test_it_is_the_formula():
    sma = build()
    x = maps()
    found = [scale(x) for scale in sma.scales]
    steps, channels = sma.weights(found)
    total = sum(steps[n][..., None, None, None] * channels[n][..., None, None] * found[n] for n in range(4))
    assert torch.allclose(sma(x), total)
    y = sum(found).mean((3, 4))
    first, _, last = sma.channel_weights
    logits = last(torch.relu(first(y))).view(T, N, 4, C)
    assert torch.allclose(channels, logits.softmax(2).permute(2, 0, 1, 3))
    first, _, last = sma.step_weights
    logits = last(torch.relu(first(y.mean(2).t()))).view(N, 4, T)
    assert torch.allclose(steps, logits.softmax(1).permute(1, 2, 0))


def test_one_scale_is_its_map_and_equal_logits_are_a_quarter_of_a_quarter():
    one = build(kernels=(3,))
    assert torch.allclose(one(maps()), one.scales[0](maps()))
    four = build()
    with torch.no_grad():
        for layers in (four.channel_weights, four.step_weights):
            layers[-1].weight.zero_()
            layers[-1].bias.zero_()
    assert torch.allclose(four(maps()), sum(scale(maps()) for scale in four.scales) / 16)


def test_channels_alone_are_causal_and_stream():
    sma = build(branches="channel", neuron=NEURONS["lif"])
    assert sma.causal
    x = maps()
    with torch.no_grad():
        whole = sma(x)
        later = x.clone()
        later[4:] += 1
        assert torch.equal(sma(later)[:4], whole[:4])
        stream = Stream(sma)
        assert torch.allclose(torch.cat([stream(x[:1]), stream(x[1:4]), stream(x[4:])]), whole, rtol=0, atol=1e-12)
    both = build()
    with pytest.raises(ValueError, match="looks at later steps, so it cannot be streamed"):
        Stream(both)
    with pytest.raises(ValueError, match="SMA built for T = 6 got a sequence of T = 5"):
        both(x[:5])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rcr", "rtr"), [(4, 2), (2, 6), (1, 1), (8, 3), (3, 4)])
def test_points_are_those_of_the_loop(seed, rcr, rtr):
    """As the published loop chooses them: steps by the sum over the batch, then channels within these steps."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(4, T, N, generator=generator).softmax(0)
    channels = torch.rand(4, T, N, C, generator=generator).softmax(0)
    points = zoneout_points(steps, channels, rcr, rtr)
    for n in range(4):
        late = sorted(range(T), key=lambda t, n=n: float(steps[n, t].sum()))[: T // rtr]
        least = sorted(range(C), key=lambda c, n=n, late=late: float(sum(channels[n, t, :, c].sum() for t in late)))
        for t in range(T):
            for c in range(C):
                assert bool(points[n, t, c]) == (t in late and t != 0 and c in least[: C // rcr])
    assert points.sum() <= 4 * (T // rtr) * (C // rcr)


def test_replaced_values_are_those_of_the_step_before_as_they_were():
    z = maps().requires_grad_()
    points = torch.zeros(T, C, dtype=torch.bool)
    points[2, 1] = points[3, 1] = points[5, 4] = True
    out = azo(z, points)
    for t in range(T):
        for c in range(C):
            source = t - 1 if points[t, c] else t
            assert torch.equal(out[t, :, c], z[source, :, c])  # steps 2 and 3 do not chain
    out.sum().backward()
    assert (z.grad[1, :, 1] == 2).all()
    assert (z.grad[2, :, 1] == 1).all()  # it is replaced, and replaces its successor
    assert (z.grad[3, :, 1] == 0).all()
    assert (z.grad[0, :, 0] == 1).all()


def test_zoneout_acts_in_training_alone_and_is_safe_where_nothing_is_chosen():
    x = maps()
    plain, noisy = build(), build(zoneout=(2, 2))
    noisy.load_state_dict(plain.state_dict())
    assert torch.equal(noisy(x), plain(x))
    assert not torch.equal(noisy.train()(x), plain.train()(x))
    for zoneout in ((2, 7), (9, 2), (8, 6)):  # no step, no channel, or step 0 alone
        build(zoneout=zoneout).train()(x).sum().backward()
    first = torch.rand(4, T, N)
    first[:, 0] = 0
    assert not zoneout_points(first, torch.rand(4, T, N, C), 2, T).any()
    without = zoneout_points(None, torch.rand(4, T, N, C), 2, 2)
    assert 0 < without.sum() <= 4 * 3 * 4


def test_published_counts_to_the_unit():
    def count(name, **changes):
        with torch.device("meta"):
            return sum(p.numel() for p in create_model(name, **changes).parameters())

    assert count("sma_vgg8", T=10) == 22_451_014
    assert count("sma_vgg8", T=16, num_classes=11) == 22_452_531
    assert count("sma_vgg8", T=14, num_classes=101) == 22_544_543
    assert count("sma_ms_resnet18") == 71_087_400  # 71.1 M: MS-ResNet-18 with eight attentions of 59.39 M
    assert count("sma_ms_resnet18") - count("ms_resnet18") == 59_393_664


def test_maps_of_a_model():
    model = create_model("sma_vgg8_small").eval()
    found = scale_weights(model, torch.rand(8, 2, 2, 34, 34).round())
    assert list(found) == ["layers.4"]
    steps, channels = found["layers.4"]
    assert steps.shape == (4, 8, 2)
    assert channels.shape == (4, 8, 2, 32)


def test_settings_that_cannot_be_are_refused():
    for changes, said in (
        ({"kernels": (2,)}, "kernels are odd numbers"),
        ({"branches": "time"}, "branches must be one of both, channel"),
        ({"zoneout": (0, 4)}, "zoneout is"),
        ({"c_reduction": 0}, "reductions are 1 or more"),
    ):
        with pytest.raises(ValueError, match=said):
            SMAConfig(**changes)
    with pytest.raises(ValueError, match="c_reduction 4 needs at least as many channels, got 3"):
        SMAConfig().build(3, T)
    with pytest.raises(ValueError, match="sma_blocks are 1 to 5"):
        create_model("sma_vgg8", sma_blocks=(6,))
    with pytest.raises(ValueError, match="sma_blocks are 1 to 8"):
        create_model("sma_ms_resnet18", sma_blocks=(9,))
