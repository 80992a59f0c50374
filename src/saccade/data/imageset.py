"""What every image set offers, and the set that lies in memory."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

Indices = Sequence[int] | Tensor


class ImageSet(Dataset, ABC):
    """M images, or image sequences, of one shape, each with the target that a task reads.

    Attributes:
        targets: [M, ...]; class labels are int64 [M], each in [0, len(classes)).
        classes: class names, in label order; empty where the targets are no class labels.
        shape: (C, H, W) of every image, or of every step of a sequence.
        scale: the pixel value that a model sees as 1 (255 for pictures, 1 for counts of events).
        sequences: a sample is [T, C, H, W], not [C, H, W].
        frames: how the steps are made of event recordings, as model files keep it; None where they are not.
    """

    targets: Tensor
    classes: tuple[str, ...] = ()
    shape: tuple[int, int, int]
    scale: float = 255.0
    sequences: bool = False
    frames: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | int]:
        """An image as stored, and its target: a class label as int, anything else as a tensor."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of a set of {len(self)}")
        images, targets = self.__getitems__([index % len(self)])
        return images[0], int(targets[0]) if self.classes else targets[0]

    @abstractmethod
    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W] or [n, T, C, H, W] as stored (uint8 for pictures) and targets [n, ...], fetched in one go."""

    @abstractmethod
    def subset(self, indices: Indices) -> "ImageSet":
        """The set of these images, in this order."""


class ArraySet(ImageSet):
    """An image set in memory."""

    def __init__(self, images: Tensor, targets: Tensor, classes: Sequence[str] = (), scale: float = 255.0) -> None:
        """images uint8 [M, C, H, W], or sequences [M, T, C, H, W]; targets [M, ...], which are class labels if there are
        classes.

        Raises ValueError when these do not fit together.
        """
        if images.ndim not in (4, 5) or images.dtype != torch.uint8:
            raise ValueError(
                f"images must be uint8 [M, C, H, W] or [M, T, C, H, W], not {images.dtype} {list(images.shape)}"
            )
        if targets.shape[:1] != images.shape[:1]:
            raise ValueError(f"targets must be [{len(images)}, ...], one for each image, not {list(targets.shape)}")
        if classes and (targets.dtype != torch.int64 or targets.ndim != 1):
            raise ValueError(f"class labels must be int64 [{len(images)}], not {targets.dtype} {list(targets.shape)}")
        if classes and len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < len(classes):
            raise ValueError(
                f"labels run from {int(targets.min())} to {int(targets.max())}, but there are {len(classes)} classes"
            )
        self.images, self.targets, self.classes, self.scale = images, targets, tuple(classes), scale
        self.sequences = images.ndim == 5
        channels, height, width = images.shape[-3:]
        self.shape = (channels, height, width)

    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[index], self.targets[index]

    def subset(self, indices: Indices) -> "ArraySet":
        return ArraySet(*self.__getitems__(indices), self.classes, self.scale)
