"""Python branches on a size. A trace takes the side of its example."""

from __future__ import annotations

from dataclasses import replace

from corpus import scenes
from corpus.module import Core, Draft, Draw

# What one side does to h [b, t, d]; each is far from doing nothing.
EFFECTS = (
    "h * 0.5",
    "h - h.mean(1, keepdim=True)",
    "torch.relu(h)",
    "h.tanh() - 1",
    "h - h.amax(1, keepdim=True)",
    "h.flip(1) + 0.3",
    "h + h.mean(1, keepdim=True)",
)
# Both sides compute the same, for any length.
EQUAL = (
    ("h = h * 2", "h = h + h"),
    ("h = torch.relu(h)", "h = h.clamp(min=0)"),
    ("h = torch.cat([h[:, :2], h[:, 2:]], 1)", "h = h * 1.0"),
    ("h = h - h.sum(1, keepdim=True) / h.shape[1]", "h = h - h.mean(1, keepdim=True)"),
)
COUNT = "n = torch.ones_like(h[0, :, 0]).sum()"


def branch(condition: str, effect: str) -> Core:
    return Core(f"if {condition}:\n    h = {effect}")


def longer_than(draw: Draw) -> Draft:
    """``if T > K``: with any operator, and the twin as users would mend it."""
    scene = scenes.sequence(draw)
    traced, effect = scene.size("t"), draw.choice(EFFECTS)
    limit, operator = draw.threshold(traced), draw.choice((">", ">=", "<", "<="))
    side = f"h.shape[1] {operator} {limit}"
    first, second = draw.choice(EQUAL)
    name = draw.choice(("self.long", "self.causal", "self.rescale"))
    twins = (
        (Core(f"{COUNT}\nh = torch.where(n {operator} {limit}, {effect}, h)"), None),
        (
            Core(f"if {name}:\n    h = {effect}", f"{name} = {draw.choice((True, False))}"),
            None,
        ),
        (Core(f"if {side}:\n    {first}\nelse:\n    {second}"), None),
        (branch(side, effect), scene.without("t")),
    )
    twin, twin_scene = draw.choice(twins)
    inline = f"t = h.size(1)\nh = {effect} if t {operator} {limit} else h"
    sizes = draw.around(limit, traced, 2)
    return Draft(
        f"if T {operator} {limit}, traced at {traced}",
        scene,
        draw.choice((branch(side, effect), Core(inline))),
        twin,
        [scene.feed(number, {"t": size}) for number, size in enumerate(sizes)],
        twin_scene,
        [scene.feed(1), scene.feed(2)] if twin_scene else None,
    )  # fmt: skip


def remainder(draw: Draw) -> Draft:
    """``if T % m == 0``; the twin takes the remainder of a tensor."""
    scene = scenes.sequence(draw)
    divisor = draw.choice((2, 3, 4, 8, 16, 32))
    effect, wanted = draw.choice(EFFECTS), draw.choice(("== 0", "!= 0"))
    sizes = sorted({divisor, divisor + 1, 2 * divisor, 2 * divisor + 1, 3, 7, scene.size("t")})
    twin = Core(f"{COUNT}\nh = torch.where(n % {divisor} {wanted}, {effect}, h)")
    return Draft(
        f"if T % {divisor} {wanted}",
        scene,
        branch(f"h.shape[1] % {divisor} {wanted}", effect),
        twin,
        [scene.feed(number, {"t": size}) for number, size in enumerate(sizes)],
    )


def only_one(draw: Draw) -> Draft:
    """Code for a single step, or a single sample."""
    scene = scenes.sequence(draw)
    axis = draw.choice((0, 1)) if 0 in scene.axes["x"] else 1
    symbol = "bt"[axis]
    effect = draw.choice(EFFECTS)
    other = "" if axis else "[:, 0, 0]"
    count = f"n = torch.ones_like(h{other or '[0, :, 0]'}).sum()"
    return Draft(
        f"if the size of axis {axis} is 1",
        scene,
        branch(f"h.shape[{axis}] == 1", effect),
        Core(f"{count}\nh = torch.where(n == 1, {effect}, h)"),
        [scene.feed(number, {symbol: size}) for number, size in enumerate((1, 2, 3, 5))],
    )


def equal_lengths(draw: Draw) -> Draft:
    """Query and key of one length."""
    scene = scenes.two_sequences(draw)
    counts = (
        "a = torch.ones_like(h[0, :, 0]).sum()\nb = torch.ones_like(k[0, :, 0]).sum()\n"
        "s = h @ k.transpose(1, 2)\n"
    )
    effect = draw.choice(("s * 0.5", "s - s.amax(-1, keepdim=True) * 0.3", "s.tril()"))
    scene = replace(scene, after="return h @ k")
    plain = (
        "s = h @ k.transpose(1, 2)\nif h.shape[1] == k.shape[1]:\n"
        f"    s = {effect}\nh = s.softmax(-1)"
    )
    twin = f"{counts}s = torch.where(a == b, {effect}, s)\nh = s.softmax(-1)"
    pairs = ((4, 4), (7, 7), (1, 1), (3, 8), (8, 3), (16, 16))
    return Draft(
        "if query and key have one length",
        scene,
        Core(plain),
        Core(twin),
        [scene.feed(n, {"l": a, "s": b}) for n, (a, b) in enumerate(pairs)],
    )


def orientation(draw: Draw) -> Draft:
    """Square, wide or tall images take ways of their own."""
    scene = scenes.image(draw)
    operator = draw.choice(("==", "<", ">"))
    effect = draw.choice(("h * 0.4", "h - h.mean((2, 3), keepdim=True)", "h.tanh() + 0.5"))
    counts = (
        "rows = torch.ones_like(h[0, 0, :, 0]).sum()\n"
        "columns = torch.ones_like(h[0, 0, 0, :]).sum()"
    )
    sides = ((8, 8), (8, 12), (12, 8), (16, 16), (5, 31))
    return Draft(
        f"if height {operator} width",
        scene,
        branch(f"h.shape[-2] {operator} h.shape[-1]", effect),
        Core(f"{counts}\nh = torch.where(rows {operator} columns, {effect}, h)"),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


def behind_a_stride(draw: Draw) -> Draft:
    """A branch, or a frozen length, on what a stride leaves."""
    scene, stride = scenes.strided(draw)
    traced = scene.size("t") // stride
    limit = draw.choice((traced // 2, traced + 1, 2 * traced, 3 * traced))
    effect = draw.choice(EFFECTS)
    frozen = (
        "n = int(h.shape[1])\nh = h + self.pos[:n]",
        f"self.pos = nn.Parameter(torch.randn({24 * traced}, {scene.width}))",
    )
    plants = (
        (branch(f"h.shape[1] > {limit}", effect), f"if T // {stride} > {limit}"),
        (Core(*frozen), "a length behind a stride becomes a Python number"),
        (
            Core("h = torch.stack([h[:, i].cumsum(-1) for i in range(h.shape[1])], 1)"),
            "a Python loop over what a stride leaves",
        ),
    )
    plant, what = draw.choice(plants)
    twin = Core(f"{COUNT}\nh = torch.where(n > {limit}, {effect}, h)")
    if what.startswith("a length"):
        twin = Core("h = h + self.pos[: h.shape[1]]", frozen[1])
    elif what.startswith("a Python"):
        twin = Core("h = h.cumsum(-1)")
    frames = draw.around(limit, traced, 2)
    return Draft(
        what,
        scene,
        plant,
        twin,
        [scene.feed(n, {"t": stride * size}) for n, size in enumerate(frames)],
    )


def nested(draw: Draw) -> Draft:
    """A condition of two parts, in a loop over layers."""
    scene = scenes.sequence(draw)
    traced, limit = scene.size("t"), draw.threshold(scene.size("t"))
    loop = (
        "for depth, layer in enumerate(self.layers):\n"
        "    h = torch.tanh(layer(h))\n"
        "    if depth == 1 and {condition}:\n        {then}"
    )
    init = f"self.layers = nn.ModuleList(nn.Linear({scene.width}, {scene.width}) for _ in range(3))"
    plant = loop.format(condition=f"h.shape[1] >= {limit}", then="h = h - h.mean(1, keepdim=True)")
    twin = loop.format(condition="self.norm_inside", then="h = h - h.mean(1, keepdim=True)")
    flag = f"{init}\nself.norm_inside = {draw.choice((True, False))}"
    sizes = draw.around(limit, traced, 2)
    return Draft(
        f"if depth == 1 and T >= {limit}, traced at {traced}",
        scene,
        Core(plant, init),
        Core(twin, flag),
        [scene.feed(n, {"t": size}) for n, size in enumerate(sizes)],
    )


def area(draw: Draw) -> Draft:
    """A branch on a product of sizes, as chunked attention has it."""
    scene = scenes.image(draw)
    height, width = scene.size("h"), scene.size("w")
    limit = draw.choice((height * width // 2, 2 * height * width, 4 * height * width))
    effect = draw.choice(("h * 0.4", "h.tanh() + 0.5"))
    twin = (
        "n = torch.ones_like(h[0, 0]).sum()\n"
        f"h = torch.where(n > {limit}, {effect}, h)"
    )  # fmt: skip
    sides = ((height, width), (2, 2), (height * 2, width * 2 + 1), (height * 3, width * 3))
    return Draft(
        f"if H * W > {limit}, traced at {height * width}",
        scene,
        branch(f"h.shape[2] * h.shape[3] > {limit}", effect),
        Core(twin),
        [scene.feed(n, {"h": a, "w": b}) for n, (a, b) in enumerate(sides)],
    )


FAMILY = (
    longer_than, remainder, only_one, equal_lengths, orientation, behind_a_stride, nested, area,
    longer_than,
)  # fmt: skip
