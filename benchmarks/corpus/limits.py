"""Sizes and counts with a limit: min and max of a size, bounded loops, top-k of what there is."""

from __future__ import annotations

from dataclasses import replace

from corpus import scenes
from corpus.module import Core, Draft, Draw
from corpus.sizes import COUNT


def at_most(draw: Draw) -> Draft:
    """``h[:, :min(T, K)]``; a slice alone does the same."""
    scene = replace(scenes.sequence(draw, pooled=True))
    traced = scene.size("t")
    limit = draw.threshold(traced)
    forms = (
        f"h = h[:, : min(h.shape[1], {limit})]",
        f"n = min(h.size(1), {limit})\nh = h[:, :n] * 2",
        f"n = h.shape[1] if h.shape[1] < {limit} else {limit}\nh = h.narrow(1, 0, n)",
    )
    return Draft(
        f"min(T, {limit}), traced at {traced}",
        scene,
        Core(draw.choice(forms[:1] + forms[2:])),
        Core(f"h = h[:, :{limit}]"),
        [scene.feed(n, {"t": size}) for n, size in enumerate(draw.around(limit, traced, 2))],
    )


def scaled_by(draw: Draw) -> Draft:
    """A scale that stops growing with the length."""
    scene = scenes.sequence(draw)
    traced = scene.size("t")
    limit = draw.threshold(traced)
    pick = draw.choice(("min", "max"))
    bound = {"min": "max", "max": "min"}[pick]
    plants = (
        f"h = h * ({pick}(h.shape[1], {limit}) / {limit})",
        f"scale = math.sqrt({pick}(h.shape[1], {limit}) / {limit})\nh = h * scale",
    )
    number = draw.randrange(2)
    root = ".sqrt()" if number else ""
    return Draft(
        f"{pick}(T, {limit}) as a scale, traced at {traced}",
        scene,
        Core(plants[number]),
        Core(f"{COUNT}\nh = h * (n.clamp({bound}={limit}) / {limit}){root}"),
        [scene.feed(n, {"t": size}) for n, size in enumerate(draw.around(limit, traced, 2))],
    )


def bounded_loop(draw: Draw) -> Draft:
    """At most K turns; the twin has all K, and a mask."""
    scene = scenes.sequence(draw, pooled=True)
    traced, turns = scene.size("t"), draw.choice((3, 5, 9, 14))
    init = f"self.taps = nn.Parameter(torch.randn({turns}))"
    plant = (
        "y = h.mean(1, keepdim=True)\n"
        f"for i in range(min(h.shape[1], {turns})):\n"
        "    y = y + self.taps[i] * h[:, i : i + 1]\nh = h + y"
    )
    twin = (
        f"taps = self.taps[: h.shape[1]]\nfront = h[:, :{turns}]\n"
        "y = h.mean(1, keepdim=True) + (front * taps[:, None]).sum(1, keepdim=True)\nh = h + y"
    )
    sizes = draw.around(turns, traced, 2)
    return Draft(
        f"a loop of min(T, {turns}) turns, traced at {traced}",
        scene,
        Core(plant, init),
        Core(twin, init),
        [scene.feed(n, {"t": size}) for n, size in enumerate(sizes)],
    )


def best_of(draw: Draw) -> Draft:
    """``topk(min(K, N))``, as every detector has it."""
    traced = draw.choice((6, 8, 12, 20))
    limit = draw.choice((traced // 2, traced + 2, 2 * traced, 3 * traced))
    scene = replace(scenes.rows(draw, traced), after="return self.head(h)", out={0: "kept"})
    scene = replace(
        scene, init=f"{scene.init.splitlines()[0]}\nself.head = nn.Linear({scene.width}, 3)"
    )
    plant = (
        f"keep = h[:, 0].topk(min({limit}, h.shape[0])).indices\nh = h[keep]"
    )  # fmt: skip
    twin = f"order = h[:, 0].sort(descending=True).indices\nh = h[order[:{limit}]]"
    sizes = draw.around(limit, traced, 2)
    return Draft(
        f"topk(min({limit}, N)), traced at {traced}",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"n": size}) for n, size in enumerate(sizes)],
    )


def clamped_size(draw: Draw) -> Draft:
    """An image brought to at most K rows."""
    scene = scenes.image(draw, out=("oh", "ow"))
    height, width = scene.size("h"), scene.size("w")
    limit = max(height, width) + draw.choice((0, 4, max(height, width)))
    plant = (
        f"size = (min(h.shape[2], {limit}), min(h.shape[3], {limit}))\n"
        "h = F.adaptive_avg_pool2d(h, 1) + h[:, :, : size[0], : size[1]]"
    )
    twin = f"h = F.adaptive_avg_pool2d(h, 1) + h[:, :, :{limit}, :{limit}]"
    sides = ((height, width), (limit, limit), (limit + 5, limit + 1), (3, 2 * limit), (4, 4))
    return Draft(
        f"min(H, {limit}) and min(W, {limit}), traced at {height} and {width}",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


def window(draw: Draw) -> Draft:
    """A local window, and sharper scores where the sequence is shorter than it."""
    scene = scenes.sequence(draw)
    traced = scene.size("t")
    reach = draw.choice((max(2, traced // 2), traced + 2, 2 * traced, 3 * traced))
    scores = f"s = (h @ h.transpose(1, 2)) / {scene.width}"
    plant = (
        f"{scores}\nif h.shape[1] > {reach}:\n    i = torch.arange(h.shape[1])\n"
        f"    s = s.masked_fill((i[None] - i[:, None]).abs() >= {reach}, -1e4)\n"
        "else:\n    s = s * 3\nh = h + s.softmax(-1) @ h"
    )
    twin = (
        f"{scores}\ni = torch.arange(h.shape[1])\n"
        f"s = s.masked_fill((i[None] - i[:, None]).abs() >= {reach}, -1e4)\n"
        "h = h + s.softmax(-1) @ h"
    )
    sizes = draw.around(reach, traced, 2)
    return Draft(
        f"a window of {reach} only where T is longer, traced at {traced}",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"t": size}) for n, size in enumerate([*sizes, 3 * reach])],
    )


FAMILY = (at_most, scaled_by, bounded_loop, best_of, clamped_size, window)
