"""The checks on what neurons emit: the values they declare, and whether they fire at all."""

from __future__ import annotations

import torch

from saccade.neurons import Spiking, recording
from saccade.verify.result import Check
from saccade.verify.subject import ROOT, TOLERANCE, Subject, find_axes, say

APART = ("gate", "shortcut")  # roles of neurons that may rightly fall silent: natural pruning removes them
QUIET = 0.001  # a layer that fires less than this is reported too: next to nothing was compared there
SHOWN = 2  # layers (or values) named in a detail; the rest is only counted


def rates_of(s: Subject) -> dict[str, float]:
    """Fraction of the neurons' outputs that are not zero, over all inputs, by layer, in execution order."""
    fired: dict[str, list[int]] = {}
    for view in s.views:
        for (path, leaf, _), y in s.whole(view).items():
            if path in s.neurons and leaf == 0:
                seen = fired.setdefault(path, [0, 0])
                seen[0] += int(y.count_nonzero())
                seen[1] += y.numel()
    return {path: fires / max(total, 1) for path, (fires, total) in fired.items()}


def body_of(s: Subject) -> list[str]:
    """The layers of neurons that should not be silent: all but gates and shortcuts of ours."""
    return [path for path in s.neurons if _role(s, path) not in APART]


def _role(s: Subject, path: str) -> str:
    module = s.model.get_submodule(path)
    return module.role if isinstance(module, Spiking) else ""


def silent(s: Subject, rates: dict[str, float]) -> list[str]:
    """The layers of the body that never fire."""
    return [path for path in body_of(s) if rates.get(path) == 0]


def constant_output(s: Subject) -> bool:
    """Whether the output is the same for every sample, though these differ: nothing of the input reaches it."""
    for view in s.views:
        whole = s.whole(view)
        where = find_axes(s.alone(view), whole, view.samples).get(("", 0, 0))
        if where is None or not whole["", 0, 0].numel():
            return False
        samples = [where.sample(whole["", 0, 0], i)[0] for i in range(view.samples)]
        if not all(torch.equal(samples[0], other) for other in samples[1:]):
            return False
    return True


def at_threshold(s: Subject, path: str) -> str:
    """How many potentials of a neuron of ours lie within rounding of its threshold, as words in brackets; "" for others."""
    module = s.model.get_submodule(path) if path in s.neurons else None
    threshold = getattr(getattr(module, "config", None), "v_th", None)
    if not isinstance(module, Spiking) or not isinstance(threshold, int | float):
        return ""
    with torch.no_grad(), recording(s.model) as recorded:
        s.call(s.model, s.views[0].inputs)
    if not recorded[path]:
        return ""
    potentials = torch.cat([u.flatten() for u in recorded[path]])
    near = int(((potentials - threshold).abs() <= TOLERANCE).sum())
    return f" ({near} of {potentials.numel()})" if near else ""


def alphabet(s: Subject) -> Check:
    """Spiking layers and declared residual blocks give none but the values they declare."""
    name = "alphabet"
    if not s.levels:
        return Check(name, "SKIP", "no layer declares its values: name the spiking ones (spiking=..., --spiking CLASS)")
    seen: set[str] = set()
    for view in s.views:
        for (path, leaf, _), y in s.whole(view).items():
            if path not in s.levels or leaf:
                continue
            first, *rest = s.levels[path]
            inside = y == first
            for value in rest:
                inside |= y == value
            if not inside.all():
                outside = y[~inside]
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


def activity(s: Subject, rates: dict[str, float], strict: bool, tested: dict[str, float] | None = None) -> Check:
    """Layers that never or always fire. Equalities of a silent network say nothing, so silence is at least a warning.

    rates: of the model as it came; tested: of the one that the other checks ran on, which may have been woken.
    """
    name = "activity"
    nothing = "the output is the same for every sample, and equalities of silence prove nothing"
    if not s.neurons:
        if constant_output(s):
            detail = (
                f"{nothing}; if its neurons are silent, name them (spiking=..., --spiking CLASS) and they will be woken"
            )
            return Check(name, "FAIL", detail, ROOT)
        return Check(name, "SKIP", "no spiking layers are known: name them (spiking=..., --spiking CLASS)")
    role = {path: _role(s, path) for path in s.neurons}
    body = body_of(s)
    still_silent = silent(s, rates if tested is None else tested)
    silent_as_it_came = silent(s, rates)
    idle = [path for path in body if path not in rates]
    quiet = [path for path in body if 0 < rates.get(path, 1) < QUIET]
    always = [path for path in body if rates.get(path) == 1]
    parts = []
    if rates:
        parts.append(f"{len(rates)} layers fire {min(rates.values()):.2%} to {max(rates.values()):.2%} of the time")
    for word, paths in (
        ("silent", silent_as_it_came),
        ("below 0.1%", quiet),
        ("never called", idle),
        ("always firing", always),
    ):
        if paths:
            parts.append(f"{len(paths)} of {len(body)} {word}: {some(paths)}")
    for kind in APART:
        still = [path for path in s.neurons if role[path] == kind and not rates.get(path)]
        stuck = [path for path in s.neurons if role[path] == kind and rates.get(path) == 1]
        for word, paths in (("silent", still), ("always firing", stuck)):
            if paths:
                total = sum(value == kind for value in role.values())
                parts.append(f"{len(paths)} of {total} {kind}s {word}: {some(paths)}")
    void = bool(still_silent) and (len(still_silent) == len(body) or constant_output(s))
    woken = len(silent_as_it_came) - len(still_silent)
    if woken > 0:
        parts.append(f"as it came; for the other checks {woken} of the silent were woken")
    if void:
        where = f"{some(still_silent)} could not be woken, so " if tested is not None else ""
        parts.append(
            f"{where}{nothing}" if len(still_silent) < len(body) else f"{where}equalities of silence prove nothing"
        )
    elif still_silent or quiet:
        parts.append("where next to nothing fires the other checks say little")
    odd = [*silent_as_it_came, *quiet, *idle, *always]
    status = "FAIL" if void or (silent_as_it_came and strict) else "WARN" if odd else "PASS"
    return Check(name, status, "; ".join(parts), say(odd[0]) if odd else "")


def some(paths: list[str]) -> str:
    rest = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(say(path) for path in paths[:SHOWN]) + rest
