"""An image set whose images pass through a function first, such as a dehazer."""

from collections.abc import Callable

from torch import Tensor

from saccade.data.imageset import ImageSet, Indices

PixelMap = Callable[[Tensor], Tensor]


class MappedSet(ImageSet):
    """The images of a set after a function from uint8 [n, C, H, W] to the same; labels and classes are the set's.

    The function has to treat every image by itself, always alike: it runs whenever images are fetched.
    """

    def __init__(self, data: ImageSet, function: PixelMap) -> None:
        self.data, self.function = data, function
        self.labels, self.classes, self.shape = data.labels, data.classes, data.shape

    def __getitems__(self, indices: Indices) -> tuple[Tensor, Tensor]:
        images, labels = self.data.__getitems__(indices)
        mapped = self.function(images)
        if mapped.shape != images.shape or mapped.dtype != images.dtype:
            raise ValueError(
                f"a transform of the data made {mapped.dtype} {list(mapped.shape)} of {images.dtype} {list(images.shape)}"
            )
        return mapped, labels

    def subset(self, indices: Indices) -> "MappedSet":
        return MappedSet(self.data.subset(indices), self.function)
