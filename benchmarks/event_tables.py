"""Multiscale attention and attention zoneout on events, one setting changed at a time.

    python benchmarks/event_tables.py nmnist --data DATA --seeds 5     # goes on where it stopped
    python benchmarks/event_tables.py --print

``sma_vgg8_small`` (three convolutions of 16, 32 and 32 channels, an SMA behind the second), frames of event counts put together
two by two, ten of 30 ms. ``wide``: without attention, widened to as many parameters. The epoch is chosen by validation samples,
the test samples are scored once.

* ``nmnist``: 1,000 recordings of N-MNIST (100 of them for validation), 100 for the test: one of them is a point.
* ``gestures``: pieces of ten gesture clips (cut by ``gesture_clips.py``), 290 to learn from, 30 to choose by, 110 to test.
* ``simulated``: 1,000 pictures of CIFAR-10 before a simulated camera of 48 x 48, moving as for CIFAR10-DVS, eight epochs; 500
  to test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training_tables import as_markdown, main

RESULTS = Path(__file__).parents[1] / "results" / "events"
WINDOWS = {"name": "time", "config": {"duration_us": 30000, "frames": 10}}
TRAIN = {"epochs": 20, "batch_size": 25, "optimizer": "adam", "lr": 5e-3, "warmup_epochs": 1, "accelerator": "cpu"}
WIDE = (40, 80, 80)  # 108,914 parameters; with attention 111,216
NMNIST = {
    "name": "nmnist-small",
    "config": {"representation": "count", "binning": 2, "windows": WINDOWS},
    "validation": 100,
    "augment": ["crop"],
    "crop_padding": 2,
}
GESTURES = {
    "name": "event-folder",
    "config": {
        "height": 128,
        "width": 128,
        "representation": "count",
        "binning": 4,
        "windows": {"name": "time", "config": {"duration_us": 15000, "frames": 10}},
    },
    "validation": 30,
    "augment": ["crop"],
    "crop_padding": 2,
}
SIMULATED = {
    "name": "simulated",
    "config": {"images": "cifar10", "height": 48, "width": 48, "path": "loop", "binning": 2, "windows": WINDOWS},
    "validation": 200,
    "train_size": 1000,
    "test_size": 500,
    "augment": ["crop", "flip"],
    "crop_padding": 2,
}


def recipe(data: dict[str, Any], epochs: int = 20, **model: Any) -> dict[str, Any]:
    settings = {"name": "sma_vgg8_small", "config": {"T": 10, "num_classes": 10, **model}}
    train = TRAIN | {"epochs": epochs}
    return {"name": "table", "model": settings, "data": data, "train": train, "stages": ["profile"]}


def rows(data: dict[str, Any], epochs: int, zoneouts: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    found = {
        "plain": recipe(data, epochs, sma_blocks=[]),
        "wide": recipe(data, epochs, sma_blocks=[], channels=WIDE),
        **{name: recipe(data, epochs, sma=name) for name in ("sma_c", "sma", "sma_relu")},
    }
    for rcr in zoneouts:
        sma = {"name": "sma_relu", "config": {"zoneout": [rcr, 4]}}
        found[f"sma_relu, AZO {rcr}/4"] = recipe(data, epochs, sma=sma)
    return found


def nmnist() -> dict[str, dict[str, Any]]:
    return rows(NMNIST, 20, (2, 4, 8, 16))


def gestures() -> dict[str, dict[str, Any]]:
    return rows(GESTURES, 20, (4,))


def simulated() -> dict[str, dict[str, Any]]:
    return rows(SIMULATED, 8, (4,))


TABLES = {table.__name__: table for table in (nmnist, gestures, simulated)}
TITLES = {
    "nmnist": "a part of N-MNIST, twenty epochs, 100 recordings to test",
    "gestures": "pieces of ten gesture clips, twenty epochs, 110 pieces to test",
    "simulated": "1,000 pictures of CIFAR-10 before a simulated camera, eight epochs, 500 to test",
}


def section() -> str:
    """The stored tables for the page of results."""
    parts = [
        "## Multiscale attention on events",
        "`sma_vgg8_small`, mean and standard deviation over seeds; what to make of them stands in [SMA](sma.md).",
    ]
    for name, title in TITLES.items():
        if (RESULTS / f"{name}.json").exists():
            parts += [
                f"{title[:1].upper()}{title[1:]} (`results/events/{name}.json`):",
                as_markdown(TABLES, RESULTS, name),
            ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main(TABLES, RESULTS, __doc__ or "")
