"""Every defect is caught by the right check with the layer named, and its mended form passes."""

import pytest
import torch
import verify_replicas as replicas
from torch import nn

from saccade.layers import TimeGate
from saccade.neurons import LIF
from saccade.verify import verify, wake


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(T=4, n=3):
    return torch.rand(T, n, 2, 6, 6)


def vectors(T=4, n=3):
    return torch.rand(T, n, 6)


def statuses(found):
    return {check.name: check.status for check in found.checks}


def failed(found):
    return [check.name for check in found.checks if check.status == "FAIL"]


def test_blocks_evaluated_twice_emit_two():
    block = replicas.Headed(replicas.OrBlock(twice=True), 3)
    found = verify(block, images(), time_axis="first", reset=replicas.reset_hidden, spiking=["HiddenLIF"])
    assert found["alphabet"].layer == "body"
    assert "gives -1, 2 (" in found["alphabet"].detail
    assert "alphabet" in failed(found)
    mended = replicas.Headed(replicas.OrBlock(twice=False), 3)
    found = verify(mended, images(), time_axis="first", reset=replicas.reset_hidden, spiking=["HiddenLIF"], strict=True)
    assert failed(found) == []
    assert statuses(found)["whole = chunks"] == "PASS"  # its state outlives a call, so it streams without a reset


def test_blocks_evaluated_twice_do_not_stream():
    block = replicas.Headed(replicas.OrBlock(twice=True), 3)
    found = verify(block, images(), time_axis="first", reset=replicas.reset_hidden, spiking=["HiddenLIF"])
    assert found["whole = chunks"].status == "FAIL"


def test_gates_over_the_batch():
    model = replicas.Gated(replicas.BatchTimeGate)
    x = images(T=4, n=6)
    wake(model, x)
    found = verify(model, x, time_axis="first")
    assert failed(found) == ["alone = in a batch"]
    assert found["alone = in a batch"].layer == "ia.gates.0.neuron"
    mended = replicas.Gated(TimeGate)
    wake(mended, x)
    found = verify(mended, x, time_axis="first", strict=True)
    assert failed(found) == []
    assert found["causal"].status == "SKIP"
    assert "ia" in found["causal"].layer


def test_neurons_over_time_and_batch():
    x = torch.rand(4, 3, 3, 6, 6)
    found = verify(replicas.TokenMixer(mended=False), x, time_axis="first")
    assert "alone = in a batch" in failed(found)
    assert found["alone = in a batch"].layer == "proj_lif"
    assert "folded" in found["alone = in a batch"].detail
    assert failed(verify(replicas.TokenMixer(mended=True), x, time_axis="first", strict=True)) == []


def test_state_without_reset():
    found = verify(replicas.HiddenNet(), vectors(), time_axis="first", spiking=["HiddenLIF"])
    assert failed(found) == ["calls agree"]  # the other checks ran on fresh copies
    assert found["calls agree"].layer == "lif1"
    assert "reset" in found["calls agree"].detail
    reset = replicas.reset_hidden
    found = verify(replicas.HiddenNet(), vectors(), time_axis="first", spiking=["HiddenLIF"], reset=reset, strict=True)
    assert failed(found) == []
    assert statuses(found) == {
        "calls agree": "PASS",
        "alone = in a batch": "PASS",
        "causal": "PASS",
        "layers in time": "SKIP",
        "whole = chunks": "PASS",
        "alphabet": "PASS",
        "gradients in eval": "PASS",
        "activity": "PASS",
    }


def test_float32_spikes_and_parts_of_a_neuron():
    model = replicas.mlp(replicas.First(), neuron=replicas.NarrowLIF())
    found = verify(model, vectors(), time_axis="first", spiking=["HiddenLIF"])  # a base class will do
    assert failed(found) == ["calls agree"]
    assert found["calls agree"].layer == "1"  # the neuron, not the part of it that differed first
    assert found.inputs[-1] == "output of NarrowLIF cast up to float64"
    reset = replicas.reset_hidden
    assert verify(model, vectors(), time_axis="first", spiking=["HiddenLIF"], reset=reset, strict=True).passed


def test_reset_that_misses_a_layer():
    def reset(model):
        model.lif1.v = None

    found = verify(replicas.HiddenNet(), vectors(), time_axis="first", spiking=["HiddenLIF"], reset=reset)
    assert failed(found) == ["calls agree"]
    assert found["calls agree"].layer == "lif2"
    assert "although reset was called" in found["calls agree"].detail


def test_models_that_loop_over_time():
    found = verify(replicas.SteppedNet(), vectors(), time_axis="first", spiking=["Cell"], strict=True)
    assert failed(found) == []
    assert found["causal"].status == "PASS"
    assert found["whole = chunks"].status == "SKIP"


def test_not_causal_but_declared_so():
    found = verify(replicas.mlp(replicas.Centre(), LIF(v_th=0.05)), vectors(), time_axis="first")
    assert "causal" in failed(found)
    assert "layers in time" in failed(found)
    assert found["causal"].layer == found["layers in time"].layer == "2"
    found = verify(replicas.mlp(replicas.Centre(causal=False), LIF(v_th=0.05)), vectors(), time_axis="first")
    assert failed(found) == []
    assert found["causal"].status == found["whole = chunks"].status == "SKIP"
    assert found["causal"].layer == "2"
    assert "2 (Centre) looks at later steps" in found["whole = chunks"].detail


def test_not_causal_and_silent_about_it_is_a_warning():
    class Smooth(nn.Module):
        def forward(self, x):
            return x + 2 * x.mean(0)

    model = nn.Sequential(nn.Linear(6, 8), Smooth(), replicas.HiddenLIF())
    nn.init.constant_(model[0].bias, 0.5)
    reset = replicas.reset_hidden
    found = verify(model, vectors(), time_axis="first", spiking=["HiddenLIF"], reset=reset)
    assert found["causal"].status == "WARN"
    assert found["causal"].layer == "1"


def test_state_not_handed_on():
    found = verify(replicas.mlp(neuron=replicas.Forgetful()), vectors(), time_axis="first")
    assert failed(found) == ["layers in time", "whole = chunks"]
    assert found["whole = chunks"].layer == found["layers in time"].layer == "1"
    assert failed(verify(replicas.mlp(), vectors(), time_axis="first", strict=True)) == []


def test_values_that_were_not_declared():
    found = verify(nn.Sequential(replicas.Liar(), nn.Linear(6, 5)), vectors(), time_axis="first")
    assert "alphabet" in failed(found)
    assert found["alphabet"].layer == "0"
    told = {"Liar": (0.0, 1.0, 2.0, 3.0)}
    found = verify(nn.Sequential(replicas.Liar(), nn.Linear(6, 5)), vectors(), time_axis="first", spiking=told)
    assert "alphabet" not in failed(found)


def test_dropout_in_eval():
    found = verify(replicas.mlp(replicas.AlwaysDropout()), vectors(), time_axis="first")
    assert found["calls agree"].status == "FAIL"
    assert found["calls agree"].layer == "2"
    assert "random numbers" in found["calls agree"].detail
    assert failed(verify(replicas.mlp(nn.Dropout()), vectors(), time_axis="first", strict=True)) == []


def test_batch_statistics_in_eval():
    model = replicas.mlp(replicas.Folded(replicas.AlwaysBatchStatistics(8)))
    found = verify(model, vectors(), time_axis="first")
    assert "alone = in a batch" in failed(found)
    assert found["alone = in a batch"].layer == "2.layer"
    assert found["calls agree"].status == "WARN"
    assert "running_mean" in found["calls agree"].detail
    assert failed(verify(replicas.mlp(replicas.Folded(nn.BatchNorm1d(8))), vectors(), time_axis="first")) == []


def test_gradient_cut_in_eval():
    found = verify(replicas.mlp(replicas.CutInEval()), vectors(), time_axis="first")
    assert failed(found) == ["gradients in eval"]
    assert found["gradients in eval"].layer == "2"


def test_gradient_scaled_in_eval():
    class Louder(nn.Module):
        def forward(self, x):
            return x if self.training else 2 * x - x.detach()

    found = verify(replicas.mlp(Louder()), vectors(), time_axis="first")
    assert failed(found) == ["gradients in eval"]
    assert found["gradients in eval"].layer == "2"


def test_another_output_in_train_mode():
    class Shifted(nn.Module):
        def forward(self, x):
            return x + 1 if self.training else x

    found = verify(replicas.mlp(Shifted()), vectors(), time_axis="first")
    assert failed(found) == ["gradients in eval"]
    assert found["gradients in eval"].layer == "2"


def test_no_gradient_at_all():
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach()

    found = verify(nn.Sequential(LIF(), Cut()), vectors(), time_axis="first")
    assert "gradients in eval" in failed(found)
    found = verify(nn.Sequential(Cut(), *replicas.mlp()), vectors(), time_axis="first")
    assert found["gradients in eval"].status == "WARN"
    assert "none reaches the input" in found["gradients in eval"].detail


def test_infinite_gradient():
    class Root(nn.Module):
        def forward(self, x):
            return (x * 0).sqrt()

    found = verify(nn.Sequential(replicas.mlp(), Root()), vectors(), time_axis="first")
    assert failed(found) == ["gradients in eval"]
    assert "not finite" in found["gradients in eval"].detail


class Side(nn.Module):
    """Adds what a layer gives to what goes by it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return x + self.layer(x)


@pytest.mark.parametrize(("strict", "status"), [(False, "WARN"), (True, "FAIL")])
def test_silent_layers(strict, status):
    model = replicas.mlp(Side(LIF(v_th=float("inf"))), nn.Linear(8, 8), LIF(v_th=0.1))
    found = verify(model, vectors(), time_axis="first", strict=strict)
    assert found["activity"].status == status
    assert found["activity"].layer == "2.layer"
    assert "1 of 3 silent: 2.layer" in found["activity"].detail
    assert found.rates["2.layer"] == 0
    assert found.passed is not strict


def test_almost_silent_layers():
    first = nn.Linear(6, 2000)
    nn.init.constant_(first.bias, -100)
    with torch.no_grad():
        first.bias[0] = 9
    found = verify(nn.Sequential(first, LIF(), nn.Linear(2000, 5)), vectors(), time_axis="first", strict=True)
    assert found["activity"].status == "WARN"
    assert "1 of 1 below 0.1%: 1" in found["activity"].detail


def test_gates_and_shortcuts_may_be_silent():
    model = replicas.mlp(LIF(v_th=1e6, role="shortcut"), LIF(v_th=1e6, role="gate"))
    found = verify(model, vectors(), time_axis="first", strict=True)
    assert found["activity"].status == "PASS"
    assert "1 of 1 gates silent: 3" in found["activity"].detail
    assert "1 of 1 shortcuts silent: 2" in found["activity"].detail


def test_always_firing_is_a_warning():
    found = verify(replicas.mlp(LIF(v_th=-1e6, reset="none")), vectors(), time_axis="first", strict=True)
    assert found["activity"].status == "WARN"
    assert found["activity"].layer == "2"
    assert "always firing" in found["activity"].detail


def test_output_that_is_not_finite():
    class Poison(nn.Module):
        def forward(self, x):
            return x / (x - x)

    found = verify(replicas.mlp(Poison()), vectors(), time_axis="first")
    assert "calls agree" in failed(found)
    assert found["calls agree"].layer == "2"


def test_model_that_cannot_take_one_sample():
    class Picky(nn.Module):
        def forward(self, x):
            if x.shape[1] == 1:
                raise RuntimeError("one is\nnot enough")
            return x

    found = verify(replicas.mlp(Picky()), vectors(), time_axis="first")
    assert found["alone = in a batch"].status == "FAIL"
    assert found["alone = in a batch"].detail.endswith("RuntimeError: one is not enough")


def test_batch_first_and_no_time():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = replicas.mlp()

        def forward(self, x):
            return self.net(x.transpose(0, 1)).transpose(0, 1)

    found = verify(Turned(), torch.rand(3, 4, 6), time_axis="second", strict=True)
    assert failed(found) == []
    assert found["causal"].status == "PASS"
    found = verify(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(3, 6), time_axis="none")
    assert found.passed
    assert [c.name for c in found.checks if c.status == "PASS"] == [
        "calls agree",
        "alone = in a batch",
        "gradients in eval",
    ]
    assert all(check.detail for check in found.checks)


def test_the_callers_model_is_left_alone():
    model = replicas.HiddenNet().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    x = vectors()
    torch.manual_seed(5)
    verify(model, x, time_axis="first", spiking=["HiddenLIF"])
    assert torch.rand(1) == expected
    assert model.training
    assert model.lif1.v is None
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.rand(4, 3, 6), {}, "time_axis must be one of first, second, none"),
        (torch.rand(4, 1, 6), {"time_axis": "first"}, "at least two samples on axis 1"),
        (torch.rand(6), {"time_axis": "none"}, "at least two samples"),
        (torch.rand(4, 3, 7), {"time_axis": "first"}, r"the model refuses a float64 input \[4, 3, 7\]"),
        (torch.rand(4, 3, 6), {"time_axis": "first", "spiking": ["Lif"]}, "has the class 'Lif'"),
    ],
)
def test_bad_input(x, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        verify(replicas.mlp(), x, **options)
    assert "\n" not in str(caught.value)


def test_table_and_json():
    found = verify(replicas.mlp(LIF(v_th=1e6)), vectors(), time_axis="first", strict=True, name="[bold]x")
    for width in (40, 80, 120, 200):
        lines = found.table(width).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[-1] == "FAILED: activity"
    assert found.table(120).startswith("[bold]x; sequence [4, 3, 6]; float64")
    told = found.to_json()
    assert told["passed"] is False
    assert [check["name"] for check in told["checks"]] == [check.name for check in found.checks]
    assert told["rates"]["2"] == 0
    with pytest.raises(KeyError):
        found["nothing"]
