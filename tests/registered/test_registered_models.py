"""Every registered model passes the contract, small and woken; what verify checks of each is in tests/verify."""

import copy
import json

import pytest
import torch
from contract import same
from small_models import distinct, narrow

from saccade.files import fingerprint, load_model, save_model
from saccade.models import MODELS, create_model
from saccade.verify import wake


@pytest.mark.parametrize("name", distinct())
def test_model(name, tmp_path):
    model, x = narrow(name)
    model = model.double().eval()
    x = x.double()
    wake(model, x)
    with torch.no_grad():
        y = model(x, steps=True)
        assert y.shape[:2] == x.shape[:2]
        assert y.std() > 0, "an answer that is always the same proves nothing"
        same(model(x), y.mean(0) if model.readout == "mean" else y[-1], True, "read-out")
        same(copy.deepcopy(model)(x, steps=True), y, True, "a deepcopy")
        same(model(x.flip(1), steps=True).flip(1), y, False, "the other order of samples")
        for i in range(x.shape[1]):
            same(model(x[:, i : i + 1], steps=True), y[:, i : i + 1], False, f"sample {i} by itself")
        same(model(x.transpose(0, -1).contiguous().transpose(0, -1), steps=True), y, False, "another layout")
        assert model(x[:, :0]).shape == (0, *y.shape[2:])
        path = tmp_path / "model.safetensors"
        save_model(model.float(), path)
        again = load_model(path)
        assert fingerprint(again) == fingerprint(model)
        assert torch.equal(again(x.float()), model(x.float()))
        half = copy.deepcopy(model).bfloat16()(x.bfloat16())
        assert half.dtype == torch.bfloat16
        assert half.isfinite().all()


@pytest.mark.parametrize("name", distinct())
def test_model_learns_in_either_mode(name):
    """Gradients are finite and reach every parameter that has a say, in training and in eval mode."""
    model, x = narrow(name)
    wake(model, x)
    for mode in (True, False):
        model.train(mode).zero_grad()
        model(x, steps=True).square().mean().backward()
        reached = [p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters()]
        assert all(reached)
        assert sum(bool(p.grad.abs().sum() > 0) for p in model.parameters()) > 0.6 * len(reached)


@pytest.mark.parametrize("name", MODELS)
def test_card(name):
    """What files and recipes say of it is JSON and makes it again, and its card says what to know of it."""
    card = MODELS[name]
    settings = json.loads(json.dumps(card.config.settings()))
    assert card.config.changed(name, settings) == card.config
    assert card.summary
    assert card.source
    assert len(card.input) == 3
    with pytest.raises(ValueError, match=f"{name} takes no 'readot'; did you mean 'readout'"):
        create_model(name, readot="last")
