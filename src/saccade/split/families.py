"""What the causal language models of Transformers have in common: where their blocks lie, and what runs before and
after them.

A family is one subclass; positions are added, masks made and rotary tables computed as the family's own forward does it, so
that a model in parts computes what it computes in one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from saccade.config import Registry
from saccade.optional import need

FAMILIES: Registry[type[Family]] = Registry("model family")


class Family:
    """One model, seen by its parts. ``inner``: the stack below the language-modelling head.

    targets: names of a block's attention projections that LoRA adapts.
    """

    targets: tuple[str, ...] = ()
    blocks_at = ""  # path of the list of blocks within the model
    fan_in_fan_out = False

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model
        self.config: Any = model.config
        self.inner: Any = model.get_submodule(self.blocks_at.rpartition(".")[0])

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.model.get_submodule(self.blocks_at))

    @property
    def width(self) -> int:
        """Numbers a token has between two blocks."""
        return int(self.config.hidden_size)

    def positions(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Where the tokens of ``x`` ``[N, L, ...]`` stand: ``[1, L]``; padding comes last."""
        return torch.arange(x.shape[1], device=x.device).unsqueeze(0)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        raise NotImplementedError

    def context(self, h: Tensor, mask: Tensor | None, positions: Tensor) -> dict[str, Any]:
        """What every block needs beside ``h``; each part computes it again."""
        make = need("transformers.masking_utils", "split").create_causal_mask
        causal = make(config=self.config, inputs_embeds=h, attention_mask=mask, cache=None, position_ids=positions)
        return {"attention_mask": causal}

    def run(self, block: Any, h: Tensor, context: dict[str, Any]) -> Tensor:
        return block(h, **context)

    def logits(self, h: Tensor) -> Tensor:
        """From the last block's output: final norm and head."""
        raise NotImplementedError

    def front_modules(self) -> list[nn.Module]:
        """What lies before the first block."""
        raise NotImplementedError

    def back_modules(self) -> list[nn.Module]:
        """What lies behind the last block."""
        raise NotImplementedError


class _Llama(Family):
    targets = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    blocks_at = "model.layers"

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self.inner.embed_tokens(ids)

    def context(self, h: Tensor, mask: Tensor | None, positions: Tensor) -> dict[str, Any]:
        turned = self.inner.rotary_emb(h, position_ids=positions)
        return {**super().context(h, mask, positions), "position_embeddings": turned, "position_ids": positions}

    def logits(self, h: Tensor) -> Tensor:
        return self.model.lm_head(self.inner.norm(h))

    def front_modules(self) -> list[nn.Module]:
        return [self.inner.embed_tokens]

    def back_modules(self) -> list[nn.Module]:
        return [self.inner.norm, self.model.lm_head]


class _GPT2(Family):
    targets = ("attn.c_attn", "attn.c_proj")
    blocks_at = "transformer.h"
    fan_in_fan_out = True  # its Conv1D keeps weights as [in, out]

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self.inner.drop(self.inner.wte(ids) + self.inner.wpe(positions))

    def logits(self, h: Tensor) -> Tensor:
        return self.model.lm_head(self.inner.ln_f(h))

    def front_modules(self) -> list[nn.Module]:
        return [self.inner.wte, self.inner.wpe]

    def back_modules(self) -> list[nn.Module]:
        return [self.inner.ln_f, self.model.lm_head]


class _GPTNeo(_GPT2):
    targets = ("attn.attention.q_proj", "attn.attention.v_proj")
    fan_in_fan_out = False

    def run(self, block: Any, h: Tensor, context: dict[str, Any]) -> Tensor:
        return block(h, **context)[0]


class _OPT(Family):
    targets = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")
    blocks_at = "model.decoder.layers"

    def positions(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return super().positions(x, mask)
        real = mask.long()
        return real.cumsum(1) * real - 1

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        h = self.inner.embed_tokens(ids)
        places = self.inner.embed_positions(None, 0, position_ids=positions)  # it adds the offset of 2 itself
        return (h if self.inner.project_in is None else self.inner.project_in(h)) + places

    def logits(self, h: Tensor) -> Tensor:
        for module in (self.inner.final_layer_norm, self.inner.project_out):
            h = h if module is None else module(h)
        return self.model.lm_head(h).contiguous()

    def front_modules(self) -> list[nn.Module]:
        return [
            m for m in (self.inner.embed_tokens, self.inner.embed_positions, self.inner.project_in) if m is not None
        ]

    def back_modules(self) -> list[nn.Module]:
        found = (self.inner.final_layer_norm, self.inner.project_out, self.model.lm_head)
        return [m for m in found if m is not None]


for _name, _family in {"llama": _Llama, "gpt2": _GPT2, "gpt_neo": _GPTNeo, "opt": _OPT}.items():
    FAMILIES.register(_name, _family)


def family_of(model: nn.Module) -> Family:
    """The model seen by its parts. Raises ValueError for an architecture that no family describes."""
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in FAMILIES:
        raise ValueError(f"a model of the type {kind!r} cannot be split; known: {', '.join(FAMILIES)}")
    return FAMILIES[kind](model)
