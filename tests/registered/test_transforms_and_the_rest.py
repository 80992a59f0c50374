"""Every registered transform, task, data set and stage passes the contract."""

import copy
import json

import pytest
import torch
from small_models import narrow

from saccade.data import DATA_SETS
from saccade.experiment import STAGES
from saccade.files import fingerprint, load_model, save_model
from saccade.neurons import SURROGATES
from saccade.train import TASKS
from saccade.transforms import TRANSFORMS, apply, channel_groups, norm_chains, undo
from saccade.verify import wake

CONFIGS = {  # of those that are told what to change; the others change what they can
    "prune": lambda model, x: {"kept": {name: (0, 2) for name in list(channel_groups(model))[:2]}},
    "fold_norms": lambda model, x: {"chains": [(chain.layer, chain.norm) for chain in norm_chains(model, x).chains]},
    "remove_shortcuts": lambda model, x: {"remove": ["blocks.*"]},
}
AFTER = {"thaw_scales": "quantize"}  # those that change what another one made
SUBJECTS = {
    "unroll": ("qsd_small", "ie_lif"),
    "merge_projections": ("sdt_v2_small", "spikformer"),
    "attach_lrf": ("spikformer_small", "tet"),
}  # those that change what this one does not have


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform(name, tmp_path):
    """It changes the model, says so, is replayed by the file, survives a copy, and is undone or one-way by name."""
    subject, neuron = SUBJECTS.get(name, ("or_resnet18", "tet"))
    model, x = narrow(subject, neuron=neuron)
    wake(model.eval(), x)
    if name in AFTER:
        apply(model, AFTER[name])
    before, weights = fingerprint(model), copy.deepcopy(model.state_dict())
    noted = len(model.transforms)
    config = CONFIGS[name](model, x) if name in CONFIGS else {}
    change = apply(model, {"name": name, "config": config})
    assert change.layers
    assert len(model.transforms) == noted + 1
    assert fingerprint(model) != before or not TRANSFORMS[name].changes_structure
    assert json.loads(json.dumps(change.config.record()))["name"] == name
    with torch.no_grad():
        y = model(x)
        assert torch.equal(copy.deepcopy(model)(x), y)
        save_model(model, tmp_path / "model.safetensors")
        again = load_model(tmp_path / "model.safetensors")
        assert torch.equal(again(x), y)
    assert again.transforms == model.transforms
    try:
        undo(model, name)
    except ValueError as error:
        assert name in str(error)  # noqa: PT017
        assert "one-way" in str(error)  # noqa: PT017
        return
    assert fingerprint(model) == before
    assert model.state_dict().keys() == weights.keys()


@pytest.mark.parametrize("registry", [TASKS, DATA_SETS, STAGES, TRANSFORMS, SURROGATES], ids=lambda one: one.kind)
def test_settings(registry):
    """What recipes say of one is JSON and makes it again; a misspelt field is named; nothing can be changed."""
    assert len(registry) > 0
    for name, config in registry.items():
        record = json.loads(json.dumps(config.record()))
        assert type(config).parse(record) == config, name
        assert (type(config).__doc__ or "").strip(), name
        with pytest.raises(ValueError, match=f"{name} takes no 'no_such_field'"):
            type(config).parse({"name": name, "config": {"no_such_field": 1}})
        with pytest.raises(AttributeError):
            config.anything = 1
    with pytest.raises(ValueError, match=f"unknown {registry.kind} 'nothing_of_the_kind'"):
        registry["nothing_of_the_kind"]


@pytest.mark.parametrize("name", DATA_SETS)
def test_data_set(name, tmp_path):
    """It says what it is, and where its files should be when they are not there."""
    source = DATA_SETS[name]
    assert source.describe()
    assert source.scale > 0
    try:
        parts = source.read(tmp_path)
    except (FileNotFoundError, ValueError, ModuleNotFoundError) as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert parts.train.shape == parts.test.shape
    assert len(parts.train) > len(parts.test) > 0
