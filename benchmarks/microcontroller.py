"""What programs need as C on a microcontroller: flash and RAM by arm-none-eabi-gcc, instructions counted by QEMU.

    python benchmarks/microcontroller.py --out results/deploy/microcontroller.json [--runs runs] [--data FOLDER]

The digits of checkpoints/; if --runs holds qp_snn-digits-2bit-seed0 (saccade train qp_snn/digits-2bit), those; if CIFAR-10 is
there, vgg_small with weights of 4 bits, untrained, its norms and biases set so that every layer fires. Spikes are compared with
the model in float64 on test images, and those of the C on the emulated board with the program. Needs arm-none-eabi-gcc, newlib,
qemu-system-arm.

Instructions are those of one picture from rest, without the checks of the self-test: QEMU runs with -icount shift=0, an
instruction a nanosecond, and SysTick counts at 25 MHz, so a tick is 40 instructions (39.9999 for a loop of 2,097,154). They are
no cycles: a Cortex-M3 takes 2 or more for a load or a taken branch.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from saccade.data import DATA_SETS
from saccade.deploy import compare, lower
from saccade.deploy.c import source, write_c
from saccade.files import load_model
from saccade.models import create_model
from saccade.transforms import QuantizeConfig, apply
from saccade.verify import wake

ROOT = Path(__file__).parent.parent
TICK = 40  # instructions
IMAGES = 100  # that spikes are compared on


def measured(name: str, model: Any, pixels: Any, layer_by_layer: bool = False, **settings: Any) -> dict[str, Any]:
    """One row; pixels: test images as they are stored, ``[N, C, H, W]``."""
    program = lower(model, pixels[:1] / 255, **settings)
    found = compare(program, model, pixels)
    same = int((torch.from_numpy(found.program).argmax(1) == torch.from_numpy(found.model).argmax(1)).sum())
    with tempfile.TemporaryDirectory() as folder:
        c = source(program, "net", layer_by_layer=layer_by_layer)
        write_c(c, folder, pixels[:2].numpy())
        flags = ["CC=arm-none-eabi-gcc", "TARGET=-mcpu=cortex-m3 -mthumb", "SIZE=arm-none-eabi-size", "OUT=build-m3"]
        text = int(made(folder, "size", *flags).split("\n")[-3].split()[0])
        board = made(folder, "qemu-m3")
    assert "all spikes and logits as expected" in board
    return {
        "network": name,
        "T": program.T,
        **settings,
        "layer_by_layer": layer_by_layer,
        "neurons": sum(layer_size(layer.shape) for layer in c.layers),
        "spikes_a_neuron_and_step": sum(int(v.sum()) for v in program.spikes(pixels[:2].numpy()).values())
        / sum(v.size for v in program.spikes(pixels[:2].numpy()).values()),
        "ram_bytes": c.plan.ram,
        "kept_bytes": c.plan.state_bytes,
        "constant_bytes": c.plan.constant_bytes,
        "flash_bytes": text,
        "instructions": TICK * int(re.search(r"ticks (\d+)", board)[1]),
        "images": len(pixels),
        "levels": found.levels,
        "levels_that_differ": found.mismatches,
        "same_class": same,
    }


def layer_size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def made(folder: str, *words: str) -> str:
    done = subprocess.run(["make", "-C", folder, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    digits = DATA_SETS["digits"].read(None).test.__getitems__(list(range(IMAGES)))[0].float()
    rows = []
    checkpoint = load_model(ROOT / "checkpoints" / "digits.safetensors").eval()
    for settings in (
        {},
        {"layer_by_layer": True},
        {"weight_bits": 16, "fraction": 16},
        {"weight_bits": 8, "fraction": 12},
    ):
        rows.append(measured("checkpoints/digits", checkpoint, digits, **settings))
    trained = arguments.runs / "qp_snn-digits-2bit-seed0" / "model.safetensors"
    if trained.is_file():
        for settings in ({}, {"layer_by_layer": True}, {"layer_by_layer": True, "weight_bits": 16, "fraction": 16}):
            rows.append(measured("qp_snn/digits-2bit", load_model(trained).eval(), digits, **settings))
    if arguments.data is not None:
        images = DATA_SETS["cifar10"].read(arguments.data).test.__getitems__(list(range(20)))[0].float()
        torch.manual_seed(0)
        model = create_model("vgg_small")
        apply(model, QuantizeConfig("lsq", 4, steps="channel", skip=()))
        wake(model, images / 255)
        for settings in ({}, {"layer_by_layer": True}, {"layer_by_layer": True, "weight_bits": 16, "fraction": 16}):
            rows.append(measured("vgg_small, 4 bits, untrained", model.eval(), images, **settings))
    compiler = subprocess.run(["arm-none-eabi-gcc", "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    arguments.out.write_text(
        json.dumps({"compiler": compiler, "flags": "-O2 -mcpu=cortex-m3", "rows": rows}, indent=1) + "\n"
    )
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
