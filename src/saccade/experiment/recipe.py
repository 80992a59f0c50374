"""Recipes: everything that decides a run, checked before anything starts."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, field_validator, model_validator

import saccade.experiment.applications  # noqa: F401  (their names are known to recipes)
from saccade import plugins
from saccade.config import Config
from saccade.data import AugmentSettings, DataSource, PixelMapConfig
from saccade.experiment.earlier import upgraded
from saccade.experiment.recipes import recipe_path
from saccade.experiment.stages.base import StageConfig
from saccade.train.ingredients import Ingredient
from saccade.train.settings import TrainSettings
from saccade.train.tasks import Classification, TaskConfig
from saccade.transforms import Transform


def _record(config: Config) -> dict[str, Any]:
    return config.record()


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(_Section):
    """A registered model and its settings, or ``start``, a model file to go on from (with what was done to it); then what is
    done to it before it is trained, in order.
    """

    name: str = ""
    config: dict[str, Any] = {}
    start: str | None = None
    transforms: tuple[Annotated[Transform, PlainSerializer(_record)], ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> ModelSettings:
        if bool(self.name) == bool(self.start):
            raise ValueError("give either name (a registered model) or start (a model file)")
        if self.start and self.config:
            raise ValueError("config belongs to name; the file that start names says how its model is built")
        return self


class TeacherSettings(_Section):
    """A trained network to learn from as well: ``model``, its file; ``method`` and its options: see ``compress.distill``."""

    model: str
    method: Literal["mpfd", "rates", "logits", "fgd"] = "mpfd"
    weight: float = Field(default=1.0, gt=0)
    gram: bool = True
    norm: Literal["frobenius", "rows", "spectral"] = "frobenius"
    temperature: float = Field(default=1.0, gt=0)
    form: Literal["similarity", "mse"] = "similarity"


class DataSettings(_Section):
    """Which images, how they are split, how they are augmented.

    ``config``: what the data set of that name takes (a folder: ``size``). ``root``: the data folder. ``validation``: images
    held out of the training set, class by class, by ``split_seed``; choices use only these. ``train_size``, ``test_size``:
    fixed subsets (None: all). ``transforms``: what is done to every image of all splits, in order, before augmentation, e.g.
    "dehaze".
    """

    name: str
    config: dict[str, Any] = {}
    root: str | None = None
    validation: int = Field(ge=1)
    split_seed: int = 0
    train_size: int | None = Field(default=None, ge=1)
    test_size: int | None = Field(default=None, ge=1)
    transforms: tuple[Annotated[PixelMapConfig, PlainSerializer(_record)], ...] = ()
    augment: tuple[str, ...] = ()
    crop_padding: int = Field(default=4, ge=0, le=4096)
    cutout_size: int = Field(default=16, ge=1, le=1 << 16)
    mix_alpha: float = Field(default=1.0, gt=0)
    workers: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _known(self) -> DataSettings:
        self.source()
        return self

    def source(self) -> DataSource:
        """The data set. Raises ValueError for a name that is not registered, or settings that it does not take."""
        return DataSource.parse({"name": self.name, "config": self.config})

    def augmentation(self) -> AugmentSettings:
        """What is asked of the task's augmentation."""
        return AugmentSettings(self.augment, self.crop_padding, self.cutout_size, self.mix_alpha)


class Recipe(_Section):
    """A whole run. ``task``: what is learnt. ``ingredients``: what training adds to it (adversarial images, penalties).
    ``stages``: what follows training, in order. Both are names, or ``{name, config}``.

    ``plugins``: modules that have to be loaded for its names to mean something (a file never loads any).
    """

    name: str
    seed: int = Field(default=0, ge=0)
    plugins: tuple[str, ...] = ()
    model: ModelSettings
    data: DataSettings
    task: Annotated[TaskConfig, PlainSerializer(_record)] = Classification()
    train: TrainSettings
    teacher: TeacherSettings | None = None
    ingredients: tuple[Annotated[Ingredient, PlainSerializer(_record)], ...] = ()
    stages: tuple[Annotated[StageConfig, PlainSerializer(_record)], ...] = ()
    notes: str = ""

    @field_validator("task", mode="before")
    @classmethod
    def _default_task(cls, value: Any) -> Any:
        """Settings without a name are those of the default task."""
        return {"name": "classification", **value} if isinstance(value, Mapping) and "name" not in value else value

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        steps: tuple[StageConfig | Transform, ...] = (*self.stages, *self.model.transforms)
        for step in steps:
            if step.one_process and self.train.devices > 1:
                words = "works in one process: train.devices must be 1 (or run the steps apart)"
                raise ValueError(f"{step.kind()} {words}")
        if self.teacher is not None and self.train.compile:
            raise ValueError("a teacher watches the layers of an eager model: train.compile must be false")
        if self.teacher is not None and self.train.recompute:
            raise ValueError("a teacher watches inside blocks: train.recompute must be false")
        return self


def with_root(recipe: Recipe, root: str | Path | None) -> Recipe:
    """The recipe with its images in another folder (None: as it is)."""
    if root is None:
        return recipe
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": str(root)})})


def load_recipe(path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe, a YAML file or the name of one of the package's, and apply ``key.path=value`` settings.

    Raises ValueError in one line naming the recipe and the key.
    """
    try:
        raw = read_yaml(read_text(recipe_path(path)))
    except OSError as error:
        raise ValueError(f"{path}: cannot read the recipe: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        why = f" ({error.problem})" if isinstance(error, _Refused) else ""
        raise ValueError(f"{path}: not valid YAML{line}{why}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: a recipe is a mapping of keys, this is a {type(raw).__name__}")
    return parse(override(raw, settings), str(path))


def parse(raw: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Check a mapping. Raises ValueError in one line: the source, the key's path and what is wrong with it."""
    needed = raw.get("plugins")
    if isinstance(needed, list | tuple):
        plugins.require([str(module) for module in needed], source)
    try:
        return Recipe.model_validate(upgraded(raw))
    except ValidationError as error:
        raise ValueError(f"{source}: {first_mistake(error)}") from None


def first_mistake(error: ValidationError) -> str:
    """The first of what is wrong: its key's path and why."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the recipe"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key" + _suggest(first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{key}: {message}{more}"


def _suggest(location: tuple[int | str, ...]) -> str:
    sections: dict[str, type[BaseModel]] = {
        "model": ModelSettings,
        "data": DataSettings,
        "train": TrainSettings,
        "teacher": TeacherSettings,
    }
    section = sections.get(str(location[0]), Recipe) if len(location) > 1 else Recipe
    near = difflib.get_close_matches(str(location[-1]), section.model_fields, 1)
    return f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(section.model_fields)}"


def override(raw: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A copy of ``raw`` with ``a.b=value`` settings applied; values are YAML. Raises ValueError for a bad form.

    In a list an entry is named by its number or its ``name``: ``stages.prune.config.ratio=0.4``. A bare name that gets a
    setting becomes ``{name: ...}``.
    """
    result: dict[str, Any] = copy.deepcopy(dict(raw))
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {setting!r}: write key.path=value, e.g. train.lr=1e-3")
        parts = key.split(".")
        place: Any = result
        for part, after in pairwise(parts):
            place = _step_into(place, part, after, setting)
        try:
            new = read_yaml(value)
        except yaml.YAMLError:
            raise ValueError(f"--set {setting[:200]!r}: {value[:200]!r} is not valid YAML") from None
        if isinstance(place, list):
            place[_entry(place, parts[-1], setting)] = new
        else:
            place[parts[-1]] = new
    return result


def _step_into(place: Any, key: str, after: str, setting: str) -> Any:
    index: Any = _entry(place, key, setting) if isinstance(place, list) else key
    inner = place[index] if isinstance(place, list) else place.setdefault(key, {})
    if isinstance(inner, str) and after == "config":
        inner = {"name": inner}
    elif inner is None:
        inner = {}
    if not isinstance(inner, dict | list):
        raise ValueError(f"--set {setting!r}: {key!r} is a value, not a section")
    place[index] = inner
    return inner


def _entry(entries: list[Any], key: str, setting: str) -> int:
    """The place of an entry of a list, by its number or its name."""
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(entries):
        return int(key)
    raise ValueError(f"--set {setting!r}: no entry {key!r} here; there are {', '.join(map(str, names)) or 'none'}")


MOST_BYTES, DEEPEST, MOST_ALIASES = 1 << 20, 50, 50  # of a recipe


def read_text(path: Path) -> str:
    """A recipe's text. Raises OSError for what is no regular file, or larger than any recipe."""
    if path.exists() and not path.is_file():
        raise OSError(None, "it is no regular file")
    if path.stat().st_size > MOST_BYTES:
        raise OSError(None, f"it has more than {MOST_BYTES:,} bytes")
    return path.read_text(encoding="utf-8")


class _Refused(yaml.MarkedYAMLError):
    pass


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a string (it wants 1.0e-3); everybody means the number, and YAML 1.2 reads it so.

    A key twice, nesting that no recipe has and names that stand for ever more of each other are refused.
    """

    _depth = _aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MOST_ALIASES:
                raise _Refused(None, None, f"more than {MOST_ALIASES} aliases", mark)
        self._depth += 1
        if self._depth > DEEPEST:
            raise _Refused(None, None, f"nested more than {DEEPEST} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and keys.count(key.value) > 1 and key.value != "<<":
                raise _Refused(None, None, f"the key {key.value!r} stands twice", key.start_mark)
        return super().construct_mapping(node, deep)


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node))


_Loader.add_implicit_resolver("!number", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))
_Loader.add_constructor("!number", _number)


def read_yaml(text: str) -> Any:
    """Plain values from YAML. Raises yaml.YAMLError."""
    try:
        return yaml.load(text, _Loader)
    except (ValueError, OverflowError) as error:  # a date in month 13, a number of 5,000 digits
        raise yaml.YAMLError(str(error)) from None


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
