"""The training loop: epochs, steps, checkpoints, the choice of an epoch and the final score."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from saccade.data import Augmentation, Splits, batches, steps_per_epoch
from saccade.files import fit_weights, save_model
from saccade.files.tensors import BROKEN, in_one_line
from saccade.layers import WeightForm, weight_forms
from saccade.models import SpikingModel
from saccade.neurons.spiking import recording
from saccade.train import checkpoint
from saccade.train.checkpoint import Progress
from saccade.train.evaluate import Evaluation, evaluate
from saccade.train.ingredients import Ingredient, TrainingStep
from saccade.train.losses import ExtraLoss
from saccade.train.reporter import Reporter
from saccade.train.schedule import learning_rate
from saccade.train.settings import TrainSettings
from saccade.train.tasks import Metrics, Task


class TrainingError(RuntimeError):
    """Training cannot go on (the loss is not finite, ...); the message says what to do."""


class Interrupted(Exception):
    """Ctrl-C: the state is saved and the run can be resumed."""


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seed torch for one step from what names it, so that a resumed run draws what the first would have drawn."""
    torch.manual_seed(hash((seed, epoch, step, rank)) % 2**63)  # hash of ints is the same in every process


def checkpoint_path(directory: Path, name: str) -> Path:
    """Where a run keeps its state: "initial", "last" or "best"."""
    return directory / "checkpoints" / name / "state.safetensors"


@dataclass
class Job:
    """A training in progress: what it works on, and where it stands. ``directory`` takes its checkpoints and the model."""

    fabric: Any
    settings: TrainSettings
    task: Task
    splits: Splits
    directory: Path
    seed: int
    model: SpikingModel
    wrapped: Any
    optimizer: Optimizer
    augment: Augmentation
    workers: int = 0
    extra: ExtraLoss | None = None
    ingredients: Sequence[Ingredient] = ()
    report: Reporter = field(default_factory=Reporter)
    ema: dict[str, Tensor] | None = None
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        settings = self.settings
        # a last batch of a few samples would give the norms useless statistics, so training drops it
        self.steps = steps_per_epoch(
            self.splits.train, settings.batch_size, drop_last=True, world=self.fabric.world_size
        )
        if self.steps == 0:
            have = len(self.splits.train)
            raise ValueError(f"train.batch_size: {settings.batch_size} is more than the {have} training images")
        self.metrics = self._fresh_metrics()

    def _fresh_metrics(self) -> Metrics:
        metrics = self.task.metrics(training=True)
        metrics.to(self.fabric.device)
        return metrics

    def restore(self) -> None:
        path = checkpoint_path(self.directory, "last")
        parts, optimizer, progress = checkpoint.load(path)
        fit_weights(self.model, parts["model"], str(path))
        try:
            if optimizer is not None:
                self.optimizer.load_state_dict(optimizer)
            if self.ema is not None:
                _same_tensors(self.ema, parts["ema"], "ema")
                self.ema = {key: value.to(self.fabric.device) for key, value in parts["ema"].items()}
            if parts["metrics"]:
                _same_tensors(self.metrics.sums, parts["metrics"], "metrics")
                self.metrics.sums = parts["metrics"]
                self.metrics.to(self.fabric.device)
            if progress.loss_scale:
                self.fabric.strategy.precision.load_state_dict(progress.loss_scale)
            if (
                progress.epoch > self.settings.epochs or progress.step > self.steps
            ):  # after the last step of an epoch, too
                raise ValueError(f"epoch {progress.epoch}, step {progress.step} of a run that has no such")
            needed = {"lr", "train_loss", "validation_loss", "seconds"} | set(self._scores("validation", None))
            if progress.history and not needed <= progress.history[0].keys():
                raise ValueError("a history without the columns of this run")
        except BROKEN as error:
            raise ValueError(f"{path}: a damaged checkpoint ({in_one_line(error)})") from None
        self.progress = progress
        self.report.history(progress.history)
        self.report.resumed(progress.epoch, progress.step)

    def save(self, name: str = "last") -> None:
        if self.fabric.is_global_zero:
            self.progress.loss_scale = self.fabric.strategy.precision.state_dict()  # of 16-mixed; else empty
            checkpoint.save(
                checkpoint_path(self.directory, name),
                self.model.state_dict(),
                self.ema,
                self.optimizer,
                self.progress,
                self.metrics.sums if self.progress.step else None,
            )
        self.fabric.barrier()

    def fit(self) -> None:
        settings, progress, primary = self.settings, self.progress, self.task.primary
        self._check_weights()
        if not progress.history:
            self._log_epoch(0, None, self.validate())  # rates at initialisation tell "never opened" from "closed"
        with _deferred_interrupt() as interrupted:
            for epoch in range(progress.epoch, settings.epochs):
                self._epoch(epoch, interrupted)
                self._check_weights()
                last = epoch + 1 == settings.epochs
                validation = self.validate() if last or (epoch + 1) % settings.evaluate_every == 0 else None
                progress.epoch, progress.step = epoch + 1, 0
                self._log_epoch(epoch + 1, (progress.loss_sum / self.steps, self.metrics.result()), validation)
                progress.loss_sum, progress.seconds, self.metrics = 0.0, 0.0, self._fresh_metrics()
                if validation is not None and primary.better(validation.metrics[primary.name], progress.best_score):
                    progress.best_score, progress.best_epoch = validation.metrics[primary.name], epoch + 1
                    self.save("best")
                self.save()
                if self._agreed(interrupted) and not last:
                    raise Interrupted(f"interrupted after epoch {epoch + 1}; everything is saved")

    def _epoch(self, epoch: int, interrupted: Callable[[], bool]) -> None:
        settings, progress, fabric = self.settings, self.progress, self.fabric
        for form in weight_forms(self.model):
            form.before_epoch(epoch / max(settings.epochs - 1, 1))
        started = time.perf_counter() - progress.seconds
        stream = batches(
            self.splits.train,
            settings.batch_size,
            seed=self.seed,
            epoch=epoch,
            rank=fabric.global_rank,
            world=fabric.world_size,
            start=progress.step,
            drop_last=True,
            workers=self.workers,
        )
        self.model.train()
        loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=fabric.device)
        self.report.epoch(epoch + 1, self.steps, progress.step)
        for x, y in stream:
            step = progress.step
            loss_sum = loss_sum + self._step(x, y, epoch, step).double()
            progress.step = step + 1
            saving = settings.checkpoint_steps and progress.step % settings.checkpoint_steps == 0
            reading = saving or step % 10 == 9 or progress.step == self.steps  # reading the loss waits for the GPU
            stop = self._agreed(interrupted, reading)
            if reading or stop:
                progress.loss_sum = float(loss_sum)
                progress.seconds = time.perf_counter() - started
                self._check_finite(progress.loss_sum, epoch, step)
                self.report.step(progress.step, progress.loss_sum / progress.step)
            if stop or (saving and progress.step < self.steps):
                self._check_weights()
                self.save()
            if stop:
                raise Interrupted(f"interrupted in epoch {epoch + 1}, step {progress.step}; everything is saved")
        if fabric.world_size > 1:
            progress.loss_sum = float(fabric.all_reduce(loss_sum, reduce_op="mean"))
            self.metrics.sums = {
                name: fabric.all_reduce(value, reduce_op="sum") for name, value in self.metrics.sums.items()
            }
            self._average_buffers()

    def _agreed(self, interrupted: Callable[[], bool], reading: bool = True) -> bool:
        """Whether to stop. Several processes stop after the same step: one that went on would wait for the others for ever."""
        if self.fabric.world_size == 1:
            return interrupted()
        if not reading:
            return False
        asked = torch.tensor(float(interrupted()), device=self.fabric.device)
        return bool(self.fabric.all_reduce(asked, reduce_op="sum") > 0)

    def _step(self, x: Tensor, y: Tensor, epoch: int, step: int) -> Tensor:
        settings, fabric = self.settings, self.fabric
        seed_step(self.seed, epoch, step, fabric.global_rank)
        x, y = self.augment(x.to(fabric.device), y.to(fabric.device))
        if settings.channels_last and x.dim() == 4:
            x = x.to(memory_format=torch.channels_last)
        rate = learning_rate(
            epoch * self.steps + step,
            total=settings.epochs * self.steps,
            peak=settings.lr,
            warmup=round(settings.warmup * self.steps),
            final=settings.final_lr,
            schedule=settings.schedule,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)  # checkpoints of earlier versions have none
        for form in weight_forms(self.model):
            form.before_step(epoch * self.steps + step)
        x, output, loss = self._loss(x, y, epoch * self.steps + step)
        fabric.backward(loss)
        if settings.clip_norm:
            fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        for form in weight_forms(self.model):
            form.after_step()
        with torch.no_grad():
            for ingredient in self.ingredients:
                ingredient.after_step(self.model)
        self.optimizer.zero_grad()
        if self.ema is not None:
            self._update_ema(settings.ema)
        self.metrics.update(output.detach(), y)
        return loss.detach()

    def _loss(self, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """The images that the model is trained on, what it makes of them, and the loss."""
        seen = TrainingStep(
            self.model, self.task, x, y, number / max(self.settings.epochs * self.steps - 1, 1), self._call_bare
        )
        for ingredient in self.ingredients:
            seen.images = ingredient.images(seen)
        x = seen.images
        with contextlib.ExitStack() as stack:
            more = None if self.extra is None else stack.enter_context(self.extra(x, self.fabric.autocast))
            if any(ingredient.wants_potentials for ingredient in self.ingredients):
                seen.potentials = stack.enter_context(recording(self.model))
            seen.output = output = self._call(x)
            loss = self.task.loss(output, y)
            if more is not None:
                loss = loss + more(output)
        for ingredient in self.ingredients:
            loss = loss + ingredient.loss(seen)
        return x, output, loss

    def _call(self, x: Tensor) -> Tensor:
        output: Tensor = self.wrapped(x, steps=True)
        return output

    def _call_bare(self, x: Tensor) -> Tensor:
        """Without Fabric's wrapper, which in mixed precision refuses every gradient but that of its own ``backward``."""
        with self.fabric.autocast():
            output: Tensor = self.model(x, steps=True)
        return output

    def _update_ema(self, decay: float) -> None:
        assert self.ema is not None
        copied = {
            f"{path}.{name}"
            for path, module in self.model.named_modules()
            if isinstance(module, WeightForm)
            for name in module.unaveraged
        }
        for key, value in self.model.state_dict().items():
            if value.dtype.is_floating_point and key not in copied:
                self.ema[key].lerp_(value.to(self.ema[key]), 1 - decay)
            else:
                self.ema[key].copy_(value)

    def _average_buffers(self) -> None:
        """Each rank saw its own batches: the running statistics become their mean."""
        for _, buffer in sorted(self.model.named_buffers()):
            if buffer.dtype.is_floating_point:
                buffer.copy_(self.fabric.all_reduce(buffer, reduce_op="mean"))

    def _check_finite(self, loss_sum: float, epoch: int, step: int) -> None:
        if loss_sum - loss_sum == 0:  # false for NaN and both infinities
            return
        where = f"epoch {epoch + 1}, step {step + 1}"
        kept = checkpoint_path(self.directory, "last")
        tail = f"the last good checkpoint is {kept}" if kept.exists() else "no checkpoint had been written yet"
        raise TrainingError(f"the loss is not finite in {where}; {tail}; try a lower train.lr or set train.clip_norm")

    def _check_weights(self) -> None:
        """A potential that is not finite never fires, so a loss can stay finite while the weights do not."""
        parts = self.model.state_dict() | {f"ema of {key}": value for key, value in (self.ema or {}).items()}
        floating = {key: value for key, value in parts.items() if value.is_floating_point() and value.numel()}
        if not floating or bool(torch.stack([value.detach().sum() for value in floating.values()]).isfinite().all()):
            return
        key = next((key for key, value in floating.items() if not value.isfinite().all()), None)
        if key is None:  # finite numbers whose sum is not
            return
        epoch, step = self.progress.epoch, self.progress.step
        kept = checkpoint_path(self.directory, "last")
        tail = f"the last good checkpoint is {kept}" if kept.exists() else "no checkpoint had been written yet"
        raise TrainingError(
            f"{key} is not finite after epoch {epoch}, step {step}; {tail}; try a lower train.lr or set train.clip_norm"
        )

    def validate(self) -> Evaluation:
        settings = self.settings
        with self._averaged_weights():
            return evaluate(
                self.model,
                self.splits.validation,
                self.task,
                batch_size=settings.evaluation_batch_size,
                workers=self.workers,
                forward=self._forward,
            )

    def _forward(self, x: Tensor, steps: bool = False) -> Tensor:
        if self.settings.channels_last and x.dim() == 4:
            x = x.to(memory_format=torch.channels_last)
        with self.fabric.autocast():
            y: Tensor = self.model(x, steps=steps)
        return y

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        if self.ema is None:
            yield
            return
        live = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        try:
            yield
        finally:
            self.model.load_state_dict(live)

    def _log_epoch(
        self, epoch: int, training: tuple[float, dict[str, Any]] | None, validation: Evaluation | None
    ) -> None:
        row: dict[str, Any] = {"epoch": epoch, "lr": self.optimizer.param_groups[0]["lr"] if training else 0.0}
        row["train_loss"] = training[0] if training else None
        row |= self._scores("train", training[1] if training else None)
        row["validation_loss"] = validation.loss if validation else None
        row |= self._scores("validation", validation.metrics if validation else None)
        row["seconds"] = round(self.progress.seconds, 3)
        row |= {f"rate/{path}": rate for path, rate in (validation.rates if validation else {}).items()}
        self.progress.history.append(row)
        self.report.epoch_done(row)

    def _scores(self, part: str, result: dict[str, Any] | None) -> dict[str, float | None]:
        return {f"{part}_{score.name}": result[score.name] if result else None for score in self.task.scores}

    def finish(self) -> dict[str, Any]:
        """Take the chosen epoch's weights, write the model, score the test set once; what the summary says of it."""
        settings, progress, primary = self.settings, self.progress, self.task.primary
        epoch = progress.best_epoch if settings.choose == "best" else progress.epoch
        path = checkpoint_path(self.directory, "best" if settings.choose == "best" else "last")
        self.fabric.barrier()
        parts, _, _ = checkpoint.load(path)
        fit_weights(self.model, parts["ema"] or parts["model"], str(path))
        if self.fabric.is_global_zero:
            images = self.splits.test
            self.model.frames = images.frames
            save_model(self.model, self.directory / "model.safetensors", images.classes, images.shape)
        self.report.testing(len(self.splits.test))
        # in full precision, as everybody who loads the model file will run it
        test = evaluate(
            self.model,
            self.splits.test,
            self.task,
            batch_size=settings.evaluation_batch_size,
            workers=self.workers,
            progress=self.report.tested,
        )
        chosen = next((row for row in progress.history if row["epoch"] == epoch), None)
        if chosen is None:
            raise ValueError(f"{path}: a damaged checkpoint (no row of epoch {epoch} in its history)")
        return {
            "scores": [score._asdict() for score in self.task.scores],
            "epochs": progress.epoch,
            "chosen_epoch": epoch,
            "chosen_by": f"best validation {primary.name}" if settings.choose == "best" else "last epoch",
            **{key: chosen[key] for key in self._scores("validation", None)},
            **self.task.summary(test.metrics),
            "test_loss": test.loss,
            "training_seconds": round(sum(row["seconds"] or 0 for row in progress.history), 1),
        }


def _same_tensors(own: dict[str, Tensor], others: dict[str, Tensor], what: str) -> None:
    for key in own.keys() | others.keys():
        if key not in own or key not in others or own[key].shape != others[key].shape:
            raise ValueError(f"{what}: {key!r} is missing, not expected, or of another shape")


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let a step finish after the first Ctrl-C; a second one stops at once."""
    asked = False

    def handler(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        previous = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread: nobody can press Ctrl-C here
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)
