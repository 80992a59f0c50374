from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade import data


def numbered(count):
    """A set whose image i has all pixels i and whose label is i % 3."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    return data.ArraySet(images, torch.arange(count) % 3, "abc")


def numbers(iterator):
    return [(255 * x[:, 0, 0, 0]).round().int().tolist() for x, _ in iterator]


def joined(lists):
    return list(chain.from_iterable(lists))


def test_evaluation_keeps_the_order_and_values():
    batches = list(data.batches(numbered(10), 4, seed=None))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    x = torch.cat([x for x, _ in batches])
    assert x.dtype == torch.float32
    assert torch.equal(x[:, 0, 0, 0], torch.arange(10) / 255)
    assert torch.cat([y for _, y in batches]).tolist() == [i % 3 for i in range(10)]


def test_the_order_derives_from_seed_and_epoch():
    torch.manual_seed(1)
    first = numbers(data.batches(numbered(50), 8, seed=5, epoch=2))
    torch.manual_seed(2)
    assert first == numbers(data.batches(numbered(50), 8, seed=5, epoch=2))
    assert sorted(joined(first)) == list(range(50))
    assert first != numbers(data.batches(numbered(50), 8, seed=5, epoch=3))
    assert first != numbers(data.batches(numbered(50), 8, seed=6, epoch=2))


def test_labels_travel_with_their_images():
    for x, y in data.batches(numbered(50), 8, seed=0):
        assert torch.equal((255 * x[:, 0, 0, 0]).round().long() % 3, y)


@given(
    count=st.integers(0, 60),
    share=st.integers(1, 5),
    world=st.integers(1, 4),
    start=st.integers(0, 4),
    drop_last=st.booleans(),
    seed=st.one_of(st.none(), st.integers(0, 3)),
)
def test_ranks_share_each_batch_and_start_skips(count, share, world, start, drop_last, seed):
    images, size = numbered(count), share * world
    options = {"seed": seed, "drop_last": drop_last}
    whole = numbers(data.batches(images, size, **options))
    ranks = [numbers(data.batches(images, size, rank=rank, world=world, **options)) for rank in range(world)]
    seen = [joined(rank) for rank in ranks]
    if seed is not None:
        steps = data.steps_per_epoch(images, size, drop_last, world)
        assert all(len(rank) == steps for rank in ranks)  # ranks stay in step ...
        assert len({tuple(map(len, rank)) for rank in ranks}) == 1  # ... with equal shares
        assert sorted(joined(seen)) == sorted(joined(whole[:steps]))
    else:
        assert sorted(joined(seen)) == sorted(joined(whole))
    for rank in range(world):
        resumed = numbers(data.batches(images, size, rank=rank, world=world, start=start, **options))
        assert resumed == ranks[rank][start:]


def test_skipped_batches_are_not_read():
    class Watched(data.ArraySet):
        def __getitems__(self, indices):
            reads.append(len(indices))
            return super().__getitems__(indices)

    reads: list[int] = []
    plain = numbered(20)
    list(data.batches(Watched(plain.images, plain.targets, plain.classes), 4, seed=0, start=3))
    assert reads == [4, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": 3, "world": 2},
        {"batch_size": 4, "world": 2, "rank": 2},
        {"batch_size": 4, "start": -1},
        {"batch_size": 4, "seed": -1},
    ],
)
def test_impossible_arguments_are_refused_at_the_call(wrong):
    with pytest.raises(ValueError, match="must be"):
        data.batches(numbered(9), **{"seed": 0, **wrong})
