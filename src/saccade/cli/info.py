"""``saccade info``: what a model is, weighs and takes on this machine, and where it can go."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.training import AsJson

if TYPE_CHECKING:
    from saccade.files import Opened


def info(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A model or packed file, run directory, or registered name (untrained)."),
    ],
    json: AsJson = False,
) -> None:
    """What a model is and weighs, how fast it is on this machine, what it keeps in memory, and where it can go.

    Latency, state and peak memory are measured on one picture of noise; spikes and energy are those that the run's profile
    found on its test images, and left out where there is none.
    """
    from saccade.files import open_model

    opened = open_model(model)
    record = _record(opened)
    if json:
        common.print_json(record)
        return
    for name, value in _lines(record):
        print(f"{name:<16} {value}")


def _record(opened: Opened) -> dict[str, Any]:
    import torch

    from saccade.measure import exact_size, inference_peak, latency, profile

    network, x = common.ours(opened), common.noise(opened, 1)
    with torch.random.fork_rng():
        counted = profile(network, x)
    record: dict[str, Any] = {
        "model": network.name,
        "file": str(opened.file) if opened.file else None,
        "trained": opened.file is not None,
        "parameters": sum(p.numel() for p in network.parameters()),
        "T": getattr(network, "T", None),
        "input": list(opened.input_shape or ()),
        "frames": network.frames,
        "classes": list(opened.classes),
        "transforms": [one.kind() for one in network.transforms],
        "bytes_parameters": sum(p.numel() * p.element_size() for p in network.parameters()),
        "latency": asdict(latency(network, x)),
        "machine": platform.processor() or platform.machine(),
        "state_bytes": counted.total().state_bytes,
        "peak_bytes": inference_peak(network, x),
    }
    if opened.packed and opened.file is not None:
        record["bytes_packed"] = exact_size(opened.file).total
    else:
        record["bytes_packed"] = _packed_bytes(opened)
    found = opened.file.parent / "profile.json" if opened.file else None
    if found is not None and found.exists() and opened.file is not None and opened.file.name == "model.safetensors":
        from saccade.report import RunFiles

        stored = RunFiles(found.parent).read_json("profile.json")
        record["spikes_per_image"] = stored["totals"]["spikes"] / stored["samples"]
        record["energy_uj"] = stored["energy_pj"] * 1e-6
        record["convention"] = stored["convention"]["name"]
    record["goes"] = _where_it_goes(opened)
    return record


def _packed_bytes(opened: Opened) -> int:
    from saccade.files import save_packed
    from saccade.measure import exact_size

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "packed.safetensors"
        save_packed(opened.model, target, common.noise(opened, 2), opened.classes, opened.input_shape)
        return exact_size(target).total


def _where_it_goes(opened: Opened) -> dict[str, str]:
    """For each form a model can take: "yes", or what stands in the way."""
    from saccade.deploy import lower
    from saccade.neurons import Stream

    ways: dict[str, str] = {}
    for name, attempt in {
        "frame by frame": lambda: Stream(opened.model),
        "integer program": lambda: lower(opened.model, common.noise(opened, 1)),
    }.items():
        try:
            attempt()
            ways[name] = "yes"
        except ValueError as error:
            ways[name] = f"no: {error}"
    return ways


def _frames(record: dict[str, Any] | None) -> list[tuple[str, str]]:
    """How the input is made of event recordings, if it is."""
    if record is None:
        return []
    from saccade.events.framing import Framing

    framing = Framing.parse(record)
    parts = [
        f"{one.kind()}{''.join(f', {key} {value}' for key, value in one.settings().items())}"
        for one in (framing.representation, framing.windows)
    ]
    binned = f", {framing.binning} x {framing.binning} pixels as one" if framing.binning > 1 else ""
    return [("frames", f"{parts[0]}; windows by {parts[1]}; a sensor of {framing.width} x {framing.height}{binned}")]


def _lines(record: dict[str, Any]) -> list[tuple[str, str]]:
    """The record for people."""
    shape = " x ".join(map(str, record["input"]))
    trained = f"of {record['file']}" if record["trained"] else "untrained"
    lines = [
        ("model", f"{record['model']}, {trained}"),
        (
            "input",
            f"{shape}, {record['T']} steps" + (f"; {len(record['classes'])} classes" if record["classes"] else ""),
        ),
        *_frames(record["frames"]),
        ("parameters", f"{record['parameters']:,}, {record['bytes_parameters'] / 1e3:,.1f} kB in memory"),
        ("packed file", f"{record['bytes_packed']:,} bytes"),
    ]
    if record["transforms"]:
        lines.append(("changed by", ", ".join(record["transforms"])))
    time = record["latency"]
    lines += [
        (
            "latency",
            f"{time['median_ms']:.2f} ms a picture (quartiles {time['low_ms']:.2f} to {time['high_ms']:.2f}, {time['calls']} "
            f"calls) on this {time['device'].upper()}, {time['threads']} thread{'s' * (time['threads'] > 1)}",
        ),
        ("state", f"{record['state_bytes']:,} bytes kept from step to step, for one picture"),
    ]
    if record["peak_bytes"] is not None:
        lines.append(("peak memory", f"{record['peak_bytes'] / 1e6:,.2f} MB beside the parameters, for one picture"))
    if "energy_uj" in record:
        words = f"{record['spikes_per_image']:,.0f} a picture, {record['energy_uj']:.3g} uJ by the convention"
        lines.append(("spikes", f"{words} {record['convention']!r}"))
    else:
        lines.append(("spikes", "not counted yet: saccade profile"))
    return lines + list(record["goes"].items())
