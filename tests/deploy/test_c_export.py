"""Programs as C: compiled by the machine's own compiler, the levels of the interpreter in every family."""

import re
import shutil
import subprocess
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import narrow
from torch import nn

from saccade.cli.main import run
from saccade.data import DATA_SETS
from saccade.deploy import OPERATIONS, Operation, Program, Wire, lower, save_program
from saccade.deploy.c import check_fits, load, parse_fits, source, write_c, writes_c
from saccade.deploy.c.rules.neurons import potentials
from saccade.deploy.c.writer import _RULES
from saccade.deploy.operations.combine import Combine
from saccade.deploy.operations.concat import Concat
from saccade.deploy.operations.gates import Collect, Deal, Peak, Relu, Sigmoid
from saccade.deploy.operations.hold import Hold
from saccade.deploy.operations.mark import Mark
from saccade.deploy.operations.membrane import Membrane
from saccade.deploy.operations.mixing import Mix
from saccade.deploy.operations.movement import Expand, Pad, Part, Reshape, Transpose
from saccade.deploy.operations.pooling import Sum, Window
from saccade.deploy.operations.product import MatMul, Multiply
from saccade.deploy.operations.rows import Rows
from saccade.deploy.operations.synapse import Synapse
from saccade.deploy.operations.thresholds import Thresholds
from saccade.deploy.values import Term
from saccade.files import load_model
from saccade.layers import Conv2d
from saccade.models import list_models
from saccade.neurons import IntegerConfig, LIFConfig, QuantizedMembraneConfig
from saccade.transforms import QuantizeConfig, apply
from saccade.verify import wake

W4 = QuantizeConfig("lsq", 4, steps="channel", skip=())
FAMILIES = [name for name in list_models() if name.endswith("_small") or name in ("rows_mlp", "vgg16", "vggsnn")]
FAST = ("rows_mlp", "vgg_small", "snn_vit_small", "spikformer_small", "spiking_resformer_small")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
CROSS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64 -L /usr/aarch64-linux-gnu"),
    "arm": ("arm-linux-gnueabihf-gcc", "qemu-arm -L /usr/arm-linux-gnueabihf"),
    "riscv64": ("riscv64-linux-gnu-gcc", "qemu-riscv64 -L /usr/riscv64-linux-gnu"),
}


def woken(name, **changes):
    """A network of few channels with weights of four bits, all of whose layers fire, and whole pixels for it."""
    model, x = narrow(name, **changes)
    pixels = (x * 255).round()
    apply(model, W4)
    wake(model, pixels / 255)
    return model.eval(), pixels


def equal(program, folder, x, **settings):
    """Write, compile and run: levels and logits are those of the interpreter."""
    c = source(program, "net", **settings)
    write_c(c, folder, x)
    compiled = load(folder)
    found = program.trace(x)
    seen = compiled.spikes(x)
    assert len(seen) == len(list(program.named()))
    for (path, levels), (wire, _) in zip(seen, program.named(), strict=True):
        assert np.array_equal(levels, found[wire]), path
    logits = program.run(x)
    assert np.abs(compiled.run(x) - logits).max() <= c.answer.error + 1e-12 * np.abs(logits).max()
    assert c.answer.error < 1e-4 * max(1.0, np.abs(logits).max())
    return c, compiled


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_the_spikes_are_the_programs(name, tmp_path):
    try:
        model, pixels = woken(name)
        program = lower(model, pixels / 255)
    except ValueError as error:
        pytest.skip(f"has no program: {error}")
    x = pixels.numpy()
    equal(program, tmp_path, x)
    assert max(value.mean() for value in program.spikes(x).values()) > 0.02


def test_what_stands_still_is_computed_once(tmp_path):
    model, pixels = woken("vgg_small")
    still = pixels[:1].expand_as(pixels).contiguous()
    wake(model, still / 255)
    program = lower(model.eval(), still[0] / 255)
    c, _ = equal(program, tmp_path, still[0].numpy())
    phase = c.plan.phases[0]
    assert phase.once
    # what the first step makes is not written over by any that comes again
    kept = {f.wire for f in phase.once} & {buffer for f in phase.each for _, buffer, _ in f.reads}
    places = {wire: (at, at + c.writer.buffers[wire].bytes) for wire, at in c.plan.arena.items()}
    assert kept
    for wire in kept:
        (low, high), rest = places[wire], [places[f.wire] for f in phase.each]
        assert all(high <= start or stop <= low for start, stop in rest)


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
        IntegerConfig(D=3, stateful=True),
        IntegerConfig(D=4, gain=1.0),
        QuantizedMembraneConfig(bits=2, alpha=1.0),
        QuantizedMembraneConfig(bits=3, alpha=1.5),
    ],
    ids=str,
)
def test_neurons_of_every_kind(config, tmp_path):
    torch.manual_seed(0)
    first, second = config.build(channels=4), config.build(channels=4)
    model = nn.Sequential(Conv2d(2, 4, 3, padding=1), first, Conv2d(4, 4, 3, padding=1), second).eval()
    with torch.no_grad():
        model[0].weight *= 7
        model[2].weight *= 8
    apply(model, W4)
    x = torch.randint(256, (6, 3, 2, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    program = lower(model, x / 255, fraction=12)
    rates = [value.mean() for value in program.spikes(x.numpy()).values()]
    assert all(0.02 < rate < 3.9 for rate in rates), rates
    equal(program, tmp_path, x.numpy())


DRAW = np.random.default_rng(0)


def whole(*shape, low=-9, high=9):
    return DRAW.integers(low, high, shape, endpoint=True)


def one(operations, shapes, low=-9, high=9, sequence=True, T=4):
    """A program of some operations, whose wires have the ranges that were seen, and an input."""
    x = whole(*((T, 2) if sequence else (2,)), *shapes[0], low=low, high=high)
    wires, found = [Wire(shapes[0], low, high)], [x if sequence else x[None]]
    for operation, shape in zip(operations, shapes[1:], strict=True):
        found.append(operation.run(*(found[i] for i in operation.inputs)))
        assert found[-1].shape[2:] == shape
        kept = isinstance(operation, Membrane | Mix | Thresholds)
        # sums are proven for parts of them too
        least, most = (0, int(found[-1].max())) if kept else (int(found[-1].min()) - 5000, int(found[-1].max()) + 5000)
        wires.append(Wire(shape, least, most, f"layer.{len(wires)}" if kept else ""))
    term = Term(len(wires) - 1, np.full((1,) * len(shapes[-1]), 0.37))
    program = Program(
        T, 1.0, tuple(wires), tuple(operations), (term,), np.zeros((1,) * len(shapes[-1])), sequence=sequence
    )
    return program, x


def weights(*shape, bits):
    """Of so many bits, centred or one-sided."""
    return {
        1: lambda: whole(*shape, low=0, high=1) * 6 - 3,
        2: lambda: whole(*shape, low=0, high=3) * 2 - 3,
        4: lambda: whole(*shape, low=-8, high=7),
        8: lambda: whole(*shape, low=-127, high=127),
        20: lambda: whole(*shape, low=-(2**19), high=2**19),
    }[bits]()


SMALL = {
    **{
        f"convolution of {bits} bits, {outputs} outputs": lambda bits=bits, outputs=outputs: (
            [Synapse((0,), weights(outputs, 4, 3, 3, bits=bits), (2, 1), (1, 0))], [(4, 7, 6), (outputs, 4, 4)]
        )
        for bits, outputs in ((1, 8), (1, 11), (2, 5), (4, 7), (8, 3), (20, 4))
    },
    "groups, dilation": lambda: (
        [Synapse((0,), weights(6, 2, 3, 2, bits=4), (1, 2), (2, 1), (2, 1), 3)], [(6, 6, 7), (6, 6, 4)]
    ),
    "depthwise of 2 bits": lambda: (
        [Synapse((0,), weights(6, 1, 3, 3, bits=2), (1, 1), (1, 1), (1, 1), 6)], [(6, 5, 5), (6, 5, 5)]
    ),
    "tokens": lambda: ([Synapse((0,), weights(10, 6, bits=1))], [(5, 6), (5, 10)]),
    "a matrix by heads": lambda: (
        [Transpose((0,), (0, 2, 1)), MatMul((0, 1))], [(3, 5, 4), (3, 4, 5), (3, 5, 5)]
    ),
    "shapes": lambda: (
        [
            Synapse((0,), weights(6, 4, 1, 1, bits=4)), Reshape((1,), (2, 3, 20)), Transpose((2,), (2, 0, 1)),
            Part((3,), 0, 3, 19, 2), Reshape((4,), (8, 6)), Synapse((5,), weights(3, 6, bits=4)),
        ],
        [(4, 4, 5), (6, 4, 5), (2, 3, 20), (20, 2, 3), (8, 2, 3), (8, 6), (8, 3)],
    ),
    "a border": lambda: ([Transpose((0,), (1, 2, 0)), Pad((1,), 2)], [(3, 4, 5), (4, 5, 3), (4, 9, 7)]),
    "repeated": lambda: (
        [Sum((0,), (1, 2)), Expand((1,), (3, 4, 5)), Multiply((0, 2))], [(3, 4, 5), (3, 1, 1), (3, 4, 5), (3, 4, 5)]
    ),
    "sums of windows": lambda: ([Window((0,), "sum", (3, 2), (2, 1), (1, 0))], [(3, 6, 5), (3, 3, 4)]),
    "maxima of windows": lambda: ([Window((0,), "max", (3, 3), (2, 2), (1, 1), -9)], [(3, 6, 5), (3, 3, 3)]),
    "sums over an axis": lambda: ([Sum((0,), (0,))], [(3, 6, 5), (1, 6, 5)]),
    "factors by place": lambda: (
        [Combine((0, 0), whole(3, 1, 1, low=-99, high=99), (whole(3, 4, 5), whole(1, 4, 1)), (1, 0), 2)], [(3, 4, 5), (3, 4, 5)]
    ),
    "factors of 50 bits": lambda: (
        [Combine((0,), whole(3, 1, 1, low=-(2**50), high=2**50), (whole(3, 1, 1, low=-(2**50), high=2**50),), (0,), 46)],
        [(3, 4, 5), (3, 4, 5)],
    ),
    "levels": lambda: (
        [Thresholds((0,), whole(3, 1, 1, low=0, high=0) - 1, np.sort(whole(3, 3, 1, 1), 0))], [(3, 4, 5), (3, 4, 5)]
    ),
    "a mixing": lambda: (
        [Mix((0,), np.array(-1), np.tril(whole(4, 4)), whole(4, 3, 1, 1))], [(3, 4, 5), (3, 4, 5)]
    ),
    "a mark": lambda: (
        [Mark((0,), 5), Synapse((1,), weights(5, 4, 3, 3, bits=4), (1, 1), (1, 1))], [(3, 4, 5), (4, 4, 5), (5, 4, 5)]
    ),
    "one behind the other": lambda: (
        [Concat((0, 0), 1), Concat((0,), 0, 1, 2), Concat((2, 2), 2, 3, 0), Transpose((3,), (1, 0, 2)), Concat((4, 4), 0)],
        [(3, 4, 5), (3, 8, 5), (6, 4, 5), (6, 4, 13), (4, 6, 13), (8, 6, 13)],
    ),
    "maxima over axes": lambda: ([Peak((0,), (0, 2))], [(3, 4, 5), (1, 4, 1)]),
    "sigmoids": lambda: (
        [
            Combine((0,), whole(3, 1, 1), (whole(3, 4, 5, low=-(2**20), high=2**20),), (0,)),
            Relu((1,)), Sigmoid((1,)), Sigmoid((2,)), Multiply((3, 4)),
            Combine((5,), whole(1, 1, 1), (whole(3, 1, 1, low=1),), (0,), 40),
        ],
        [(3, 4, 5)] * 7,
    ),
    "all steps at once": lambda: (
        [
            Thresholds((0,), np.array(1), whole(2, 3, 1, 1)), Sum((1,), (1, 2)), Collect((2,), 4), Reshape((3,), (4, 3)),
            Synapse((4,), weights(3, 3, bits=4)), Reshape((5,), (4, 3, 1, 1)), Deal((6,)), Multiply((1, 7)),
            Peak((8,), (0,)), Collect((9,), 4), Sum((10,), (0,)), Reshape((11,), (1, 4, 5)), Multiply((8, 12)),
            Transpose((0,), (0, 1, 2)), Multiply((13, 14)),
        ],
        [
            (3, 4, 5), (3, 4, 5), (3, 1, 1), (4, 3, 1, 1), (4, 3), (4, 3), (4, 3, 1, 1), (3, 1, 1), (3, 4, 5),
            (1, 4, 5), (4, 1, 4, 5), (1, 1, 4, 5), (1, 4, 5), (3, 4, 5), (3, 4, 5), (3, 4, 5),
        ],
    ),
    "rows": lambda: ([Rows((0,)), Synapse((1,), weights(5, 15, bits=4))], [(3, 4, 5), (15,), (5,)]),
}  # fmt: skip


@pytest.mark.parametrize("what", SMALL)
def test_operations_by_themselves(what, tmp_path):
    """Odd sizes, axes in other orders, numbers of both signs and of spikes."""
    ranges = ((-9, 9), (0, 1), (0, 200)) if what.startswith("convolution") else ((-9, 9), (0, 1))
    for place, ends in enumerate(ranges):
        for seed in range(20):  # whatever ran before; the first under which something comes out
            DRAW.bit_generator.state = np.random.default_rng(seed).bit_generator.state
            program, x = one(*SMALL[what](), *ends)
            if np.any(program.run(x)):
                break
        _, compiled = equal(program, tmp_path / str(place), x)
        assert np.any(compiled.run(x))


def test_every_operation_is_written():
    source(*(one([Sum((0,), (0,))], [(1, 2, 2), (1, 2, 2)])[0], "net"))  # loads the rules
    known = {kind for name, kind in OPERATIONS.items() if kind.__module__.startswith("saccade.")}
    assert known <= set(_RULES)
    assert {Hold, Rows, MatMul} <= known


def test_an_operation_of_somebody_else(tmp_path):
    class Halve(Operation):
        def step(self, state, *given):
            return given[0] >> 1, None

    program, x = one([Halve((0,))], [(1, 3, 3), (1, 3, 3)])
    Halve.name = "halve"
    with pytest.raises(ValueError, match=r"wire 1: how a halve is written in C is not known; a rule can be added"):
        source(program, "net")

    @writes_c(Halve)
    def halve(w, op):
        (given,) = w.reads(op)
        y = w.result_like([given])
        body = w.over(y, {"x": given}, [], lambda i: [f"y[{i['y']}] = ({y.kind})(x[{i['x']}] >> 1);"])
        w.function(body, {"x": given}, "halves")
        return y

    try:
        equal(program, tmp_path, x)
    finally:
        del _RULES[Halve]


def test_memory_is_shared_and_never_by_what_lives_together():
    model, pixels = woken("or_resnet18_small")
    c = source(lower(model, pixels / 255), "net")
    functions = c.plan.functions
    sizes = {wire: (start, start + c.writer.buffers[wire].bytes) for wire, start in c.plan.arena.items()}
    for at, function in enumerate(functions):
        # what is needed now: read now or later, and made before
        later = {buffer for other in functions[at:] for _, buffer, _ in other.reads if buffer}
        later |= {c.writer.views[term.wire].buffer for term in c.program.outputs}
        alive = sorted(sizes[wire] for wire in {f.wire for f in functions[:at]} & later | {function.wire})
        assert all(one[1] <= other[0] for one, other in pairwise(alive))
    assert c.plan.arena_bytes < sum(stop - start for start, stop in sizes.values()) / 2


@pytest.mark.parametrize("name", ["vgg_small", "rows_mlp", "spikformer_small"])
def test_layer_by_layer(name, tmp_path):
    """The same spikes with less memory, of sequences and of still pictures."""
    model, pixels = woken(name)
    for place, given in enumerate((pixels, pixels[0])):
        program = lower(model, given / 255)
        c, compiled = equal(program, tmp_path / str(place), given.numpy(), layer_by_layer=True)
        assert not c.plan.streams
        if name != "vgg_small":  # whose first currents are larger than the rest
            assert c.plan.ram < 0.9 * source(program, "net").plan.ram
        with pytest.raises(ValueError, match="looks at all steps of a sequence, and gives the answer alone"):
            compiled.steps(given.numpy())


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize(("decay", "shift"), [(1, 1), (1, 0), (700000, 20), (0, 0)])
def test_potentials_stay_where_they_are_proven_to(reset, decay, shift):
    levels = np.array([[[40]], [[90]]])
    op = Membrane(
        (0,), np.array([[8], [-3]]), np.array([[-2], [5]]), np.array([[decay]]), shift, levels, reset, np.array([[7]])
    )
    found = potentials(op, -20, 30, 12)
    state = None
    seen = []
    for _ in range(12):
        x = DRAW.choice([-20, 30, 0], (1, 400, 2, 1), p=[0.45, 0.45, 0.1])
        x[:, :3] = np.array([-20, 30, 1])[:, None, None]
        _, state = op.step(state, x)
        seen.append(state)
    assert found.kept[0] <= np.min(seen)
    assert np.max(seen) <= found.kept[1]
    assert found.kept[1] - found.kept[0] < 3 * (np.max(seen) - np.min(seen) + 100)  # and are no wild guess
    for_ever = potentials(op, -20, 30, None)
    if (decay, shift) == (1, 0):
        assert for_ever.steps is not None
        assert for_ever.steps > 100
    else:
        assert for_ever.steps is None


@pytest.mark.slow
@pytest.mark.parametrize("layer_by_layer", [False, True])
def test_the_shipped_digits(layer_by_layer, tmp_path):
    """A trained network with gates over its steps, on images that it was not trained on."""
    pytest.importorskip("sklearn")
    model = load_model(Path(__file__).parents[2] / "checkpoints" / "digits.safetensors").eval()
    test = DATA_SETS["digits"].read(tmp_path).test
    pixels = test.__getitems__(list(range(12)))[0].float()
    _, compiled = equal(lower(model, pixels / 255), tmp_path, pixels.numpy(), layer_by_layer=layer_by_layer)
    right = compiled.run(pixels.numpy()).argmax(1) == test.targets[:12].numpy()
    assert right.sum() >= 11


def test_steps_beyond_what_is_proven_are_refused(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(Conv2d(1, 2, 1), LIFConfig(tau=float("inf"), decay_input=False, reset="soft").build()).eval()
    x = torch.randint(256, (9, 1, 1, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    program = lower(model, x[:4] / 255)
    c = source(program, "net", steps=6)
    assert c.writer.most == 6
    write_c(c, tmp_path)
    compiled = load(tmp_path)
    assert np.array_equal(compiled.spikes(x[:6].numpy())[0][1], program.spikes(x[:6].numpy())["1"])
    with pytest.raises(
        ValueError, match="net: its ranges are proven for 6 steps from rest; export it with more --steps"
    ):
        compiled.run(x.numpy())
    assert not source(lower(nn.Sequential(Conv2d(1, 2, 1), LIFConfig().build()).eval(), x[:4] / 255), "net").writer.most


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A written network with groups, pools, residual connections and held wires."""
    folder = tmp_path_factory.mktemp("net")
    model, pixels = woken("or_resnet18_small")
    still = pixels[:1].expand_as(pixels).contiguous()
    wake(model, still / 255)
    program = lower(model.eval(), still[0] / 255)
    fired = write_c(source(program, "net"), folder, still[0].numpy())
    assert min(fired.values()) > 0
    save_program(program, folder / "net.sacc")
    return folder


def make(folder, *words):
    return subprocess.run(["make", "-C", str(folder), *words], capture_output=True, text=True, timeout=120)


def test_the_self_test_fails_where_it_should(project, tmp_path):
    shutil.copytree(project, tmp_path / "net")
    assert "all spikes and logits as expected" in make(tmp_path / "net", "test").stdout
    tables = next((tmp_path / "net" / "src").glob("*_tables.h"))
    text = tables.read_text()
    first = re.search(r"w\d+_weights\[\d+\] = \{(.*?)\}", text, re.DOTALL)
    tables.write_text(text[: first.start(1)] + re.sub(r"\d+", "1", first[1]) + text[first.end(1) :])
    done = make(tmp_path / "net", "test")
    assert done.returncode
    assert "FAILED" in done.stdout
    assert "spikes where" in done.stdout


def test_no_sum_leaves_its_type_and_no_read_its_memory(project):
    flags = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    done = make(project, "test", f"CFLAGS={flags}", "OUT=build-sanitized")
    if "cannot find" in done.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all spikes and logits as expected" in done.stdout


@pytest.mark.parametrize("machine", CROSS)
def test_other_processors(machine, project):
    compiler, emulator = CROSS[machine]
    if not shutil.which(compiler) or not shutil.which(emulator.split()[0]):
        pytest.skip(f"needs {compiler} and {emulator.split()[0]}")
    done = make(project, "test", f"CC={compiler}", f"RUN={emulator}", f"OUT=build-{machine}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all spikes and logits as expected" in done.stdout


def test_a_cortex_m(project):
    if not shutil.which("arm-none-eabi-gcc") or not shutil.which("qemu-system-arm"):
        pytest.skip("needs arm-none-eabi-gcc and qemu-system-arm")
    done = make(project, "qemu-m3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all spikes and logits as expected" in done.stdout
    for core in ("m3", "m33"):
        words = f"TARGET=-mcpu=cortex-{core} -mthumb", "SIZE=arm-none-eabi-size", f"OUT=build-{core}"
        sized = make(project, "size", "CC=arm-none-eabi-gcc", *words)
        flash, data, bss = map(int, sized.stdout.split("\n")[-3].split()[:3])
        assert data == bss == 0
        record = (project / "README.md").read_text()
        constants, code = (
            int(re.search(rf"flash: {part} \| (\d+)", record)[1]) for part in ("constants", "code, about")
        )
        assert constants < flash < constants + 1.3 * code


def test_build_systems_find_what_they_look_for(project, tmp_path):
    if shutil.which("cmake"):
        build = tmp_path / "cmake"
        done = subprocess.run(
            ["cmake", "-S", str(project), "-B", str(build), "-DNET_SELFTEST=ON"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert subprocess.run(["cmake", "--build", str(build)], capture_output=True).returncode == 0
        assert subprocess.run([str(build / "net_selftest")], capture_output=True).returncode == 0
    if shutil.which("g++"):  # Arduino includes the header from C++
        (tmp_path / "user.cpp").write_text(
            '#include "net.h"\nstatic net n;\nint main() { net_rest(&n); return net_class(nullptr); }\n'
        )
        flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
        done = subprocess.run(
            ["g++", *flags, f"-I{project / 'src'}", str(tmp_path / "user.cpp")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    for name, words in {
        "zephyr/module.yml": ("cmake: zephyr", "kconfig: zephyr/Kconfig"),
        "zephyr/CMakeLists.txt": ("CONFIG_NET", "../src/net.c"),
        "zephyr/Kconfig": ("config NET\n",),
        "library.properties": ("name=net", "includes=net.h", "architectures=*"),
    }.items():
        assert all(word in (project / name).read_text() for word in words), name
    code = "".join(
        re.sub(r"/\*.*?\*/", "", (project / "src" / name).read_text(), flags=re.S) for name in ("net.c", "net.h")
    )
    assert not re.search(r"\b(float|double|malloc|free)\b", code)
    assert set(re.findall(r"#include [<\"](.*?)[>\"]", code)) == {"net.h", "net_tables.h", "stdint.h", "string.h"}


def test_the_command(project, tmp_path, capsys):
    program = project / "net.sacc"
    assert run(["deploy", "c", str(program), str(tmp_path / "out"), "--name", "eye", "--fits", "64k,1M"]) == 0
    said = capsys.readouterr().out
    ram = int(re.search(r"RAM ([\d,]+) bytes", said)[1].replace(",", ""))
    assert (tmp_path / "out" / "src" / "eye.h").is_file()
    assert str(ram) in make(tmp_path / "out", "test").stdout
    for given, words in {
        f"{ram - 1},1M": rf"needs {ram:,} bytes of RAM and {ram - 1:,} are given; the largest part is .*; --layer-by-layer ",
        "1M,1k": r"bytes of flash and 1,024 are given; the largest part is table w\d+_",
        "64": "--fits takes RAM,FLASH such as 64k,512k; got '64'",
    }.items():
        assert run(["deploy", "c", str(program), str(tmp_path / "none"), "--fits", given]) == 2
        assert re.search(words, capsys.readouterr().err)
        assert not (tmp_path / "none").exists()
    for name in ("9-eyes", "double"):
        assert run(["deploy", "c", str(program), str(tmp_path / "none"), "--name", name]) == 2
        assert "a name in C is small letters, digits and _" in capsys.readouterr().err


def test_what_is_given_to_compiled_programs_is_checked(project, tmp_path, monkeypatch):
    compiled = load(project)
    for x, said in (
        (np.zeros((1, 3, 9, 9)), r"net takes \[N, 3, 16, 16\]; got \[1, 3, 9, 9\]"),
        (np.full((1, 3, 16, 16), 256), "net takes whole numbers from 0 to 255"),
        (np.full((1, 3, 16, 16), 0.5), "net takes whole numbers from 0 to 255"),
        (np.full((1, 3, 16, 16), np.nan), "net takes whole numbers from 0 to 255"),
    ):
        with pytest.raises(ValueError, match=said):
            compiled.run(x)
    with pytest.raises(ValueError, match="not a folder that `saccade deploy c` wrote"):
        load(tmp_path)
    with pytest.raises(ValueError, match="no-such-cc: no such compiler"):
        load(project, "no-such-cc")
    shutil.copytree(project, tmp_path / "net")
    source_file = Path(tmp_path / "net" / "src" / "net.c")
    source_file.write_text(source_file.read_text().replace("(-1 & 3) == 3", "(-1 & 3) == 2"))
    with pytest.raises(ValueError, match="cc refuses it") as error:
        load(tmp_path / "net")
    assert "\n" not in str(error.value)
    assert parse_fits("2k, 3M") == (2048, 3 << 20)
    c = source(one(*SMALL["tokens"]())[0], "net")
    with pytest.raises(ValueError, match="bytes of flash"):
        check_fits(c.writer, c.plan, 1 << 20, 10)
