"""Tables of positions that end: regrown, repeated, stretched or clamped beyond their last entry."""

from __future__ import annotations

from corpus import scenes
from corpus.module import Core, Draft, Draw, Scene

MAKE = """
def make(n, d):
    p = torch.arange(n).float()[:, None]
    f = torch.exp(torch.arange(0, d, 2).float() * (-math.log(10000.0) / d))
    return torch.cat([torch.sin(p * f), torch.cos(p * f)], 1)
"""


def _sizes(draw: Draw, scene: Scene, entries: int) -> list[dict[str, int]]:
    return [{"t": size} for size in draw.around(entries, scene.size("t"), 2)]


def _entries(draw: Draw, traced: int) -> int:
    """As a rule the table is longer than the example."""
    return draw.choice((traced + 1, traced + 4, 2 * traced, 4 * traced, max(2, traced // 2)))


def regrown(draw: Draw) -> Draft:
    """The table is made anew where the input is longer; the twin computes what it needs."""
    scene = scenes.sequence(draw)
    entries = _entries(draw, scene.size("t"))
    # Made by another rule than the stored one, as learned tables that are continued are.
    grown = draw.choice(("make(h.shape[1], {d}) * 0.5", "make(2 * h.shape[1], {d})"))
    d = scene.width
    init = f"self.register_buffer('table', make({entries}, {d}))"
    forms = (
        f"table = self.table if h.shape[1] <= {entries} else {grown.format(d=d)}\n"
        "h = h + table[: h.shape[1]]",
        f"if h.shape[1] > self.table.shape[0]:\n    table = {grown.format(d=d)}\n"
        "else:\n    table = self.table\nh = h * table[: h.shape[1]]",
    )
    form = draw.randrange(2)
    twin = Core(
        f"h = h {'+*'[form]} make(h.shape[1], {d})", helpers=MAKE
    )  # fmt: skip
    return Draft(
        f"a table of {entries} entries, regrown; traced at {scene.size('t')}",
        scene,
        Core(forms[form], init, MAKE),
        twin,
        [scene.feed(n, sizes) for n, sizes in enumerate(_sizes(draw, scene, entries))],
    )


def stretched(draw: Draw) -> Draft:
    """Positions are interpolated unless the length is the table's; the twin clamps the index."""
    scene = scenes.sequence(draw)
    traced = scene.size("t")
    entries = draw.choice((traced, traced, 2 * traced, traced + 2))
    init = f"self.table = nn.Parameter(torch.randn(1, {scene.width}, {entries}))"
    plant = (
        f"table = self.table\nif h.shape[1] != {entries}:\n"
        "    table = F.interpolate(table, size=h.shape[1], mode='nearest').flip(2)\n"
        "h = h + table.transpose(1, 2)"
    )
    twin = (
        f"index = torch.arange(h.shape[1]).clamp(max={entries - 1})\n"
        "h = h + self.table[0].transpose(0, 1)[index]"
    )
    return Draft(
        f"a table of {entries}, stretched where T is another; traced at {traced}",
        scene,
        Core(plant, init),
        Core(twin, init),
        [scene.feed(n, sizes) for n, sizes in enumerate(_sizes(draw, scene, entries))],
    )


def clamped(draw: Draw) -> Draft:
    """Beyond the end the last entry is repeated: by Python, or by the index of a tensor."""
    scene = scenes.sequence(draw)
    entries, d = _entries(draw, scene.size("t")), scene.width
    init = f"self.table = nn.Parameter(torch.randn({entries}, {d}))"
    plant = (
        f"over = h.shape[1] - {entries}\ntable = self.table[: h.shape[1]]\nif over > 0:\n"
        f"    table = torch.cat([table, self.table[-1:].expand(over, {d})])\nh = h + table"
    )
    twins = (
        f"index = torch.arange(h.shape[1]).clamp(max={entries - 1})\nh = h + self.table[index]",
        f"index = torch.arange(h.shape[1]) % {entries}\nh = h + F.embedding(index, self.table)",
    )
    return Draft(
        f"a table of {entries}, continued by its last entry; traced at {scene.size('t')}",
        scene,
        Core(plant, init),
        Core(draw.choice(twins), init),
        [scene.feed(n, sizes) for n, sizes in enumerate(_sizes(draw, scene, entries))],
    )


def kept_rotary(draw: Draw) -> Draft:
    """Rotary angles that forward replaces by a longer table where it must."""
    scene = scenes.sequence(draw)
    entries, d = _entries(draw, scene.size("t")), scene.width
    init = f"self.register_buffer('angles', make({entries}, {d}))"
    plant = (
        f"if h.shape[1] > self.angles.shape[0]:\n    self.angles = make(2 * h.shape[1], {d})\n"
        "h = h * self.angles[: h.shape[1]].cos()"
    )
    twin = Core(f"h = h * make(h.shape[1], {d}).cos()", helpers=MAKE)
    return Draft(
        f"angles for {entries} steps that forward replaces; traced at {scene.size('t')}",
        scene,
        Core(plant, init, MAKE),
        twin,
        [scene.feed(n, sizes) for n, sizes in enumerate(_sizes(draw, scene, entries))],
    )


def relative(draw: Draw) -> Draft:
    """Biases by distance: without them where a sequence is longer than the table."""
    scene = scenes.sequence(draw)
    traced = scene.size("t")
    reach = draw.choice((traced + 1, 2 * traced, 3 * traced))
    init = f"self.bias = nn.Parameter(torch.randn({2 * reach - 1}))"
    before = f"s = (h @ h.transpose(1, 2)) / {scene.width}\ni = torch.arange(h.shape[1])\n"
    plant = (
        f"{before}if h.shape[1] <= {reach}:\n"
        f"    s = s + self.bias[i[None] - i[:, None] + {reach - 1}]\nh = h + s.softmax(-1) @ h"
    )
    twin = (
        f"{before}d = (i[None] - i[:, None]).clamp({1 - reach}, {reach - 1})\n"
        f"s = s + self.bias[d + {reach - 1}]\nh = h + s.softmax(-1) @ h"
    )
    return Draft(
        f"biases for {reach} steps, none beyond; traced at {traced}",
        scene,
        Core(plant, init),
        Core(twin, init),
        [scene.feed(n, sizes) for n, sizes in enumerate(_sizes(draw, scene, reach))],
    )


FAMILY = (regrown, stretched, clamped, kept_rotary, relative)
