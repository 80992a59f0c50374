"""``verify``: every check on one model."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from saccade.graph import is_neuron, peer_levels, spiking_levels
from saccade.graph.declared import BINARY, as_inputs, axes_of, levels_of_inputs
from saccade.graph.watch import levels_of
from saccade.layers import ResidualBlock
from saccade.verify import checks, gradients, spikes, timing
from saccade.verify.result import Check, Verification
from saccade.verify.subject import ROOT, Subject, View
from saccade.verify.waking import neurons_of, wake
from saccade.verify.widening import Widened

Tell = Callable[[str], None]


def verify(
    model: nn.Module,
    x: Tensor | Sequence[Tensor],
    *,
    time_axis: str | Sequence[str] | None = None,
    reset: Callable[[nn.Module], object] | None = None,
    spiking: Sequence[str] | Mapping[str, Sequence[float]] = (),
    input_levels: Sequence[float] | Sequence[Sequence[float] | None] | None = None,
    strict: bool = False,
    name: str = "",
    tell: Tell | None = None,
) -> Verification:
    """Check that ``model`` is the function of its input that it claims to be, in float64 and eval mode, on a copy of it.

    x: at least two different samples. For a model of ours ``[T, N, C, H, W]`` or ``[N, C, H, W]``; both are exercised. A model
        of several inputs gets a tuple; integers stay integers.
    time_axis: of a foreign model's input: "first" (``[T, N, ...]``), "second" (``[N, T, ...]``) or "none" (``[N, ...]``); one
        for each of several inputs where they differ.
    reset: called with the model before each call, for models that keep state between calls.
    spiking: a foreign model's layers of neurons, by class (or base class) name or module path; a mapping gives the values
        each may emit, {0, 1} otherwise. Modules with ``levels``, residual blocks whose connection is binary and the neurons of
        SpikingJelly, snnTorch, Norse and sinabs are known already.
    input_levels: the values that the input may hold (one list for each of several inputs), which is checked.
    strict: a layer that never fires is a failure, not a warning.
    tell: is told which check begins.

    A network with silent layers is woken (see ``wake``) for the other checks, and reported as it came under "activity".

    Raises ValueError, in one line, for input or options that do not fit; a model that misbehaves gives a failed check.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected a torch.nn.Module, got {type(model).__name__}")
    ours = gives_steps(model)
    tell = tell or _quiet
    with torch.random.fork_rng(), in_float64(), ExitStack() as stack:
        torch.manual_seed(0)
        tell("a copy in float64")
        try:
            own = _doubled(model)
        except RuntimeError as error:  # non-leaf tensors, kept from an earlier call
            raise ValueError(f"the model cannot be copied; reset it first ({_line(error)})") from None
        levels, neurons = declared_levels(own, spiking)
        given = as_inputs(x)
        levels_of_inputs(input_levels, given)
        xs = tuple(_as_input(own, value, ours) for value in given)
        views = own_views(own, xs[0]) if ours else [_foreign_view(xs, time_axis)]
        try:
            subject = _called(Subject(own, views, levels, neurons, reset, takes_steps=ours))
            widened = False
        except ValueError as error:
            if "dtype" not in str(error):
                raise
            stack.enter_context(Widened())  # it says float32 somewhere; this is slower, so only where it has to be
            subject = _called(Subject(own, views, levels, neurons, reset, takes_steps=ours))
            widened = True
        found = Verification(name or type(model).__name__, [f"{view.name} {view.shapes()}" for view in views])
        if widened:
            found.inputs.append("casts to narrower floats inside the model taken as float64")
        if subject.narrow:
            found.inputs.append(f"output of {', '.join(sorted(subject.narrow))} cast up to float64")
        found.rates = spikes.rates_of(subject)
        asleep = spikes.silent(subject, found.rates)
        if asleep:
            tell("waking silent layers")
            subject = _woken(subject, len(asleep))
        woken_rates = spikes.rates_of(subject)
        tell("calls agree")
        first = _guarded("calls agree", checks.calls_agree, subject)
        subject.leaky = first.status == "FAIL"  # a fresh copy for every call of the checks that follow
        if subject.leaky:
            subject.forget()
        found.checks.append(first)
        for title, check in CHECKS.items():
            tell(title)
            found.checks.append(_unless_tie(title, check, subject))
        tell("activity")
        found.checks.append(
            _guarded("activity", lambda s: spikes.activity(s, found.rates, strict, woken_rates), subject)
        )
    return found


CHECKS: dict[str, Callable[[Subject], Check]] = {
    "alone = in a batch": checks.alone_as_in_batch,
    "causal": timing.causal,
    "layers in time": timing.layers_keep_time,
    "whole = chunks": timing.whole_as_chunks,
    "alphabet": spikes.alphabet,
    "gradients in eval": gradients.gradients,
}


def _quiet(_: str) -> None:
    """Progress that nobody looks at."""


def _called(subject: Subject) -> Subject:
    """The subject, after a call with each view. Raises ValueError for a model that refuses one or returns no tensor."""
    for view in subject.views:
        try:
            run = subject.first_call(view)
        except Exception as error:
            raise ValueError(f"the model refuses a float64 input {view.shapes()}: {_line(error)}") from error
        if ("", 0, 0) not in run:
            raise ValueError("the model returns no tensor")
    return subject


@contextmanager
def in_float64() -> Iterator[None]:
    """Inside, what models allocate by themselves is float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _doubled(model: nn.Module) -> nn.Module:
    """A float64 copy in eval mode; tensors that modules keep as plain attributes, in lists too, are converted."""
    own = copy.deepcopy(model).double().eval()
    for module in own.modules():
        for key, value in list(vars(module).items()):
            registered = key in ("_parameters", "_buffers", "_modules")
            if not registered and any(isinstance(leaf, Tensor) for leaf in tree_leaves(value)):
                module.__dict__[key] = tree_map_only(Tensor, _as_double, value)
    return own


def _as_double(x: Tensor) -> Tensor:
    return x.double() if x.dtype == torch.float32 else x


def _woken(subject: Subject, asleep: int) -> Subject:
    """The subject with its silent layers woken as far as that goes; as it was if that does not help."""
    model, view = subject.copy(), subject.views[0]
    try:
        with contextlib.suppress(ValueError):  # a layer that cannot be woken: the ones before it were
            wake(
                model,
                view.inputs,
                spiking={path: subject.levels[path] for path in subject.neurons},
                reset=subject.reset,
            )
        model.eval()
        other = subject.with_model(model)
        fewer = len(spikes.silent(other, spikes.rates_of(other))) < asleep
    except Exception:  # somebody's model, with somebody's numbers in it
        return subject
    return other if fewer else subject


def _unless_tie(title: str, check: Callable[[Subject], Check], subject: Subject) -> Check:
    """The check; a difference that is gone once all weights moved by a millionth was a tie, no fault.

    Where a potential meets the threshold exactly, as it does in nets on a grid, the order of a sum decides whether it fires. A
    leak does not depend on that.
    """
    found = _guarded(title, check, subject)
    if found.status != "FAIL" or title in ("layers in time", "alphabet", "gradients in eval"):
        return found
    dithered = subject.dithered()
    again = _guarded(title, check, dithered)
    if again.status == "FAIL":
        return found
    potential = spikes.at_threshold(subject, found.layer)
    detail = (
        f"a tie: potentials of {found.layer} meet the threshold exactly{potential}, so the order of a sum decides who fires; "
        f"with all weights moved by a millionth nothing differs ({again.detail})"
    )
    return Check(title, "WARN", detail, found.layer)


def gives_steps(model: nn.Module) -> bool:
    """Whether a model follows our convention: images or sequences in, ``steps=True`` for an answer a step."""
    return getattr(type(model), "gives_steps", False) is True


def _guarded(name: str, check: Callable[[Subject], Check], subject: Subject) -> Check:
    """The check, with the neuron named rather than a part of it. A model that raises where it ran before has failed."""
    try:
        found = check(subject)
    except Exception as error:
        return Check(name, "FAIL", f"the model raises {type(error).__name__}: {_line(error)}", ROOT)
    around = [path for path in subject.neurons if found.layer.startswith(path + ".")]
    neuron = found.layer if found.layer in subject.neurons or not around else max(around, key=len)
    return replace(found, layer=neuron)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _as_input(model: nn.Module, x: Tensor, ours: bool) -> Tensor:
    """On the model's device, as float64; but integers of 32 and 64 bits stay what they are, for they may be indices."""
    parameter = next(model.parameters(), None)
    index = x.dtype in (torch.int32, torch.int64) and not ours
    return x.detach().to(parameter.device if parameter is not None else x.device, x.dtype if index else torch.float64)


def declared_levels(
    model: nn.Module, spiking: Sequence[str] | Mapping[str, Sequence[float]]
) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """The values that modules declare or are said to emit, and which of them are layers of neurons.

    Raises ValueError for a name in ``spiking`` that fits no module.
    """
    levels = {path: levels_of(m) for path, m in model.named_modules() if is_neuron(m)}
    neurons = list(neurons_of(model))
    for path, module in model.named_modules():
        if isinstance(module, ResidualBlock) and module.joins and module.connection.binary and path not in levels:  # type: ignore
            levels[path] = BINARY
    named = peer_levels(model) | spiking_levels(model, spiking)
    levels.update(named)
    neurons += [path for path in named if path not in neurons]
    return levels, neurons


def own_views(model: nn.Module, x: Tensor) -> list[View]:
    """A model of ours gets both its kinds of input: the images of ``x``, and a sequence whose frames differ.

    Raises ValueError for another number of axes or fewer than two samples.
    """
    if x.dim() not in (4, 5) or x.shape[-4] < 2:
        raise ValueError(f"expected at least two samples, [N, C, H, W] or [T, N, C, H, W], got {list(x.shape)}")
    T = int(model.T)  # type: ignore[arg-type]
    images = x if x.dim() == 4 else x[0]
    sequence = x if x.dim() == 5 else frames(x, T)
    return [View("sequence", sequence, 1, 0), View("static", images, 0, None)]


def frames(x: Tensor, T: int) -> Tensor:
    """A sequence ``[T, N, ...]`` from images ``[N, ...]``: they take turns, every other round mirrored."""
    n = x.shape[0]
    return torch.stack([(x if t // n % 2 == 0 else x.flip(-1)).roll(t, 0) for t in range(T)])


def _foreign_view(xs: tuple[Tensor, ...], time_axis: str | Sequence[str] | None) -> View:
    axes = axes_of(time_axis, len(xs))
    for x, (batch, time) in zip(xs, axes, strict=True):
        least = 2 if len(xs) == 1 or time is not None else 1
        if x.dim() < least or (time is not None and len(xs) == 1 and x.dim() < 3 and x.is_floating_point()):
            raise ValueError(f"expected at least two samples on axis {batch} of the input, got {list(x.shape)}")
        if x.shape[batch] < 2:
            raise ValueError(f"expected at least two samples on axis {batch} of the input, got {list(x.shape)}")
    for what, sizes in (
        ("samples", {x.shape[batch] for x, (batch, _) in zip(xs, axes, strict=True)}),
        ("steps", {x.shape[time] for x, (_, time) in zip(xs, axes, strict=True) if time is not None}),
    ):
        if len(sizes) > 1:
            raise ValueError(f"the inputs have different numbers of {what}: {', '.join(map(str, sorted(sizes)))}")
    timed = any(time is not None for _, time in axes)
    others = tuple((x, *places) for x, places in zip(xs[1:], axes[1:], strict=True))
    return View("sequence" if timed else "static", xs[0], *axes[0], others)
