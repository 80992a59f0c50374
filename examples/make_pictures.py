"""The pictures of this folder, drawn and not photographed: valleys with and without haze, a turning camera, a written three.

python examples/make_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

from saccade.dehaze.synthesis import synth_haze
from saccade.dehaze.video_writer import Writer

HERE = Path(__file__).parent
Picture = NDArray[np.float64]


def ridge(width: int, rng: np.random.Generator, rough: float) -> Picture:
    """A line of hills, 0 to 1."""
    line = sum(
        gaussian_filter(rng.standard_normal(4 * width), width / 2**k)[width : 2 * width] * rough**k for k in range(2, 7)
    )
    return (line - line.min()) / np.ptp(line)


def valley(height: int, width: int, seed: int) -> tuple[Picture, Picture]:
    """A clear picture ``[H, W, 3]`` in [0, 1] and its depth ``[H, W]`` (1 is the foot of the picture)."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 1, height)[:, None]
    picture = np.array([0.45, 0.62, 0.85]) + np.array([0.3, 0.2, 0.08]) * rows[..., None] * np.ones((1, width, 1))
    depth = np.full((height, width), 12.0)
    for i, (top, far) in enumerate(((0.28, 7.0), (0.4, 4.5), (0.52, 2.8), (0.68, 1.6))):
        line = (top + 0.16 * (ridge(width, rng, 0.6) - 0.5)) * height
        inside = np.arange(height)[:, None] >= line
        grain = gaussian_filter(rng.standard_normal((height, width)), 0.7 + i) * (1.5 + 2 * i)
        colour = np.array([0.16 + 0.08 * i, 0.30 + 0.05 * i, 0.14 + 0.02 * i]) * (1 + 0.25 * grain[..., None])
        picture = np.where(inside[..., None], colour, picture)
        depth = np.where(inside, far, depth)
    foot = np.clip((rows - 0.78) / 0.22, 0, 1)
    field = np.array([0.55, 0.47, 0.22]) * (
        1 + 0.2 * gaussian_filter(rng.standard_normal((height, width)), 1)[..., None]
    )
    picture = np.where(foot[..., None] > 0, field, picture)
    depth = np.where(foot > 0, 1.6 - 0.6 * foot, depth)
    for x in rng.uniform(0.05, 0.95, 9):  # trees, the nearer the larger
        near = rng.uniform(0.3, 1.0)
        base, size = int(height * (0.7 + 0.25 * near)), int(height * 0.16 * near) + 4
        yy, xx = np.mgrid[:height, :width]
        crown = (xx - x * width) ** 2 + 1.6 * (yy - (base - size)) ** 2 < (0.5 * size) ** 2
        trunk = (abs(xx - x * width) < max(size / 18, 1)) & (yy < base) & (yy > base - size)
        leaves = rng.uniform(0.7, 1.3, (height, width, 1)) * np.array([0.1, 0.26, 0.08])
        picture = np.where(crown[..., None], leaves, np.where(trunk[..., None], [0.25, 0.16, 0.1], picture))
        depth = np.where(crown | trunk, 2.0 - near, depth)
    return np.clip(picture, 0, 1), depth


def as_bytes(picture: Picture) -> NDArray[np.uint8]:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def main() -> None:
    """Draw everything again."""
    for name, seed, beta, air in (
        ("valley.jpg", 1, 0.28, (0.86, 0.88, 0.92)),
        ("morning.jpg", 4, 0.42, (0.93, 0.88, 0.82)),
    ):
        picture, depth = valley(300, 450, seed)
        Image.fromarray(as_bytes(picture)).save(HERE / "clear" / name, quality=88)
        Image.fromarray(as_bytes(synth_haze(picture, depth, beta, air))).save(HERE / "photos" / name, quality=88)
    wide, depth = valley(120, 260, 7)
    hazy = as_bytes(synth_haze(wide, depth, 0.35, (0.87, 0.88, 0.9)))
    writer = Writer(HERE / "fog.mp4", 12)
    for at in range(0, 96, 4):  # the camera turns
        writer.add(np.ascontiguousarray(hazy[:, at : at + 160]))
    writer.close()
    digit = Image.new("L", (64, 64))
    strokes = [(18, 14), (30, 8), (44, 14), (44, 24), (30, 30), (44, 36), (46, 48), (32, 56), (17, 50)]
    ImageDraw.Draw(digit).line(strokes, fill=255, width=9, joint="curve")
    digit.filter(ImageFilter.GaussianBlur(1.5)).save(HERE / "digit.png")


if __name__ == "__main__":
    main()
