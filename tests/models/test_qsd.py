"""QSD-Transformer: what its published counts are made of, its weights of four bits, its projections and its factors."""

import pytest
import torch
from small_models import narrow

from saccade.graph import outputs
from saccade.layers import weighted_layers
from saccade.layers.attention import Attention
from saccade.layers.layer_scale import LayerScale
from saccade.layers.repconv import RepConv
from saccade.measure import model_size
from saccade.models import create_model
from saccade.transforms import QuantizeConfig, apply
from saccade.verify import wake

FOUR_BITS = QuantizeConfig("lsq", 4, steps="channel", skip=())

# Parameters with the steps of all weights, to the unit; millions that the released code counts; a share of those in 4 bits, as
# published ("fp32-equivalents", which are no parameters).
PUBLISHED = {
    "qsd_8m": (8_369_048, 8.43, 1.05),
    "qsd_15m": (15_160_432, 15.25, 1.91),
    "qsd_31m": (31_403_360, 31.53, 3.94),
    "qsd_55m": (55_442_576, 55.61, 6.95),
    "qsd_75m": (74_783_632, 75.02, 9.38),
    "qsd_124m": (123_879_152, 124.13, 15.52),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts(name):
    """The released code keeps two numbers more for each input channel of each layer: of a quantizer of activations that does
    nothing."""
    count, millions, equivalents = PUBLISHED[name]
    with torch.device("meta"):
        model = create_model(name)
        apply(model, FOUR_BITS)
    assert sum(p.numel() for p in model.parameters()) == count
    layers = weighted_layers(model).values()
    assert all(layer.form is not None for layer in layers)
    idle = 2 * sum(getattr(layer, "in_channels", None) or layer.in_features for layer in layers)
    assert round((count + idle) / 1e6, 2) == millions
    assert round((count + idle) * 4 / 32 / 1e6, 2) == equivalents


def test_every_layer_keeps_to_its_grid():
    model, x = narrow("qsd_small")
    apply(model, FOUR_BITS)
    model(x).square().mean().backward()
    for layer in weighted_layers(model).values():
        whole, step = layer.integers()
        assert -8 <= whole.min() < whole.max() <= 7
        assert all(len(row.unique()) <= 16 for row in whole)
        by_channel = step.view(-1, *[1] * (layer.weight.dim() - 1))
        assert torch.allclose(layer.used_weight(), whole * by_channel, atol=1e-6)
        assert layer.form.step.grad.isfinite().all()


def test_more_steps_of_one_picture_change_nothing():
    """Its neurons keep nothing."""
    model, x = narrow("qsd_small")
    wake(model, x)
    model.eval()
    with torch.no_grad():
        once, often = model(x[:1]), model(x[:1].expand(4, -1, -1, -1, -1), steps=True)
    assert once.std() > 0
    assert torch.allclose(often, once.expand_as(often), atol=1e-6)


def test_a_factor_for_each_channel_of_the_branches_of_attention_blocks():
    model = create_model("qsd_small", layer_scale=0.25)
    scales = [module for module in model.modules() if isinstance(module, LayerScale)]
    assert [len(scale.weight) for scale in scales] == [64] * 4
    assert all((scale.weight == 0.25).all() for scale in scales)
    assert not any(isinstance(m, LayerScale) for m in create_model("qsd_small", layer_scale=None).modules())


def test_merged_projections_are_dense_and_factored_ones_leave_the_grid_when_merged():
    merged = create_model("qsd_small", projection="merged")
    assert not any(isinstance(module, RepConv) for module in merged.modules())
    factored, x = narrow("qsd_small")
    apply(factored, FOUR_BITS)
    wake(factored, x)
    factored.eval()
    rep = next(module for module in factored.modules() if isinstance(module, RepConv))
    weight = rep.merged().weight.detach()
    assert max(len(row.unique()) for row in weight) > 16
    with pytest.raises(ValueError, match="projection must be one of factored, merged, got 'both'"):
        create_model("qsd_small", projection="both")


def test_sizes_are_four_bits_a_weight_and_the_rest_whole():
    """4 bits a weight, 32 of everything else."""
    with torch.device("meta"):
        model = create_model("qsd_31m")
        apply(model, FOUR_BITS)
    size = model_size(model)
    weights = sum(layer.weight.numel() for layer in weighted_layers(model).values())
    assert size.by_kind()["weight"] == 4 * weights
    rest = sum(p.numel() for p in model.parameters()) - weights
    assert size.bits == 4 * weights + 32 * rest
    assert size.megabytes == pytest.approx(16.44, abs=0.01)


def test_the_published_label_is_neither_parameters_nor_bytes():
    """15 million parameters of four bits: "1.8 M" in the paper. Ours lack the idle numbers of the released code."""
    with torch.device("meta"):
        model = create_model("qsd_15m")
        assert model_size(model, "paper_qsd").fp32_equivalents == 15_116_720
        apply(model, FOUR_BITS)
    size = model_size(model, "paper_qsd")
    assert size.fp32_equivalents == 15_160_432 * 4 / 32
    assert size.megabytes == pytest.approx(7.58, abs=0.01)
    assert model_size(model).megabytes == pytest.approx(8.0, abs=0.2)
    other, _ = narrow("qsd_small")
    apply(other, QuantizeConfig("lsq", 4, skip=("head",)))
    apply(other, QuantizeConfig("lsq", 8, skip=tuple(p for p in weighted_layers(other) if p != "head")))
    with pytest.raises(ValueError, match="weights have 4, 8 bits"):
        model_size(other, "paper_qsd")


def test_strides_leave_more_tokens_of_small_pictures():
    x = torch.rand(1, 3, 32, 32)
    for strides, side in (((2, 2, 2, 1), 2), ((1, 2, 2, 1), 4)):
        model = create_model("qsd_small", strides=strides).eval()
        attention = next(module for module in model.modules() if isinstance(module, Attention))
        with outputs(model, lambda path, module, a=attention: module is a) as seen:
            model(x)
        (maps,) = next(iter(seen.values()))
        assert maps.shape[-2:] == (side, side)
    with pytest.raises(ValueError, match=r"strides are four, each 1 or 2, got \(1, 2, 3, 1\)"):
        create_model("qsd_small", strides=(1, 2, 3, 1))
