"""Local receptive fields for a network that has none: another attention in the place of its self-attention, weights kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from saccade.layers.attention import ATTENTIONS, Attention, AttentionConfig, Site
from saccade.layers.attention.lrf_dyn import LRFDynConfig
from saccade.layers.attention.lrf_ssa import LRFSSAConfig
from saccade.layers.attention.ssa_kv import SSA
from saccade.transforms.base import TRANSFORMS, Change, Transform, matching, replace_module


@dataclass(frozen=True)
class AttachLRFConfig(Transform):
    """Put ``lrf_ssa`` or ``lrf_dyn`` in the place of self-attention (``ssa_kv``, ``ssa_qk`` and their relatives).

    Projections and neurons are kept with their weights; scale, channels of values and threshold are those of what is replaced.
    New are the local branch (9 numbers a dilation and 2 of the norm for each channel of v: 29 by default) and, with
    ``lrf_dyn``, two numbers a compartment. attention: with what settings. where: paths or patterns of self-attentions.
    One-way. Source: LRF-Dyn (2026), arXiv 2603.19290.
    """

    attention: AttentionConfig = ATTENTIONS["lrf_ssa"]
    where: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.attention, LRFSSAConfig | LRFDynConfig):
            raise ValueError(f"attention must be lrf_ssa or lrf_dyn, got {self.attention.kind()}")

    def apply(self, model: nn.Module) -> Change:
        """Raises ValueError, with the model untouched, where it has no self-attention, or a path fits none."""
        found = self_attentions(model)
        if not found:
            raise ValueError(f"{type(model).__name__} has no self-attention of spikes without local receptive fields")
        paths = matching(found, self.where, "where: among the self-attentions")
        for path in paths:
            replace_module(model, path, self._like(found[path]))
        return Change(replace(self, where=paths), paths, tuple(path for path in found if path not in paths))

    def _like(self, old: SSA) -> Attention:
        """The new attention with the parts of the old one."""
        config = replace(self.attention, value_ratio=old.config.value_ratio, halve=old.config.halve)  # type: ignore[call-arg]
        if isinstance(config, LRFSSAConfig):
            config = replace(config, scale=old.config.scale)
        neuron = old.get_submodule("neuron")
        channels = old.out_channels // old.config.value_ratio
        new = config.build(Site(channels, old.heads, neuron.config, projection=lambda i, o: nn.Identity()))  # type: ignore[arg-type]
        for part in (*new.parts, "neuron"):
            setattr(new, part, old.get_submodule(part))
        some = next(old.parameters())
        return new.to(some.device, some.dtype).train(old.training)


def self_attentions(model: nn.Module) -> dict[str, SSA]:
    """The self-attentions of spikes by path, those that have a local branch apart."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, SSA) and not isinstance(module.config, LRFSSAConfig)
    }


TRANSFORMS.register("attach_lrf", AttachLRFConfig())
