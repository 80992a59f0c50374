"""How much of a client's text can be read from what it sends: two attacks on one's own cut, codec, clip and noise.

The attacks know the frozen model, as the server does. They are simple ones; those of the literature do better (Chen
et al. 2024 reconstruct text from both directions of the traffic), so what these read is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.split.codecs import Codec
from saccade.split.families import family_of
from saccade.split.parts import split_causal_lm
from saccade.split.privacy import PrivacyFilter

STEPS, ROWS = 400, 1024  # of the probe's training


@dataclass(frozen=True)
class Sent:
    """What a server sees of some text: vectors ``[tokens, D]``, the ids behind them, and where they stand."""

    vectors: Tensor
    ids: Tensor


@torch.no_grad()
def what_is_sent(model: nn.Module, ids: Tensor, cut: int, codec: Codec, privacy: PrivacyFilter, seed: int = 0) -> Sent:
    """The smashed data of ids ``[N, L]`` at a cut, filtered and coded as a client does."""
    front, generator = split_causal_lm(model, cut).front, torch.Generator().manual_seed(seed)
    rows = []
    for row in ids.split(8):
        h = privacy.apply(front(row), generator)
        rows.append(codec.decode(codec.encode(h), h.shape).flatten(0, 1))
    return Sent(torch.cat(rows), ids.flatten())


def linear_probe(known: Sent, vocabulary: int, seed: int = 0) -> nn.Linear:
    """A linear map from what is sent to the token behind it, learnt from text that the attacker has."""
    centre, scale = known.vectors.mean(0), known.vectors.std(0).clamp(min=1e-6)
    probe = nn.Linear(known.vectors.shape[1], vocabulary)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = torch.optim.Adam(probe.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(seed)
    x = (known.vectors - centre) / scale
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / STEPS)
        rows = torch.randint(len(x), (ROWS,), generator=generator)
        loss = F.cross_entropy(probe(x[rows]), known.ids[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():  # the standardising becomes part of it
        probe.weight.div_(scale)
        probe.bias.sub_(probe.weight @ centre)
    return probe


@torch.no_grad()
def read_by_probe(probe: nn.Linear, sent: Sent) -> float:
    """Share of tokens that the probe reads."""
    return float((probe(sent.vectors).argmax(1) == sent.ids).double().mean())


@torch.no_grad()
def read_by_embedding(model: nn.Module, sent: Sent) -> float:
    """Share of tokens whose own embedding is the most alike (cosine) of all: an attack that learns nothing."""
    table: Any = family_of(model).front_modules()[0]
    weight = F.normalize(table.weight.float(), dim=1)
    if weight.shape[1] != sent.vectors.shape[1]:
        return float("nan")  # a model that projects its embedding
    found = torch.cat([(F.normalize(rows, dim=1) @ weight.T).argmax(1) for rows in sent.vectors.split(2048)])
    return float((found == sent.ids).double().mean())


def audit_inversion(
    model: nn.Module,
    public: Tensor,
    private: Tensor,
    cuts: list[int],
    codec: Codec,
    privacy: PrivacyFilter,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """For each cut: shares of the private text's tokens that a probe trained on public text reads, and that their embeddings
    give away; and the model's loss on what is sent. public, private: ids ``[N, L]``."""
    config: Any = model.config
    rows = []
    for cut in cuts:
        known = what_is_sent(model, public, cut, codec, privacy, seed)
        sent = what_is_sent(model, private, cut, codec, privacy, seed + 1)
        rows.append(
            {
                "cut": cut,
                "probe": read_by_probe(linear_probe(known, int(config.vocab_size), seed), sent),
                "embedding": read_by_embedding(model, sent),
                "loss": _loss(model, private, cut, sent),
            }
        )
    return rows


@torch.no_grad()
def _loss(model: nn.Module, ids: Tensor, cut: int, sent: Sent) -> float:
    """Of the untrained model on what is sent, nats a token: what the protection costs."""
    back, h = split_causal_lm(model, cut).back, sent.vectors.view(*ids.shape, -1)
    total = 0.0
    for at in range(0, len(ids), 8):
        logits = back(h[at : at + 8])[:, :-1]
        total += float(F.cross_entropy(logits.flatten(0, 1), ids[at : at + 8, 1:].flatten(), reduction="sum"))
    return total / ids[:, 1:].numel()
