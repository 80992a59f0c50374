"""Where models are cut: what fits, what is fast, and what moves."""

import copy

import pytest
import torch
from split_models import tiny
from test_split_local import recipe, run, texts

from saccade.split.cuts import CUTS, AdaptiveCut, PaperCut, Score
from saccade.split.federation import Federation
from saccade.split.local import LocalEngine

SPREAD = [{"seconds_per_token": s * 1e-5} for s in (1, 2, 4)]


def costs_and_profiles(**changes):
    made = Federation(recipe(**changes), tiny("llama"), ["a", "b", "c"])
    return made.costs, made.profiles


def test_memory_and_speed_say_where_to_begin():
    costs, profiles = costs_and_profiles(clients={"count": 3, "profiles": SPREAD})
    cuts = CUTS["resource"].start(costs, profiles, 0)
    assert cuts["c"] == 1  # the slowest holds the floor
    assert cuts["a"] > cuts["b"] >= 1  # who is faster takes what makes no round longer
    blocks = costs.server_blocks(dict.fromkeys("abc", 1).values())
    slowest = max(costs.round_seconds(1, p, blocks) for p in profiles.values())
    assert all(costs.round_seconds(cuts[n], profiles[n], blocks) <= slowest for n in "abc")
    small = {n: p.model_copy(update={"memory_bytes": costs.client_memory(2)}) for n, p in profiles.items()}
    assert CUTS["fixed"].start(costs, small, 0) == {"a": 2, "b": 2, "c": 2}
    assert max(CUTS["resource"].start(costs, small, 0).values()) == 2
    none = {n: p.model_copy(update={"memory_bytes": 100}) for n, p in profiles.items()}
    for policy in CUTS.values():
        with pytest.raises(ValueError, match="a: a cut of 1 needs .* bytes, and it has 100"):
            policy.start(costs, none, 0)


def test_what_a_block_keeps_is_what_autograd_keeps():
    """The estimate, made where nothing is computed, against the tensors of a real pass."""
    costs, _ = costs_and_profiles()
    made = Federation(recipe(), tiny("llama"), ["a"])
    block, h = copy.deepcopy(made.family.blocks[0]), torch.randn(2, 8, 16, requires_grad=True)
    positions = torch.arange(8).unsqueeze(0)
    context, kept = made.family.context(h, None, positions), {}
    own = {p.data_ptr() for p in block.parameters()}

    def pack(x):
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = made.family.run(block, h, context)
    assert out.requires_grad
    assert 0.5 * sum(kept.values()) < costs.shape.saved_bytes < 2 * sum(kept.values())


def test_adaptive_moves_after_patience_and_within_the_budget():
    costs, profiles = costs_and_profiles(clients={"count": 3, "profiles": [{"seconds_per_token": 1e-5}]})
    policy, streaks = AdaptiveCut(patience=2), {}
    cuts = {"a": 2, "b": 2, "c": 2}
    worse = {"a": Score(4.0, 0.1), "b": Score(5.0, 0.1), "c": Score(4.5, 0.1)}
    first = policy.move(cuts, worse, streaks, 0, costs, profiles, 0)
    assert first == cuts
    assert policy.move(cuts, worse, streaks, 1, costs, profiles, 0)["b"] == 1
    assert streaks["b"] == 0  # and begins to count anew
    turned, streaks = AdaptiveCut(patience=1, direction=-1), {}
    cut = turned.move({"a": 1, "b": 1, "c": 1}, worse, streaks, 0, costs, profiles, 0)
    assert cut["a"] == 1  # at the floor already
    even = {n: Score(4.0, 0.1) for n in "abc"}
    assert AdaptiveCut(patience=1).move(cuts, even, {}, 0, costs, profiles, 0) == cuts
    for wrong in ({"direction": 2}, {"patience": 0}):
        with pytest.raises(ValueError, match="direction is 1 or -1"):
            AdaptiveCut(**wrong)


def test_the_papers_words():
    costs, profiles = costs_and_profiles()
    scores = {"a": Score(4, 0.12), "b": Score(4, 0.10), "c": Score(4, 0.08)}
    assert PaperCut(2).move(dict.fromkeys("abc", 2), scores, {}, 0, costs, profiles, 0) == {"a": 3, "b": 2, "c": 1}
    assert PaperCut(2, 0.1).move(dict.fromkeys("abc", 2), scores, {}, 0, costs, profiles, 0) == dict.fromkeys("abc", 2)


def test_random_cuts_are_drawn_from_the_round():
    costs, profiles = costs_and_profiles()
    draws = [CUTS["random"].move({}, {}, {}, n, costs, profiles, 0) for n in range(20)]
    assert draws == [CUTS["random"].move({}, {}, {}, n, costs, profiles, 0) for n in range(20)]
    assert {cut for draw in draws for cut in draw.values()} == {1, 2, 3, 4}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_adaptive_is_faster_than_fixed_at_the_same_loss(seed):
    """A fourfold spread of speeds, the cut of the paper: less simulated time, and not a bit of difference in what is
    learnt."""
    clients = {"count": 3, "profiles": SPREAD}
    made = {}
    for name in ("fixed", "adaptive"):
        r = recipe(rounds=3, clients=clients, cuts=name, seed=seed)
        federation = Federation(r, tiny("llama"), ["a", "b", "c"])
        LocalEngine(federation, texts()).run(3)
        made[name] = federation
    assert made["adaptive"].clock_s < 0.9 * made["fixed"].clock_s
    assert all(
        torch.equal(x, y)
        for s in made["fixed"].adapters
        for x, y in zip(made["fixed"].adapters[s], made["adaptive"].adapters[s], strict=True)
    )


def test_a_plan_that_moves_has_a_new_number():
    made = run(recipe(rounds=4, cuts="random"))
    assert made.epoch == 4
    assert run(recipe(rounds=4)).epoch == 0
