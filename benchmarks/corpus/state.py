"""State that one call leaves and the next one reads."""

from __future__ import annotations

from corpus import scenes
from corpus.module import Core, Draft, Draw, Feed, Scene


def _calls(scene: Scene) -> list[Feed]:
    """Calls in order: the same length twice, shorter, longer, the first again."""
    n = scene.size("t")
    sizes = (n, n, max(1, n // 2), n + 1, n, 1, 2)
    return [scene.feed(k % 4, {"t": size}) for k, size in enumerate(sizes)]


def cache(draw: Draw) -> Draft:
    """A buffer whose front is written and which is read whole; the twin reads what it wrote."""
    scene = scenes.sequence(draw, steps=draw.choice((4, 6, 8)), pooled=True).without("b")
    room = 4 * scene.size("t")
    batch = scene.inputs["x"]["shape"][0]
    init = f"self.register_buffer('cache', torch.zeros({batch}, {room}, {scene.width}))"
    plant = "self.cache[:, : h.shape[1]] = h.detach()\nh = h + self.cache.sum(1, keepdim=True)"
    twin = "cache = torch.cat([self.cache, h], 1)\nh = h + cache.sum(1, keepdim=True)"
    return Draft(
        "a cache whose end shows what an earlier call wrote",
        scene,
        Core(plant, init),
        Core(twin, init),
        _calls(scene),
    )


def counter(draw: Draw) -> Draft:
    """Something changes after a number of calls; the twin counts and uses it for nothing."""
    scene = scenes.sequence(draw)
    init = "self.calls = 0"
    after = draw.choice((1, 2, 3))
    plants = (
        f"self.calls += 1\nif self.calls > {after}:\n    h = h * 0.5",
        "h = h * (1.0 + 0.1 * self.calls)\nself.calls += 1",
    )
    return Draft(
        f"other results after {after} calls",
        scene,
        Core(draw.choice(plants), init),
        Core("self.calls += 1\nh = torch.tanh(h)", init),
        _calls(scene),
    )


def average(draw: Draw) -> Draft:
    """A running mean that evaluation moves too; the twin reads it."""
    scene = scenes.sequence(draw, pooled=False)
    init = f"self.register_buffer('running', torch.ones({scene.width}))"
    share = draw.choice((0.1, 0.5))
    forms = (
        f"self.running = (1 - {share}) * self.running + {share} * h.detach().mean((0, 1))",
        f"self.running.mul_(1 - {share}).add_({share} * h.detach().mean((0, 1)))",
    )
    return Draft(
        "a running mean that each call moves",
        scene,
        Core(f"h = h - self.running\n{draw.choice(forms)}", init),
        Core("h = (h - self.running) / (1 + h.detach().mean((0, 1), keepdim=True).abs())", init),
        _calls(scene),
    )


def remembered(draw: Draw) -> Draft:
    """The last call's result is mixed in where it has the same length."""
    scene = scenes.sequence(draw, pooled=False)
    plant = (
        "last = self.last\nself.last = h.detach().clone()\n"
        "if last is not None and last.shape == h.shape:\n    h = 0.5 * (h + last)"
    )
    twin = "self.last = None\nif self.last is not None:\n    h = 0.5 * (h + self.last)\nh = h * 2"
    return Draft(
        "the last result is mixed into this one",
        scene,
        Core(plant, "self.last = None"),
        Core(twin, "self.last = None"),
        _calls(scene),
    )


def first_size(draw: Draw) -> Draft:
    """What is made at the first call is kept for calls of other sizes."""
    scene = scenes.sequence(draw)
    plant = "if self.scale is None:\n    self.scale = 1.0 / h.shape[1]\nh = h * self.scale"
    twin = "h = h * (1.0 / h.shape[1])"
    return Draft(
        "a scale that the first call decides",
        scene,
        Core(plant, "self.scale = None"),
        Core(twin),
        _calls(scene),
    )


def streamed(draw: Draw) -> Draft:
    """The last step of one call goes before the first of the next."""
    scene = scenes.sequence(draw, pooled=False).without("b")
    batch = scene.inputs["x"]["shape"][0]
    init = f"self.register_buffer('tail', torch.zeros({batch}, 1, {scene.width}))"
    mix = "h = h + 0.5 * torch.cat([{tail}, h[:, :-1]], 1)"
    plant = f"y = h\n{mix.format(tail='self.tail')}\nself.tail = y[:, -1:].detach()"
    return Draft(
        "the last step of one call goes before the next one",
        scene,
        Core(plant, init),
        Core(mix.format(tail="self.tail"), init),
        _calls(scene),
    )


FAMILY = (cache, counter, average, remembered, first_size, streamed)
