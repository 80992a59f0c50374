import pytest
import torch

from saccade.data import build_augmentation
from saccade.data.augment import NAMES, OF_EVENTS, mix_samples
from saccade.data.policies import auto_augment_policies, rand_augment_policies

PICTURES = [name for name in NAMES if name not in OF_EVENTS]


@pytest.fixture(scope="module")
def picture():
    """A smooth colour picture [3, 32, 32] with texture, so that every operation has something to change."""
    torch.manual_seed(0)
    rows = torch.linspace(0.1, 0.9, 32)
    smooth = torch.stack([rows[:, None].expand(32, 32), rows.expand(32, 32), rows.flip(0).expand(32, 32)])
    return (0.8 * smooth + 0.2 * torch.rand(3, 32, 32)).clamp(0, 1)


def build(names, **settings):
    return build_augmentation(names, **{"classes": 10, "shape": (3, 32, 32), **settings})


@pytest.mark.parametrize(
    ("name", "at_least"), [("crop", 20), ("flip", 2), ("autoaugment", 30), ("randaugment", 30), ("cutout", 40)]
)
def test_copies_come_out_different(picture, name, at_least):
    copies = picture.expand(64, -1, -1, -1)
    torch.manual_seed(1)
    x, y = build([name])(copies, torch.zeros(64, dtype=torch.int64))
    assert x.shape == copies.shape
    assert y.dtype == torch.int64
    assert len(x.flatten(1).unique(dim=0)) >= at_least
    assert (copies == picture).all()  # the input is left alone


@pytest.mark.parametrize("name", PICTURES)
def test_outcome_depends_on_the_seed_alone_and_stays_in_range(picture, name):
    x = torch.cat([picture.expand(20, -1, -1, -1), torch.rand(20, 3, 32, 32)])
    y = torch.arange(40) % 10
    outcomes = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        outcomes.append(build([name])(x, y))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert torch.equal(outcomes[0][1], outcomes[1][1])
    assert not torch.equal(outcomes[0][0], outcomes[2][0])
    assert 0 <= outcomes[0][0].min() <= outcomes[0][0].max() <= 1
    assert not outcomes[0][0].requires_grad


def test_nothing_named_is_the_identity():
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    same_x, same_y = build([], shape=(1, 8, 8))(x, y)
    assert same_x is x
    assert same_y is y


def test_crop_shifts_by_whole_pixels_with_black_around():
    x = 1 + torch.arange(7 * 9.0).view(1, 1, 7, 9).expand(200, 2, -1, -1)
    torch.manual_seed(0)
    out, _ = build(["crop"], crop_padding=2, shape=(2, 7, 9))(x, torch.zeros(200))
    padded = torch.nn.functional.pad(x[0], (2, 2, 2, 2))
    places = {
        (i, j): padded[:, i : i + 7, j : j + 9] for i in range(5) for j in range(5)
    }  # every place there is, and each is met
    met = {place for image in out for place, cut in places.items() if torch.equal(image, cut)}
    assert met == set(places)
    assert all(any(torch.equal(image, cut) for cut in places.values()) for image in out)


def test_resized_crop_is_a_part_of_the_image_at_its_size():
    height, width = 30, 40
    rows = ((torch.arange(height) + 0.5) / height).view(1, height, 1).expand(1, -1, width)
    columns = ((torch.arange(width) + 0.5) / width).view(1, 1, width).expand(1, height, -1)
    x = torch.cat([rows, columns]).expand(500, -1, -1, -1)  # what a place holds says where it lay
    torch.manual_seed(0)
    out, _ = build(["resized_crop"], shape=(2, height, width))(x, torch.zeros(500))
    inner = out[:, :, 2:-2, 2:-2]
    high = (inner[:, 0, 10, 0] - inner[:, 0, 0, 0]) * height / 10
    wide = (inner[:, 1, 0, 10] - inner[:, 1, 0, 0]) * width / 10
    steps = inner[:, 0].diff(dim=1) * height
    assert torch.allclose(steps, high[:, None, None].expand_as(steps), atol=2e-3)  # a ramp stays one
    assert inner[:, 0].diff(dim=2).abs().max() < 1e-5  # neither turned nor sheared
    area, ratio = high * wide, wide * width / (high * height)
    assert 0.07 < area.min() < 0.2
    assert 0.85 < area.max() < 1.001
    assert 3 / 4 - 0.01 < ratio[area < 0.5].min() < 0.8
    assert 1.25 < ratio[area < 0.5].max() < 4 / 3 + 0.01
    first = inner[:, 1, 0, 0] - 2.5 / width * wide  # where the part begins: all over the picture
    assert -0.01 < first.min() < 0.05
    assert (first + wide).max() < 1.01


def test_flip_mirrors_half_of_the_images():
    x = torch.rand(400, 1, 3, 5)
    torch.manual_seed(0)
    out, _ = build(["flip"], shape=(1, 3, 5))(x, torch.zeros(400))
    mirrored = (out == x.flip(3)).flatten(1).all(1)
    assert (mirrored ^ (out == x).flatten(1).all(1)).all()
    assert 160 < mirrored.sum() < 240


@pytest.mark.parametrize("size", [3, 4, 100])
def test_cutout_blackens_a_square_clipped_to_the_image(size):
    torch.manual_seed(0)
    out, _ = build(["cutout"], cutout_size=size, shape=(1, 8, 10))(torch.ones(300, 1, 8, 10), torch.zeros(300))
    side = min(size, 8)
    black = out[:, 0] == 0
    heights, widths = black.any(2).sum(1), black.any(1).sum(1)
    assert torch.equal(black.sum((1, 2)), heights * widths)  # a rectangle
    assert heights.max() == widths.max() == side
    assert heights.min() == (side + 1) // 2  # centred on the edge


@pytest.mark.parametrize("names", [["mixup"], ["cutmix"], ["mixup", "cutmix"]])
def test_labels_are_shares_of_what_is_seen(names):
    # Image i is all i/10 and of class i, so the mean of a mixed image tells the share of each label.
    y = torch.arange(10)
    x = (y / 10).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    torch.manual_seed(0)
    for _ in range(20):
        mixed, soft = build(names, shape=(1, 16, 16))(x, y)
        assert soft.shape == (10, 10)
        assert soft.dtype == torch.float32
        torch.testing.assert_close(soft.sum(1), torch.ones(10))
        torch.testing.assert_close(mixed.mean((1, 2, 3)), soft @ (torch.arange(10) / 10))
        flat = mixed.flatten(1).amax(1) - mixed.flatten(1).amin(1) < 1e-6
        if names == ["mixup"]:
            assert flat.all()
    shares = torch.stack([soft[i, i] for i in range(10)])
    assert len(shares.unique()) > 3  # one share for each sample


def test_mix_alpha_shapes_the_shares():
    x, y = torch.rand(500, 1, 4, 4), torch.arange(500)
    torch.manual_seed(0)
    spread = [
        mix_samples(x, y, ("mixup",), 500, alpha)[1].amax(1).mean() for alpha in (0.1, 1.0, 50.0)
    ]  # the larger of the two shares
    assert spread[0] > 0.9 > spread[1] > 0.7 > 0.6 > spread[2]


def test_shears_are_as_published():
    # A vertical line sheared by s leaves the centre by s * 16 pixels at the edge: 5 for 0.3; 22 for kornia's 54 degrees.
    line = torch.zeros(256, 3, 33, 33)
    line[..., 15:18] = 1

    def slope(sheared):
        weights = sheared[:, 0]
        centres = (weights * torch.arange(33)).sum(2) / weights.sum(2)  # of each row
        return ((centres[:, 30] - centres[:, 2]) / 28).abs()

    torch.manual_seed(0)
    sheared = slope(rand_augment_policies(29)[11](line))
    torch.testing.assert_close(sheared, torch.full((256,), 0.29), atol=0.01, rtol=0)
    sheared = slope(auto_augment_policies()[5](line.transpose(2, 3)).transpose(2, 3))  # at odds of 0.2, bin 7
    moved = sheared[sheared > 0.01]
    assert 25 < len(moved) < 80
    assert 0.11 < moved.min() < 0.13 < 0.17 < moved.max() < 0.19


def test_any_memory_format_will_do(picture):
    x = torch.rand(6, 3, 32, 32)
    for name in PICTURES:
        outcomes = []
        for layout in (torch.contiguous_format, torch.channels_last):
            torch.manual_seed(0)
            outcomes.append(build([name])(x.contiguous(memory_format=layout), torch.arange(6))[0])
        torch.testing.assert_close(*outcomes)


def test_grey_images_have_their_own_transformations():
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6)
    out, soft = build(["cutmix", "crop", "flip", "cutout"], shape=(1, 8, 8))(x, y)
    assert out.shape == x.shape
    assert soft.shape == (6, 10)
    for name in ("autoaugment", "randaugment"):
        with pytest.raises(ValueError, match=f"{name} needs RGB images"):
            build([name], shape=(1, 8, 8))


def test_order_of_names_does_not_matter():
    x, y = torch.rand(8, 3, 32, 32), torch.arange(8)
    torch.manual_seed(0)
    one = build(["mixup", "cutout", "flip", "crop"])(x, y)
    torch.manual_seed(0)
    two = build(["crop", "flip", "cutout", "mixup"])(x, y)
    assert torch.equal(one[0], two[0])


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="unknown augmentation jitter; known: crop, resized_crop, flip"):
        build(["crop", "jitter"])
    for wrong in ({"crop_padding": -1}, {"cutout_size": 0}, {"mix_alpha": 0.0}):
        with pytest.raises(ValueError, match="must be 0 or more"):
            build(["crop"], **wrong)
