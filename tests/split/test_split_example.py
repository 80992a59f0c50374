"""The example that cuts a spiking classifier."""

import importlib.util
from pathlib import Path

import pytest
import split_models  # noqa: F401  (skips without the extra)
import torch

from saccade.split import Ledger

EXAMPLE = Path(__file__).parents[2] / "examples" / "split_spiking.py"


@pytest.mark.parametrize("codec", ["fp32", "int4"])
def test_a_cut_through_spikes_changes_no_gradient(codec):
    spec = importlib.util.spec_from_file_location("split_spiking", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    x, labels = torch.randn(4, 16, 64) * 3, torch.randint(10, (16,))
    front, back = example.halves()
    whole_front, whole_back = example.halves()
    ledger = Ledger()
    loss = example.step(front, back, x, labels, codec, ledger)
    spikes = whole_front(x)
    assert 0.02 < float(spikes.detach().mean()) < 0.6
    want = torch.nn.functional.cross_entropy(whole_back(spikes).mean(0), labels)
    want.backward()
    assert loss == float(want.detach())
    for one, two in zip(
        [*front.parameters(), *back.parameters()], [*whole_front.parameters(), *whole_back.parameters()], strict=True
    ):
        assert torch.equal(one.grad, two.grad)
    assert ledger.total(kind="activations") == 4 * 16 * 48 * 4 // (1 if codec == "fp32" else 8) + (
        0 if codec == "fp32" else 256
    )
