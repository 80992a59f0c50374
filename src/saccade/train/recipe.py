"""Recipes: everything that decides a training run, checked before anything starts."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TransformSettings(_Section):
    """A change by name with its settings: of the model's structure before training, e.g. "quantize" with a
    ``QuantizeConfig``'s fields, or of every image, e.g. "dehaze" with a preset's name."""

    name: str
    config: dict[str, Any] = {}


class ModelSettings(_Section):
    """A registered model and the arguments of its constructor, or ``start``, a model file to go on from (with what was done
    to it); then what is done to it before it is trained, in order.
    """

    name: str = ""
    kwargs: dict[str, Any] = {}
    start: str | None = None
    transforms: tuple[TransformSettings, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> ModelSettings:
        if bool(self.name) == bool(self.start):
            raise ValueError("give either name (a registered model) or start (a model file)")
        if self.start and self.kwargs:
            raise ValueError("kwargs belong to name; the file that start names says how its model is built")
        return self


class TeacherSettings(_Section):
    """A trained network to learn from as well: ``model``, its file; ``method`` and its options: see ``compress.distill``."""

    model: str
    method: Literal["mpfd", "rates", "logits"] = "mpfd"
    weight: float = Field(default=1.0, gt=0)
    gram: bool = True
    norm: Literal["frobenius", "rows", "spectral"] = "frobenius"
    temperature: float = Field(default=1.0, gt=0)


class PruneSettings(_Section):
    """What the stage "prune" does: score the channels by ``criterion`` on ``batches`` x ``batch_size`` training images, keep a
    share of them, re-estimate the norms, go on training.

    Exactly one of ``ratio`` (share removed of every group), ``ratios`` (by group) and ``budget_kb`` (of the whole model,
    10^3 bytes as QP-SNN counts, one ratio for all groups).
    ``finetune``: keys of the train section that differ when training goes on.
    """

    criterion: Literal["svs", "sca", "rate", "l1", "bn_gamma", "random"] = "svs"
    ratio: float | None = Field(default=None, ge=0, lt=1)
    ratios: dict[str, Annotated[float, Field(ge=0, lt=1)]] | None = None
    budget_kb: float | None = Field(default=None, gt=0)
    batches: int = Field(default=5, ge=1)
    batch_size: int = Field(default=128, ge=1)
    finetune: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_plan(self) -> PruneSettings:
        if sum(value is not None for value in (self.ratio, self.ratios, self.budget_kb)) != 1:
            raise ValueError("give exactly one of ratio, ratios and budget_kb")
        return self


class DataSettings(_Section):
    """Which images, how they are split, how they are augmented.

    ``validation``: images held out of the training set, class by class, by ``split_seed``; choices use only these.
    ``train_size``, ``test_size``: fixed subsets (None: all). ``size``: side in pixels that a folder's images get.
    ``transforms``: what is done to every image of all splits, in order, before augmentation, e.g. "dehaze".
    """

    name: str
    root: str | None = None
    validation: int = Field(ge=1)
    split_seed: int = 0
    train_size: int | None = Field(default=None, ge=1)
    test_size: int | None = Field(default=None, ge=1)
    size: int | None = Field(default=None, ge=1)
    transforms: tuple[TransformSettings, ...] = ()
    augment: tuple[str, ...] = ()
    crop_padding: int = Field(default=4, ge=0)
    cutout_size: int = Field(default=16, ge=1)
    mix_alpha: float = Field(default=1.0, gt=0)
    workers: int = Field(default=0, ge=0)


class TrainSettings(_Section):
    """How the weights are found.

    ``lr`` is for the whole batch. ``loss``: "ce" (cross-entropy of the read-out), "mse" (read-out against one-hot) or
    "tet" (every step against the label, ``tet_lambda`` of it MSE towards ``tet_target``). ``ema``: decay of a moving
    average of the weights, which is then what is evaluated and saved (0: none). ``choose``: the epoch that becomes the
    model: the best on validation, or the last. ``checkpoint_steps``: also save inside epochs, every so many steps.
    """

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    warmup_epochs: float = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    final_lr: float = Field(default=0.0, ge=0)
    loss: Literal["ce", "mse", "tet"] = "ce"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    tet_lambda: float = Field(default=0.0, ge=0, le=1)
    tet_target: float = 1.0
    clip_norm: float | None = Field(default=None, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    choose: Literal["best", "last"] = "best"
    evaluate_every: int = Field(default=1, ge=1)
    evaluation_batch_size: int = Field(default=250, ge=1)
    checkpoint_steps: int | None = Field(default=None, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(default=1, ge=1)
    strategy: Literal["auto", "ddp", "ddp_spawn"] = "auto"
    channels_last: bool = False
    compile: bool = False
    pack_spikes: bool = True
    recompute: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) leaves no epoch of {self.epochs} to train in")
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size ({self.batch_size}) must divide by devices ({self.devices})")
        return self


class Recipe(_Section):
    """A whole run. ``stages``: what follows training, by name (e.g. "natural_pruning"), in order."""

    name: str
    seed: int = Field(default=0, ge=0)
    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    teacher: TeacherSettings | None = None
    prune: PruneSettings | None = None
    stages: tuple[str, ...] = ()
    notes: str = ""

    @model_validator(mode="after")
    def _sections_are_used(self) -> Recipe:
        if ("prune" in self.stages) != (self.prune is not None):
            raise ValueError('the section prune and the stage "prune" go together: give both or neither')
        if self.prune is not None:
            self._check_finetune(self.prune.finetune)
        if self.prune is not None and self.train.devices > 1:
            raise ValueError("the stage prune runs in one process: train.devices must be 1 (or run the steps apart)")
        if self.train.devices > 1 and any(one.name == "subbit" for one in self.model.transforms):
            raise ValueError("codebooks learn and are redrawn in one process only: train.devices must be 1")
        if self.teacher is not None and self.train.compile:
            raise ValueError("a teacher watches the layers of an eager model: train.compile must be false")
        if self.teacher is not None and self.train.recompute:
            raise ValueError("a teacher watches inside blocks: train.recompute must be false")
        return self

    def _check_finetune(self, changes: dict[str, Any]) -> None:
        try:
            TrainSettings.model_validate(self.train.model_dump() | changes)
        except ValidationError as error:
            raise ValueError(f"prune.finetune: {first_mistake(error)}") from None


def load_recipe(path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe and apply ``key.path=value`` settings. Raises ValueError in one line naming the key."""
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise ValueError(f"{path}: not valid YAML{line}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: a recipe is a mapping of keys, this is a {type(raw).__name__}")
    return parse(override(raw, settings), str(path))


def parse(raw: dict[str, Any], source: str = "recipe") -> Recipe:
    """Check a mapping. Raises ValueError in one line: the source, the key's path and what is wrong with it."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{source}: {first_mistake(error)}") from None


def first_mistake(error: ValidationError) -> str:
    """The first of what is wrong: its key's path and why."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the recipe"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        location = first["loc"] if error.title != "TrainSettings" else ("train", *first["loc"])
        message = "unknown key" + _suggest(location)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{key}: {message}{more}"


def _suggest(location: tuple[int | str, ...]) -> str:
    sections: dict[str, type[_Section]] = {
        "model": ModelSettings,
        "data": DataSettings,
        "train": TrainSettings,
        "teacher": TeacherSettings,
        "prune": PruneSettings,
    }
    section = sections.get(str(location[0]), Recipe) if len(location) > 1 else Recipe
    near = difflib.get_close_matches(str(location[-1]), section.model_fields, 1)
    return f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(section.model_fields)}"


def override(raw: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A copy of ``raw`` with ``a.b=value`` settings applied; values are YAML. Raises ValueError for a bad form."""
    result: dict[str, Any] = yaml.safe_load(yaml.safe_dump(raw))
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {setting!r}: write key.path=value, e.g. train.lr=1e-3")
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ValueError(f"--set {setting!r}: {parent!r} is a value, not a section")
        try:
            place[last] = _number(yaml.safe_load(value))
        except yaml.YAMLError:
            raise ValueError(f"--set {setting!r}: {value!r} is not valid YAML") from None
    return result


def _number(value: Any) -> Any:
    """YAML reads 1e-3 as a string (it wants 1.0e-3); everybody means the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
