"""Python branches on values, and values that Python freezes."""

from __future__ import annotations

import numpy as np

from corpus import scenes
from corpus.module import Core, Draft, Draw, Feed, Scene


def _floats(scene: Scene, name: str = "x") -> list[Feed]:
    """Scales, signs, zeros, equal elements, a grid; two plain draws."""
    rng = np.random.default_rng(3)
    patterns = (
        lambda s: 10 * rng.standard_normal(s),
        lambda s: 30 * rng.standard_normal(s),
        lambda s: 1e-2 * rng.standard_normal(s),
        lambda s: np.abs(rng.standard_normal(s)) + 0.1,
        lambda s: -np.abs(rng.standard_normal(s)) - 0.1,
        np.zeros,
        lambda s: np.full(s, 0.7),
        lambda s: np.round(rng.standard_normal(s) * 2) / 4,
    )
    feeds = [scene.feed(k, **{name: values}) for k, values in enumerate(patterns)]
    return [*feeds, scene.feed(20), scene.feed(21)]


def extreme(draw: Draw) -> Draft:
    """Outliers, or faint signals, are treated apart."""
    scene = draw.choice((scenes.raw, scenes.rows))(draw)
    limit = draw.choice((3, 6, 10, 16))
    condition = draw.choice(
        (
            f"x.abs().max() > {limit}",
            f"(x.abs() > {limit}).any()",
            f"x.max() >= {limit}",
            f"x.std() > {limit / 2}",
            "x.abs().max() < 0.1",
            f"float(x.max() - x.min()) > {2 * limit}",
        )
    )
    effect = draw.choice((f"h.clamp(-1, {limit / 4})", "h / 8", "h - h.mean()", "h.tanh()"))
    tensor = condition.replace("float(x.max() - x.min())", "(x.max() - x.min())")
    bounded = Scene(
        scene.inputs | {"x": scene.inputs["x"] | {"low": -1, "high": 1}},
        scene.axes, scene.out, scene.before, scene.after, scene.init, scene.width,
    )  # fmt: skip
    plant = Core(f"if {condition}:\n    h = {effect}")
    excluded = draw.random() < 0.3 and "0.1" not in condition
    return Draft(
        f"if {condition}",
        scene,
        plant,
        plant if excluded else Core(f"h = torch.where({tensor}, {effect}, h)"),
        _floats(scene),
        bounded if excluded else None,
        [bounded.feed(k) for k in range(4)] if excluded else None,
    )


def sign_or_zero(draw: Draw) -> Draft:
    """All positive, any negative, nothing at all, all equal."""
    scene = draw.choice((scenes.raw, scenes.rows))(draw)
    condition = draw.choice(
        (
            "x.min() >= 0",
            "(x >= 0).all()",
            "(x == 0).all()",
            "not x.any()",
            "(x == x.flatten()[0]).all()",
            "x.max() < 0",
            "(x == x.round()).all()",
            "torch.equal(x, torch.zeros_like(x))",
        )
    )
    effect = draw.choice(("h * 0.25 - 1", "h + 2", "1 - h"))
    tensor = condition.replace("not x.any()", "(x == 0).all()")
    tensor = tensor.replace("torch.equal(x, torch.zeros_like(x))", "(x.abs().sum() == 0)")
    return Draft(
        f"if {condition}",
        scene,
        Core(f"if {condition}:\n    h = {effect}"),
        Core(f"h = torch.where({tensor}, {effect}, h)"),
        _floats(scene),
    )


def pixels(draw: Draw) -> Draft:
    """Values up to 255 are scaled to one where they look like bytes."""
    high = draw.choice((1, 2))
    scene = scenes.raw(draw, low=0, high=255) if high == 1 else scenes.rows(draw)
    condition = draw.choice(("x.max() > 1.5", "x.max() > 2", "x.mean() > 5"))
    spec = scene.inputs["x"]
    narrow = Scene(
        scene.inputs | {"x": {"shape": spec["shape"], "low": 0, "high": 1}},
        scene.axes, scene.out, scene.before, scene.after, scene.init, scene.width,
    )  # fmt: skip
    ranged = (0.2, 1.0, 3.0, 40.0, 254.0)
    feeds = [
        scene.feed(k, x=lambda s, top=top: np.random.default_rng(9).uniform(0, top, s))
        for k, top in enumerate(ranged)
    ]
    excluded = draw.random() < 0.5
    plant = Core(f"if {condition}:\n    h = h / 255 + 1")
    return Draft(
        f"if {condition}: h / 255",
        scene,
        plant,
        plant if excluded else Core(f"h = torch.where({condition}, h / 255 + 1, h)"),
        feeds,
        narrow if excluded else None,
        [narrow.feed(k) for k in range(3)] if excluded else None,
    )


def identifiers(draw: Draw) -> Draft:
    """Ids with a meaning: zero, the last one, negative ones."""
    top = draw.choice((20, 50, 100))
    # Where the value is rare among those that are drawn, no plain draw has it.
    choices = (
        ("(x == 0).any()", 0, 1, "an id 0"),
        (f"(x == {top - 1}).any()", 0, -1, "the last id"),
        ("(x < 0).any()", -1, 0, "a negative id"),
        (f"x.max() == {top - 1}", 0, -1, "the last id"),
        ("x[0, 0] == 1", 0, 2, "a first token"),
        ("(x[:, 0] == 2).all()", 0, 3, "a first token in all rows"),
    )
    condition, low, shift, what = draw.choice(choices)
    scene = scenes.tokens(draw, vocabulary=top, low=low, steps=draw.choice((4, 6)))
    del shift
    effect = draw.choice(("h * 0.5", "h.tanh() + 0.5", "h - h.mean(1, keepdim=True)"))
    excluded = what == "an id 0" and draw.random() < 0.6
    narrow = Scene(
        {"x": scene.inputs["x"] | {"low": 1}}, scene.axes, scene.out, scene.before, scene.after,
        scene.init, scene.width,
    )  # fmt: skip
    plant = Core(f"if {condition}:\n    h = {effect}")

    def ids(*given: int) -> object:
        return lambda s: np.resize(np.array(given), s)

    values = [ids(0), ids(1, 2), ids(top - 1), ids(3, 4, 5), ids(2), ids(7, 0), ids(1, top - 1)]
    if low < 0:
        values += [ids(-1, 3), ids(-1)]
    feeds = [scene.feed(k, x=value) for k, value in enumerate(values)] + [scene.feed(20)]
    return Draft(
        f"if {condition}: {what}",
        scene,
        plant,
        plant if excluded else Core(f"h = torch.where({condition}, {effect}, h)"),
        feeds,
        narrow if excluded else None,
        [narrow.feed(k) for k in range(4)] if excluded else None,
    )


def converged(draw: Draw) -> Draft:
    """A loop that ends when little changes; the twin masks the turns."""
    scene = scenes.raw(draw)
    turns, limit = draw.choice((4, 6)), draw.choice((0.05, 0.5, 2.0))
    plant = (
        f"for _ in range({turns}):\n    step = torch.tanh(h) * 0.5\n"
        f"    if step.abs().max() < {limit}:\n        break\n    h = h - step"
    )
    twin = (
        "live = torch.ones(())\n"
        f"for _ in range({turns}):\n    step = torch.tanh(h) * 0.5\n"
        f"    live = live * (step.abs().max() >= {limit}).to(h.dtype)\n    h = h - live * step"
    )
    return Draft(
        f"up to {turns} turns, until a step is below {limit}",
        scene,
        Core(plant),
        Core(twin),
        _floats(scene),
    )


FAMILY = (extreme, sign_or_zero, pixels, identifiers, converged, sign_or_zero)
