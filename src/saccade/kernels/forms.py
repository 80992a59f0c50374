"""Which form of a kernel runs: plain torch, native code on a CPU, or Triton on a GPU."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

try:
    from saccade import _native
except ImportError as error:  # a platform without a wheel, or a source tree that was never built
    _native = None  # type: ignore[assignment]
    _why = str(error)

FORMS = ("auto", "reference", "native", "triton")
# Where each kernel has a form beside the reference: what is not here runs in plain torch.
IMPLEMENTATIONS = {
    ("lif", "native"): "saccade.kernels.native_lif",
    ("lif", "triton"): "saccade.kernels.triton_lif",
    ("bits", "triton"): "saccade.kernels.triton_bits",
    ("integer", "native"): "saccade.kernels.native_integer",
    ("dendritic", "native"): "saccade.kernels.native_dendritic",
}
_default = os.environ.get("SACCADE_KERNEL") or "auto"
_chosen: contextvars.ContextVar[str] = contextvars.ContextVar("saccade_kernel_form", default=_default)
_latest = _default  # what a compiler reads, which follows no context variables
_found: dict[tuple[str, str], str] = {}  # by what is chosen and device type, so that a warning comes once


def native() -> Any:
    """The native module. Raises RuntimeError, saying why, where there is none."""
    if _native is None:
        raise RuntimeError(f"the native kernels are not there: {_why}")
    return _native


def has_native() -> bool:
    return _native is not None


def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@cache
def implementation(kernel: str, form: str) -> Any:
    """The module of a kernel in a form, imported when first used: Triton is optional."""
    return importlib.import_module(IMPLEMENTATIONS[kernel, form])


def fused(kernel: str, x: torch.Tensor) -> Any:
    """A kernel's form, if it takes the tensor: not empty, of one of its ``TYPES``. None: the reference is to run."""
    form = form_for(x.device.type)
    if not x.numel() or (kernel, form) not in IMPLEMENTATIONS:
        return None
    found = implementation(kernel, form)
    return found if x.dtype in found.TYPES else None


@contextlib.contextmanager
def use(form: str) -> Iterator[None]:
    """Run every kernel in one form, for comparisons: ``with kernels.use("reference"): ...``. Other threads go on as they were.

    The environment variable ``SACCADE_KERNEL`` does it for a whole process. Raises ValueError for an unknown form.
    """
    global _latest
    token, before = _chosen.set(_known(form)), _latest
    _latest = form
    try:
        yield
    finally:
        _chosen.reset(token)
        _latest = before


def form_for(device: str) -> str:
    """The form that runs on a device type: "reference", "native" or "triton".

    Raises ValueError for an unknown ``SACCADE_KERNEL``, RuntimeError if the form asked for cannot run here.
    """
    chosen = _latest if torch.compiler.is_compiling() else _chosen.get()
    found = _found.get((chosen, device))
    if found is None:
        found = _found[chosen, device] = _form_for(chosen, device)
    return found


def _form_for(form: str, device: str) -> str:
    if form == "auto":
        if device == "cpu":
            if _native is not None:
                return "native"
            warnings.warn(
                f"the native kernels are not there ({_why}); neurons run as a plain torch loop, several times slower",
                RuntimeWarning,
                stacklevel=4,
            )
        elif device == "cuda" and has_triton():
            return "triton"
        return "reference"
    if form == "native":
        native()
        return "native" if device == "cpu" else "reference"
    if form == "triton":
        if not has_triton():
            raise RuntimeError("SACCADE_KERNEL=triton: Triton is not installed; pip install 'saccade-snn[triton]'")
        return "triton"
    return _known(form)


def keep_memory() -> bool:
    """Keep freed tensors in this process instead of handing each back to the system, to be faulted in again.

    Called when the command line or the trainer starts, never at import. True if it took effect (glibc).
    """
    return bool(_native is not None and _native.keep_memory())


def _known(form: str) -> str:
    if form not in FORMS:
        raise ValueError(f"unknown kernel form {form!r} (SACCADE_KERNEL); known: {', '.join(FORMS)}")
    return form
