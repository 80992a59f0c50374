"""Natural pruning: remove the shortcuts that never fire.

Source: Shan et al. (2023), SynA-ResNet. The published scripts call a shortcut pruned when its rate rounds to 0 on one test
batch; here the criterion is an exact count of zero spikes over the whole training and validation data, and the logits
before and after are compared bit for bit on it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.models import SpikingModel
from saccade.train.evaluate import counting_roles
from saccade.transforms import RemoveShortcutsConfig, apply, spiking_shortcuts

Batches = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class ShortcutRecord:
    """What a shortcut did over some data: exact spike counts of its neuron and of its gate (None without one)."""

    path: str
    spikes: int
    rate: float
    gate_spikes: int | None
    gate_rate: float | None
    parameters: int
    samples: int


def measure_shortcuts(model: SpikingModel, data: Iterable[Tensor]) -> list[ShortcutRecord]:
    """Count the spikes of every shortcut and its gates over ``data`` (batches ``[N, C, H, W]`` or ``[T, N, ...]``)."""
    device = next(model.parameters()).device
    samples = 0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), counting_roles(model) as counts:
            for x in data:
                model(x.to(device))
                samples += x.shape[0] if x.dim() == 4 else x.shape[1]
    finally:
        model.train(was_training)
    records = []
    for path in spiking_shortcuts(model):
        spikes, chances = counts[f"{path}.neuron"]
        gates = [tally for name, tally in counts.items() if name.startswith(f"{path}.gate.")]
        gate_spikes, gate_chances = sum(g[0] for g in gates), sum(g[1] for g in gates)
        records.append(
            ShortcutRecord(
                path,
                spikes,
                spikes / max(chances, 1),
                gate_spikes if gates else None,
                gate_spikes / max(gate_chances, 1) if gates else None,
                sum(p.numel() for p in model.get_submodule(path).parameters()),
                samples,
            )
        )
    return records


def silent_shortcuts(model: SpikingModel, records: Sequence[ShortcutRecord]) -> list[str]:
    """Paths of the shortcuts that may be removed: not one spike, joined by a connection that then passes the backbone."""
    blocks = spiking_shortcuts(model)
    silent = [record.path for record in records if record.spikes == 0]
    return [path for path in silent if (connection := blocks[path].connection) is not None and connection.removable]


def compare_logits(before: SpikingModel, after: SpikingModel, data: Iterable[Tensor]) -> dict[str, Any]:
    """Compare the logits of every step bit for bit.

    Returns ``{samples, differing_samples, largest_difference, equal}``. Both models see the same batches.
    """
    device = next(before.parameters()).device
    samples = differing = 0
    largest = 0.0
    with torch.inference_mode():
        for x in data:
            a, b = (model.eval()(x.to(device), steps=True) for model in (before, after))
            samples += a.shape[1]
            differing += int((a != b).any(-1).any(0).sum())
            largest = max(largest, float((a - b).abs().max()) if a.numel() else 0.0)
    return {
        "samples": samples,
        "differing_samples": differing,
        "largest_difference": largest,
        "equal": differing == 0,
    }


def natural_pruning(
    model: SpikingModel,
    measured: Batches,
    test: Batches | None = None,
    initial: SpikingModel | None = None,
    history: Sequence[Mapping[str, float | None]] = (),
    progress: Callable[[str, int], None] | None = None,
) -> tuple[SpikingModel, dict[str, Any]]:
    """Measure, remove what never fired, and verify.

    ``measured()`` yields the batches of the training and validation data; ``test()`` those of the test set, on which any
    difference is only reported. ``initial``, the model as initialised, and ``history``, the rows of metrics.csv with the
    rates of every epoch, tell shortcuts that never opened from those that closed in training. ``progress(what, samples)``
    is told how far each pass is.

    Returns the pruned copy and a report: every shortcut's counts and story, what was saved, and the comparisons of logits
    ("measured" and "test", None where nothing was removed).
    Raises ValueError for a model without spiking shortcuts, RuntimeError if the logits on the measured data differ,
    which would be a defect.
    """
    if not spiking_shortcuts(model):
        raise ValueError("the model has no spiking shortcuts, so there is nothing that natural pruning could remove")

    def told(what: str, data: Iterable[Tensor]) -> Iterable[Tensor]:
        for x in data:
            yield x
            if progress:
                progress(what, x.shape[0] if x.dim() == 4 else x.shape[1])

    records = measure_shortcuts(model, told("measuring", measured()))
    removed = silent_shortcuts(model, records)
    before = {}
    if initial is not None:
        before = {record.path: record for record in measure_shortcuts(initial, told("at initialisation", measured()))}
    pruned = copy.deepcopy(model)
    if removed:
        apply(pruned, RemoveShortcutsConfig(tuple(removed)))
    on_measured = on_test = None
    if removed:
        on_measured = compare_logits(model, pruned, told("verifying", measured()))
        if not on_measured["equal"]:
            raise RuntimeError(
                f"logits changed on {on_measured['differing_samples']} measured samples: please report this"
            )
        on_test = compare_logits(model, pruned, told("test set", test())) if test else None
    rows = []
    for record in records:
        row = asdict(record) | {"removed": record.path in removed}
        if record.path in before:
            start = before[record.path]
            row |= {"initial_spikes": start.spikes, "initial_rate": start.rate, "initial_gate_rate": start.gate_rate}
        row["story"] = _story(record, before.get(record.path), history)
        rows.append(row)
    count = {"before": _parameters(model), "after": _parameters(pruned)}
    report = {
        "shortcuts": rows,
        "removed": removed,
        "parameters": count,
        "saved_parameters": count["before"] - count["after"],
        "measured": on_measured,
        "test": on_test,
    }
    return pruned, report


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _story(now: ShortcutRecord, start: ShortcutRecord | None, history: Sequence[Mapping[str, float | None]]) -> str:
    """What became of a shortcut, from its counts now and at initialisation and the validation rates of every epoch."""
    if now.spikes:
        return "fires"
    rates = [rate or 0.0 for row in history for key, rate in row.items() if key == f"rate/{now.path}.neuron"]
    gates = [rate or 0.0 for row in history for key, rate in row.items() if key.startswith(f"rate/{now.path}.gate.")]
    if start is not None:
        rates.append(start.rate)
        gates.append(start.gate_rate or 0.0)
    if max(rates, default=0.0) > 0:
        return f"closed in training: it fired before (up to {max(rates):.2g} a step)"
    if max(gates, default=0.0) > 0:
        return f"never fired, though its gate was open before (up to {max(gates):.2g} a step)"
    if now.gate_spikes:
        return "never fired, though its gate opens"
    if now.gate_spikes == 0 and start is not None:
        return "never opened: its gate was closed at initialisation and ever since"
    return "never fired" if start is not None else "silent"
