"""The checks on time: causality, and the whole sequence against its chunks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from saccade.neurons import Stream, Temporal
from saccade.verify.result import Check
from saccade.verify.subject import Clock, Key, Run, Subject, View, find_axes, find_clocks, in_time, outputs, same, say

SHORT = 4  # sequences up to this long are cut in every possible way


def _in_time(s: Subject) -> View | None:
    return next((view for view in s.views if view.steps > 1), None)


def _observe(s: Subject, view: View, every: bool = False) -> tuple[Run, dict[Key, Clock]]:
    """A run, and which of its outputs show time."""
    run = s.run(view.x, every)
    return run, find_clocks(run, view, find_axes(s.run(view.take(0), every), run, view.samples))


def _later_changed(x: Tensor, time: int, t: int, batch: int) -> Tensor:
    """``x`` with other values from step ``t`` on: those of the next sample, mirrored, so that their range stays."""
    early, late = x.split([t, x.shape[time] - t], time)
    other = late.roll(1, batch).flip(-1)
    return torch.cat([early, other + 1 if torch.equal(other, late) else other], time)


def causal(s: Subject) -> Check:
    """Changing later steps of the input leaves earlier outputs as they were."""
    name = "causal"
    modules = dict(s.model.named_modules())
    for path, module in modules.items():
        if getattr(module, "causal", True) is False:
            detail = f"{type(module).__name__} is declared not causal: it looks at the whole sequence"
            return Check(name, "SKIP", detail, say(path))
    view = _in_time(s)
    if view is None:
        return Check(name, "SKIP", "the input has no time axis, or a single step")
    view = View(view.name, view.take(0, 1), view.batch, view.time)  # two samples will do, as every module is looked at
    base, clocks = _observe(s, view, every=True)
    shown = [key for key in clocks if key[0] == "" or key[0] in s.levels]
    if not shown:
        return Check(name, "SKIP", "neither the output nor a known spiking layer has a time axis")
    T = view.steps
    cuts = sorted({1, T // 2, T - 1})
    for t in cuts:
        changed = s.run(_later_changed(view.x, view.time or 0, t, view.batch), every=True)
        path = _past_differs(s, base, changed, clocks, T, t)
        if path is None:
            continue
        declared = s.takes_steps or any(getattr(module, "causal", False) for module in modules.values())
        detail = f"a change from step {t} on shows in the output of earlier steps"
        hint = "" if declared else " (nothing declares it causal, so this is no failure, but it cannot be streamed)"
        return Check(name, "FAIL" if declared else "WARN", detail + hint, say(path))
    where = "output" if any(key[0] == "" for key in shown) else f"{len({key[0] for key in shown})} spiking layers"
    return Check(name, "PASS", f"steps before t of the {where} ignore a change from t on; t = {_list(cuts)} of {T}")


def _past_differs(s: Subject, a: Run, b: Run, clocks: dict[Key, Clock], T: int, t: int) -> str | None:
    for key, clock in clocks.items():
        before, after = in_time(a, key, clock, T), in_time(b, key, clock, T)
        if len(before) != len(after) or not any(s.same(key, x[:t], y[:t]) for x, y in zip(before, after, strict=True)):
            return key[0]
    return None


def layers_keep_time(s: Subject) -> Check:
    """Every ``Temporal`` of the model, on the input it gets there: causal where it says so, and whole = chunks by step()."""
    name = "layers in time"
    model, view = s.ready(), _in_time(s)
    temporal = {path: module for path, module in model.named_modules() if isinstance(module, Temporal)}
    if not temporal or view is None:
        return Check(name, "SKIP", "no saccade Temporal module in it" if not temporal else "a single step")
    tested: dict[str, str] = {}  # path -> what is wrong, or ""

    def hook(path: str) -> Callable[..., None]:
        def check(module: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
            assert isinstance(module, Temporal)
            x = args[0]
            if path not in tested and module.causal and module.fixed_T is None and x.dim() > 1 and x.shape[0] > 1:
                tested[path] = _layer_fault(module, x, y, path in s.levels)

        return check

    handles = [module.register_forward_hook(hook(path)) for path, module in temporal.items()]
    try:
        with torch.no_grad():
            s.call(model, view.x)
    finally:
        for handle in handles:
            handle.remove()
    for path, fault in tested.items():
        if fault:
            return Check(name, "FAIL", fault, say(path))
    if not tested:
        return Check(name, "SKIP", "no module that declares itself causal saw more than one step")
    rest = (
        f"; {len(temporal) - len(tested)} not causal, of fixed T or without steps"
        if len(temporal) > len(tested)
        else ""
    )
    return Check(name, "PASS", f"{len(tested)} modules are causal and give chunk by chunk what they give whole{rest}")


def _layer_fault(module: Temporal, x: Tensor, y: Tensor, exact: bool) -> str:
    t = x.shape[0] // 2
    if not same(module.step(_later_changed(x, 0, t, 1), None)[0][:t], y[:t], exact):
        return "declared causal, but a change of later steps shows in earlier ones"
    state, parts = None, []
    for chunk in x.split([t, 1, x.shape[0] - t - 1]) if x.shape[0] > 2 else x.split(1):
        part, state = module.step(chunk, state)
        parts.append(part)
    if not same(torch.cat(parts), y, exact):
        return (
            "step() in chunks gives other values than forward() on the whole: the state is not handed on as it should"
        )
    return ""


def whole_as_chunks(s: Subject) -> Check:
    """A sequence given in chunks gives what it gives whole: through ``Stream``, or by calls without a reset between."""
    name = "whole = chunks"
    view = _in_time(s)
    if view is None:
        return Check(name, "SKIP", "the input has no time axis, or a single step")
    ours = any(isinstance(module, Temporal) for module in s.model.modules())
    reason = _not_streamed(s, view, ours)
    if reason:
        return Check(name, "SKIP", reason)
    if not any(key[0] == "" for key in _observe(s, view)[1]):
        return Check(name, "SKIP", "the output has no time axis")
    splits = list(_splits(view.steps))
    for split in splits:
        if _chunks_differ(s, view, split, every=False) is None:
            continue
        path = _chunks_differ(s, view, split, every=True) or ""
        return Check(name, "FAIL", f"in chunks of {_list(split)} steps the output differs", say(path))
    how = "Stream" if ours else "calls without a reset between"
    return Check(name, "PASS", f"{len(splits)} ways to cut {view.steps} steps, through {how}")


def _not_streamed(s: Subject, view: View, ours: bool) -> str:
    """Why a model has no streaming form, or ""."""
    if ours:
        try:
            Stream(s.model)
        except ValueError as error:
            return str(error)
        return ""
    if any(getattr(module, "causal", True) is False for module in s.model.modules()):
        return "a module is declared not causal"
    if s.reset is None:
        return "no state to keep: neither a saccade Temporal module in it nor a reset given"
    if view.time != 0:
        return "only tried where time is the first axis"
    model = s.copy()
    s.at_rest(model)
    runs = [s.run(view.x, on=model)["", 0, 0] for _ in range(2)]
    return "a call keeps nothing for the next, so it has no streaming form" if torch.equal(*runs) else ""


def _splits(T: int) -> Iterator[list[int]]:
    """Ways to cut T steps: all of them up to ``SHORT``, else steps of 1, 2, 3, and one step off either end."""
    if T <= SHORT:
        for cuts in range(1, 2 ** (T - 1)):
            edges = [0, *(t for t in range(1, T) if cuts >> (t - 1) & 1), T]
            yield [b - a for a, b in itertools.pairwise(edges)]
        return
    for size in (1, 2, 3):
        yield [size] * (T // size) + ([T % size] if T % size else [])
    yield from ([1, T - 1], [T - 1, 1])


def _chunks_differ(s: Subject, view: View, split: list[int], every: bool) -> str | None:
    """The first module whose outputs over the chunks, put together, are not those over the whole."""
    whole, clocks = _observe(s, view, every)
    model = s.ready()
    stream = Stream(model) if any(isinstance(module, Temporal) for module in model.modules()) else None
    runs: list[Run] = []
    for chunk in view.x.split(split, view.time or 0):
        with torch.no_grad(), outputs(model, None if every else set(s.levels)) as run:
            if stream is None:
                s.call(model, chunk)
            else:
                stream(chunk)
        runs.append(run)
    for key, clock in clocks.items():
        parts = [in_time(run, key, clock, steps) for run, steps in zip(runs, split, strict=True)]
        y = in_time(whole, key, clock, view.steps)
        if len({len(part) for part in parts} | {len(y)}) > 1 or not any(
            s.same(key, torch.cat([part[i] for part in parts]), y[i]) for i in range(len(y))
        ):
            return key[0]
    return None


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
