"""Whoever looks at a call gets right values: traces, exporters, torch.func, forward-mode gradients, threads."""

import io
import threading
import warnings

import pytest
import torch
from small_models import narrow
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap

from saccade import kernels
from saccade.layers import Conv2d
from saccade.neurons import LIF, NEURONS, ATan, SlidingMixingConfig
from saccade.verify import wake

T, N, C = 4, 3, 6


def currents(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 2


NEURON_LAYERS = {
    "lif": lambda: LIF(),
    "per channel": lambda: LIF(v_th=tuple(0.5 + 0.1 * i for i in range(C)), channels=C),
    "soft": lambda: LIF(reset="soft", decay_input=False),
    "leak": lambda: NEURONS["leak_mixing"].build(channels=C),
    "sliding": lambda: SlidingMixingConfig(order=2).build(channels=C),
    "membrane": lambda: NEURONS["quantized_membrane"].build(channels=C),
}


@pytest.fixture(params=["auto", "reference"])
def _form(request):
    with kernels.use(request.param):
        yield


def traced(module, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of every shape that is a constant in a trace
        return torch.jit.trace(module, x)


@pytest.mark.usefixtures("_form")
@pytest.mark.parametrize("name", NEURON_LAYERS)
@pytest.mark.parametrize("gradients", [False, True])
def test_a_trace_is_the_neuron(name, gradients):
    layer, x, other = NEURON_LAYERS[name]().eval(), currents(T, N, C, 5, 5), currents(T, N, C, 5, 5).flip(0)
    with torch.set_grad_enabled(gradients):
        script = traced(layer, x)
    assert torch.equal(script(other), layer(other))
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    assert torch.equal(torch.jit.load(buffer)(other), layer(other))


def test_a_trace_has_the_gradients_of_the_neuron():
    layer, x = LIF().eval(), currents(T, N, C)
    x[0, 0, 0] = float("inf")
    script = traced(layer, x)
    one, other = (x.clone().requires_grad_() for _ in range(2))
    weight = currents(T, N, C).flip(1)
    (script(one) * weight).sum().backward()
    (layer(other) * weight).sum().backward()
    finite = other.grad.isfinite()
    torch.testing.assert_close(one.grad[finite], other.grad[finite])
    assert finite.float().mean() > 0.9


@pytest.mark.parametrize("name", ["or_resnet18_small", "syna_resnet18_small", "vgg_small", "rows_mlp"])
def test_a_model_is_traced(name):
    model, x = narrow(name)
    wake(model.eval(), x)
    with torch.no_grad():
        script = traced(model, x)
        other = x.flip(1) * 0.9
        torch.testing.assert_close(script(other), model(other))
        assert model(other).std() > 0


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx(dynamo, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    if dynamo:
        pytest.importorskip("onnxscript")
    model, x = narrow("or_resnet18_small")
    wake(model.eval(), x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), tmp_path / "m.onnx", dynamo=dynamo, verbose=False)
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(x).detach(), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("_form")
@pytest.mark.parametrize("gradients", [False, True])
def test_vmap_over_a_neuron(gradients):
    layer, x = LIF(), currents(5, T, N, C)
    with torch.set_grad_enabled(gradients):
        assert torch.equal(vmap(layer)(x), torch.stack([layer(one) for one in x]))


@pytest.mark.usefixtures("_form")
def test_gradients_of_each_sample():
    torch.manual_seed(0)
    model = nn.Sequential(Conv2d(2, 3, 3, padding=1), LIF(), Conv2d(3, 2, 1)).eval()
    x = currents(T, 4, 2, 6, 6)
    parameters = dict(model.named_parameters())

    def loss(weights, sample):
        return functional_call(model, weights, (sample.unsqueeze(1),)).square().sum()

    found = vmap(grad(loss), in_dims=(None, 1))(parameters, x)
    for i in range(4):
        model.zero_grad()
        model(x[:, i : i + 1]).square().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name][i], parameter.grad)
    assert found["0.weight"].abs().sum() > 0


@pytest.mark.usefixtures("_form")
def test_tangents():
    layer, x, tangent = LIF(), currents(T, N, C), currents(T, N, C).flip(0)
    _, forward = jvp(layer, (x,), (tangent,))
    with forward_ad.dual_level():
        again = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, tangent))).tangent
    torch.testing.assert_close(forward, again)
    columns = []
    for i in range(x.numel()):  # the whole derivative, backwards, times the tangent
        one = x.clone().requires_grad_()
        layer(one).flatten()[i].backward()
        columns.append((one.grad * tangent).sum())
    torch.testing.assert_close(forward.flatten(), torch.stack(columns))
    assert forward.abs().sum() > 0


def test_export_with_a_batch_of_any_size_while_gradients_are_on():
    model, x = narrow("or_resnet18_small")
    wake(model.eval(), x)
    still = torch.rand(4, 3, 16, 16)
    batch = torch.export.Dim("batch", min=2, max=64)
    assert torch.is_grad_enabled()
    program = torch.export.export(model, (still,), dynamic_shapes=({0: batch},))
    other = torch.rand(7, 3, 16, 16)
    torch.testing.assert_close(program.module()(other), model(other))


def test_a_choice_of_form_is_the_threads_own():
    seen, inside, done = {}, threading.Event(), threading.Event()

    def elsewhere():
        inside.wait(10)
        seen["there"] = kernels.forms.form_for("cpu")
        done.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    with kernels.use("reference"):
        inside.set()
        done.wait(10)
        seen["here"] = kernels.forms.form_for("cpu")
    thread.join()
    assert seen["here"] == "reference"
    assert seen["there"] == kernels.forms.form_for("cpu")
    if kernels.forms.has_native():
        assert seen["there"] == "native"


@pytest.mark.parametrize("shape", [(3, 2, 0), (0, 2, 3), (3, 0, 3), (3, 2, 0, 2)])
def test_nothing_of_something(shape):
    """Axes of size 0, with constants that need gradients: in all forms what plain torch gives."""
    found = []
    for form in ("reference", "auto"):
        x = torch.randn(*shape, requires_grad=True)
        v_th = torch.ones(shape[-1], requires_grad=True)
        with kernels.use(form):
            s, v, _ = kernels.lif(x, decay=0.5, gain=1.0, v_th=v_th, surrogate=ATan())
        (s.sum() + v.sum() + x.sum()).backward()
        assert x.grad is not None
        found.append((s.shape, v.shape, v.dtype, v_th.grad))
    assert found[0][:3] == found[1][:3]
    one, other = found[0][3], found[1][3]
    assert (one is None) == (other is None)
    assert one is None or torch.equal(one, other)


@pytest.mark.parametrize(
    "x",
    [
        (torch.rand(2, 2, 4) + 1)[:1, :1, :3],
        (torch.rand(7) + 1).expand(1, 7),
        (torch.rand(3, 1, 2, 2) + 1).transpose(0, 1)[:, :, :1],
        (torch.rand(1, 4, 6) + 1)[:, ::2],
    ],
    ids=["cut", "expanded", "transposed", "strided"],
)
def test_one_step_whose_stride_is_anything(x):
    weights, threshold = torch.ones(5, 1), torch.tensor(0.5)
    plain, _ = kernels.mix(x, weights, threshold, ATan(), record=True)
    assert torch.equal(kernels.mix(x, weights, threshold, ATan())[0], plain)
    assert plain.sum() == plain.numel() > 0
    for form in ("reference", "auto"):
        with kernels.use(form):
            spikes, v, _ = kernels.lif(x, decay=0.5, gain=1.0, v_th=0.9, surrogate=ATan())
        assert spikes.sum() == spikes.numel()
        assert v.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_state_in_half_precision_is_charged_in_single(dtype):
    x, v0 = currents(3, 1000).to(dtype), currents(1000).to(dtype)
    found = []
    for form in ("reference", "auto"):
        with kernels.use(form):
            found.append(kernels.lif(x, v0, decay=0.7, gain=0.9, v_th=0.5, surrogate=ATan(), record=True))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert kernels.lif(x[:0], v0, decay=0.7, gain=0.9, v_th=0.5, surrogate=ATan())[1].dtype == torch.float32
