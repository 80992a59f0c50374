"""The check on gradients: eval mode gives those of train mode with frozen statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from saccade.verify.result import Check
from saccade.verify.spikes import some
from saccade.verify.subject import ROOT, Inputs, Run, Subject, View, outputs, say

INPUT = "(input)"


@dataclass
class _Pass:
    """Gradients of one backward pass: of the input and parameters by name, and at the modules' inputs and outputs."""

    named: dict[str, Tensor | None]
    calls: list[tuple[str, bool, bool]]  # path; whether the first tensor argument and the first output take gradients
    at: dict[tuple[int, str], Tensor] = field(
        default_factory=dict
    )  # which call, "given" or "gave" -> the gradient there
    run: Run = field(default_factory=Run)  # what the model and its spiking modules gave


def gradients(s: Subject) -> Check:
    """Gradients of the input and every parameter: equal in both modes, finite, and there."""
    name = "gradients in eval"
    reached: set[str] = set()
    names: list[str] = []
    for view in s.views:
        if view is not s.views[0]:  # the same model on another kind of input: what it computes is enough
            if s.difference(s.whole(view), s.run(view.inputs, on=_ready(s, True))) is not None:
                return _another_output(s, view)
            continue
        view = view.holding(view.take(0, 1))  # a graph takes memory
        eval_pass, train_pass = _backward(s, view, train=False), _backward(s, view, train=True)
        if s.difference(eval_pass.run, train_pass.run) is not None:
            return _another_output(s, view)
        evaluated, trained = eval_pass.named, train_pass.named
        names = list(evaluated)
        for key, mine in evaluated.items():
            other = trained[key]
            if any(gradient is not None and not torch.isfinite(gradient).all() for gradient in (mine, other)):
                return Check(name, "FAIL", f"{view.name}: the gradient of {key} is not finite", _owner(key))
            if (mine is None) != (other is None) or (mine is not None and other is not None and not _near(mine, other)):
                what = "is missing" if mine is None or not mine.any() else "differs"
                detail = (
                    f"{view.name}: the gradient of {key} {what} in eval mode, against train mode with frozen statistics"
                )
                path = _culprit(_backward(s, view, False, every=True), _backward(s, view, True, every=True))
                return Check(name, "FAIL", detail, _owner(key) if path is None else say(path))
            if mine is not None and mine.any():
                reached.add(key)
    inputs = {key for key in names if key.startswith(INPUT)}
    if not names:
        return Check(name, "SKIP", "neither parameters nor an input that could take a gradient")
    if not reached:
        path = _cut(_backward(s, view, False, every=True))
        where = "" if path is None else f"; {say(path)} cuts it: what it gives has no gradient"
        return Check(name, "FAIL", "no gradient reaches the input or any parameter" + where, say(path or ""))
    detail = "those of train mode with frozen statistics, finite"
    missing = [key for key in names if key not in reached and key not in inputs]
    if missing:
        detail += f"; {len(missing)} of {len(names) - len(inputs)} parameters get none: {some(missing)}"
    if inputs and not inputs & reached:
        path = _cut(_backward(s, view, False, every=True))
        where = "" if path is None else f" (cut in {say(path)})"
        return Check(name, "WARN", detail + f"; none reaches the input{where}", "" if path is None else say(path))
    return Check(name, "PASS", detail)


def _another_output(s: Subject, view: View) -> Check:
    fault = s.difference(*(s.run(view.inputs, True, on=_ready(s, train)) for train in (False, True))) or ("",)
    detail = f"{view.name}: train mode with frozen statistics gives another output than eval mode"
    return Check("gradients in eval", "FAIL", detail, say(fault[0]))


def frozen_train(model: nn.Module) -> None:
    """Train mode, but statistics frozen and dropout off, so that it should compute what eval mode does."""
    model.train()
    for module in model.modules():
        if hasattr(module, "running_mean") or "drop" in type(module).__name__.lower():
            module.eval()


def _near(a: Tensor, b: Tensor) -> bool:
    """Relative to the largest gradient: a parameter whose gradients are all tiny is compared as strictly as any."""
    return bool((a - b).abs().max() <= 1e-8 * float(b.abs().max())) if a.numel() else True


def _ready(s: Subject, train: bool) -> nn.Module:
    model = s.copy()
    if train:
        frozen_train(model)
    s.at_rest(model)
    torch.manual_seed(0)
    return model


def _backward(s: Subject, view: View, train: bool, every: bool = False) -> _Pass:
    """One backward pass of a weighted sum of the outputs, in a fresh copy; ``every``: with the gradients between modules."""
    model = _ready(s, train)
    inputs = tuple(x.clone().requires_grad_(x.is_floating_point()) for x in view.inputs)
    found = _Pass({}, [])

    def watch(tensor: Tensor | None, place: tuple[int, str]) -> bool:
        if tensor is None or not tensor.requires_grad:
            return False
        tensor.register_hook(lambda gradient: found.at.__setitem__(place, gradient))
        return True

    waiting: list[
        tuple[bool, int]
    ] = []  # of the calls under way: whether they were given a gradient to pass on; their place

    def before(module: nn.Module, args: object) -> None:
        given = next((y for y in tree_leaves(args) if isinstance(y, Tensor)), None)
        place = len(found.calls)
        found.calls.append(("", False, False))
        waiting.append((watch(given, (place, "given")), place))

    def after(path: str) -> Callable[..., None]:
        def remember(_: nn.Module, args: object, result: object) -> None:
            takes, place = waiting.pop()
            gave = next((y for y in tree_leaves(result) if isinstance(y, Tensor)), None)
            found.calls[place] = (path, takes, watch(gave, (place, "gave")))
            order.append(place)

        return remember

    order: list[int] = []
    handles = []
    if every:
        for path, module in model.named_modules():
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after(path))]
    with torch.enable_grad(), outputs(model, set(s.levels)) as found.run:
        results = [y for y in tree_leaves(s.call(model, inputs)) if isinstance(y, Tensor) and y.requires_grad]
        live = {_name(i, inputs): x for i, x in enumerate(inputs) if x.requires_grad}
        wanted = live | {key: p for key, p in model.named_parameters() if p.requires_grad}
        if results and wanted:
            generator = torch.Generator().manual_seed(0)
            weights = [torch.rand(y.shape, generator=generator, dtype=torch.float64).to(y) + 0.5 for y in results]
            loss = sum(((y * w).sum() for y, w in zip(results, weights, strict=True)), torch.zeros(()).to(results[0]))
            gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
            found.named = dict(zip(wanted, gradients, strict=True))
        else:
            found.named = dict.fromkeys(wanted)
    for handle in handles:
        handle.remove()
    renamed = {place: i for i, place in enumerate(order)}
    found.calls = [found.calls[place] for place in order]  # in the order in which they finished
    found.at = {(renamed[place], what): g for (place, what), g in found.at.items() if place in renamed}
    return found


def _name(i: int, inputs: Inputs) -> str:
    return INPUT if len(inputs) == 1 else f"{INPUT} {i}"


def _culprit(evaluated: _Pass, trained: _Pass) -> str | None:
    """The module nearest the output that passes on another gradient than in train mode although it received the same.

    Modules may call others in one mode than in the other: calls are matched by path and how often it was called.
    """
    ours, theirs = _numbered(evaluated), _numbered(trained)
    both = [(key, i, theirs[key]) for key, i in ours.items() if key in theirs]

    def equal(i: int, j: int, which: str) -> bool:
        a, b = evaluated.at.get((i, which)), trained.at.get((j, which))
        return (a is None) == (b is None) and (a is None or b is None or _near(a, b))

    for (path, _), i, j in both:
        if evaluated.calls[i][1] and trained.calls[j][2] and not evaluated.calls[i][2]:
            return path  # cut here: what lies behind has no gradient to compare
    guilty = [path for (path, _), i, j in both if path and equal(i, j, "gave") and not equal(i, j, "given")]
    inner = [path for path in guilty if not any(other.startswith(path + ".") for other in guilty)]
    return inner[-1] if inner else None


def _numbered(found: _Pass) -> dict[tuple[str, int], int]:
    """The calls by path and number of the call of that path."""
    seen: dict[str, int] = {}
    numbered = {}
    for i, (path, _, _) in enumerate(found.calls):
        nth = seen[path] = seen.get(path, -1) + 1
        numbered[path, nth] = i
    return numbered


def _cut(found: _Pass) -> str | None:
    """The module nearest the input that is given a gradient to pass on and gives a result without one, or None."""
    for path, takes, gives in found.calls:
        if takes and not gives:
            return path
    lost = []
    for i, (path, takes, _) in enumerate(found.calls):
        received, passed = found.at.get((i, "gave")), found.at.get((i, "given"))
        if path and takes and received is not None and received.any() and (passed is None or not passed.any()):
            lost.append(path)
    inner = [path for path in lost if not any(other.startswith(path + ".") for other in lost)]
    return inner[-1] if inner else None


def _owner(key: str) -> str:
    return say(key.rpartition(".")[0]) if not key.startswith(INPUT) else ROOT
