"""Colour of video: which matrix and range a frame has, and tags that say what was written.

Numbers are those of ITU-T H.273, which FFmpeg uses too; 2 means "not said".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNSAID = 2
BT709, FCC, BT470BG, SMPTE170M, SMPTE240M, BT2020 = 1, 4, 5, 6, 7, 9
MATRICES = {
    BT709: "BT.709",
    FCC: "FCC",
    BT470BG: "BT.601",
    SMPTE170M: "BT.601",
    SMPTE240M: "SMPTE 240M",
    BT2020: "BT.2020",
}
LIMITED, FULL = 1, 2
# primaries and transfer that go with a matrix where a stream names only this one
COMPANIONS = {BT709: (1, 1), BT470BG: (5, 6), SMPTE170M: (6, 6), SMPTE240M: (7, 7), BT2020: (9, 14)}


@dataclass(frozen=True)
class Colour:
    """Tags of a stream: ``matrix`` between YUV and RGB, ``primaries``, ``transfer``."""

    matrix: int
    primaries: int
    transfer: int


def assumed_matrix(width: int, height: int) -> int:
    """What players take where nothing is said: BT.709 from 720 lines or 1280 columns on, BT.601 below."""
    return BT709 if height >= 720 or width >= 1280 else SMPTE170M


def of_pictures(width: int, height: int) -> Colour:
    """Tags for frames that are sRGB pictures: its primaries are those of BT.709."""
    return Colour(assumed_matrix(width, height), 1, 1)


def of_frame(frame: Any, context: Any) -> Colour:
    """Tags under which a dehazed frame is written: those of the decoded one, what it leaves unsaid filled in.

    A frame that is RGB, or of a matrix that encoders do not tag alike, gets the one that players assume for its size.
    """
    matrix = _matrix(frame)
    if matrix not in COMPANIONS:
        matrix = assumed_matrix(frame.width, frame.height)
    primaries, transfer = COMPANIONS[matrix]
    said = [getattr(frame, name, UNSAID) for name in ("color_primaries", "color_trc")]
    said = [
        getattr(context, name) if tag in (0, UNSAID) else tag
        for tag, name in zip(said, ("color_primaries", "color_trc"), strict=True)
    ]
    return Colour(
        matrix,
        *(known if tag in (0, UNSAID) else int(tag) for tag, known in zip(said, (primaries, transfer), strict=True)),
    )


def to_rgb(frame: Any) -> NDArray[np.uint8]:
    """A decoded frame as RGB ``[H, W, 3]``, by its own matrix and range.

    Raises ValueError naming a matrix that is none of RGB times constants (YCgCo, ICtCp, constant luminance).
    """
    matrix = _matrix(frame)
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    pixels: NDArray[np.uint8] = frame.to_ndarray(
        format="rgb24",
        src_colorspace=_scaler(matrix),
        src_color_range=FULL if full or frame.format.is_rgb else LIMITED,
        dst_color_range=FULL,
    )
    return pixels


def to_yuv(av: Any, pixels: NDArray[np.uint8], colour: Colour, width: int) -> Any:
    """A frame for the encoder, ``width`` pixels wide, in limited range (which every player knows), with its tags."""
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame = frame.reformat(
        width=width,
        format="yuv420p",
        src_color_range=FULL,
        dst_colorspace=_scaler(colour.matrix),
        dst_color_range=LIMITED,
    )
    tag(frame, colour)
    return frame


def tag(target: Any, colour: Colour) -> None:
    """Set the tags of a frame or of an encoder's context."""
    target.colorspace, target.color_range = colour.matrix, LIMITED
    for name, value in (("color_primaries", colour.primaries), ("color_trc", colour.transfer)):
        if hasattr(target, name):  # frames have them in newer versions of the library only
            setattr(target, name, value)


def _matrix(frame: Any) -> int:
    """The matrix of a decoded frame, guessed where it is not said."""
    said = int(frame.colorspace)
    if said in MATRICES:
        return said
    if said in (0, UNSAID, 3) or frame.format.is_rgb:  # 0 is RGB, also a common slip in files that are not
        return assumed_matrix(frame.width, frame.height)
    names = {8: "YCgCo", 10: "BT.2020 constant luminance", 14: "ICtCp"}
    raise ValueError(
        f"colour matrix {names.get(said, said)} is not read; known: {', '.join(dict.fromkeys(MATRICES.values()))}, RGB"
    )


def _scaler(matrix: int) -> int:
    """The scaler's number of a matrix: it has one for both forms of BT.601."""
    return BT470BG if matrix == SMPTE170M else matrix
