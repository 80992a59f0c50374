"""What follows training, by the names recipes use; each writes its file into the run directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.cli.pixels import PIXELS
from saccade.compress import distill
from saccade.compress import natural_pruning as prune
from saccade.compress.pipeline import prune_and_finetune
from saccade.data import Splits, batches, image_batches
from saccade.measure import profile
from saccade.models import SpikingModel, load_model, save_model
from saccade.models.files import fit_weights
from saccade.train import Recipe, build_model, checkpoint
from saccade.train.engine import Finished
from saccade.train.losses import ExtraLoss
from saccade.train.recipe import TeacherSettings
from saccade.train.rundir import RunDirectory

PROFILED_IMAGES = 256
SAMPLES = 8
RASTER_NEURONS = 64


def profiled(finished: Finished) -> dict[str, Any]:
    """profile.json: spikes, operations and energy per layer, over the first test images."""
    found = profile(finished.model, image_batches(finished.splits.test, limit=PROFILED_IMAGES))
    record = found.to_json()
    finished.run.write_json("profile.json", record)
    total = found.total()
    return {
        "profile": {
            "images": found.samples,
            "spikes_per_image": total.spikes / found.samples,
            "spikes_per_neuron": total.spikes_per_neuron,
            "sops_per_image": total.sops / found.samples,
            "macs_per_image": total.macs / found.samples,
            "energy_standard_uj": found.energy("standard").total_pj * 1e-6,
            "energy_orrc_uj": found.energy("orrc").total_pj * 1e-6,
            "silent_layers": [row.name for row in found.layers if row.silent],
        }
    }


def natural_pruning(finished: Finished) -> dict[str, Any]:
    """pruned.safetensors and pruning.json: shortcuts that never fired on training and validation data are removed."""
    run, test = finished.run, finished.splits.test
    pruned, report = prune_run(finished.model, finished.recipe, finished.splits, run, finished.summary["chosen_epoch"])
    if report["removed"]:
        save_model(pruned, run.path / "pruned.safetensors", test.classes, test.shape)
    run.write_json("pruning.json", report)
    return {"pruning": {key: report[key] for key in ("removed", "saved_parameters", "measured", "test")}}


def prune_run(
    model: SpikingModel,
    recipe: Recipe,
    splits: Splits,
    run: RunDirectory,
    chosen_epoch: int,
    progress: Callable[[str, int], None] | None = None,
) -> tuple[SpikingModel, dict[str, Any]]:
    """Natural pruning of a run's model on the run's own data, against its initial weights and its history until then."""

    def measured() -> Iterable[Tensor]:
        yield from image_batches(splits.train)
        yield from image_batches(splits.validation)

    initial = None
    start = run.checkpoint("initial")
    if start.exists():
        initial = build_model(recipe.model).eval()
        fit_weights(initial, checkpoint.load(start)[0]["model"], str(start))
    history = [row for row in run.metrics() if (row["epoch"] or 0) <= chosen_epoch]  # later epochs are other weights
    return prune(model, measured, lambda: image_batches(splits.test), initial, history, progress)


def samples(finished: Finished) -> dict[str, Any]:
    """samples.npz: a few test images, one a class first, with their predictions and the rasters of some neurons.

    Arrays: ``images`` uint8 ``[n, C, H, W]``, ``labels`` and ``logits`` ``[n]``, ``[n, K]``, and for every neuron layer
    ``raster/PATH`` uint8 ``[n, T, 64]``: the steps of evenly spaced neurons.
    """
    model, test = finished.model, finished.splits.test
    order = torch.argsort(_occurrence(test.labels), stable=True)[:SAMPLES]
    x, y = next(iter(batches(test.subset(order.tolist()), SAMPLES, seed=None)))
    device = next(model.parameters()).device
    rasters: dict[str, np.ndarray] = {}
    handles = []
    for path, module in model.named_modules():
        if hasattr(module, "levels") and getattr(module, "role", "") != "gate":

            def keep(_: object, __: object, out: Tensor, path: str = path) -> None:
                flat = out.detach().flatten(2).transpose(0, 1)
                picked = torch.linspace(0, flat.shape[-1] - 1, min(RASTER_NEURONS, flat.shape[-1])).long()
                rasters[f"raster/{path}"] = (flat[..., picked.to(flat.device)] != 0).to(torch.uint8).cpu().numpy()

            handles.append(module.register_forward_hook(keep))
    with torch.inference_mode():
        logits = model(x.to(device)).float().cpu().numpy()
    for handle in handles:
        handle.remove()
    images = (x * 255).round().to(torch.uint8).numpy()
    aside = finished.run.path / "samples.part.npz"
    np.savez_compressed(aside, images=images, labels=y.numpy(), logits=logits, **rasters)  # type: ignore[arg-type]
    aside.replace(finished.run.path / "samples.npz")
    return {}


def _occurrence(labels: Tensor) -> Tensor:
    """How many earlier items have the same label: sorting by it takes one of every class first."""
    seen: dict[int, int] = {}
    result = []
    for label in labels.tolist():
        result.append(seen.get(label, 0))
        seen[label] = result[-1] + 1
    return torch.tensor(result)


def teach(settings: TeacherSettings, student: SpikingModel) -> ExtraLoss:
    """The loss of a recipe's teacher."""
    return distill(student, load_model(settings.model), **settings.model_dump(exclude={"model"}))


def pruned(finished: Finished) -> dict[str, Any]:
    """finetune/, the run that goes on from the pruned model, and compression.json: what each step cost and scored."""
    steps = prune_and_finetune(finished, STAGES, teach, PIXELS)
    finished.run.write_json("compression.json", {"format": "saccade-compression-1", "steps": steps})
    return {"compression": steps}


STAGES = {"profile": profiled, "natural_pruning": natural_pruning, "samples": samples, "prune": pruned}
