import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade import data
from saccade.data.split import permutation, stratified, without


def fingerprints(part):
    images, labels = part.__getitems__(range(len(part)))
    return {(bytes(image.numpy().tobytes()), int(label)) for image, label in zip(images, labels, strict=True)}


def test_digits_split_without_overlap():
    train, validation, test = data.load("digits", validation=200)
    assert [len(train), len(validation), len(test)] == [1237, 200, 360]
    assert train.shape == (1, 8, 8)
    pools = [fingerprints(part) for part in (train, validation, test)]
    assert sum(map(len, pools)) == len(set.union(*pools)) == 1797  # no two digits are alike
    for part in (train, validation, test):
        assert part.targets.bincount().max() - part.targets.bincount().min() <= 10


def test_digit_values_are_scaled_as_documented():
    from sklearn.datasets import load_digits

    raw = load_digits()
    documented = {bytes(int((255 * v + 8) // 16) for v in image.flatten()) for image in raw.images}
    ours = set().union(*({image for image, _ in fingerprints(part)} for part in data.load("digits", validation=0)))
    assert ours == documented
    values = torch.cat([part.__getitems__(range(len(part)))[0].flatten() for part in data.load("digits", validation=0)])
    assert values.unique().tolist() == [round(255 * v / 16 + 1e-9) for v in range(17)]


def test_validation_does_not_depend_on_the_training_size_but_on_the_seed():
    full = data.load("digits", validation=100, seed=1)
    small = data.load("digits", validation=100, seed=1, train_size=50, test_size=30)
    other = data.load("digits", validation=100, seed=2)
    assert torch.equal(full.validation.images, small.validation.images)
    assert fingerprints(full.validation) != fingerprints(other.validation)
    assert fingerprints(full.test) == fingerprints(other.test)
    assert fingerprints(small.train) < fingerprints(full.train)
    assert fingerprints(small.test) < fingerprints(full.test)
    assert [len(small.train), len(small.test)] == [50, 30]
    assert small.train.targets.bincount(minlength=10).tolist() == [5] * 10
    again = data.load("digits", validation=100, seed=1, train_size=50)
    assert torch.equal(again.train.images, small.train.images)


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation": -1},
        {"validation": 1438},
        {"validation": 100, "train_size": 1338},
        {"validation": 0, "test_size": 361},
    ],
)
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="the images to take it from"):
        data.load("digits", **wrong)


def test_missing_scikit_learn_is_answered_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'saccade-snn\[demo\]'"):
        data.load("digits", validation=0)


def test_unknown_names_are_answered_with_the_known_ones():
    for call in (
        lambda: data.load("cifar", validation=0),
        lambda: data.prepare("cifar", None),
    ):
        with pytest.raises(
            ValueError, match=r"unknown data set 'cifar'; did you mean .*\(`saccade data list` lists all\)"
        ):
            call()
    assert {"cifar10", "cifar100", "mnist", "fashion-mnist", "digits", "folder"} <= set(data.DATA_SETS)
    assert all(source.describe() and "\n" not in source.describe() for source in data.DATA_SETS.values())
    with pytest.raises(ValueError, match="digits takes no 'size'"):
        data.load({"name": "digits", "config": {"size": 32}}, validation=0)


def test_the_permutation_is_fixed_for_good():
    # From numpy's frozen PCG64 stream: a change here would change every split and order that was ever reported.
    assert permutation(8, 1, 0, 0).tolist() == [2, 4, 7, 5, 0, 6, 3, 1]
    assert permutation(8, 1, 0, 1).tolist() != permutation(8, 1, 0, 0).tolist()
    with pytest.raises(ValueError, match="0 or more"):
        permutation(8, -1)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data(), st.integers(0, 9))
def test_a_stratified_draw_keeps_the_shares(labels, draw, seed):
    count = draw.draw(st.integers(0, len(labels)))
    labels = torch.tensor(labels)
    chosen = stratified(labels, count, seed)
    assert len(chosen) == count
    assert chosen.unique().tolist() == chosen.tolist()
    for label in labels.unique():
        share = float((labels == label).sum()) * count / len(labels)
        assert abs(int((labels[chosen] == label).sum()) - share) < 1
    rest = without(len(labels), chosen)
    assert sorted([*rest.tolist(), *chosen.tolist()]) == list(range(len(labels)))


def test_an_array_set_refuses_what_does_not_fit():
    images, labels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1])
    array = data.ArraySet(images, labels, ["a", "b"])
    assert array[-1][1] == 1
    with pytest.raises(IndexError):
        array[3]
    for wrong in ((images.float(), labels), (images[0], labels), (images[:2], labels), (images, labels.int())):
        with pytest.raises(ValueError, match="must be"):
            data.ArraySet(*wrong, ["a", "b"])
    with pytest.raises(ValueError, match="1 classes"):
        data.ArraySet(images, labels, ["a"])
