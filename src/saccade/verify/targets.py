"""What ``saccade verify`` can be pointed at: a registered name, a model file, a run directory, anybody's factory."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.graph.declared import TIME_AXES
from saccade.layers import batch_norms
from saccade.plugins import working_directory
from saccade.verify.result import Verification
from saccade.verify.suite import frames, gives_steps, verify
from saccade.verify.waking import wake

SAMPLES = 3
QUICK_T = 4  # registered models are built for this many steps unless told otherwise


def verify_target(
    target: str,
    *,
    shape: Sequence[int] | None = None,
    input_file: str | Path | None = None,
    T: int | None = None,
    time_axis: str | None = None,
    reset: str | Callable[[nn.Module], object] | None = None,
    spiking: Sequence[str] = (),
    strict: bool = False,
) -> Verification:
    """Build what ``target`` names and ``verify`` it.

    target: a registered model (built fresh and woken), a model file or run directory (woken only if it never saw data), or
        ``package.module:factory``, imported with the working directory on the path and called without arguments.
    shape: of one sample, without time; default: the model's own. input_file: a .npy batch instead of random input.
    T: steps of the sequences; a foreign model has time first if T is given, unless ``time_axis`` says otherwise.
    reset: a callable, or its name as ``package.module:function``. spiking: as for ``verify``; ``NAME=-1,0,1`` gives values.

    Raises ValueError, in one line, for whatever cannot be found, imported, built or fed.
    """
    with torch.random.fork_rng(), working_directory():
        torch.manual_seed(0)
        model, own_shape, fresh = _build(target, T)
        ours = gives_steps(model)
        axis = time_axis or ("first" if T is not None else "none")
        if axis not in TIME_AXES:
            raise ValueError(f"the time axis must be one of {', '.join(TIME_AXES)}, got {axis!r}")
        if input_file is not None:
            x = _read(Path(input_file))
        else:
            chosen = tuple(shape) if shape is not None else own_shape
            if chosen is None:
                raise ValueError(f"{target}: which input? give the shape of one sample, or a .npy file with a batch")
            x = _random(chosen, None if ours or axis == "none" else T or QUICK_T, axis)
        if ours and x.dim() == 4:
            x = frames(x, int(model.T))  # type: ignore[arg-type]
        back = _load_callable(reset) if isinstance(reset, str) else reset
        if fresh:
            try:
                with torch.no_grad():
                    model.eval()(x)
            except Exception as error:
                message = " ".join(str(error).split())
                raise ValueError(f"{target}: the model refuses an input {list(x.shape)}: {message}") from error
            wake(model, x)
        values = dict(_spiking(entry) for entry in spiking)
        return verify(
            model, x, time_axis=None if ours else axis, reset=back, spiking=values, strict=strict, name=target
        )


def _build(target: str, T: int | None) -> tuple[nn.Module, tuple[int, ...] | None, bool]:
    """The model, the shape of its input if that is known, and whether it has never seen data."""
    from saccade.files import load_model, model_info
    from saccade.models import MODELS, create_model

    if target in MODELS:
        model = create_model(target, T=T or QUICK_T)
        return model, (model.in_channels, *model.input_size), True
    path = Path(target)
    if path.exists():
        file = path / "model.safetensors" if path.is_dir() else path
        if not file.is_file():
            raise ValueError(f"{target}: a directory without a model.safetensors")
        if T is not None:
            raise ValueError(f"{target}: T is part of a model file; it cannot be chosen")
        model = load_model(file)
        info = model_info(file)
        shape = tuple(info.get("input") or (model.in_channels, *model.input_size))
        norms = [norm for norm in batch_norms(model).values() if norm.num_batches_tracked is not None]
        return model, shape, bool(norms) and not any(int(norm.num_batches_tracked) for norm in norms)  # type: ignore
    if ":" not in target:
        raise ValueError(
            f"{target!r} is neither a registered model (`saccade models` lists them), nor a file, nor package.module:factory"
        )
    factory = _load_callable(target)
    try:
        built = factory()
    except Exception as error:
        message = " ".join(str(error).split())
        raise ValueError(f"{target}: the factory raises {type(error).__name__}: {message}") from error
    if not isinstance(built, nn.Module):
        raise ValueError(f"{target}: the factory returns {type(built).__name__}, not a torch.nn.Module")
    return built, None, False


def _load_callable(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"expected package.module:name, got {name!r}")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        message = " ".join(str(error).split())
        raise ValueError(f"{name}: cannot import {module_name} ({type(error).__name__}: {message})") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{name}: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name}: not callable")
    return found  # type: ignore[no-any-return]


def _spiking(entry: str) -> tuple[str, tuple[float, ...]]:
    name, _, values = entry.partition("=")
    try:
        return name, tuple(float(value) for value in values.split(",")) if values else (0.0, 1.0)
    except ValueError:
        raise ValueError(f"expected NAME or NAME=value,value,... for a spiking layer, got {entry!r}") from None


def _read(file: Path) -> Tensor:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{file}: not a readable .npy file ({error})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(f"{file}: expected one array of numbers")
    return torch.from_numpy(array.astype(np.float32))


def _random(shape: Sequence[int], T: int | None, axis: str) -> Tensor:
    if not shape or any(size < 1 for size in shape):
        raise ValueError(f"impossible shape of a sample: {tuple(shape)}")
    generator = torch.Generator().manual_seed(0)
    lead = (SAMPLES,) if T is None else (T, SAMPLES) if axis == "first" else (SAMPLES, T)
    return torch.rand(*lead, *shape, generator=generator)
