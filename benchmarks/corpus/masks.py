"""Short cuts for masks and lengths: all true, all full, aligned; numerically different ones."""

from __future__ import annotations

import numpy as np

from corpus import scenes
from corpus.module import Array, Core, Draft, Draw, Feed, Scene

MASKED_MEAN = "h = h * m\nh = h - (h.sum(1, keepdim=True) / (m.sum(1, keepdim=True) + 1))"


def left(*lengths: int) -> object:
    """A mask of so many leading ones, row by row."""

    def mask(shape: tuple[int, ...]) -> Array:
        ends = np.array([min(lengths[i % len(lengths)], shape[1]) for i in range(shape[0])])
        return np.arange(shape[1])[None] < ends[:, None]

    return mask


def right(*lengths: int) -> object:
    """The same at the end of each row."""
    return lambda shape: left(*lengths)(shape)[:, ::-1]  # type: ignore[operator]


def ones(shape: tuple[int, ...]) -> Array:
    return np.ones(shape)


def zeros(shape: tuple[int, ...]) -> Array:
    return np.zeros(shape)


def _masked(draw: Draw) -> tuple[Scene, str]:
    """A scene with a mask beside its sequence, and its float form as a statement."""
    scene = scenes.sequence(draw, steps=draw.choice((5, 6, 8, 12)))
    dtype = draw.choice(({"dtype": "bool"}, {"dtype": "int64", "low": 0, "high": 2}))
    axes = {axis: symbol for axis, symbol in scene.axes["x"].items() if axis < 2}
    spec = {"shape": scene.inputs["x"]["shape"][:2], **dtype}
    scene = scene.also("mask", spec, axes)
    return scene, "m = mask.to(h.dtype)[..., None]"


def _probes(scene: Scene, name: str = "mask") -> list[Feed]:
    n = scene.size("t")
    masks = (
        ones, left(n), left(1, n), left(2, 3, 1), left(n, n - 1), right(2, 3), right(n, 1), zeros,
        left(3),
    )  # fmt: skip
    feeds = [scene.feed(k, **{name: mask}) for k, mask in enumerate(masks)]
    return [*feeds, scene.feed(20), scene.feed(21, {"t": n + 3}, **{name: ones})]


def mask_short_cut(draw: Draw) -> Draft:
    """A way of its own for a pattern of the mask."""
    scene, cast = _masked(draw)
    condition = draw.choice(
        (
            ("mask.bool().all()", "all true"),
            ("mask.float().min() > 0", "all true"),
            ("(~mask.bool()).any() == False", "all true"),
            ("(mask[:, 1:].long() <= mask[:, :-1].long()).all()", "left-aligned"),
            ("mask[:, -1].bool().all()", "right-aligned, or full"),
            ("not mask.bool().any()", "nothing"),
            ("mask.sum() == mask.shape[0] * mask.shape[1]", "all true"),
            ("(mask.long().sum(1) == 1).any()", "a single step"),
        )
    )
    effect = draw.choice(("h * 0.5", "h[:, :1] + h * 0.1", "h.flip(1)", "h.tanh() - 0.5"))
    plant = f"{cast}\nif {condition[0]}:\n    h = {effect}\nelse:\n    " + MASKED_MEAN.replace(
        "\n", "\n    "
    )
    tensor = condition[0].replace("not mask.bool().any()", "~mask.bool().any()")
    tensor = tensor.replace("(~mask.bool()).any() == False", "~((~mask.bool()).any())")
    tensor = tensor.replace(
        "mask.sum() == mask.shape[0] * mask.shape[1]", "mask.sum() == torch.ones_like(mask).sum()"
    )
    other = MASKED_MEAN.replace("h = h - ", "y = g - ").replace("h = h * m", "g = h * m")
    other = other.replace("(h.sum", "(g.sum")
    twins = (
        f"{cast}\n{other}\nh = torch.where({tensor}, {effect}, y)",
        # Where all is true, the masked form and the short cut are the same.
        f"{cast}\nif mask.bool().all():\n    h = h - h.mean(1, keepdim=True)\nelse:\n"
        "    g = (h * m).sum(1, keepdim=True)\n"
        "    h = h - g / m.sum(1, keepdim=True).clamp(min=1)",
    )
    return Draft(
        f"a short cut for a mask that is {condition[1]}",
        scene,
        Core(plant),
        Core(twins[0] if draw.random() < 0.6 else twins[1]),
        _probes(scene),
    )


def lengths_short_cut(draw: Draw) -> Draft:
    """Lengths beside an axis: all full, all one, equal."""
    scene = scenes.sequence(draw, steps=draw.choice((5, 6, 8, 12)))
    n = scene.size("t")
    if 0 not in scene.axes["x"]:
        scene.inputs["x"]["shape"][0] = 3
    scene = scene.without("t")
    batch = {0: "b"} if 0 in scene.axes.get("x", {}) else {}
    spec = {"shape": scene.inputs["x"]["shape"][:1], "dtype": "int64", "low": 1, "high": n + 1}
    scene = scene.also("lengths", spec, batch)
    steps = "m = (torch.arange(h.shape[1])[None] < lengths[:, None]).to(h.dtype)[..., None]\n"
    condition = draw.choice(
        (
            "(lengths == h.shape[1]).all()",
            "(lengths == 1).all()",
            "(lengths == lengths[0]).all() & (lengths[0] > 1)",
            "lengths.min() == h.shape[1]",
            "lengths.sum() == h.shape[0] * h.shape[1]",
        )
    )
    effect = draw.choice(("h[:, :1] + h * 0.1", "h * 0.5", "h.tanh() - 0.5"))
    other = "g = h * m\ny = g - g.sum(1, keepdim=True) / lengths[:, None, None]\n"
    plant = f"{steps}{other}if {condition}:\n    y = {effect}\nh = y"
    twin = f"{steps}{other}h = torch.where({condition}, {effect}, y)"
    values = ((n,), (1,), (n, 1), (2,), (n, n - 1, 2), (n - 1,), (3, 3))

    def drawn(lengths: tuple[int, ...]) -> object:
        return lambda shape: np.resize(np.array(lengths), shape)

    return Draft(
        f"if {condition}",
        scene,
        Core(plant),
        Core(twin),
        [scene.feed(k, lengths=drawn(value)) for k, value in enumerate(values)],
    )


def longest(draw: Draw) -> Draft:
    """Cut to the longest of the batch where something is shorter; the twin masks."""
    scene, feeds = scenes.with_lengths(draw)
    plants = (
        "top = int(lengths.max())\nh = h[:, :top]",
        "if lengths.max() < h.shape[1]:\n    h = h[:, : int(lengths.max())] * 2",
        "if lengths.max() == h.shape[1]:\n    h = h[:, 1:]",
    )
    twin = (
        "top = lengths.max()\nm = (torch.arange(h.shape[1]) < top).to(h.dtype)\n"
        "h = h * m[None, :, None] * (h.shape[1] / top)"
    )
    return Draft(
        "cuts to the longest of the batch",
        scene,
        Core(draw.choice(plants)),
        Core(twin),
        feeds,
    )


def fast_path(draw: Draw) -> Draft:
    """torch's encoder: padding positions are zeroed by the fast path alone."""
    d, layers, n = 16, draw.choice((1, 2)), draw.choice((5, 6, 9))
    shape = [2, n, d]
    init = (
        f"layer = nn.TransformerEncoderLayer({d}, 2, 32, dropout=0.0, batch_first=True)\n"
        f"self.enc = nn.TransformerEncoder(layer, {layers}{{nested}})"
    )
    scene = Scene(
        {"x": {"shape": shape}}, {"x": {0: "b"}}, {0: "b"}, "h = x", "return self.head(h)",
        f"self.head = nn.Linear({d}, 3)", d,
    ).also("pad", {"shape": [2, n], "dtype": "bool"}, {0: "b"})  # fmt: skip
    pool = draw.choice(("mean(1)", "amax(1)"))
    plant = Core(f"h = self.enc(h, src_key_padding_mask=pad).{pool}", init.format(nested=""))
    keep = "keep = (~pad)[..., None].to(h.dtype)\n"
    twin = Core(
        f"{keep}h = self.enc(h, src_key_padding_mask=pad) * keep\nh = h.{pool}",
        init.format(nested=", enable_nested_tensor=False"),
    )
    some = (left(1, n), left(n), left(n - 1, 2), left(3))
    probes = [
        scene.feed(k, pad=lambda s, keep=keep: 1 - keep(s).astype(int))
        for k, keep in enumerate(some)  # type: ignore[operator]
    ]
    return Draft("the encoder's fast path zeroes what is padded", scene, plant, twin, probes)


FAMILY = (mask_short_cut, lengths_short_cut, longest, fast_path, mask_short_cut, mask_short_cut)
