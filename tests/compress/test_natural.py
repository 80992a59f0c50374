"""Natural pruning: only what is silent goes, and the logits stay, bit for bit."""

import copy

import pytest
import torch
from torch import nn

from saccade.compress import (
    compare_logits,
    measure_shortcuts,
    natural_pruning,
    silent_shortcuts,
)
from saccade.files import load_model, save_model
from saccade.models import create_model
from saccade.transforms import RemoveShortcutsConfig, apply, spiking_shortcuts

TINY = {"stem": "mnist", "T": 4, "widths": (4, 8, 8), "pairs": (1, 1, 1), "neuron": "tet"}
FIRST, SECOND = "blocks.1.shortcut", "blocks.2.shortcut"


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(8, 1, 12, 12, generator=generator) for _ in range(3)]


def network(name="or_resnet18", silent=(FIRST,), **kwargs):
    """All layers fire, except the shortcuts named silent."""
    torch.manual_seed(0)
    model = create_model(name, **TINY, **kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.5)
            module.momentum = None
    for path in silent:
        norm = model.get_submodule(path).norm
        nn.init.constant_(norm.weight, 0.0)
        nn.init.constant_(norm.bias, -1.0)
    model(torch.rand(16, 1, 12, 12))
    return model.eval()


def test_counts_are_exact(batches):
    model = network()
    fired = 0

    def count(_, __, y):
        nonlocal fired
        fired += int(y.sum())

    model.get_submodule(SECOND).register_forward_hook(count)
    first, second = measure_shortcuts(model, batches)
    assert (first.path, first.spikes, first.gate_spikes, first.samples) == (FIRST, 0, None, 24)
    assert second.spikes == fired > 0
    assert second.rate == fired / (24 * 4 * 8 * 3 * 3)
    assert second.parameters == 8 * 8 + 16


@pytest.mark.parametrize("connection", ["or", "add"])
def test_silent_shortcuts_go_and_nothing_changes(batches, connection, tmp_path):
    model = network(f"{connection}_resnet18")
    pruned, report = natural_pruning(model, lambda: batches, lambda: batches[:1])
    assert report["removed"] == [FIRST]
    assert list(spiking_shortcuts(pruned)) == [SECOND]
    assert list(spiking_shortcuts(model)) == [FIRST, SECOND]  # the original is untouched
    assert report["measured"] == {"samples": 24, "differing_samples": 0, "largest_difference": 0.0, "equal": True}
    assert report["test"]["samples"] == 8
    assert report["saved_parameters"] == 4 * 8 + 16
    for x in batches:
        assert model(x).abs().sum() > 0
        assert torch.equal(model(x, steps=True), pruned(x, steps=True))
    # the removal is replayed from the model file
    save_model(pruned, tmp_path / "p.safetensors")
    loaded = load_model(tmp_path / "p.safetensors")
    assert torch.equal(loaded(batches[0]), model(batches[0]))
    assert loaded.transforms == [RemoveShortcutsConfig((FIRST,))]


def test_one_spike_keeps_a_shortcut(batches):
    """The published figures call a rate of 0.0001 alive, and so do we, down to a single spike."""
    model = network()
    neuron = model.get_submodule(FIRST).neuron
    x = batches[0]

    def one_spike(_, __, y):
        y = y.clone()
        y[0, 0, 0, 0, 0] = 1
        return y

    neuron.register_forward_hook(one_spike)
    records = measure_shortcuts(model, [x])
    assert records[0].spikes == 1
    assert silent_shortcuts(model, records) == []


@pytest.mark.parametrize("connection", ["iand", "and"])
def test_where_silence_is_not_the_backbone_nothing_is_removed(batches, connection):
    model = network(f"{connection}_resnet18")
    records = measure_shortcuts(model, batches)
    assert records[0].spikes == 0
    assert silent_shortcuts(model, records) == []
    with pytest.raises(ValueError, match=f"cannot be removed: '{connection}' of a silent shortcut is not the backbone"):
        apply(model, RemoveShortcutsConfig((FIRST,)))


def test_removing_what_fires_is_seen(batches):
    model = network()
    less = copy.deepcopy(model)
    apply(less, RemoveShortcutsConfig((SECOND,)))
    found = compare_logits(model, less, batches)
    assert not found["equal"]
    assert found["differing_samples"] > 0
    assert found["largest_difference"] > 0


@pytest.mark.parametrize(
    ("history", "initial_silent", "story"),
    [
        ([], True, "never fired"),
        ([], False, "closed in training: it fired before"),
        (
            [{f"rate/{FIRST}.neuron": 0.0}, {f"rate/{FIRST}.neuron": 0.25}],
            True,
            "closed in training: it fired before (up to 0.25",
        ),
    ],
)
def test_the_story_of_a_shortcut(batches, history, initial_silent, story):
    initial = network(silent=(FIRST,) if initial_silent else ())
    _, report = natural_pruning(network(), lambda: batches, initial=initial, history=history)
    assert report["shortcuts"][0]["story"].startswith(story)
    assert report["shortcuts"][1]["story"] == "fires"


def test_a_gate_that_never_opened_is_told_from_one_that_closed(batches):
    def gated(scale):
        model = network("syna_resnet18", silent=(), position="b")
        for path in (FIRST, SECOND):
            for p in model.get_submodule(path).gate.parameters():
                p.data *= scale
        return model

    closed, opened = gated(0.01), gated(30.0)
    _, report = natural_pruning(closed, lambda: batches, initial=closed)
    assert report["removed"] == [FIRST, SECOND]
    assert report["shortcuts"][0]["gate_spikes"] == 0
    assert report["shortcuts"][0]["story"] == "never opened: its gate was closed at initialisation and ever since"
    seen = [{f"rate/{FIRST}.gate.gates.0.neuron": 0.5}]
    _, report = natural_pruning(closed, lambda: batches, initial=closed, history=seen)
    assert report["shortcuts"][0]["story"] == "never fired, though its gate was open before (up to 0.5 a step)"
    assert measure_shortcuts(opened, batches)[0].gate_rate > 0.1
    _, report = natural_pruning(closed, lambda: batches, initial=opened)
    assert report["shortcuts"][0]["story"].startswith("closed in training: it fired before")


def test_bad_requests(batches):
    model = network()
    with pytest.raises(ValueError, match="'blocks.9.shortcut' fits none of blocks.1.shortcut"):
        apply(model, RemoveShortcutsConfig(("blocks.9.shortcut",)))
    with pytest.raises(ValueError, match="no spiking shortcuts"):
        natural_pruning(network("plain_resnet18", silent=()), lambda: batches)
