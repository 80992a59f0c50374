"""``verify``: every check on one model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from saccade.graph import is_neuron
from saccade.layers import ResidualBlock
from saccade.verify import checks, gradients, spikes, timing
from saccade.verify.result import Check, Verification
from saccade.verify.subject import ROOT, Subject, View
from saccade.verify.waking import neurons_of

TIME_AXES = ("first", "second", "none")
BINARY = (0.0, 1.0)


def verify(
    model: nn.Module,
    x: Tensor,
    *,
    time_axis: str | None = None,
    reset: Callable[[nn.Module], object] | None = None,
    spiking: Sequence[str] | Mapping[str, Sequence[float]] = (),
    strict: bool = False,
    name: str = "",
) -> Verification:
    """Check that ``model`` is the function of its input that it claims to be, in float64 and eval mode, on a copy of it.

    x: at least two different samples. For a model of ours ``[T, N, C, H, W]`` or ``[N, C, H, W]``; both are exercised.
    time_axis: of a foreign model's input: "first" (``[T, N, ...]``), "second" (``[N, T, ...]``) or "none" (``[N, ...]``).
    reset: called with the model before each call, for models that keep state between calls.
    spiking: a foreign model's layers of neurons, by class (or base class) name or module path; a mapping gives the values
        each may emit, {0, 1} otherwise. Modules with ``levels`` and residual blocks whose connection is binary are known
        already.
    strict: a layer that never fires is a failure, not a warning.

    Raises ValueError, in one line, for input or options that do not fit; a model that misbehaves gives a failed check.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected a torch.nn.Module, got {type(model).__name__}")
    ours = gives_steps(model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            own = copy.deepcopy(model).double().eval()
        except RuntimeError as error:  # non-leaf tensors, kept from an earlier call
            raise ValueError(f"the model cannot be copied; reset it first ({_line(error)})") from None
        levels, neurons = declared_levels(own, spiking)
        narrow = _widen(own, neurons)
        views = own_views(own, _as_input(own, x)) if ours else [_foreign_view(_as_input(own, x), time_axis)]
        subject = Subject(own, views, levels, neurons, reset, takes_steps=ours)
        for view in views:
            try:
                run = subject.run(view.x, on=_rested(subject))
            except Exception as error:
                message = f"the model refuses a float64 input {list(view.x.shape)}: {_line(error)}"
                raise ValueError(message) from error
            if ("", 0, 0) not in run:
                raise ValueError("the model returns no tensor")
        found = Verification(name or type(model).__name__, [f"{view.name} {list(view.x.shape)}" for view in views])
        if narrow:
            found.inputs.append(f"output of {', '.join(sorted(narrow))} cast up to float64")
        first = _guarded("calls agree", checks.calls_agree, subject)
        subject.leaky = first.status == "FAIL"  # a fresh copy for every call of the checks that follow
        found.rates = spikes.rates_of(subject)
        found.checks = [
            first,
            _guarded("alone = in a batch", checks.alone_as_in_batch, subject),
            _guarded("causal", timing.causal, subject),
            _guarded("layers in time", timing.layers_keep_time, subject),
            _guarded("whole = chunks", timing.whole_as_chunks, subject),
            _guarded("alphabet", spikes.alphabet, subject),
            _guarded("gradients in eval", gradients.gradients, subject),
            _guarded("activity", lambda s: spikes.activity(s, found.rates, strict), subject),
        ]
    return found


def gives_steps(model: nn.Module) -> bool:
    """Whether a model follows our convention: images or sequences in, ``steps=True`` for an answer a step."""
    return getattr(type(model), "gives_steps", False) is True


def _guarded(name: str, check: Callable[[Subject], Check], subject: Subject) -> Check:
    """The check, with the neuron named rather than a part of it. A model that raises where it ran before has failed."""
    try:
        found = check(subject)
    except Exception as error:
        return Check(name, "FAIL", f"the model raises {type(error).__name__}: {_line(error)}", ROOT)
    neuron = next((path for path in subject.neurons if found.layer.startswith(path + ".")), found.layer)
    return replace(found, layer=neuron)


def _widen(model: nn.Module, neurons: list[str]) -> set[str]:
    """Cast the float32 spikes of neurons that got float64 up again (snnTorch's always are float32; no spike changes).

    Returns the names of the classes that needed it, filled in as the model runs.
    """
    narrow: set[str] = set()

    def cast(module: nn.Module, args: object, result: object) -> object:
        def widen(y: Tensor) -> Tensor:
            if y.dtype != torch.float32:
                return y
            narrow.add(type(module).__name__)
            return y.double()

        return tree_map_only(Tensor, widen, result)

    for path in neurons:
        model.get_submodule(path).register_forward_hook(cast)
    return narrow


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _rested(subject: Subject) -> nn.Module:
    model = subject.copy()
    subject.at_rest(model)
    return model


def _as_input(model: nn.Module, x: Tensor) -> Tensor:
    parameter = next(model.parameters(), None)
    return x.detach().to(parameter.device if parameter is not None else x.device, torch.float64)


def declared_levels(
    model: nn.Module, spiking: Sequence[str] | Mapping[str, Sequence[float]]
) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """The values that modules declare or are said to emit, and which of them are layers of neurons.

    Raises ValueError for a name in ``spiking`` that fits no module.
    """
    levels = {path: tuple(m.levels) for path, m in model.named_modules() if is_neuron(m)}  # type: ignore[arg-type]
    neurons = list(neurons_of(model))
    for path, module in model.named_modules():
        if isinstance(module, ResidualBlock) and module.joins and module.connection.binary and path not in levels:  # type: ignore
            levels[path] = BINARY
    for name in spiking:
        values = tuple(spiking[name]) if isinstance(spiking, Mapping) else BINARY
        fits = [
            path
            for path, module in model.named_modules()
            if path == name or name in (base.__name__ for base in type(module).__mro__)
        ]
        if not fits:
            raise ValueError(f"no module of the model is called or has the class {name!r}")
        levels.update(dict.fromkeys(fits, values))
        neurons += [path for path in fits if path not in neurons]
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


def _foreign_view(x: Tensor, time_axis: str | None) -> View:
    if time_axis not in TIME_AXES:
        raise ValueError(f"time_axis must be one of {', '.join(TIME_AXES)} for this model, got {time_axis!r}")
    batch = 1 if time_axis == "first" else 0
    time = {"first": 0, "second": 1, "none": None}[time_axis]
    if x.dim() < 2 or (time is not None and x.dim() < 3) or x.shape[batch] < 2:
        raise ValueError(f"expected at least two samples on axis {batch} of the input, got {list(x.shape)}")
    return View("sequence" if time is not None else "static", x, batch, time)
