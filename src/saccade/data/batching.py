"""Batches of an image set in a seeded order that can be resumed and shared among ranks."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from saccade.data.children import start_worker
from saccade.data.imageset import ImageSet
from saccade.data.split import permutation

_ORDER = 1  # keeps these permutations apart from those that make the splits


def batches(
    data: ImageSet,
    batch_size: int,
    *,
    seed: int | None,
    epoch: int = 0,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    drop_last: bool = False,
    workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images float32 [n, C, H, W] in [0, 1], or sequences [T, n, C, H, W], and targets [n, ...].

    Pixels are divided by the set's ``scale`` (255 for pictures).

    With a seed, images come in a permutation derived from (seed, epoch) alone; seed=None keeps the set's order
    (evaluation). The first `start` batches are skipped without being read.

    `batch_size` counts all ranks together: rank r of `world` takes images r, r + world, ... of each batch. A last,
    smaller batch is left out if drop_last; with a seed also if it cannot be shared evenly, so that ranks stay in
    step. With seed=None every image is visited by exactly one rank, which may get a smaller last batch, or none.

    `workers` > 0 reads ahead in that many processes (worth it for image folders). No global random state is used.

    Raises ValueError for impossible arguments, at once, and for an unreadable image when it is reached.
    """
    if batch_size < 1 or world < 1 or batch_size % world:
        raise ValueError(f"batch_size ({batch_size}) must be a positive multiple of the number of ranks ({world})")
    if not 0 <= rank < world:
        raise ValueError(f"rank must be in 0..{world - 1}, not {rank}")
    if start < 0 or workers < 0:
        raise ValueError(f"start and workers must be 0 or more, not {start} and {workers}")
    order = torch.arange(len(data)) if seed is None else permutation(len(data), _ORDER, seed, epoch)
    if seed is None:
        stop = len(data) // batch_size * batch_size if drop_last else len(data)
    else:
        stop = min(steps_per_epoch(data, batch_size, drop_last, world) * batch_size, len(data))
    parts = [order[at : min(at + batch_size, stop)][rank::world] for at in range(start * batch_size, stop, batch_size)]
    return _fetch(data, [part for part in parts if len(part)], workers)


def image_batches(data: ImageSet, batch_size: int = 100, limit: int | None = None) -> Iterator[Tensor]:
    """Images [n, C, H, W] or sequences [T, n, C, H, W] of a set in its order, without targets, at most `limit`."""
    part = data if limit is None or limit >= len(data) else data.subset(range(limit))
    for x, _ in batches(part, batch_size, seed=None):
        yield x


def steps_per_epoch(data: ImageSet, batch_size: int, drop_last: bool, world: int = 1) -> int:
    """The number of batches that `batches` yields with a seed, on every rank."""
    full, rest = divmod(len(data), batch_size)
    return full + int(rest > 0 and not drop_last and rest % world == 0)


def _fetch(data: ImageSet, parts: list[Tensor], workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    if workers == 0 or not parts:
        for part in parts:
            yield _scaled(data, *data.__getitems__(part))
        return
    # Given no generator, the loader would draw a seed from torch's global one and so change the augmentation.
    loader: DataLoader = DataLoader(
        _Carrier(data),
        batch_sampler=[part.tolist() for part in parts],
        num_workers=min(workers, len(parts)),
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
        generator=torch.Generator(),
    )
    for fetched in loader:
        if isinstance(fetched, str):
            raise ValueError(fetched)
        yield _scaled(data, *fetched)


def _scaled(data: ImageSet, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    x = images.float().div_(data.scale)
    return (x.transpose(0, 1) if data.sequences else x), targets


class _Carrier(Dataset):
    """Brings a worker's error home as its one line; the loader would wrap a whole traceback around it."""

    def __init__(self, data: ImageSet) -> None:
        self.data = data

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor] | str:
        try:
            return self.data.__getitems__(indices)
        except (ValueError, OSError) as error:
            return str(error)


def _as_it_is(fetched: Any) -> Any:
    return fetched
