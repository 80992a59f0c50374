"""Inference of one picture or 32: the native engine beside PyTorch, SpikingJelly, snnTorch and ANN twins, in one process.

    PYTHONPATH=src python benchmarks/inference.py [--rounds 7] [--seconds 0.04] [--out results/benchmarks/inference.json]

Then the network that comes along (checkpoints/cifar10) beside its ANN twin: trained weights, and the firing of real pictures.
Every contender is called from Python on the same pixels; calls last ``--seconds`` a sample, rounds are interleaved over the
contenders with a pause between them, the figure is the median over rounds of the median call. Peak memory is that of a fresh
process that makes and runs one contender. Networks and weights: ``inference_nets.py``; ``make_inference.py`` writes the page.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference_nets import CHANNELS, CLASSES, WIDTHS, Twin, chain
from side_by_side import machine
from torch import nn

from saccade.deploy import Program, engine, load_program, lower, save_program
from saccade.experiment import environment
from saccade.models import create_model
from saccade.transforms import QuantizeConfig, apply, fuse
from saccade.verify import wake

RATES = (2, 5, 10, 20, 40)
T = 4
FORMAT = "saccade-inference-1"
Call = Callable[[], Any]
Make = Callable[[np.ndarray, int], Call]  # of pixels and threads
SIZE = 32


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 3, SIZE, SIZE)).astype(np.uint8)


def program_of(folder: Path, width: str, rate: float) -> Program:
    path = folder / f"chain-{width}-{rate:g}.sacc"
    if not path.exists():
        x = torch.from_numpy(pixels(8)).float()
        save_program(lower(chain(width, rate / 100, x), x / 255, weight_bits=8), path)
    return load_program(path)


def small_resnet(bits: int) -> nn.Module:
    """or_resnet18_small with weights of a width (the first and last layer 8), awake."""
    torch.manual_seed(0)
    model = create_model("or_resnet18_small")
    x = torch.from_numpy(pixels(8)).float() / 255
    apply(model, QuantizeConfig("lsq", bits, steps="channel", skip=()))
    wake(model, x)
    return model.eval()


def small_program(folder: Path, bits: int) -> Program:
    path = folder / f"or-{bits}.sacc"
    if not path.exists():
        save_program(lower(small_resnet(bits), torch.from_numpy(pixels(8)).float() / 255), path)
    return load_program(path)


def native(program: Program, isa: str = "", kernel: str = "") -> Make:
    def make(x: np.ndarray, threads: int) -> Call:
        if not isa and not kernel:
            return lambda: program.run(x, threads=threads)
        runner = engine.plan(program, program.T, isa=isa, kernel=kernel)
        y = np.empty((len(x), *engine.answer_shape(program)))
        return lambda: runner.run(x, y, False, threads)

    return make


def eager(model: nn.Module, prepare: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> Make:
    def make(x: np.ndarray, threads: int) -> Call:
        given = prepare(torch.from_numpy(x).float() / 255)

        def call() -> Any:
            torch.set_num_threads(threads)
            with torch.inference_mode():
                return model(given)

        return call

    return make


def fused(model: nn.Module) -> nn.Module:
    x = torch.from_numpy(pixels(2)).float() / 255
    return fuse(model.eval(), x).model


class Jelly(nn.Module):
    """SpikingJelly as its examples write it: multi-step, the picture repeated T times."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, layer, neuron

        self.functional = functional
        parts: list[Any] = []
        for i, (a, b) in enumerate(pairwise(CHANNELS), 1):
            lif = neuron.LIFNode(tau=2.0, decay_input=False, v_reset=0.0, step_mode="m")
            conv = layer.Conv2d(a, b, 3, padding=1, bias=False, step_mode="m")
            norm = layer.BatchNorm2d(b, step_mode="m")
            copy_layer(like, i, conv, norm)
            parts += [conv, norm, lif] + ([layer.MaxPool2d(2, step_mode="m")] if i < 3 else [])
        self.layers = nn.Sequential(*parts)
        self.head = nn.Linear(CHANNELS[-1], CLASSES)
        copy_head(like, self.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.functional.reset_net(self)
        return self.head(self.layers(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean((-2, -1)))


class SnnTorch(nn.Module):
    """snnTorch as its tutorials write it: a loop over steps through all layers."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        import snntorch

        self.convs, self.norms, self.neurons = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, (a, b) in enumerate(pairwise(CHANNELS), 1):
            conv, norm = nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b)
            copy_layer(like, i, conv, norm)
            self.convs.append(conv)
            self.norms.append(norm)
            self.neurons.append(snntorch.Leaky(beta=0.5, threshold=1.0, reset_mechanism="zero", reset_delay=False))
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(CHANNELS[-1], CLASSES)
        copy_head(like, self.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = [neuron.reset_mem() for neuron in self.neurons]
        steps = []
        for _ in range(T):
            s = x
            for i, (conv, norm, neuron) in enumerate(zip(self.convs, self.norms, self.neurons, strict=True)):
                s, kept[i] = neuron(norm(conv(s)), kept[i])
                s = self.pool(s) if i < 2 else s
            steps.append(self.head(s.mean((-2, -1))))
        return torch.stack(steps)


def copy_layer(like: Any, i: int, conv: Any, norm: Any) -> None:
    with torch.no_grad():
        conv.weight.copy_(like.get_submodule(f"conv{i}").used_weight())
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).copy_(getattr(like.get_submodule(f"norm{i}"), name))


def copy_head(like: Any, head: Any) -> None:
    with torch.no_grad():
        head.weight.copy_(like.head.used_weight())
        head.bias.copy_(like.head.bias)


def folded_twin() -> nn.Module:
    torch.manual_seed(0)
    twin = Twin().eval()
    layers: list[nn.Module] = []
    for part in twin.layers:
        if isinstance(part, nn.BatchNorm2d):
            layers[-1] = torch.nn.utils.fusion.fuse_conv_bn_eval(layers[-1], part)
        else:
            layers.append(part)
    twin.layers = nn.Sequential(*layers)
    return twin


def onnx_files(folder: Path, model: Callable[[], nn.Module] = folded_twin, name: str = "twin") -> tuple[Path, Path]:
    """A network in float32, and with static int8 weights and activations, a scale an output channel."""
    whole, small = folder / f"{name}.onnx", folder / f"{name}-int8.onnx"
    if not small.exists():
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        batch = torch.export.Dim("batch", min=1, max=64)
        torch.onnx.export(
            model(),
            (torch.rand(2, 3, SIZE, SIZE),),
            whole,
            input_names=["x"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.left = iter([{"x": pixels(16).astype(np.float32) / 255}])

            def get_next(self) -> Any:
                return next(self.left, None)

        quantize_static(
            whole,
            small,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return whole, small


def runtime(path: Path) -> Make:
    def make(x: np.ndarray, threads: int) -> Call:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        bound = session.io_binding()  # no copies, which is its fastest call
        bound.bind_cpu_input("x", x.astype(np.float32) / 255)
        bound.bind_output(session.get_outputs()[0].name)
        return lambda: session.run_with_iobinding(bound)

    return make


def generated(program: Callable[[], Program], folder: Path) -> Make:
    """The program as C99, compiled by $CC with -O2 and its default instructions, one picture after another."""

    def make(x: np.ndarray, threads: int) -> Call:
        from saccade.deploy import c

        if not (folder / "src").exists():
            c.write_c(c.source(program(), "net"), folder)
        compiled = c.load(folder)
        return lambda: compiled.run(x)

    return make


CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "cifar10"


def trained_twin() -> nn.Module:
    """The layers of the network that comes along with ReLUs in the place of its neurons, norms folded."""
    from saccade.files import load_packed

    config: Any = load_packed(CHECKPOINT.with_suffix(".safetensors")).config
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise((3, *config.channels))):
        layers += [nn.MaxPool2d(2)] if i in config.pools else []
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
    side = SIZE >> len(config.pools) + 1
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(b * side * side, CLASSES)).eval()


def trained_contenders(folder: Path) -> dict[str, Make]:
    from saccade.files import load_packed

    program = load_program(CHECKPOINT.with_suffix(".sacc"))
    layout = {"memory_format": torch.channels_last}

    def own() -> nn.Module:
        return fused(load_packed(CHECKPOINT.with_suffix(".safetensors")))

    def last(which: int) -> Make:
        return lambda x, threads: runtime(onnx_files(folder, trained_twin, "trained")[which])(x, threads)

    return {
        "engine": native(program),
        "generated C": generated(lambda: program, folder / "trained-c"),
        "PyTorch eval, fused": later(own),
        "PyTorch eval, fused, channels last": later(lambda: own().to(**layout)),
        "ANN PyTorch fp32": later(lambda: trained_twin().to(**layout), lambda x: x.to(**layout)),
        "ANN ONNX Runtime fp32": last(0),
        "ANN ONNX Runtime int8": last(1),
    }


def test_pictures(data: str, count: int) -> np.ndarray:
    from saccade.data import load

    found = load("cifar10", data, validation=100).test.__getitems__(list(range(count)))[0]
    return found.to(torch.uint8).numpy()


def later(model: Callable[[], nn.Module], prepare: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> Make:
    """A model that is made when it is asked for, so that a process that measures memory makes no other."""
    return lambda x, threads: eager(model(), prepare)(x, threads)


def contenders(folder: Path) -> dict[str, Make]:
    def own() -> nn.Module:
        return chain("8", 0.1, torch.from_numpy(pixels(8)).float())

    def engine_of(width: str) -> Make:
        return lambda x, threads: native(program_of(folder, width, 10))(x, threads)

    def last(which: int) -> Make:
        return lambda x, threads: runtime(onnx_files(folder)[which])(x, threads)

    last_layout = {"memory_format": torch.channels_last}
    return {
        **{f"engine {width} bits": engine_of(width) for width in WIDTHS},
        **{
            f"generated C, {width} bits": generated(lambda w=width: program_of(folder, w, 10), folder / f"c-{width}")
            for width in ("8", "1")
        },
        "PyTorch eval, fused": later(lambda: fused(own())),
        "PyTorch eval, fused, channels last": later(lambda: fused(own()).to(**last_layout)),
        "SpikingJelly": later(lambda: Jelly(own()).eval()),
        "snnTorch": later(lambda: SnnTorch(own()).eval()),
        "ANN PyTorch fp32": later(lambda: folded_twin().to(**last_layout), lambda x: x.to(**last_layout)),
        "ANN ONNX Runtime fp32": last(0),
        "ANN ONNX Runtime int8": last(1),
    }


def measure(makes: dict[str, Make], x: np.ndarray, threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Medians over interleaved rounds, milliseconds: of the medians of samples, with their quartiles and least."""
    calls: dict[str, Call] = {}
    for name, make in makes.items():
        calls[name] = make(x, threads)
        for _ in range(3):
            calls[name]()
    took: dict[str, list[float]] = {name: [] for name in calls}
    gc.disable()
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(0.05)  # until the threads of the contender before, which wait by spinning, sleep
            call()
            times: list[float] = []
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(times) < 3:
                begin = time.perf_counter()
                call()
                times.append(time.perf_counter() - begin)
            took[name].append(statistics.median(times) * 1e3)
    gc.enable()
    return {
        name: {
            "median_ms": statistics.median(values),
            "quartiles_ms": [float(q) for q in np.quantile(values, (0.25, 0.75))],
            "least_ms": min(values),
        }
        for name, values in took.items()
    }


def peak(name: str) -> float:
    """MB of a fresh process that makes a contender and runs it on one picture."""
    found = subprocess.run(
        [sys.executable, __file__, "--peak", name], capture_output=True, text=True, check=True, env=os.environ
    )
    return float(found.stdout.splitlines()[-1])


def show_peak(name: str, folder: Path) -> None:
    contenders_of = contenders(folder)
    contenders_of[name](pixels(1), 1)()
    # not getrusage, whose peak a new process inherits from the one that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)


def flags() -> list[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    line = next((line for line in lines if line.startswith("flags")), "")
    return [
        flag for flag in line.partition(":")[2].split() if flag.startswith(("avx", "sse4", "bmi", "popcnt", "gfni"))
    ]


def kernel_shares(program: Program, rounds: int) -> list[dict[str, Any]]:
    """Of the second and third convolution: dense-equivalent products a second, and their share of the machine's."""
    top = engine.module().ceilings()
    work = T * 16 * 16 * 64 * 128 * 9
    x, found = pixels(1), []
    for kernel in ("events", "counts", "tables", "codebook"):
        runner = engine.plan(program, T, kernel=kernel)
        if not any(how == kernel for _, how in runner.steps()):
            continue
        runner.run(x, np.empty((1, CLASSES)), False, 1)
        times = runner.time(rounds, 1, 0.25)
        for (wire, how), took in zip(runner.steps(), times, strict=True):
            if how == kernel and wire not in (10, 12):
                row = {"kernel": kernel, "wire": wire, "microseconds": took, "gmac_s": work / took / 1e3}
                found.append(row | {"ceiling_gmac_s": top.get(kernel, 0) / 1e9})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.04)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent.parent / "results" / "benchmarks" / "inference.json"
    )
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "saccade-inference", help="made networks"
    )
    parser.add_argument("--data", help="folder of CIFAR-10, whose pictures the trained network is shown (else noise)")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    if options.peak:
        return show_peak(options.peak, options.work)
    makes = contenders(options.work)
    programs = {(w, r): program_of(options.work, w, r) for w in WIDTHS for r in RATES}
    resnets = {bits: small_program(options.work, bits) for bits in (8, 4, 2)}
    resnet_eager = eager(fused(small_resnet(4)))
    check = {w: float(np.mean([value.mean() for value in [programs[w, 10].spikes(pixels(8))["lif3"]]])) for w in WIDTHS}
    peaks = {name: peak(name) for name in makes}
    print("measuring", flush=True)
    begun = time.time()
    record: dict[str, Any] = {"format": FORMAT, "machine": machine(), "flags": flags(), "rate_last": check}
    record["peak_mb"], record["cells"] = peaks, []
    for threads in (1, 2):
        for batch in (1, 32):
            cell = measure(makes, pixels(batch), threads, options.rounds, options.seconds)
            record["cells"].append({"threads": threads, "batch": batch, "rows": cell})
    by_rate = {f"{w} bits, {r} %": native(programs[w, r]) for w in WIDTHS for r in RATES}
    record["by_rate"] = measure(by_rate, pixels(1), 1, options.rounds, options.seconds / 2)
    more = {"1": ("counts",), "0.44": ("counts", "codebook")}
    forced = {
        f"{w} bits, {r} %, {kernel}": native(programs[w, r], kernel=kernel)
        for w in WIDTHS
        for r in RATES
        for kernel in ("events", "tables", *more.get(w, ()))
    }
    record["by_kernel"] = measure(forced, pixels(1), 1, 3, options.seconds / 2)
    for isa in ("avx2", "portable"):
        rows = {f"{w} bits": native(programs[w, 10], isa=isa) for w in WIDTHS}
        record[isa] = {f"{n} threads": measure(rows, pixels(1), n, 3, options.seconds) for n in (1, 2)}
    for threads in (1, 2):
        rows = {f"engine {bits} bits": native(p) for bits, p in resnets.items()} | {"PyTorch eval, fused": resnet_eager}
        record[f"or_resnet18_small, {threads} threads"] = measure(
            rows, pixels(1), threads, options.rounds, options.seconds
        )
    record["trained_pictures"] = "CIFAR-10 test" if options.data else "noise"
    shown = test_pictures(options.data, 32) if options.data else pixels(32)
    record["trained"] = []
    trained = trained_contenders(options.work)
    for threads in (1, 2):
        for batch in (1, 32):
            rows = measure(trained, shown[:batch], threads, options.rounds, options.seconds)
            record["trained"].append({"threads": threads, "batch": batch, "rows": rows})
    record["kernels"] = {w: kernel_shares(programs[w, 10], 200) for w in WIDTHS}
    record["seconds"] = time.time() - begun
    whole, small = onnx_files(options.work)
    sizes = {f"engine {w} bits": (options.work / f"chain-{w}-10.sacc").stat().st_size for w in WIDTHS}
    record["bytes"] = sizes | {
        "ANN ONNX Runtime fp32": whole.stat().st_size,
        "ANN ONNX Runtime int8": small.stat().st_size,
    }
    whole, small = onnx_files(options.work, trained_twin, "trained")
    record["trained_bytes"] = {
        "engine": CHECKPOINT.with_suffix(".sacc").stat().st_size,
        "ANN ONNX Runtime fp32": whole.stat().st_size,
        "ANN ONNX Runtime int8": small.stat().st_size,
    }
    record["commit"] = environment()["commit"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
