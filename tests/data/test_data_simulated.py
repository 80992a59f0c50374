"""Images before a simulated camera: each is recorded by itself, frames are kept, the digits come with the package."""

import numpy as np
import pytest
import torch

from saccade.data import ArraySet, DataSource, Parts
from saccade.data.simulated import BLOCK, Simulated, _Seen
from saccade.events.scenes import moving
from saccade.events.simulate import simulate


def images(count, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, channels, 8, 8), generator=generator, dtype=torch.uint8)
    return ArraySet(pixels, torch.arange(count) % 3, ("a", "b", "c"))


IDEAL = Simulated(camera="ideal", height=10, width=12, step_us=20_000)


def test_a_block_is_as_each_image_by_itself():
    """An ideal camera has no chance in it: what stands beside an image does not matter."""
    data = images(5)
    seen = _Seen(IDEAL, data, 0)
    for i in (0, 3, 4):
        picture = data.images[i, 0].double().numpy() / 255
        alone = simulate(moving(picture, 10, 12, "saccades", 3.0, 300_000, 20_000), "ideal")
        assert torch.equal(seen[i], IDEAL.framing().frames(alone))
    assert seen[0].sum() > 100


def test_colours_are_seen_as_luma():
    grey = images(2)
    coloured = ArraySet(grey.images.expand(-1, 3, -1, -1).contiguous(), grey.targets, grey.classes)
    for a, b in zip(_Seen(IDEAL, grey, 0)[1], _Seen(IDEAL, coloured, 0)[1], strict=True):
        assert (a - b).abs().max() <= 1  # luma of equal parts is one to rounding


def test_blocks_parts_and_settings_have_their_own_noise_and_key():
    data = images(BLOCK + 2)
    same = ArraySet(data.images[:1].expand(BLOCK + 2, -1, -1, -1).contiguous(), data.targets, data.classes)
    camera = {"name": "dvs", "config": {"noise_hz": 5.0}}
    noisy = DataSource.parse({"name": "simulated", "config": {"camera": camera, "step_us": 50_000}})
    train, test = _Seen(noisy, same, 0), _Seen(noisy, same, 1)
    assert not torch.equal(train[0], train[1])
    assert not torch.equal(train[0], train[BLOCK])
    assert not torch.equal(train[0], test[0])
    assert torch.equal(train[0], _Seen(noisy, same, 0)[0])
    made = [str(one.made_of()) for one in (train, test, _Seen(IDEAL, same, 0), _Seen(noisy, data, 0))]
    assert len(set(made)) == 4


def test_the_digits_are_there_without_a_file(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    source = DataSource.parse({"name": "simulated", "config": {"step_us": 50_000, "cache": False}})
    parts = source.read(tmp_path)
    assert isinstance(parts, Parts)
    assert (len(parts.train), len(parts.test)) == (1437, 360)
    assert parts.train.shape == (2, 16, 16)
    frames, _ = parts.train.__getitems__([0, 1])
    assert frames.shape == (2, 10, 2, 16, 16)
    assert np.count_nonzero(frames) > 100


def test_sequences_are_no_images(tmp_path):
    sequences = {"name": "simulated", "config": {"images": {"name": "simulated", "config": {"cache": False}}}}
    with pytest.raises(ValueError, match="simulated are sequences; a camera looks at static images"):
        DataSource.parse(sequences).read(tmp_path)
