"""The messages that begin and end a client's round, alike in every engine, so that their bytes are too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.split.client_side import Tally
from saccade.split.lora import Adapters
from saccade.split.terms import Terms, pack_adapters, unpack_adapters
from saccade.split.wire import Blob, Kind, Message, Refused, Role


def round_message(terms: Terms, adapters: Adapters, weights: Mapping[str, Tensor]) -> Message:
    """Down: the terms, the adapters of the client's blocks (A too: a client keeps nothing from round to round), and frozen
    weights that were changed."""
    changed = [
        Blob(Role.ADAPTERS, tuple(w.shape), w.contiguous().numpy().astype("<f4").tobytes()) for w in weights.values()
    ]
    return Message(
        Kind.ROUND, 0, {"terms": terms.plain(), "changed": list(weights)}, [*pack_adapters(adapters), *changed]
    )


def read_round(message: Message, like: Mapping[str, tuple[int, int]]) -> tuple[Terms, Adapters, dict[str, Tensor]]:
    """``(terms, adapters, changed weights)``. like: ``(out, in)`` of every site of the client's model. Raises
    Refused."""
    try:
        terms = Terms.parse(message.meta.get("terms") or {})
        changed = [str(site) for site in message.meta.get("changed") or []]
    except (ValueError, TypeError) as error:
        raise Refused("MALFORMED", str(error)) from None
    sites = [site for site in like if int(site.partition(".")[0]) in terms.client_blocks]
    if any(site not in like for site in changed) or len(terms.ranks) != len({s.partition(".")[0] for s in like}):
        raise Refused("MODEL_MISMATCH", "the round is one of another model")
    shapes = {
        site: (
            torch.empty(terms.ranks[int(site.partition(".")[0])], like[site][1]),
            torch.empty(like[site][0], terms.ranks[int(site.partition(".")[0])]),
        )
        for site in sites
    }
    count = 2 * len(sites)
    adapters = unpack_adapters(message.blobs[:count], shapes)
    weights = {}
    if len(message.blobs) != count + len(changed):
        raise Refused("BAD_SHAPE", "the round lacks changed weights")
    for site, blob in zip(changed, message.blobs[count:], strict=True):
        if blob.shape != like[site] or len(blob.payload) != 4 * like[site][0] * like[site][1]:
            raise Refused("BAD_SHAPE", f"{site}: a weight of {list(blob.shape)} where {list(like[site])} is due")
        weights[site] = torch.from_numpy(np.frombuffer(blob.payload, "<f4").astype(np.float32).reshape(blob.shape))
    return terms, adapters, weights


def update_message(tally: Tally, adapters: Adapters, trains_a: bool) -> Message:
    """Up: what a client's round came to."""
    return Message(Kind.UPDATE, 0, dict(vars(tally)), pack_adapters(adapters, trains_a))


def read_update(message: Message, terms: Terms, handed: Adapters) -> tuple[Tally, Adapters]:
    """``(tally, adapters)``, checked against what was handed out. Raises Refused."""
    meta: dict[str, Any] = message.meta
    most = terms.steps * terms.batch * terms.length
    counts = [meta.get(key) for key in ("steps", "tokens", "right", "dropped")]
    if set(meta) != set(vars(Tally())) or not all(type(c) is int and 0 <= c <= most for c in counts):
        raise Refused("MALFORMED", "an update whose counts cannot be")
    steps, tokens, right, dropped = (int(c) for c in counts)  # type: ignore[arg-type]
    loss = meta["loss_sum"]
    if not isinstance(loss, int | float) or not 0 <= loss < 1e12 or right > tokens or steps > terms.steps:
        raise Refused("MALFORMED", "an update whose sums cannot be")
    return Tally(steps, tokens, right, float(loss), dropped), unpack_adapters(message.blobs, handed, terms.trains_a)
