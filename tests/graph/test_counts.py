"""Counting rules: built in, with numbers worked out by hand, and brought by operations of one's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from saccade import kernels
from saccade.graph import Alphabet, Call, counts, trace
from saccade.graph.rules import RULES
from saccade.measure import Profile, profile
from saccade.neurons import ATan

BITS = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])[
    :, None
]  # [2, 1, 4] as [T, N, D]: three and one spikes


class Spikes(nn.Module):
    """Emits what it is given and declares its levels."""

    def __init__(self, *levels: float) -> None:
        super().__init__()
        self.levels = levels or (0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class Then(nn.Module):
    def __init__(self, function, levels: tuple[float, ...] | None) -> None:
        super().__init__()
        self.neuron = nn.Identity() if levels is None else Spikes(*levels)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.neuron(x))


def counted(
    function, x: Tensor = BITS, levels: tuple[float, ...] | None = (0.0, 1.0), batch_dim: int = 1
) -> dict[str, int]:
    """What is counted outside the neuron, without zeros, and the alphabet of the result."""
    model = Then(function, levels)
    found: Profile = profile(model, x, batch_dim=batch_dim)
    total = found.total(lambda row: row.name == "(model)")
    names = ("sops", "macs", "adds", "mults", "ands", "comparisons", "other", "norm", "neuron_updates")
    result = {name: getattr(total, name) for name in names if getattr(total, name)}
    alphabet = trace(model, x).outputs[0].alphabet
    return result | ({"holds": str(alphabet)} if alphabet else {})


ROWS = torch.tensor([2, 0, 1, 0])
CASES = {
    # name: (function, on spikes BITS, on the same numbers taken for analog)
    "topk": (lambda s: s.topk(2, -1).values, {"comparisons": 8 * 2, "holds": "{0,1}"}, {"comparisons": 16}),
    "sort": (lambda s: s.sort(-1).values, {"comparisons": 8 * 2, "holds": "{0,1}"}, {"comparisons": 16}),
    "sort over one": (lambda s: s.sort(1, descending=True).values, {"holds": "{0,1}"}, {}),
    "argsort": (lambda s: s.argsort(-1), {"comparisons": 16}, {"comparisons": 16}),
    # 1 0 1 1 and 0 0 1 0: no two factors of a whole product fire but after the first spike
    "cumprod": (lambda s: s.cumprod(-1), {"holds": "{0,1}"}, {"mults": 6}),
    "cumprod over time": (lambda s: s.cumprod(0), {"ands": 1, "holds": "{0,1}"}, {"mults": 4}),
    "prod": (lambda s: s.prod(), {"holds": "{0,1}"}, {"mults": 7}),
    "prod along": (lambda s: s.prod(0), {"ands": 1, "holds": "{0,1}"}, {"mults": 4}),
    "lerp": (lambda s: torch.lerp(s[0], s[1], 0.5), {"adds": 1, "holds": "{0,1,2}/2"}, {"adds": 8, "mults": 4}),
    "lerp by tensor": (lambda s: torch.lerp(s[0], s[1], s[0]), {"adds": 8, "mults": 4}, {"adds": 8, "mults": 4}),
    "heaviside": (
        lambda s: torch.heaviside(s, torch.tensor(1.0)),
        {"comparisons": 8, "holds": "{0,1}"},
        {"comparisons": 8, "holds": "{0,1}"},
    ),
    "heaviside of half": (
        lambda s: torch.heaviside(s, torch.tensor(0.5)),
        {"comparisons": 8, "holds": "{0,1,2}/2"},
        {"comparisons": 8, "holds": "{0,1,2}/2"},
    ),
    "prelu": (
        lambda s: nn.functional.prelu(s, torch.tensor([0.25])),
        {"comparisons": 8, "holds": "{0,1}"},
        {"comparisons": 8, "mults": 8},
    ),
    "scatter": (lambda s: torch.zeros(4).scatter(0, ROWS, s[0, 0]), {"holds": "{0,1}"}, {}),
    "scatter of a number": (lambda s: s[0, 0].scatter(0, ROWS, 3.0), {"holds": "{0..3}"}, {}),
    "scatter reduced": (lambda s: torch.zeros(4).scatter(0, ROWS, s[0, 0], reduce="add"), {"adds": 4}, {"adds": 4}),
    "scatter_add": (
        lambda s: torch.zeros(4).scatter_add(0, ROWS, s[0, 0]),
        {"adds": 3, "holds": "{0..4}"},
        {"adds": 4},
    ),
    "scatter_add of some": (
        lambda s: torch.zeros(4).scatter_add(0, ROWS[:3], s[0, 0]),
        {"adds": 2, "holds": "{0..3}"},
        {"adds": 3},
    ),
    "index_add": (lambda s: torch.zeros(4).index_add(0, ROWS, s[0, 0]), {"adds": 3, "holds": "{0..4}"}, {"adds": 4}),
    "index_put": (lambda s: torch.zeros(4).index_put((ROWS,), s[0, 0]), {"holds": "{0,1}"}, {}),
    "index_put added": (
        lambda s: torch.zeros(4).index_put((ROWS,), s[0, 0], accumulate=True),
        {"adds": 3, "holds": "{0..4}"},
        {"adds": 4},
    ),
    "index assigned": (lambda s: assigned(s), {"holds": "{0,1}"}, {}),
    "masked_scatter": (
        lambda s: torch.zeros(4).masked_scatter(torch.tensor([True, False, True, False]), s[0, 0]),
        {"ands": 4, "holds": "{0,1}"},
        {"ands": 4},
    ),
    "unsqueezed in place": (lambda s: s.clone().unsqueeze_(0).transpose_(0, 1).squeeze_(1), {"holds": "{0,1}"}, {}),
    "transposed in place": (lambda s: s[0].clone().t_(), {"holds": "{0,1}"}, {}),
    # 4 points of 1 feature against 4: 16 pairs
    "cdist": (
        lambda s: torch.cdist(s[0].t(), s[1].t()),
        {"adds": 16, "mults": 16, "other": 16},
        {"adds": 16, "mults": 16, "other": 16},
    ),
    "cdist of 4 features": (
        lambda s: torch.cdist(s[0], s[1], p=2),
        {"adds": 4 + 3, "mults": 4, "other": 1},
        {"adds": 7, "mults": 4, "other": 1},
    ),
    "cdist by sums": (lambda s: torch.cdist(s[0], s[1], p=1), {"adds": 7}, {"adds": 7}),
    "cdist by maxima": (
        lambda s: torch.cdist(s[0], s[1], p=float("inf")),
        {"adds": 4, "comparisons": 3},
        {"adds": 4, "comparisons": 3},
    ),
    # 2 rows of 4: n/2 log2 n = 4 butterflies each, half of them for real numbers; 4 multiplications and 6 additions each
    "rfft": (
        lambda s: torch.fft.rfft(s).abs(),
        {"mults": 16, "adds": 24, "other": 6},
        {"mults": 16, "adds": 24, "other": 6},
    ),
    "fft and back": (
        lambda s: torch.fft.irfft(torch.fft.rfft(s), 4),
        {"mults": 32, "adds": 48},
        {"mults": 32, "adds": 48},
    ),
    "fft of complex": (
        lambda s: torch.fft.fft(s.to(torch.complex64)).abs(),
        {"mults": 32, "adds": 48, "other": 8},
        {"mults": 32, "adds": 48, "other": 8},
    ),
}


def assigned(s: Tensor) -> Tensor:
    buffer = torch.zeros(4)
    buffer[ROWS] = s[0, 0]
    return buffer


@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter")
@pytest.mark.parametrize("name", CASES)
def test_by_hand(name):
    function, spiking, analog = CASES[name]
    assert counted(function) == spiking
    assert counted(function, levels=None) == analog


def test_prelu_of_signed_spikes_multiplies():
    x = BITS * 2 - 1
    found = counted(lambda s: nn.functional.prelu(s, torch.tensor([0.25])), x, (-1.0, 0.0, 1.0))
    assert found == {"comparisons": 8, "mults": 8}


def test_grid_sample():
    x = torch.randint(2, (2, 1, 3, 4, 4)).float()
    grid = torch.rand(2, 5, 5, 2) * 2 - 1
    for mode, expected in (("bilinear", {"mults": 600, "adds": 450}), ("bicubic", {"mults": 2400, "adds": 2250})):
        assert (
            counted(lambda s, m=mode: nn.functional.grid_sample(s[:, 0], grid, m, align_corners=False), x) == expected
        )
    nearest = counted(lambda s: nn.functional.grid_sample(s[:, 0], grid, "nearest", align_corners=False), x)
    assert nearest == {"holds": "{0,1}"}


def test_embedding_moves_rows():
    table = nn.Embedding(5, 3)
    model = nn.Sequential(table, nn.Linear(3, 2))
    found = profile(model, torch.tensor([[0, 4], [1, 1]])).total()
    assert (found.macs, found.adds, found.other) == (4 * 3 * 2, 0, 0)


@pytest.mark.parametrize("form", ["fused", "written out"])
def test_attention_is_counted_as_the_steps_that_it_fuses(form):
    """q, k, v: one head, 3 queries, 4 keys, 2 features; q and k are spikes, v too."""
    torch.manual_seed(0)
    q, k, v = (torch.randint(2, (1, 2, 1, n, 2)).float() for n in (3, 4, 4))
    pairs = int((q[0] @ k[0].transpose(-1, -2)).sum())

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = Spikes(), Spikes(), Spikes()

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.q(q_), self.k(k_), self.v(x)
            if form == "fused":
                return nn.functional.scaled_dot_product_attention(q[0], k[0], v[0])
            return (q[0] @ k[0].transpose(-1, -2) * 0.5**0.5).softmax(-1) @ v[0]

    q_, k_ = q, k
    found = profile(Attend(), v, batch_dim=1)
    row = {r.name: r for r in found.layers}["(model)"]
    scores = 2 * 3 * 4
    assert row.sops == pairs + int(v.sum()) * 3
    assert row.dense_macs == 2 * scores * 2
    assert row.other == scores
    assert row.macs == 0
    assert row.mults == (scores if form == "fused" else 0)  # written out, the product of spikes is scaled for free


def test_analog_attention_with_a_mask():
    q = torch.rand(2, 3, 5, 4)
    mask = torch.zeros(5, 5)
    model = Then(lambda x: nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask), None)
    total = profile(model, q).total()
    scores = 2 * 3 * 5 * 5
    assert total.macs == total.dense_macs == 2 * scores * 4
    assert (total.mults, total.other, total.adds) == (scores, scores, scores)


def test_our_neuron_kernel_outside_a_neuron():
    def fire(x: Tensor) -> Tensor:
        with torch.no_grad():
            return kernels.lif(x, decay=0.5, gain=1.0, v_th=1.0, surrogate=ATan())[0]

    found = profile(Then(fire, None), BITS)
    assert found.total().neuron_updates == 8
    assert str(trace(Then(fire, None), BITS).outputs[0].alphabet) == "{0,1}"


@torch.library.custom_op("saccade_test::sum_of_spikes", mutates_args=())
def sum_of_spikes(x: Tensor) -> Tensor:
    return x.sum(-1)


@torch.library.custom_op("saccade_test::nobody_knows", mutates_args=())
def nobody_knows(x: Tensor) -> Tensor:
    return x.sum(-1)


@pytest.fixture
def rule():
    @counts("saccade_test::sum_of_spikes")
    def sums(call: Call) -> Alphabet | None:
        x = call.args[0]
        alphabet = call.alphabet(x)
        if alphabet is None:
            call.count(adds=x.numel())
            return None
        call.count(adds=int(call.event_sum(x)))
        return alphabet.summed(x.shape[-1])

    yield sums
    del RULES["saccade_test::sum_of_spikes"]


def test_an_operation_of_ones_own_brings_its_rule(rule):
    assert counted(sum_of_spikes) == {"adds": 4, "holds": "{0..4}"}
    assert counted(sum_of_spikes, levels=None) == {"adds": 8}
    head = nn.Linear(2, 3, bias=False)
    model = Then(lambda s: head(sum_of_spikes(s).t()), (0.0, 1.0))
    assert profile(model, BITS).total().sops == 3 * 4  # its result is spikes for what comes next


def test_without_a_rule_counting_is_refused_and_says_how_to_add_one():
    with pytest.raises(
        NotImplementedError,
        match=r"^\(model\): no counting rule for saccade_test.nobody_knows.default; .*@saccade.graph.counts",
    ):
        profile(Then(nobody_knows, None), BITS)


def test_a_rule_can_be_added_after_the_operation_was_met(rule):
    model = Then(lambda s: nobody_knows(s), (0.0, 1.0))
    with pytest.raises(NotImplementedError):
        profile(model, BITS)
    counts("saccade_test::nobody_knows")(rule)
    try:
        assert profile(model, BITS).total().adds == 4
    finally:
        del RULES["saccade_test::nobody_knows"]


def test_a_name_has_one_rule():
    with pytest.raises(ValueError, match="the operation 'add' has a counting rule already: add"):
        counts("aten::add")(lambda call: None)
