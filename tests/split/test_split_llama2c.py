"""stories260K as Transformers has it is the network of llama2.c."""

import struct

import pytest
import split_models  # noqa: F401  (skips without the extra)
import torch

from saccade.split.llama2c import Llama2cTokenizer, load_llama2c, read_llama2c
from saccade.split.text import read_samples, stream_blocks

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One "
    "day, she saw a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, "
    '"Lily, let\'s go to the park." Lily was sad and didn\'t know what to do. She said, "I want to play '
    "with your ball, but I can't find it.\"\nLily was sad and didn't know what to do. She said, \"I'm "
    "sorry, Lily. I didn't know what to do.\"\nLily didn't want to help her mom, so she said, \"I'm sorry, "
    "mom. I didn't know what to do.\" Her mom said, \"Don't worry, Lily. We can help you."
)


def reference(path, ids):
    """Logits by the equations of llama2.c, straight from the file: neighbouring pairs turn, key heads are shared."""
    data = path.read_bytes()
    dim, hidden, layers, heads, kv, vocab, length = struct.unpack_from("<7i", data)
    flat, at = torch.frombuffer(bytearray(data[28:]), dtype=torch.float32).double(), 0

    def take(*shape):
        nonlocal at
        count = torch.Size(shape).numel()
        at += count
        return flat[at - count : at].view(shape)

    size = dim // heads
    embed, an = take(vocab, dim), take(layers, dim)
    wq, wk, wv, wo = (
        take(layers, dim, dim),
        take(layers, kv * size, dim),
        take(layers, kv * size, dim),
        take(layers, dim, dim),
    )
    fn, w1, w2, w3, last = (
        take(layers, dim),
        take(layers, hidden, dim),
        take(layers, dim, hidden),
        take(layers, hidden, dim),
        take(dim),
    )
    cos, sin = take(length, size // 2), take(length, size // 2)

    def norm(x, w):
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w

    def turn(x):
        n = x.shape[0]
        even, odd = x[..., 0::2], x[..., 1::2]
        c, s = cos[:n, None], sin[:n, None]
        return torch.stack([even * c - odd * s, even * s + odd * c], -1).flatten(-2)

    x = embed[ids]
    n = len(ids)
    hide = torch.full((n, n), -torch.inf, dtype=torch.float64).triu(1)
    for i in range(layers):
        h = norm(x, an[i])
        q, k = turn((h @ wq[i].T).view(n, heads, size)), turn((h @ wk[i].T).view(n, kv, size))
        k = k.repeat_interleave(heads // kv, 1)
        v = (h @ wv[i].T).view(n, kv, size).repeat_interleave(heads // kv, 1)
        weights = (torch.einsum("qhd,khd->hqk", q, k) / size**0.5 + hide).softmax(-1)
        x = x + torch.einsum("hqk,khd->qhd", weights, v).reshape(n, dim) @ wo[i].T
        h = norm(x, fn[i])
        x = x + (torch.nn.functional.silu(h @ w1[i].T) * (h @ w3[i].T)) @ w2[i].T
    return norm(x, last) @ embed.T


def test_logits_and_greedy_text(text_data):
    model = load_llama2c(text_data / "stories260K" / "stories260K.bin")
    tokenizer = Llama2cTokenizer(text_data / "stories260K" / "tok512.bin")
    ids = tokenizer.encode(STORY[:300], bos=True)
    with torch.no_grad():
        got = model(input_ids=torch.tensor([ids])).logits[0]
    assert (got - reference(text_data / "stories260K" / "stories260K.bin", torch.tensor(ids))).abs().max() < 1e-4
    told = model.generate(torch.tensor([[1]]), max_new_tokens=256, do_sample=False)
    assert tokenizer.decode(told[0].tolist()).strip() == STORY  # the sample that llama2.c publishes


def test_words_can_be_merged_by_themselves(text_data):
    fast, whole = (Llama2cTokenizer(text_data / "stories260K" / "tok512.bin") for _ in range(2))
    whole._by_word = False
    for text in read_samples(text_data / "wikitext-2" / "valid.txt")[:8]:
        assert fast.encode(text) == whole.encode(text)
        assert fast.decode([1, *fast.encode(text)]) == text


def test_damaged_files_are_refused(tmp_path):
    for data, words in [
        (b"abc", "hold no llama2.c header"),
        (struct.pack("<7i", 64, 172, 5, 8, 4, -512, 512), "tied head"),
        (struct.pack("<7i", 64, 172, 5, 8, 4, 512, 512), "asks for"),
    ]:
        (tmp_path / "model.bin").write_bytes(data)
        with pytest.raises(ValueError, match=words):
            read_llama2c(tmp_path / "model.bin")
    (tmp_path / "tok.bin").write_bytes(struct.pack("<ifi", 3, 0.0, 1000))
    with pytest.raises(ValueError, match="token 0 has 1000 bytes"):
        Llama2cTokenizer(tmp_path / "tok.bin")
    with pytest.raises(ValueError, match="3 tokens fill no block of 8"):
        stream_blocks([[1, 2], [3]], 8)
