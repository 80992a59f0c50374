"""A model in parts is the model: outputs and gradients bit for bit, for every family, cut and layout."""

import pytest
import torch
from split_models import SIZES, tiny

from saccade.split import LoraPlan, split_causal_lm
from saccade.split.lora import Adapted, fresh_adapters
from saccade.split.parts import token_loss


def layouts(depth):
    return [(cut, tail) for cut in range(1, depth) for tail in (None, *range(depth - cut))]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("family", SIZES)
def test_outputs_are_the_whole_models(family, padded):
    model = tiny(family)
    ids, mask = torch.randint(3, 64, (3, 20), generator=torch.Generator().manual_seed(0)), None
    if padded:
        mask = torch.ones(3, 20, dtype=torch.bool)
        mask[1, 12:] = False
    want = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    assert want.std() > 0.1
    for cut, tail in layouts(5):
        assert torch.equal(split_causal_lm(model, cut, tail).forward(ids, mask), want), (cut, tail)


@pytest.mark.parametrize("family", SIZES)
def test_gradients_cross_the_cut_unchanged(family):
    base, plan = tiny(family), LoraPlan(r=3, alpha=6)
    adapted = Adapted(base, plan, [3] * 5)
    adapted.load({site: (a, torch.randn_like(b)) for site, (a, b) in fresh_adapters(adapted.family, plan, 0).items()})
    ids = torch.randint(3, 64, (2, 17), generator=torch.Generator().manual_seed(1))
    x, labels = ids[:, :-1], ids[:, 1:]

    def gradients():
        found = {site: (a.grad.clone(), b.grad.clone()) for site, (a, b) in adapted.factors.items()}
        adapted.model.zero_grad()
        return found

    loss = token_loss(adapted.model(input_ids=x, use_cache=False).logits, labels)[0]
    loss.backward()
    want = gradients()
    assert all(bool(a.abs().sum()) and bool(b.abs().sum()) for a, b in want.values())
    for cut, tail in layouts(5):
        parts = split_causal_lm(adapted.model, cut, tail)
        steps, h = [], None
        for part in parts:
            if part is not None:
                given = x if h is None else h.detach().requires_grad_()
                h = part(given)
                steps.append((given, h))
        split_loss = token_loss(h, labels)[0]
        assert torch.equal(split_loss, loss)
        split_loss.backward()
        for (_, out), (given, _) in zip(steps[-2::-1], steps[:0:-1], strict=True):
            out.backward(given.grad)
        got = gradients()
        assert all(torch.equal(got[s][i], want[s][i]) for s in want for i in (0, 1)), (cut, tail)


def test_what_cannot_be_split_is_refused():
    model = tiny("gpt2")
    for cut, tail in [(0, None), (5, None), (4, 1), (2, -1)]:
        with pytest.raises(ValueError, match=r"cut of|tail has"):
            split_causal_lm(model, cut, tail)
    with pytest.raises(ValueError, match="'Linear' cannot be split; known: llama, gpt2"):
        split_causal_lm(torch.nn.Linear(2, 2), 1)


@pytest.mark.parametrize("family", SIZES)
def test_ranks_follow_the_plan(family):
    base = tiny(family)
    ranks = LoraPlan(r=4, r_cut=2).ranks(5, 2)
    assert ranks == (4, 2, 2, 4, 4)
    assert LoraPlan(r=4, r_cut=2).ranks(5, 1, 2) == (2, 2, 2, 2, 4)
    adapted = Adapted(base, LoraPlan(r=4, r_cut=2), ranks)
    for site, (a, b) in adapted.factors.items():
        assert a.shape[0] == b.shape[1] == ranks[int(site[0])]
    assert not any(parameter.requires_grad for parameter in base.parameters())
    own = {p.data_ptr() for p in base.parameters()}
    frozen = [p for p in adapted.model.parameters() if not p.requires_grad]
    assert {p.data_ptr() for p in frozen} == own  # one copy of the weights, however many clients


def test_names_that_end_alike_are_not_adapted_too():
    """GPT-2 has a c_proj in the attention and one in the MLP."""
    adapted = Adapted(tiny("gpt2"), LoraPlan(r=2, targets=("attn.c_proj",)), [2] * 5)
    assert not hasattr(adapted.model.transformer.h[0].mlp.c_proj, "lora_A")
    with pytest.raises(ValueError, match="no LoRA target 'c_proj'.*attn.c_proj"):
        Adapted(tiny("gpt2"), LoraPlan(targets=("c_proj",)), [8] * 5)


def test_bad_plans_are_refused():
    for wrong in ({"r": 0}, {"r": 4, "r_cut": 5}, {"r_cut": 0}, {"alpha": 0.0}):
        with pytest.raises(ValueError, match="ranks are|alpha is"):
            LoraPlan(**wrong)
    adapted = Adapted(tiny("opt"), LoraPlan(r=2), [2] * 5)
    with pytest.raises(ValueError, match="no adapter site '9.x'"):
        adapted.load({"9.x": (torch.zeros(2, 2), torch.zeros(2, 2))})
    with pytest.raises(ValueError, match=r"0.self_attn.q_proj: A is \[3, 16\] where \[2, 16\]"):
        adapted.load({"0.self_attn.q_proj": (torch.zeros(3, 16), torch.zeros(16, 2))})
