"""Memory-free networks in integers: every schedule gives the spikes of the model in float64, and says what state it needs."""

import pytest
import torch

from saccade.deploy import (
    chain_of,
    events_of,
    load_program,
    lower,
    run_async,
    run_layer_serial,
    run_parallel,
    run_shift_register,
    save_program,
    state_bytes,
)
from saccade.layers import AvgPool2d, BatchNorm, Conv2d
from saccade.models import create_model
from saccade.neurons import NEURONS, LeakMixingConfig, MaskedMixingConfig, Mixing, SlidingMixingConfig
from saccade.transforms import (
    MemoryFreeConfig,
    QuantizeConfig,
    QuantizeMembranesConfig,
    apply,
)
from saccade.verify import wake

ROWS = QuantizeConfig("balanced_binary", 1, skip=("layers.0", "head"))
LEAK = MemoryFreeConfig(LeakMixingConfig(learn=False))


def build(name="rows_mlp", free=LEAK, quantize=ROWS, **kwargs):
    """A woken network, some of whose norms have a negative scale, and frames for it."""
    torch.manual_seed(0)
    sizes = {
        "rows_mlp": {"widths": (12, 10, 9)},
        "vgg_small": {"channels": (4, 5, 6, 5, 4, 6), "T": 4, "image_size": 16},
    }
    model = create_model(name, **sizes[name] | kwargs)
    generator = torch.Generator().manual_seed(2)
    size = 8 if name == "rows_mlp" else 16
    x = torch.randint(256, (model.T, 3, model.in_channels, size, size), generator=generator) / 255
    apply(model, quantize)
    apply(model, free)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.weight[::3] *= -1
    wake(model, x)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Mixing):
                module.theta.add_(0.03)
    return model.eval(), x


def whole(x):
    """Pixels as a program takes them."""
    return (x * 255).round()


def chain(model, x):
    return chain_of(lower(model, x))


def spikes_of(model, x):
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, Mixing):
            module.register_forward_hook(lambda m, i, y, path=path: found.update({path: y.to(torch.uint8)}))
    with torch.no_grad():
        logits = model.double()(x.double())
    assert all(0.02 < y.double().mean() < 0.6 for y in found.values())
    return found, logits


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


CASES = {
    "rows, 1 bit, leak": ("rows_mlp", LEAK, ROWS),
    "rows, 3 bits, sliding": (
        "rows_mlp",
        MemoryFreeConfig(SlidingMixingConfig(order=3, learn=False)),
        QuantizeConfig("rescaw", 3, skip=("layers.0", "head")),
    ),
    "rows, vanilla, long window": (
        "rows_mlp",
        MemoryFreeConfig(SlidingMixingConfig(order=20, learn=False)),
        QuantizeConfig("vanilla", 2, skip=("layers.0", "head")),
    ),
    "rows, DoReFa": ("rows_mlp", LEAK, QuantizeConfig("dorefa", 3, skip=("layers.0", "head"))),
    "rows, learned step": ("rows_mlp", LEAK, QuantizeConfig("lsq", 3, skip=("layers.0", "head"))),
    "images, 1 bit": ("vgg_small", LEAK, QuantizeConfig("binary", 1)),
    "images, 2 bits, sliding": (
        "vgg_small",
        MemoryFreeConfig(SlidingMixingConfig(order=2, learn=False)),
        QuantizeConfig("rescaw", 2),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_schedule_gives_the_spikes_of_the_model(case):
    name, free, quantize = CASES[case]
    model, x = build(name, free, quantize)
    program = chain(model, x)
    expected, logits = spikes_of(model, x)
    first = program.first(whole(x))
    events = events_of(first)
    runs = [
        run_parallel(program, first),
        run_layer_serial(program, first),
        run_shift_register(program, first),
        run_async(program, events, 3),
        run_async(program, events, 3, "layers"),
        run_async(program, events, 3, torch.Generator().manual_seed(0)),
    ]
    for run in runs:
        assert same(run, expected)
        assert torch.allclose(program.logits(run), logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_a_program_is_a_file(case, tmp_path):
    """Typed records and tensors; the model is not needed any more."""
    model, x = build(CASES[case][0], CASES[case][1], CASES[case][2])
    program = chain(model, x)
    save_program(program.program, tmp_path / "program.safetensors")
    loaded = chain_of(load_program(tmp_path / "program.safetensors"))
    first = program.first(whole(x))
    assert torch.equal(loaded.first(whole(x)), first)
    assert same(run_parallel(loaded, first), run_parallel(program, first))
    _, logits = spikes_of(model, x)
    assert torch.allclose(torch.from_numpy(loaded.program.run(whole(x).numpy())), logits, atol=1e-6, rtol=0)
    (tmp_path / "text").write_text("no")
    with pytest.raises(ValueError, match="text: not a program file of saccade"):
        load_program(tmp_path / "text")


def test_a_still_picture_is_lowered_too():
    model, x = build("vgg_small", quantize=QuantizeConfig("rescaw", 1))
    wake(model, x[:1].expand(4, -1, -1, -1, -1))
    program = chain(model, x[0])
    assert program.still
    assert not chain(model, x).still
    assert state_bytes(program, "async").layers["stem_neuron"].persistent_bits == 0
    expected, logits = spikes_of(model, x[0])
    found = run_parallel(program, program.first(whole(x[0])))
    assert same(found, expected)
    assert torch.allclose(program.logits(found), logits, atol=1e-6, rtol=0)


def test_a_still_picture_is_read_a_row_a_step():
    model, x = build("rows_mlp")
    wake(model, x[:1].expand(8, -1, -1, -1, -1))
    program = chain(model, x[0])
    assert not program.still
    expected, logits = spikes_of(model, x[0])
    found = run_parallel(program, program.first(whole(x[0])))
    assert same(found, expected)
    assert torch.allclose(torch.from_numpy(program.program.run(whole(x[0]).numpy())), logits, atol=1e-6, rtol=0)


def test_any_order_of_events_and_of_tokens_gives_the_same_spikes():
    model, x = build()
    program = chain(model, x)
    first = program.first(whole(x))
    expected = run_parallel(program, first)
    events = events_of(first)
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        mixed = events[torch.randperm(len(events), generator=generator)]
        assert same(run_async(program, mixed, 3, generator), expected)
    # within a layer time may run backwards: a token needs the input of its history, not its own past
    tokens = [(layer, t) for layer in range(3) for t in reversed(range(8))]
    assert same(run_async(program, events, 3, tokens), expected)


@pytest.mark.parametrize("case", ["rows, 1 bit, leak", "images, 2 bits, sliding"])
def test_registers_are_bit_planes_of_the_trace(case):
    """h / 2^(k-1) is the leaky sum of an input's spikes, and bit k-1-j of h is the spike of lag j."""
    name, free, quantize = CASES[case]
    model, x = build(name, free, quantize)
    program = chain(model, x)
    k = program.layers[0].order
    spikes = program.first(whole(x)).long()
    register = torch.zeros_like(spikes[0])
    for t in range(program.T):
        register = (register >> 1) | (spikes[t] << (k - 1))
        trace = sum(2.0**-j * spikes[t - j] for j in range(min(k, t + 1)))
        assert torch.equal(register.double() / 2 ** (k - 1), trace.double())
        for j in range(min(k, t + 1)):
            assert torch.equal(register >> (k - 1 - j) & 1, spikes[t - j])


def test_integers_are_small_and_odd():
    model, x = build(quantize=QuantizeConfig("rescaw", 3, skip=("layers.0", "head")))
    for layer in chain(model, x).layers:
        assert layer.weight.abs().max() <= 7
        assert (layer.weight % 2 == 1).all()
        assert set(layer.sign.tolist()) == {-1, 1}


def test_constant_channels_fire_always_or_never():
    model, x = build()
    with torch.no_grad():
        model.layers[4].weight[:2] = 0
        model.layers[4].bias[:2] = torch.tensor([5.0, -5.0])
    program = chain(model, x)
    expected, _ = spikes_of(model, x)
    found = run_layer_serial(program, program.first(whole(x)))
    assert same(found, expected)
    assert found["layers.5"][..., 0].all()
    assert not found["layers.5"][..., 1].any()


def test_lowering_leaves_the_model_alone():
    model, x = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    lower(model, x)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())
    assert next(model.parameters()).dtype == torch.float32


def test_state():
    model, x = build("rows_mlp")
    program = chain(model, x)
    serial = state_bytes(program, "layer_serial")
    assert serial.persistent == 0
    assert serial.in_flight == (8 * (12 + 10) + 7) // 8  # T bits of two neighbouring layers
    assert [layer.persistent_bits for layer in state_bytes(program, "async").layers.values()] == [
        32 * 12,
        8 * 12,
        8 * 10,
    ]
    lif = create_model("rows_mlp", widths=(12, 10, 9)).eval()
    assert state_bytes(lif, "sequential", x).persistent == 4 * 31
    assert state_bytes(program, "sequential").persistent == 4 * 31
    apply(lif, QuantizeMembranesConfig(bits=2))
    assert [layer.persistent_bits for layer in state_bytes(lif, "sequential", x).layers.values()] == [24, 20, 18]
    images = state_bytes(chain(*build("vgg_small", quantize=QuantizeConfig("rescaw", 1))), "async")
    pooled = images.layers["layers.3"]  # its input is pooled before it is kept
    assert pooled.persistent_bits == 4 * 4 * 8 * 8
    for subject, schedule, message in (
        (program, "serial", "schedule must be one of sequential, layer_serial, async"),
        (lif, "async", r"'async' is for chains: chain_of"),
        (lif, "sequential", "give x"),
    ):
        with pytest.raises(ValueError, match=message):
            state_bytes(subject, schedule)
    with pytest.raises(ValueError, match="has no LIF neurons"):
        state_bytes(model, "sequential", x)


def test_what_has_no_schedule_is_named():
    for free in (MaskedMixingConfig(decay=0.7), LeakMixingConfig(decay=0.6), SlidingMixingConfig(decay=0.4)):
        model, x = build(free=MemoryFreeConfig(free))
        program = lower(model, x)
        assert any(note.startswith("layers.2: its mixing is no row of powers of two") for note in program.notes)
        with pytest.raises(
            ValueError, match="layers.5: its mixing is no row of powers of two; train it with learn=False"
        ):
            chain_of(program)
    lif = create_model("rows_mlp").eval()
    with pytest.raises(ValueError, match=r"layers.2 is not memory-free; apply\(model, 'memory_free'\)"):
        chain(lif, torch.rand(2, 1, 8, 8))
    residual = create_model("or_resnet18", stem="cifar", T=2, widths=(4, 6, 8, 10)).eval()
    apply(residual, LEAK)
    with pytest.raises(ValueError, match="only chains have schedules"):
        chain(residual, torch.rand(2, 3, 16, 16))
    with pytest.raises(ValueError, match="has 1 layers of neurons in a chain; a schedule needs two"):
        chain(*build(widths=(12,), quantize=QuantizeConfig("rescaw", 1, skip=("layers.0",))))
    averaged = torch.nn.Sequential(
        Conv2d(2, 3, 3), NEURONS["qp"].build(), AvgPool2d(2), Conv2d(3, 3, 1), NEURONS["qp"].build()
    ).eval()
    apply(averaged, LEAK)
    with pytest.raises(ValueError, match="4: only max pooling in whole square windows"):
        chain(averaged, torch.rand(2, 1, 2, 6, 6))


def test_bad_events_and_orders_are_named():
    model, x = build()
    program = chain(model, x)
    first = program.first(whole(x))
    events = events_of(first)
    with pytest.raises(ValueError, match=r"the event \[8, 0, 0\] lies outside the input \[8, 3, 12\]"):
        run_async(program, torch.tensor([[8, 0, 0]]), 3)
    with pytest.raises(ValueError, match=r"events are whole numbers \[E, 3\]"):
        run_async(program, events[:, :2], 3)
    with pytest.raises(ValueError, match="an event comes twice"):
        run_async(program, torch.cat([events, events[:1]]), 3)
    with pytest.raises(ValueError, match="order must be one of steps, layers"):
        run_async(program, events, 3, "random")
    with pytest.raises(ValueError, match=r"order: \(1, 0\) comes before \(0, 0\), which it needs"):
        run_async(program, events, 3, [(1, 0)])
    with pytest.raises(ValueError, match="order: a token is missing"):
        run_async(program, events, 3, [(0, 0)])
    with pytest.raises(ValueError, match=r"order: \(0, 0\) is unknown or comes twice"):
        run_async(program, events, 3, [(0, 0), (0, 0)])
    for run in (run_parallel, run_layer_serial, run_shift_register):
        with pytest.raises(ValueError, match=r"the program takes spikes \[8, N, 12\], got \[7, 3, 12\]"):
            run(program, first[:7])
