"""What programs cannot hold of transformers and integer neurons is refused by its path."""

import pytest
import torch
from small_models import narrow

from saccade.deploy import lower
from saccade.models import create_model
from saccade.transforms import QuantizeConfig, apply


@pytest.mark.parametrize(("name", "attention"), [("qsd_small", "qsdsa"), ("sdt_v1_small", "sdsa1")])
def test_attentions(name, attention):
    model, x = narrow(name)
    apply(model, QuantizeConfig("lsq", 4, steps="channel", skip=()))
    with pytest.raises(ValueError, match=rf"blocks\.\S+ \({attention}\) multiplies spikes by spikes"):
        lower(model.eval(), x)


def test_integer_neurons():
    model = create_model("rows_mlp", widths=(12, 10, 9), neuron="ie_lif").eval()
    with pytest.raises(ValueError, match=r"layers\.2 has 4 levels, and a program has binary spikes"):
        lower(model, torch.rand(model.T, 3, model.in_channels, 8, 8))
