"""Small models of every family."""

from __future__ import annotations

import pytest
import torch

for module in ("transformers", "peft"):
    pytest.importorskip(module, reason="the extra `split` is not installed")

SIZES = {  # five blocks each, so that every kind of cut exists
    "gpt2": {"vocab_size": 64, "n_positions": 48, "n_embd": 16, "n_layer": 5, "n_head": 2},
    "gpt_neo": {
        "vocab_size": 64, "max_position_embeddings": 48, "hidden_size": 16, "num_layers": 5, "num_heads": 2, "window_size": 4,
        "attention_types": [[["global", "local"], 2], [["global"], 1]], "intermediate_size": 32,
    },
    "opt": {
        "vocab_size": 64, "max_position_embeddings": 48, "hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2,
        "ffn_dim": 32, "word_embed_proj_dim": 16,
    },
    "llama": {
        "vocab_size": 64, "max_position_embeddings": 48, "hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 32, "tie_word_embeddings": True,
    },
}  # fmt: skip


def tiny(family: str, **changes):
    """A randomly initialised model of the family, in eval mode; weights are spread so that every part matters."""
    from transformers import AutoConfig, AutoModelForCausalLM

    generator = torch.random.get_rng_state()
    torch.manual_seed(7)
    config = AutoConfig.for_model(
        family, **SIZES[family] | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} | changes
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    torch.random.set_rng_state(generator)
    return model
