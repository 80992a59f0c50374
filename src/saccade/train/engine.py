"""Training a model: processes, precision, the loop from the first step to the score on the test set."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from saccade.data import Augmentation, AugmentSettings, Splits, image_batches
from saccade.data.children import end_with_parent
from saccade.files.model_file import named
from saccade.kernels import keep_memory
from saccade.layers import declare_inputs, set_recompute, set_spike_packing, weight_forms
from saccade.models import SpikingModel
from saccade.optional import need
from saccade.train import checkpoint
from saccade.train.ingredients import Ingredient
from saccade.train.loop import Job, checkpoint_path
from saccade.train.losses import ExtraLoss
from saccade.train.optimizers import build_optimizer
from saccade.train.reporter import Reporter
from saccade.train.settings import TrainSettings
from saccade.train.tasks import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_FIRST = "SACCADE_FIRST_PROCESS"  # the id of the process of rank 0, for those that it starts


def launch(settings: TrainSettings, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(fabric, *arguments)`` in each of the processes that the settings ask for; the result of rank 0."""
    Fabric = need("lightning_fabric", "train").Fabric
    if os.environ.get("LOCAL_RANK", "0") != "0":  # started by rank 0, which may be gone already, or a launcher
        end_with_parent(int(os.environ.get(_FIRST) or os.getppid()))
    else:
        os.environ[_FIRST] = str(os.getpid())
    strategy = "ddp" if settings.strategy == "auto" and settings.devices > 1 else settings.strategy
    precision: Any = precision_for(settings)
    if precision == "bf16-mixed" and not _computes_in_bf16(settings):
        warnings.warn(
            "train.precision: nothing here computes in bf16, so bf16-mixed is emulated, many times slower than 32-true "
            "(auto chooses)",
            stacklevel=2,
        )
    fabric = Fabric(accelerator=settings.accelerator, devices=settings.devices, strategy=strategy, precision=precision)
    return fabric.launch(function, *arguments)


def precision_for(settings: TrainSettings) -> str:
    """The precision that the settings ask for on this machine."""
    if settings.precision == "auto":
        return "bf16-mixed" if _computes_in_bf16(settings) else "32-true"
    return settings.precision


def _computes_in_bf16(settings: TrainSettings) -> bool:
    if settings.accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return platform.machine() == "arm64" or _has_bf16_instructions()


def _has_bf16_instructions() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def main_process() -> bool:
    """False in the processes of rank 1 and more."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0)


def train(
    fabric: Fabric,
    model: SpikingModel,
    task: Task,
    splits: Splits,
    settings: TrainSettings,
    directory: Path,
    *,
    seed: int = 0,
    augment: Augmentation | None = None,
    workers: int = 0,
    extra: ExtraLoss | None = None,
    ingredients: Sequence[Ingredient] = (),
    resume: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train ``model`` in place to the weights of the chosen epoch; what the summary says of training and the test set.

    Writes ``checkpoints/{initial,last,best}/`` and ``model.safetensors`` into ``directory``; ``resume`` goes on from its last
    checkpoint, if there is one. The weights after a kill and ``resume`` equal those of an undisturbed training bit for bit on
    the same machine: randomness derives from (seed, epoch, step). The epoch is chosen on the validation split; the test set
    is scored once, at the end.

    Raises ValueError for a model without a registered name or settings that it or the data do not allow, TrainingError if the
    loss stops being finite (the last good checkpoint stays), Interrupted after Ctrl-C, OSError if the disk is full.
    """
    named(model)  # before hours of training, not after
    keep_memory()
    if settings.devices > 1 and any(form.single_process for form in weight_forms(model)):
        raise ValueError("train.devices: codebooks learn and are redrawn in one process only; set it to 1")
    if augment is None:
        augment = task.augmentation(AugmentSettings(), splits.train)
    report = (reporter or Reporter()) if fabric.is_global_zero else Reporter()
    model = arranged(model, settings)
    if settings.pack_spikes is not False:
        declare_inputs(model.eval(), next(iter(image_batches(splits.train, 1, limit=1))))
    optimizer: Any = build_optimizer(model, settings)
    called: Any = torch.compile(model, dynamic=False) if settings.compile else model
    wrapped, optimizer = fabric.setup(called, optimizer)
    ema = {key: value.detach().clone() for key, value in model.state_dict().items()} if settings.ema else None
    job = Job(
        fabric,
        settings,
        task,
        splits,
        directory,
        seed,
        model,
        wrapped,
        optimizer,
        augment,
        workers=workers,
        extra=extra,
        ingredients=ingredients,
        report=report,
        ema=ema,
    )
    if resume and checkpoint_path(directory, "last").exists():
        job.restore()
    else:
        report.history([])
        if fabric.is_global_zero:
            checkpoint.save(checkpoint_path(directory, "initial"), model.state_dict(), None, None, job.progress)
    job.fit()
    return job.finish()


def arranged(model: SpikingModel, settings: TrainSettings) -> SpikingModel:
    """The model itself, in the memory layout that the settings ask for: bits depend on it, as layouts add in another order."""
    set_spike_packing(model, settings.pack_spikes)
    if settings.recompute:
        set_recompute(model, True)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
