"""Local receptive fields attached: counts of the paper's table, what is kept, and what the network computes."""

import pytest
import torch
from small_models import narrow
from torch import nn

from saccade.files import load_model, load_packed, save_model, save_packed
from saccade.layers.attention import ATTENTIONS, Attention
from saccade.layers.attention.lrf_ssa import LRFBranch
from saccade.models import create_model
from saccade.transforms import AttachLRFConfig, apply
from saccade.verify import verify, wake

BASES = ["spikformer_small", "qkformer_small", "sdt_v3_small"]
KINDS = ["lrf_ssa", "lrf_dyn"]


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "channels", "attentions", "printed"),
    [
        ("qkformer_10_512", 3584, 7, 29.18),  # of its last stage; the masks of the others stay
        ("qkformer_10_384", 2688, 7, None),  # 16.55; 16.44 is printed, which is less than the base
        ("sdt_v3_s", 4608, 8, 5.24),
        ("sdt_v3_l", 9024, 8, 19.25),
        (
            "spikformer_8_512",
            4096,
            8,
            None,
        ),  # 29.81; 29.71 is printed, which is the base with norms that are never called
    ],
)
def test_counts(name, channels, attentions, printed):
    """29 numbers a channel of v, and of a scan of 8 compartments two each, in every self-attention."""
    for kind, scans in (("lrf_ssa", 0), ("lrf_dyn", 16)):
        with torch.device("meta"):
            model = create_model(name)
            before = parameters(model)
            change = apply(model, {"name": "attach_lrf", "config": {"attention": kind}})
        assert len(change.layers) == attentions
        assert parameters(model) - before == 29 * channels + scans * attentions
        if printed is not None:
            assert round(parameters(model) / 1e6, 2) == printed


def attached(name, kind, **changes):
    model, x = narrow(name)
    wake(model, x)
    model.double().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(3)
    change = apply(model, AttachLRFConfig(ATTENTIONS[kind].changed(kind, changes)))
    return model, x.double(), before, change


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BASES)
def test_weights_are_kept_and_files_replay_it(name, kind, tmp_path):
    model, x, before, change = attached(name, kind)
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items() if key in after)
    lost = {key for key in before if key not in after}
    assert lost == set()
    new = {key.split(".local.")[0].split(".scans.")[0] for key in after if key not in before}
    assert new == set(change.layers)
    assert all(isinstance(model.get_submodule(path), Attention) for path in change.layers)
    with torch.no_grad():
        y = model(x, steps=True)
    assert y.std() > 0
    model.float()
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert torch.equal(again(x.float()), model(x.float()))
    assert again.transforms[0].where == change.layers
    save_packed(model, tmp_path / "p.safetensors", x.float())
    with torch.no_grad():
        found = load_packed(tmp_path / "p.safetensors")(x.float())
        assert torch.allclose(found, model(x.float()), atol=1e-3)


@pytest.mark.parametrize("name", BASES)
def test_zero_kernels_leave_the_network_as_it_was(name):
    model, x = narrow(name)
    wake(model, x)
    model.double().eval()
    with torch.no_grad():
        expected = model(x.double(), steps=True)
    apply(model, "attach_lrf")
    for branch in (module for module in model.modules() if isinstance(module, LRFBranch)):
        for convolution in branch.convolutions:
            nn.init.zeros_(convolution.weight)
    with torch.no_grad():
        assert torch.equal(model(x.double(), steps=True), expected)
    assert expected.std() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BASES)
def test_what_it_makes_keeps_the_promises(name, kind):
    model, x = narrow(name)
    apply(model, {"name": "attach_lrf", "config": {"attention": kind}})
    wake(model, x)
    found = verify(model, x, strict=True)
    assert found.passed, found.table()


def test_some_of_them():
    model, _ = narrow("qkformer_small", depths=(1, 1, 2))
    every = AttachLRFConfig().apply(narrow("qkformer_small", depths=(1, 1, 2))[0]).layers
    change = apply(model, AttachLRFConfig(where=(every[0],)))
    assert change.layers == every[:1]
    assert change.left == every[1:]


def test_what_cannot_be():
    with pytest.raises(ValueError, match="attention must be lrf_ssa or lrf_dyn, got sssa_v2"):
        AttachLRFConfig(ATTENTIONS["sssa_v2"])
    model, _ = narrow("sdt_v1_small")
    with pytest.raises(ValueError, match="SpikeDrivenV1 has no self-attention of spikes"):
        apply(model, "attach_lrf")
    model, _ = narrow("spikformer_small")
    with pytest.raises(ValueError, match="where: among the self-attentions: 'head' fits none of"):
        apply(model, AttachLRFConfig(where=("head",)))
    assert model.transforms == []
    apply(model, "attach_lrf")
    with pytest.raises(ValueError, match="without local receptive fields"):
        apply(model, "attach_lrf")
