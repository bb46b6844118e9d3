"""Further ways in which files go wrong, each after what public bug reports describe.

The links are to reports of the kind; the modules are our own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from corpus import scenes
from corpus.module import Core, Draft, Draw
from corpus.sizes import COUNT, branch


def swin_padding(draw: Draw) -> Draft:
    """``pad_input = H % 2 == 1 or W % 2 == 1``: patch merging (facebookresearch/Detic 107)."""
    scene = scenes.image(draw, out=("oh", "ow"))
    height, width = scene.size("h"), scene.size("w")
    merge = "h = h[:, :, 0::2, 0::2] + h[:, :, 1::2, 1::2]"
    plant = (
        "if h.shape[2] % 2 == 1 or h.shape[3] % 2 == 1:\n"
        f"    h = F.pad(h, (0, h.shape[3] % 2, 0, h.shape[2] % 2))\n{merge}"
    )
    twin = f"h = F.pad(h, (0, h.shape[3] % 2, 0, h.shape[2] % 2))\n{merge}"
    sides = ((height, width), (8, 8), (7, 8), (8, 7), (9, 13))
    return Draft(
        "pads odd sides before patches are merged",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


def skip_of_another_size(draw: Draw) -> Draft:
    """``if x.size()[2:] != shape``: resized only where a skip does not fit (onnx/onnx 4298)."""
    scene = scenes.image(draw)
    down = "low = F.max_pool2d(h, 2, ceil_mode=False)\nup = low.repeat_interleave(2, 2)\n"
    down += "up = up.repeat_interleave(2, 3)\n"
    fit = "up = F.pad(up, (0, h.shape[3] - up.shape[3], 0, h.shape[2] - up.shape[2]), value=1.0)\n"
    plant = f"{down}if up.shape[2:] != h.shape[2:]:\n    {fit}h = h + up"
    twin = f"{down}{fit}h = h + up"
    sides = ((8, 8), (9, 8), (8, 11), (12, 16), (5, 7))
    return Draft(
        "pads a skip connection where its size differs",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


def batch_branch(draw: Draw) -> Draft:
    """``if N > 1``: batches and single images take ways of their own (BridgeDepth 10)."""
    scene = scenes.rows(draw)
    plant = branch("h.shape[0] > 1", "h - h.mean(0, keepdim=True)")
    twin = (
        "n = torch.ones_like(h[:, 0]).sum()\nh = torch.where(n > 1, h - h.mean(0, keepdim=True), h)"
    )
    return Draft(
        "if N > 1",
        scene,
        plant,
        Core(twin),
        [scene.feed(n, {"n": size}) for n, size in enumerate((1, 2, 5, 9))],
    )


def squeezed(draw: Draw) -> Draft:
    """``squeeze()`` without an axis also drops a batch of one."""
    scene = scenes.rows(draw, draw.choice((2, 3, 5)))
    scene = replace(scene, after="return h", init=scene.init.splitlines()[0])
    plant = "h = h.mean(1, keepdim=True).squeeze()\nh = h.reshape(-1) if h.dim() else h[None] * 2"
    return Draft(
        "squeeze() without an axis",
        scene,
        Core(plant),
        Core("h = h.mean(1, keepdim=True).squeeze(1)"),
        [scene.feed(n, {"n": size}) for n, size in enumerate((2, 1, 4))],
    )


def pieces(draw: Draw) -> Draft:
    """Pieces of a fixed size: a trace has as many as its example."""
    scene = scenes.sequence(draw, pooled=True)
    traced = scene.size("t")
    size = draw.choice((2, 3, 4, traced))
    plants = (
        f"h = torch.stack([p.amax(1) for p in h.split({size}, 1)], 1)",
        "h = torch.cat([p.cumsum(1)[:, -1:] for p in h.chunk(3, 1)], 1)",
        "h = sum(step for step in h.unbind(1))[:, None] / 10",
    )
    number = draw.randrange(3)
    twins = (
        f"r = ({size} - h.shape[1] % {size}) % {size}\n"
        "h = F.pad(h, (0, 0, 0, r), value=-1e4)\n"
        f"h = h.reshape(h.shape[0], -1, {size}, {scene.width}).amax(2)",
        "n = (h.shape[1] + 2) // 3\n"
        "h = torch.cat([h[:, :n].sum(1, keepdim=True), h[:, n:].sum(1, keepdim=True)], 1)",
        "h = h.sum(1, keepdim=True) / 10",
    )
    return Draft(
        f"split, chunk or unbind over time; traced at {traced}",
        scene,
        Core(plants[number]),
        Core(twins[number]),
        [
            scene.feed(n, {"t": one})
            for n, one in enumerate(sorted({traced, size, size + 1, 3 * size, 7, 2 * traced}))
        ],
    )


def empty_list(draw: Draw) -> Draft:
    """``if scores.shape[0] == 0``, and nothing above a threshold (mmdeploy 2170)."""
    scene = scenes.raw(draw)
    limit = draw.choice((2.5, 3.0))
    plant = (
        f"keep = h.amax(1) > {limit}\n"
        "if keep.any():\n    h = h * keep[:, None] + h.mean()\nelse:\n    h = h * 0.1"
    )
    twin = (
        f"keep = h.amax(1) > {limit}\n"
        "h = torch.where(keep.any(), h * keep[:, None] + h.mean(), h * 0.1)"
    )
    rng = np.random.default_rng(5)
    scales = (0.2, 1.0, 3.0, 10.0)
    feeds = [
        scene.feed(k, x=lambda s, v=v: v * rng.standard_normal(s)) for k, v in enumerate(scales)
    ]
    return Draft(f"where nothing is above {limit}", scene, Core(plant), Core(twin), feeds)


def by_numpy(draw: Draw) -> Draft:
    """``int(np.ceil(H / size)) * size`` (Sense-X/Co-DETR 26)."""
    scene = scenes.image(draw)
    size = draw.choice((4, 7, 8))
    plant = (
        f"hp = int(np.ceil(h.shape[2] / {size})) * {size}\n"
        f"wp = int(np.ceil(h.shape[3] / {size})) * {size}\n"
        "g = F.pad(h, (0, wp - h.shape[3], 0, hp - h.shape[2]))\n"
        "h = h + g.mean((2, 3), keepdim=True)"
    )
    twin = (
        f"hp = (h.shape[2] + {size - 1}) // {size} * {size}\n"
        f"wp = (h.shape[3] + {size - 1}) // {size} * {size}\n"
        "g = F.pad(h, (0, wp - h.shape[3], 0, hp - h.shape[2]))\n"
        "h = h + g.mean((2, 3), keepdim=True)"
    )
    sides = ((8, 8), (7, 7), (9, 15), (16, 21), (3, 30))
    return Draft(
        f"sides rounded up to {size} by NumPy",
        scene,
        Core(plant, helpers="import numpy as np\n"),
        Core(twin),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


def shape_as_tensor(draw: Draw) -> Draft:
    """``new_tensor`` of a shape: the tracer keeps the example's numbers (Detic 107)."""
    scene = scenes.image(draw)
    forms = (
        "s = h.new_tensor([h.shape[3], h.shape[2]])\nh = h / s.sum()",
        "s = torch.tensor(h.shape[2:], dtype=h.dtype)\nh = h * 8 / s.max()",
        "s = np.array(h.shape[2:]).max()\nh = h * (8.0 / float(s))",
    )
    twins = (
        "rows = torch.ones_like(h[0, 0, :, 0]).sum()\n"
        "columns = torch.ones_like(h[0, 0, 0, :]).sum()\nh = h / (rows + columns)",
        "rows = torch.ones_like(h[0, 0, :, 0]).sum()\n"
        "columns = torch.ones_like(h[0, 0, 0, :]).sum()\nh = h * 8 / torch.maximum(rows, columns)",
    )
    sides = ((8, 8), (12, 16), (20, 9), (5, 31))
    form = draw.choice(forms)
    return Draft(
        "a tensor made of a shape",
        scene,
        Core(form, helpers="import numpy as np\n" if "np." in form else ""),
        Core(draw.choice(twins)),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


def length_by_len(draw: Draw) -> Draft:
    """``len(x)``, or a loop over the samples of a batch."""
    scene = scenes.rows(draw)
    plants = (
        "h = h / len(h)",
        "h = torch.stack([row * (i + 1) for i, row in enumerate(h)])",
        "total = 0\nfor row in h:\n    total = total + row\nh = h - total / 10",
    )
    number = draw.randrange(3)
    twins = (
        "h = h / torch.ones_like(h[:, 0]).sum()",
        "h = h * (torch.arange(h.shape[0]) + 1)[:, None]",
        "h = h - h.sum(0) / 10",
    )
    return Draft(
        "len of a tensor, or a loop over its rows",
        scene,
        Core(plants[number]),
        Core(twins[number]),
        [scene.feed(n, {"n": size}) for n, size in enumerate((1, 2, 7, 30))],
    )


def kept_grid(draw: Draw) -> Draft:
    """A grid that is made again where the image's size is another, as detectors keep one."""
    scene = scenes.image(draw)
    height, width = scene.size("h"), scene.size("w")
    make = (
        "\ndef grid(h, w):\n"
        "    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing='ij')\n"
        "    return torch.stack([x, y]).float().sum(0)\n"
    )
    init = f"self.register_buffer('grid', grid({height}, {width}))"
    plant = (
        "g = self.grid\nif g.shape != h.shape[2:]:\n"
        "    g = grid(h.shape[2], h.shape[3]) + 0.5\nh = h + g / 8"
    )
    twin = "h = h + grid(h.shape[2], h.shape[3]) / 8"
    sides = ((height, width), (8, 8), (12, 16), (20, 9), (height, 2 * width))
    return Draft(
        f"a grid of {height} x {width}, made again for other sizes",
        scene,
        Core(plant, init, make),
        Core(twin, helpers=make),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


def pooled_edges(draw: Draw) -> Draft:
    """Pooling with a divisor, a ceiling, or sizes that do not divide."""
    scene = scenes.image(draw, out=("oh", "ow"))
    plant = draw.choice(
        (
            "h = F.avg_pool2d(h, 2, divisor_override=2)",
            "h = F.avg_pool2d(h, 3, 2, 1, ceil_mode=True)",
            "h = F.avg_pool2d(h, 3, 2, 1, ceil_mode=True, count_include_pad=False)",
            "h = F.max_pool2d(h, 3, 2, 1, ceil_mode=True)",
            "h = F.lp_pool2d(h.abs() + 0.1, 2, 3, stride=2)",
        )
    )
    twin = draw.choice(("h = F.avg_pool2d(h, 2)", "h = F.max_pool2d(h, 3, 2, 1)"))
    sides = ((8, 8), (9, 12), (7, 10), (13, 16))
    return Draft(
        plant[4:],
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


def ties(draw: Draw) -> Draft:
    """Equal elements: which one argmax takes, rounding of halves, bins of searchsorted."""
    scene = scenes.raw(draw)
    plant, twin = draw.choice(
        (
            ("h = h.argmax(1)[:, None] * 1.0 + h", "h = (h >= h.amax(1, keepdim=True)) * 1.0 + h"),
            ("h = torch.round(h * 2)", "h = torch.floor(h * 2 + 0.5)"),
            ("h = torch.sign(h) * h.frac()", "h = h - torch.trunc(h)"),
            ("h = torch.bucketize(h, torch.tensor([-1.0, 0.0, 1.0])) + h", "h = (h > 0) * 1.0 + h"),
            ("h = h.round(decimals=1)", "h = torch.trunc(h * 8) / 8"),
        )
    )
    feeds = [
        scene.feed(0),
        scene.feed(1, x=np.zeros),
        scene.feed(2, x=lambda s: np.resize(np.arange(-6, 7) / 4, s)),
        scene.feed(3, x=lambda s: np.resize(np.array([0.5, 1.5, -0.5, -1.5, 2.5]), s)),
        scene.feed(4, x=lambda s: np.full(s, -1.0)),
    ]
    return Draft(plant, scene, Core(plant), Core(twin), feeds)


def written_in_place(draw: Draw) -> Draft:
    """Slices written in place, up to a size that Python decides."""
    scene = scenes.sequence(draw, pooled=False)
    traced = scene.size("t")
    limit = traced + draw.choice((0, 3, traced))
    plant = (
        f"y = torch.zeros_like(h)\nn = min(h.shape[1], {limit})\n"
        "y[:, :n] = h[:, :n] * 2\nh = y + 0.1 * h"
    )
    twin = (
        f"front = (torch.arange(h.shape[1]) < {limit}).to(h.dtype)[:, None]\n"
        "h = h * 2 * front + 0.1 * h"
    )
    return Draft(
        f"writes the first min(T, {limit}) steps, traced at {traced}",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"t": size}) for n, size in enumerate(draw.around(limit, traced, 2))],
    )


def spaced(draw: Draw) -> Draft:
    """``linspace`` and weights over as many steps as the input has."""
    scene = scenes.sequence(draw)
    plants = (
        "w = torch.linspace(-1, 1, int(h.shape[1]))\nh = h * w[:, None]",
        "w = torch.tensor([1.0 / (i + 1) for i in range(h.shape[1])])\nh = h * w[:, None]",
        "w = torch.hann_window(h.shape[1], periodic=False) + 0.1\nh = h * w[:, None]",
    )
    twin = f"{COUNT}\nw = torch.arange(h.shape[1]) / n * 2 - 1\nh = h * w[:, None]"
    sizes = (scene.size("t"), 2, 3, 9, 2 * scene.size("t"))
    return Draft(
        "weights over the length, made by Python",
        scene,
        Core(draw.choice(plants)),
        Core(twin),
        [scene.feed(n, {"t": size}) for n, size in enumerate(sizes)],
    )


def asserted(draw: Draw) -> Draft:
    """Code that falls back where an exception says that something does not fit."""
    scene = scenes.sequence(draw)
    traced = scene.size("t")
    room = draw.choice((traced, 2 * traced, traced + 5))
    init = f"self.table = nn.Parameter(torch.randn({room}, {scene.width}))"
    plant = (
        "try:\n    if h.shape[1] > self.table.shape[0]:\n        raise ValueError('too long')\n"
        "    h = h + self.table[: h.shape[1]]\nexcept ValueError:\n    h = h * 0.5"
    )
    twin = (
        f"index = torch.arange(h.shape[1])\ninside = (index < {room}).to(h.dtype)[:, None]\n"
        f"h = h + self.table[index.clamp(max={room - 1})] * inside"
    )
    return Draft(
        f"falls back beyond {room} steps, traced at {traced}",
        scene,
        Core(plant, init),
        Core(twin, init),
        [scene.feed(n, {"t": size}) for n, size in enumerate(draw.around(room, traced, 2))],
    )


def while_halving(draw: Draw) -> Draft:
    """``while T > K``: as many halvings as the length needs."""
    scene = scenes.sequence(draw, pooled=True)
    traced = scene.size("t")
    limit = draw.choice((2, 4, max(5, traced // 2)))
    plant = f"while h.shape[1] > {limit}:\n    h = (h[:, ::2] + 0.1).tanh()"
    twin = f"h = h[:, ::2].tanh() + h[:, :{limit}].mean(1, keepdim=True)"
    return Draft(
        f"halves while T > {limit}, traced at {traced}",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(n, {"t": size}) for n, size in enumerate(draw.around(limit, traced, 2))],
    )


def ragged_ids(draw: Draw) -> Draft:
    """Padding ids decide the length: the count of those that are not zero, as a number."""
    scene = scenes.tokens(draw, vocabulary=draw.choice((8, 20, 50)))
    plants = (
        "n = int((x != 0).sum(1).max())\nh = h * (n / h.shape[1])",
        "if (x[:, -1] == 0).any():\n    h = h - h.mean(1, keepdim=True)",
        "pad = (x == 0)\nif pad.any():\n    h = h.masked_fill(pad[..., None], 1.0) * 2",
    )
    number = draw.randrange(3)
    twins = (
        "n = (x != 0).sum(1).max()\nh = h * (n / h.shape[1])",
        "h = torch.where((x[:, -1] == 0).any(), h - h.mean(1, keepdim=True), h)",
        "h = h.masked_fill((x == 0)[..., None], 1.0) * 2",
    )
    size = scene.inputs["x"]["shape"][1]

    def padded(count: int) -> object:
        return lambda s: np.where(np.arange(s[1])[None] < count, 3, 0) + np.zeros(s)

    counts = (size, 1, 2, size - 1, 0)
    feeds = [scene.feed(k, x=padded(count)) for k, count in enumerate(counts)]
    return Draft(
        "padding ids",
        scene,
        Core(plants[number]),
        Core(twins[number]),
        [*feeds, scene.feed(9)],
    )


def two_masks(draw: Draw) -> Draft:
    """A boolean flag, and a mask that is looked at only where the flag is set."""
    scene = scenes.sequence(draw, steps=draw.choice((5, 8)))
    shape = scene.inputs["x"]["shape"][:2]
    axes = {axis: symbol for axis, symbol in scene.axes["x"].items() if axis < 2}
    scene = scene.also("mask", {"shape": shape, "dtype": "bool"}, axes)
    scene = scene.also("flag", {"shape": [], "dtype": "bool"})
    plant = "if flag and mask.all():\n    h = h * 0.3"
    twin = "h = torch.where(flag & mask.all(), h * 0.3, h)"
    feeds = [
        scene.feed(k, mask=lambda s, m=m: np.full(s, m), flag=np.array(f))
        for k, (m, f) in enumerate(((True, True), (True, False), (False, True)))
    ]
    return Draft("flag and mask.all()", scene, Core(plant), Core(twin), [*feeds, scene.feed(7)])


SIZES = (skip_of_another_size, batch_branch, squeezed, while_halving)
LIMITS = (pieces, written_in_place, asserted)
TABLES = (kept_grid, spaced)
PADDING = (swin_padding, by_numpy)
MASKS = (two_masks,)
VALUES = (empty_list, ragged_ids)
EDGES = (pooled_edges, ties)
FROZEN = (shape_as_tensor, length_by_len)
