"""Interfaces that are declared otherwise than the module has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from corpus import scenes
from corpus.module import Axes, Core, Draft, Draw, Scene


def _declared(
    scene: Scene, plant: Axes, twin: Axes, core: Core, what: str, sizes: list[dict[str, int]]
) -> Draft:
    """The same module twice; only the output's axes differ."""
    wrong, right = replace(scene, out=plant), replace(scene, out=twin)
    probes = [scene.feed(n, size) for n, size in enumerate(sizes)]
    return Draft(what, wrong, core, core, probes, right, probes)


def other_length(draw: Draw) -> Draft:
    """The output is longer or shorter than the input whose symbol it carries."""
    scene = scenes.sequence(draw, pooled=False)
    body, what = draw.choice(
        (
            ("h = torch.cat([h, h], 1)", "twice as long"),
            ("h = torch.cat([h[:, :1], h], 1)", "one step longer"),
            ("h = h[:, ::2]", "every second step"),
            ("h = h.repeat_interleave(2, 1)", "each step twice"),
        )
    )
    ends: Axes = {0: "b"} if 0 in scene.axes["x"] else {}
    sizes = [{"t": size} for size in (scene.size("t"), 2, 3, 8)]
    return _declared(
        scene, ends | {1: "t"}, ends | {1: "u"}, Core(body), f"declared as long, {what}", sizes
    )


def upscaled(draw: Draw) -> Draft:
    """An image twice as high, with the symbols of the input."""
    scene = scenes.image(draw)
    factor = draw.choice((2, 3))
    body = draw.choice(
        (
            f"h = F.interpolate(h, scale_factor={factor}.0, mode='nearest')",
            f"h = F.max_pool2d(h, {factor})",
        )
    )
    sides = [{"h": 8, "w": 8}, {"h": 12, "w": 18}, {"h": 6, "w": 9}]
    return _declared(
        scene, {2: "h", 3: "w"}, {2: "oh", 3: "ow"}, Core(body), "declared as large", sides
    )


def exchanged(draw: Draw) -> Draft:
    """Height and width change places."""
    scene = scenes.image(draw)
    sides = [{"h": 8, "w": 8}, {"h": 12, "w": 18}, {"h": 6, "w": 9}]
    core = Core("h = h.transpose(2, 3)")
    return _declared(scene, {2: "h", 3: "w"}, {2: "w", 3: "h"}, core, "h and w exchanged", sides)


def fixed_declared_dynamic(draw: Draw) -> Draft:
    """An output axis that is one number whatever the input is."""
    scene = scenes.sequence(draw, pooled=False)
    count = draw.choice((1, 3, 4))
    body = (
        f"h = F.adaptive_avg_pool1d(h.transpose(1, 2), {1}).transpose(1, 2).expand(-1, {count}, -1)"
    )
    ends: Axes = {0: "b"} if 0 in scene.axes["x"] else {}
    sizes = [{"t": size} for size in (scene.size("t"), 2, 3, 8)]
    return _declared(
        scene, ends | {1: "t"}, ends, Core(body), "a fixed axis declared dynamic", sizes
    )


def two_inputs(draw: Draw) -> Draft:
    """Two lengths behind one symbol, where the second input has its own; the sum as the first."""
    scene = scenes.two_sequences(draw)
    scene = replace(scene, after="return torch.cat([h, k], 1)")
    sizes = [{"l": 4, "s": 7}, {"l": 5, "s": 5}, {"l": 2, "s": 3}]
    core = Core("h = torch.tanh(h)")
    return _declared(scene, {1: "s"}, {1: "total"}, core, "l + s declared as s", sizes)


def scalar(draw: Draw) -> Draft:
    """A stated scalar, whose rank must stay; the twin's is drawn."""
    scene = scenes.rows(draw)
    value = draw.choice((2, 3))
    plant = scene.also("k", {"shape": [], "dtype": "int64", "value": value})
    twin = scene.also("k", {"shape": [], "dtype": "int64", "low": 1, "high": 5})
    core = Core("h = h * k if k.dim() == 0 else h[:1] * k")
    probes = [plant.feed(n, {"n": size}) for n, size in enumerate((1, 4, 7))]
    more = [
        twin.feed(n, {"n": size}, k=lambda s, n=n: np.full(s, n + 1))
        for n, size in enumerate((1, 4, 7))
    ]
    # A file whose input is a scalar is right: only a changed rank is a fault.
    return Draft("a scalar with a stated value", plant, core, core, probes, twin, more)


FAMILY = (other_length, upscaled, exchanged, fixed_declared_dynamic, two_inputs, scalar)
