"""A module of the corpus: its code, its configuration, and the inputs that show what is wrong."""

from __future__ import annotations

import random
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feed = dict[str, Array]
Axes = dict[int, str]
STYLES = ("inline", "method", "function", "submodule", "second file")
NAMES = ("Encoder", "Tagger", "Head", "Mixer", "Block", "Net", "Scorer", "Frontend", "Decoder")


class Draw(random.Random):
    """Choices that templates share; the same seed makes the same corpus."""

    def threshold(self, traced: int) -> int:
        """A size below, near or far above the traced one, as users' code has them."""
        near = traced + self.choice((-2, -1, 0, 1, 3))
        return self.choice(
            (max(2, traced // 2), max(2, near), 2 * traced, 3 * traced, 4 * traced,
             self.choice((max(2, traced // 3), 2 * traced + 1, 10 * traced)))
        )  # fmt: skip

    def around(self, *limits: int, least: int = 1) -> list[int]:
        """Sizes on both sides of some limits."""
        sizes = {size + step for size in limits for step in (-1, 0, 1)} | {2 * max(limits) + 1}
        return sorted(size for size in sizes if size >= least)


@dataclass(frozen=True)
class Scene:
    """What surrounds a core: the inputs, the layers before and after it.

    Attributes:
        inputs: as the configuration has them; the first is what the layers before read.
        axes: dynamic axes of the inputs.
        out: dynamic axes of the output.
        before, after: statements; ``before`` sets ``h``, ``after`` returns.
        width: size of the axis of features of ``h``.
    """

    inputs: dict[str, dict[str, Any]]
    axes: dict[str, Axes]
    out: Axes
    before: str
    after: str
    init: str = ""
    width: int = 8

    def size(self, symbol: str) -> int:
        """The traced size of a symbol."""
        return next(
            self.inputs[name]["shape"][axis]
            for name, axes in self.axes.items()
            for axis, found in axes.items()
            if found == symbol
        )

    def also(self, name: str, spec: dict[str, Any], axes: Axes | None = None) -> Scene:
        """The scene with one input more."""
        return replace(
            self,
            inputs=self.inputs | {name: spec},
            axes=self.axes | ({name: axes} if axes else {}),
        )

    def without(self, symbol: str) -> Scene:
        """The scene in which the axes of a symbol are fixed."""
        axes = {name: _without(found, symbol) for name, found in self.axes.items()}
        return replace(
            self, axes={n: a for n, a in axes.items() if a}, out=_without(self.out, symbol)
        )

    def feed(self, number: int, sizes: Mapping[str, int] | None = None, **given: Any) -> Feed:
        """Inputs at some sizes; ``given`` replaces the values of an input by those of a function
        of its shape, or by an array.
        """
        rng = np.random.default_rng(number)
        feed = {}
        for name, spec in self.inputs.items():
            shape = list(spec["shape"])
            for axis, symbol in self.axes.get(name, {}).items():
                shape[axis] = (sizes or {}).get(symbol, shape[axis])
            value = given.get(name, lambda shape, spec=spec: _values(spec, shape, rng))
            array = value(tuple(shape)) if callable(value) else value
            feed[name] = np.asarray(array).astype(spec.get("dtype", "float32"))
        return feed


def _without(axes: Axes, symbol: str) -> Axes:
    return {axis: found for axis, found in axes.items() if found != symbol}


def _values(spec: Mapping[str, Any], shape: list[int], rng: np.random.Generator) -> Array:
    dtype = spec.get("dtype", "float32")
    if "value" in spec:
        return np.broadcast_to(np.asarray(spec["value"]), shape)
    if dtype == "bool":
        return rng.integers(0, 2, shape)
    if dtype.startswith("int"):
        low = spec.get("low", spec["high"] - 20 if "high" in spec else -10)
        return rng.integers(low, spec.get("high", low + 20), shape)
    if "low" in spec:
        return rng.uniform(spec["low"], spec["high"], shape)
    return rng.standard_normal(shape)


@dataclass(frozen=True)
class Core:
    """Statements that change ``h``, and may read the other inputs; helpers beside the class."""

    body: str
    init: str = ""
    helpers: str = ""


@dataclass(frozen=True)
class Draft:
    """A plant and its twin: the same task, in the same surroundings.

    Attributes:
        what: the plant in a few words.
        probes: valid for the plant's declared domain; for a module with state, calls in order.
        twin_scene: where the twin declares another domain, with ``twin_probes``.
    """

    what: str
    scene: Scene
    plant: Core
    twin: Core
    probes: list[Feed]
    twin_scene: Scene | None = None
    twin_probes: list[Feed] | None = None


@dataclass(frozen=True)
class Module:
    """One module of the corpus, ready to be written to a folder."""

    name: str
    kind: str
    what: str
    sound: bool
    files: dict[str, str]
    class_name: str
    scene: Scene
    probes: list[Feed] = field(repr=False)

    @property
    def entry(self) -> dict[str, Any]:
        """Its entry of ``models:``; the file is beside the command."""
        axes: dict[str, Axes] = dict(self.scene.axes)
        if self.scene.out:
            axes["out"] = self.scene.out
        return {
            "source": {"file": f"{self.name}.py", "name": self.class_name},
            "inputs": self.scene.inputs,
            "outputs": ["out"],
            "dynamic_axes": axes,
        }


Template = Callable[[Draw], Draft]


def pair(kind: str, number: int, template: Template, draw: Draw) -> tuple[Module, Module]:
    """The plant and the twin that a template draws."""
    draft = template(draw)
    style, class_name, seed = draw.choice(STYLES), draw.choice(NAMES), draw.randrange(1000)

    def module(sound: bool, scene: Scene, core: Core, probes: list[Feed]) -> Module:
        name = f"{kind}_{number:02}_{'twin' if sound else 'plant'}"
        files = render(name, class_name, style, seed, scene, core)
        return Module(name, kind, draft.what, sound, files, class_name, scene, probes)

    twin_probes = draft.probes if draft.twin_probes is None else draft.twin_probes
    return (
        module(False, draft.scene, draft.plant, draft.probes),
        module(True, draft.twin_scene or draft.scene, draft.twin, twin_probes),
    )


IMPORTS = (
    "import math\n\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n{more}\n"
)


def render(
    name: str, class_name: str, style: str, seed: int, scene: Scene, core: Core
) -> dict[str, str]:
    """The source files of a module, by name."""
    arguments = list(scene.inputs)
    first, *others = arguments
    reads_first = re.search(rf"\b{first}\b", core.body) is not None
    passed = ", ".join(["h", *([first] if reads_first else []), *others])
    if style == "function" and ("self." in core.body or core.init):
        style = "method"
    init, parts, beside, more, call = scene.init, "", "", "", f"h = self.core({passed})"
    step = f"{core.body.strip()}\nreturn h"
    if style == "inline":
        init, call = f"{scene.init}\n{core.init}", core.body
    elif style == "method":
        init = f"{scene.init}\n{core.init}"
        parts = f"\ndef core(self, {passed}):\n{_indent(step)}"
    elif style == "function":
        beside, call = f"\n\ndef core({passed}):\n{_indent(step)}\n", f"h = core({passed})"
    else:
        beside = f"\n\nclass Core(nn.Module):\n{_indent(_init(core.init))}\n\n"
        beside += _indent(f"def forward(self, {passed}):\n{_indent(step)}") + "\n"
        init = f"{scene.init}\nself.core = Core()"
    files = {}
    helpers = f"\n\n{core.helpers.strip()}\n" if core.helpers else ""
    if style == "second file":
        files[f"{name}_parts.py"] = IMPORTS.format(more="") + helpers + beside
        more, beside, helpers = f"from {name}_parts import Core\n", "", ""
    forward = "\n".join((scene.before, call.strip(), scene.after))
    body = _init(f"torch.manual_seed({seed})\n{init}")
    body += f"\n\ndef forward(self, {', '.join(arguments)}):\n{_indent(forward)}\n{parts}"
    text = IMPORTS.format(more=more) + helpers + beside
    text += f"\n\nclass {class_name}(nn.Module):\n{_indent(body)}\n"
    files[f"{name}.py"] = text
    return {file: re.sub(r"\n{4,}", "\n\n\n", code) for file, code in files.items()}


def _init(statements: str) -> str:
    lines = "super().__init__()\n" + "\n".join(
        line for line in statements.splitlines() if line.strip()
    )
    return f"def __init__(self):\n{_indent(lines)}"


def _indent(text: str) -> str:
    return textwrap.indent(text, "    ")
