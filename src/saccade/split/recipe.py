"""The settings of a federation: one YAML file, checked before anything runs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from saccade.split.aggregate import AGGREGATORS
from saccade.split.codecs import CODECS, Codec
from saccade.split.cost import Profile
from saccade.split.cuts import CutPolicy, FixedCut
from saccade.split.lora import LoraPlan
from saccade.split.privacy import PrivacyFilter

Count = Annotated[int, Field(ge=1)]
Alpha = Annotated[float, Field(gt=0), BeforeValidator(lambda v: math.inf if v == "inf" else v)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Part):
    """train, eval: UTF-8 files of text. unit: what a sample is. pack: samples run on into blocks of ``length``, else
    a row each, padded. batch: rows a step. eval_rows: blocks that the held-out loss is taken over, None for all.
    eval_every: rounds from one score to the next. tokenizer: a folder, None for the model's own.
    """

    train: str = "wikitext-2/test.txt"
    eval: str = "wikitext-2/valid.txt"
    unit: Literal["paragraph", "article"] = "paragraph"
    length: Count = 128
    batch: Count = 4
    pack: bool = True
    eval_rows: Count | None = 256
    tokenizer: str | None = None
    eval_every: Count = 1


class Clients(_Part):
    """count clients share the training samples by length. per_round: how many take part in a round, None for all;
    choice: drawn at random or in turn. profiles: machines of the virtual clock, dealt in turn. server, lanes: as
    ``CostModel``.
    """

    count: Count = 5
    alpha: Alpha = 1.0
    classes: Count = 10
    mode: Literal["per_class", "per_client"] = "per_class"
    min_size: Count = 8
    per_round: Count | None = None
    choice: Literal["random", "in_turn"] = "random"
    profiles: tuple[Profile, ...] = (Profile(),)
    server: Profile = Profile(seconds_per_token=2e-7)
    lanes: Count = 1


class Codecs(_Part):
    activations: Codec = CODECS["fp16"]
    gradients: Codec = CODECS["fp16"]
    feedback: bool = False


class Optimizer(_Part):
    """AdamW, begun anew every round. clip: L2 norm to which each block's adapter gradient is held, so that a cut
    changes nothing."""

    lr: float = Field(default=2e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float | None = Field(default=1.0, gt=0)


class Faults(_Part):
    """deadline_s: of a round, on the engine's clock; what a client has done by then counts. quorum: share of a
    round's clients without which it changes nothing. dropout: share of client-rounds that never begin, in
    simulation. poison: dropped batches after which a client is put out of the round. steps_per_s: fastest that a
    client may send.
    """

    deadline_s: float | None = Field(default=None, gt=0)
    quorum: float = Field(default=0.5, ge=0, le=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    poison: Count = 5
    steps_per_s: float = Field(default=1000.0, gt=0)


class SplitRecipe(_Part):
    """server ``v1``: an adapter of the server's blocks for every client, averaged at the end of a round; ``v2``: one
    for all, which every client's steps move in turn; ``none``: nothing is split, clients train the whole model
    (FedAvg of adapters).
    """

    name: str = "split"
    seed: int = Field(default=0, ge=0)
    model: str = "stories260K"
    rounds: Count = 10
    steps: Count = 20
    layout: Literal["two-part", "u-shape"] = "two-part"
    tail: int = Field(default=1, ge=0)
    server: Literal["v1", "v2", "none"] = "v1"
    aggregator: str = "flexlora"
    cuts: CutPolicy = FixedCut()
    lora: LoraPlan = LoraPlan()
    data: Data = Data()
    clients: Clients = Clients()
    codec: Codecs = Codecs()
    optimizer: Optimizer = Optimizer()
    faults: Faults = Faults()
    privacy: PrivacyFilter = PrivacyFilter()
    notes: str = ""

    @model_validator(mode="after")
    def _fits(self) -> SplitRecipe:
        AGGREGATORS[self.aggregator]
        if self.aggregator == "fedit" and self.lora.r_cut not in (None, self.lora.r):
            raise ValueError("fedit averages equal ranks only; leave r_cut out, or use flexlora or hetlora")
        return self

    @property
    def u_tail(self) -> int | None:
        """Blocks of the client's back, None for two parts."""
        return self.tail if self.layout == "u-shape" else None

    def profile(self, index: int) -> Profile:
        return self.clients.profiles[index % len(self.clients.profiles)]

    def plain(self) -> dict[str, Any]:
        """As YAML and JSON hold it."""
        value = self.model_dump(mode="python")
        value["cuts"] = self.cuts.record()
        value["codec"] |= {k: getattr(self.codec, k).record() for k in ("activations", "gradients")}
        if math.isinf(self.clients.alpha):
            value["clients"]["alpha"] = "inf"
        value["clients"]["profiles"] = [dict(profile) for profile in value["clients"]["profiles"]]
        value["lora"] = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.lora).items()}
        value["privacy"] = dict(vars(self.privacy))
        return value


def presets() -> dict[str, Path]:
    """Recipes that come along, by name."""
    folder = Path(str(resources.files("saccade.split") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name: str, changes: Sequence[str] = ()) -> SplitRecipe:
    """A preset or a YAML file, with ``key.key=value`` changes. Raises ValueError, naming file and key, for whatever
    is wrong."""
    known = presets()
    path = known.get(name, Path(name))
    if not path.is_file():
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; presets: {', '.join(known)}"
        raise ValueError(f"{name}: no such recipe{hint}")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not YAML ({' '.join(str(error).split())[:150]})") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: a recipe is a mapping of settings")
    for change in changes:
        _set(raw, change)
    return parse_recipe(raw, name)


def parse_recipe(raw: Mapping[str, Any], source: str) -> SplitRecipe:
    """The recipe in a mapping. Raises ValueError beginning with ``source``."""
    try:
        return SplitRecipe.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        words = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{source}: {where + ': ' if where else ''}{words}") from None


def _set(raw: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ValueError(f"--set takes key=value, e.g. clients.alpha=0.1, not {change!r}")
    *parents, last = key.split(".")
    place: Any = raw
    for parent in parents:
        value = place.get(parent)
        if isinstance(value, str):  # a name becomes a name with a config
            value = {"name": value}
        place[parent] = value = {} if value is None else value
        if not isinstance(value, dict):
            raise ValueError(f"--set {key}: {parent} is no group of settings")
        place = value
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"--set {key}: {text!r} is not a value") from None
