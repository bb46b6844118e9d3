"""Tensors that become numbers of Python: a trace keeps those of its example."""

from __future__ import annotations

import numpy as np

from corpus import scenes
from corpus.module import Core, Draft, Draw
from corpus.values import _floats


def statistic(draw: Draw) -> Draft:
    """A statistic of the input as a float."""
    scene = draw.choice((scenes.rows, scenes.raw))(draw)
    plant, twin = draw.choice(
        (
            ("h = h - float(x.mean())", "h = h - x.mean()"),
            ("h = h / (1 + x.abs().max().item())", "h = h / (1 + x.abs().max())"),
            ("h = h * torch.tensor(x.std().item())", "h = h * x.std()"),
            (
                "scale = np.abs(x.detach().numpy()).max()\nh = h * float(scale)",
                "h = h * x.abs().max()",
            ),
            ("a, b = x.flatten()[:2].tolist()\nh = h * a + b", "h = h * x[0, 0] + x[0, 1]"),
        )
    )
    helpers = "import numpy as np\n"
    return Draft(
        plant.splitlines()[0],
        scene,
        Core(plant, helpers=helpers if "np." in plant else ""),
        Core(twin),
        _floats(scene),
    )


def rounded(draw: Draw) -> Draft:
    """A number that is the same for most inputs: only an unusual one shows that it is frozen."""
    scene = scenes.raw(draw)
    limit = draw.choice((8, 15, 20))
    plant, twin = draw.choice(
        (
            (
                f"big = int(x.abs().max() > {limit})\nh = h - big",
                f"h = h - (x.abs().max() > {limit}).to(h.dtype)",
            ),
            (
                f"level = int(x.abs().max()) // {limit}\nh = h + level",
                f"h = h + torch.floor(x.abs().max().floor() / {limit})",
            ),
            (
                f"count = int((x > {limit / 2}).sum())\nh = h / (1 + count)",
                f"h = h / (1 + (x > {limit / 2}).to(h.dtype).sum())",
            ),
            (
                "zeros = int((x == 0).sum())\nh = h + zeros",
                "h = h + (x == 0).to(h.dtype).sum()",
            ),
        )
    )
    return Draft(plant.splitlines()[0], scene, Core(plant), Core(twin), _floats(scene))


def length_as_number(draw: Draw) -> Draft:
    """A length given as a tensor, and used as an index of Python."""
    scene, feeds = scenes.with_lengths(draw)
    plants = (
        "last = int(lengths[0])\nh = h[:, last - 1 : last] + h * 0.1",
        "h = torch.stack([h[i, : int(n)].mean(0) for i, n in enumerate(lengths)])[:, None]",
        "last = lengths.max().item()\nh = h * (last / h.shape[1])",
    )
    twin = (
        "m = (torch.arange(h.shape[1])[None] < lengths[:, None]).to(h.dtype)\n"
        "h = (h * m[..., None]).sum(1, keepdim=True) / lengths[:, None, None]"
    )
    return Draft(
        "a length of the input as a Python index",
        scene,
        Core(draw.choice(plants)),
        Core(twin),
        feeds,
    )


def classes(draw: Draw) -> Draft:
    """As many classes as the ids of this input need."""
    top = draw.choice((10, 16))
    scene = scenes.tokens(draw, vocabulary=top)
    plant = (
        "k = int(x.max()) + 1\nc = F.one_hot(x, k).to(h.dtype).sum(-2, keepdim=True)\n"
        "h = h / c.amax(-1, keepdim=True) * k"
    )
    twin = (
        f"c = F.one_hot(x, {top}).to(h.dtype).sum(-2, keepdim=True)\n"
        "h = h / c.amax(-1, keepdim=True) * (x.max() + 1)"
    )
    values = (0, 1, top // 2, top - 1)
    feeds = [scene.feed(k, x=lambda s, v=v: np.full(s, v)) for k, v in enumerate(values)]
    return Draft(
        "int(ids.max()) + 1 classes", scene, Core(plant), Core(twin), [*feeds, scene.feed(9)]
    )


def image_size(draw: Draw) -> Draft:
    """A size computed with floats, and frozen by int."""
    scene = scenes.image(draw, out=("oh", "ow"))
    share = draw.choice((0.5, 0.75))
    plant = (
        f"size = (int(h.shape[2] * {share}), int(h.shape[3] * {share}))\n"
        "h = h[:, :, : size[0], : size[1]]"
    )
    parts = {0.5: "{} // 2", 0.75: "{} * 3 // 4"}[share]
    cut = ", ".join(": " + parts.format(f"h.shape[{axis}]") for axis in (2, 3))
    sides = ((8, 8), (12, 16), (20, 40), (5, 7), (32, 24))
    return Draft(
        f"int(H * {share})",
        scene,
        Core(plant),
        Core(f"h = h[:, :, {cut}]"),
        [scene.feed(k, {"h": a, "w": b}) for k, (a, b) in enumerate(sides)],
    )


FAMILY = (statistic, rounded, length_as_number, classes, image_size, rounded)
