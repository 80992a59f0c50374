"""Checkpoints and tokenizers of llama2.c (Karpathy 2023), such as ``stories260K``, as Transformers has them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.optional import need

HEADER = struct.Struct("<7i")  # dim, hidden, layers, heads, kv heads, vocabulary (negative: own head), length
LARGEST = 1 << 16  # of any dimension in a header


def read_llama2c(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``(fields of a LlamaConfig, state dict of a LlamaForCausalLM)`` from a version 0 file with a tied head.

    llama2.c turns neighbouring pairs of a head's features, Transformers its two halves: rows of q and k are permuted.
    Raises ValueError for a file of any other size than its header asks for.
    """
    data = Path(path).read_bytes()
    if len(data) < HEADER.size:
        raise ValueError(f"{path}: {len(data)} bytes hold no llama2.c header")
    dim, hidden, layers, heads, kv_heads, vocab, length = HEADER.unpack_from(data)
    sizes = (dim, hidden, layers, heads, kv_heads, vocab, length)
    if not all(0 < size <= LARGEST for size in sizes) or dim % heads or heads % kv_heads or dim // heads % 2:
        raise ValueError(f"{path}: not a llama2.c checkpoint with a tied head (its header says {sizes})")
    head, kv = dim // heads, dim // heads * kv_heads
    shapes = [
        ("embed", (vocab, dim)), ("input_layernorm", (layers, dim)), ("self_attn.q_proj", (layers, dim, dim)),
        ("self_attn.k_proj", (layers, kv, dim)), ("self_attn.v_proj", (layers, kv, dim)),
        ("self_attn.o_proj", (layers, dim, dim)), ("post_attention_layernorm", (layers, dim)),
        ("mlp.gate_proj", (layers, hidden, dim)), ("mlp.down_proj", (layers, dim, hidden)),
        ("mlp.up_proj", (layers, hidden, dim)), ("norm", (dim,)), ("cos", (length, head // 2)), ("sin", (length, head // 2)),
    ]  # fmt: skip
    total = HEADER.size + 4 * sum(int(np.prod(shape)) for _, shape in shapes)
    if len(data) != total:
        raise ValueError(f"{path}: {len(data)} bytes, but its header asks for {total}")
    flat, at, parts = np.frombuffer(data, "<f4", offset=HEADER.size), 0, {}
    for name, shape in shapes:
        count = int(np.prod(shape))
        parts[name] = torch.from_numpy(flat[at : at + count].reshape(shape).copy())
        at += count
    state = {
        "model.embed_tokens.weight": parts["embed"],
        "model.norm.weight": parts["norm"],
        "lm_head.weight": parts["embed"],
    }
    for name, _ in shapes[1:10]:
        for layer in range(layers):
            value = parts[name][layer]
            if name.endswith(("q_proj", "k_proj")):
                value = value.view(-1, head // 2, 2, dim).transpose(1, 2).reshape(-1, dim).contiguous()
            state[f"model.layers.{layer}.{name}.weight"] = value
    config = {
        "vocab_size": vocab, "hidden_size": dim, "intermediate_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": length,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    return config, state


def load_llama2c(path: str | Path) -> Any:
    """A ``LlamaForCausalLM`` from a llama2.c file, in eval mode."""
    config, state = read_llama2c(path)
    transformers = need("transformers", "split")
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    model.load_state_dict(state)
    return model.eval()


class Llama2cTokenizer:
    """A ``tok*.bin`` of llama2.c: byte fallback, and greedy merges by score, as its ``run.c`` does them."""

    bos = 1

    def __init__(self, path: str | Path) -> None:
        data, at = Path(path).read_bytes(), 4
        self.pieces: list[bytes] = []
        self.scores: list[float] = []
        while at < len(data):
            if at + 8 > len(data):
                raise ValueError(f"{path}: ends inside a token; not a llama2.c tokenizer")
            score, length = struct.unpack_from("<fi", data, at)
            if not 0 <= length <= len(data) - at - 8:
                raise ValueError(f"{path}: token {len(self.pieces)} has {length} bytes; not a llama2.c tokenizer")
            self.pieces.append(data[at + 8 : at + 8 + length])
            self.scores.append(score)
            at += 8 + length
        if len(self.pieces) < 259:
            raise ValueError(f"{path}: {len(self.pieces)} tokens; the 256 bytes alone need 259")
        self.ids = {piece: index for index, piece in reversed(list(enumerate(self.pieces)))}
        # a merge never crosses a space if no piece has one inside, so that words can be merged by themselves
        self._by_word = not any(b" " in piece[1:] for piece in self.pieces[259:])
        self._known: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str, bos: bool = False) -> list[int]:
        """Token ids, with the space before the text that sentencepiece adds."""
        ids = [self.bos] if bos else []
        if not text:
            return ids
        text = " " + text
        words = [" " + word for word in text[1:].split(" ")] if self._by_word else [text]
        for word in words:
            if word not in self._known:
                self._known[word] = self._merged(word)
            ids += self._known[word]
        return ids

    def _merged(self, text: str) -> list[int]:
        ids: list[int] = []
        for character in text:
            piece = character.encode("utf-8", "surrogatepass")
            ids += [self.ids[piece]] if piece in self.ids else [byte + 3 for byte in piece]
        while True:
            best, where = -1e10, -1
            for at in range(len(ids) - 1):
                found = self.ids.get(self.pieces[ids[at]] + self.pieces[ids[at + 1]])
                if found is not None and self.scores[found] > best:
                    best, where = self.scores[found], at
            if where < 0:
                return ids
            ids[where : where + 2] = [self.ids[self.pieces[ids[where]] + self.pieces[ids[where + 1]]]]

    def decode(self, ids: list[int]) -> str:
        out, previous = b"", None
        for token in ids:
            piece = self.pieces[token]
            if previous == self.bos and piece.startswith(b" "):
                piece = piece[1:]
            if len(piece) == 6 and piece.startswith(b"<0x"):
                piece = bytes([int(piece[3:5], 16)])
            if token not in (1, 2):
                out += piece
            previous = token
        return out.decode("utf-8", "replace")
