"""The digits that come with scikit-learn."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from saccade.data.imageset import ArraySet
from saccade.data.source import DATA_SETS, DataSource, Parts, Report
from saccade.data.split import stratified, without
from saccade.optional import need

DIGIT_NAMES = tuple("0123456789")
_TEST_IMAGES = 360  # of 1797
_TEST = 5  # first part of the key of the draw: those of saccade.data.source are others


@dataclass(frozen=True)
class Digits(DataSource):
    """Grey values 0..16 become (255 * value + 8) // 16, that is 255/16 * value rounded half up.

    Which images are the test set depends on nothing, as with the sets that come in two files.
    """

    summary: ClassVar[str] = (
        "Digits of scikit-learn: 1,437 + 360 grey images of 8x8, comes with the package, no file needed"
    )

    def read(self, root: Path) -> Parts:
        raw = need("sklearn.datasets", "demo").load_digits()
        values = raw.images.astype(np.int64)  # [1797, 8, 8], whole numbers 0..16
        images = torch.from_numpy(((255 * values + 8) // 16).astype(np.uint8)).unsqueeze(1)
        data = ArraySet(images, torch.from_numpy(raw.target.astype(np.int64)), DIGIT_NAMES)
        test = stratified(data.targets, _TEST_IMAGES, _TEST)
        return Parts(data.subset(without(len(data), test)), data.subset(test))

    def prepare(self, root: Path, report: Report) -> Path:
        report("digits comes with scikit-learn (pip install 'saccade-snn[demo]'): nothing to fetch")
        return root


DATA_SETS.register("digits", Digits())
