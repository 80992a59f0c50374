"""The checks on time: causality, and the whole sequence against its chunks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from saccade.neurons import Stream, Temporal
from saccade.verify.result import Check
from saccade.verify.subject import (
    Clock,
    Inputs,
    Key,
    Run,
    Subject,
    View,
    find_axes,
    find_clocks,
    in_time,
    outputs,
    same,
    say,
)

SHORT = 3  # sequences up to this long are cut in every possible way


def _in_time(s: Subject) -> View | None:
    return next((view for view in s.views if view.steps > 1), None)


def _observe(s: Subject, view: View) -> tuple[Run, dict[Key, Clock]]:
    """The run on a view, and which of its outputs show time."""
    run = s.whole(view)
    return run, find_clocks(run, view, find_axes(s.alone(view), run, view.samples))


def _observe_every(s: Subject, view: View) -> tuple[Run, dict[Key, Clock]]:
    """The same of every module."""
    run = s.run(view.inputs, every=True)
    return run, find_clocks(run, view, find_axes(s.run(view.take(0), every=True), run, view.samples))


def _later_changed(x: Tensor, time: int | None, t: int, batch: int) -> Tensor:
    """``x`` with other values from step ``t`` on: those of the next sample, mirrored, so that their range stays."""
    if time is None:
        return x
    early, late = x.split([t, x.shape[time] - t], time)
    other = late.roll(1, batch).flip(-1)
    if torch.equal(other, late) and x.is_floating_point():
        other = other + 1
    return torch.cat([early, other], time)


def _declares_causal(module: nn.Module) -> bool | None:
    """Whether a module says that it is causal; None if it says nothing. What says so is its class, as ``Temporal`` does: others
    have attributes of that name which mean something else."""
    return bool(module.causal) if isinstance(getattr(type(module), "causal", None), bool) else None


def _not_causal(s: Subject) -> tuple[str, str] | None:
    """The first module that says that it is not causal: its path and class."""
    for path, module in s.model.named_modules():
        if _declares_causal(module) is False:
            return path, type(module).__name__
    return None


def causal(s: Subject) -> Check:
    """Changing later steps of the input leaves earlier outputs as they were."""
    name = "causal"
    declared_not = _not_causal(s)
    if declared_not is not None:
        detail = f"{declared_not[1]} is declared not causal: it looks at the whole sequence"
        return Check(name, "SKIP", detail, say(declared_not[0]))
    view = _in_time(s)
    if view is None:
        return Check(name, "SKIP", "the input has no time axis, or a single step")
    view = view.holding(view.take(0, 1))  # two samples will do, as every module is looked at
    base, clocks = _observe_every(s, view)
    shown = [key for key in clocks if key[0] == "" or key[0] in s.levels]
    if not shown:
        return Check(name, "SKIP", "neither the output nor a known spiking layer has a time axis")
    T = view.steps
    cuts = sorted({1, T // 2, T - 1})
    for t in cuts:
        inputs = view.each(lambda x, batch, time, t=t: _later_changed(x, time, t, batch))  # type: ignore[misc]
        changed = s.run(inputs, every=True)
        path = _past_differs(s, base, changed, clocks, T, t)
        if path is None:
            continue
        declared = s.takes_steps or any(map(_declares_causal, s.model.modules()))
        s.looks_ahead = say(path)
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
    called: set[str] = set()
    tested: dict[str, str] = {}  # path -> what is wrong, or ""

    def hook(path: str) -> Callable[..., None]:
        def check(module: nn.Module, args: tuple[Any, ...], y: Tensor) -> None:
            assert isinstance(module, Temporal)
            x = args[0]
            if path in called and not s.twice:
                s.twice = say(path)
            called.add(path)
            if path not in tested and module.causal and module.fixed_T is None and x.dim() > 1 and x.shape[0] > 1:
                tested[path] = _layer_fault(module, x.clone(), y.clone(), path in s.levels)

        return check

    handles = [module.register_forward_hook(hook(path)) for path, module in temporal.items()]
    try:
        with torch.no_grad():
            s.call(model, view.inputs)
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
    splits = [list(split) for split in dict.fromkeys(map(tuple, _splits(view.steps)))]
    reason, layer = _not_streamed(s, view, ours, sorted({size for split in splits for size in split}))
    if reason:
        return Check(name, "SKIP", reason, layer)
    if not any(key[0] == "" for key in _observe(s, view)[1]):
        return Check(name, "SKIP", "the output has no time axis")
    for split in splits:
        if _chunks_differ(s, view, split, every=False) is None:
            continue
        path = _chunks_differ(s, view, split, every=True) or ""
        return Check(name, "FAIL", f"in chunks of {_list(split)} steps the output differs", say(path))
    how = "Stream" if ours else "calls without a reset between"
    return Check(name, "PASS", f"{len(splits)} ways to cut {view.steps} steps, through {how}")


def _not_streamed(s: Subject, view: View, ours: bool, sizes: list[int]) -> tuple[str, str]:
    """Why a model has no streaming form, and which module is why; or ""."""
    if ours:
        try:
            Stream(s.model)
        except ValueError as error:
            return str(error), ""
        if s.twice:
            what = "is called twice in one forward pass, so a stream cannot tell whose state to keep"
            return f"{s.twice} {what}; a module for each place can be streamed", s.twice
        if len(view.inputs) > 1:
            return "a stream takes one input", ""
    if s.looks_ahead and not s.leaky:
        reason = f"not causal (see there): {s.looks_ahead} needs later steps, so it cannot be given them later"
        return reason, s.looks_ahead
    if ours:
        return "", ""
    if s.reset is None:
        return "no state to keep: neither a saccade Temporal module in it nor a reset given", ""
    if any(time is None for _, time in view.axes):
        return "an input without a time axis cannot be given in chunks", ""
    for size in sizes:
        refused, problem = _refused(s, view.each(lambda x, _, time, n=size: x.narrow(time or 0, 0, n)))  # type: ignore[misc]
        if problem:
            why = f"it needs all its {view.steps} steps: given {size} from rest, it raises {problem}"
            return why, say(refused)
    model = s.copy()
    s.at_rest(model)
    runs = [s.run(view.inputs, on=model)["", 0, 0] for _ in range(2)]
    keeps = "a call keeps nothing for the next, so it has no streaming form"
    return (keeps if torch.equal(*runs) else ""), ""


def _refused(s: Subject, inputs: Inputs) -> tuple[str, str]:
    """The innermost module that raises on an input given from rest, and its error; or "" twice."""
    model, running, where = s.copy(), [], [""]
    s.at_rest(model)
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, path=path: running.append(path)))
        handles.append(module.register_forward_hook(lambda *_: where.__setitem__(0, running.pop())))
    try:
        with torch.no_grad():
            s.call(model, inputs)
    except Exception as error:
        return (running[-1] if running else ""), f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    finally:
        for handle in handles:
            handle.remove()
    return "", ""


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
    whole, clocks = _observe_every(s, view) if every else _observe(s, view)
    model = s.ready()
    stream = Stream(model) if any(isinstance(module, Temporal) for module in model.modules()) else None
    runs: list[Run] = []
    cut = [x.split(split, time or 0) for x, (_, time) in zip(view.inputs, view.axes, strict=True)]
    for chunk in zip(*cut, strict=True):
        with torch.no_grad(), outputs(model, None if every else set(s.levels)) as run:
            if stream is None:
                s.call(model, chunk)
            else:
                stream(chunk[0].clone())
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
