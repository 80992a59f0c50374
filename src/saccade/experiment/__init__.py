"""Whole experiments: recipes, the run that they describe, the stages after it, and the directory that it leaves."""

from saccade.experiment.building import build_model, fit_task, load_splits, pixel_maps, splits_for
from saccade.experiment.recipe import Recipe, dump, load_recipe, override, parse, with_root
from saccade.experiment.recipes import recipe_names, recipe_path
from saccade.experiment.run import run
from saccade.experiment.run_directory import RunDirectory, environment, open_run, recipe_beside
from saccade.experiment.smoke import smoke
from saccade.experiment.stages import STAGES, Finished, StageConfig

__all__ = [
    "STAGES",
    "Finished",
    "Recipe",
    "RunDirectory",
    "StageConfig",
    "build_model",
    "dump",
    "environment",
    "fit_task",
    "load_recipe",
    "load_splits",
    "open_run",
    "override",
    "parse",
    "pixel_maps",
    "recipe_beside",
    "recipe_names",
    "recipe_path",
    "run",
    "smoke",
    "splits_for",
    "with_root",
]
