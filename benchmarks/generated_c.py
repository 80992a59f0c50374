"""C of one network by Saccade, qualia-codegen's plugin and snn-mlir: time, bytes, memory, and what is equal to the model.

    PYTHONPATH=src:PEERS SNN_OPT=... python benchmarks/generated_c.py [--rounds 15] [--out results/deploy/generated-c.json]

The network (``generated_c_net.py``) is trained here, the same each time. The C of each generator is compiled with the same
compiler and options, and loaded into one process; one thread, one picture after another. A sample is the mean over 20 pictures,
rounds are interleaved over the contenders; ratios are taken within a round. Stack is what a call touched of a painted one.
On a Cortex-M4 (arm-none-eabi-gcc, newlib, qemu-system-arm), instructions are counted as in ``microcontroller.py``. What cannot
be run here is stored with its reason. PEERS: a folder with qualia-codegen-core, qualia-codegen-plugin-snn and snn-mlir (pip
install --no-deps --target), tabulate, SpikingJelly and nir; see ``generated_c_peers.py``.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import generated_c_peers as peers
import numpy as np
import torch
from generated_c_net import LEVELS, WIDTHS, Chain, T, pictures, trained, with_width
from generated_c_peers import STOPS, Made
from side_by_side import machine, version

from saccade.deploy import c, lower
from saccade.experiment import environment
from saccade.graph import observe
from saccade.neurons.spiking import Spiking

ROOT = Path(__file__).parents[1]
FORMAT = "saccade-generated-c-1"
NATIVE = ("-O3", "-O3 -march=native")
BOARD = "-O3 -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard"
TICK = 40  # instructions of a tick of SysTick, see microcontroller.py
COMPARED, TIMED = 100, 20  # pictures
STEPS_RUN = """
#define NET_RUN
static void net_run(const net_pixel *picture, net_sum *sums)
{
    net_rest();
    for (int i = 0; i < NET_SIZE; i++) sums[i] = 0;
    for (int t = 0; t < NET_T; t++) {
        static net_number answer[NET_SIZE];
        net_step(picture, answer);
#ifdef NET_ADDS_UP
        for (int i = 0; i < NET_SIZE; i++) sums[i] = answer[i];
#else
        for (int i = 0; i < NET_SIZE; i++) sums[i] += answer[i];
#endif
    }
}
"""
HOST = """
#include <stddef.h>
#include <string.h>
#include <ucontext.h>
void net_many(const net_pixel *pictures, int count, int pixels, net_sum *sums)
{
    for (int i = 0; i < count; i++) net_run(pictures + i * pixels, sums + i * NET_SIZE);
}
#ifndef NET_WHOLE
void net_steps(const net_pixel *picture, net_number *answers)
{
    net_rest();
    for (int t = 0; t < NET_T; t++) net_step(picture, answers + t * NET_SIZE);
}
#endif
static unsigned char paint[8 << 20];
static ucontext_t back, there;
static const net_pixel *shown;
static net_sum found[NET_SIZE];
static void one(void) { net_run(shown, found); }
size_t net_stack(const net_pixel *picture)
{
    memset(paint, 0xA5, sizeof paint);
    shown = picture;
    getcontext(&there);
    there.uc_stack.ss_sp = paint;
    there.uc_stack.ss_size = sizeof paint;
    there.uc_link = &back;
    makecontext(&there, one, 0);
    swapcontext(&back, &there);
    size_t i = 0;
    while (i < sizeof paint && paint[i] == 0xA5) i++;
    return sizeof paint - i;
}
"""
ON_BOARD = """
#include <stdio.h>
uint32_t ticks_left(void);
static __attribute__((noinline)) void counted(void)
{
    static net_sum sums[NET_SIZE];
    const uint32_t before = ticks_left();
    net_run(picture, sums);
    const uint32_t after = ticks_left();
    printf("ticks %lu\\nsums", (unsigned long)(before - after));
    for (int i = 0; i < NET_SIZE; i++) printf(" %ld", (long)(sums[i] * NET_SHOWN));
    printf("\\n");
}
int main(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xF00000; /* the FPU on, before a function saves its registers */
    __asm volatile("dsb\\n isb" ::: "memory");
    counted();
    return 0;
}
"""


@dataclass(frozen=True)
class Contender:
    """make: C in a folder, of the whole network or up to a part (other generators show spikes as answers alone)."""

    name: str
    settings: str
    make: Callable[[Path, int | None], Made]
    model: Chain
    ours: Path | None = None


def saccade_c(model: Chain, folder: Path, layer_by_layer: bool = False, **settings: Any) -> Made:
    program = lower(model, torch.zeros(1, 1, 32, 32), unit=1 / LEVELS, **settings)
    source = c.source(program, "chain", layer_by_layer=layer_by_layer)
    c.write_c(source, folder)
    # a run gives the sums over steps at once
    (folder / "run.c").write_text(
        """#include "chain.h"
typedef chain_input net_pixel;
typedef int64_t net_number;
static struct chain net;
#define NET_WHOLE
static void net_run(const net_pixel *picture, int64_t *sums) { chain_run(&net, picture, sums); }
"""
    )
    return Made(
        folder,
        "uint8",
        "int64",
        (10,),
        unit=1.0,
        scale=2.0**-source.answer.bits,
        kept=source.plan.ram,
        source=folder / "src" / "chain.c",
        include=(folder, folder / "src"),
    )


def contenders(work: Path, x: torch.Tensor) -> list[Contender]:
    torch.set_num_threads(1)
    model = trained()
    found = []
    for settings in (
        {},
        {"layer_by_layer": True},
        {"weight_bits": 16, "fraction": 16, "layer_by_layer": True},
        {"weight_bits": 8, "fraction": 12},
    ):
        words = (
            "default" if not settings else ", ".join(f"{k} {v}" if v is not True else k for k, v in settings.items())
        )
        folder = work / f"saccade-{len(found)}"
        found.append(
            Contender("saccade", words, lambda _, stop, s=settings, f=folder: saccade_c(model, f, **s), model, folder)
        )
    for width in WIDTHS:
        own, folder = with_width(model, width), work / f"saccade-trained-{width}"
        words = f"trained with {width} bit{'s' * (width != '1')}, fraction 12"
        make = lambda _, stop, m=own, f=folder: saccade_c(m, f, fraction=12)  # noqa: E731
        found.append(Contender("saccade", words, make, own, folder))
    for kind in ("float32", "int16", "int8"):
        make = partial(qualia_c, model, kind, x)
        found.append(Contender("qualia-codegen", kind, make, model))
    make = partial(closest, model, x)
    found.append(Contender("qualia-codegen", "int8, best of 9 points", make, model))
    for kind in ("float32", "int8"):
        for passes in ("run", "opt"):
            words = kind + (", opt -O3" if passes == "opt" else ", as its run")
            found.append(Contender("snn-mlir", words, partial(snn_mlir_c, model, kind, passes), model))
    return found


def qualia_c(
    model: Chain, kind: str, x: torch.Tensor, folder: Path, stop: int | None, closer: tuple[int, int] = (0, 0)
) -> Made:
    return peers.qualia(model, kind, folder, x, stop, closer)


def snn_mlir_c(model: Chain, kind: str, passes: str, folder: Path, stop: int | None) -> Made:
    return peers.snn_mlir(model, kind, folder, stop, passes)


CLOSEST: dict[str, tuple[int, int]] = {}


def closest(model: Chain, x: torch.Tensor, folder: Path, stop: int | None) -> Made:
    """int8 by qualia with the points of the nine with which logits of training pictures are nearest to the model's."""
    if "int8" not in CLOSEST:
        with torch.no_grad():
            wanted = model(x / LEVELS).mean(0).double().numpy()
        errors = {}
        for potentials in (0, 1, 2):
            for drives in (0, 1, 2):
                made = peers.qualia(model, "int8", folder / f"try-{potentials}-{drives}", x, None, (potentials, drives))
                errors[potentials, drives] = float(np.abs(Library(made, "-O3").logits(x) - wanted).mean())
        CLOSEST["int8"] = min(errors, key=lambda key: errors[key])
    return peers.qualia(model, "int8", folder, x, stop, CLOSEST["int8"])


def compiler(board: bool) -> str:
    return "arm-none-eabi-gcc" if board else os.environ.get("CC") or "gcc"


def sources_of(made: Made, flags: str, text: str) -> tuple[Path, list[str]]:
    """A C file around ``run.c``, and the words of the compiler for what the generator made."""
    size = int(np.prod(made.shape))
    sums = {"f": "float", "i": "int64_t" if made.answer == "int64" else "int32_t"}[np.dtype(made.answer).kind]
    path = made.folder / f"around-{len(flags)}-{len(text)}.c"
    path.write_text(
        f'#include <stdint.h>\n#include "run.c"\nenum {{ NET_T = {T}, NET_SIZE = {size} }};\ntypedef {sums} net_sum;\n'
        + ("" if "NET_WHOLE" in (made.folder / "run.c").read_text() else STEPS_RUN)
        + text
    )
    rest = [str(made.objects[flags])] if made.source is None else [str(made.source)]
    return path, ["-std=gnu11", *flags.split(), *(f"-I{i}" for i in (made.folder, *made.include)), *rest]


def checked(words: list[Any]) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{Path(str(words[0])).name}: {first_error(done.stderr)}")
    return done.stdout


def first_error(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if "warning" not in line.lower()] or ["no message"]
    return next((line for line in lines if "error" in line or "undefined" in line), lines[0])


class Library:
    """A network as a shared library in this process."""

    def __init__(self, made: Made, flags: str) -> None:
        path, words = sources_of(made, flags, HOST)
        library = made.folder / f"net{len(flags)}.so"
        checked([compiler(False), path, *words, "-shared", "-fPIC", "-lm", "-o", library])
        self.made, self.size, self._library = made, int(np.prod(made.shape)), ctypes.CDLL(str(library))
        self._library.net_stack.restype = ctypes.c_size_t

    def pixels(self, x: torch.Tensor) -> np.ndarray:
        return np.ascontiguousarray((x.numpy() * self.made.unit).astype(self.made.pixel))

    def caller(self, x: torch.Tensor) -> tuple[Callable[[], Any], np.ndarray]:
        """A call that runs all pictures, and where the sums of their steps will be."""
        given = self.pixels(x)
        kind = np.dtype(self.made.answer)
        kind = kind if kind.kind == "f" or kind.itemsize == 8 else np.dtype("int32")
        sums = np.zeros((len(x), self.size), kind)
        pixels = int(np.prod(given.shape[1:]))
        where, to = ctypes.c_void_p(given.ctypes.data), ctypes.c_void_p(sums.ctypes.data)
        many = self._library.net_many
        return lambda kept=(given, sums): many(where, len(x), pixels, to), sums  # kept: C holds their addresses alone

    def logits(self, x: torch.Tensor) -> np.ndarray:
        call, sums = self.caller(x)
        call()
        return sums.astype(np.float64) * self.made.scale / T

    def spikes(self, x: torch.Tensor) -> np.ndarray:
        """Of a network that ends with neurons: ``[T, N, C, H, W]``."""
        rows = []
        for one in self.pixels(x):
            answers = np.zeros((T, self.size), self.made.answer)
            self._library.net_steps(ctypes.c_void_p(one.ctypes.data), ctypes.c_void_p(answers.ctypes.data))
            rows.append(answers != 0)
        found, shape = np.stack(rows, 1), self.made.shape
        if not self.made.channels_last:
            return found.reshape(T, len(x), *shape)
        return found.reshape(T, len(x), *shape[1:], shape[0]).transpose(0, 1, 4, 2, 3)

    def stack(self, x: torch.Tensor) -> int:
        given = self.pixels(x[:1])
        return int(self._library.net_stack(ctypes.c_void_p(given.ctypes.data)))


def sections(made: Made, flags: str, board: bool = False) -> dict[str, int]:
    """Bytes of what the generator made: code, constants, and memory with a fixed place."""
    if made.source is None:
        objects = made.objects[flags]
    else:
        objects = made.folder / f"size-{len(flags)}.o"
        words = ["-std=gnu11", *flags.split(), *(f"-I{i}" for i in made.include)]
        checked([compiler(board), *words, "-c", made.source, "-o", objects])
    found = {"code": 0, "constants": 0, "fixed": 0}
    for line in checked(["arm-none-eabi-size" if board else "size", "-A", objects]).splitlines():
        match = re.match(r"(\.[\w.]+)\s+(\d+)\s", line)
        if match is None:
            continue
        name, size = match[1], int(match[2])
        if name.startswith(".text"):
            found["code"] += size
        elif name.startswith((".rodata", ".data.rel.ro")):
            found["constants"] += size
        elif name.startswith((".data", ".bss")):
            found["fixed"] += size
    return found


def on_board(made: Made, x: torch.Tensor, bare: Path) -> dict[str, Any]:
    """Flash, RAM with a fixed place, and instructions of the first picture, on an emulated Cortex-M4."""
    given = (x[0].numpy() * made.unit).astype(made.pixel).ravel()
    shown = "1000" if np.dtype(made.answer).kind == "f" else "1"
    text = (
        f"#define NET_SHOWN {shown}\nstatic const net_pixel picture[] = {{{', '.join(map(str, given))}}};\n" + ON_BOARD
    )
    path, words = sources_of(made, BOARD, text)
    elf = made.folder / "m4.elf"
    link = ["--specs=rdimon.specs", "-nostartfiles", "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments", "-lm"]
    link += ["-Wl,--defsym=__exidx_start=0", "-Wl,--defsym=__exidx_end=0"]  # objects of LLVM ask for unwinding
    checked([compiler(True), path, *words, *link, "-T", bare / "mps2.ld", bare / "start.c", "-o", elf])
    command = "qemu-system-arm -M mps2-an386 -nographic -icount shift=0 -semihosting-config enable=on,target=native"
    done = subprocess.run([*command.split(), "-kernel", str(elf)], capture_output=True, text=True, timeout=300)
    ticks = re.search(r"ticks (\d+)\nsums(.*)", done.stdout)
    if done.returncode or ticks is None:
        raise RuntimeError(f"on the board: exit code {done.returncode}")
    there = [int(v) for v in ticks[2].split()]
    call, here = Library(made, "-O3").caller(x[:1])
    call()
    # printed as 32 bits, floats in thousandths
    same = np.abs((here[0] * int(shown)).astype(np.int64).astype(np.int32) - np.array(there)).max() <= (shown != "1")
    return {"instructions": TICK * int(ticks[1]), **sections(made, BOARD, board=True), "sums_as_here": bool(same)}


def spikes_of_model(model: Chain, x: torch.Tensor) -> tuple[list[np.ndarray], np.ndarray]:
    """Spikes of both layers and logits, in float64."""
    own, fired = model.double(), []
    with torch.no_grad(), observe(own, lambda _, m: isinstance(m, Spiking), lambda p, m, a, s: fired.append(s != 0)):
        logits = own(x.double() / LEVELS).mean(0).numpy()
    model.float()
    return [s.numpy() for s in fired], logits


def compared(who: Contender, made: Made, library: Library, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    fired, wanted = spikes_of_model(who.model, x)
    if who.ours is None:
        seen = [Library(who.make(made.folder / f"stop-{stop}", stop), "-O3").spikes(x[:COMPARED]) for stop in STOPS]
    else:
        seen = [np.asarray(levels) for _, levels in c.load(who.ours).spikes(x[:COMPARED].numpy())]
    found = library.logits(x)
    differ = [int((a != b[:, :COMPARED]).sum()) for a, b in zip(seen, fired, strict=True)]
    return {
        "pictures": len(x),
        "model_right": int((wanted.argmax(1) == y.numpy()).sum()),
        "right": int((found.argmax(1) == y.numpy()).sum()),
        "same_class": int((found.argmax(1) == wanted.argmax(1)).sum()),
        "largest_logit": float(np.abs(wanted).max()),
        "largest_difference": float(np.abs(found - wanted).max()),
        "pictures_for_spikes": COMPARED,
        "levels": sum(s[:, :COMPARED].size for s in fired),
        "levels_that_differ": sum(differ),
        "by_layer": differ,
        "spikes_a_neuron_and_step": [float(s.mean()) for s in fired],
    }


def measure(calls: dict[str, Callable[[], Any]], rounds: int, pause: float) -> dict[str, list[float]]:
    """Milliseconds a picture, round by round."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            times = []
            for _ in range(3):
                begin = time.perf_counter()
                call()
                times.append(time.perf_counter() - begin)
            took[name].append(min(times) * 1e3 / TIMED)
            time.sleep(pause)
    return took


def summary(values: list[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "quartiles": [float(q) for q in np.quantile(values, (0.25, 0.75))],
        "least": min(values),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--snn-opt-from", default="", help="what $SNN_OPT was built from, stored")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "deploy" / "generated-c.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = run(Path(folder), options.rounds) | {"snn_opt_from": options.snn_opt_from}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {options.out}")


def run(work: Path, rounds: int) -> dict[str, Any]:
    known = environment()
    record: dict[str, Any] = {"format": FORMAT, "command": f"python benchmarks/generated_c.py --rounds {rounds}"}
    record |= {"commit": known["commit"], "started": known["started"], "machine": machine()}
    names = ("torch", "spikingjelly", "nir", "qualia-codegen-core", "qualia-codegen-plugin-snn", "snn-mlir")
    record["versions"] = {"saccade": known["saccade"]} | {name: version(name) for name in names}
    for board in (False, True):
        found = shutil.which(compiler(board))
        record["compiler" if not board else "board_compiler"] = found and checked([found, "--version"]).splitlines()[0]
    shown, (x, y) = pictures("train")[0][:200], pictures("test")
    record |= {"flags": NATIVE, "board_flags": BOARD, "pixels_of_0": float((x == 0).float().mean())}
    rows, calls = [], {}
    every = contenders(work, shown)
    for number, who in enumerate(every):
        row: dict[str, Any] = {"by": who.name, "settings": who.settings}
        rows.append(row)
        print(f"{who.name}, {who.settings}", flush=True)
        try:
            made = who.make(who.ours or work / str(number), None)
            for flags in NATIVE:
                library = Library(made, flags)
                row[flags] = sections(made, flags) | {"stack": library.stack(x), "kept": made.kept}
                calls[number, flags] = library.caller(x[:TIMED])[0]
                row[flags]["largest_difference"] = compared_logits(who, library, x)
            row["compared"] = compared(who, made, Library(made, "-O3"), x, y)
            row["board"] = attempt(partial(on_board, made, x, every[0].ours / "bare"))
        except Exception as error:  # a generator that is missing or refuses: the row says why
            row["error"] = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]
        print("   ", json.dumps(row)[:900], flush=True)
    took = measure(calls, rounds, 0.01)
    for (number, flags), values in took.items():
        rows[number][flags]["ms"] = summary(values)
        base = took[0, flags]  # ours, as it comes
        rows[number][flags]["over_first"] = summary([a / b for a, b in zip(values, base, strict=True)])
    record["qualia_int8_closer"] = CLOSEST.get("int8")
    record["snn_mlir_own_passes"] = peers.own_passes(every[0].model)
    return record | {"rows": rows}


def compared_logits(who: Contender, library: Library, x: torch.Tensor) -> float:
    with torch.no_grad():
        wanted = who.model(x / LEVELS).mean(0).double().numpy()
    return float(np.abs(library.logits(x) - wanted).max())


def attempt(what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return what()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]}


if __name__ == "__main__":
    main()
