"""What following costs."""

import numpy as np
import pytest
import torch

from saccade.events import REPRESENTATIONS, EventStream
from saccade.events.framing import Framing
from saccade.events.windows import ByTime
from saccade.models import create_model
from saccade.track.energy import costs, layers, published_mj
from saccade.track.live import follow
from saccade.track.tracker import Tracker
from saccade.verify import wake


def test_published_figure():
    """7.881 mJ from the released rates and half of the operations that the shapes make; 15.1 mJ from all of them."""
    model = create_model("sdtrack_tiny").eval()
    network = layers(model, model.example_input(1))
    assert len(network) == 88
    assert network[0].macs == 3 * 7 * 7 * 32 * 192 * 192
    by_path = {layer.path: layer.macs for layer in network}
    assert by_path["body.widen.1.layer"] == 9 * 256 * 360 * (256 + 64 + 4)  # the released script: the same
    assert round(published_mj(network), 3) == 7.881
    assert round(published_mj(network, as_printed=False), 1) == 15.1
    assert round(published_mj(network, as_printed=False, first_once=True), 1) == 12.7
    small = create_model("sdtrack_small").eval()
    with pytest.raises(ValueError, match="the published rates are of the 88 convolutions of sdtrack_tiny"):
        layers(small, small.example_input(1))


def test_nothing_moves_nothing_is_spent():
    torch.manual_seed(0)
    model = create_model("sdtrack_small", widths=(8, 8, 16, 16), heads=2, search=64, template=32, head_width=16).eval()
    wake(model, 30 * torch.rand(1, 2, 3, 96, 96).round())
    framing = Framing(REPRESENTATIONS["gtp"], ByTime(duration_us=10_000), 60, 80)
    model.frames = framing.record()
    draw = np.random.default_rng(0)
    t = np.sort(draw.integers(0, 80_000, 1500))
    t = t[(t < 30_000) | (t >= 60_000)]
    x, y = draw.integers(20, 40, (2, len(t)))
    events = EventStream(t, x, y, draw.integers(0, 2, len(t)), 60, 80)
    tracker = Tracker(model, least_events=1)
    box = (20, 20, 20, 20)
    found = list(costs(tracker, follow(tracker, framing, [events], box)))
    rest = [cost for cost in found if cost.events == 0]
    assert len(rest) == 3
    assert all(cost.energy_uj == 0 and cost.spikes == 0 for cost in rest)
    ran = [cost for cost in found if cost.energy_uj > 0]
    assert len(ran) >= 2
    assert all(cost.spikes > 100 for cost in ran)
