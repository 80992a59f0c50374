"""Products an instruction of the engine's kernels on aarch64, counted by an emulator: no time, which an emulator does not tell.

    python benchmarks/engine_instructions.py FOLDER [--to results/benchmarks/engine-instructions.json]

builds the engine without Python (tests/deploy/native) and a plugin that counts (instructions/count.c) in FOLDER. A
convolution 3 x 3 runs once for each kernel and instruction set; counted is every instruction in functions of that set
that a kernel runs for a sample (preparation, products, neurons), not those of the plan, the input and the answer. A
product is a weight and an input of the layer, whether it is 0 or not, taps beyond the border too. Needs cmake,
aarch64-linux-gnu-g++, a C compiler and qemu-aarch64.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

from saccade.experiment import environment

HERE = Path(__file__).parent
SETS = ("portable", "neon", "neon_dot")
T, SIDE, IN, OUT = 4, 8, 128, 256  # the third convolution of inference_nets.py
OTHERS = ("set_weight", "4packE", "6unpackE", "5widenE", "6narrowE", "4onesE")  # functions of plan, input and answer
# kernel: bits of a weight, the largest input, percent of inputs that are not 0
CASES = {
    "events, 8 bits, 10 %": ("events", 8, 1, 10),
    "events, 4 bits, 10 %": ("events", 4, 1, 10),
    "events, 8 bits, 40 %": ("events", 8, 1, 40),
    "tables, 4 bits": ("tables", 4, 1, 40),
    "tables, 2 bits": ("tables", 2, 1, 40),
    "counts, 1 bit": ("counts", 1, 1, 40),
    "dense, 8 bits, inputs to 4": ("dense", 8, 4, 50),
    "dense, 4 bits, inputs to 4": ("dense", 4, 4, 50),
    "winograd, 4 bits, inputs to 4": ("winograd", 4, 4, 50),
}


def build(folder: Path) -> None:
    native = HERE.parent / "tests" / "deploy" / "native"
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={native / 'aarch64.cmake'}"
    subprocess.run(["cmake", "-S", native, "-B", folder, toolchain], check=True)
    subprocess.run(["cmake", "--build", folder], check=True)
    plugin = ["cc", "-O2", "-shared", "-fPIC", "-o", folder / "count.so", HERE / "instructions" / "count.c"]
    subprocess.run(plugin, check=True)


def counted(folder: Path, name: str, kernel: str, bits: int, high: int, percent: int) -> int | None:
    """Instructions; None where the set has no such kernel."""
    layer = ["layer", name, kernel, *map(str, (IN, OUT, SIDE, bits, high, percent))]
    command = ["qemu-aarch64", "-plugin", str(folder / "count.so"), str(folder / "check"), *layer]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if kernel not in done.stdout.split("\n"):
        return None
    namespace = "baseline" if name == "portable" else name
    mark = f"6engine{len(namespace)}{namespace}"
    rows = [line.split(" ", 1) for line in done.stderr.splitlines()]
    return sum(int(n) for n, function in rows if mark in function and not any(part in function for part in OTHERS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    build(options.folder)
    products = T * SIDE * SIDE * IN * OUT * 9
    version = subprocess.run(["aarch64-linux-gnu-g++", "--version"], capture_output=True, text=True, check=True)
    record = {
        "commit": environment()["commit"],
        "compiler": version.stdout.split("\n")[0],
        "products": products,
        "instructions": {},
    }
    print("| kernel |", " | ".join(SETS), "|\n|---|" + "--:|" * len(SETS))
    for case, settings in CASES.items():
        found = {name: counted(options.folder, name, *settings) for name in SETS}
        record["instructions"][case] = found
        cells = [f"{products / n:.3g}" if n else "–" for n in found.values()]
        print(f"| {case} |", " | ".join(cells), "|", flush=True)
    if options.to:
        options.to.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
