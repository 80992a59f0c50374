"""The model under attack: called the same way every time, counted, and left as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph.declared import Reset, peer_reset

Loss = Callable[[Tensor, Tensor], Tensor]  # logits [N, K] and labels [N] to a number each [N], which an attack raises


class Victim:
    """A classifier ``images [N, ...] -> logits [N, K]`` in eval mode, ours or anybody's.

    Before every call it is reset (neurons of SpikingJelly, snnTorch and sinabs by themselves; another way: ``reset``), so that
    an attack never meets the state of a former one. ``forwards`` and ``gradients`` count samples, as budgets of attacks do.

    Raises ValueError for a model in training mode.
    """

    def __init__(self, model: nn.Module, reset: Reset | None = None) -> None:
        if model.training:
            raise ValueError("the model is in training mode, where batches change it; call model.eval() first")
        self.model, self._reset = model, reset or peer_reset
        self.forwards = self.gradients = 0
        self.draws = 1  # forward passes that a gradient or a score is the mean of (expectation over transformation)
        self.stochastic = False

    @contextlib.contextmanager
    def open(self) -> Iterator[Victim]:
        """While it is attacked: no gradients for its weights; flags, and the state of torch's generator, as they were after."""
        wanted = [p for p in self.model.parameters() if p.requires_grad]
        with torch.random.fork_rng(devices=_devices(self.model)):
            try:
                for parameter in wanted:
                    parameter.requires_grad_(False)
                yield self
            finally:
                for parameter in wanted:
                    parameter.requires_grad_(True)
                self._reset(self.model)

    def logits(self, x: Tensor) -> Tensor:
        """``[N, K]``, without gradients; the mean of ``draws`` calls."""
        with torch.no_grad():
            found = [self._call(x) for _ in range(self.draws)]
        return found[0] if len(found) == 1 else torch.stack(found).mean(0)

    def gradient(self, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[N, K]``, losses ``[N]`` and their gradients by the images ``[N, ...]``: means of ``draws`` calls each."""
        sums: list[Tensor] = []
        for _ in range(self.draws):
            leaf = x.detach().clone().requires_grad_(True)
            with torch.enable_grad():
                logits = self._call(leaf)
                losses = loss(logits, y)
                (found,) = torch.autograd.grad(losses.sum(), leaf, allow_unused=True)
            self.gradients += len(x)
            parts = (logits.detach(), losses.detach(), torch.zeros_like(x) if found is None else found)
            sums = list(parts) if not sums else [a + b for a, b in zip(sums, parts, strict=True)]
        logits, losses, gradient = (part / self.draws for part in sums)
        return logits, losses, gradient

    def _call(self, x: Tensor) -> Tensor:
        self._reset(self.model)
        self.forwards += len(x)
        found: Any = self.model(x)
        if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(x):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"attacks need logits [{len(x)}, K], one row an image; the model gives {shape} (average over time first)"
            )
        return found

    def check_noise(self, x: Tensor) -> bool:
        """Whether two calls on the same images differ; remembered as ``stochastic``."""
        with torch.no_grad():
            self.stochastic = not torch.equal(self._call(x), self._call(x))
        return self.stochastic


def _devices(model: nn.Module) -> list[torch.device]:
    return list({p.device for p in model.parameters() if p.device.type == "cuda"})
