"""What other generators make of the network of ``generated_c.py``: qualia-codegen's plugin for spiking networks (AGPL; called,
never imported by the package) and snn-mlir, each by its own functions, with the settings that it offers.

snn-mlir needs LLVM and MLIR 22 (mlir-22-tools, llvm-22; $LLVM_BIN, default /usr/lib/llvm-22/bin) and its own ``snn-opt``
($SNN_OPT), built from its repository.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import subprocess
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generated_c_net import CHANNELS, CLASSES, LEVELS, SIDE, Chain, T
from torch import Tensor, nn

STOPS = (2, 5)  # parts up to which a network ends with its first or second layer of neurons: what it answers are spikes


@dataclass(frozen=True)
class Made:
    """C of a network. ``run.c`` in its folder is ours, and calls what the generator made: ``source`` that is compiled, or an
    object by the name of the flags.

    unit: of a pixel; scale: what 1 of an answer is worth; shape: of an answer, ``channels_last`` in memory. kept: bytes that
    the caller keeps from step to step.
    """

    folder: Path
    pixel: str
    answer: str
    shape: tuple[int, ...]
    unit: float
    scale: float
    channels_last: bool = False
    kept: int = 0
    source: Path | None = None
    include: tuple[Path, ...] = ()
    objects: dict[str, Path] = field(default_factory=dict)


# qualia-codegen


class Parts(nn.Module):
    """The chain in modules of torch and SpikingJelly, up to ``stop``; its T, and the shape of a picture, as qualia asks."""

    is_snn = True
    input_shape = (T, SIDE, SIDE, CHANNELS[0])

    def __init__(self, model: Chain, stop: int | None = None) -> None:
        super().__init__()
        from spikingjelly.activation_based.neuron import IFNode

        layers: list[nn.Module] = []
        for own, (a, b) in zip((model.conv1, model.conv2), pairwise(CHANNELS), strict=True):
            conv = nn.Conv2d(a, b, 3, padding=1)
            copy_weights(own, conv)
            layers += [conv, IFNode(v_threshold=1.0, v_reset=0.0), nn.AvgPool2d((2, 2))]
        head = nn.Linear(model.head.weight.shape[1], CLASSES)
        copy_weights(model.head, head)
        self.parts = nn.Sequential(*[*layers, nn.Flatten(), head][:stop])

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)


def copy_weights(own: Any, to: Any) -> None:
    with torch.no_grad():
        to.weight.copy_(own.weight)
        to.bias.copy_(own.bias)


@torch.no_grad()
def ranges(model: Chain, x: Tensor) -> list[tuple[float, float, float, float]]:
    """Of each part: the largest output, weight, bias and potential, seen on pictures; neurons have no weight."""
    parts, found = Parts(model).eval().parts, []
    drive = x / LEVELS
    potentials: dict[int, Tensor] = {}
    seen = [[0.0] * 4 for _ in parts]
    for _ in range(T):
        y = drive
        for i, part in enumerate(parts):
            if type(part).__name__ == "IFNode":
                u = potentials.get(i, torch.zeros_like(y)) + y
                seen[i][3] = max(seen[i][3], float(u.abs().max()))
                y = (u >= 1).float()
                potentials[i] = u * (1 - y)
            else:
                y = part(y)
            seen[i][0] = max(seen[i][0], float(y.abs().max()))
    for i, part in enumerate(parts):
        if isinstance(getattr(part, "weight", None), Tensor):
            seen[i][1], seen[i][2] = float(part.weight.abs().max()), float(part.bias.abs().max())
        found.append((seen[i][0], seen[i][1], seen[i][2], seen[i][3]))
    return found


def bits_behind(largest: float, width: int) -> int:
    """The most bits behind the point with which a number fits a word of a width."""
    return width - 1 - math.ceil(math.log2(largest * (1 + 2.0 ** (1 - width)))) if largest else width - 1


def qualia(
    model: Chain, kind: str, folder: Path, x: Tensor, stop: int | None = None, closer: tuple[int, int] = (0, 0)
) -> Made:
    """kind: float32, int16 or int8, all that it offers. The points of numbers lie where pictures x need them, layer by layer,
    rounding is to the nearest; closer: bits more behind the point of potentials and of what neurons receive, which saturate.

    Raises ImportError where it is missing, RuntimeError where it refuses.
    """
    from qualia_codegen_core.graph.ActivationRange import ActivationRange
    from qualia_codegen_core.graph.ActivationsRange import ActivationsRange
    from qualia_codegen_core.graph.RoundMode import RoundMode
    from qualia_codegen_core.main import annotate_quantization
    from qualia_codegen_plugin_snn import Converter
    from qualia_codegen_plugin_snn.graph import TorchModelGraph

    with contextlib.redirect_stdout(io.StringIO()):
        graph = TorchModelGraph(Parts(model, stop).eval()).convert()
    if graph is None:
        raise RuntimeError("qualia-codegen: the network was not converted")
    types = {"float32": (float, 32, 32), "int16": (int, 16, 32), "int8": (int, 8, 16)}
    number, width, long = types[kind]
    table, before = ActivationsRange(), 4  # pixels are whole 16ths
    if number is int:
        near = RoundMode.NEAREST
        for node, (output, weight, bias, potential) in zip(graph.nodes[1:], ranges(model, x), strict=False):
            if hasattr(node.layer, "v_threshold"):
                # a spike has 2 bits behind the point, which the mean of four needs; the potential is kept in the weights' scale
                after, of_weights, of_bias = 2, bits_behind(potential, width) + closer[0], None
            elif weight:
                after = bits_behind(output, width) + (closer[1] if node is not graph.nodes[-1] else 0)
                # sums of the long word do not saturate, they wrap
                of_weights = min(bits_behind(weight, width), bits_behind(output * 1.25, long) - before)
                of_bias = min(bits_behind(bias, width), of_weights)
            else:
                after, of_weights, of_bias = before, 0, None
            table[node.layer.name] = ActivationRange(
                width, width, width, width, before, after, of_weights, of_bias, near, near, near
            )
            before = after
        first = graph.nodes[0].layer.name
        table[first] = ActivationRange(width, width, 0, None, 4, 4, 0, None, near, near, None)
    if not annotate_quantization(graph, table, number, width, long):
        raise RuntimeError("qualia-codegen: no quantization")
    if not isinstance(Converter(output_path=folder, model_name="net").convert_model(graph), str):
        raise RuntimeError("qualia-codegen: no C was made")
    last = graph.nodes[-1]
    shape = tuple(last.output_shape[0][1:])
    word = {"float32": "float"}.get(kind, f"{kind}_t")
    (folder / "run.c").write_text(
        f"""#include "number.h"
#include "model.h"
typedef {word} net_pixel, net_number;
void net_rest(void) {{ reset(); }}
void net_step(const net_pixel *picture, net_number *answer) {{ net((const void *)picture, (void *)answer); }}
"""
    )
    exact = number is float
    return Made(
        folder,
        kind,
        kind,
        (shape[-1], *shape[:-1]),
        unit=1 / LEVELS if exact else 1.0,
        scale=1.0 if exact else 2.0**-last.q.output_scale_factor,
        channels_last=True,
        source=folder / "model.c",
        include=(folder, folder / "include"),
    )


# snn-mlir

# its own list with -expand-strided-metadata, without which a convolution with a border is not lowered (``own_passes``)
PASSES = (
    "-convert-linalg-to-affine-loops -affine-loop-invariant-code-motion -affine-scalrep -cse -canonicalize -lower-affine "
    "-convert-scf-to-cf -expand-strided-metadata -lower-affine -convert-func-to-llvm -convert-cf-to-llvm "
    "-finalize-memref-to-llvm -convert-arith-to-llvm -reconcile-unrealized-casts -canonicalize"
).split()
PASSES_32 = [f"{p}=index-bitwidth=32" if p.endswith("-to-llvm") else p for p in PASSES]  # where addresses have 32 bits


def nir_graph(model: Chain, stop: int | None, strict: float) -> Any:
    """The chain as NIR. Its pixels are levels, so the first weights are divided by 16; sums in the place of means, so the next
    are divided by 4: bytes would cut means of spikes to 0. strict: the threshold that fires only above it."""
    import nir

    def array(x: Tensor) -> Any:
        return x.detach().numpy().astype(np.float32)

    def neuron(channels: int, side: int) -> Any:
        shape = (channels, side, side)
        return nir.IF(
            r=np.ones(shape, np.float32),
            v_threshold=np.full(shape, strict, np.float32),
            v_reset=np.zeros(shape, np.float32),
        )

    def pool() -> Any:
        return nir.SumPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 0]))

    parts: dict[str, Any] = {}
    side = SIDE
    for i, own in enumerate((model.conv1, model.conv2), 1):
        weight = array(own.weight) / (LEVELS if i == 1 else 4)
        parts[f"conv{i}"] = nir.Conv2d((side, side), weight, 1, 1, 1, 1, array(own.bias))
        parts[f"if{i}"] = neuron(CHANNELS[i], side)
        parts[f"pool{i}"] = pool()
        side //= 2
    parts["flatten"] = nir.Flatten({"input": np.array([CHANNELS[2], side, side])}, 0, -1)
    parts["head"] = nir.Affine(array(model.head.weight) / 4, array(model.head.bias))
    parts["sum"] = nir.I(r=np.ones(CLASSES, np.float32))
    names = list(parts)[:stop]
    shape = np.array([CHANNELS[0], SIDE, SIDE])
    out = np.array([CLASSES]) if stop is None else np.array(parts[names[-1]].v_threshold.shape)
    nodes = {
        "input": nir.Input({"input": shape}),
        **{n: parts[n] for n in names},
        "output": nir.Output({"output": out}),
    }
    order = list(nodes)
    return nir.NIRGraph(nodes, list(pairwise(order)))


def own_passes(model: Chain) -> str:
    """What its own list of passes, without ours, says about the network: nothing, or why it stops."""
    try:
        import snn_mlir as package
        from snn_mlir._run import _MLIR_OPT_PASSES

        tool = Path(os.environ.get("LLVM_BIN", "/usr/lib/llvm-22/bin"))
        text = package.to_mlir(nir_graph(model, None, 1.0), quantize=True)
        lines = subprocess.run([os.environ["SNN_OPT"], "-", "--convert-snn-to-linalg"], input=text, **RUN).stdout
        lines = subprocess.run([tool / "mlir-opt", *_MLIR_OPT_PASSES], input=lines, **RUN).stdout
        subprocess.run([tool / "mlir-translate", "--mlir-to-llvmir"], input=lines, **RUN)
    except subprocess.CalledProcessError as error:
        return str(error.stderr.strip().splitlines()[0])
    except (ImportError, KeyError, OSError) as error:
        return f"not tried: {type(error).__name__}"
    return ""


def snn_mlir(model: Chain, kind: str, folder: Path, stop: int | None = None, passes: str = "run") -> Made:
    """kind: float32, or int8 (weights of bytes, potentials of 12 bits behind the point), all that it offers.

    Raises ImportError or FileNotFoundError saying what is missing, CalledProcessError where a tool refuses.
    """
    import snn_mlir as package

    tool = Path(os.environ.get("LLVM_BIN", "/usr/lib/llvm-22/bin"))
    snn_opt = os.environ.get("SNN_OPT", "")
    for path, what in ((snn_opt, "its snn-opt ($SNN_OPT)"), (tool / "mlir-opt", "MLIR 22 ($LLVM_BIN)")):
        if not path or not Path(path).exists():
            raise FileNotFoundError(f"snn-mlir needs {what}")
    quantized = kind == "int8"
    # it fires above the threshold, ours at it
    strict = 1 - 2.0**-12 if quantized else float(np.nextafter(np.float32(1), np.float32(0)))
    graph = nir_graph(model, stop, strict)
    folder.mkdir(parents=True, exist_ok=True)
    text = package.to_mlir(graph, quantize=quantized)
    layers = package.parse_graph(graph)
    lines = subprocess.run([snn_opt, "-", "--convert-snn-to-linalg"], input=text, **RUN).stdout
    wide = subprocess.run([tool / "mlir-opt", *PASSES], input=lines, **RUN).stdout
    short = subprocess.run([tool / "mlir-opt", *PASSES_32], input=lines, **RUN).stdout
    for name, made in (("network", wide), ("network32", short)):
        done = subprocess.run([tool / "mlir-translate", "--mlir-to-llvmir"], input=made, **RUN)
        (folder / f"{name}.ll").write_text(done.stdout)
    shapes = [tuple(map(int, layer.out_shape)) for layer in layers if layer.is_neuron]
    kept, pixel = ("int32_t", "int8_t") if quantized else ("float", "float")
    answer = pixel if stop else kept
    numbers = [math.prod(shape) for shape in shapes]
    (folder / "run.c").write_text(
        f"""#include <stdint.h>
#include <string.h>
typedef {pixel} net_pixel;
typedef {answer} net_number;
struct memref {{ const void *allocated, *aligned; intptr_t numbers[7]; }};
void _mlir_ciface_snn_forward_step({", ".join(["struct memref *"] * (len(shapes) + 2))});
static struct {{ {" ".join(f"{kept} v{i}[{count}];" for i, count in enumerate(numbers))} }} net;
void net_rest(void) {{ memset(&net, 0, sizeof net); }}
void net_step(const net_pixel *picture, net_number *answer)
{{
    {described_by("in", "picture", (CHANNELS[0], SIDE, SIDE))}
    {" ".join(described_by(f"d{i}", f"net.v{i}", shape) for i, shape in enumerate(shapes))}
    {described_by("out", "answer", shapes[-1])}
    _mlir_ciface_snn_forward_step(&in{"".join(f", &d{i}" for i in range(len(shapes)))}, &out);
}}
"""
        # the last layer adds up steps itself
        + ("" if stop else "#define NET_ADDS_UP\n")
    )
    return Made(
        folder,
        "int8" if quantized else "float32",
        "float32" if not quantized else "int8" if stop else "int32",
        shapes[-1],
        unit=1.0,
        scale=1.0 if stop or not quantized else 2.0**-12,
        kept=4 * sum(numbers),
        objects={flags: objects_of(tool, folder, flags, passes) for flags in TARGETS},
    )


RUN: dict[str, Any] = {"capture_output": True, "text": True, "check": True}


def described_by(name: str, pointer: str, shape: tuple[int, ...]) -> str:
    strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    return f"struct memref {name} = {{{pointer}, {pointer}, {{0, {', '.join(map(str, (*shape, *strides)))}}}}};"


TARGETS = {  # options of llc, by the options of gcc
    "-O3": ("network", ""),
    "-O3 -march=native": ("network", "-mcpu=native"),
    "-O3 -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard": (
        "network32",
        "-mtriple=thumbv7em-none-eabihf -mcpu=cortex-m4 -mattr=+vfp4d16sp",
    ),
}


def objects_of(tool: Path, folder: Path, flags: str, passes: str) -> Path:
    """An object of the network: by ``llc`` alone, as ``snn-mlir run`` compiles, or by ``opt -O3`` and ``llc -O3``."""
    name, options = TARGETS[flags]
    source, out = folder / f"{name}.ll", folder / f"{len(flags)}.o"
    target, better = options.split(), []
    if passes == "opt":
        subprocess.run([tool / "opt", "-O3", *target, source, "-o", folder / f"{name}.bc"], **RUN)
        source, better = folder / f"{name}.bc", ["-O3"]
    where = "pic" if name == "network" else "static"
    subprocess.run(
        [tool / "llc", *better, f"--relocation-model={where}", "-filetype=obj", *target, source, "-o", out], **RUN
    )
    return out
