"""Seeded permutations and class-balanced (stratified) splits."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saccade.data.imageset import ImageSet


class Splits(NamedTuple):
    """Three sets that share no image: learn from train, choose by validation, report test once."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def permutation(count: int, *key: int) -> Tensor:
    """A permutation int64 [count] that depends on the integers of `key` (each >= 0) alone.

    It sorts raw PCG64 output, whose stream numpy keeps fixed; shuffles of numpy and torch may change with a version.
    """
    if any(part < 0 for part in key):
        raise ValueError(f"seeds and epochs must be 0 or more, not {key}")
    raw = np.random.PCG64(np.random.SeedSequence(key)).random_raw(count)
    return torch.from_numpy(np.argsort(raw, kind="stable"))


def stratified(labels: Tensor, count: int, *key: int) -> Tensor:
    """`count` indices into labels int64 [M], ascending: the classes keep their shares, to within one image each.

    The draw depends on labels, count and key alone. Raises ValueError when there are fewer than `count` images.
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"cannot take {count} of {len(labels)} images")
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    sizes = torch.bincount(labels)
    quotas = sizes * count // len(labels)
    # Largest remainders take what rounding down left; integers, so that no platform rounds differently.
    remainders = sizes * count - quotas * len(labels)
    largest = torch.argsort(remainders, descending=True, stable=True)[: count - int(quotas.sum())]
    quotas[largest] += 1
    order = permutation(len(labels), *key)
    shuffled = labels[order]
    chosen = [order[shuffled == label][: int(quota)] for label, quota in enumerate(quotas)]
    return torch.cat(chosen).sort().values


def without(count: int, removed: Tensor) -> Tensor:
    """The indices of range(count) that are not in `removed`, ascending."""
    keep = torch.ones(count, dtype=torch.bool)
    keep[removed] = False
    return keep.nonzero().flatten()
