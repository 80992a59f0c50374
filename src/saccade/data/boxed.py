"""Pictures with boxes, read when they are asked for: what the detection sets share."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.data.folder import decoded
from saccade.data.imageset import ImageSet, Indices

Box = tuple[int, float, float, float, float]  # class, left, top, right, bottom in pixels


@dataclass(frozen=True)
class Boxed:
    """A picture of ``width`` x ``height`` pixels, and its boxes."""

    path: Path
    width: int
    height: int
    boxes: tuple[Box, ...]

    def targets(self) -> list[list[float]]:
        """Rows of class, left, top, right, bottom as shares of the square that holds the picture in its upper left corner.

        Boxes are cut to the picture; what is empty then is left out.
        """
        side, rows = max(self.width, self.height), []
        for kind, left, top, right, bottom in self.boxes:
            left, right = (min(max(value, 0), self.width) for value in (left, right))
            top, bottom = (min(max(value, 0), self.height) for value in (top, bottom))
            if right > left and bottom > top:
                rows.append([kind, left / side, top / side, right / side, bottom / side])
        return rows


class BoxedSet(ImageSet):
    """Whole pictures in squares of ``size`` pixels, black to the right or below.

    targets: float32 ``[M, most, 5]``, rows of -1 where a picture has fewer boxes.
    """

    def __init__(self, pictures: Sequence[Boxed], size: int) -> None:
        self.pictures, self.size, self.shape = tuple(pictures), size, (3, size, size)
        rows = [picture.targets() for picture in self.pictures]
        self.targets = torch.full((len(rows), max([1, *map(len, rows)]), 5), -1.0)
        for target, found in zip(self.targets, rows, strict=True):
            if found:
                target[: len(found)] = torch.tensor(found)

    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Images uint8 ``[n, 3, size, size]``, boxes ``[n, most, 5]``. Raises ValueError naming a bad file."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        images = torch.zeros(len(index), *self.shape, dtype=torch.uint8)
        for image, i in zip(images, index.tolist(), strict=True):
            pixels = decoded(self.pictures[i].path, partial(self._fitted, self.pictures[i]))
            image[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        return images, self.targets[index]

    def _fitted(self, said: Boxed, image: Any) -> Any:
        if image.size != (said.width, said.height):
            raise ValueError(f"{image.width} x {image.height} pixels; its boxes are for {said.width} x {said.height}")
        scale = self.size / max(image.size)
        return image.resize(tuple(max(1, round(length * scale)) for length in image.size))

    def subset(self, indices: Indices) -> "BoxedSet":
        return BoxedSet([self.pictures[i] for i in torch.as_tensor(indices, dtype=torch.int64).tolist()], self.size)
