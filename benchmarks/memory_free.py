"""Memory-free neurons against LIF and quantized membranes: accuracy on sequences and on pictures, and training time.

    python benchmarks/memory_free.py digits      the digits a row a step, every kind of neuron; about ten minutes
    python benchmarks/memory_free.py cifar10     a fixed subset of CIFAR-10 (SACCADE_DATA); about twenty minutes
    python benchmarks/memory_free.py integers    the runs of digits with a fixed leak, in integers on the whole test set
    python benchmarks/memory_free.py time        forward and backward of a layer; a minute
    python benchmarks/memory_free.py state       bytes kept between steps

Each writes its part of results/memory-free.json. One thread. An interrupted series goes on where it stopped.

Protocol of digits: rows_mlp, 8-96-96-96-10 with 1-bit weights in the two middle layers, read-out from the last step; the
same training for every neuron. Its learning rate was chosen once, for all of them together, by the mean validation accuracy
of one seed that is not reported (`choose`); the test images are scored once a run, after the last epoch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade import kernels
from saccade.data import batches, load
from saccade.deploy import (
    chain_of,
    events_of,
    lower,
    run_async,
    run_layer_serial,
    run_parallel,
    run_shift_register,
    state_bytes,
)
from saccade.experiment import RunDirectory, environment, parse, run
from saccade.files import load_model
from saccade.models import create_model
from saccade.neurons import (
    LeakMixingConfig,
    LIFConfig,
    MaskedMixingConfig,
    QuantizedMembraneConfig,
    SlidingMixingConfig,
    recording,
)
from saccade.report import write_text
from saccade.transforms import MemoryFreeConfig, apply

OUT = Path(__file__).parent.parent / "results" / "memory-free.json"
RATES = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)  # tried by `choose`
RATE = 5e-2
PILOT = 100  # the seed of `choose`


def membrane(mode: str, bits: int) -> tuple[str, list[dict[str, Any]]]:
    return "qp", [{"name": "quantize_membranes", "config": {"mode": mode, "bits": bits}}]


def free(mixing: str, **config: Any) -> tuple[str, list[dict[str, Any]]]:
    return "qp", [{"name": "memory_free", "config": {"mixing": {"name": mixing, "config": config}}}]


KINDS: dict[str, tuple[str, list[dict[str, Any]]]] = {  # a neuron, and what is done to it
    "LIF, hard reset": ("qp", []),
    "Q-SNN membrane, 8 bits": membrane("qsnn", 8),
    "Q-SNN membrane, 4 bits": membrane("qsnn", 4),
    "Q-SNN membrane, 2 bits": membrane("qsnn", 2),
    "uniform membrane, 4 bits": membrane("uniform", 4),
    "uniform membrane, 2 bits": membrane("uniform", 2),
    "LIF, reset dropped": ("qp_no_reset", []),
    "memory-free, leak": free("leak_mixing"),
    "memory-free, leak fixed at 1/2": free("leak_mixing", learn=False),
    "memory-free, masked": free("masked_mixing"),
    "memory-free, sliding, order 4": free("sliding_mixing", order=4),
}
PICTURES = ("LIF, hard reset", "Q-SNN membrane, 2 bits", "memory-free, masked")


def digits_recipe(neuron: str, seed: int, lr: float = RATE) -> dict[str, Any]:
    start, change = KINDS[neuron]
    binary = {"name": "quantize", "config": {"method": "balanced_binary", "bits": 1, "skip": ["layers.0", "head"]}}
    return {
        "name": "memory-free-digits",
        "seed": seed,
        "model": {"name": "rows_mlp", "config": {"neuron": start}, "transforms": [binary, *change]},
        "data": {"name": "digits", "validation": 150},
        "train": {
            "epochs": 25,
            "batch_size": 64,
            "optimizer": "adam",
            "lr": lr,
            "choose": "last",
            "evaluate_every": 25,
            "accelerator": "cpu",
        },
        "stages": ["profile"],
    }


def cifar10_recipe(neuron: str, seed: int) -> dict[str, Any]:
    start, change = KINDS[neuron]
    config = {"T": 4, "channels": [16, 32, 32, 48, 48, 64], "neuron": start}
    binary = {"name": "quantize", "config": {"method": "balanced_binary", "bits": 1}}
    return {
        "name": "memory-free-cifar10",
        "seed": seed,
        "model": {"name": "vgg_small", "config": config, "transforms": [binary, *change]},
        "data": {"name": "cifar10", "validation": 1000, "train_size": 4000, "augment": ["flip"]},
        "train": {
            "epochs": 6,
            "batch_size": 64,
            "optimizer": "adam",
            "lr": 2e-3,
            "choose": "last",
            "evaluate_every": 6,
            "accelerator": "cpu",
        },
        "stages": ["profile"],
    }


def trained(recipe: dict[str, Any], directory: Path) -> dict[str, Any]:
    """What a run found; made if it is not there yet."""
    place = RunDirectory(directory)
    summary = run(parse(recipe), directory, resume=place.has_checkpoint(), quiet=True, report=False)
    env = place.read_json("env.json")
    kept = {
        key: summary[key] for key in ("seed", "validation_accuracy", "test_accuracy", "test_total", "training_seconds")
    }
    rate = summary["profile"]["spikes_per_neuron"] / summary["T"]
    return kept | {"rate": rate, "commit": env["commit"], "date": env["started"][:10]}


def accuracies(task: str, runs: Path, seeds: list[int]) -> dict[str, Any]:
    recipe = digits_recipe if task == "digits" else cifar10_recipe
    rows = []
    for seed in seeds:
        for neuron in KINDS if task == "digits" else PICTURES:
            found = trained(recipe(neuron, seed), runs / f"{task}-{slug(neuron)}-{seed}")
            rows.append({"neuron": neuron, **found})
            print(f"{neuron:32} seed {seed}: {found['test_accuracy']:.2%}, rate {found['rate']:.3f}", flush=True)
    return {"protocol": recipe("LIF, hard reset", seeds[0]), "rows": rows}


def integers(runs: Path, seeds: list[int]) -> dict[str, Any]:
    """The trained networks as integer programs: spikes that differ from the model in float64, and the accuracy."""
    images = load("digits", validation=150).test
    x, labels = next(iter(batches(images, len(images), seed=None)))
    rows = []
    for seed in seeds:
        place = RunDirectory(runs / f"digits-{slug('memory-free, leak fixed at 1/2')}-{seed}")
        model = load_model(place.path / "model.safetensors").double()
        program = chain_of(lower(model, x))
        first = program.first((x * 255).round())
        spikes = run_parallel(program, first)
        with recording(model) as potentials, torch.no_grad():
            logits = model(x.double())
        thetas = {path: model.get_submodule(path).theta.detach() for path in spikes}
        differing = sum(int((spikes[path] != (potentials[path][0] >= thetas[path])).sum()) for path in spikes)
        others = [run_layer_serial(program, first), run_shift_register(program, first)]
        order = torch.Generator().manual_seed(seed)
        others.append(run_async(program, events_of(first), len(x), order))
        agree = all(torch.equal(other[path], spikes[path]) for other in others for path in spikes)
        found = program.logits(spikes)
        row = {"seed": seed, "spikes_compared": sum(s.numel() for s in spikes.values()), "differing": differing}
        row |= {
            "schedules_agree": agree,
            "rate": float(torch.cat([s.flatten() for s in spikes.values()]).float().mean()),
        }
        row |= {"test_accuracy": float((found.argmax(1) == labels).double().mean())}
        row["model_accuracy"] = float((logits.argmax(1) == labels).double().mean())
        print(row, flush=True)
        rows.append(row)
    return {"rows": rows}


def choose(runs: Path) -> dict[str, float]:
    """Mean validation accuracy over all neurons at each learning rate; the test images (ten of them) are not looked at."""
    found = {}
    for lr in RATES:
        scores = []
        for neuron in KINDS:
            recipe = digits_recipe(neuron, PILOT, lr)
            recipe["data"]["test_size"] = 10
            scores.append(trained(recipe, runs / f"choose-{slug(neuron)}-{lr:g}")["validation_accuracy"])
        found[f"{lr:g}"] = statistics.mean(scores)
        print(f"learning rate {lr:g}: {found[f'{lr:g}']:.2%} of the validation images", flush=True)
    return found


def slug(neuron: str) -> str:
    return neuron.replace(",", "").replace(" ", "-").replace("/", "-")


# Time of a layer


def layers(T: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Layers of neurons, each from rest."""

    def in_plain_torch(layer: torch.nn.Module) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            with kernels.use("reference"):
                return layer(x)  # type: ignore[no-any-return]

        return call

    qp = LIFConfig.parse("qp")
    return {
        "LIF, fused kernel": qp.build(),
        "LIF, plain loop": in_plain_torch(qp.build()),
        "Q-SNN membrane, loop": in_plain_torch(QuantizedMembraneConfig("qsnn", 8, lif=qp).build()),
        "memory-free, leak": LeakMixingConfig(surrogate=qp.surrogate).build(),
        "memory-free, masked": MaskedMixingConfig(T=T, surrogate=qp.surrogate).build(),
        "memory-free, sliding, order 4": SlidingMixingConfig(order=4, surrogate=qp.surrogate).build(),
    }


def timings(repeats: int = 41, shape: tuple[int, ...] = (64, 512)) -> dict[str, Any]:
    """Forward and backward of a layer ``[T, *shape]``, the contenders taking turns; medians and quartiles in milliseconds.

    Time of the processor, not of the clock: one thread is all there is, and other jobs may share the machine.
    """
    kernels.keep_memory()
    rows = []
    for T in (4, 8, 16, 32):
        x = torch.randn(T, *shape, generator=torch.Generator().manual_seed(T))
        grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
        contenders = layers(T)
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(repeats + 2):
            for name, layer in contenders.items():
                leaf = x.clone().requires_grad_()
                start = time.process_time()
                y = layer(leaf)
                y.backward(grad)
                elapsed = time.process_time() - start
                if turn >= 2:
                    taken[name].append(elapsed * 1e3)
                assert 0.02 < float(y.detach().mean()) < 0.6
        for name, values in taken.items():
            low, middle, high = statistics.quantiles(values, n=4)
            rows.append({"T": T, "neuron": name, "median_ms": middle, "quartiles_ms": [low, high]})
            print(f"T = {T:2}  {name:32} {middle:8.3f} ms  [{low:.3f}, {high:.3f}]", flush=True)
    return {"shape": list(shape), "repeats": repeats, "rows": rows}


# State


def states() -> list[dict[str, Any]]:
    """Bytes of state of the two networks for one sample; untrained, as the count depends on sizes alone."""
    rows = []
    for task, recipe, shape in (("digits", digits_recipe, (1, 8, 8)), ("cifar10", cifar10_recipe, (3, 32, 32))):
        settings = recipe("LIF, hard reset", 0)["model"]
        model = create_model(settings["name"], **settings["config"]).eval()
        for transform in settings["transforms"]:
            apply(model, transform)
        x = torch.rand(1, *shape)
        for bits in (32, 8, 4, 2):
            stored = state_bytes(model, "sequential", x, bits).persistent
            rows.append({"network": task, "T": model.T, "schedule": f"potentials of {bits} bits", "persistent": stored})
        apply(model, MemoryFreeConfig(LeakMixingConfig(learn=False)))
        program = chain_of(lower(model, x))
        for schedule in ("layer_serial", "async"):
            found = state_bytes(program, schedule)
            row = {"network": task, "T": model.T, "schedule": schedule, "persistent": found.persistent}
            rows.append(row | {"in_flight": found.in_flight})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("choose", "digits", "integers", "cifar10", "time", "state"))
    parser.add_argument("--runs", type=Path, default=Path("runs/memory-free"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    part: str = arguments.part
    found: Any
    if part == "choose":
        found = {"validation_accuracy": choose(arguments.runs), "seed": PILOT}
    elif part == "integers":
        found = integers(arguments.runs, arguments.seeds)
    elif part == "time":
        found = timings()
    elif part == "state":
        found = {"rows": states()}
    else:
        found = accuracies(part, arguments.runs, arguments.seeds)
    env = environment()
    machine = {key: env[key] for key in ("python", "torch", "cpus", "gpu")} | {"threads": torch.get_num_threads()}
    found |= {"command": f"python benchmarks/memory_free.py {part}", "machine": machine}
    found |= {key: env[key] for key in ("commit",)} | {"date": time.strftime("%Y-%m-%d")}
    whole = json.loads(OUT.read_text()) if OUT.exists() else {"format": "saccade-memory-free-1"}
    write_text(OUT, json.dumps(whole | {part: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
