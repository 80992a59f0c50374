"""Networks as ONNX, run by ONNX Runtime."""

import numpy as np
import pytest
import torch
from small_models import narrow
from torch import nn

from saccade.cli.main import run
from saccade.deploy.exchange import export_onnx, relu_twin
from saccade.files import save_model
from saccade.models import create_model
from saccade.neurons.spiking import Spiking
from saccade.verify import wake

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporter


def ran(path, x):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(path, options).run(["logits"], {"x": x.numpy()})[0]


def equal(name, path):
    """Unrolled over the steps of a sequence; spikes do not flip on these frames, so logits are equal but for rounding."""
    model, x = narrow(name)
    wake(model, x)
    model.eval()
    written = export_onnx(model, x, path)
    assert written.bytes == path.stat().st_size
    with torch.no_grad():
        ours = model(x).numpy()
    assert ours.std() > 0
    assert np.abs(ran(path, x) - ours).max() < 1e-5 * np.abs(ours).max()
    return written


def test_logits_in_onnx_runtime(tmp_path):
    """And no operator of ours is left."""
    import onnx

    written = equal("vgg_small", tmp_path / "net.onnx")
    graph = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(graph)
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    assert not graph.functions
    assert [entry.name for entry in graph.graph.input] == ["x"]
    assert len(graph.graph.node) == written.nodes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["or_resnet18_small", "sdt_v1_small", "qsd_small"])
def test_logits_of_others(name, tmp_path):
    equal(name, tmp_path / "net.onnx")


@pytest.mark.slow
def test_in_float64_to_the_last_bits(tmp_path):
    """Of matrix products and neurons; ONNX Runtime has no convolutions of float64."""
    model, x = narrow("rows_mlp")
    wake(model, x)
    model = model.eval().double()
    export_onnx(model, x.double(), tmp_path / "net.onnx")
    with torch.no_grad():
        ours = model(x.double()).numpy()
    assert ours.std() > 0
    assert np.abs(ran(tmp_path / "net.onnx", x.double()) - ours).max() < 1e-14 * np.abs(ours).max()


@pytest.mark.slow
def test_the_twin_has_the_same_layers_and_no_spikes(tmp_path):
    model = create_model("vgg_small", channels=(4,) * 6).eval()
    twin = relu_twin(model)
    assert not any(isinstance(module, Spiking) for module in twin.modules())
    assert any(isinstance(module, Spiking) for module in model.modules())
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    x = torch.rand(1, 3, 32, 32)
    assert export_onnx(twin, x, tmp_path / "twin.onnx").nodes < 60
    with torch.no_grad():
        ours = twin(x).numpy()
    assert np.abs(ran(tmp_path / "twin.onnx", x) - ours).max() < 1e-4 * np.abs(ours).max()
    with pytest.raises(ValueError, match="Sequential has no neurons to replace"):
        relu_twin(nn.Sequential(nn.Linear(2, 2)))


def test_what_cannot_be_exported(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match="Odd cannot be exported to ONNX") as error:
        export_onnx(Odd().eval(), torch.rand(1, 3), path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        export_onnx(Odd(), torch.rand(1, 3), path)


def test_the_command(tmp_path, capsys):
    model = create_model("vgg_small", channels=(4,) * 6, pools=(1,), image_size=8)
    wake(model, torch.rand(2, 3, 8, 8))
    save_model(model.eval(), tmp_path / "net.safetensors")
    for name, words in {"twin.onnx": ["--twin"], "net.nir": []}.items():
        assert run(["deploy", "export", str(tmp_path / "net.safetensors"), str(tmp_path / name), *words]) == 0
        assert (tmp_path / name).stat().st_size > 1000
    capsys.readouterr()
    for name, words, said in (
        ("net.pt", [], "ends neither in .nir nor in .onnx"),
        ("net.nir", ["--twin"], "--twin is of ONNX"),
        ("net.nir", ["--convention", "exact"], "convention must be one of euler, sinabs"),
    ):
        assert run(["deploy", "export", str(tmp_path / "net.safetensors"), str(tmp_path / name), *words]) == 2
        assert said in capsys.readouterr().err
