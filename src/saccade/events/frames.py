"""From a list of events to frames."""

from __future__ import annotations

import torch
from torch import Tensor


def frames_by_number(x: Tensor, y: Tensor, polarity: Tensor, *, frames: int, height: int, width: int) -> Tensor:
    """Count events into ``frames`` frames of equally many events: ``[frames, 2, height, width]`` float32.

    ``x``, ``y`` (pixels) and ``polarity`` (0: off, else on) are integer ``[N]`` in the order of time. With d = N // frames,
    frame i holds events i*d to (i+1)*d - 1, and the last one the remainder as well. Channel 0 counts off, channel 1 on.
    Nothing is clipped or normalised. Source: Fang et al. (2021), PLIF, as all SynA-ResNet runs integrate events.

    Raises ValueError for fewer events than frames, arrays of different length, or a pixel outside the sensor.
    """
    count = len(x)
    if not count == len(y) == len(polarity):
        raise ValueError(f"x, y and polarity have {count}, {len(y)} and {len(polarity)} events")
    if frames < 1 or count < frames:
        raise ValueError(f"{count} events cannot fill {frames} frames")
    for name, values, size in (("x", x, width), ("y", y, height)):
        if int(values.min()) < 0 or int(values.max()) >= size:
            wrong = int(((values < 0) | (values >= size)).nonzero()[0])
            raise ValueError(f"event {wrong}: {name} = {int(values[wrong])} is outside 0..{size - 1}")
    frame = (torch.arange(count) // (count // frames)).clamp(max=frames - 1)
    place = ((frame * 2 + (polarity != 0)) * height + y.long()) * width + x.long()
    counts = torch.bincount(place, minlength=frames * 2 * height * width)
    return counts.view(frames, 2, height, width).float()
