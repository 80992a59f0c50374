"""The trained adapters as PEFT keeps them, for Transformers and whatever reads that format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from saccade.split.federation import Federation, weight_of
from saccade.split.models import load_model


def export_peft(federation: Federation, folder: Path, base_name: str | None = None) -> Path:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``. Returns the folder.

    Where the base was changed (``flora``), the adapter is the whole change, at the rank that holds it.

    base_name: what the file says it belongs to; the recipe's model otherwise. Raises ValueError if the folder holds
    an adapter.
    """
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"{folder}: holds an adapter already; choose another --out")
    recipe, family = federation.recipe, federation.family
    factors, alpha = dict(federation.adapters), recipe.lora.alpha
    rank = recipe.lora.r
    if federation.weights:
        factors, rank = _whole_change(federation)
        alpha = float(rank)
    tensors: dict[str, Tensor] = {}
    for site, (a, b) in factors.items():
        for name, x in (("A", a), ("B", b)):
            tensors[f"base_model.model.{family.blocks_at}.{site}.lora_{name}.weight"] = x.contiguous()
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name or recipe.model,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": family.fan_in_fan_out,
        "inference_mode": True,
        "target_modules": [f"{family.blocks_at}.{site}" for site in factors],
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return folder


def export_base(federation: Federation, folder: Path) -> Path:
    """Write the model as it was before training, as Transformers reads it. Raises ValueError if the folder holds a
    model."""
    if (folder / "config.json").exists():
        raise ValueError(f"{folder}: holds a model already")
    model: Any = load_model(federation.recipe.model, federation.recipe.seed)
    model.save_pretrained(folder)
    return folder


def _whole_change(federation: Federation) -> tuple[dict[str, tuple[Tensor, Tensor]], int]:
    """Factors of what was added to every adapted weight, at one rank that holds all of them, and that rank."""
    original = type(federation.family)(load_model(federation.recipe.model, federation.recipe.seed))
    scale, pieces = federation.recipe.lora.alpha / federation.recipe.lora.r, {}
    for site, (a, b) in federation.adapters.items():
        before = weight_of(original, site).double()
        change = weight_of(federation.family, site).double() - before + scale * (b.double() @ a.double())
        u, s, v = torch.linalg.svd(change, full_matrices=False)
        pieces[site] = (u, s, v, int((s > s[0] * 1e-7).sum()) if s[0] > 0 else 1)
    rank = max(piece[3] for piece in pieces.values())
    factors = {}
    for site, (u, s, v, _) in pieces.items():
        a, b = torch.zeros(rank, v.shape[1]), torch.zeros(u.shape[0], rank)
        kept = min(rank, len(s))
        a[:kept], b[:, :kept] = v[:kept].float(), (u[:, :kept] * s[:kept]).float()
        factors[site] = (a, b)
    return factors, rank
