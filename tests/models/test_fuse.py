"""Fused copies against the models they come from, on networks that fire."""

import copy
from dataclasses import fields

import pytest
import torch
from torch import nn

from saccade.files import load_model, save_model
from saccade.layers import BatchNorm2d, Conv2d
from saccade.models import create_model, model_card
from saccade.neurons import NEURONS
from saccade.transforms import fuse
from saccade.verify import firing_rates, wake

TINY = {"stem": "cifar", "T": 4, "widths": (6, 8, 8, 10)}


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def options_of(name, options):
    known = {field.name for field in fields(model_card(name).config)}
    own = {"widths": (6, 8, 8), "stem": 6} if name in ("resnet19", "resnet20_wide") else {}
    return {key: value for key, value in (TINY | own | options).items() if key in known}


def woken(name, images, **options):
    torch.manual_seed(1)
    model = create_model(name, **options_of(name, options)).eval()
    wake(model, images)
    for (
        norm
    ) in model.modules():  # an eighth of the channels turned round and, unless all would be silent, one switched off
        if isinstance(norm, nn.BatchNorm2d):
            with torch.no_grad():
                norm.weight[1] *= -1
                norm.weight[0] = 0
    assert min(firing_rates(model, images).values()) > 0
    return model


def test_a_deep_network_of_levels_whose_float32_weights_turn_some_is_still_the_same_function():
    """Folded weights are rounded, one level among millions turns, and what follows differs everywhere: no fault of the fold."""
    torch.manual_seed(0)
    layers = []
    for channels in [3] + [12] * 31:
        layers += [Conv2d(channels, 12, 3, padding=1, bias=False), BatchNorm2d(12), NEURONS["ie_lif"].build()]
    model = nn.Sequential(*layers).eval()
    x = 5 * torch.rand(1, 4, 3, 96, 96)
    wake(model, x)
    found = fuse(model, x)
    assert len(found.folded) == 32
    assert 0 < found.total_mismatch < 0.05


FAMILIES = ["or_resnet18", "sew_resnet18", "ms_resnet18", "syna_resnet18", "iand_resnet18", "resnet19", "resnet20_wide"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_copy_without_norms_gives_the_same_spikes(name, images, tmp_path):
    model = woken(name, images)
    before = model(images)
    found = fuse(model, images)
    assert len(found.folded) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in found.model.modules())
    assert found.left == {}
    assert found.total_mismatch < 1e-3
    assert torch.equal(model(images), before), "the model was changed"
    assert "norms folded, 0 left" in str(found)
    double = copy.deepcopy(model).double()
    assert torch.allclose(fuse(double, images.double()).model(images.double()), double(images.double()), atol=1e-9)
    save_model(found.model, tmp_path / "fused.safetensors")
    assert torch.equal(load_model(tmp_path / "fused.safetensors")(images), found.model(images))


@pytest.mark.parametrize("neuron", ["lif", "tet", "if"])
def test_norms_fold_into_thresholds(images, neuron, tmp_path):
    """Weights keep their magnitudes; negative and zero gamma included."""
    model = woken("or_resnet18", images, neuron=neuron)
    found = fuse(model, images, into="threshold")
    conv, norm = model.stem[0], model.stem[1]
    fused = found.model
    assert torch.equal(fused.stem[0].weight[2:], (conv.weight * norm.weight.sign().view(-1, 1, 1, 1))[2:])
    assert torch.equal(fused.stem[0].weight[0], torch.zeros_like(conv.weight[0]))
    assert fused.stem_neuron.v_th.shape == (6,)
    assert found.total_mismatch < 1e-3
    assert torch.allclose(fused.double()(images.double()), model.double()(images.double()), rtol=1e-4, atol=1e-4)
    save_model(fused.float(), tmp_path / "fused.safetensors")
    assert torch.equal(load_model(tmp_path / "fused.safetensors")(images), fused(images))


def test_what_cannot_be_folded_is_refused_or_named(images):
    with pytest.raises(ValueError, match="something lies between the norm and a neuron"):
        fuse(woken("syna_resnet18", images), images, into="threshold")
    with pytest.raises(ValueError, match="a threshold can hold a norm only where the potential rests and resets at 0"):
        fuse(woken("or_resnet18", images, neuron="ma"), images, into="threshold")
    model = woken("or_resnet18", images)
    with pytest.raises(ValueError, match=r"needs model.eval\(\)"):
        fuse(model.train(), images)
    with pytest.raises(ValueError, match="norms fold into conv or threshold, not 'bn'"):
        fuse(model.eval(), images, into="bn")


class Shared(nn.Module):
    """The norm's input is used a second time."""

    def __init__(self, sees):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.sees = sees
        nn.init.constant_(self.norm.running_mean, 0.7)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + (y if self.sees else self.other(y * 2))


def test_a_norm_whose_input_is_used_twice_stays(images):
    """0.1 folded it, and found out only by comparing outputs."""
    for sees in (True, False):
        model = Shared(sees).eval()
        fused = fuse(model, images)
        assert fused.folded == []
        assert "norm" in fused.left
        assert torch.equal(fused.model(images), model(images))


def test_an_mlp_of_rows_loses_its_norms_too():
    """0.1 said 0 folded, 0 left, with three norms there."""
    torch.manual_seed(0)
    model, x = create_model("rows_mlp", widths=(12, 10, 8)).eval(), torch.rand(8, 4, 1, 8, 8)
    wake(model, x)
    for into in ("conv", "threshold"):
        fused = fuse(model, x, into)
        assert fused.folded == ["layers.1", "layers.4", "layers.7"]
        assert fused.left == {}
        assert fused.total_mismatch < 1e-3
        assert torch.allclose(fused.model(x), model(x), atol=1e-4)


class Folding(nn.Module):
    """Time folded by hand around torch's own layers, as other toolkits do."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.linear, self.norm1 = (
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.Linear(4, 5),
            nn.BatchNorm1d(5),
        )
        for norm in (self.norm, self.norm1):
            nn.init.constant_(norm.running_mean, 0.3)
            nn.init.constant_(norm.bias, 0.2)

    def forward(self, x):
        y = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        y = self.norm(y.flatten(0, 1)).relu().mean((-2, -1))
        return self.norm1(self.linear(y)).unflatten(0, x.shape[:2])


def test_models_of_others_are_fused():
    model, x = Folding().eval(), torch.rand(4, 2, 3, 8, 8)
    fused = fuse(model, x)
    assert fused.folded == ["norm", "norm1"]
    assert torch.allclose(fused.model(x), model(x), atol=1e-5)


def test_a_fused_model_is_not_fused_again(images):
    with pytest.raises(ValueError, match="fusing again comes before fusing|norms are folded"):
        fuse(fuse(woken("or_resnet18", images), images).model, images)


def test_a_norm_of_something_else_stays():
    x = torch.rand(2, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)).eval()
    found = fuse(model, x)
    assert found.left == {"2": "its input is the output of relu in 1, no layer's output as it is"}
    assert torch.equal(found.model(x), model(x))
