"""What attentions of spikes are, exactly: which equal which, what they see, and what they keep."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saccade.layers.attention import ATTENTIONS, Site
from saccade.layers.attention.lrf_ssa import LRFBranch
from saccade.measure.memory import _most_alive
from saccade.neurons import NEURONS, DendriticScan

T, SAMPLES, C, HEADS, SIDE = 4, 3, 16, 4, 6
QUICK = replace(NEURONS["lif"], v_th=0.2)
SITE = Site(C, HEADS, QUICK, T)


def spikes(rate=0.3, seed=0, T=T, side=SIDE, channels=C):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(T, SAMPLES, channels, side, side, generator=generator, dtype=torch.float64) < rate).double()


def parts(count=3, **options):
    return [spikes(seed=seed, **options) for seed in range(count)]


def build(name, **changes):
    torch.manual_seed(1)
    return ATTENTIONS[name].changed(name, changes).build(SITE).double().eval()


def test_the_two_orders_of_the_product_are_one_function():
    first, second = build("ssa_qk"), build("ssa_kv")
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.mix(*parts()), second.mix(*parts()))
    y = first(spikes())
    assert torch.equal(second(spikes()), y)
    assert 0 < y.mean() < 1


def test_the_product_by_hand():
    """Token by token, head by head, as the equation has it."""
    q, k, v = (part.flatten(3)[0, 0].view(HEADS, -1, SIDE * SIDE) for part in parts())
    expected = torch.zeros_like(v)
    for h in range(HEADS):
        for n in range(SIDE * SIDE):
            for m in range(SIDE * SIDE):
                expected[h, :, n] += 0.125 * (q[h, :, n] @ k[h, :, m]) * v[h, :, m]
    found = build("ssa_kv").mix(*parts())[0, 0].view(HEADS, -1, SIDE * SIDE)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["sdsa3", "qsdsa"])
def test_relatives_of_the_product(name):
    scale = {"sdsa3": 0.125, "qsdsa": 0.25}[name]
    assert torch.equal(build(name).mix(*parts()), build("ssa_kv", scale=scale).mix(*parts()))


def test_a_mask_of_channels_and_masks_of_tokens():
    q, k, v = parts()
    masked = build("sdsa1").mix(q, k, v)
    fires = build("sdsa1").mask((k * v).sum((-2, -1), keepdim=True))
    assert torch.equal(masked, q * fires)
    assert 0 < fires.mean() < 1 or fires.all()
    around = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
    pooled, wide = build("sdsa1", pool=True), around(around(k.flatten(0, 1)) * around(v.flatten(0, 1))).view_as(k)
    fires = pooled.mask(wide.sum((-2, -1), keepdim=True))
    assert 0 < fires.mean() < 1 or fires.all()
    assert torch.equal(pooled.mix(q, k, v), around((q * fires).flatten(0, 1)).view_as(q))
    token = build("qkta").mix(q, k)
    kept = token.view(T, SAMPLES, HEADS, -1, SIDE, SIDE)
    of_k = k.view_as(kept)
    whole = ((kept == of_k) | (of_k == 0)).all(3)
    assert (whole | (kept == 0).all(3)).all()
    channel = build("qkca").mix(q, k)
    whole = (channel == k).all((-2, -1)) | (channel == 0).all((-2, -1))
    assert whole.all()


def test_zero_kernels_make_local_attention_plain():
    local, plain = build("lrf_ssa"), build("ssa_kv")
    for convolution in local.local.convolutions:
        nn.init.zeros_(convolution.weight)
    plain.load_state_dict({key: value for key, value in local.state_dict().items() if not key.startswith("local")})
    assert torch.equal(local(spikes()), plain(spikes()))
    assert plain(spikes()).mean() > 0


@pytest.mark.parametrize(("name", "count"), [("lrf_ssa", 29 * C), ("lrf_dyn", 29 * C + 16)])
def test_a_local_branch_has_29_numbers_a_channel_and_a_scan_two_a_compartment(name, count):
    parameters = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert parameters(build(name)) - parameters(build("ssa_kv")) == count


def test_the_local_branch_sees_three_lattices():
    branch = LRFBranch(1, (1, 3, 5)).double().eval()
    for convolution in branch.convolutions:
        nn.init.ones_(convolution.weight)
    x = torch.zeros(1, 1, 1, 15, 15, dtype=torch.float64)
    x[..., 7, 7] = 1
    seen = {(int(i) - 7, int(j) - 7) for i, j in branch(x)[0, 0, 0].nonzero()}
    assert seen == {(a * d, b * d) for d in (1, 3, 5) for a in (-1, 0, 1) for b in (-1, 0, 1)}


@pytest.mark.parametrize("chunk", [1, 5, 36, 64])
def test_causal_attention_is_the_masked_product_whatever_the_chunk(chunk):
    q, k, v = (part.flatten(3).unflatten(2, (HEADS, -1)) for part in parts())
    scores = (k.transpose(-1, -2) @ q).triu()
    expected = v @ scores
    attention = build("causal_ssa", chunk=chunk)
    assert torch.equal(attention.product(q, k, v), expected)
    whole = build("ssa_kv").product(q, k, v)
    assert torch.equal(expected[..., -1], whole[..., -1])  # the last token sees all
    assert not torch.equal(expected, whole)


def test_saccadic_attention_never_needs_its_matrix():
    q, k, v = parts()
    attention = build("sssa_v1")
    q_counts = q.view(T, SAMPLES, HEADS, -1, SIDE * SIDE).sum(3)
    k_counts = k.view(T, SAMPLES, HEADS, -1, SIDE * SIDE).sum(3)
    matrix = q_counts.unsqueeze(-1) * k_counts.unsqueeze(-2)
    heads = [part.flatten(3).unflatten(2, (HEADS, -1)) for part in (q, k)]
    found = attention.relevance(*heads).squeeze(-2) * (C // HEADS) ** 2 * SIDE * SIDE
    assert torch.allclose(found, matrix.sum(-1), rtol=1e-12)
    order = torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(0))
    mixed = k.flatten(3)[..., order].view_as(k)
    assert torch.equal(attention.mix(q, mixed, v), attention.mix(q, k, v))  # keys are a gain, in any order
    y = attention.mix(q, k, v).view(T, SAMPLES, HEADS, -1, SIDE * SIDE)
    kept = v.view_as(y)
    assert (((y == kept).all(3)) | (y == 0).all(3)).all()
    assert 0 < y.sum() < kept.sum()


def test_the_versions_agree_where_keys_do_not_change_and_differ_where_they_do():
    q, k, v = parts()
    one, two = build("sssa_v1"), build("sssa_v2")
    still = k[:1].expand(T, -1, -1, -1, -1).clone()
    still[:] = still[:, :1]
    constant = torch.zeros_like(still)
    constant[:, :, :, :2] = 1  # the same count for every head, sample and step
    with torch.no_grad():
        two.log_alpha.fill_(torch.log(torch.tensor(12 / 36, dtype=torch.float64)))
        two.saccade.load_state_dict(one.saccade.state_dict())
    assert torch.equal(one.mix(q, constant, v), two.mix(q, v))
    silent_at_first = constant.clone()
    silent_at_first[0] = 0
    assert not torch.equal(one.mix(q, silent_at_first, v), two.mix(q, v))
    assert 0 < two.mix(q, v).sum() < v.sum()


def test_relevances_rank_keys_alike_and_queries_the_other_way():
    """p_q log p_k against p_q p_k: the logarithm keeps the order of keys, and turns that of queries."""
    rates = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    entropy, product = rates[:, None] * rates.log(), rates[:, None] * rates
    for q in range(10):
        assert torch.equal(entropy[q].argsort(), product[q].argsort())
    for k in range(10):
        assert torch.equal(entropy[:, k].argsort(), product[:, k].argsort().flip(0))


def test_saccadic_attention_is_for_one_number_of_steps():
    with pytest.raises(ValueError, match="built for T = 4 got a sequence of T = 2"):
        build("sssa_v2")(spikes(T=2))
    with pytest.raises(ValueError, match="is for one number of steps: give T"):
        ATTENTIONS["sssa_v1"].build(replace(SITE, T=None))


def test_dendritic_attention_by_hand():
    """A scan along raster order of k * v, gated by q; forms and steps give the same."""
    attention = build("lrf_dyn", dilations=())
    q, k, v = parts()
    scan: DendriticScan = attention.scans[0]
    state, tokens = None, []
    for token in (k * v).flatten(3).movedim(-1, 0):  # one place after the other
        y, state = scan.step(token.flatten(0, 1).unsqueeze(1), state)
        tokens.append(y.squeeze(1).view(T, SAMPLES, C))
    expected = q.flatten(3) * torch.stack(tokens, -1)
    assert torch.allclose(attention.mix(q, k, v).flatten(3), expected, atol=1e-12)
    assert state.shape == (T * SAMPLES, 8, C)
    fourier = build("lrf_dyn", dilations=(), form="fft")
    assert torch.allclose(fourier.mix(q, k, v), attention.mix(q, k, v), atol=1e-10)


@pytest.mark.parametrize("changes", [{}, {"value_ratio": 3}, {"dilations": ()}, {"token": "v", "gate": False}])
def test_row_by_row_is_the_same_function(changes):
    """Of k numbers a channel and some rows; with gradients, in training or for a tracer it takes all tokens at once."""
    whole, by_row = build("lrf_dyn", **changes), build("lrf_dyn", by_row=True, **changes)
    by_row.load_state_dict(whole.state_dict())
    ratio = changes.get("value_ratio", 1)
    given = {"q": spikes(), "k": spikes(seed=1), "v": spikes(seed=2, channels=C * ratio)}
    mixed = [given[part] for part in whole.parts]
    with torch.no_grad():
        found = by_row.mix(*mixed)
        assert torch.allclose(found, whole.mix(*mixed), rtol=0, atol=1e-12)
        assert torch.equal(by_row(spikes()), whole(spikes()))
        wide = spikes(side=9)[..., :7, :]
        assert torch.equal(by_row(wide), whole(wide))
    assert found.std() > 0
    assert torch.equal(by_row.mix(*mixed), whole.mix(*mixed))
    assert by_row.mix(*mixed).requires_grad


def test_row_by_row_holds_little():
    """Made in the call: the output, and less than another map of 196 tokens."""
    site = Site(256, HEADS, QUICK, 1)
    parts = [spikes(side=14, channels=256, T=1)[:, :1].float() for _ in range(3)]
    one = parts[0].numel() * 4
    peaks = {}
    for name, changes in (("ssa_qk", {}), ("lrf_dyn", {"by_row": True})):
        attention = ATTENTIONS[name].changed(name, changes).build(site).eval()
        with torch.no_grad():
            attention.mix(*parts)
            peaks[name] = _most_alive(lambda attention=attention: attention.mix(*parts))
    assert one < peaks["lrf_dyn"] < 2 * one
    assert peaks["lrf_dyn"] < 0.55 * peaks["ssa_qk"]


def test_values_may_have_more_channels_than_queries():
    """Each channel of k and q meets ``value_ratio`` channels of v, of its own head."""
    attention = build("lrf_dyn", value_ratio=2, dilations=(), halve=False)
    with torch.no_grad():
        attention.scans[0].log_rate.fill_(10.0)  # forgets at once, reads the present
        attention.scans[0].read_out[0].fill_(0.25)
    q, k = parts(2)
    v = spikes(seed=7, channels=2 * C)
    expected = (q * k).repeat_interleave(2, dim=2) * v
    assert torch.allclose(attention.mix(q, k, v), expected, atol=1e-12)
    assert attention.out_channels == 2 * C
    assert attention.config.state(196, C, HEADS) == 8 * 2 * C


def test_settings_of_row_by_row():
    for changes in ({"form": "fft"}, {"direction": "both"}):
        with pytest.raises(ValueError, match="by_row is for a causal scan"):
            build("lrf_dyn", by_row=True, **changes)
    with pytest.raises(ValueError, match="value_ratio must be at least 1"):
        build("lrf_dyn", value_ratio=0)


def test_both_directions_see_everything():
    attention = build("lrf_dyn", dilations=(), direction="both", gate=False, token="v")
    assert attention.parts == ("v",)
    (v,) = parts(1)
    changed = v.clone()
    changed[..., -1, -1] = 1 - changed[..., -1, -1]
    difference = (attention.mix(v) - attention.mix(changed)).abs()
    assert difference[..., 0, 0].max() > 0


def test_an_identity_scan_leaves_the_products():
    """With a read-out of the present alone, attention is q * k * v in its place."""
    attention = build("lrf_dyn", dilations=())
    with torch.no_grad():
        attention.scans[0].log_rate.fill_(10.0)  # forgets at once
        attention.scans[0].read_out[0].fill_(0.25)
    q, k, v = parts()
    assert torch.allclose(attention.mix(q, k, v), q * k * v, atol=1e-12)


def test_a_mixture_is_as_far_as_its_parts_and_its_entropy_may_rise():
    """E of (1 - l) p + l r is linear in l; the entropy is not, so a sharp p can only become blunter."""
    p, r = torch.tensor([0.97, 0.01, 0.01, 0.01]), torch.tensor([0.01, 0.97, 0.01, 0.01])
    distance = torch.arange(4.0)
    mixture = (p + r) / 2
    assert torch.allclose(mixture @ distance, ((p @ distance) + (r @ distance)) / 2)
    entropy = lambda x: float(-(x * x.log()).sum())  # noqa: E731
    assert entropy(p) == pytest.approx(0.168, abs=1e-3)
    assert entropy(mixture) == pytest.approx(0.791, abs=1e-3)


def test_dual_attention_in_training_and_where_a_head_is_silent():
    attention = ATTENTIONS["dssa"].changed("dssa", {"reduction": 2}).build(SITE).double()
    x = spikes()
    x[:, :, : C // HEADS] = 0  # the first head never fires
    y = attention.train()(x)
    assert y.isfinite().all()
    rate = attention.spike_rate.running_mean
    assert rate[0] == 0
    assert torch.allclose(rate[1:], x.mean((0, 1, 3, 4)).view(HEADS, -1).mean(1)[1:])
    before = rate.clone()
    attention(torch.ones_like(x))
    assert torch.allclose(rate, before + 0.001 * (1 - before))
    attention.eval()(x)
    assert torch.allclose(rate, before + 0.001 * (1 - before))
    with pytest.raises(ValueError, match=r"a map \[1, 1\] is smaller than the reduction 2"):
        attention(x[..., :1, :1])


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("ssa_kv", {"value_ratio": 0}, "value_ratio must be at least 1"),
        ("causal_ssa", {"chunk": 0}, "chunk must be at least one token"),
        ("lrf_ssa", {"dilations": ()}, "dilations are whole numbers from 1"),
        ("lrf_dyn", {"token": "x"}, "token must be one of kv, v"),
        ("lrf_dyn", {"direction": "back"}, "direction must be one of causal, both"),
        ("lrf_dyn", {"k": 3}, "compartments come in pairs"),
        ("dssa", {"reduction": 0}, "reduction must be at least 1"),
        ("dssa", {"least": 0.0}, "momentum and least"),
        ("sssa_v1", {"inference": "quick"}, "inference must be one of exact, decoupled"),
        ("sssa_v2", {"alpha": 0.0}, "alpha must be above 0"),
    ],
)
def test_settings_are_checked(name, changes, words):
    with pytest.raises(ValueError, match=words):
        ATTENTIONS[name].changed(name, changes)
