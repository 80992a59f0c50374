"""A network that watches events as they come: an answer a window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from saccade.events import EventStream
from saccade.events.framing import Framing
from saccade.events.windows import ByCount, ByTime
from saccade.models import SpikingModel
from saccade.neurons import Stream
from saccade.train import Task


class Answer(NamedTuple):
    """What a network says at the end of a window.

    time_us: when the window ended. events: how many it held. prediction: as the task's ``predictions`` says it. latency_ms:
    from the window being complete to the answer, frame and network together.
    """

    time_us: int
    events: int
    prediction: dict[str, Any]
    latency_ms: float


def framing_of(model: SpikingModel, source: str) -> Framing:
    """How a network's input is made of recordings. Raises ValueError, naming ``source``, for one that takes pictures."""
    if model.frames is None:
        raise ValueError(f"{source}: was not trained on event recordings, so nothing says how frames are made for it")
    try:
        return Framing.parse(model.frames)
    except ValueError as error:
        raise ValueError(f"{source}: what it says of its frames is damaged ({error})") from None


def streamed(framing: Framing, window_us: int | None = None, window_events: int | None = None) -> Framing:
    """The framing for a stream, with other windows if given. Raises ValueError, by name, for windows that look ahead."""
    if window_us is not None and window_events is not None:
        raise ValueError("windows have a duration or a number of events, not both")
    if window_us is not None:
        framing = replace(framing, windows=ByTime(duration_us=window_us))
    elif window_events is not None:
        framing = replace(framing, windows=ByCount(events=window_events))
    framing.windows.cutter()
    return framing


def steps_of(framing: Framing, model: SpikingModel) -> int:
    """How many windows a sample had in training, over which the answer was read out."""
    return getattr(framing.windows, "frames", None) or model.T


def answers(
    model: SpikingModel,
    task: Task,
    framing: Framing,
    pieces: Iterable[EventStream],
    over: int,
    top: int = 1,
) -> Iterator[Answer]:
    """An answer for each window of events that come in pieces, as soon as the window is complete.

    The network keeps its state from window to window; the answer is read out over the last ``over`` of them, as in training.
    Raises ValueError, by name, for a module that is not causal, windows that look ahead, and events that do not fit.
    """
    stream, frames = Stream(model), framing.stream()
    last: deque[Tensor] = deque(maxlen=over)
    with torch.inference_mode():
        for window in framing.windows_of(iter(pieces)):
            begun = time.perf_counter()
            frame = frames.update(window.events, window.start_us, window.stop_us)
            last.append(stream(frame[None, None])[0])
            prediction = task.predictions(torch.stack(tuple(last)), top)[0]
            taken = (time.perf_counter() - begun) * 1e3
            yield Answer(window.stop_us, len(window.events), prediction, taken)
