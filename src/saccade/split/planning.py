"""A federation's costs, cut by cut, before anything runs."""

from __future__ import annotations

from typing import Any

from saccade.split.federation import Federation


def plan_rows(federation: Federation) -> list[dict[str, Any]]:
    """A row for every kind of machine and every cut: memory, seconds and bytes (both ways, by kind) of one client and round.

    Seconds take the other clients to be cut as the policy would begin.
    """
    costs, recipe = federation.costs, federation.recipe
    blocks = costs.server_blocks(federation.cuts.values())
    most = federation.depth - (recipe.u_tail or 0) - 1
    rows = []
    for machine, profile in enumerate(recipe.clients.profiles):
        for cut in range(1, most + 1):
            by_kind = dict.fromkeys(("activations", "gradients", "labels", "adapters", "control"), 0)
            for key, count in costs.step_bytes().items():
                by_kind[key.partition("/")[2]] += recipe.steps * count
            by_kind["adapters"] = 2 * costs.adapter_bytes(cut)
            rows.append(
                {
                    "machine": machine,
                    "cut": cut,
                    "memory_bytes": costs.client_memory(cut),
                    "fits": cut <= costs.most_cut(profile),
                    "seconds": costs.round_seconds(cut, profile, blocks),
                    "bytes": by_kind,
                }
            )
    return rows
