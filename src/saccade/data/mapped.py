"""Changes of every image of a set, such as dehazing: chosen by name with settings, applied when images are fetched."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from saccade.config import Config, Registry
from saccade.data.imageset import ImageSet, Indices

PixelMap = Callable[[Tensor], Tensor]
PIXEL_MAPS: Registry["PixelMapConfig"] = Registry("transform of images")


@dataclass(frozen=True)
class PixelMapConfig(Config):
    """Settings of a function from images uint8 [n, C, H, W] to the same, as recipes name it in ``data.transforms``."""

    registry: ClassVar[Registry] = PIXEL_MAPS

    def build(self) -> PixelMap:
        """The function, which can be pickled. Raises ValueError for settings that do not go together."""
        raise NotImplementedError


class MappedSet(ImageSet):
    """The images of a set after a function from uint8 [n, C, H, W] to the same; everything else is the set's.

    The function has to treat every image by itself, always alike: it runs whenever images are fetched.
    """

    def __init__(self, data: ImageSet, function: PixelMap) -> None:
        self.data, self.function = data, function
        self.targets, self.classes, self.shape = data.targets, data.classes, data.shape
        self.scale, self.sequences = data.scale, data.sequences

    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        images, targets = self.data.__getitems__(indices)
        lead = images.shape[: images.dim() - 3]
        mapped = self.function(images.flatten(0, -4)).unflatten(0, lead)
        if mapped.shape != images.shape or mapped.dtype != images.dtype:
            raise ValueError(
                f"a transform of the data made {mapped.dtype} {list(mapped.shape)} of {images.dtype} {list(images.shape)}"
            )
        return mapped, targets

    def subset(self, indices: Indices) -> "MappedSet":
        return MappedSet(self.data.subset(indices), self.function)
