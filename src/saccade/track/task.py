"""Learning to find the target of a template in a search region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from saccade.data import Splits
from saccade.models.sdtrack import SDTrack
from saccade.track.codec import bounded, boxes_at, decoded, ends, focal, heat, places
from saccade.train.losses import read_out
from saccade.train.tasks.base import TASKS, Metrics, Score, Task, TaskConfig, check_channels
from saccade.train.tasks.detection import generalised, overlaps

Weight = Annotated[float, Field(ge=0)]


class Overlap(Metrics):
    """The mean overlap of the boxes found with the true ones, and the share of those above one half."""

    def __init__(self, task: TrackingTask) -> None:
        super().__init__(
            overlap=torch.zeros((), dtype=torch.float64),
            half=torch.zeros((), dtype=torch.float64),
            count=torch.zeros(()),
        )
        self.task = task

    def update(self, output: Tensor, target: Tensor) -> None:
        answers, boxes = self.task.matched(output.float(), target)
        shared = overlaps(ends(decoded(answers)[0]), ends(boxes)).double()
        sums = self.sums
        self.sums = {
            "overlap": sums["overlap"] + shared.sum(),
            "half": sums["half"] + (shared > 0.5).sum(),
            "count": sums["count"] + len(shared),
        }

    def result(self) -> dict[str, Any]:
        count = max(float(self.sums["count"]), 1.0)
        return {"overlap": float(self.sums["overlap"]) / count, "half": float(self.sums["half"]) / count}


class TrackingTask(Task):
    """Targets are boxes as shares of the search region (middle, size): ``[N, 4]``, one for all steps, whose answers are
    averaged before any sigmoid; or ``[N, T, 4]``, one a step: consecutive windows of a recording behind one template.
    """

    scores = (Score("overlap", percent=True), Score("half", percent=True))

    def __init__(self, config: Tracking, readout: str) -> None:
        self.config, self.readout = config, readout

    def matched(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Answers ``[M, 5, s, s]`` and their boxes ``[M, 4]``."""
        if target.dim() == 2:
            return read_out(output, self.readout), target
        if target.shape[1] != len(output):
            raise ValueError(f"boxes of {target.shape[1]} windows for answers of {len(output)} steps")
        return output.flatten(0, 1), target.transpose(0, 1).flatten(0, 1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """``focal * F + overlap * (1 - generalised overlap) + distance * mean |difference of corners|`` (Ye et al. 2022)."""
        answers, boxes = self.matched(output, target)
        c, s = self.config, answers.shape[-1]
        total = answers.new_zeros(())
        if answers.shape[1] == 5:
            total = total + c.focal * focal(bounded(answers[:, 0]), heat(boxes, s))
        told = c.boxes_at == "truth" and answers.shape[1] == 5
        found = boxes_at(answers, places(boxes, s)) if told else decoded(answers)[0]
        found, true = ends(found), ends(boxes)
        return total + c.overlap * (1 - generalised(found, true)).mean() + c.distance * (found - true).abs().mean()

    def metrics(self, training: bool = False) -> Metrics:
        return Overlap(self)

    def predictions(self, output: Tensor, top: int) -> list[dict[str, Any]]:
        boxes, scores, _ = decoded(read_out(output.float(), self.readout))
        return [{"box": box, "score": score} for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)]

    def describe_prediction(self, prediction: Mapping[str, Any]) -> str:
        cx, cy, w, h = prediction["box"]
        return (
            f"middle ({cx:.2f}, {cy:.2f}), size {w:.2f} x {h:.2f} of the search region, score {prediction['score']:.2f}"
        )


@dataclass(frozen=True)
class Tracking(TaskConfig):
    """Find the target of a template in a search region.

    focal, overlap, distance: weights of the three losses. boxes_at: where the box is taken while training a centre head:
    "peak", where the network thinks best of it (published), or "truth", where it is.
    """

    focal: Weight = 1.0
    overlap: Weight = 2.0
    distance: Weight = 5.0
    boxes_at: Literal["peak", "truth"] = "peak"

    def build(self, model: nn.Module, classes: Sequence[str] = ()) -> TrackingTask:
        return TrackingTask(self, getattr(model, "readout", "mean"))

    def check(self, model: nn.Module, splits: Splits) -> None:
        if not isinstance(model, SDTrack):
            raise ValueError(f"tracking needs a tracker (sdtrack_...), got {type(model).__name__}")
        check_channels(model, splits)
        targets, shape = splits.test.targets, splits.test.shape
        if not targets.is_floating_point() or targets.dim() not in (2, 3) or targets.shape[-1] != 4:
            raise ValueError(
                f"tracking needs boxes float [M, 4] or [M, T, 4], got {targets.dtype} {list(targets.shape)}"
            )
        side = model.config.search + model.config.template
        if shape[-2:] != (side, side):
            raise ValueError(
                f"the model's regions of {model.config.search} and {model.config.template} pixels make a canvas of {side}, the "
                f"data's one of {shape[-1]}: set search and template of both alike"
            )
        source = getattr(splits.test, "source", None)
        for name in ("search", "template", "search_factor", "template_factor"):
            own, others = getattr(model.config, name), getattr(source, name, None)
            if others is not None and own != others:
                raise ValueError(f"{name} is {own:g} in the model and {others:g} in the data: set both alike")


TASKS.register("tracking", Tracking())
