"""What 0.1 computed, this version computes: outputs and spikes of every network, with and without each change of it.

The values in golden.json were taken before the redesign; ``SACCADE_GOLDEN=write`` takes them again, which is right only where
a defect was mended. Spikes in float64 are compared to the bit, logits and weights to 1e-9, since processors add in another
order.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import golden_subjects as subjects
import pytest
import torch
from torch import nn

from saccade.measure import profile
from saccade.models import create_model

FILE = Path(__file__).with_name("golden.json")
WRITING = os.environ.get("SACCADE_GOLDEN") == "write"
GOLDEN: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}


@pytest.fixture(scope="module", autouse=True)
def _store():
    yield
    if WRITING:
        FILE.write_text(json.dumps(GOLDEN, indent=0, sort_keys=True) + "\n")


def check(key: str, found: dict[str, Any], tolerance: float = 1e-9) -> None:
    if WRITING:
        GOLDEN[key] = found
    stored = GOLDEN[key]
    assert found.keys() == stored.keys()
    for name, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], float):
            largest = max(map(abs, stored[name]))
            gap = max(abs(a - b) for a, b in zip(value, stored[name], strict=True))
            assert gap <= tolerance * max(largest, 1.0), f"{key}: {name} differs by {gap:.1e}"
        else:
            assert value == stored[name], f"{key}: {name} {value} where 0.1 had {stored[name]}"


def numbers(y: torch.Tensor) -> list[float]:
    """A tensor in at most 24 numbers: its sum, its norm, and some of it."""
    flat = y.detach().double().flatten()
    return [float(flat.sum()), float(flat.norm()), *flat[:: max(1, len(flat) // 20)][:22].tolist()]


def run(model: nn.Module, x: torch.Tensor) -> dict[str, Any]:
    """Logits of the sequence and of its first images, and a digest of the spikes of every layer of neurons, in order."""
    digest, fired, layers = hashlib.sha256(), 0, 0

    def note(module: nn.Module, args: object, y: torch.Tensor) -> None:
        nonlocal fired, layers
        digest.update((y != 0).flatten(2).to(torch.uint8).numpy().tobytes())
        fired, layers = fired + int((y != 0).sum()), layers + 1

    handles = [m.register_forward_hook(note) for m in model.modules() if getattr(m, "levels", None)]
    with torch.no_grad():
        sequence, static = model(x, steps=True), model(x[0])
    for handle in handles:
        handle.remove()
    return {
        "logits": [*numbers(sequence), *numbers(static)],
        "spikes": fired,
        "layers": layers,
        "digest": digest.hexdigest()[:16],
    }


@pytest.mark.parametrize(
    "name", subjects.names() if not GOLDEN or WRITING else sorted(k[5:] for k in GOLDEN if k[:5] == "base/")
)
def test_models_compute_what_they_did(name):
    check(f"base/{name}", run(*subjects.woken(name)))


CASES = [
    (change, name)
    for change, (_, models) in subjects.changes().items()
    for name in models
    if WRITING or f"base/{name}" in GOLDEN
]


@pytest.mark.parametrize(("change", "name"), CASES)
def test_changed_models_compute_what_they_did(change, name):
    key = f"{change}/{name}"
    if not WRITING and key not in GOLDEN:
        pytest.skip("0.1 could not do this")
    model, x = subjects.woken(name)
    try:
        changed = subjects.changes()[change][0](model, x)
    except ValueError:
        if WRITING:
            return
        raise
    check(key, run(changed, x))


@pytest.mark.parametrize(
    "name", ["syna_resnet18_small", "sew_resnet18_small", "ms_resnet18_small", "vgg_small", "rows_mlp"]
)
def test_profiles_count_what_they_did(name):
    model, x = subjects.woken(name)
    found = profile(model, x)
    rows = {row.name: row for row in found.layers}
    total = found.total()
    counts = ("sops", "macs", "dense_macs", "adds", "mults", "ands", "norm", "comparisons", "other", "neuron_updates")
    check(
        f"profile/{name}",
        {
            "totals": {key: getattr(total, key) for key in (*counts, "spikes", "neurons")},
            "spikes": {path: row.spikes for path, row in rows.items() if row.neurons},
            "inputs": {path: row.input for path, row in rows.items() if row.input},
            "energy": [found.energy("standard").total_pj, found.energy("orrc").total_pj],
        },
    )


def test_the_digits_checkpoint_says_what_it_did():
    from saccade.data import load
    from saccade.files import load_model

    pytest.importorskip("sklearn")
    model = load_model(Path(__file__).parents[2] / "checkpoints" / "digits.safetensors").double()
    images, _labels = load("digits", validation=150).test.__getitems__(range(360))
    with torch.no_grad():
        logits = model(images.double() / 255)
    found = {"predictions": logits.argmax(-1).tolist(), "logits": numbers(logits)}
    check("checkpoint/digits", found)


@pytest.mark.parametrize("name", ["or_resnet18_small", "vgg_small"])
def test_training_takes_the_same_steps(name):
    """20 steps of AdamW in float64, from the seed: initialisation, gradients and running statistics."""
    from saccade.train import loss_function

    torch.manual_seed(3)
    small = {"widths": (4, 6, 8, 10)} if "resnet" in name else {"channels": (4,) * 6}
    model = create_model(name, T=2, **small).double().train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    loss = loss_function("ce", 10)
    generator = torch.Generator().manual_seed(5)
    losses = []
    for _ in range(20):
        x = torch.rand(8, 3, 32, 32, generator=generator, dtype=torch.float64)
        y = torch.randint(10, (8,), generator=generator)
        value = loss(model(x, steps=True), y)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(value.detach()))
    state = {key: value.double() for key, value in model.state_dict().items()}
    found = {"losses": losses, "sums": [float(v.sum()) for v in state.values()]}
    found |= {"names": list(state), "norms": [float(v.norm()) for v in state.values()]}
    check(f"training/{name}", found, tolerance=1e-6)


@pytest.mark.parametrize("change", ["rescaw4", "lsq3", "subbit"])
def test_packed_files_hold_what_they_did(change, tmp_path):
    from safetensors.torch import load_file

    from saccade.compress import load_packed, save_packed

    model, x = subjects.woken("vgg_small")
    model = subjects.changes()[change][0](model, x).float()
    save_packed(model, tmp_path / "p.safetensors", x.float())
    tensors = load_file(tmp_path / "p.safetensors")
    whole = {
        k: hashlib.sha256(v.numpy().tobytes()).hexdigest()[:16] for k, v in tensors.items() if v.dtype == torch.uint8
    }
    sums = [float(v.double().sum()) for k, v in sorted(tensors.items()) if v.is_floating_point()]
    with torch.no_grad():
        again = load_packed(tmp_path / "p.safetensors").double()(x)
    check(f"packed/{change}", {"streams": whole, "sums": sums, "logits": numbers(again)}, tolerance=1e-5)
