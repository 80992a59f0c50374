"""Every byte that passes between clients and server, by what it is."""

from __future__ import annotations

from typing import Any

from saccade.split.wire import HEADER, TENSOR, Message, Role

KINDS = ("activations", "gradients", "labels", "adapters", "control")
_KIND_OF = {
    Role.ACTIVATIONS: "activations",
    Role.GRADIENTS: "gradients",
    Role.LABELS: "labels",
    Role.MASK: "control",
    Role.ADAPTERS: "adapters",
}


class Ledger:
    """Bytes by direction (``up``: client to server) and kind. Headers, JSON and masks are ``control``."""

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self.counts = {f"{way}/{kind}": 0 for way in ("up", "down") for kind in KINDS} | (counts or {})

    def add(self, way: str, message: Message, size: int) -> None:
        """Book a message of ``size`` encoded bytes."""
        rest = size
        for blob in message.blobs:
            self.counts[f"{way}/{_KIND_OF[blob.role]}"] += len(blob.payload)
            rest -= len(blob.payload)
        self.counts[f"{way}/control"] += rest

    def include(self, other: Ledger) -> None:
        for key, value in other.counts.items():
            self.counts[key] += value

    def total(self, way: str | None = None, kind: str | None = None) -> int:
        """Bytes, of one direction or kind or all."""
        return sum(
            count
            for key, count in self.counts.items()
            if way in (None, key.split("/")[0]) and kind in (None, key.split("/")[1])
        )

    def by_kind(self) -> dict[str, int]:
        return {kind: self.total(kind=kind) for kind in KINDS}

    def record(self) -> dict[str, Any]:
        return dict(self.counts)


def overhead(tensors: int) -> int:
    """Bytes that a message of so many tensors has beside payloads and JSON."""
    return HEADER.size + tensors * TENSOR.size
