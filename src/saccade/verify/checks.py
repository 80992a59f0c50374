"""The checks on what a model computes. Each takes a ``Subject`` and returns a ``Check`` whose detail says what was done."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.verify.result import Check
from saccade.verify.subject import ROOT, Axis, Key, Run, Subject, View, find_axes, same, say


def calls_agree(s: Subject) -> Check:
    """Two calls on the same input agree bit for bit, are finite, and leave parameters and buffers as they were."""
    name = "calls agree"
    for view in s.views:
        model = s.copy()  # the model itself stays as it came, in case this one is left in another state
        first, second = _twice(s, model, view, every=False)
        if not all(torch.isfinite(y).all() for y in first.values() if y.is_floating_point()):
            return Check(name, "FAIL", f"{view.name}: the output is not finite", _not_finite(s, view))
        if _bits_differ(first, second) is None:
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
    changed = _changed_tensor(s)
    if changed:
        detail = f"outputs agree, but a call in eval mode changes {changed}"
        return Check(name, "WARN", detail, say(changed.rpartition(".")[0]))
    when = "reset before each" if s.reset else "no reset"
    return Check(name, "PASS", f"equal to the bit ({_inputs(s)}; {when})")


def _twice(s: Subject, model: nn.Module, view: View, every: bool, seed: int | None = None) -> tuple[Run, Run]:
    runs = []
    for _ in range(2):
        if seed is not None:
            torch.manual_seed(seed)
        s.at_rest(model)
        runs.append(s.run(view.x, every, on=model))
    return runs[0], runs[1]


def _bits_differ(a: Run, b: Run) -> Key | None:
    return next((key for key in [*a, *b] if key not in a or key not in b or not same(a[key], b[key], True)), None)


def _not_finite(s: Subject, view: View) -> str:
    run = s.run(view.x, every=True)
    return next((say(key[0]) for key, y in run.items() if not torch.isfinite(y).all()), ROOT)


def _changed_tensor(s: Subject) -> str:
    """The first parameter or buffer that a call (and a reset, if any) changes, once the model was called before."""
    model, x = s.copy(), s.views[0].x
    for _ in range(2):
        before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        s.run(x, on=model)
        s.at_rest(model)
    after = model.state_dict()
    return next((k for k, v in before.items() if k not in after or not torch.equal(v, after[k])), "")


def alone_as_in_batch(s: Subject) -> Check:
    """A sample gives the same alone, at any place of the batch, and beside other neighbours."""
    name = "alone = in a batch"
    for view in s.views:
        n = view.samples
        whole = s.run(view.x)
        ones = [s.run(view.take(i)) for i in range(n)]
        axes = find_axes(ones[0], whole, n)
        if not any(key[0] == "" for key in axes):
            return Check(name, "SKIP", f"{view.name}: no axis of the output grows with the number of samples")
        backwards = view.take(*range(n - 1, -1, -1))
        others = torch.cat([view.take(0), view.take(*range(1, n)).flip(-1).roll(1, view.batch)], view.batch)
        trials = [(f"sample {i} alone", view.take(i), ones[i], [(i, 0)]) for i in range(n)]
        trials.append(("the batch in reverse", backwards, s.run(backwards), [(i, n - 1 - i) for i in range(n)]))
        trials.append(("sample 0 beside other samples", others, s.run(others), [(0, 0)]))
        for what, x, run, pairs in trials:
            if _sample_differs(s, whole, run, axes, pairs) is None:
                continue
            all_whole, all_run = s.run(view.x, every=True), s.run(x, every=True)
            axes = find_axes(s.run(view.take(0), every=True), all_whole, n)
            key = _sample_differs(s, all_whole, all_run, axes, pairs) or ("", 0, 0)
            detail = f"{view.name}: {what} gives another output than in the batch of {n}{_folded(axes.get(key), view)}"
            return Check(name, "FAIL", detail, say(key[0]))
    detail = f"{n} samples alone, in reverse, beside others ({_inputs(s)}): spikes of {len(s.neurons)} layers exact"
    return Check(name, "PASS", detail + ", the output to 1e-10")


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
