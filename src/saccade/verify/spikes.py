"""The checks on what neurons emit: the values they declare, and whether they fire at all."""

from __future__ import annotations

import torch

from saccade.verify.result import Check
from saccade.verify.subject import Subject, say

APART = ("gate", "shortcut")  # roles of neurons that may rightly fall silent: natural pruning removes them
QUIET = 0.001  # a layer that fires less than this is reported too: next to nothing was compared there
SHOWN = 2  # layers (or values) named in a detail; the rest is only counted


def rates_of(s: Subject) -> dict[str, float]:
    """Fraction of the neurons' outputs that are not zero, over all inputs, by layer, in execution order."""
    fired: dict[str, list[int]] = {}
    for view in s.views:
        for (path, leaf, _), y in s.run(view.x).items():
            if path in s.neurons and leaf == 0:
                seen = fired.setdefault(path, [0, 0])
                seen[0] += int(y.count_nonzero())
                seen[1] += y.numel()
    return {path: fires / max(total, 1) for path, (fires, total) in fired.items()}


def alphabet(s: Subject) -> Check:
    """Spiking layers and declared residual blocks give none but the values they declare."""
    name = "alphabet"
    if not s.levels:
        return Check(name, "SKIP", "no layer declares its values: name the spiking ones (spiking=..., --spiking CLASS)")
    seen: set[str] = set()
    for view in s.views:
        for (path, leaf, _), y in s.run(view.x).items():
            if path not in s.levels or leaf:
                continue
            allowed = torch.tensor(s.levels[path], dtype=y.dtype, device=y.device)
            outside = y[~torch.isin(y, allowed)]
            if outside.numel():
                declared = ", ".join(f"{value:g}" for value in s.levels[path])
                strange = [f"{value:g}" for value in outside.unique()[:SHOWN].tolist()]
                share = f"{outside.numel()} of {y.numel()} values"
                detail = f"{view.name}: gives {', '.join(strange)} ({share}); declared: {declared}"
                return Check(name, "FAIL", detail, say(path))
            seen.add(path)
    if not seen:
        return Check(name, "SKIP", "none of the layers that declare their values ran")
    blocks = len(seen - set(s.neurons))
    also = f" and {blocks} residual outputs" if blocks else ""
    return Check(name, "PASS", f"{len(seen) - blocks} layers of neurons{also} give only what they declare")


def activity(s: Subject, rates: dict[str, float], strict: bool) -> Check:
    """Layers that never or always fire. Equalities of a silent network say nothing, so silence is at least a warning."""
    name = "activity"
    if not s.neurons:
        return Check(name, "SKIP", "no spiking layers are known: name them (spiking=..., --spiking CLASS)")
    modules = dict(s.model.named_modules())
    role = {path: str(getattr(modules[path], "role", "")) for path in s.neurons}
    body = [path for path in s.neurons if role[path] not in APART]
    silent = [path for path in body if rates.get(path) == 0]
    idle = [path for path in body if path not in rates]
    quiet = [path for path in body if 0 < rates.get(path, 1) < QUIET]
    always = [path for path in body if rates.get(path) == 1]
    parts = []
    if rates:
        parts.append(f"{len(rates)} layers fire {min(rates.values()):.2%} to {max(rates.values()):.2%} of the time")
    for word, paths in (("silent", silent), ("below 0.1%", quiet), ("never called", idle), ("always firing", always)):
        if paths:
            parts.append(f"{len(paths)} of {len(body)} {word}: {some(paths)}")
    for kind in APART:
        still = [path for path in s.neurons if role[path] == kind and not rates.get(path)]
        stuck = [path for path in s.neurons if role[path] == kind and rates.get(path) == 1]
        for word, paths in (("silent", still), ("always firing", stuck)):
            if paths:
                total = sum(value == kind for value in role.values())
                parts.append(f"{len(paths)} of {total} {kind}s {word}: {some(paths)}")
    if silent or quiet:
        parts.append("where next to nothing fires the other checks say little")
    odd = [*silent, *quiet, *idle, *always]
    status = "FAIL" if silent and strict else "WARN" if odd else "PASS"
    return Check(name, status, "; ".join(parts), say(odd[0]) if odd else "")


def some(paths: list[str]) -> str:
    rest = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(say(path) for path in paths[:SHOWN]) + rest
