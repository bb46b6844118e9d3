"""Draw the picture of the example: ``python draw.py picture.png``. Needs NumPy and Pillow.

Fine lines, curves and soft colours: what an enlargement has to keep.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 96, 64
# Drawn this much larger, then made smaller: edges come out soft, as in a photograph.
FINER = 8


def drawn() -> Image.Image:
    """A harbour at dusk: sky, sun, hills, a boat, its reflection."""
    y, x = np.mgrid[0 : HEIGHT * FINER, 0 : WIDTH * FINER] / FINER
    sky = np.stack([40 + 2.6 * y, 60 + 1.2 * y, 120 + 0.4 * y + 0.2 * x], -1)
    image = Image.fromarray(sky.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(across * FINER, down * FINER) for across, down in points]

    pen.ellipse(at((62, 12), (76, 26)), fill=(250, 210, 120))
    ridge = [(float(n), 38 - 7 * abs(np.sin(n / 11)) - 3 * np.sin(n / 5)) for n in range(WIDTH + 1)]
    pen.polygon(at((0, 44), *ridge, (WIDTH, 44)), fill=(45, 50, 80))
    pen.rectangle(at((0, 44), (WIDTH, HEIGHT)), fill=(38, 62, 96))
    for row in range(46, HEIGHT, 3):
        pen.line(at((8 + row % 5, row), (88 - row % 7, row)), fill=(70, 100, 135), width=3)
    pen.polygon(at((20, 46), (46, 46), (42, 52), (25, 52)), fill=(120, 50, 40))
    pen.polygon(at((32, 18), (32, 44), (44, 44)), fill=(235, 230, 220))
    pen.line(at((31, 14), (31, 46)), fill=(230, 200, 160), width=4)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)


if __name__ == "__main__":
    drawn().save(sys.argv[1], optimize=True)
