"""What a training step keeps in memory: counted from the tensors, by the layer that keeps them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

MEGABYTE = 1e6


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one training step (forward and backward) on ``samples`` samples.

    parameters_bytes, gradients_bytes: those of the model. kept_bytes: what the forward pass keeps for the backward pass,
    each storage once, parameters apart; kept_by_layer: the same by path of the module that ran. peak_bytes: most tensor
    memory alive at once in the step, gradients included, parameters and input apart; None where torch's profiler
    saw no allocation. Scratch memory inside the math libraries is not in it.
    """

    samples: int
    parameters_bytes: int
    gradients_bytes: int
    kept_bytes: int
    peak_bytes: int | None
    kept_by_layer: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return {"format": "saccade-memory-1"} | asdict(self)

    def table(self) -> Any:
        """A rich table: the layers that keep something, and the sums."""
        from rich.table import Table

        table = Table(title=f"memory of a training step on {self.samples} samples, MB")
        for column, justify in (("layer", "left"), ("kept for backward", "right")):
            table.add_column(column, justify=justify)  # type: ignore[arg-type]
        for path, kept in self.kept_by_layer.items():
            table.add_row(path, f"{kept / MEGABYTE:.3f}")
        table.add_section()
        for name in ("kept", "gradients", "parameters", "peak"):
            value = getattr(self, f"{name}_bytes")
            table.add_row(name, "unknown" if value is None else f"{value / MEGABYTE:.3f}")
        return table


def training_memory(model: nn.Module, x: Tensor) -> TrainingMemory:
    """Run one training step of ``model`` on a batch ``x`` (loss: mean square of its output) and count its memory.

    Shapes: ``x`` is what the model takes. The model gets no gradients and keeps its mode and its buffers.
    Raises ValueError for an output without a gradient.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    mode, device = model.training, next(model.parameters()).device
    x = x.to(device)
    model.train()
    try:
        kept = _kept(model, x)
        peak = _peak(model, x)
    finally:
        model.train(mode)
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name])
    learnt = [p for p in model.parameters() if p.requires_grad]
    return TrainingMemory(
        samples=x.shape[0] if x.dim() == 4 else x.shape[1],
        parameters_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        gradients_bytes=sum(p.numel() * p.element_size() for p in learnt),
        kept_bytes=sum(kept.values()),
        peak_bytes=peak,
        kept_by_layer={path or "(model)": size for path, size in kept.items() if size},
    )


def _loss(model: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = model(x, steps=True) if getattr(model, "gives_steps", False) else model(x)
    if not y.requires_grad:
        raise ValueError("the model's output has no gradient, so a training step has no memory to count")
    return y.square().mean()


def _kept(model: nn.Module, x: Tensor) -> dict[str, int]:
    """Bytes saved by autograd by module path; a storage counts where it is first saved."""
    seen = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[str, int] = dict.fromkeys((path for path, _ in model.named_modules()), 0)
    alive: list[Tensor] = []  # a freed storage could be taken for a later one at the same address
    with _running(model) as stack:

        def save(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                alive.append(tensor)
                kept[stack[-1]] += storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            _loss(model, x)
    return kept


@contextmanager
def _running(model: nn.Module) -> Iterator[list[str]]:
    """The paths of the modules that run, innermost last."""
    stack = [""]
    hooks: list[Any] = []

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        stack.pop()

    for path, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda m, i, path=path: stack.append(path)))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield stack
    finally:
        for hook in hooks:
            hook.remove()


def _peak(model: nn.Module, x: Tensor) -> int | None:
    _loss(model, x).backward()  # what is made once is not counted
    model.zero_grad(set_to_none=True)
    return _most_alive(lambda: _loss(model, x).backward())


def inference_peak(model: nn.Module, x: Tensor) -> int | None:
    """Most tensor memory alive at once while the model runs on ``x`` in eval mode, in bytes; parameters and input apart.

    None where torch's profiler saw no allocation. Scratch memory inside the math libraries is not in it.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(x)
            return _most_alive(lambda: model(x))
    finally:
        model.train(training)


def _most_alive(work: Callable[[], object]) -> int | None:
    """Most bytes alive at once in ``work``, beyond those before it. It has been done before, so that libraries are set up."""
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        torch.cuda.reset_peak_memory_stats()
        resting = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - resting
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler talks on stderr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that events are kept for one cycle only: there is one
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
            work()
    live = peak = 0
    found: Any = profiled.profiler
    for event in found.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak or None
