"""``saccade track convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.events import app
from saccade.cli.track.app import track_app


@track_app.command("convert")
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="A released checkpoint of SDTrack (.pth), or our classifier's file or run."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The tracker, a model file.")],
    model: Annotated[str, typer.Option(help="Which tracker it becomes.")] = "sdtrack_tiny",
    representation: Annotated[str, typer.Option(help="What its frames are (`saccade events`).")] = "gtp",
    window_us: Annotated[
        int, typer.Option(min=1, max=app.FAR, metavar="US", help="Duration of a window that it was trained on.")
    ] = 25_000,
    height: Annotated[int, typer.Option(min=1, help="Rows of the sensor that it was trained on.")] = 260,
    width: Annotated[int, typer.Option(min=1, help="Columns of the sensor that it was trained on.")] = 346,
    imagenet: Annotated[
        bool,
        typer.Option("--imagenet", help="Frames go in divided by 255 and with ImageNet's statistics (as for FELT)."),
    ] = False,
) -> None:
    """Make a tracker of released weights, or of a classifier that was trained on images beforehand.

    Released checkpoints are pickles: only tensors are read from them, nothing in them runs. What a checkpoint does not hold is
    freshly initialised, and said. Train the tracker with model.start=OUT.
    """
    import torch

    from saccade.events import Representation
    from saccade.events.framing import Framing
    from saccade.events.windows import ByTime
    from saccade.files import load_model, model_file, save_model
    from saccade.models import create_model
    from saccade.models.base import IMAGENET
    from saccade.models.sdtrack import SDTrack, SDTrackClassifier
    from saccade.track.official import load_official

    given = Representation.parse(representation)
    mean, std = (tuple(255 * value for value in values) for values in IMAGENET) if imagenet else ((), ())
    torch.manual_seed(0)
    tracker = create_model(model, inputs=len(given.channels), mean=mean, std=std)
    if not isinstance(tracker, SDTrack):
        raise ValueError(f"{model} is no tracker; sdtrack_tiny and sdtrack_base are")
    if source.is_dir() or source.suffix == ".safetensors":
        classifier = load_model(model_file(source))
        if not isinstance(classifier, SDTrackClassifier):
            raise ValueError(f"{source}: is no classifier that a tracker starts from (sdtrack_..._classifier)")
        body, own = classifier.body.state_dict(), tracker.body.state_dict()
        wrong = next((key for key in own if key not in body or body[key].shape != own[key].shape), None)
        if wrong is not None:
            raise ValueError(f"{source}: its body is not that of {model} ({wrong} differs)")
        tracker.body.load_state_dict({key: body[key] for key in own})
        notes: tuple[str, ...] = ("its head: freshly initialised",)
    else:
        notes = load_official(source, tracker)
    framing = Framing(given, ByTime(duration_us=window_us), height, width)
    tracker.frames = framing.record() | {"steps": 1}
    side = tracker.config.search + tracker.config.template
    save_model(tracker, out, input_shape=(tracker.in_channels, side, side))
    for note in notes:
        print(f"note: {note}")
    print(f"wrote {out}: {sum(p.numel() for p in tracker.parameters()):,} parameters, {representation} frames")
