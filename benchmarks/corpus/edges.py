"""Edges of numbers, where an exporter's translation or a kernel is known to be wrong."""

from __future__ import annotations

import numpy as np

from corpus import scenes
from corpus.module import Core, Draft, Draw, Feed, Scene


def elementwise(draw: Draw) -> Draft:
    """One function of one number, over the whole range."""
    # What torch computes, another form of it that is exact everywhere, values to probe it at.
    functions: tuple[tuple[str, str], ...] = (
        ("F.logsigmoid(h)", "-F.softplus(-h)"),
        ("torch.log(torch.sigmoid(h) + 1e-6)", "torch.log(torch.sigmoid(h) + 1e-6)"),
        ("torch.logsumexp(h, -1, keepdim=True) + 0 * h", "-torch.log_softmax(h, -1) + h"),
        ("torch.logaddexp(h, -h)", "h.abs() + torch.log1p(torch.exp(-2 * h.abs()))"),
        ("F.softplus(h, beta=2.0)", "F.softplus(2.0 * h) / 2.0"),
        ("F.mish(h)", "h * torch.tanh(F.softplus(h))"),
        ("torch.expm1(h.clamp(max=5))", "torch.exp(h.clamp(max=5)) - 1"),
        ("F.log_softmax(h, -1)", "F.log_softmax(h, -1)"),
        ("torch.log1p(h.abs())", "torch.log(1 + h.abs())"),
        ("F.hardswish(h)", "h * F.relu6(h + 3) / 6"),
    )
    number = draw.randrange(len(functions))
    torchs, twin = functions[number]
    scene = scenes.raw(draw)
    return Draft(torchs, scene, Core(f"h = {torchs}"), Core(f"h = {twin}"), _scaled(scene))


def whole_numbers(draw: Draw) -> Draft:
    """Division and remainder of whole numbers, negative ones among them."""
    divisor = draw.choice((2, 3, 4, 5))
    plant, twin = draw.choice(
        (
            (f"h = h // {divisor}", f"h = torch.div(h, {divisor}, rounding_mode='trunc')"),
            (f"h = torch.div(h, {divisor}, rounding_mode='floor')", f"h = h * {divisor}"),
            (f"h = h % {divisor}", f"h = h - {divisor} * 2"),
            (f"h = torch.fmod(h, {divisor})", f"h = h.abs() % {divisor}"),
            (f"h = -h // {divisor}", f"h = (h * h) // {divisor}"),
            (f"h = h >> {1 if divisor < 4 else 2}", f"h = h * 2 + {divisor}"),
        )
    )
    low = draw.choice((-20, -100, 0))
    spec = {"dtype": "int64", "low": low, "high": 100}
    scene = scenes.raw(draw, after="return h", **spec)
    values = np.arange(low, 100)
    feeds = [
        scene.feed(k, x=lambda s, k=k: np.resize(np.roll(values, -7 * k), s)) for k in range(6)
    ]
    return Draft(plant, scene, Core(plant), Core(twin), feeds)


def grid(draw: Draw) -> Draft:
    """Cells of a grid: floor division by a fraction."""
    cell = draw.choice((0.1, 0.2, 0.05, 0.3))
    exact = draw.choice((0.5, 0.25, 0.125))
    scene = scenes.raw(draw)
    plant = draw.choice((f"h = h // {cell}", f"h = torch.div(h, {cell}, rounding_mode='floor')"))
    feeds = [
        scene.feed(k, x=lambda s, k=k: (np.arange(np.prod(s)).reshape(s) - 5 * k) * cell)
        for k in range(4)
    ]
    feeds += [scene.feed(9), scene.feed(10, x=lambda s: np.zeros(s) - cell)]
    return Draft(plant, scene, Core(plant), Core(f"h = h // {exact}"), feeds)


def two_vectors(draw: Draw) -> Draft:
    """Angles and norms of tiny vectors, of zeros, on the axes."""
    scene = scenes.raw(draw)
    scene = scene.also("y", dict(scene.inputs["x"]), {0: "n"})
    plant, twin = draw.choice(
        (
            (
                "h = F.cosine_similarity(h, y, dim=-1)",
                "h = (h * y).sum(-1) / (1 + h.norm(dim=-1) * y.norm(dim=-1))",
            ),
            ("h = torch.atan2(h, y)", "h = torch.atan(h / (1 + y * y))"),
            (
                "h = F.normalize(h, dim=-1) + y * 0",
                "h = h / (1 + h.norm(dim=-1, keepdim=True)) + y",
            ),
            ("h = F.pairwise_distance(h, y)", "h = ((h - y + 1e-6) ** 2).sum(-1).sqrt()"),
            ("h = torch.hypot(h, y)", "h = (h * h + y * y).sqrt()"),
        )
    )
    return Draft(
        plant,
        scene,
        Core(plant),
        Core(twin),
        [
            scene.feed(0),
            *(
                scene.feed(
                    k, x=lambda s, v=v: v * _normal(s, 1), y=lambda s, v=v: v * _normal(s, 2)
                )
                for k, v in enumerate((1e-5, 1e-3, 30.0))
            ),
            scene.feed(7, x=lambda s: np.sign(_normal(s, 3)), y=np.zeros),
            scene.feed(8, x=np.zeros, y=lambda s: np.sign(_normal(s, 4))),
        ],
    )


def resized(draw: Draw) -> Draft:
    """Resizing, where pixels of source and target do not line up."""
    mode = draw.choice(("nearest", "bilinear"))
    scene = scenes.image(draw, out=("oh", "ow"))
    scale = draw.choice((1.3, 1.5, 0.7, 2.5))
    plants = (
        f"h = F.interpolate(h, scale_factor={scale}, mode='{mode}')",
        f"h = F.interpolate(h, size={draw.choice(((64, 64), (13, 29)))}, mode='{mode}')",
    )
    fixed = draw.random() < 0.5
    twin = "h = F.interpolate(h, scale_factor=2.0, mode='nearest')"
    shown = Scene(
        scene.inputs, scene.axes, {}, scene.before, scene.after, scene.init, scene.width
    ) if fixed else scene  # fmt: skip
    sides = ((8, 8), (26, 26), (3, 16), (16, 3), (10, 7), (9, 31))
    feeds = [scene.feed(k, {"h": a, "w": b}) for k, (a, b) in enumerate(sides)]
    return Draft(plants[fixed], shown, Core(plants[fixed]), Core(twin), feeds, scene, feeds)


def _normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def _scaled(scene: Scene) -> list[Feed]:
    scales = (1.0, 10.0, 60.0, 1e-2, 0.0)
    return [scene.feed(k, x=lambda s, v=v, k=k: v * _normal(s, k)) for k, v in enumerate(scales)]


FAMILY = (elementwise, whole_numbers, grid, two_vectors, resized, elementwise)
