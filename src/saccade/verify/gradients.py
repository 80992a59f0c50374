"""The check on gradients: eval mode gives those of train mode with frozen statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from saccade.verify.result import Check
from saccade.verify.spikes import some
from saccade.verify.subject import ROOT, Subject, View, say

INPUT = "(input)"


@dataclass
class _Pass:
    """Gradients of one backward pass: of the input and parameters by name, and at the modules' inputs and outputs."""

    named: dict[str, Tensor | None]
    calls: list[tuple[str, Tensor | None, Tensor]]  # path, first tensor argument, first output; in order of completion
    at: dict[int, Tensor] = field(default_factory=dict)  # id of a tensor of ``calls`` -> its gradient


def gradients(s: Subject) -> Check:
    """Gradients of the input and every parameter: equal in both modes, finite, and there."""
    name = "gradients in eval"
    reached: set[str] = set()
    names: list[str] = []
    for view in s.views:
        fault = _forward_differs(s, view)
        if fault is not None:
            detail = f"{view.name}: train mode with frozen statistics gives another output than eval mode"
            return Check(name, "FAIL", detail, say(fault))
        view = View(view.name, view.take(0, 1), view.batch, view.time)  # a graph takes memory
        evaluated, trained = _backward(s, view, train=False).named, _backward(s, view, train=True).named
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
    if not reached:
        return Check(name, "FAIL", "no gradient reaches the input or any parameter", ROOT)
    detail = "those of train mode with frozen statistics, finite"
    missing = [key for key in names if key not in reached and key != INPUT]
    if missing:
        detail += f"; {len(missing)} of {len(names) - 1} parameters get none: {some(missing)}"
    if INPUT not in reached:
        return Check(name, "WARN", detail + "; none reaches the input")
    return Check(name, "PASS", detail)


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


def _forward_differs(s: Subject, view: View) -> str | None:
    """The first module whose output differs between the modes, or None."""
    for every in (False, True):  # all modules are looked at only where there is something to find
        key = s.difference(*(s.run(view.x, every, on=_ready(s, train)) for train in (False, True)))
        if key is None or every:
            break
    return None if key is None else key[0]


def _backward(s: Subject, view: View, train: bool, every: bool = False) -> _Pass:
    """One backward pass of a weighted sum of the outputs, in a fresh copy; ``every``: with the gradients between modules."""
    model = _ready(s, train)
    x = view.x.clone().requires_grad_()
    found = _Pass({}, [])

    def watch(tensor: Tensor) -> None:
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: found.at.__setitem__(id(tensor), gradient))

    def hook(path: str) -> Callable[..., None]:
        def remember(_: nn.Module, args: object, result: object) -> None:
            given = next((y for y in tree_leaves(args) if isinstance(y, Tensor)), None)
            gave = next((y for y in tree_leaves(result) if isinstance(y, Tensor)), None)
            if gave is not None:
                found.calls.append((path, given, gave))
                watch(gave)
                if given is not None:
                    watch(given)

        return remember

    handles = [module.register_forward_hook(hook(path)) for path, module in model.named_modules() if every]
    with torch.enable_grad():
        results = [y for y in tree_leaves(s.call(model, x)) if isinstance(y, Tensor) and y.requires_grad]
        wanted = {INPUT: x, **{key: p for key, p in model.named_parameters() if p.requires_grad}}
        if results:
            generator = torch.Generator().manual_seed(0)
            weights = [torch.rand(y.shape, generator=generator, dtype=torch.float64).to(y) + 0.5 for y in results]
            loss = sum(((y * w).sum() for y, w in zip(results, weights, strict=True)), torch.zeros(()).to(x))
            gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
            found.named = dict(zip(wanted, gradients, strict=True))
        else:
            found.named = dict.fromkeys(wanted)
    for handle in handles:
        handle.remove()
    return found


def _culprit(evaluated: _Pass, trained: _Pass) -> str | None:
    """The module nearest the output that passes on another gradient than in train mode although it received the same."""

    def equal(i: int, which: int) -> bool:
        a = evaluated.at.get(id(evaluated.calls[i][which]))
        b = trained.at.get(id(trained.calls[i][which]))
        return (a is None) == (b is None) and (a is None or b is None or _near(a, b))

    if [call[0] for call in evaluated.calls] != [call[0] for call in trained.calls]:
        return None
    for (path, given, gave), (_, _, other) in zip(evaluated.calls, trained.calls, strict=True):
        if given is not None and given.requires_grad and other.requires_grad and not gave.requires_grad:
            return path  # cut here: what lies behind has no gradient to compare
    guilty = [c[0] for i, c in enumerate(evaluated.calls) if c[0] and equal(i, 2) and not equal(i, 1)]
    inner = [path for path in guilty if not any(other.startswith(path + ".") for other in guilty)]
    return inner[-1] if inner else None


def _owner(key: str) -> str:
    return say(key.rpartition(".")[0]) if key != INPUT else ROOT
