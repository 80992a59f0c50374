"""How weights are found: the settings of training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainSettings(BaseModel):
    """How the weights are found.

    ``lr`` is for the whole batch. ``ema``: decay of a moving average of the weights, which is then what is evaluated and
    saved (0: none). ``choose``: the epoch that becomes the model: the best on validation, or the last. ``checkpoint_steps``:
    also save inside epochs, every so many steps. ``precision``: "auto" is bf16-mixed where the processor or card computes in
    bf16, and single precision where it would be emulated (many times slower).
    ``layer_decay``: share of the learning rate of each part of the model by that of the part behind it (fine-tuning).
    ``warmup_epochs``: of the learning rate; half of the epochs, where they are no more than that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "lamb", "sgd"] = "adamw"
    lr: float = Field(gt=0, le=1e30)
    weight_decay: float = Field(default=0.0, ge=0, le=1e30)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    warmup_epochs: float = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    final_lr: float = Field(default=0.0, ge=0, le=1e30)
    clip_norm: float | None = Field(default=None, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    choose: Literal["best", "last"] = "best"
    evaluate_every: int = Field(default=1, ge=1)
    evaluation_batch_size: int = Field(default=250, ge=1)
    checkpoint_steps: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(default=1, ge=1)
    strategy: Literal["auto", "ddp", "ddp_spawn"] = "auto"
    channels_last: bool = False
    compile: bool = False
    pack_spikes: bool | None = None  # None: on a CPU
    recompute: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size ({self.batch_size}) must divide by devices ({self.devices})")
        return self

    @property
    def warmup(self) -> float:
        """Epochs of warm-up: as given, or half of a training that is no longer than that (a first try of one epoch, say)."""
        return self.warmup_epochs if self.warmup_epochs < self.epochs else self.epochs / 2
