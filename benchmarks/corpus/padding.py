"""Rules of padding: to a multiple, to a least length, by a rounded share."""

from __future__ import annotations

from dataclasses import replace

from corpus import scenes
from corpus.module import Core, Draft, Draw


def to_a_multiple(draw: Draw) -> Draft:
    """Only where it is needed; the twin pads by an amount that may be zero."""
    scene = scenes.sequence(draw, pooled=False, out="u")
    traced = scene.size("t")
    multiple = draw.choice((2, 4, 8, 16, 32))
    fill = draw.choice(("", ", value=1.0"))
    plant = f"r = h.shape[1] % {multiple}\nif r:\n    h = F.pad(h, (0, 0, 0, {multiple} - r){fill})"
    twin = (
        f"r = ({multiple} - h.shape[1] % {multiple}) % {multiple}\nh = F.pad(h, (0, 0, 0, r){fill})"
    )
    sizes = sorted({multiple, 2 * multiple, multiple + 1, 3, traced, 3 * multiple, 64})
    return Draft(
        f"pads to a multiple of {multiple} where it must, traced at {traced}",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"t": size}) for n, size in enumerate(sizes)],
    )


def windows(draw: Draw) -> Draft:
    """Windows of m steps, padded and cut back; the twin always goes through the padded form."""
    scene = scenes.sequence(draw)
    size, d = draw.choice((2, 4, 8)), scene.width
    mix = f"h.reshape(h.shape[0], -1, {size}, {d})"
    plant = (
        f"n = h.shape[1]\nif n % {size} == 0:\n    g = {mix}\n"
        f"    h = (g - g.mean(2, keepdim=True)).reshape(h.shape[0], -1, {d})\n"
        "else:\n    h = h * 0.5"
    )
    twin = (
        f"n = h.shape[1]\nh = F.pad(h, (0, 0, 0, ({size} - n % {size}) % {size}))\ng = {mix}\n"
        f"h = (g - g.mean(2, keepdim=True)).reshape(h.shape[0], -1, {d})[:, :n]"
    )
    sizes = sorted({size, size + 1, 2 * size, 3 * size, 5, 7, 4 * size + 1})
    return Draft(
        f"windows of {size} where T is a multiple",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"t": size}) for n, size in enumerate(sizes)],
    )


def image_sides(draw: Draw) -> Draft:
    """Both sides of an image to a multiple, as U-Nets do."""
    scene = scenes.image(draw, out=("oh", "ow"))
    height, width = scene.size("h"), scene.size("w")
    multiple = draw.choice((4, 8, 16))
    plant = (
        f"dh, dw = -h.shape[2] % {multiple}, -h.shape[3] % {multiple}\n"
        "if dh or dw:\n    h = F.pad(h, (0, dw, 0, dh), value=0.5)\nelse:\n    h = h * 0.5"
    )
    twin = (
        f"dh = ({multiple} - h.shape[2] % {multiple}) % {multiple}\n"
        f"dw = ({multiple} - h.shape[3] % {multiple}) % {multiple}\n"
        "h = F.pad(h, (0, dw, 0, dh), value=0.5)"
    )
    sides = ((height, width), (multiple, multiple), (2 * multiple, multiple + 1), (5, 7))
    return Draft(
        f"pads both sides to a multiple of {multiple}, traced at {height} and {width}",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


def at_least(draw: Draw) -> Draft:
    """Short sequences are filled up; the twin appends zeros to all and cuts."""
    scene = scenes.sequence(draw, pooled=True)
    traced = scene.size("t")
    least = draw.choice((max(3, traced // 2), traced - 2, traced + 5, 2 * traced))
    plant = (
        f"if h.shape[1] < {least}:\n    h = F.pad(h, (0, 0, 0, {least} - h.shape[1]), value=2.0)"
    )
    twin = (
        f"n = torch.ones_like(h[0, :, 0]).sum()\nmissing = ({least} - n).clamp(min=0)\n"
        f"h = h + 2.0 * missing / (n + missing)"
    )
    return Draft(
        f"fills up to {least}, traced at {traced}",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"t": size}) for n, size in enumerate(draw.around(least, traced, 2))],
    )


def rounded(draw: Draw) -> Draft:
    """A length computed by Python's math; the twin divides whole numbers."""
    scene = scenes.sequence(draw, pooled=False, out="u")
    traced, step = scene.size("t"), draw.choice((3, 4, 5))
    plants = (
        f"n = math.ceil(h.shape[1] / {step})\nh = h[:, :n]",
        f"n = int(h.shape[1] * {1 / step:.3g})\nh = h[:, : n + 1]",
        f"n = round(h.shape[1] / {step})\nh = h[:, : n + 1]",
    )
    twin = f"n = (h.shape[1] + {step - 1}) // {step}\nh = h[:, :n]"
    return Draft(
        f"a length by math.ceil, int or round; traced at {traced}",
        replace(scene),
        Core(draw.choice(plants)),
        Core(twin),
        [scene.feed(n, {"t": size}) for n, size in enumerate((1, 2, 7, traced, 2 * traced, 31))],
    )


FAMILY = (to_a_multiple, windows, image_sides, at_least, rounded, to_a_multiple)
