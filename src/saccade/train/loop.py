"""The training loop: epochs, steps, checkpoints, the choice of an epoch and the final score."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from saccade.data import Splits, batches, build_augmentation, steps_per_epoch
from saccade.files import fit_weights, save_model
from saccade.layers import weight_forms
from saccade.models import SpikingModel
from saccade.train import checkpoint
from saccade.train.checkpoint import Progress
from saccade.train.evaluate import Evaluation, evaluate
from saccade.train.losses import ExtraLoss, accuracy_count, loss_function
from saccade.train.recipe import Recipe
from saccade.train.rundir import RunDirectory
from saccade.train.schedule import learning_rate


class TrainingError(RuntimeError):
    """Training cannot go on (the loss is not finite, ...); the message says what to do."""


class Interrupted(Exception):
    """Ctrl-C: the state is saved and the run can be resumed."""


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seed torch for one step from what names it, so that a resumed run draws what the first would have drawn."""
    torch.manual_seed(hash((seed, epoch, step, rank)) % 2**63)  # hash of ints is the same in every process


@dataclass
class Job:
    """A run in progress: what it works on, and where it stands."""

    fabric: Any
    recipe: Recipe
    run: RunDirectory
    splits: Splits
    model: SpikingModel
    wrapped: Any
    optimizer: Optimizer
    ema: dict[str, Tensor] | None
    progress: Progress
    report: Any
    extra: ExtraLoss | None = None

    def __post_init__(self) -> None:
        settings, data = self.recipe.train, self.recipe.data
        world = self.fabric.world_size
        classes = self.model.num_classes
        # a last batch of a few samples would give the norms useless statistics, so training drops it
        self.steps = steps_per_epoch(self.splits.train, settings.batch_size, drop_last=True, world=world)
        if self.steps == 0:
            have = len(self.splits.train)
            raise ValueError(f"train.batch_size: {settings.batch_size} is more than the {have} training images")
        self.loss = loss_function(
            settings.loss,
            classes,
            settings.label_smoothing,
            self.model.readout,
            settings.tet_lambda,
            settings.tet_target,
        )
        self.plain_loss = loss_function(
            "ce" if settings.loss == "tet" else settings.loss, classes, 0.0, self.model.readout
        )
        self.augment = build_augmentation(
            data.augment,
            classes=classes,
            shape=self.splits.train.shape,
            crop_padding=data.crop_padding,
            cutout_size=data.cutout_size,
            mix_alpha=data.mix_alpha,
        )

    def restore(self) -> None:
        path = self.run.checkpoint("last")
        parts, optimizer, progress = checkpoint.load(path)
        fit_weights(self.model, parts["model"], str(path))
        if optimizer is not None:
            self.optimizer.load_state_dict(optimizer)
        if self.ema is not None:
            self.ema = {key: value.to(self.fabric.device) for key, value in parts["ema"].items()}
        self.progress = progress
        if progress.loss_scale:
            self.fabric.strategy.precision.load_state_dict(progress.loss_scale)
        self.run.rewrite_metrics(progress.history)
        self.report.resumed(progress.epoch, progress.step)

    def save(self, name: str = "last") -> None:
        if self.fabric.is_global_zero:
            self.progress.loss_scale = self.fabric.strategy.precision.state_dict()  # of 16-mixed; else empty
            checkpoint.save(self.run.checkpoint(name), self.model.state_dict(), self.ema, self.optimizer, self.progress)
        self.fabric.barrier()

    def fit(self) -> None:
        settings, progress = self.recipe.train, self.progress
        if not progress.history:
            self._log_epoch(0, None, self.validate())  # rates at initialisation tell "never opened" from "closed"
        with _deferred_interrupt() as interrupted:
            for epoch in range(progress.epoch, settings.epochs):
                self._epoch(epoch, interrupted)
                last = epoch + 1 == settings.epochs
                found = self.validate() if last or (epoch + 1) % settings.evaluate_every == 0 else None
                progress.epoch, progress.step = epoch + 1, 0
                mean_loss, accuracy = progress.loss_sum / self.steps, progress.correct / max(progress.seen, 1)
                self._log_epoch(epoch + 1, (mean_loss, accuracy), found)
                progress.loss_sum, progress.correct, progress.seen, progress.seconds = 0.0, 0, 0, 0.0
                if found is not None and found.accuracy > progress.best_accuracy:
                    progress.best_accuracy, progress.best_epoch = found.accuracy, epoch + 1
                    self.save("best")
                self.save()
                if interrupted() and not last:
                    raise Interrupted(f"interrupted after epoch {epoch + 1}; everything is saved")

    def _epoch(self, epoch: int, interrupted: Callable[[], bool]) -> None:
        settings, progress, fabric = self.recipe.train, self.progress, self.fabric
        for form in weight_forms(self.model):
            form.before_epoch(epoch / max(settings.epochs - 1, 1))
        started = time.perf_counter() - progress.seconds
        stream = batches(
            self.splits.train,
            settings.batch_size,
            seed=self.recipe.seed,
            epoch=epoch,
            rank=fabric.global_rank,
            world=fabric.world_size,
            start=progress.step,
            drop_last=True,
            workers=self.recipe.data.workers,
        )
        self.model.train()
        loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=fabric.device)
        correct = torch.tensor(progress.correct, device=fabric.device)
        self.report.epoch(epoch + 1, self.steps, progress.step)
        for x, y in stream:
            step = progress.step
            loss, hits = self._step(x, y, epoch, step)
            loss_sum, correct = loss_sum + loss.double(), correct + hits
            progress.step, progress.seen = step + 1, progress.seen + len(y)
            saving = settings.checkpoint_steps and progress.step % settings.checkpoint_steps == 0
            stop = interrupted()
            if saving or stop or step % 10 == 9 or progress.step == self.steps:  # reading the loss waits for the GPU
                progress.loss_sum, progress.correct = float(loss_sum), int(correct)
                progress.seconds = time.perf_counter() - started
                self._check_finite(progress.loss_sum, epoch, step)
                self.report.step(progress.step, progress.loss_sum / progress.step)
            if stop or (saving and progress.step < self.steps):
                self.save()
            if stop:
                raise Interrupted(f"interrupted in epoch {epoch + 1}, step {progress.step}; everything is saved")
        if fabric.world_size > 1:
            progress.loss_sum = float(fabric.all_reduce(loss_sum, reduce_op="mean"))
            progress.correct = int(fabric.all_reduce(correct, reduce_op="sum"))
            progress.seen *= fabric.world_size
            self._average_buffers()

    def _step(self, x: Tensor, y: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        settings, fabric = self.recipe.train, self.fabric
        seed_step(self.recipe.seed, epoch, step, fabric.global_rank)
        x, y = self.augment(x.to(fabric.device), y.to(fabric.device))
        if settings.channels_last:
            x = x.to(memory_format=torch.channels_last)
        rate = learning_rate(
            epoch * self.steps + step,
            total=settings.epochs * self.steps,
            peak=settings.lr,
            warmup=round(settings.warmup_epochs * self.steps),
            final=settings.final_lr,
            schedule=settings.schedule,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for form in weight_forms(self.model):
            form.before_step(epoch * self.steps + step)
        if self.extra is None:
            logits = self.wrapped(x, steps=True)
            loss = self.loss(logits, y)
        else:
            with self.extra(x, fabric.autocast) as more:
                logits = self.wrapped(x, steps=True)
                loss = self.loss(logits, y) + more(logits)
        fabric.backward(loss)
        if settings.clip_norm:
            fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        for form in weight_forms(self.model):
            form.after_step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self._update_ema(settings.ema)
        return loss.detach(), accuracy_count(logits.detach(), y, self.model.readout)

    def _update_ema(self, decay: float) -> None:
        assert self.ema is not None
        for key, value in self.model.state_dict().items():
            if value.dtype.is_floating_point and not key.endswith(".form.signs"):
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
        kept = self.run.checkpoint("last")
        tail = f"the last good checkpoint is {kept}" if kept.exists() else "no checkpoint had been written yet"
        raise TrainingError(f"the loss is not finite in {where}; {tail}; try a lower train.lr or set train.clip_norm")

    def validate(self) -> Evaluation:
        settings = self.recipe.train
        with self._averaged_weights():
            return evaluate(
                self.model,
                self.splits.validation,
                loss=self.plain_loss,
                batch_size=settings.evaluation_batch_size,
                workers=self.recipe.data.workers,
                forward=self._forward,
            )

    def _forward(self, x: Tensor, steps: bool = False) -> Tensor:
        if self.recipe.train.channels_last:
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

    def _log_epoch(self, epoch: int, training: tuple[float, float] | None, found: Evaluation | None) -> None:
        row: dict[str, Any] = {"epoch": epoch, "lr": self.optimizer.param_groups[0]["lr"] if training else 0.0}
        row["train_loss"], row["train_accuracy"] = training or (None, None)
        row["validation_loss"] = found.loss if found else None
        row["validation_accuracy"] = found.accuracy if found else None
        row["seconds"] = round(self.progress.seconds, 3)
        row |= {f"rate/{path}": rate for path, rate in (found.rates if found else {}).items()}
        self.progress.history.append(row)
        if self.fabric.is_global_zero:
            self.run.log(row)
            self.report.logged(row)

    def finish(self) -> dict[str, Any]:
        """Take the chosen epoch's weights, write the model, score the test set once."""
        settings, progress = self.recipe.train, self.progress
        epoch = progress.best_epoch if settings.choose == "best" else progress.epoch
        path = self.run.checkpoint("best" if settings.choose == "best" else "last")
        self.fabric.barrier()
        parts, _, _ = checkpoint.load(path)
        fit_weights(self.model, parts["ema"] or parts["model"], str(path))
        if self.fabric.is_global_zero:
            images = self.splits.test
            save_model(self.model, self.run.path / "model.safetensors", images.classes, images.shape)
        self.report.testing(len(self.splits.test))
        # in full precision, as everybody who loads the model file will run it
        test = evaluate(
            self.model,
            self.splits.test,
            loss=self.plain_loss,
            batch_size=settings.evaluation_batch_size,
            workers=self.recipe.data.workers,
            progress=self.report.tested,
        )
        by_epoch = {row["epoch"]: row for row in progress.history}
        return {
            "format": "saccade-summary-1",
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "model": self.model.name,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "T": self.model.T,
            "classes": list(self.splits.test.classes),
            "images": {key: len(part) for key, part in zip(("train", "validation", "test"), self.splits, strict=True)},
            "epochs": progress.epoch,
            "chosen_epoch": epoch,
            "chosen_by": "best validation accuracy" if settings.choose == "best" else "last epoch",
            "validation_accuracy": by_epoch[epoch]["validation_accuracy"],
            "test_accuracy": test.accuracy,
            "test_correct": test.correct,
            "test_total": test.total,
            "test_loss": test.loss,
            "confusion": test.confusion.tolist(),
            "training_seconds": round(sum(row["seconds"] for row in progress.history), 1),
        }


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
