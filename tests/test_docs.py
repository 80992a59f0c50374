"""The Python snippets of the documentation run as they stand, a page's one after another."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from saccade.data import DATA_SETS
from saccade.models import MODELS

DOCS = Path(__file__).parents[1] / "docs"
NET = "from saccade.models import create_model\nmodel = create_model('or_resnet18_small', T=2)\n"
THEIRS = """
class MyLIF(torch.nn.Module):
    v = 0.0

    def forward(self, x):
        steps = []
        for current in x:
            self.v = self.v / 2 + current
            steps.append((self.v >= 1).to(x.dtype))
            self.v = self.v - steps[-1]
        return torch.stack(steps)

class Tracker(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(6, 5)

    def forward(self, template, search):
        return self.embed(template) + self.embed(search).mean(0)

theirs, tracker = torch.nn.Sequential(torch.nn.Linear(6, 5), MyLIF()), Tracker()
spikes = [(torch.rand(4, 2, 6) > 0.5).float()]
template, search = torch.rand(2, 6), torch.rand(4, 2, 6)

def reset_net(net):
    net[1].v = 0.0
"""
BEFORE = {  # what a page takes as given
    "compression.md": "",
    "data.md": "",
    "dense.md": "",
    "event-networks.md": "",
    "events.md": "",
    "kernels.md": NET + "images = torch.rand(2, 3, 32, 32)",
    "layers.md": "",
    "lrf-dyn.md": "",
    "measuring.md": NET + "batches = [(torch.rand(2, 3, 32, 32), torch.zeros(2))]" + THEIRS,
    "memory-free.md": "",
    "models.md": "",
    "snn-vit.md": "",
    "track.md": "",
    "transformers.md": "",
    "neurons.md": NET + "x, camera = torch.rand(4, 2, 8), [torch.rand(2, 1, 3, 32, 32)]",
}


@pytest.mark.parametrize("page", BEFORE)
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for registry in (MODELS, DATA_SETS):  # what a page registers is of that page alone
        monkeypatch.setattr(registry, "_values", dict(registry._values))
    torch.manual_seed(0)
    module = types.ModuleType("snippets")
    monkeypatch.setitem(sys.modules, "snippets", module)
    names = vars(module)
    names["torch"] = torch
    exec(BEFORE[page], names)
    snippets = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert snippets
    for number, snippet in enumerate(snippets, 1):
        exec(compile(snippet, f"{page}, snippet {number}", "exec"), names)
