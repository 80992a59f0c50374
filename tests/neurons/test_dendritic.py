"""The scan of dendritic compartments: loop, native code, FFT, steps, and the matrix that they all are."""

import pytest
import torch

from saccade import kernels
from saccade.kernels.dendritic import by_fourier, impulse, loop
from saccade.kernels.integer import Levels
from saccade.neurons import DendriticConfig, DendriticScan


def scan(k=8, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    module = DendriticScan(k)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.to(dtype)


def tokens(*shape, dtype=torch.float64, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("k", [2, 4, 6, 8, 16])
def test_scan_fourier_steps_and_matrix_agree(k):
    module, x = scan(k), tokens(2, 33, 5)
    whole = module(x)
    assert whole.abs().max() > 0.1
    module.form = "fft"
    assert (module(x) - whole).abs().max() <= 1e-10
    state, steps = None, []
    for token in x.split(1, 1):
        y, state = module.step(token, state)
        steps.append(y)
    assert (torch.cat(steps, 1) - whole).abs().max() <= 1e-10
    assert state.shape == (2, k, 5)
    answer = impulse(module.pairs(), 33)
    lags = torch.arange(33)[:, None] - torch.arange(33)
    matrix = torch.where(lags >= 0, answer[lags.clamp(min=0)], 0.0)
    assert (torch.einsum("lm,bmd->bld", matrix, x) - whole).abs().max() <= 1e-10


def test_it_is_the_recurrence_of_a_tridiagonal_chain():
    """A chain with leak 1/2 and couplings of opposite sign: its exponential has the eigenvalues that the scan starts with."""
    k = 6
    chain = -0.5 * torch.eye(k) + 0.25 * (torch.diag(torch.ones(k - 1), 1) - torch.diag(torch.ones(k - 1), -1))
    values = torch.linalg.eigvals(chain.double())
    assert torch.allclose(values.real, torch.full((k,), -0.5).double(), atol=1e-6)
    expected = 0.5 * torch.cos(torch.pi * torch.arange(1, k // 2 + 1) / (k + 1))
    assert torch.allclose(values.imag.sort().values[k // 2 :].flip(0), expected.double(), atol=1e-6)
    module = DendriticScan(k)
    steps = torch.logspace(torch.log10(torch.tensor(0.2)).item(), 0, k // 2)
    turns = torch.complex(module.pairs()[0], module.pairs()[1])
    assert torch.allclose(turns, torch.exp(steps * torch.complex(torch.full((k // 2,), -0.5), expected)), atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 196, 37), (1, 1, 1), (3, 65, 16), (1, 32, 40)])
@pytest.mark.parametrize("k", [2, 6, 8, 32])
@pytest.mark.parametrize("rest", [True, False])
def test_native_form_equals_the_loop_forward_and_backward(shape, k, rest):
    B, _, D = shape
    pairs = scan(k, dtype=torch.float32).pairs().detach()
    x, weight, start = tokens(*shape), tokens(*shape, seed=2), tokens(B, k, D, seed=3)
    found = []
    for dtype in (torch.float32, torch.float64):
        given = [v.to(dtype, copy=True).requires_grad_() for v in ((x, pairs) if rest else (x, pairs, start))]
        y, last = kernels.dendritic(*given, last=True)
        ((y * weight.to(dtype)).sum() + (last.square() * 0.1).sum()).backward()
        found.append([y.detach(), last.detach(), *(tensor.grad for tensor in given)])
    for native, plain in zip(*found, strict=True):
        assert native.dtype == torch.float32
        assert torch.allclose(native.double(), plain, rtol=2e-4, atol=2e-4 * float(plain.abs().max()))


def test_gradients_of_the_loop_are_those_of_differences():
    pairs = scan(4).pairs().detach().requires_grad_()
    x, state = tokens(2, 5, 3).requires_grad_(), tokens(2, 4, 3, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(loop, (x, pairs, state))
    assert torch.autograd.gradcheck(by_fourier, (x, pairs))


def test_no_parameter_makes_it_unstable():
    module = scan()
    for value in (-1e4, 0.0, 1e4):
        torch.nn.init.constant_(module.log_rate, value)
        assert module.spectral_radius() < 1
        assert module(torch.ones(1, 2000, 1).double()).isfinite().all()


def test_training_keeps_it_stable_and_finds_a_memory():
    """It learns to give back what came five tokens before, better than the mean does."""
    torch.manual_seed(0)
    module = DendriticScan(8)
    optimizer = torch.optim.Adam(module.parameters(), 0.03)
    x = torch.randn(8, 60, 4)
    target = torch.roll(x, 5, 1)
    losses = []
    for _ in range(150):
        loss = (module(x) - target)[:, 5:].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7
    assert module.spectral_radius() < 1


def test_it_is_causal():
    module, x = scan(), tokens(1, 20, 3)
    changed = x.clone()
    changed[:, 12:] += 1
    a, b = module(x), module(changed)
    assert torch.equal(a[:, :12], b[:, :12])
    assert not torch.equal(a[:, 12], b[:, 12])


def test_the_state_does_not_depend_on_the_length():
    for length in (3, 300):
        assert scan(8).step(tokens(2, length, 5))[1].shape == (2, 8, 5)


def test_compiled_and_half_precision():
    module, x = scan(dtype=torch.float32), tokens(2, 20, 5, dtype=torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = compiled(a)
    y.sum().backward()
    plain = module(b)
    plain.sum().backward()
    assert torch.allclose(y, plain, atol=1e-6)
    assert torch.allclose(a.grad, b.grad, atol=1e-6)
    assert torch.allclose(module(x.bfloat16()).float(), module(x), atol=0.1)


@pytest.mark.parametrize("k", [0, 3, 34])
def test_settings_are_checked(k):
    with pytest.raises(ValueError, match="pairs"):
        DendriticScan(k)
    with pytest.raises(ValueError, match="pairs"):
        DendriticConfig(k=k)
    with pytest.raises(ValueError, match="form must be one of scan, fft"):
        DendriticScan(form="loop")
    with pytest.raises(ValueError, match=r"a state \[1, 2, 1\] does not fit"):
        kernels.dendritic(torch.zeros(1, 2, 3), torch.zeros(4, 1), torch.zeros(1, 2, 1))


def test_every_instruction_set_and_number_of_threads_gives_the_same():
    """Vectors of 4, 8 or 16 channels; integers to the bit, sums of the scan to rounding."""
    native = kernels.forms.native()
    pairs = scan(8, dtype=torch.float32).pairs().detach()
    before, threads = native.instruction_set(), torch.get_num_threads()
    found = []
    try:
        for name in native.instruction_sets():
            native.use_instruction_set(name)
            for count in (1, 2):
                torch.set_num_threads(count)
                x, numbers = tokens(7, 196, 37, dtype=torch.float32).requires_grad_(), pairs.clone().requires_grad_()
                y, _ = kernels.dendritic(x, numbers)
                y.square().sum().backward()
                current = x.detach().requires_grad_()
                level, _, _ = kernels.integer(current, None, Levels(0.5, 4.0, 4.0, 4.0, True))
                level.sum().backward()
                found.append((name, y.detach(), x.grad, numbers.grad, level.detach(), current.grad))
    finally:
        native.use_instruction_set(before)
        torch.set_num_threads(threads)
    assert len({name for name, *_ in found}) == len(native.instruction_sets())
    for name, y, grad_x, grad_pairs, level, grad in found[1:]:
        same_set = name == found[0][0]
        for mine, first in ((y, found[0][1]), (grad_x, found[0][2]), (grad_pairs, found[0][3])):
            assert torch.equal(mine, first) if same_set else torch.allclose(mine, first, rtol=1e-4, atol=1e-3)
        assert torch.equal(level, found[0][4])
        assert torch.equal(grad, found[0][5])
