"""Integer programs: the spikes of the model in float64, in every family, and what cannot be lowered."""

from itertools import product

import numpy as np
import pytest
import torch
from small_models import narrow
from torch import nn

from saccade.deploy import OPERATIONS, Program, compare, load_program, lower, save_program
from saccade.layers import AvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d
from saccade.models import list_models
from saccade.neurons import IntegerConfig, LeakMixingConfig, LIFConfig, NoisyLIFConfig, QuantizedMembraneConfig, Stream
from saccade.transforms import QuantizeConfig, apply, fuse
from saccade.verify import verify, wake

W4 = QuantizeConfig("lsq", 4, steps="channel", skip=())
FAMILIES = [name for name in list_models() if name.endswith("_small") or name in ("rows_mlp", "vgg16", "vggsnn")]
REFUSED = {  # and why
    "detector_small": "a upsample_nearest2d cannot be lowered",
    "segmenter_small": "a upsample_nearest2d cannot be lowered",
    "sma_ms_resnet18_small": "it moves the axes of time or samples",
    "sma_vgg8_small": "it moves the axes of time or samples",
}


def woken(name, **changes):
    """A network of few channels with weights of four bits, all of whose layers fire, and whole pixels for it."""
    model, x = narrow(name, **changes)
    pixels = (x * 255).round()
    apply(model, W4)
    wake(model, pixels / 255)
    return model.eval(), pixels


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in REFUSED])
def test_the_spikes_are_the_models(name):
    model, pixels = woken(name)
    program = lower(model, pixels / 255)
    found = compare(program, model, pixels)
    assert found.mismatches == 0, {path: count for path, count in found.different.items() if count}
    assert found.levels > 100
    assert len(found.seen) == sum(1 for module in model.modules() if hasattr(module, "levels"))
    assert found.largest < 1e-5 * max(1.0, abs(found.model).max())
    assert max(max(-wire.low, wire.high).bit_length() for wire in program.wires) <= 62


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_lowered_is_named(name):
    model, x = narrow(name)
    with pytest.raises(ValueError, match=REFUSED[name]) as error:
        lower(model.eval(), x)
    assert "\n" not in str(error.value)


def test_every_operation_is_in_use():
    """And its numbers lie where it was proven that they do."""
    used = set()
    for name in (
        "rows_mlp",
        "sdt_v2_small",
        "spiking_resformer_small",
        "spikformer_small",
        "or_resnet18_small",
        "qkformer_small",
    ):
        model, pixels = woken(name)
        program = lower(model, pixels / 255)
        for wire, value in zip(program.wires, program.trace(pixels.numpy()), strict=True):
            assert value.shape[2:] == wire.shape
            assert wire.low <= value.min() <= value.max() <= wire.high
        used |= {operation.name for operation in program.operations}
    elsewhere = {
        "mix",
        "hold",
        "thresholds",
        "expand",
        "concat",
        "mark",
        "collect",
        "deal",
        "peak",
        "relu",
        "sigmoid",
    } | {"stored_membrane"}
    assert used | set(elsewhere) == set(OPERATIONS)  # those run in other tests


@pytest.mark.parametrize("name", ["qsd_small", "sdt_v1_small"])
def test_attention_of_a_still_picture(name):
    """Queries, keys and values are whole, and counts are summed before they are multiplied."""
    model, pixels = woken(name)
    still = pixels[:1].expand_as(pixels).contiguous()
    wake(model, still / 255)
    model.eval()
    program = lower(model, still[0] / 255)
    assert not program.sequence
    assert compare(program, model, still[0]).mismatches == 0
    assert any(operation.name in ("matmul", "multiply") for operation in program.operations)


@pytest.mark.parametrize("projection", ["factored", "merged"])
def test_projections_of_qsd(projection):
    model, pixels = woken("qsd_small", projection=projection)
    assert compare(lower(model, pixels / 255), model, pixels).mismatches == 0


def test_maxima_around_a_mask():
    model, pixels = woken("sdt_v1_small", attention={"name": "sdsa1", "config": {"pool": True}})
    program = lower(model, pixels / 255)
    assert compare(program, model, pixels).mismatches == 0
    assert verify(model, pixels / 255).passed


def chain(*neurons, channels=4):
    torch.manual_seed(1)
    layers = [Conv2d(2, channels, 3, padding=1), BatchNorm2d(channels), neurons[0]]
    for neuron in neurons[1:]:
        layers += [Conv2d(channels, channels, 3, padding=1, bias=False), BatchNorm2d(channels), neuron]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    "config",
    [
        *(
            LIFConfig(tau=tau, decay_input=False, reset=reset)
            for tau, reset in product((2.0, 1.0, 4.0, 3.0), ("hard", "soft", "none"))
        ),
        LIFConfig(tau=float("inf"), decay_input=False, reset="soft"),
        LIFConfig(tau=2.0, v_rest=-0.3, v_reset=-0.5, v_th=0.4),
        LIFConfig(tau=1.5, v_th=(0.5, 1.0, 0.7, 1.3)),
        *(
            QuantizedMembraneConfig(mode, bits, alpha=1.5, lif=LIFConfig(tau=2.0, decay_input=False, reset=reset))
            for mode, bits, reset in (
                ("qsnn", 4, "hard"),
                ("uniform", 3, "soft"),
                ("pow2", 4, "none"),
                ("qsnn", 8, "soft"),
            )
        ),
        QuantizedMembraneConfig("uniform", 4, alpha=0.9, lif=LIFConfig(tau=3.0, v_th=(0.5, 1.0, 0.7, 1.3))),
        NoisyLIFConfig(lif=LIFConfig(tau=2.0, v_th=0.4)),
        IntegerConfig(D=3, stateful=True),
        IntegerConfig(D=4, gain=1.0),
    ],
    ids=str,
)
def test_neurons_of_every_kind(config):
    model = chain(config.build(channels=4), config.build(channels=4))
    pixels = torch.randint(256, (6, 3, 2, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BatchNorm2d):
                module.weight[0] = -1.5
                module.bias.uniform_(-0.3, 0.6)
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.momentum = None
    model.train()
    model(pixels / 255)
    model.eval()
    apply(model, W4)
    program = lower(model, pixels / 255)
    found = compare(program, model, pixels)
    rates = [value.mean() for _, value in program.spikes(pixels.numpy()).items()]
    assert all(0.02 < rate < 3 for rate in rates), rates
    assert found.mismatches == 0


def test_folded_norms_and_full_weights():
    """Thresholds for each channel; weights without integers get 24 bits, and a note."""
    model, pixels = narrow("vgg_small")
    pixels = (pixels * 255).round()
    wake(model, pixels / 255)
    folded = fuse(model.eval(), pixels[:1] / 255).model
    program = lower(folded, pixels / 255)
    assert compare(program, folded, pixels).mismatches == 0
    assert any("rounded to 24 bits" in note for note in program.notes)
    coarse = lower(folded, pixels / 255, weight_bits=4)
    assert compare(coarse, folded, pixels).mismatches > 0


def test_pools_of_currents_and_counts():
    """Maxima of currents some of whose norms turn the sign; averages of spikes."""
    torch.manual_seed(0)
    early, late = LIFConfig(v_th=0.1).build(), LIFConfig(v_th=0.1).build()
    first = [Conv2d(2, 4, 3), BatchNorm2d(4), MaxPool2d(3, 2, 1), early]
    model = nn.Sequential(
        *first, AvgPool2d(2), Conv2d(4, 6, 1), BatchNorm2d(6), late, nn.Flatten(2), Linear(24, 5)
    ).eval()
    with torch.no_grad():
        model[1].weight[1] = -1.0
    pixels = torch.randint(256, (5, 3, 2, 10, 10), generator=torch.Generator().manual_seed(0)).float()
    program = lower(model, pixels / 255)
    assert compare(program, model, pixels).mismatches == 0
    assert all(0.02 < value.mean() < 0.9 for value in program.spikes(pixels.numpy()).values())


@pytest.mark.parametrize("name", ["qsd_small", "ms_resnet18_small", "rows_mlp", "sdt_v1_small"])
def test_a_program_is_a_file_and_streams(name, tmp_path):
    model, pixels = woken(name)
    program = lower(model, pixels / 255)
    save_program(program, tmp_path / "program")
    loaded = load_program(tmp_path / "program")
    x = pixels.numpy()
    for mine, theirs in zip(program.trace(x), loaded.trace(x), strict=True):
        assert np.array_equal(mine, theirs)
    assert np.array_equal(program.run(x), loaded.run(x))
    whole = program.logits(program.trace(x))
    stream = loaded.stream()
    pieces = np.concatenate([stream(x[:1]), stream(x[1:3]), stream(x[3:])])
    assert np.allclose(pieces, whole, rtol=0, atol=1e-12)
    live = Stream(model.double())
    with torch.no_grad():
        theirs = torch.cat([live(step[None].double() / 255) for step in pixels])
    assert np.allclose(pieces, theirs.numpy(), rtol=0, atol=1e-5)


def test_damaged_files_and_wrong_input_are_one_line(tmp_path):
    model, pixels = woken("rows_mlp")
    program = lower(model, pixels / 255)
    for x, said in (
        (pixels.numpy()[:, :, :, :-1], r"takes \[T, N, 1, 16, 16\]: it was made for sequences; got"),
        (pixels.numpy()[0], r"takes \[T, N, 1, 16, 16\]: it was made for sequences; got"),
        (pixels.numpy() / 255, "whole numbers from 0 to 255; pixels are not divided"),
        (pixels.numpy() + 1, "whole numbers from 0 to 255"),
        (np.full_like(pixels.numpy(), np.nan), "whole numbers from 0 to 255"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            program.run(x)
        assert "\n" not in str(error.value)
    path = tmp_path / "program"
    save_program(program, path)
    good = path.read_bytes()
    for damaged in (good[:-20], good[:40], b"", b"no program", good + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=str(path)) as error:
            load_program(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        lower(model.train(), pixels / 255)
    with pytest.raises(ValueError, match="fraction must be 1 to 40 bits"):
        lower(model.eval(), pixels / 255, fraction=0)


def test_what_is_smaller_is_repeated():
    class Centred(nn.Module):
        def forward(self, x):
            return (x - x.mean((-2, -1), keepdim=True)).flatten(2)

    model = nn.Sequential(
        Conv2d(1, 2, 1), LIFConfig(v_th=0.1).build(), Centred(), Linear(18, 4), LIFConfig(v_th=0.05).build()
    )
    x = torch.randint(256, (4, 3, 1, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    program = lower(model.eval(), x / 255)
    assert any(operation.name == "expand" for operation in program.operations)
    assert compare(program, model, x).mismatches == 0
    assert 0.02 < program.spikes(x.numpy())["4"].mean() < 0.98


def test_channels_that_hardly_count_and_thresholds_out_of_reach():
    """In units of their scale thresholds would need more than 64 bits."""
    x = torch.randint(256, (4, 3, 1, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    for scale in (1e-4, 1e-5, 3e-6, 1e-7, 1e-12, 0.0):
        first, last = LIFConfig(v_th=0.2).build(), LIFConfig().build()
        torch.manual_seed(0)
        model = nn.Sequential(Conv2d(1, 4, 3, padding=1), first, Conv2d(4, 4, 3, padding=1), last).eval()
        with torch.no_grad():
            model[2].weight[0] *= scale
            model[2].bias[0] = 0.1
        program = lower(model, x / 255)
        assert compare(program, model, x).mismatches == 0
        assert not program.spikes(x.numpy())["3"][:, :, 0].any()
    silent = nn.Sequential(Conv2d(1, 2, 1), BatchNorm2d(2), LIFConfig(v_th=0.3).build()).eval()
    with torch.no_grad():
        silent[1].weight.zero_()
        silent[1].bias.copy_(torch.tensor([0.2, 0.5]))
    assert compare(lower(silent, x / 255), silent, x).mismatches == 0
    never = LIFConfig(v_th=(1.0, 1e9, 1e30, 0.1)).build(channels=4)
    torch.manual_seed(0)
    model = nn.Sequential(Conv2d(1, 4, 3, padding=1), never).eval()
    assert compare(lower(model, x / 255), model, x).mismatches == 0


def test_mixings_of_large_sums():
    mixing = LeakMixingConfig(decay=0.8, v_th=0.5).build(channels=8)
    model = nn.Sequential(Conv2d(3, 8, 7, padding=3), mixing).eval()
    with torch.no_grad():
        model[0].weight.fill_(0.01)
        model[0].bias.zero_()
    x = torch.full((8, 1, 3, 16, 16), 255.0)
    found = compare(lower(model, x / 255), model, x)
    assert found.mismatches == 0
    assert found.levels == 8 * 8 * 16 * 16


def test_still_pictures_and_sequences_are_not_confused():
    model, pixels = woken("vgg_small")
    still, moving = lower(model, pixels[0] / 255), lower(model, pixels / 255)
    with pytest.raises(ValueError, match=r"takes \[N, 3, 32, 32\], still pictures; got"):
        still.run(pixels[:1].numpy())
    with pytest.raises(ValueError, match="was made for still pictures; lower the model on a sequence"):
        still.stream()
    with pytest.raises(ValueError, match="it was made for sequences; got"):
        moving.run(pixels[0].numpy())


def test_what_rounds_by_itself_or_changes_over_time_is_refused():
    class Odd(nn.Module):
        def __init__(self, change):
            super().__init__()
            self.change = change
            self.register_buffer("drift", torch.randn(4, 1, 1, 1, 1))

        def forward(self, x):
            return self.change(self, x)

    for change, said in (
        (lambda m, x: torch.div(x, 2, rounding_mode="floor"), "a division that rounds"),
        (lambda m, x: (x * 5).int().double(), "a conversion to torch.int32, which rounds"),
        (lambda m, x: x + m.drift, "changes from step to step"),
    ):
        model = nn.Sequential(Odd(change), Conv2d(1, 2, 1), LIFConfig().build()).eval()
        with pytest.raises(ValueError, match=said):
            lower(model, torch.rand(4, 2, 1, 3, 3))


def test_neurons_that_are_called_twice_are_both_compared():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fire = Conv2d(1, 1, 1), LIFConfig(v_th=0.1).build()

        def forward(self, x):
            return self.fire(self.conv(self.fire(self.conv(x))))

    x = torch.randint(256, (4, 2, 1, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    found = compare(lower(Twice().eval(), x / 255), Twice().eval(), x)
    assert found.levels == 2 * 4 * 2 * 9
    assert found.model.shape == found.program.shape


def test_lowering_leaves_the_model_alone():
    model, pixels = woken("or_resnet18_small")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert isinstance(lower(model, pixels / 255), Program)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert next(model.parameters()).dtype == torch.float32


def test_a_rule_can_be_added():
    from saccade.deploy import lowers
    from saccade.deploy.lowering import _RULES

    class Twice(nn.Module):
        graph_layer = True

        def forward(self, x):
            return 2 * x

    model = nn.Sequential(Conv2d(1, 2, 1), Twice(), LIFConfig().build(), nn.Flatten(2), Linear(8, 2)).eval()
    x = torch.randint(256, (3, 2, 1, 2, 2)).float()
    with pytest.raises(ValueError, match="1: a Twice cannot be lowered"):
        lower(model, x / 255)
    lowers(Twice)(lambda low, node: low.of(node.inputs[0]).times(2))
    try:
        assert compare(lower(model, x / 255), model, x).mismatches == 0
    finally:
        del _RULES[Twice]


def test_a_wide_model_that_is_not_ours():
    """torch's own layers, tokens on the last axis."""
    model = nn.Sequential(nn.Flatten(2), nn.Linear(48, 20), LIFConfig(tau=2.0).build(), nn.Linear(20, 3)).eval()
    x = torch.randint(256, (4, 2, 3, 4, 4), generator=torch.Generator().manual_seed(3)).float()
    assert compare(lower(model, x / 255), model, x).mismatches == 0
