"""The list that every neuron, layer, model and transform passes by being registered; plugins can pass it too.

Each function takes the thing and input on which it does something (spikes, say), and asserts. What a module says of itself
(``causal``, ``fixed_T``, ``levels``) is taken at its word and held to it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from saccade.neurons import Stream
from saccade.neurons.temporal import Temporal


def mixers(module: nn.Module) -> list[nn.Module]:
    """The parts of a module that say how they treat time."""
    return [part for part in module.modules() if hasattr(part, "causal")]


def streams(module: nn.Module) -> bool:
    return all(part.causal and getattr(part, "fixed_T", None) is None for part in mixers(module))


def check_module(make: Callable[[], nn.Module], x: Tensor, *, exact: bool = False) -> None:
    """A module over ``[T, N, ...]`` in eval mode, float64. exact: what it gives are spikes, so equality is equality.

    A static module (no part mixes time) has to treat every step alike.
    """
    torch.manual_seed(0)
    module = make().double().eval()
    x = x.double()
    with torch.no_grad():
        y = module(x)
        assert y.abs().sum() > 0, "an equality of zeros proves nothing"
        same(module(x), y, True, "a second call")
        same(copy.deepcopy(module)(x), y, True, "a deepcopy")
        check_isolation(module, x, y, exact)
        check_chunks(module, x, y, exact)
        check_layout(module, x, y)
        assert module(x[:, :0]).shape == (y.shape[0], 0, *y.shape[2:]), "no samples"
        fresh = make().double().eval()
        fresh.load_state_dict(module.state_dict())
        same(fresh(x), y, True, "another one with its state dict")
    check_dtypes(make, x, exact)
    check_gradients(module, x)


def same(given: Tensor, expected: Tensor, exact: bool, what: str) -> None:
    torch.testing.assert_close(
        given, expected, rtol=0, atol=0 if exact else 1e-10, msg=lambda text: f"{what} differs: {text}"
    )


def check_isolation(module: nn.Module, x: Tensor, y: Tensor, exact: bool) -> None:
    """A sample's output knows nothing of its neighbours, nor of its place."""
    if y.shape[1] != x.shape[1]:
        raise AssertionError(f"{x.shape[1]} samples in, {y.shape[1]} out")
    order = torch.arange(x.shape[1]).flip(0)
    same(module(x[:, order]), y[:, order], exact, "the other order of samples")
    for i in range(x.shape[1]):
        same(module(x[:, i : i + 1]), y[:, i : i + 1], exact, f"sample {i} by itself")


def check_chunks(module: nn.Module, x: Tensor, y: Tensor, exact: bool) -> None:
    """In a stream, any chunks give what the whole sequence gives; what cannot be streamed is refused."""
    if y.shape[0] != x.shape[0]:  # it takes the steps together: an encoder, a gate of all steps
        return
    for cuts in ([1] * len(x), [len(x) - 1, 1]):
        try:
            stream = Stream(module)
            parts = torch.cat([stream(chunk) for chunk in x.split(cuts)])
        except ValueError:
            assert not streams(module), "refused in a stream, although it calls itself causal"
            return
        assert streams(module), "streamed, although it calls itself not causal"
        same(parts, y, exact, f"in chunks of {cuts}")


def check_layout(module: nn.Module, x: Tensor, y: Tensor) -> None:
    """The layout of the input changes nothing: transposed in memory, and every second of a larger tensor."""
    transposed = x.transpose(0, -1).contiguous().transpose(0, -1)
    wider = x.repeat_interleave(2, -1)[..., ::2]
    for other in (transposed, wider):
        assert torch.equal(other, x)
        same(module(other), y, False, "another layout")


def check_dtypes(make: Callable[[], nn.Module], x: Tensor, exact: bool) -> None:
    """The output has the dtype of input and weights."""
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        y = make().to(dtype).eval()(x.to(dtype))
        assert y.dtype == dtype
        assert y.isfinite().all()


def check_gradients(module: nn.Module, x: Tensor) -> None:
    """In eval mode gradients reach the input and every parameter, and are finite."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    weight = torch.rand(module(x).shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    (module(x) * weight).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        parameter.grad = None


def check_state(module: Temporal, x: Tensor) -> None:
    """What is kept between steps is what ``state_spec`` says, whatever came before."""
    with torch.no_grad():
        state = module.step(x, None)[1]
    spec = module.state_spec(tuple(x.shape[2:]))
    kept = {} if state is None else state if isinstance(state, dict) else {"": state}
    assert len(kept) == len(spec)
    for (shape, bits), value in zip(spec.values(), kept.values(), strict=True):
        assert tuple(value.shape[1:]) == tuple(shape)
        assert 1 <= bits <= 64


def check_alphabet(module: nn.Module, x: Tensor) -> None:
    """Neurons emit what they declare, and more than one value of it."""
    with torch.no_grad():
        values = set(module(x).unique().tolist())
    assert values <= {float(level) for level in module.levels}
    assert len(values) > 1


def check_compiled(module: nn.Module, x: Tensor) -> None:
    """``torch.compile`` traces it in one graph, to the same values."""
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(module, backend="eager", fullgraph=True)(x)
        same(compiled, module(x), False, "compiled")
