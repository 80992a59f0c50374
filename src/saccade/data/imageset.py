"""What every image set offers, and the set that lies in memory."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

Indices = Sequence[int] | Tensor


class ImageSet(Dataset, ABC):
    """M labelled images of one shape.

    Attributes:
        labels: int64 [M], each in [0, len(classes)).
        classes: class names, in label order.
        shape: (C, H, W) of every image.
    """

    labels: Tensor
    classes: tuple[str, ...]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Image uint8 [C, H, W] and its label."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of a set of {len(self)}")
        images, labels = self.__getitems__([index % len(self)])
        return images[0], int(labels[0])

    @abstractmethod
    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Images uint8 [n, C, H, W] and labels int64 [n], fetched in one go."""

    @abstractmethod
    def subset(self, indices: Indices) -> "ImageSet":
        """The set of these images, in this order."""


class ArraySet(ImageSet):
    """An image set in memory."""

    def __init__(self, images: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        """images uint8 [M, C, H, W], labels int64 [M]. Raises ValueError when these do not fit together."""
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 [M, C, H, W], not {images.dtype} {list(images.shape)}")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels must be int64 [{len(images)}], one for each image, not {labels.dtype} {list(labels.shape)}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
            raise ValueError(
                f"labels run from {int(labels.min())} to {int(labels.max())}, but there are {len(classes)} classes"
            )
        self.images, self.labels, self.classes = images, labels, tuple(classes)
        channels, height, width = images.shape[1:]
        self.shape = (channels, height, width)

    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[index], self.labels[index]

    def subset(self, indices: Indices) -> "ArraySet":
        return ArraySet(*self.__getitems__(indices), self.classes)
