"""Low-rank adapters (Hu et al. 2021, ``y = W x + alpha / r B A x``) through PEFT, with a rank for every block.

Adapters travel and are averaged as ``{site: (A, B)}``: a site is ``"BLOCK.TARGET"``, A is ``[r, in]`` and B ``[out, r]``.
"""

from __future__ import annotations

import copy
import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.optional import need
from saccade.split.families import Family, family_of

Adapters = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class LoraPlan:
    """Ranks and scale of adapters. r_cut: rank of the blocks on both sides of a cut (Shan et al. 2026), None for ``r``.

    alpha stays when the rank is reduced, so the scale ``alpha / r`` of those blocks grows; averages take it into account.
    targets: projections within a block, () for the attention's of the family.
    """

    r: int = 8
    r_cut: int | None = None
    alpha: float = 16.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.r < 1 or (self.r_cut is not None and not 1 <= self.r_cut <= self.r):
            raise ValueError(f"ranks are 1 or more, and r_cut at most r: got r {self.r}, r_cut {self.r_cut}")
        if not self.alpha > 0:
            raise ValueError(f"alpha is positive, got {self.alpha:g}")

    def ranks(self, depth: int, cut: int | None, tail: int | None = None) -> tuple[int, ...]:
        """The rank of every block; cut None (nothing is cut) gives ``r`` everywhere. A U-shape's second cut counts
        too."""
        near = set() if cut is None else {cut - 1, cut}
        if cut is not None and tail:
            near |= {depth - tail - 1, depth - tail}
        return tuple((self.r_cut or self.r) if block in near else self.r for block in range(depth))

    def named(self, family: Family) -> tuple[str, ...]:
        """The targets, checked. Raises ValueError for one that a block of the model does not have."""
        targets = self.targets or family.targets
        for target in targets:
            try:
                family.blocks[0].get_submodule(target)
            except AttributeError:
                known = ", ".join(name for name, m in family.blocks[0].named_modules() if hasattr(m, "weight"))
                raise ValueError(f"no LoRA target {target!r} in a block of this model; it has {known}") from None
        return targets


def sites_of(family: Family, plan: LoraPlan, blocks: Sequence[int] | None = None) -> list[str]:
    """Sites in the order in which everything goes through them."""
    return [f"{block}.{target}" for block in blocks or range(len(family.blocks)) for target in plan.named(family)]


def block_of(site: str) -> int:
    return int(site.partition(".")[0])


def fresh_adapters(family: Family, plan: LoraPlan, seed: int) -> Adapters:
    """Adapters of rank ``r`` that change nothing yet: A as LoRA draws it, B zero. Each site draws from a stream of
    its own."""
    adapters: Adapters = {}
    for site in sites_of(family, plan):
        outputs, inputs = site_shape(family, site)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(site.encode()))
        a = (torch.rand(plan.r, inputs, generator=generator) * 2 - 1) / math.sqrt(
            inputs
        )  # kaiming uniform with a = sqrt(5)
        adapters[site] = (a, torch.zeros(outputs, plan.r))
    return adapters


def site_shape(family: Family, site: str) -> tuple[int, int]:
    """``(out, in)`` of the projection at a site."""
    weight: Any = projection(family, site).weight
    return tuple(weight.T.shape) if family.fan_in_fan_out else tuple(weight.shape)  # type: ignore[return-value]


def projection(family: Family, site: str) -> Any:
    """The frozen projection at a site, below its adapter if it has one."""
    block, _, target = site.partition(".")
    module: Any = family.blocks[int(block)].get_submodule(target)
    return getattr(module, "base_layer", module)


def fold(family: Family, site: str, change: Tensor) -> None:
    """Add a change ``[out, in]`` to the frozen weight of a site."""
    weight = projection(family, site).weight
    with torch.no_grad():
        weight.add_((change.T if family.fan_in_fan_out else change).to(weight.dtype))


class Adapted:
    """A copy of a model that shares its frozen weights and has adapters of its own.

    ``family`` sees it by its parts; ``factors`` are the trainable (A, B) by site.
    """

    def __init__(self, base: nn.Module, plan: LoraPlan, ranks: Sequence[int]) -> None:
        base.requires_grad_(False)
        shared: dict[int, Any] = {id(t): t for t in itertools.chain(base.parameters(), base.buffers())}
        model: Any = copy.deepcopy(base, shared).eval()
        family = family_of(model)
        if len(ranks) != len(family.blocks):
            raise ValueError(f"{len(ranks)} ranks for {len(family.blocks)} blocks")
        self.plan, self.ranks = plan, tuple(ranks)
        names = {site: f"{family.blocks_at}.{site}" for site in sites_of(family, plan)}
        peft = need("peft", "split")
        config = peft.LoraConfig(
            r=plan.r,
            lora_alpha=plan.alpha,
            target_modules=list(names.values()),
            rank_pattern={names[site].replace(".", r"\."): self.ranks[block_of(site)] for site in names},
            fan_in_fan_out=family.fan_in_fan_out,
        )
        self.model = peft.inject_adapter_in_model(config, model)
        self.family = family_of(self.model)
        self.factors: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
        for site, name in names.items():
            module = self.model.get_submodule(name)
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            if a.shape[0] != self.ranks[block_of(site)]:  # PEFT passes over patterns that match nothing
                raise ValueError(
                    f"{site}: PEFT gave it rank {a.shape[0]} where {self.ranks[block_of(site)]} was planned"
                )
            self.factors[site] = (a, b)
        adapted = sum(hasattr(module, "lora_A") for module in self.model.modules())
        if adapted != len(names):
            raise ValueError(f"PEFT adapted {adapted} projections where {len(names)} were planned")

    def load(self, adapters: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Take values over. Raises ValueError for a site or shape that is not this model's."""
        for site, values in adapters.items():
            if site not in self.factors:
                raise ValueError(f"no adapter site {site!r} in this model")
            for name, own, value in zip("AB", self.factors[site], values, strict=True):
                if own.shape != value.shape:
                    raise ValueError(f"{site}: {name} is {list(value.shape)} where {list(own.shape)} is planned")
                with torch.no_grad():
                    own.copy_(value)

    def read(self, blocks: Sequence[int] | None = None) -> Adapters:
        """Copies of the factors, of some blocks or all."""
        wanted = None if blocks is None else set(blocks)
        return {
            site: (a.detach().clone(), b.detach().clone())
            for site, (a, b) in self.factors.items()
            if wanted is None or block_of(site) in wanted
        }
