"""The language models that a recipe can name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saccade.optional import need
from saccade.split.llama2c import load_llama2c
from saccade.split.text import find, tokenizer_of

# The shapes of models that a recipe may name before they are here: `plan` needs no weights, `random:NAME` draws them
SHAPES: dict[str, dict[str, Any]] = {
    "openai-community/gpt2": {
        "model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
    },
    "facebook/opt-125m": {
        "model_type": "opt", "vocab_size": 50272, "max_position_embeddings": 2048, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "ffn_dim": 3072, "word_embed_proj_dim": 768,
    },
    "EleutherAI/gpt-neo-125m": {
        "model_type": "gpt_neo", "vocab_size": 50257, "max_position_embeddings": 2048, "hidden_size": 768, "num_layers": 12,
        "num_heads": 12, "attention_types": [[["global", "local"], 6]], "intermediate_size": 3072, "window_size": 256,
    },
}  # fmt: skip


def config_of(name: str) -> Any:
    """The configuration of a known shape."""
    shape = dict(SHAPES[name])
    return need("transformers", "split").AutoConfig.for_model(shape.pop("model_type"), **shape)


def load_model(name: str, seed: int = 0, shape_only: bool = False) -> nn.Module:
    """A causal language model in eval mode, its weights frozen.

    name: a llama2.c file or a folder with one, a folder of Transformers, a name of its hub, or ``random:NAME`` for
    fresh weights in a known shape, drawn from ``seed``. shape_only: where the name is of a known shape, weights
    without values will do.

    Raises ValueError for whatever cannot be found or read.
    """
    transformers = need("transformers", "split")
    transformers.utils.logging.disable_progress_bar()
    known = name.removeprefix("random:")
    if known in SHAPES and (shape_only or name != known):
        state = torch.random.get_rng_state()
        torch.manual_seed(seed)
        with torch.device("meta" if shape_only else "cpu"):
            model = transformers.AutoModelForCausalLM.from_config(config_of(known))
        torch.random.set_rng_state(state)
        return model.eval().requires_grad_(False)
    if name != known:
        raise ValueError(f"{name}: no known shape; known: {', '.join(SHAPES)}")
    try:
        path = find(name)
    except ValueError:
        if name not in SHAPES:
            raise
        return _from_hub(name)
    checkpoints = [path] if path.is_file() else [p for p in sorted(path.glob("*.bin")) if not p.name.startswith("tok")]
    if not (path / "config.json").is_file() and checkpoints:
        return load_llama2c(checkpoints[0]).requires_grad_(False)
    return _from_folder(path)


def _from_folder(path: Path) -> nn.Module:
    try:
        model = need("transformers", "split").AutoModelForCausalLM.from_pretrained(
            path, local_files_only=True, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: no causal language model ({' '.join(str(error).split())[:160]})") from None
    return model.eval().requires_grad_(False)


def _from_hub(name: str) -> nn.Module:
    try:
        model = need("transformers", "split").AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True
        )
    except OSError as error:
        words = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{name}: neither a folder here nor to be fetched ({words}); random:{name} draws weights"
        ) from None
    return model.eval().requires_grad_(False)


def load_tokenizer(model: str, tokenizer: str | None) -> Callable[[str], list[int]]:
    """What turns text into ids: of the folder ``tokenizer``, else of the model's; GPT-2's byte pairs for random
    weights."""
    if tokenizer is None and model.startswith("random:"):
        tokenizer = "gpt2-bpe"
    if tokenizer is None and model in SHAPES and not Path(model).exists():
        theirs = need("transformers", "split").AutoTokenizer.from_pretrained(model)
        return lambda text: theirs(text, verbose=False)["input_ids"]
    path = find(tokenizer or model)
    return tokenizer_of(path if path.is_dir() else path.parent)


def model_hash(model: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all weights: client and server must hold the same."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()
