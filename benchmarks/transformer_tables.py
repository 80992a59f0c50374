"""Tables of small spiking transformers on CIFAR-10, one setting changed at a time.

    python benchmarks/transformer_tables.py attention --data DATA [--seeds 3]     # goes on where it stopped
    python benchmarks/transformer_tables.py --print                               # every table, from results/transformers

All are networks of minutes: the order among neighbours means nothing beyond the spread of its seeds. The epoch is chosen by
2,000 validation images; all 10,000 test images are scored once.

* ``attention``, ``dilations``: Spike-driven Transformer v1 of width 64, two pairs of blocks, four heads, T = 2, behind a linear
  stem of 4x4 patches (a convolutional one hides what attention does). 5,000 training images, class by class, eight epochs.
* ``levels``: ``qsd_small`` with full weights, integer neurons of D levels; beyond one step they keep a state
  (``ie_lif_stateful``), as the stateless ones say the same in every step. 8,000 training images, eight epochs.
* ``bits``, ``distillation``: ``qsd_small``, D = 4, T = 1. 12,500 training images, fifteen epochs. The teacher is the network
  itself with full weights and 255 levels, trained alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training_tables import main

from saccade.layers.attention import ATTENTIONS

RESULTS = Path(__file__).parents[1] / "results" / "transformers"
TRAIN = {
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.05,
    "warmup_epochs": 1,
    "clip_norm": 1.0,
    "precision": "32-true",
}


def recipe(model: dict[str, Any], images: int, epochs: int, **more: Any) -> dict[str, Any]:
    data = {"name": "cifar10", "validation": 2000, "train_size": images, "augment": ["crop", "flip"]}
    return {
        "name": "table",
        "model": model,
        "data": data,
        "train": TRAIN | {"epochs": epochs},
        "stages": ["profile"],
        **more,
    }


def column(attention: Any) -> dict[str, Any]:
    model = {"name": "sdt_v1_small", "config": {"T": 2, "stem": "linear", "attention": attention}}
    return recipe(model, 5000, 8)


def quantized(bits: int) -> list[dict[str, Any]]:
    lsq = {"method": "lsq", "bits": bits, "steps": "channel", "skip": []}
    return [] if bits == 32 else [{"name": "quantize", "config": lsq}]


def pyramid(
    D: int = 4, T: int = 1, bits: int = 32, images: int = 12500, epochs: int = 15, **more: Any
) -> dict[str, Any]:
    neuron = {"name": "ie_lif" if T == 1 else "ie_lif_stateful", "config": {"D": D}}
    model = {"name": "qsd_small", "config": {"T": T, "neuron": neuron}, "transforms": quantized(bits)}
    return recipe(model, images, epochs, **more)


def attention() -> dict[str, dict[str, Any]]:
    return {name: column(name) for name in ATTENTIONS}


def dilations() -> dict[str, dict[str, Any]]:
    settings = {"none": [], "1": [1], "1 3": [1, 3], "1 3 5": [1, 3, 5]}
    return {
        f"{name} {words}": column(
            {"name": name, "config": {"dilations": of}} if of else {"name": plain, "config": config}
        )
        for name, plain, config in (("lrf_ssa", "ssa_kv", {}), ("lrf_dyn", "lrf_dyn", {"dilations": []}))
        for words, of in settings.items()
    }


def levels() -> dict[str, dict[str, Any]]:
    cases = ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4))
    return {f"D = {D}, T = {T}": pyramid(D, T, images=8000, epochs=8) for D, T in cases}


def bits() -> dict[str, dict[str, Any]]:
    return {f"W{b}": pyramid(bits=b) for b in (32, 4, 2)}


def distillation() -> dict[str, dict[str, Any]]:
    """A teacher's file is that of the row ``teacher`` of the same seed."""
    taught = {
        form: pyramid(bits=4, teacher={"model": "", "method": "fgd", "form": form}) for form in ("similarity", "mse")
    }
    return {"teacher": pyramid(D=255), **taught}


TABLES = {table.__name__: table for table in (attention, bits, levels, distillation, dilations)}


if __name__ == "__main__":
    main(TABLES, RESULTS, __doc__ or "")
