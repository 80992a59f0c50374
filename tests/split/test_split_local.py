"""The federation in one process: what must be the same is the same bit for bit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from split_models import tiny

from saccade.split.aggregate import AGGREGATORS
from saccade.split.federation import Federation
from saccade.split.local import LocalEngine
from saccade.split.lora import Adapted, block_of
from saccade.split.recipe import parse_recipe
from saccade.split.terms import Terms
from saccade.split.text import Batches, padded_blocks, stream_blocks
from saccade.split.world import evaluate

BASE = {
    "rounds": 2, "steps": 3, "aggregator": "flexlora", "lora": {"r": 4, "alpha": 8.0}, "clients": {"count": 3},
    "data": {"length": 8, "batch": 2}, "codec": {"activations": "fp32", "gradients": "fp32"}, "optimizer": {"lr": 1e-2},
}  # fmt: skip
CUTS = {"a": 1, "b": 3, "c": 4}


def recipe(**changes):
    raw = {key: dict(value) if isinstance(value, dict) else value for key, value in BASE.items()}
    for key, value in changes.items():
        group, _, name = key.partition("__")
        if name:
            raw.setdefault(group, {})[name] = value
        else:
            raw[group] = value
    return parse_recipe(raw, "test")


def texts(count=3, padded=False, sizes=(60, 90, 120, 70)):
    rng = np.random.default_rng(5)
    make = padded_blocks if padded else stream_blocks
    names = "abcd"[:count]
    samples = {
        n: [list(rng.integers(3, 64, rng.integers(3, 14))) for _ in range(sizes[i] // 6)] for i, n in enumerate(names)
    }
    return {n: Batches(make(samples[n], 8), 2, (0, i)) for i, n in enumerate(names)}


def federation(r, clients="abc", cuts=None, family="llama"):
    made = Federation(r, tiny(family), list(clients))
    if cuts:
        made.cuts = dict(cuts)
    return made


def run(r, cuts=None, absent=None, rounds=None, clients=None, family="llama", save=None):
    clients = clients or texts(padded=not r.data.pack)
    made = federation(r, clients, cuts, family)
    LocalEngine(made, clients, absent=absent or {}).run(rounds or r.rounds, save)
    return made


def same(one, two):
    return all(torch.equal(x, y) for s in one.adapters for x, y in zip(one.adapters[s], two.adapters[s], strict=True))


def moved(made):
    fresh = federation(made.recipe)
    return not same(made, fresh) or bool(made.weights)


@pytest.mark.parametrize("aggregator", list(AGGREGATORS))
def test_v1_is_fedavg_wherever_the_cuts_are(aggregator):
    """Cuts change seconds and bytes, never a weight."""
    fedavg = run(recipe(server="none", aggregator=aggregator))
    assert moved(fedavg)
    for cuts in (CUTS, dict.fromkeys("abc", 2)):
        split = run(recipe(aggregator=aggregator), cuts)
        assert same(split, fedavg)
        assert all(torch.equal(split.weights[s], fedavg.weights[s]) for s in fedavg.weights)
        assert split.history[-1]["train_loss"] == fedavg.history[-1]["train_loss"]
        assert split.ledger.total(kind="activations") > fedavg.ledger.total(kind="activations") == 0


@pytest.mark.parametrize(
    "changes", [{"layout": "u-shape"}, {"data__pack": False}, {"layout": "u-shape", "data__pack": False}]
)
def test_layouts_and_padding_change_no_weight(changes):
    cuts = {"a": 1, "b": 3, "c": 2}
    assert same(
        run(recipe(**changes), cuts), run(recipe(server="none", **{k: v for k, v in changes.items() if k != "layout"}))
    )


@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt_neo"])
def test_every_family_trains(family):
    assert same(run(recipe(), CUTS, family=family), run(recipe(server="none"), family=family))


def test_one_client_is_central_training():
    clients = texts(1)
    r = recipe(server="v2", aggregator="fedit", rounds=1, clients__count=1)
    split = run(r, {"a": 2}, clients=clients)
    central = Adapted(tiny("llama"), r.lora, [4] * 5)
    central.load(federation(r, "a").adapters)
    optimizer = torch.optim.AdamW([p for pair in central.factors.values() for p in pair], lr=1e-2, weight_decay=0.0)
    for step in range(3):
        x, labels = clients["a"].at(step)
        logits = central.model(input_ids=x, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        for block in range(5):
            own = [p for s, pair in central.factors.items() if block_of(s) == block for p in pair]
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in own]))
            if norm > 1:
                for p in own:
                    p.grad.mul_(1 / norm)
        optimizer.step()
        optimizer.zero_grad()
    trained = central.read()
    assert all(torch.equal(split.adapters[s][i], trained[s][i]) for s in trained for i in (0, 1))


def test_v2_depends_on_the_cut_and_v1_does_not():
    early, late = (run(recipe(server="v2"), dict.fromkeys("abc", cut)) for cut in (1, 4))
    assert not same(early, late)
    assert same(run(recipe(server="v2"), CUTS), run(recipe(server="v2"), CUTS))


def test_a_move_of_the_cut_changes_no_logit():
    """Reduced ranks at the cut are a loss to clients, never to the global model."""
    made = run(recipe(lora__r_cut=2), CUTS)
    blocks = next(iter(texts().values())).inputs, next(iter(texts().values())).labels
    before = evaluate(made.adapted(), blocks)
    made.cuts = dict.fromkeys("abc", 2)
    assert evaluate(made.adapted(), blocks) == before
    assert made.terms("a", list("abc")).ranks == (4, 2, 2, 4, 4)


def test_who_sits_a_round_out_leaves_no_trace():
    """V1: a round without one client is the mean of the others; a client that comes back goes on."""
    r = recipe(rounds=3)
    whole, without = run(r, CUTS), run(r, CUTS, {1: {"b"}})
    assert not same(whole, without)
    assert [row["finished"] for row in without.history] == [3, 2, 3]
    assert same(without, run(r, {"a": 2, "b": 2, "c": 2}, {1: {"b"}}))  # and cuts still change nothing


@pytest.mark.parametrize(
    "changes", [{}, {"server": "v2"}, {"aggregator": "flora"}, {"cuts": "random"}, {"faults__dropout": 0.4}]
)
def test_a_resumed_run_is_the_uninterrupted_one(changes, tmp_path):
    r = recipe(rounds=4, codec={"activations": "int8", "gradients": "int8", "feedback": True}, **changes)
    whole = run(r)
    state = tmp_path / "state.safetensors"
    run(r, rounds=2, save=state)
    again = federation(r)
    again.load(state)
    assert again.round == 2
    LocalEngine(again, texts()).run(4)
    assert same(again, whole)
    assert again.history == whole.history
    assert again.ledger.counts == whole.ledger.counts
    assert all(torch.equal(again.weights[s], whole.weights[s]) for s in whole.weights)


def test_states_of_other_runs_are_refused(tmp_path):
    state = tmp_path / "state.safetensors"
    run(recipe(), save=state)
    with pytest.raises(ValueError, match="another run .its recipe differ"):
        federation(recipe(seed=1)).load(state)
    with pytest.raises(ValueError, match="another run .its clients differ"):
        federation(recipe(), "ab").load(state)
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(ValueError, match="not readable"):
        federation(recipe()).load(state)


def test_weights_of_a_mean_sum_to_one(monkeypatch):
    """For every block, whatever the cuts and whoever trains the server's adapters."""
    rng = np.random.default_rng(0)
    seen = []
    original = AGGREGATORS["flexlora"].merge

    def watched(self, shares, old, alpha):
        seen.append(sum(share.weight for share in shares))
        return original(self, shares, old, alpha)

    monkeypatch.setattr(AGGREGATORS["flexlora"], "merge", watched)
    for _ in range(4):
        cuts = {name: int(rng.integers(1, 5)) for name in "abc"}
        for server in ("v1", "v2"):
            run(recipe(server=server, rounds=1, steps=1), cuts)
    assert len(seen) == 4 * 2 * 20
    assert seen == pytest.approx([1.0] * len(seen))


def test_the_bill_of_a_step():
    """Payload: N L D numbers, whatever cut and rank; the rank at the cut moves the line of the adapters alone."""
    made = {}
    for cut, r_cut in ((1, 4), (3, 4), (3, 2)):
        made[cut, r_cut] = run(recipe(rounds=1, lora__r_cut=r_cut), dict.fromkeys("abc", cut)).ledger.by_kind()
    for bill in made.values():
        assert bill["activations"] == bill["gradients"] == 3 * 3 * 2 * 8 * 16 * 4
        assert bill["labels"] == 3 * 3 * 2 * 8 * 4
    ins_and_outs = (16 + 16) + 2 * (16 + 8) + (16 + 16)  # q, k and v with half the heads, o
    saved = made[3, 4]["adapters"] - made[3, 2]["adapters"]
    assert saved == 2 * 3 * (4 - 2) * ins_and_outs * 4  # up and down, three clients, one block of theirs at the cut
    assert made[1, 4]["adapters"] == 2 * 3 * 4 * ins_and_outs * 4
    assert made[3, 4]["adapters"] == 3 * made[1, 4]["adapters"]


@pytest.mark.parametrize("layout", ["two-part", "u-shape"])
def test_costs_said_before_are_the_costs_after(layout):
    made = run(
        recipe(rounds=1, layout=layout, codec={"activations": "fp16", "gradients": "int8"}), dict.fromkeys("abc", 2)
    )
    said, bill = made.costs.step_bytes(), made.ledger.counts
    for key in ("up/activations", "up/gradients", "up/labels", "down/activations", "down/gradients"):
        assert bill[key] == 3 * 3 * said.get(key, 0), key
    assert bill["up/adapters"] == bill["down/adapters"] == 3 * made.costs.adapter_bytes(2)


def test_stragglers_deadlines_and_quorum():
    slow = {"seconds_per_token": 1e-2}
    profiles = [{"seconds_per_token": 1e-4, "watts": 5.0}, {**slow, "watts": 5.0}]
    r = recipe(clients={"count": 3, "profiles": profiles}, rounds=1)
    free = run(r, dict.fromkeys("abc", 2)).history[0]
    assert free["seconds"] > 1.9  # 3 steps, 32 token passes, 2 blocks, 10 ms
    assert free["joules"] == pytest.approx(5.0 * 3 * 32 * 2 * (1e-4 + 1e-2 + 1e-4))
    held = run(
        r.model_copy(update={"faults": r.faults.model_copy(update={"deadline_s": 1.4})}), dict.fromkeys("abc", 2)
    )
    assert held.history[0]["tokens"] == 2 * 8 * (3 + 2 + 3)  # two of the slow one's three steps, and they count
    assert held.history[0]["seconds"] == 1.4
    tight = r.faults.model_copy(update={"deadline_s": 0.3, "quorum": 0.9})
    none = run(r.model_copy(update={"faults": tight}), dict.fromkeys("abc", 2))
    assert not none.history[0]["counted"]
    assert same(none, federation(r))
    assert none.round == 1


def test_poisoned_batches_are_dropped_and_then_their_client(monkeypatch):
    """What one client sends is not finite: its batches reach nobody, and the round is the others'."""
    r = recipe(rounds=1, steps=8, faults={"poison": 2})
    clients = texts()
    made = federation(r, clients, CUTS)
    engine = LocalEngine(made, clients)
    real = engine._client

    def decode(self, payload, shape):  # what Codec.decode does with a NaN
        raise ValueError("holds values that are not finite")

    def sick(terms, *others):
        with monkeypatch.context() as patch:
            if terms.client == "b":
                patch.setattr(type(terms.activations), "decode", decode)
            return real(terms, *others)

    monkeypatch.setattr(engine, "_client", sick)
    row = engine.round()
    assert row["finished"] == 2
    assert row["dropped_batches"] == 2  # the third put it out
    assert same(made, run(r, CUTS, {0: {"b"}}))


def test_participation_in_turn_and_at_random():
    r = recipe(clients={"count": 3, "per_round": 1, "choice": "in_turn"}, server="v2", rounds=4)
    made = run(r, CUTS)
    assert [list(row["losses"]) for row in made.history] == [["a"], ["b"], ["c"], ["a"]]
    r = recipe(clients={"count": 3, "per_round": 2}, rounds=6)
    chosen = [tuple(row["losses"]) for row in run(r, CUTS).history]
    assert {len(names) for names in chosen} == {2}
    assert len(set(chosen)) > 1


def test_ranks_of_a_shared_server():
    made = federation(recipe(server="v2", lora__r_cut=2), cuts={"a": 2, "b": 2, "c": 2})
    assert made.server_ranks(list("abc")) == (4, 4, 2, 4, 4)
    made.cuts["c"] = 1
    assert made.server_ranks(list("abc")) == (4, 2, 4, 4, 4)
    assert made.terms("a", list("abc")).ranks == (4, 2, 4, 4, 4)
    run(recipe(server="v2", lora__r_cut=2), {"a": 2, "b": 3, "c": 1})


def test_lossy_codecs_learn_too():
    exact = run(recipe(rounds=3), CUTS)
    for codec in ("fp16", "bf16", "int8", "int4", {"name": "topk", "config": {"share": 0.5}}):
        lossy = run(recipe(rounds=3, codec={"activations": codec, "gradients": codec, "feedback": True}), CUTS)
        gap = abs(lossy.history[-1]["train_loss"] - exact.history[-1]["train_loss"])
        assert 0 < gap < 0.1, codec
        assert lossy.ledger.total(kind="activations") < 0.6 * exact.ledger.total(kind="activations")


def test_terms_survive_json_and_nothing_else_does():
    terms = federation(recipe(layout="u-shape"), cuts=CUTS).terms("b", list("abc"))
    assert Terms.parse(json.loads(json.dumps(terms.plain()))) == terms
    for wrong in (
        {},
        terms.plain() | {"cut": 0},
        terms.plain() | {"ranks": [0]},
        terms.plain() | {"lr": "1"},
        terms.plain() | {"x": 1},
    ):
        with pytest.raises(ValueError, match=r"terms|ranks|sizes"):
            Terms.parse(wrong)
    assert replace(terms, cut=2) != terms
