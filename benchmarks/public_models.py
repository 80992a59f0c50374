"""Verify and profile models of others, and make the table of docs/verify.md.

    python benchmarks/public_models.py                              # the models that installed frameworks bring along
    python benchmarks/public_models.py --models my_models.yaml      # and those that you fetched
    python benchmarks/public_models.py --out table.md

Nothing is downloaded and no model is part of this repository: fetch what you want to look at, under its own licence, and say
where it lies. A file of models is a list, each with the words that ``saccade verify`` takes:

    - name: QKFormer (CIFAR-10)
      source: https://github.com/...            # and the commit that you looked at
      path: /home/me/QKFormer/cifar10           # put on the import path while this model is looked at
      model: model:build                        # module:factory, called without arguments
      shape: [3, 32, 32]
      T: 4                                      # none for a static input
      time_axis: first
      spiking: [MultiStepLIFNode]               # known frameworks' neurons need not be named
      reset: my_helpers:reset_net

What is absent (a framework, a folder, a module) is skipped and said. Frameworks' own models need ``pip install`` of these.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from markdown import table
from torch import nn

from saccade.verify import profile_target, verify_target


@dataclass(frozen=True)
class Entry:
    """A model and what is said of it; see the head of this file."""

    name: str
    model: str
    shape: tuple[int, ...]
    T: int | None = None
    time_axis: str | None = None
    spiking: tuple[str, ...] = ()
    reset: str | None = None
    values: tuple[str, ...] = ()
    path: str = ""
    source: str = ""


def _jelly(make: str, **options: Any) -> nn.Module:
    """A model of SpikingJelly's model zoo in multi-step mode, fresh."""
    functional = importlib.import_module("spikingjelly.activation_based.functional")
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    module, _, name = make.partition(":")
    zoo = importlib.import_module(f"spikingjelly.activation_based.model.{module}")
    net = getattr(zoo, name)(spiking_neuron=neuron.IFNode, **options)
    functional.set_step_mode(net, "m")
    return net


def jelly_sew_resnet18() -> nn.Module:
    return _jelly("sew_resnet:sew_resnet18", pretrained=False, cnf="ADD", num_classes=10)


def jelly_spiking_resnet18() -> nn.Module:
    return _jelly("spiking_resnet:spiking_resnet18", pretrained=False, num_classes=10)


def jelly_spiking_vgg11() -> nn.Module:
    return _jelly("spiking_vgg:spiking_vgg11_bn", pretrained=False, num_classes=10)


def _zoo(make: str, **options: Any) -> nn.Module:
    """A model of SpikingJelly's zoo that takes still images and shows them for T = 4 steps itself, fresh."""
    module, _, name = make.partition(":")
    return getattr(importlib.import_module(f"spikingjelly.activation_based.model.{module}"), name)(**options)


def jelly_spikformer() -> nn.Module:
    return _zoo("spikformer:spikformer_cifar10", T=4)


def jelly_sdt() -> nn.Module:
    return _zoo("spike_driven_transformer:sdt_8_384", T=4, num_classes=10)


def jelly_qkformer() -> nn.Module:
    return _zoo("qkformer:qkformer_10_384", T=4, num_classes=10)


def jelly_maxformer() -> nn.Module:
    return _zoo("maxformer:maxformer_cifar", T=4)


def jelly_ms_resnet18() -> nn.Module:
    return _zoo("ms_resnet:ms_resnet18", T=4, num_classes=10)


RESET = "spikingjelly.activation_based.functional:reset_net"
BUILT_IN = [
    Entry(
        name,
        f"public_models:{factory}",
        (3, 32, 32),
        4,
        "first",
        reset=RESET,
        source="spikingjelly.activation_based.model",
    )
    for name, factory in (
        ("SEW-ResNet-18, ADD", "jelly_sew_resnet18"),
        ("Spiking ResNet-18", "jelly_spiking_resnet18"),
        ("Spiking VGG-11", "jelly_spiking_vgg11"),
    )
]
BUILT_IN += [
    Entry(name, f"public_models:{factory}", (3, size, size), reset=RESET, source="spikingjelly.activation_based.model")
    for name, factory, size in (
        ("Spikformer 4-384 (CIFAR-10)", "jelly_spikformer", 32),
        ("Spike-driven Transformer 8-384", "jelly_sdt", 64),
        ("QKFormer 10-384", "jelly_qkformer", 64),
        ("Max-Former (CIFAR)", "jelly_maxformer", 32),
        ("MS-ResNet-18", "jelly_ms_resnet18", 64),
    )
]


def read(file: Path) -> list[Entry]:
    """The models of a file. Raises ValueError for one that is not understood."""
    found = yaml.safe_load(file.read_text())
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError(f"{file}: expected a list of models")
    entries = []
    for entry in found:
        try:
            listed = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
            entries.append(Entry(**listed))
        except TypeError as error:
            raise ValueError(f"{file}: {entry.get('name', entry)}: {error}") from None
    return entries


@contextmanager
def importable(path: str) -> Iterator[None]:
    """With a folder first on the import path; what came from it is forgotten afterwards, as many are called ``model``."""
    folders = [path] if path else []
    known = set(sys.modules)
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)
            for name in set(sys.modules) - known:
                file = getattr(sys.modules[name], "__file__", None)
                if file and Path(file).is_relative_to(Path(folder)):
                    del sys.modules[name]


def row(entry: Entry) -> list[str]:
    """What was found about one model. Raises ValueError, in one line, for what cannot be found, built or fed."""
    said: dict[str, Any] = {"shape": entry.shape, "T": entry.T, "time_axis": entry.time_axis, "reset": entry.reset}
    said |= {"spiking": entry.spiking, "values": entry.values}
    start = time.perf_counter()
    verdict = verify_target(entry.model, **said)
    seconds = time.perf_counter() - start
    faults = [f"{check.name}: `{check.layer}`" for check in verdict.checks if check.status == "FAIL"]
    warned = [f"({check.name}: `{check.layer}`)" for check in verdict.checks if check.status == "WARN"]
    try:
        total = profile_target(entry.model, **said).total()
        n = max(total.samples, 1)
        counts = [f"{total.spikes / n / 1e3:.1f} k", f"{total.sops / n / 1e6:.1f} M", f"{total.macs / n / 1e6:.1f} M"]
    except NotImplementedError as error:  # an operation that no rule knows: said by name, never counted as nothing
        counts = [" ".join(str(error).split()), "", ""]
    result = "; ".join(faults or ["passed"]) + (" " + " ".join(warned) if warned else "")
    return [entry.name, result, *counts, f"{seconds:.0f} s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, action="append", default=[], help="a YAML list of models; repeatable")
    parser.add_argument("--out", type=Path, help="where the table goes (default: printed)")
    options = parser.parse_args()
    rows, skipped = [], []
    for entry in [*BUILT_IN, *(entry for file in options.models for entry in read(file))]:
        torch.manual_seed(0)
        with importable(entry.path):
            try:
                rows.append(row(entry))
            except ValueError as error:
                skipped.append(f"{entry.name}: {error}")
        print(
            f"{entry.name}: {'skipped' if skipped and skipped[-1].startswith(entry.name) else 'done'}", file=sys.stderr
        )
    text = (
        table(["model", "verify: what failed (warned)", "spikes", "SOPs", "MACs", "time"], rows)
        if rows
        else "no model found"
    )
    text += f"\n\nPer sample, fresh weights. torch {torch.__version__}, CPU, {torch.get_num_threads()} threads.\n"
    text += "".join(f"\nskipped: {line}" for line in skipped)
    if options.out:
        options.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
