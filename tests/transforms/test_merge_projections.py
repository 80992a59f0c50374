"""Merged projections: the same function, fed by spikes alone, quantized afterwards and not before."""

import pytest
import torch
from small_models import narrow

from saccade.layers.repconv import RepConv
from saccade.measure import profile
from saccade.models import create_model
from saccade.transforms import MergeProjectionsConfig, QuantizeConfig, apply, fuse, unroll
from saccade.verify import wake

FOUR_BITS = QuantizeConfig("lsq", 4, steps="channel", skip=())


def woken(name="qsd_small"):
    model, x = narrow(name)
    model, x = model.double(), x.double()
    wake(model, x)
    return model.eval(), x


def real_products(model, x):
    """Multiply-accumulates of real numbers in projections."""
    return sum(row.macs for row in profile(model, x).layers if any(part in row.name for part in (".q.", ".k.", ".v.")))


@pytest.mark.parametrize("name", ["qsd_small", "sdt_v2_small"])
def test_the_same_function_of_spikes(name):
    model, x = woken(name)
    with torch.no_grad():
        expected = model(x, steps=True)
    before = real_products(model, x)
    change = apply(model, "merge_projections")
    assert len(change.layers) == 8
    assert not any(isinstance(module, RepConv) for module in model.modules())
    assert not model.training
    with torch.no_grad():
        assert (model(x, steps=True) - expected).abs().max() <= 1e-9 * max(1, float(expected.abs().max()))
    assert before > 0 == real_products(model, x)


def test_some_of_them_then_four_bits_and_binary_spikes():
    model, x = woken()
    change = apply(model, MergeProjectionsConfig(("*.q.*",)))
    assert (len(change.layers), len(change.left)) == (2, 6)
    apply(model, "merge_projections")
    apply(model, FOUR_BITS)
    wake(model, x)
    assert unroll(model.eval(), x).flips == 0


def test_refusals():
    model, x = woken()
    folded = fuse(model, x).model
    with pytest.raises(ValueError, match="merging comes before fusing"):
        apply(folded, "merge_projections")
    apply(model, FOUR_BITS)
    with pytest.raises(ValueError, match=r"first has a weight form \(LSQ\), .* merge first, then quantize"):
        apply(model, "merge_projections")
    with pytest.raises(ValueError, match="has no re-parametrised convolutions to merge"):
        apply(create_model("sdt_v1_small"), "merge_projections")
