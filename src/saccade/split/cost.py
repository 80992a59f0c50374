"""What a cut costs a client and the server in seconds, bytes and memory, before anything runs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from saccade.split.codecs import Codec
from saccade.split.families import Family
from saccade.split.ledger import overhead
from saccade.split.lora import LoraPlan, block_of, site_shape, sites_of


class Profile(BaseModel):
    """A machine. seconds_per_token: forward through one block. bandwidths in bytes a second. watts while it
    computes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds_per_token: float = Field(default=2e-6, gt=0)
    memory_bytes: int = Field(default=1 << 40, gt=0)
    up_bytes_per_s: float = Field(default=12.5e6, gt=0)
    down_bytes_per_s: float = Field(default=12.5e6, gt=0)
    watts: float | None = Field(default=None, ge=0)


@dataclass(frozen=True)
class Shape:
    """What the costs of a model depend on. Bytes of weights are float32; ``saved_bytes``: kept by one block for its
    backward."""

    depth: int
    width: int
    block_bytes: int
    front_bytes: int
    back_bytes: int
    saved_bytes: int
    adapter_numbers: tuple[tuple[int, int], ...]  # by block: inputs and outputs of its sites, added up (times the rank)


def shape_of(family: Family, plan: LoraPlan, batch: int, length: int) -> Shape:
    """Read off the model; what a block keeps is found by running one on a device that computes nothing."""
    blocks = family.blocks
    sites = [(block_of(site), site_shape(family, site)) for site in sites_of(family, plan)]
    sums = tuple(
        (sum(s[1] for b, s in sites if b == block), sum(s[0] for b, s in sites if b == block))
        for block in range(len(blocks))
    )
    return Shape(
        len(blocks),
        family.width,
        max(_bytes([block]) for block in blocks),
        _bytes(family.front_modules()),
        _bytes(family.back_modules()),
        _saved(family, batch, length),
        sums,
    )


def _bytes(modules: Sequence[nn.Module]) -> int:
    seen = {id(p): 4 * p.numel() for module in modules for p in module.parameters() if p.is_floating_point()}
    return sum(seen.values())


def _saved(family: Family, batch: int, length: int) -> int:
    """Bytes that autograd keeps of the first block's forward, weights left out."""
    h = torch.zeros(batch, length, family.width, device="meta", requires_grad=True)
    bare: Any = copy.copy(family)
    bare.model = bare.inner = None
    positions = torch.arange(length, device="cpu").unsqueeze(0)
    with torch.no_grad():
        context = {
            name: tuple(t.to("meta") for t in value) if isinstance(value, tuple) else _meta(value)
            for name, value in family.context(torch.zeros(1, length, family.width), None, positions).items()
        }
    block = copy.deepcopy(family.blocks[0]).to("meta")
    weights = {id(p) for p in block.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        base = x if x._base is None else x._base
        if id(base) not in weights:
            kept[id(base)] = base
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = family.run(block, h, context)
    assert out.shape == h.shape, out.shape
    return sum(x.numel() * x.element_size() for x in kept.values())


def _meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class CostModel:
    """Costs of a client's round. server: its profile; ``lanes``: how many clients it computes for at once."""

    shape: Shape
    plan: LoraPlan
    activations: Codec
    gradients: Codec
    batch: int
    length: int
    steps: int
    server: Profile
    tail: int | None = None
    padded: bool = False
    lanes: int = 1
    trains_a: bool = True

    def client_memory(self, cut: int) -> int:
        """Bytes: weights, what the backward needs, adapters with gradients and two moments each."""
        own = cut + (self.tail or 0)
        memory = self.shape.front_bytes + own * (self.shape.block_bytes + self.shape.saved_bytes)
        if self.tail is not None:
            memory += self.shape.back_bytes
        return memory + 4 * self._adapter_bytes(cut)

    def step_bytes(self) -> dict[str, int]:
        """Bytes of one step by direction and kind, as the ledger counts them. Neither cut nor rank is in it."""
        tensor = (self.batch, self.length, self.shape.width)
        h, g = self.activations.sizes(tensor)[1], self.gradients.sizes(tensor)[1]
        mask = (self.batch * self.length + 7) // 8 if self.padded else 0
        if self.tail is None:
            up = {"activations": h, "labels": 4 * self.batch * self.length, "control": overhead(2 + bool(mask)) + mask}
            down = {"gradients": g, "control": overhead(1) + 60}
        else:
            up = {"activations": h, "gradients": g, "control": 2 * overhead(1) + bool(mask) * 24 + mask + 60}
            down = {"activations": h, "gradients": g, "control": 2 * overhead(1)}
        return {f"{way}/{k}": v for way, part in (("up", up), ("down", down)) for k, v in part.items()}

    def _adapter_bytes(self, cut: int) -> int:
        ranks = self.plan.ranks(self.shape.depth, cut, self.tail)
        held = [*range(cut), *range(self.shape.depth - (self.tail or 0), self.shape.depth)]
        sums = self.shape.adapter_numbers
        return 4 * sum(ranks[block] * (sums[block][0] * self.trains_a + sums[block][1]) for block in held)

    def adapter_bytes(self, cut: int) -> int:
        """Bytes of a client's adapters, one way."""
        return self._adapter_bytes(cut)

    def server_blocks(self, cuts: Iterable[int]) -> int:
        """Blocks that the server runs for all clients together."""
        return sum(self.shape.depth - cut - (self.tail or 0) for cut in cuts)

    def compute_seconds(self, cut: int, profile: Profile, blocks: int) -> tuple[float, float]:
        """``(client, server)`` seconds of one step: forward and input gradient, which frozen weights cost alike.

        blocks: what the server runs for all clients in the same time, ``lanes`` of them at once; who waits, waits for all.
        """
        tokens = 2 * self.batch * self.length
        own = cut + (self.tail or 0)
        waited = max(self.shape.depth - own, blocks / self.lanes)
        return tokens * own * profile.seconds_per_token, tokens * waited * self.server.seconds_per_token

    def round_seconds(self, cut: int, profile: Profile, blocks: int, steps: int | None = None) -> float:
        """Seconds of a client's round: its steps one after another, and its adapters down and up.

        The bytes of a step do not depend on the cut: where the server's blocks are faster, the smallest cut is the fastest.
        """
        steps = self.steps if steps is None else steps
        moved = self.step_bytes()
        up = sum(v for k, v in moved.items() if k.startswith("up"))
        down = sum(v for k, v in moved.items() if k.startswith("down"))
        travel = up / profile.up_bytes_per_s + down / profile.down_bytes_per_s
        adapters = self.adapter_bytes(cut) * (1 / profile.up_bytes_per_s + 1 / profile.down_bytes_per_s)
        return steps * (sum(self.compute_seconds(cut, profile, blocks)) + travel) + adapters

    def most_cut(self, profile: Profile) -> int:
        """The largest cut whose memory the client has; 0 if not even one block fits."""
        most = self.shape.depth - (self.tail or 0) - 1
        return max((cut for cut in range(1, most + 1) if self.client_memory(cut) <= profile.memory_bytes), default=0)
