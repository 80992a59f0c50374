import numpy as np
import pytest
import torch
from PIL import Image

from saccade import data


def write_folder(root, parts=("train", "test"), classes=("ant", "bee"), count=6, size=(20, 12)):
    rng = np.random.default_rng(0)
    for part in parts:
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
                picture.save(root / part / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    return root


def test_images_come_as_square_rgb(tmp_path):
    write_folder(tmp_path)
    Image.new("L", (9, 30), 77).save(tmp_path / "train" / "ant" / "grey.png")
    (tmp_path / "train" / "ant" / "notes.txt").write_text("passed over")
    (tmp_path / "train" / "ant" / ".hidden.png").write_text("passed over")
    train, validation, test = data.load(data.Folder(8), tmp_path, validation=4)
    assert [len(train), len(validation), len(test)] == [9, 4, 12]
    assert train.classes == ("ant", "bee")
    assert train.shape == (3, 8, 8)
    everything = data.load(data.Folder(8), tmp_path, validation=0).train
    images, labels = everything.__getitems__(range(len(everything)))
    assert images.dtype == torch.uint8
    assert images.shape == (13, 3, 8, 8)
    assert labels.tolist() == [0] * 7 + [1] * 6
    grey = [i for i, file in enumerate(everything.files) if file.name == "grey.png"]
    assert (images[grey] == 77).all()


def test_the_centre_is_cropped_and_a_fitting_image_unchanged(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        pixels = np.zeros((8, 24, 3), np.uint8)
        pixels[:, 8:16] = np.random.default_rng(0).integers(1, 256, (8, 8, 3))
        Image.fromarray(pixels).save(tmp_path / part / "a" / "wide.png")
    image, label = data.load(data.Folder(8), tmp_path, validation=0).train[0]
    assert (image.permute(1, 2, 0).numpy() == pixels[:, 8:16]).all()
    assert label == 0


def test_an_unreadable_image_is_named_wherever_it_is_met(tmp_path):
    write_folder(tmp_path)
    bad = tmp_path / "train" / "bee" / "3.png"
    bad.write_bytes(bad.read_bytes()[:100])
    (tmp_path / "test" / "ant" / "1.png").write_bytes(b"not an image")
    train = data.load(data.Folder(8), tmp_path, validation=0).train
    for workers in (0, 2):
        with pytest.raises(ValueError, match="unreadable image") as error:
            list(data.batches(train, 4, seed=0, workers=workers))
        assert str(bad) in str(error.value)
        assert "\n" not in str(error.value)
    lines: list[str] = []
    with pytest.raises(ValueError, match="2 of 24 images unreadable") as error:
        data.prepare("folder", tmp_path, report=lines.append)
    assert "\n" not in str(error.value)
    assert len(lines) == 2
    assert sum(str(bad) in line for line in lines) == 1


def test_workers_change_neither_batches_nor_global_randomness(tmp_path):
    train = data.load(data.Folder(8), write_folder(tmp_path), validation=0).train
    torch.manual_seed(0)
    before = torch.get_rng_state()
    plain = list(data.batches(train, 5, seed=3, epoch=1))
    read_ahead = list(data.batches(train, 5, seed=3, epoch=1, workers=2))
    assert len(plain) == len(read_ahead) == 3
    for (x, y), (x2, y2) in zip(plain, read_ahead, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert torch.equal(before, torch.get_rng_state())


def test_a_validation_folder_gives_the_validation_images(tmp_path):
    write_folder(tmp_path, parts=("train", "validation", "test"))
    train, validation, _ = data.load(data.Folder(8), tmp_path, validation=6)
    assert len(train) == 12
    assert validation.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert all(file.parent.parent.name == "validation" for file in validation.files)
    with pytest.raises(ValueError, match=r"0\.\.12"):
        data.load(data.Folder(8), tmp_path, validation=13)


@pytest.mark.parametrize(
    ("spoil", "error", "complaint"),
    [
        (lambda root: (root / "test").rename(root / "tst"), FileNotFoundError, "test"),
        (lambda root: (root / "test" / "ant").rename(root / "test" / "cow"), ValueError, "no class cow"),
        (lambda root: (root / "train" / "empty").mkdir(), FileNotFoundError, "empty: holds no image"),
    ],
)
def test_a_wrong_layout_is_named(tmp_path, spoil, error, complaint):
    spoil(write_folder(tmp_path))
    with pytest.raises(error, match=complaint) as raised:
        data.load(data.Folder(8), tmp_path, validation=0)
    assert "\n" not in str(raised.value)
    with pytest.raises(error, match=complaint if error is ValueError else "."):
        data.prepare("folder", tmp_path)


def test_prepare_checks_a_folder_and_explains_the_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match="train/CLASS"):
        data.prepare("folder", tmp_path)
    lines: list[str] = []
    assert data.prepare("folder", write_folder(tmp_path), report=lines.append) == tmp_path
    assert "24 images, all readable" in lines[-1]


def test_size_is_required(tmp_path):
    with pytest.raises(ValueError, match="needs size"):
        data.load("folder", write_folder(tmp_path), validation=0)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        data.load(data.Folder(0), tmp_path, validation=0)
