"""What ``saccade verify`` can be pointed at: a registered name, a model file, a run directory, anybody's factory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from saccade.files import Opened, open_model
from saccade.files.opening import load_callable
from saccade.files.tensors import in_one_line
from saccade.graph.declared import TIME_AXES
from saccade.layers import batch_norms
from saccade.measure import Profile, profile
from saccade.models import MODELS
from saccade.plugins import working_directory
from saccade.verify.result import Verification
from saccade.verify.suite import frames, gives_steps, verify
from saccade.verify.waking import wake

SAMPLES = 3
MOST_VALUES = 1 << 20  # of an input
QUICK_T = 4  # registered models are built for this many steps unless told otherwise


@dataclass(frozen=True)
class Target:
    """A model with what is said of it: what ``verify``, ``profile`` and ``wake`` need.

    fresh: it has never seen data, and is ours. ours: it follows our convention for inputs.
    """

    name: str
    model: nn.Module
    inputs: tuple[Tensor, ...]
    time_axis: tuple[str, ...]
    reset: Callable[[nn.Module], object] | None
    spiking: dict[str, tuple[float, ...]]
    input_levels: list[tuple[float, ...] | None]
    fresh: bool
    ours: bool


def open_target(
    target: str,
    *,
    shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    input_file: str | Path | Sequence[str | Path] | None = None,
    T: int | None = None,
    time_axis: str | Sequence[str] | None = None,
    reset: str | Callable[[nn.Module], object] | None = None,
    spiking: Sequence[str] = (),
    values: str | Sequence[str] = (),
) -> Target:
    """Build what ``target`` names and the input to call it with; see ``verify_target`` for the arguments.

    To be called where the working directory is on the path. Raises ValueError, in one line, for whatever cannot be found,
    imported or built.
    """
    opened = open_model(target, QUICK_T if T is None and target in MODELS else T)
    model, own_shape = opened.model, opened.input_shape
    ours = gives_steps(model)
    files = [Path(f) for f in ([input_file] if isinstance(input_file, str | Path) else input_file or ())]
    shapes = _shapes(shape) or ([own_shape] if own_shape is not None else [])
    alphabets = [_alphabet(text) for text in ([values] if isinstance(values, str) else values)]
    count = len(files) or len(shapes) or len(alphabets)
    if not count or (not files and not shapes):
        raise ValueError(f"{target}: which input? give the shape of one sample, or a .npy file with a batch")
    words = [time_axis] if isinstance(time_axis, str) else list(time_axis or ())
    words = words or ["first" if T is not None else "none"]
    words = words * count if len(words) == 1 else words
    if len(words) != count:
        raise ValueError(f"{len(words)} time axes for {count} inputs")
    for word in words:
        if word not in TIME_AXES:
            raise ValueError(f"the time axis must be one of {', '.join(TIME_AXES)}, got {word!r}")
    if len(alphabets) > count:
        raise ValueError(f"values of {len(alphabets)} inputs, but there are {count}")
    alphabets += [(None, False)] * (count - len(alphabets))
    xs = []
    for i, (word, (levels, integers)) in enumerate(zip(words, alphabets, strict=True)):
        if files:
            xs.append(_read(files[i], integers))
        else:
            xs.append(_random(shapes[i], None if ours or word == "none" else T or QUICK_T, word, levels, integers, i))
    if ours:
        if count > 1:
            raise ValueError(f"{target} takes one input, got {count}")
        if xs[0].dim() == 4:
            xs = [frames(xs[0], int(model.T))]  # type: ignore[arg-type]
    back = load_callable(reset) if isinstance(reset, str) else reset
    named = dict(_spiking(entry) for entry in spiking)
    alphabets_only = [levels for levels, _ in alphabets]
    fresh = _never_trained(opened)
    return Target(target, model, tuple(xs), tuple(words), back, named, alphabets_only, fresh, ours)


def verify_target(
    target: str,
    *,
    shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    input_file: str | Path | Sequence[str | Path] | None = None,
    T: int | None = None,
    time_axis: str | Sequence[str] | None = None,
    reset: str | Callable[[nn.Module], object] | None = None,
    spiking: Sequence[str] = (),
    values: str | Sequence[str] = (),
    strict: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Verification:
    """Build what ``target`` names and ``verify`` it.

    target: a registered model (built fresh and woken), a model file or run directory (woken only if it never saw data), or
        ``package.module:factory``, imported with the working directory on the path and called without arguments.
    shape: of one sample, without time (one for each of several inputs); default: the model's own. input_file: a .npy batch, or
        several, instead of random input.
    T: steps of the sequences; a foreign model has time first if T is given, unless ``time_axis`` says otherwise.
    reset: a callable, or its name as ``package.module:function``. spiking: as for ``verify``; ``NAME=-1,0,1`` gives values.
    values: what each input may hold: ``0,1``, ``0..15``, or ``tokens:1000`` for integers below 1000. tell: as for ``verify``.

    Raises ValueError, in one line, for whatever cannot be found, imported, built or fed.
    """
    with torch.random.fork_rng(), working_directory():
        torch.manual_seed(0)
        t = open_target(
            target,
            shape=shape,
            input_file=input_file,
            T=T,
            time_axis=time_axis,
            reset=reset,
            spiking=spiking,
            values=values,
        )
        if t.fresh:
            try:
                with torch.no_grad():
                    t.model.eval()(*t.inputs)
            except Exception as error:
                message = " ".join(str(error).split())
                raise ValueError(
                    f"{target}: the model refuses an input {list(t.inputs[0].shape)}: {message}"
                ) from error
            if tell is not None:
                tell("waking")
            wake(t.model, t.inputs)
        return verify(
            t.model,
            t.inputs,
            time_axis=None if t.ours else t.time_axis,
            reset=t.reset,
            spiking=t.spiking,
            input_levels=t.input_levels,
            strict=strict,
            name=target,
            tell=tell,
        )


def profile_target(
    target: str,
    *,
    shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    input_file: str | Path | Sequence[str | Path] | None = None,
    T: int | None = None,
    time_axis: str | Sequence[str] | None = None,
    reset: str | Callable[[nn.Module], object] | None = None,
    spiking: Sequence[str] = (),
    values: str | Sequence[str] = (),
    convention: str = "standard",
) -> Profile:
    """``profile`` of what ``target`` names, as it comes; the arguments are those of ``verify_target``."""
    with torch.random.fork_rng(), working_directory():
        torch.manual_seed(0)
        t = open_target(
            target,
            shape=shape,
            input_file=input_file,
            T=T,
            time_axis=time_axis,
            reset=reset,
            spiking=spiking,
            values=values,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it stands under the table
            return profile(
                t.model,
                [t.inputs],
                convention=convention,
                spiking=t.spiking,
                reset=t.reset,
                time_axis=None if t.ours else t.time_axis,
                input_levels=t.input_levels,
                inputs=len(t.inputs),
            )


def _never_trained(opened: Opened) -> bool:
    """Whether a model of ours has never seen data."""
    if opened.file is None:
        return opened.name in MODELS
    norms = [norm for norm in batch_norms(opened.model).values() if norm.num_batches_tracked is not None]
    return bool(norms) and not any(int(norm.num_batches_tracked) for norm in norms)  # type: ignore[arg-type]


def _spiking(entry: str) -> tuple[str, tuple[float, ...]]:
    name, _, values = entry.partition("=")
    try:
        return name, tuple(float(value) for value in values.split(",")) if values else (0.0, 1.0)
    except ValueError:
        raise ValueError(f"expected NAME or NAME=value,value,... for a spiking layer, got {entry!r}") from None


def _shapes(shape: Sequence[int] | Sequence[Sequence[int]] | None) -> list[tuple[int, ...]]:
    """One shape, or one for each input."""
    if shape is None:
        return []
    if all(isinstance(size, int) for size in shape):
        return [tuple(shape)]  # type: ignore[arg-type]
    return [tuple(one) for one in shape]  # type: ignore[arg-type]


def _alphabet(text: str) -> tuple[tuple[float, ...] | None, bool]:
    """The values that an input may hold, and whether they are integers: of ``0,1``, ``0..15``, ``tokens:1000``; "" for any."""
    kind, _, count = text.partition(":")
    low, dots, high = text.partition("..")
    try:
        if not text:
            return None, False
        if kind == "tokens" and 0 < int(count) <= MOST_VALUES:
            return tuple(float(k) for k in range(int(count))), True
        if dots and 0 <= int(high) - int(low) < MOST_VALUES:
            return tuple(float(k) for k in range(int(low), int(high) + 1)), False
        if not dots and kind == text:
            return tuple(float(value) for value in text.split(",")), False
    except ValueError:
        pass
    raise ValueError(f"expected the values of an input as 0,1 or 0..15 or tokens:1000, got {text!r}")


def _read(file: Path, integers: bool) -> Tensor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the header, which NumPy parses as Python
            array = np.load(file, allow_pickle=False)
    except Exception as error:  # a tokenizer's errors among others
        raise ValueError(f"{file}: not a readable .npy file ({in_one_line(error)})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(f"{file}: expected one array of numbers")
    if integers and array.dtype.kind not in "iu":
        raise ValueError(f"{file}: expected integers, for tokens, got {array.dtype}")
    return torch.from_numpy(array.astype(np.int64 if integers else np.float32))


def _random(
    shape: Sequence[int], T: int | None, axis: str, levels: Sequence[float] | None, integers: bool, which: int
) -> Tensor:
    """Samples of noise, or of the values that the input may hold. Tokens may be one a sample (or step): no shape."""
    if (not shape and not integers) or any(size < 1 for size in shape):
        raise ValueError(f"impossible shape of a sample: {tuple(shape)}")
    generator = torch.Generator().manual_seed(which)
    lead = (SAMPLES,) if T is None else (T, SAMPLES) if axis == "first" else (SAMPLES, T)
    if levels is None:
        return torch.rand(*lead, *shape, generator=generator)
    drawn = torch.tensor(levels)[torch.randint(len(levels), (*lead, *shape), generator=generator)]
    return drawn.long() if integers else drawn
