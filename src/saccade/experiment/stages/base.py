"""What follows training: a stage is a Config with a check, made before the first epoch, and a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from saccade.config import Config, Registry
from saccade.data import Splits
from saccade.models import SpikingModel
from saccade.train.tasks import Task

if TYPE_CHECKING:
    from saccade.experiment.recipe import Recipe
    from saccade.experiment.run_directory import RunDirectory

STAGES: Registry[StageConfig] = Registry("stage", "`saccade stages`")


@dataclass(frozen=True)
class Finished:
    """What a stage gets: the chosen model in eval mode, the task, the data, the recipe, the run, the summary so far."""

    model: SpikingModel
    task: Task
    splits: Splits
    recipe: Recipe
    run: RunDirectory
    summary: dict[str, Any]
    quiet: bool = True


@dataclass(frozen=True)
class StageConfig(Config):
    """The settings of a stage, as recipes give them in ``stages``. Registered, it is chosen by name.

    What it finds goes into a file of the run directory, for which the report may have a section (``saccade.report.section``),
    and in short into the summary. ``one_process``: it cannot follow training in several, which recipes then refuse.
    """

    registry: ClassVar[Registry] = STAGES
    one_process: ClassVar[bool] = False

    def check(self, recipe: Recipe, model: SpikingModel, splits: Splits) -> None:
        """Raises ValueError, in one line, for what cannot work; called for all stages before the first epoch."""

    def run(self, finished: Finished) -> dict[str, Any]:
        """Do it; returns what is added to the summary."""
        raise NotImplementedError
