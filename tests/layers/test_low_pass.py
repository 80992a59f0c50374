"""Pictures without their high frequencies, step by step."""

import pytest
import torch

from saccade.layers import low_pass


def test_a_mask_of_the_whole_spectrum_changes_nothing():
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    assert torch.allclose(low_pass(x, (16, 99))[0], x, atol=1e-12)
    assert torch.allclose(low_pass(x, (16, 99))[1], x, atol=1e-12)


def test_narrow_masks_keep_what_is_even_and_drop_waves():
    columns = torch.arange(32, dtype=torch.float64)
    for cycles, width, kept in ((3, 4, True), (3, 3, False), (7, 4, False)):  # the mask lacks +width, has -width
        wave = (1 + 0.5 * torch.cos(2 * torch.pi * cycles * columns / 32)).expand(1, 1, 32, 32)
        found = low_pass(wave, (width,))[0]
        assert torch.allclose(found, wave, atol=1e-9) == kept
    even = torch.full((1, 1, 32, 32), 0.3, dtype=torch.float64)
    assert torch.allclose(low_pass(even, (1,))[0], even)


def test_gradients_pass_every_step_and_bad_widths_are_refused():
    x = torch.rand(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    assert low_pass(x, (8, 4, 2)).shape == (3, 1, 1, 16, 16)
    for step in low_pass(x, (8, 4, 2)):
        (g,) = torch.autograd.grad(step.square().sum(), x, retain_graph=True)
        assert g.isfinite().all()
        assert g.abs().sum() > 0
    for bad in ((), (4, 0)):
        with pytest.raises(ValueError, match="whole numbers from 1"):
            low_pass(x, bad)
