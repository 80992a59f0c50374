"""Made pictures for dense tasks: simple shapes on real textures, with their masks or their boxes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from saccade.data.imageset import ArraySet
from saccade.data.source import DATA_SETS, DataSource, Parts

SHAPES = ("disc", "square", "triangle", "cross")
MOST = 3  # shapes in a picture
TILE = 32


@dataclass(frozen=True)
class MadeShapes(DataSource):
    """One to three shapes, apart from each other, of a random colour through which another texture shows.

    targets: "masks", uint8 ``[M, side, side]``, 0 where there is none and 1 + the number of the shape (disc, square, triangle,
    cross); or "boxes", float32 ``[M, 3, 5]``: number of the shape, left, top, right, bottom as shares of the side; rows of -1
    where there are fewer. textures: "cifar10" (its training images behind those to train on, its test images behind the
    others, as tiles) or "noise", which needs no file. side: in pixels, a multiple of 32. Pictures depend on their number alone.
    """

    summary: ClassVar[str] = "Made shapes on tiles of CIFAR-10 (or noise), with masks or boxes: as many as wanted"
    targets: Literal["masks", "boxes"] = "masks"
    textures: Literal["cifar10", "noise"] = "cifar10"
    images: Annotated[int, Field(ge=1)] = 3000
    test_images: Annotated[int, Field(ge=1)] = 500
    side: Annotated[int, Field(ge=TILE)] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side % TILE:
            raise ValueError(f"side must be a multiple of {TILE} pixels, got {self.side}")

    def read(self, root: Path) -> Parts:
        if self.textures == "noise":
            tiles = [_noise(seed) for seed in (0, 1)]
        else:
            parts = DATA_SETS[self.textures].read(root)
            tiles = [part.images.numpy() for part in (parts.train, parts.test) if isinstance(part, ArraySet)]
        return Parts(self._make(self.images, tiles[0], 0), self._make(self.test_images, tiles[1], 1))

    def _make(self, count: int, tiles: NDArray[np.uint8], part: int) -> ArraySet:
        images = np.empty((count, 3, self.side, self.side), np.uint8)
        masks = np.zeros((count, self.side, self.side), np.uint8)
        boxes = np.full((count, MOST, 5), -1, np.float32)
        for i in range(count):
            images[i] = _picture(np.random.default_rng((part, i)), tiles, masks[i], boxes[i])
        targets = masks if self.targets == "masks" else boxes
        return ArraySet(torch.from_numpy(images), torch.from_numpy(targets))


def _noise(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (64, 3, 8, 8), dtype=np.uint8)
    return coarse.repeat(4, 2).repeat(4, 3)


def _canvas(draw: np.random.Generator, tiles: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    across = side // TILE
    rows = [np.concatenate([tiles[draw.integers(len(tiles))] for _ in range(across)], 2) for _ in range(across)]
    return np.concatenate(rows, 1).astype(np.float64)


def _picture(
    draw: np.random.Generator, tiles: NDArray[np.uint8], mask: NDArray[np.uint8], boxes: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """A picture ``[3, side, side]``; fills in its mask and its boxes."""
    side = len(mask)
    image, inside = _canvas(draw, tiles, side), _canvas(draw, tiles, side)
    rows, columns = np.mgrid[:side, :side] + 0.5
    placed = 0
    for _ in range(int(draw.integers(1, MOST + 1))):
        for _attempt in range(10):
            kind, radius = int(draw.integers(len(SHAPES))), draw.uniform(0.1, 0.2) * side
            y, x = draw.uniform(radius, side - radius, 2)
            covered = _covers(SHAPES[kind], (rows - y) / radius, (columns - x) / radius)
            near = (abs(rows - y) <= radius + 1) & (abs(columns - x) <= radius + 1)
            if covered.any() and not mask[near].any():
                break
        else:
            continue
        colour = draw.uniform(0, 255, 3)[:, None]
        image[:, covered] = 0.7 * colour + 0.3 * inside[:, covered]
        mask[covered] = 1 + kind
        at_rows, at_columns = np.nonzero(covered)
        corners = at_columns.min(), at_rows.min(), at_columns.max() + 1, at_rows.max() + 1
        boxes[placed] = (kind, *(corner / side for corner in corners))
        placed += 1
    return image.round().astype(np.uint8)


def _covers(shape: str, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which places, in radii from the middle, a shape covers."""
    if shape == "disc":
        return x**2 + y**2 <= 1
    if shape == "square":
        return (abs(x) <= 0.85) & (abs(y) <= 0.85)
    if shape == "triangle":
        return (y <= 0.9) & (y >= 2 * abs(x) - 0.9)
    return (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1)


DATA_SETS.register("made_shapes", MadeShapes())
