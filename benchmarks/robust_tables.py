"""Defences on CIFAR-10 side by side, attacks side by side, and what fewer bits do to robustness.

    python benchmarks/robust_tables.py train --runs RUNS --data DATA [--seeds 3] [--rows vanilla at] [--accelerator cuda]
    python benchmarks/robust_tables.py attack --runs RUNS --data DATA       # every trained row, preset standard
    python benchmarks/robust_tables.py ladder --runs RUNS --data DATA       # five models, attacks from weak to strong
    python benchmarks/robust_tables.py libraries --runs RUNS --data DATA    # needs torchattacks: the preset against each attack

Each goes on where it stopped. Rows are the recipes ``robust/cifar10-*``: ``spiking_vgg11_small``, T = 4, 20,000 training
images, eight epochs, the epoch chosen by 2,000 validation images without an attack. ``-w4`` and ``-sub-bit`` are trained alike
with weights of 4 bits and of 0.44 bits; ``tgo-2`` is TGO with a weight of 2. Attacks see the first 100 images of the test set
at 8/255 and at 2/255.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from side_by_side import machine
from torch import Tensor, nn

from saccade.data import load
from saccade.experiment import environment, load_recipe, parse, run
from saccade.files import load_model
from saccade.report import write_text
from saccade.robust import attack, evaluate, gradients
from saccade.robust.attacks.base import Attack
from saccade.robust.attacks.ensemble import MANY, Ensemble, surrogates
from saccade.robust.attacks.pgd import PGD
from saccade.robust.attacks.transfer import Transfer
from saccade.robust.statistics import flip_rate, near_threshold_fraction

RESULTS = Path(__file__).parents[1] / "results" / "robustness" / "cifar10"
DEFENCES = ("vanilla", "mc", "nlif", "tgo", "at", "at-tgo", "rat", "sr")
LADDER = ("vanilla", "tgo", "tgo-2", "at", "at-tgo")
IMAGES = 100
EPS = {"8": 8 / 255, "2": 2 / 255}
WEIGHTS = {
    "w4": [{"name": "quantize", "config": {"method": "lsq", "bits": 4, "steps": "channel", "skip": []}}],
    "sub-bit": [{"name": "subbit", "config": {"eta": 4}}],
}
STRONG = [{"name": "threshold_guard", "config": {"weight": 2.0}}]
TWIN = {"name": "spiking_vgg11_small", "config": {"T": 1, "neuron": {"name": "ie_lif", "config": {"D": 255}}}}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {  # a recipe, and what is changed of it
    **{name: (name, {}) for name in DEFENCES},
    "tgo-2": ("tgo", {"ingredients": STRONG}),
    "ann": ("vanilla", {"model": TWIN}),
    **{
        f"{name}-{words}": (name, {"model": {"name": "spiking_vgg11_small", "transforms": transforms}})
        for words, transforms in WEIGHTS.items()
        for name in ("vanilla", "at")
    },
}


def trained(row: str, seed: int, runs: Path, data: str, accelerator: str) -> Path:
    """The run directory of a row, trained if it is not there or not whole."""
    place = runs / f"{row}-seed{seed}"
    if not (place / "summary.json").exists():
        name, changes = ROWS[row]
        raw = load_recipe(f"robust/cifar10-{name}").model_dump(mode="json") | changes | {"seed": seed}
        raw["train"] |= {"accelerator": accelerator}
        run(parse(raw), place, data=data, quiet=True, report=False, resume=place.exists())
    return place


def pictures(data: str, count: int = IMAGES) -> tuple[Tensor, Tensor]:
    """The first test images, in 0 to 1, and their classes."""
    test = load("cifar10", data, validation=2000).test
    x = torch.stack([torch.as_tensor(test.images[i]) for i in range(count)]).float() / 255
    return x, torch.as_tensor(test.targets[:count]).long()


def model_of(place: Path, accelerator: str) -> nn.Module:
    return load_model(place / "model.safetensors").to(accelerator).eval()


def attacked(row: str, seed: int, runs: Path, data: str, accelerator: str, eps: str = "8") -> dict[str, Any]:
    """Preset standard on a trained row, with what its potentials do."""
    place = runs / f"{row}-seed{seed}"
    summary = json.loads((place / "summary.json").read_text())
    x, y = (part.to(accelerator) for part in pictures(data))
    model = model_of(place, accelerator)
    made = environment()
    about = {
        "name": row,
        "data": f"CIFAR-10, the first {IMAGES} test images",
        "seed": seed,
        "commit": made["commit"],
        "torch": made["torch"],
        "device": torch.cuda.get_device_name() if accelerator == "cuda" else machine()["cpu"],
        "test_accuracy": summary["test_accuracy"],
        "training_seconds": summary["training_seconds"],
        "spikes_per_neuron": summary["profile"]["spikes_per_neuron"],
        "parameters": summary["parameters"],
    }
    if row in DEFENCES or row == "tgo-2":
        found = attack(model, x, y, "pgd20", EPS[eps]).images
        about["near_threshold"] = statistics.mean(near_threshold_fraction(model, x).values())
        about["flipped_by_pgd20"] = statistics.mean(flip_rate(model, x, found).values())
    RESULTS.mkdir(parents=True, exist_ok=True)
    out = RESULTS / f"{row}-seed{seed}-eps{eps}.json"
    return evaluate(model, x, y, eps=EPS[eps], batch=IMAGES, about=about, out=out)


def steps(ann: nn.Module) -> dict[str, tuple[Attack | str, float | None]]:
    """Attacks from weak to strong; with each the area of ASSG's slopes, where it has one."""
    return {
        "FGSM": ("fgsm", None),
        "PGD-20 on the ANN twin, transferred": (Transfer(source=ann, attack=PGD(steps=20)), None),
        "PGD-20": ("pgd20", None),
        "PGD-100": ("pgd100", None),
        "Square, 1,000 queries": ("square", None),
        "SA-PGD, 50 steps": ("sa_pgd", None),
        "PGD-20 by 17 surrogates": (Ensemble(surrogates(PGD(steps=20), MANY)), None),
        **{f"SA-PGD through ASSG, area {area}": ("assg", area) for area in (0.74, 0.87, 0.94)},
    }


def ladder(row: str, runs: Path, data: str, accelerator: str, seed: int = 0) -> dict[str, Any]:
    """Right after each attack of the ladder, at 8/255."""
    x, y = (part.to(accelerator) for part in pictures(data))
    model, ann = (model_of(runs / f"{name}-seed{seed}", accelerator) for name in (row, "ann"))
    rows, chosen = {}, gradients.ASSG_AREA  # a constant of the attack, which only this comparison varies
    for name, (how, area) in steps(ann).items():
        gradients.ASSG_AREA = area or chosen
        rows[name] = float(attack(model, x, y, how, EPS["8"]).robust.float().mean())
    gradients.ASSG_AREA = chosen
    return {
        "model": row,
        "seed": seed,
        "images": IMAGES,
        "eps": EPS["8"],
        "commit": environment()["commit"],
        "right": rows,
    }


# of the library, with its own defaults but for the steps; those that need another threat or hours are left out
LIBRARY = {
    "FGSM": {}, "BIM": {"steps": 20}, "RFGSM": {"steps": 20}, "PGD": {"steps": 40}, "EOTPGD": {"steps": 40}, "FFGSM": {},
    "TPGD": {"steps": 20}, "MIFGSM": {"steps": 20}, "NIFGSM": {"steps": 20}, "DIFGSM": {"steps": 20}, "VMIFGSM": {"steps": 20},
    "VNIFGSM": {"steps": 20}, "PGDRS": {"steps": 20}, "UPGD": {"steps": 20}, "Jitter": {"steps": 20},
    "APGD": {"steps": 100}, "APGDT": {"steps": 50}, "FAB": {"steps": 50}, "Square": {"n_queries": 1000},
}  # fmt: skip


def single(row: str, runs: Path, data: str, accelerator: str, seed: int = 0, count: int = 100) -> dict[str, Any]:
    """Preset standard and every single attack, ours and torchattacks', on the same 100 images at 8/255."""
    import torchattacks

    x, y = (part.to(accelerator) for part in pictures(data, count))
    model = model_of(runs / f"{row}-seed{seed}", accelerator)
    preset = evaluate(model, x, y, eps=EPS["8"], batch=count, masking=False)
    right: dict[str, float] = {}
    ours = ("fgsm", "rfgsm", "bim", "pgd7", "pgd20", "pgd100", "mifgsm", "mtpgd", "apgd_ce", "apgd_dlr", "apgd_targeted", "cw",
            "sa_pgd", "square", "surrogates5", "bptr", "rga", "hart", "pdsg", "conversion", "assg")  # fmt: skip
    for name in ours:
        right[name] = float(attack(model, x, y, name, EPS["8"]).robust.float().mean())
    for name, settings in LIBRARY.items():
        given = settings | {"eps": EPS["8"]}
        state = torch.get_rng_state()
        images = getattr(torchattacks, name)(model, **given)(x, y)
        torch.set_rng_state(state)
        images = torch.minimum(torch.maximum(images, x - EPS["8"]), x + EPS["8"]).clamp(0, 1)
        with torch.no_grad():
            right[f"torchattacks {name}"] = float((model(images).argmax(1) == y).float().mean())
    made = environment()
    return {
        "model": row, "seed": seed, "images": count, "eps": EPS["8"], "commit": made["commit"],
        "torchattacks": torchattacks.__version__, "preset": preset["worst"]["accuracy"],
        "preset_by_attack": {name: kept["accuracy"] for name, kept in preset["attacks"].items()}, "right": right,
    }  # fmt: skip


def stored(name: str, of: Callable[[str], dict[str, Any]]) -> None:
    """A file with a record for each of the five models, as far as it is not there."""
    target = RESULTS.parent / f"cifar10-{name}.json"
    records = json.loads(target.read_text())["models"] if target.exists() else []
    for row in LADDER:
        if row not in {record["model"] for record in records}:
            records.append(of(row))
            RESULTS.mkdir(parents=True, exist_ok=True)
            write_text(target, json.dumps({"format": f"saccade-{name}-1", "models": records}, indent=1) + "\n")
            print(row, json.dumps(records[-1]["right"]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("train", "attack", "ladder", "libraries"))
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    place = (given.runs, given.data, given.accelerator)
    if given.what == "ladder":
        return stored("ladder", lambda row: ladder(row, *place))
    if given.what == "libraries":
        return stored("single-attacks", lambda row: single(row, *place))
    for seed in range(given.seeds):
        for row in given.rows:
            if given.what == "train":
                summary = json.loads((trained(row, seed, *place) / "summary.json").read_text())
                print(f"{row:16} seed {seed}: {summary['test_accuracy']:.2%}", flush=True)
                continue
            for eps in EPS:
                record = attacked(row, seed, *place, eps)
                print(
                    f"{row:16} seed {seed} {eps}/255: {record['worst']['accuracy']:.1%} {record['alarms']}", flush=True
                )


if __name__ == "__main__":
    main()
