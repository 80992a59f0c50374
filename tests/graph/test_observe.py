"""`observe` and `outputs`: what is seen of which modules, and that nothing stays behind."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from saccade.graph import observe, outputs


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.ModuleDict({"inner": nn.ReLU(), "unused": nn.ReLU()})
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        y = self.second["inner"](input=self.first(x))
        return y + self.second["inner"](self.first(x + 1))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_every_call_is_noted_with_its_path_arguments_and_output():
    model, x = Net(), torch.rand(2, 3)
    seen: list[tuple[str, nn.Module, tuple, Tensor]] = []
    with observe(model, lambda path, module: isinstance(module, nn.ReLU), lambda *call: seen.append(call)):
        model(x)
    assert [call[0] for call in seen] == ["second.inner"] * 2
    assert seen[0][1] is model.second["inner"]
    assert torch.equal(seen[0][2][0], model.first(x))  # given by keyword
    assert torch.equal(seen[1][3], model.first(x + 1).relu())
    assert hooks(model) == 0


def test_outputs_by_path():
    model, x = Net(), torch.rand(2, 3)
    with outputs(model, ["first", "second.unused", ""]) as seen:
        y = model(x)
    assert {path: len(values) for path, values in seen.items()} == {"first": 2, "second.unused": 0, "": 1}
    assert torch.equal(seen[""][0], y)
    seen["first"][0].sum().backward()  # gradients reach the weights
    assert model.first.weight.grad is not None


def test_outputs_are_what_was_returned_whatever_is_done_to_it_afterwards():
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            out = self.layer(x.clone())
            out += x
            return out

    x = torch.rand(2, 3)
    model = Residual()
    with outputs(model, ["layer"]) as seen:
        model(x)
    assert torch.equal(seen["layer"][0], x)


def test_a_module_at_two_paths_is_found_by_either_and_once_by_a_predicate():
    model, x = Net(), torch.rand(2, 3)
    with outputs(model, ["again"]) as seen:
        model(x)
    assert len(seen["again"]) == 2
    with outputs(model, lambda path, module: isinstance(module, nn.Linear)) as seen:
        model(x)
    assert {path: len(values) for path, values in seen.items()} == {"first": 2}


def test_bad_selections_are_refused_and_failures_leave_no_hooks():
    model = Net()
    with pytest.raises(ValueError, match=r"Net has no module 'secnd.inner'; did you mean 'second.inner'\?"):
        observe(model, ["first", "secnd.inner"], print).__enter__()
    with pytest.raises(ValueError, match="a list of paths or a predicate, got the text 'first'"):
        outputs(model, "first").__enter__()
    with pytest.raises(RuntimeError), outputs(model, ["first"]):
        model(torch.rand(2, 5))
    assert hooks(model) == 0


def test_the_graph_knows_nothing_of_neurons_layers_or_models():
    code = "import saccade.graph, sys; print([m for m in sys.modules if m.startswith('saccade.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "saccade.graph.axes" in loaded
    assert not {f"saccade.{name}" for name in ("neurons", "layers", "models", "measure")} & set(eval(loaded))
