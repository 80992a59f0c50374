"""What both sides of a client's round agree on, and the optimiser that each runs over its own adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.split.codecs import Codec
from saccade.split.lora import Adapted, Adapters, block_of
from saccade.split.wire import Blob, Refused, Role


@dataclass(frozen=True)
class Terms:
    """One client's round. epoch: how often the plan of cuts has been made; a side that holds another plan is refused.

    batch, length, width: of every tensor that is sent. tail: as in ``split_causal_lm``.
    """

    run: str
    client: str
    round: int
    epoch: int
    cut: int
    tail: int | None
    ranks: tuple[int, ...]
    steps: int
    batch: int
    length: int
    width: int
    pack: bool
    activations: Codec
    gradients: Codec
    feedback: bool
    lr: float
    weight_decay: float
    clip: float | None
    trains_a: bool

    @property
    def client_blocks(self) -> list[int]:
        depth = len(self.ranks)
        return [*range(self.cut), *range(depth - (self.tail or 0), depth)]

    @property
    def server_blocks(self) -> list[int]:
        return list(range(self.cut, len(self.ranks) - (self.tail or 0)))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.batch, self.length, self.width

    @property
    def most_bytes(self) -> int:
        """A message of a step is never larger."""
        payload = max(codec.sizes(self.shape)[1] for codec in (self.activations, self.gradients))
        return payload + 5 * self.batch * self.length + 4096

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        value = {field.name: getattr(self, field.name) for field in fields(self)}
        return (
            value | {name: value[name].record() for name in ("activations", "gradients")} | {"ranks": list(self.ranks)}
        )

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Terms:
        """Raises ValueError for anything but what ``plain`` gives."""
        kinds = {
            "run": str, "client": str, "round": int, "epoch": int, "cut": int, "tail": (int, type(None)), "ranks": list,
            "steps": int, "batch": int, "length": int, "width": int, "pack": bool, "feedback": bool,
            "activations": dict, "gradients": dict, "lr": float, "weight_decay": float,
            "clip": (float, type(None)), "trains_a": bool,
        }  # fmt: skip
        if set(value) != set(kinds) or not all(isinstance(value[k], kind) for k, kind in kinds.items()):  # type: ignore[arg-type]
            raise ValueError("terms that this version does not know; run the same version of saccade on both sides")
        ranks = value["ranks"]
        if not ranks or len(ranks) > 4096 or not all(isinstance(r, int) and 1 <= r <= 4096 for r in ranks):
            raise ValueError("ranks that cannot be")
        sizes = (value["batch"], value["length"], value["width"], value["steps"])
        if min(sizes) < 1 or max(sizes) > 1 << 24 or value["round"] < 0 or not 1 <= value["cut"] <= len(ranks):
            raise ValueError("sizes that cannot be")
        codecs = {name: Codec.parse(value[name]) for name in ("activations", "gradients")}
        return cls(**dict(value) | codecs | {"ranks": tuple(ranks)})


class Trainer:
    """AdamW over some adapters, the gradient of each block held to a norm of its own: where a cut lies changes no
    step."""

    def __init__(self, adapted: Adapted, blocks: Sequence[int], terms: Terms) -> None:
        self.clip = terms.clip
        self.groups: dict[int, list[nn.Parameter]] = {}
        for site, (a, b) in adapted.factors.items():
            a.requires_grad_(terms.trains_a)
            if block_of(site) in blocks:
                self.groups.setdefault(block_of(site), []).extend([a, b] if terms.trains_a else [b])
        found = [p for group in self.groups.values() for p in group]
        self.optimizer = torch.optim.AdamW(found, lr=terms.lr, weight_decay=terms.weight_decay) if found else None

    def step(self) -> bool:
        """Take a step with the gradients that are there. False, and nothing happens, if one is not finite."""
        if self.optimizer is None:
            return True
        finite = True
        for group in self.groups.values():
            grads = [p.grad for p in group if p.grad is not None]
            if not grads:
                continue
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
            finite = finite and bool(torch.isfinite(norm))
            if self.clip is not None and float(norm) > self.clip:
                for g in grads:
                    g.mul_(self.clip / norm)
        if finite:
            self.optimizer.step()
        self.clear()
        return finite

    def clear(self) -> None:
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)


def pack_adapters(adapters: Adapters, with_a: bool = True) -> list[Blob]:
    """Adapters as tensors of a message, in the order of their sites; without A where nobody trains it."""
    return [
        Blob(Role.ADAPTERS, tuple(x.shape), x.detach().to(torch.float32).contiguous().numpy().astype("<f4").tobytes())
        for a, b in adapters.values()
        for x in ((a, b) if with_a else (b,))
    ]


def unpack_adapters(blobs: Sequence[Blob], like: Adapters, with_a: bool = True) -> Adapters:
    """Adapters from a message, of the sites and shapes of ``like``. Raises Refused for any others, or what is not
    finite."""
    wanted = [(site, i, x) for site, pair in like.items() for i, x in enumerate(pair) if with_a or i == 1]
    if len(blobs) != len(wanted):
        raise Refused("BAD_SHAPE", f"{len(blobs)} adapter tensors where {len(wanted)} are due")
    found = {site: list(pair) for site, pair in like.items()}
    for blob, (site, i, x) in zip(blobs, wanted, strict=True):
        if blob.role != Role.ADAPTERS or blob.shape != tuple(x.shape) or len(blob.payload) != 4 * x.numel():
            raise Refused("BAD_SHAPE", f"{site}: an adapter of {list(blob.shape)} where {list(x.shape)} is due")
        value = torch.from_numpy(np.frombuffer(blob.payload, "<f4").astype(np.float32).reshape(blob.shape))
        if not bool(torch.isfinite(value).all()):
            raise Refused("POISON", f"{site}: an adapter that is not finite")
        found[site][i] = value
    return {site: (pair[0], pair[1]) for site, pair in found.items()}


def tensor_blob(role: Role, payload: bytes, x: Tensor) -> Blob:
    return Blob(role, tuple(x.shape), payload)
