"""Surroundings of a core: sequences, images, lists of rows, with layers before and after it."""

from __future__ import annotations

from typing import Any

import numpy as np

from corpus.module import Axes, Draw, Feed, Scene

WIDTHS = (4, 6, 8, 12)


def sequence(
    draw: Draw, *, steps: int | None = None, pooled: bool | None = None, out: str = "t"
) -> Scene:
    """[b, t, c]: features over time; the output may be pooled over time.

    Args:
        draw: what chooses layers and sizes.
        steps: the traced length.
        pooled: whether time is averaged away at the end; by chance where it is ``None``.
        out: the symbol of the output's length.
    """
    c, d = draw.choice(WIDTHS), draw.choice(WIDTHS)
    t = steps or draw.choice((6, 8, 10, 12, 16, 20, 24, 32, 40))
    before, init = draw.choice(
        (
            ("h = self.stem(x)", f"self.stem = nn.Linear({c}, {d})"),
            (
                "h = self.stem(x.transpose(1, 2)).transpose(1, 2)",
                f"self.stem = nn.Conv1d({c}, {d}, 3, padding=1)",
            ),
            (
                "h = self.norm(torch.tanh(self.stem(x)))",
                f"self.stem = nn.Linear({c}, {d})\nself.norm = nn.LayerNorm({d})",
            ),
        )
    )
    return _ends(
        draw,
        {"x": {"shape": [draw.choice((1, 2, 3)), t, c]}},
        {1: "t"} | ({0: "b"} if draw.random() < 0.6 else {}),
        (before, init),
        d,
        pooled=draw.random() < 0.3 if pooled is None else pooled,
        out=out,
    )


def tokens(draw: Draw, *, vocabulary: int = 50, low: int = 0, steps: int | None = None) -> Scene:
    """[b, t] of ids through an embedding to [b, t, d]."""
    d = draw.choice(WIDTHS)
    shape = [draw.choice((1, 2)), steps or draw.choice((6, 8, 12, 16))]
    spec = {"shape": shape, "dtype": "int64", "low": low, "high": vocabulary}
    init = f"self.emb = nn.Embedding({vocabulary}, {d})"
    before = "h = self.emb(x)"
    if low < 0:
        before = "h = self.emb(x.clamp(min=0)) + 0.1 * x[..., None].clamp(-3, 3)"
    return _ends(draw, {"x": spec}, {0: "b", 1: "t"}, (before, init), d, pooled=False, out="t")


def strided(draw: Draw) -> tuple[Scene, int]:
    """[b, t, c] through a convolution whose stride is returned; the output has its own length."""
    c, d, stride = draw.choice(WIDTHS), draw.choice(WIDTHS), draw.choice((2, 3, 4))
    t = stride * draw.choice((6, 8, 10, 12))
    init = f"self.stem = nn.Conv1d({c}, {d}, {stride}, {stride})"
    before = "h = self.stem(x.transpose(1, 2)).transpose(1, 2)"
    inputs = {"x": {"shape": [draw.choice((1, 2)), t, c]}}
    scene = _ends(draw, inputs, {1: "t"}, (before, init), d, pooled=False, out="frames")
    return scene, stride


def rows(draw: Draw, count: int | None = None, **spec: Any) -> Scene:
    """[n, c]: a list of samples."""
    c, d = draw.choice(WIDTHS), draw.choice(WIDTHS)
    shape = [count or draw.choice((4, 6, 8, 12, 20)), c]
    before, init = draw.choice(
        (
            ("h = self.stem(x)", f"self.stem = nn.Linear({c}, {d})"),
            ("h = F.gelu(self.stem(x))", f"self.stem = nn.Linear({c}, {d})"),
        )
    )
    return Scene(
        {"x": {"shape": shape, **spec}}, {"x": {0: "n"}}, {0: "n"}, before, *_head(draw, d, init)
    )


def raw(draw: Draw, *, after: str = "return h", **spec: Any) -> Scene:
    """[n, c] as it is: for what happens to the values of an input itself."""
    c = draw.choice(WIDTHS)
    inputs = {"x": {"shape": [draw.choice((3, 4, 6, 8)), c], **spec}}
    return Scene(inputs, {"x": {0: "n"}}, {0: "n"}, "h = x", after, width=c)


def image(draw: Draw, *, out: tuple[str, str] = ("h", "w"), dynamic: str = "hw") -> Scene:
    """[b, 3, h, w] through a convolution to [b, d, h, w]."""
    d = draw.choice((4, 6, 8))
    height, width = draw.choice(((8, 8), (12, 16), (16, 12), (16, 16), (10, 20)))
    axes: Axes = {2 + "hw".index(symbol): symbol for symbol in dynamic}
    ends = {2: out[0], 3: out[1]} if dynamic else {}
    init = f"self.stem = nn.Conv2d(3, {d}, 3, padding=1)\nself.head = nn.Conv2d({d}, 3, 1)"
    after = draw.choice(("return self.head(h)", "return torch.relu(self.head(h)) + self.head(h)"))
    return Scene(
        {"x": {"shape": [draw.choice((1, 2)), 3, height, width]}},
        {"x": axes} if axes else {},
        ends,
        draw.choice(("h = self.stem(x)", "h = F.silu(self.stem(x))")),
        after,
        init,
        d,
    )


def two_sequences(draw: Draw) -> Scene:
    """Queries [b, l, d] and keys [b, s, d]."""
    d = draw.choice((4, 8))
    size, more = draw.choice((4, 6, 8)), draw.choice((1, 3, 5))
    inputs = {"q": {"shape": [1, size, d]}, "k": {"shape": [1, size + more, d]}}
    axes: dict[str, Axes] = {"q": {1: "l"}, "k": {1: "s"}}
    init = f"self.proj = nn.Linear({d}, {d})"
    return Scene(inputs, axes, {1: "l"}, "h = self.proj(q)", "return h @ k", init, d)


def with_lengths(draw: Draw) -> tuple[Scene, list[Feed]]:
    """A pooled sequence of fixed length, beside it how much of each row counts; and such rows."""
    scene = sequence(draw, steps=draw.choice((6, 8, 10)), pooled=True)
    n = scene.size("t")
    scene = scene.without("t")
    batch = {0: "b"} if 0 in scene.axes.get("x", {}) else {}
    spec = {"shape": scene.inputs["x"]["shape"][:1], "dtype": "int64", "low": 1, "high": n + 1}
    scene = scene.also("lengths", spec, batch)
    values = ((n,), (1,), (n, 1), (2,), (n - 1, 2))
    feeds = [
        scene.feed(k, lengths=lambda s, v=v: np.resize(np.array(v), s))
        for k, v in enumerate(values)
    ]
    return scene, feeds


def _ends(
    draw: Draw,
    inputs: dict[str, dict[str, Any]],
    axes: Axes,
    stem: tuple[str, str],
    width: int,
    *,
    pooled: bool,
    out: str,
) -> Scene:
    after, init, width = _head(draw, width, stem[1])
    if pooled:
        after += ".mean(1)"
    ends: Axes = {0: "b"} if 0 in axes else {}
    if not pooled:
        ends |= {1: out}
    return Scene(inputs, {"x": axes}, ends, stem[0], after, init, width)


def _head(draw: Draw, width: int, init: str) -> tuple[str, str, int]:
    """What returns; all statements of ``__init__``; the width."""
    outs = draw.choice((3, 5))
    after, more = draw.choice(
        (
            ("return self.head(h)", f"self.head = nn.Linear({width}, {outs})"),
            ("return (h + self.head(h).tanh())", f"self.head = nn.Linear({width}, {width})"),
            (
                "return self.out(torch.relu(self.head(h)))",
                f"self.head = nn.Linear({width}, 16)\nself.out = nn.Linear(16, {outs})",
            ),
        )
    )
    return after, f"{init}\n{more}", width
