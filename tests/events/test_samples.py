"""The recordings in the data folder: what they hold, to the event."""

import hashlib

import numpy as np
import pytest

from saccade.events import EventsWarning, format_of, open_events

# file: format, height, width, events, first and last time in us, sha256 of t, x, y (little-endian int64, uint16, uint16) and p
SAMPLES = {
    "formats/evt3_sample.raw": ("evt3", 720, 1280, 219596, 11718656, 11727457, "22f2aebe16606074"),
    "formats/sample_nmnist.bin": ("nmnist", 34, 34, 4325, 654, 311175, "dea1c7c041959f56"),
}
NO_SIZE = {"formats/sample_nmnist.bin"}


def digest(events) -> str:
    found = hashlib.sha256()
    for column, dtype in ((events.t, "<i8"), (events.x, "<u2"), (events.y, "<u2"), (events.p, "u1")):
        found.update(np.ascontiguousarray(column, dtype).tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name, recordings):
    form, height, width, count, first, last, sha = SAMPLES[name]
    path = recordings / name
    assert format_of(path).name == form
    if name in NO_SIZE:
        with pytest.warns(EventsWarning, match=f"took {width} x {height} from its events"):
            events = open_events(path)
    else:
        events = open_events(path)
    assert (events.height, events.width, len(events)) == (height, width, count)
    assert (events.t[0], events.t[-1]) == (first, last)
    assert digest(events) == sha
