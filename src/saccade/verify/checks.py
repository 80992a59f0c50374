"""The checks on what a model computes. Each takes a ``Subject`` and returns a ``Check`` whose detail says what was done."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.verify.result import Check
from saccade.verify.subject import ROOT, Axis, Key, Run, Subject, View, find_axes, same, say


def calls_agree(s: Subject) -> Check:
    """Two calls on the same input agree bit for bit, are finite, and leave parameters, buffers and the input as they were; and
    within one call, a neuron that is asked twice gives the same twice."""
    name = "calls agree"
    unsound = _not_numbers(s.model)
    if unsound:
        return Check(name, "FAIL", *unsound)
    changed = ""
    for view in s.views:
        first, second, now = s.second_call(view)
        if not all(torch.isfinite(y).all() for y in first.values() if y.is_floating_point()):
            return Check(name, "FAIL", f"{view.name}: the output is not finite", _not_finite(s, view))
        if _bits_differ(first, second) is None:
            twice = asked_twice(s, view, first)
            if twice:
                return Check(name, "FAIL", f"{view.name}: {twice[0]}", say(twice[1]))
            changed = changed or now
            continue
        key = _bits_differ(*_twice(s, s.copy(), view, every=True, seed=0))
        if key is None:
            key = _bits_differ(*_twice(s, s.copy(), view, every=True))
            why = "the second call gave another output: it draws random numbers in eval mode"
        elif s.reset is None:
            why = (
                "the second call gave another output: state stays behind. If the model has a reset, give it "
                "(reset=..., --reset package.module:function); the other checks ran on a fresh copy each call"
            )
        else:
            why = "the second call gave another output although reset was called before: the reset leaves state behind"
        return Check(name, "FAIL", f"{view.name}: {why}", say(key[0]) if key else ROOT)
    if changed:
        detail = f"outputs agree, but a call in eval mode changes {changed}"
        return Check(name, "WARN", detail, say(changed.rpartition(".")[0]))
    if s.wrote:
        detail = (
            "outputs agree, but a call writes into the input that it is given: the caller's data is another afterwards"
        )
        return Check(name, "WARN", detail, ROOT)
    when = "reset before each" if s.reset else "no reset"
    return Check(name, "PASS", f"equal to the bit ({_inputs(s)}; {when})")


def _not_numbers(model: nn.Module) -> tuple[str, str] | None:
    """Parameters that are not finite and buffers that hold NaN (an infinite one may be a mask): what to say, and where."""
    found = []
    for kind, named in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for path, value in named:
            if value.is_floating_point() or value.is_complex():
                nans = int(value.isnan().sum())
                infinite = int(value.isinf().sum()) if kind == "parameter" else 0
                for number, what in ((nans, "NaN"), (infinite, "infinite")):
                    if number:
                        found.append((path, f"{kind} {path} holds {number} {what} of {value.numel()} values"))
    if not found:
        return None
    more = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
    return found[0][1] + more, say(found[0][0].rpartition(".")[0])


def asked_twice(s: Subject, view: View, run: Run) -> tuple[str, str] | None:
    """A neuron that gets the same input twice in one forward pass and gives other spikes the second time: what to say, where.

    Only calls on whole sequences are compared, or, of a model that goes through time itself, calls within one step: a neuron
    that is given the same current at every step rightly gives something else at each.
    """
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for (path, leaf, nth), y in run.items():
        x = run.given.get((path, 0, nth))
        if leaf == 0 and x is not None and path in s.neurons:
            calls.setdefault(path, []).append((x, y))
    repeated = {path: pairs for path, pairs in calls.items() if len(pairs) > 1}
    if not repeated:
        return None
    axes = find_axes(s.alone(view), run, view.samples)
    for path, pairs in repeated.items():
        axis = axes.get((path, 0, 0))
        steps = pairs[0][1].shape[0] if axis is not None and axis.axis == 1 and axis.fold == 1 else 1
        sequence = axis is not None and (steps > 1 or axis.fold > 1)
        if axis is not None and axis == Axis(0, 1) and view.time == 1 and pairs[0][1].dim() > 2:
            sequence = pairs[0][1].shape[1] == view.steps > 1
        if sequence:
            groups = [pairs]
        elif view.steps > 1 and len(pairs) % view.steps == 0 and len(pairs) > view.steps:
            each = len(pairs) // view.steps
            groups = [pairs[i : i + each] for i in range(0, len(pairs), each)]
            if all(same(pairs[0][0], x, True) for x, _ in pairs):
                continue  # the same current throughout: no telling which calls belong to one step
        else:
            continue
        for group in groups:
            for i, (x, y) in enumerate(group):
                for other_x, other_y in group[:i]:
                    if same(x, other_x, True) and not same(y, other_y, True):
                        detail = (
                            "asked twice in one forward pass with the same input, the neuron gives other spikes the second "
                            "time: it starts from the state that the first call left"
                        )
                        return detail, path
    return None


def _twice(s: Subject, model: nn.Module, view: View, every: bool, seed: int | None = None) -> tuple[Run, Run]:
    runs = []
    for _ in range(2):
        if seed is not None:
            torch.manual_seed(seed)
        s.at_rest(model)
        runs.append(s.run(view.inputs, every, on=model))
    return runs[0], runs[1]


def _bits_differ(a: Run, b: Run) -> Key | None:
    return next((key for key in [*a, *b] if key not in a or key not in b or not same(a[key], b[key], True)), None)


def _not_finite(s: Subject, view: View) -> str:
    run = s.run(view.inputs, every=True)
    return next((say(key[0]) for key, y in run.items() if not torch.isfinite(y).all()), ROOT)


def alone_as_in_batch(s: Subject) -> Check:
    """A sample gives the same alone, at any place of the batch, and beside other neighbours."""
    name = "alone = in a batch"
    for view in s.views:
        n = view.samples
        whole = s.whole(view)
        briefly = view is not s.views[0]  # the same model on another kind of input: not everything once more
        ones = [s.alone(view), *(s.run(view.take(i)) for i in range(1, 1 if briefly else n))]
        axes = find_axes(ones[0], whole, n)
        if not any(key[0] == "" for key in axes):
            return Check(name, "SKIP", f"{view.name}: no axis of the output grows with the number of samples")
        backwards = view.take(*range(n - 1, -1, -1))
        others = view.each(_other_neighbours)
        trials = [(f"sample {i} alone", view.take(i), ones[i], [(i, 0)]) for i in range(len(ones))]
        trials.append(("the batch in reverse", backwards, s.run(backwards), [(i, n - 1 - i) for i in range(n)]))
        if not briefly:
            trials.append(("sample 0 beside other samples", others, s.run(others), [(0, 0)]))
        for what, x, run, pairs in trials:
            if _sample_differs(s, whole, run, axes, pairs) is None:
                continue
            all_whole, all_run = s.run(view.inputs, every=True), s.run(x, every=True)
            axes = find_axes(s.run(view.take(0), every=True), all_whole, n)
            key = _sample_differs(s, all_whole, all_run, axes, pairs) or ("", 0, 0)
            detail = f"{view.name}: {what} gives another output than in the batch of {n}{_folded(axes.get(key), view)}"
            return Check(name, "FAIL", detail, say(key[0]))
    detail = f"{n} samples alone, in reverse, beside others ({_inputs(s)}): spikes of {len(s.neurons)} layers exact"
    return Check(name, "PASS", detail + ", the output to 1e-10")


def _other_neighbours(x: Tensor, batch: int, _: int | None) -> Tensor:
    first, rest = x.split([1, x.shape[batch] - 1], batch)
    return torch.cat([first, rest.flip(-1).roll(1, batch)], batch)


def _sample_differs(s: Subject, a: Run, b: Run, axes: dict[Key, Axis], pairs: list[tuple[int, int]]) -> Key | None:
    for key, where in axes.items():
        if key not in b:
            return key
        for i, j in pairs:
            read = zip(where.sample(a[key], i), where.sample(b[key], j), strict=True)
            if not any(s.same(key, x, y) for x, y in read):
                return key
    return None


def _folded(where: Axis | None, view: View) -> str:
    folded = where is not None and view.steps > 1 and where.fold == view.steps
    return "; its output has time folded into the batch" if folded else ""


def _inputs(s: Subject) -> str:
    return " and ".join(view.name for view in s.views)
