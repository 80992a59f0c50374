"""Spiking networks and int8 ANNs of several widths, trained alike: accuracy over latency, over bytes, over energy.

    python benchmarks/widths.py train --runs RUNS --data DATA [--rows ROW ...] [--seeds 3] [--epochs 30] [--accelerator cuda]
    python benchmarks/widths.py measure --runs RUNS --data DATA     # on a quiet machine; writes results/deploy/widths.json

All are ``vgg_small`` with the channels of the network that comes along times a factor: the same epochs of CIFAR-10, batch 128,
the same optimizer, the epoch chosen by 2,000 validation images, all 10,000 test images scored once.

* ``ann``: ReLUs and weights in float32, then static int8 by ONNX Runtime (a scale an output channel, 1,024 training pictures to
  calibrate), which is what people deploy.
* ``d4``: integer neurons of 4 levels, T = 1, weights in 4 bits with learned steps; ``d1``: the same with one level, spikes of
  one bit; ``t4``: LIF of four steps. Lowered, run by the native engine from a ``.sacc`` file.

Latency: one picture, one thread, through the call that is fastest in Python; ONNX Runtime is handed pictures that are
normalised already, the engine bytes. Energy counts additions and products at the prices of whole numbers, and no memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import Make
from inference import measure as medians
from relu_neuron import Relu
from side_by_side import machine
from torch import Tensor, nn

from saccade import plugins
from saccade.data import load
from saccade.deploy import load_program, lower, save_program
from saccade.experiment import environment, parse, run
from saccade.files import load_model
from saccade.measure import STANDARD, profile
from saccade.report import write_text

RESULTS = Path(__file__).parents[1] / "results" / "deploy" / "widths.json"
PRICES = {"mac_pj": 0.3, "ac_pj": 0.1}  # a product of bytes 0.2 pJ, a sum of 32 bits 0.1 pJ, at 45 nm: Horowitz (2014)
ROUNDS = 11
CHANNELS, POOLS = (48, 64, 96, 128, 128, 192), (1, 3, 5)
LSQ = [{"name": "quantize", "config": {"method": "lsq", "bits": 4, "steps": "channel", "skip": []}}]


KINDS: dict[str, tuple[int, Any, list[dict[str, Any]], tuple[float, ...]]] = {  # T, neuron, weights, factors
    "ann": (1, "relu", [], (0.25, 0.375, 0.5, 0.75, 1)),
    "d4": (1, {"name": "ie_lif", "config": {"D": 4}}, LSQ, (0.5, 0.75, 1, 1.5)),
    "d1": (1, {"name": "ie_lif", "config": {"D": 1}}, LSQ, (1, 1.5, 2)),
    "t4": (4, "qp", LSQ, (0.5, 1)),
}
ROWS = {f"{kind}-{factor:g}": (kind, factor) for kind, (*_, factors) in KINDS.items() for factor in factors}


def recipe(row: str, seed: int, epochs: int, accelerator: str) -> dict[str, Any]:
    kind, factor = ROWS[row]
    T, neuron, transforms, _ = KINDS[kind]
    channels = [round(c * factor) for c in CHANNELS]
    return {
        "name": f"widths-{row}",
        "plugins": ["relu_neuron"] if kind == "ann" else [],
        "seed": seed,
        "model": {
            "name": "vgg_small",
            "config": {"T": T, "neuron": neuron, "channels": channels, "pools": list(POOLS)},
            "transforms": transforms,
        },
        "data": {"name": "cifar10", "validation": 2000, "augment": ["crop", "flip"]},
        "task": {"name": "classification", "config": {"label_smoothing": 0.1}},
        "train": {
            "epochs": epochs, "batch_size": 128, "optimizer": "adamw", "lr": 4e-3, "weight_decay": 0.05, "warmup_epochs": 1,
            "clip_norm": 1.0, "evaluate_every": 3, "ema": 0.998, "precision": "auto", "channels_last": True,
            "accelerator": accelerator,
        },
        "stages": [],
    }  # fmt: skip


def trained(place: Path, settings: dict[str, Any], data: str) -> dict[str, Any]:
    """The summary of a run directory, trained if it is not there or not whole."""
    if not (place / "summary.json").exists():
        run(parse(settings), place, data=data, quiet=True, report=False, resume=place.exists())
    summary: dict[str, Any] = json.loads((place / "summary.json").read_text())
    return summary


def plain(model: Any) -> nn.Module:
    """A trained ANN as layers of torch, norms folded; it takes pictures that are normalised already."""
    layers: list[nn.Module] = []
    for part in [*model.stem, model.stem_neuron, *model.layers]:
        if isinstance(part, nn.Conv2d):
            conv = nn.Conv2d(part.in_channels, part.out_channels, 3, padding=1, bias=part.bias is not None)
            conv.load_state_dict({k: v for k, v in part.state_dict().items() if k in ("weight", "bias")})
            layers.append(conv)
        elif isinstance(part, nn.modules.batchnorm._BatchNorm):
            norm = nn.BatchNorm2d(part.num_features, part.eps)
            norm.load_state_dict(part.state_dict())
            layers[-1] = torch.nn.utils.fusion.fuse_conv_bn_eval(layers[-1].eval(), norm.eval())
        else:
            pools = {"MaxPool2d": nn.MaxPool2d(2), "AvgPool2d": nn.AvgPool2d(2)}
            layers.append(nn.ReLU() if isinstance(part, Relu) else pools[type(part).__name__])
    head = nn.Linear(model.head.in_features, model.head.out_features)
    head.load_state_dict(model.head.state_dict())
    return nn.Sequential(*layers, nn.Flatten(), head).eval()


def int8(model: Any, path: Path, shown: np.ndarray) -> Path:
    """An ONNX file with static int8 weights and activations, calibrated on normalised pictures."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(shown.reshape(-1, 64, *shown.shape[1:]))

        def get_next(self) -> Any:
            batch = next(self.left, None)
            return None if batch is None else {"x": batch}

    whole = path.with_name("float.onnx")
    batch = torch.export.Dim("batch", min=1, max=1024)
    settings: dict[str, Any] = {"input_names": ["x"], "dynamic_shapes": ({0: batch},), "dynamo": True, "verbose": False}
    torch.onnx.export(plain(model), (torch.rand(2, 3, 32, 32),), whole, external_data=False, **settings)
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(whole, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **types)
    return path


def deployed(row: str, place: Path, data: str, folder: Path) -> tuple[dict[str, Any], Callable[[], Any]]:
    """What a trained row costs and gives as people run it, and a call for one picture."""
    splits = load("cifar10", data, validation=2000)
    x, y = splits.test.__getitems__(list(range(len(splits.test))))
    some = splits.train.__getitems__(list(range(1024)))[0]
    model = load_model(place / "model.safetensors").eval()
    name = f"{place.name}.{'onnx' if row.startswith('ann') else 'sacc'}"
    if row.startswith("ann"):
        import onnxruntime

        def normal(pixels: Tensor) -> np.ndarray:
            return np.ascontiguousarray(model.normalise(pixels.float() / 255).numpy())

        file = int8(model, folder / name, normal(some))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        bound = session.io_binding()  # no copies, which is its fastest call
        bound.bind_cpu_input("x", normal(x[:1]))
        bound.bind_output(session.get_outputs()[0].name)
        answers = [session.run(None, {"x": normal(part)})[0] for part in x.split(500)]
        call = partial(session.run_with_iobinding, bound)
    else:
        file = folder / name
        save_program(lower(model, some[:8].float() / 255, weight_bits=31), file)
        program = load_program(file)
        answers = [program.run(part.to(torch.uint8).numpy()) for part in x.split(500)]
        one = x[:1].to(torch.uint8).numpy()
        call = partial(program.run, one, threads=1)
    right = float((np.concatenate(answers).argmax(1) == y.numpy()).mean())
    found = profile(model, some[:100].float() / 255, convention=STANDARD.replace(**PRICES))
    summary = json.loads((place / "summary.json").read_text())
    return {
        "test_accuracy": right,
        "test_accuracy_float": summary["test_accuracy"],
        "epochs": summary["epochs"],
        "training_seconds": summary["training_seconds"],
        "parameters": summary["parameters"],
        "bytes": file.stat().st_size,
        "energy_nj": found.energy().total_pj / 1e3,
    }, call


def measure(runs: Path, data: str, out: Path) -> None:
    """Every row that was trained; latencies by rounds that are interleaved over the rows of seed 0."""
    torch.set_num_threads(1)
    plugins.load("relu_neuron")
    rows, calls = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for place in sorted(runs.iterdir()):
            row, _, seed = place.name.rpartition("-seed")
            if row not in ROWS or not (place / "summary.json").exists():
                continue
            found, call = deployed(row, place, data, Path(folder))
            rows.append({"row": row, "seed": int(seed)} | found)
            print(rows[-1], flush=True)
            if seed == "0":
                calls[row] = call
        makes: dict[str, Make] = {row: lambda x, threads, call=call: call for row, call in calls.items()}
        found = medians(makes, np.empty(0), 1, ROUNDS, 0.05)
    made = environment()
    record = {
        "format": "saccade-widths-1", "commit": made["commit"], "machine": machine(), "prices_pj": PRICES, "rows": rows,
        "latency": found,
    }  # fmt: skip
    write_text(out, json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.what == "measure":
        return measure(given.runs, given.data, given.out)
    for seed in range(given.seeds):
        for row in given.rows:
            settings = recipe(row, seed, given.epochs, given.accelerator)
            summary = trained(given.runs / f"{row}-seed{seed}", settings, given.data)
            print(f"{row:10} seed {seed}: {summary['test_accuracy']:.2%}", flush=True)


if __name__ == "__main__":
    main()
