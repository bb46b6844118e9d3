"""Configurations and command lines as Hypothesis draws them: any YAML at any key of the schema."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutations
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from converter.config.standard import configs
from converter.schemas import configuration
from tests import wrong_kinds

# What it keeps of its own sources would lie in the folder that it is started in.
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))


class Raw(str):
    """Written into the file as it is."""


@dataclass(frozen=True)
class Asked:
    """One command.

    Attributes:
        text: of the experiment ``mutant``, as bytes.
        words: behind the name of the command.
        verb: ``plan``, ``validate``, or ``--cfg``.
    """

    text: bytes
    words: tuple[str, ...]
    verb: str


_RAW = (
    "!!binary aGVsbG8=", "!!set {a, b}", "!!omap [a: 1]", "!!timestamp 2020-01-01", "2020-01-01",
    "!!python/object/apply:os.system [id]", "!own x", "&a [*a]", "*missing", "&b {x: 1}",
    "{<<: {a: 1}}", "{<<: [{a: 1}, {b: 2}]}", "{? [a, b] : 1}",
    "{1: a, true: b, null: c, 1.5: d}", "0x" + "f" * 3000, "0o777", "012", "1:30", "1e400",
    "-.inf", ".nan", "~", "yes", "off", "1_000", "{a: 1, a: 2}", "[", "}", "'", "|\n  a\n  b",
    "[&c [1, 2], *c, *c]", "%", "@", "`", "? ", "--- 1", "...", "!!str", "!!float x", "!!int 'x'",
    "{" * 60 + "}" * 60, "[" * 45 + "]" * 45, "[" + "x," * 20_000 + "]", "\t", "{a: {<<: 3}}",
    "!!null ''", "!!bool maybe", "9" * 399, "1" * 5000, "-0", "+.INF", "0b1", "<<", "=", "{=: 1}",
)  # fmt: skip
_INTERPOLATIONS = (
    "${oc.env:HOME}", "${oc.env:NONE,1}", "${a}", "${.a}", "${..}", "${models}",
    "${models.a.source}", "${oc.decode:'[1'}", "${oc.decode:'${seed}'}", "${oc.create:{a: 1}}",
    "${now:%Y}", "${now:}", "${now:%}", "${hydra:runtime.cwd}", "${hydra:job.num}", "${hydra:}",
    "${experiment:}", "${experiment:1,2}", "${", "${}", "${a", "${a.${b}}", "\\${a}",
    "${oc.dict.keys:models}", "${oc.dict.values:models}", "???", "${oc.select:models,3}",
    "${oc.deprecated:seed}", "${nothing:1}", "${seed}${seed}", "${oc.env:}",
    "${oc.env:A,${oc.env:B,${oc.env:C}}}",
)  # fmt: skip
_CHARACTERS = (
    "\x00", "\x07", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\ud800", "\ufeff",
    "\U0010ffff", "a\nb", "a\r", "\t", "'",
    '"', "\\", "é" * 200, "%s", "{}", "$(id)", "../" * 30, "x" * 4097,
)  # fmt: skip


def _scalars() -> st.SearchStrategy[Any]:
    texts = st.text(max_size=20)
    special = st.sampled_from((*mutations.TEXTS, *_INTERPOLATIONS, *_CHARACTERS))
    return st.one_of(
        st.none(), st.booleans(), st.integers(), st.sampled_from(mutations.NUMBERS),
        st.sampled_from((10**30, 10**390, -(10**390), 2**64, 2**64 - 1)),
        st.floats(), texts, special, special, st.sampled_from(_RAW).map(Raw),
        st.binary(max_size=8).map(lambda data: data.decode("latin-1")),
        st.sampled_from(("conv_bn_relu", "srcnn", "torchvision/resnet18", "float32", "auto",
        "/dev/zero")),
    )  # fmt: skip


def _many(value: Any) -> list[Any]:
    return [value] * (200 if len(written(value)) < 200 else 2)


def values() -> st.SearchStrategy[Any]:
    """Anything that YAML can say, and some that it cannot."""
    keys = st.one_of(
        st.text(max_size=8), st.integers(-3, 3), st.booleans(), st.none(),
        st.sampled_from((*_CHARACTERS, *_INTERPOLATIONS[:6], "shape", "source", "name", "path",
        "dtype")),
    )  # fmt: skip
    return st.recursive(
        _scalars(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4),
            inner.map(lambda one: [[[[one]]]]), _scalars().map(_many),
        ),
        max_leaves=12,
    )  # fmt: skip


def written(value: Any) -> str:
    """A value in flow style."""
    if isinstance(value, Raw):
        return str(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        special = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
        return special.get(repr(value), repr(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(k)}: {written(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(written(one) for one in value) + "]"


def _stated() -> list[wrong_kinds.Wrong]:
    schema = configuration.schemas(built_in=True)["experiment"]
    found = {}
    for wrong in wrong_kinds.wrong_kinds(schema):
        found.setdefault(wrong.path, wrong)
    return list(found.values())


PLACES = _stated()
"""A configuration around each key of the schema, at every depth."""

# Of the kinds that keys expect: what is told of one place may hide what the next one does.
_USUAL: tuple[Any, ...] = (
    0, 1, 2, 17, -1, 0.5, 1e-3, True, False, None, "auto", "x", "float32", "cpu", [], [1], [2, 3],
    ["x"], ["*"], {}, {"x": 1}, {0: "n"}, {"x": {0: "n"}}, {"x": {"shape": [1, 3]}}, {"max": 8},
    {"min": 13}, "conv_bn_relu", "torchvision/resnet18", {"onnx": "missing.onnx"}, [[1, 2]],
    {"file": "conf/experiment/mutant.yaml", "name": "Net"}, {"checkpoint": "/dev/zero"},
    {"_target_": "os.system"}, {"onnx": "/dev/zero"}, {"torchscript": "/dev/stdin"},
)  # fmt: skip

_FILES = [path.read_bytes() for path in sorted(configs().glob("experiment/*.yaml"))]
_FILES += [path.read_bytes() for path in sorted(configs().glob("model/*.yaml"))]


def _put(config: Any, path: Sequence[str | int], value: Any) -> Any:
    """The configuration with a value at a place that it has."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(config, dict):
        return {**config, first: _put(config.get(first), rest, value)}
    return [_put(config[0] if config else None, rest, value)]


@st.composite
def configurations(draw: st.DrawFn) -> bytes:
    """The text of an experiment."""
    kind = draw(st.integers(0, 9))
    if kind == 0:  # bytes of a real file, changed
        rng = draw(st.randoms(use_true_random=False))
        return mutations.of_bytes(draw(st.sampled_from(_FILES)), rng, _FILES)
    if kind == 1:  # anything, at the root
        return ("# @package _global_\n" + written(draw(values()))).encode(errors="replace")
    config: Any = {"models": {"a": {"source": "conv_bn_relu"}}}
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        place = draw(st.sampled_from(PLACES))
        value = draw(values() if draw(st.integers(0, 2)) else st.sampled_from(_USUAL))
        if draw(st.integers(0, 5)) == 0:  # a key that nobody knows, beside it
            path = (*place.path[:-1], draw(st.sampled_from((*mutations.TEXTS, "sorce", 1, True))))
        else:
            path = place.path
        around = _put(place.config, path, value) if place.path else value
        config = {**config, **around} if isinstance(around, dict) else config
    text = "# @package _global_\n"
    if draw(st.integers(0, 3)) == 0:
        text += "defaults: " + written(draw(_defaults())) + "\n"
    text += "\n".join(f"{written(key)}: {written(value)}" for key, value in config.items())
    data = (text + "\n").encode(errors="surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        data = mutations.of_bytes(data, draw(st.randoms(use_true_random=False)), _FILES)
    return data


def _defaults() -> st.SearchStrategy[Any]:
    names = st.sampled_from(
        ("zoo", "smoke", "fp16", "", "..", "mutant", "conv_bn_relu", "${seed}", "a/b")
    )
    groups = st.sampled_from(
        ("override /benchmark", "/model", "optional /model", "/experiment",
        "override hydra/launcher", "override hydra/sweeper", "override /nothing", "/model@models",
        "_self_", "override /variant")
    )  # fmt: skip
    choice = st.one_of(names, st.lists(names, max_size=3), st.none(), values())
    item = st.one_of(st.dictionaries(groups, choice, min_size=1, max_size=2), names, values())
    return st.one_of(st.lists(item, max_size=4), values())


_KEYS = [".".join(map(str, place.path)) for place in PLACES]
_SAID = (
    "1", "null", "[1,2]", "{a: 1}", "{a:{b:[1,{c:d}]}}", "[", "]", "{", "'",
    '"', "'a", "a,b", "1,2,3", "choice(1,2)", "range(1,4)", "range(1,1000000000)",
    "range(0,1,0.0000001)", "glob(*)", "sort(3,1)",
    "shuffle(1,2)", "interval(1,2)", "int(x)", "float(a)", "str([1])", "json_str({a:1})",
    "extend_list(1)", "tag(a,choice(1,2))", "\\", "a\\,b", "a=b", "=", "", " ", "${oc.env:HOME}",
    "${seed}", "${", "???", "$", "nan", "inf", "-inf", "1e400", "1_0", "9" * 500, "x" * 5000,
    "[" * 80 + "]" * 80, "{a: 1, a: 2}", "(", ")", "%", "@", "#", "a b", "a:b", "\x00",
    "\x1b[31m", "\u202e", "é", "\udcff", "[a, 'b c', \"d\"]", ",", ",,", "range(5,1,0)",
    "choice()", "glob([a*],exclude=b)", "off", "/dev/zero", "../..", "[[[1]]]", "{1: 2}", "\n",
)  # fmt: skip
_PREFIXES = ("", "", "+", "++", "~", "+++", "-", "~~", "@")
_FLAGS = (
    "-m", "--multirun", "--config-dir", "--config-dir=/nonexistent", "--resolve", "--package",
    "-p", "--json", "--cfg", "--info", "--", "-x", "--help", "-c", "--config-name=x", "--debugx",
    "-cd", "--hydra-help",
)  # fmt: skip
_ODD_KEYS = (
    "models.new", "models.a.source", "models", "hydra.run.dir", "hydra.sweep.dir",
    "hydra.sweeper.params", "hydra.job.env_copy", "hydra.verbose", "hydra/launcher",
    "hydra/sweeper", "experiment", "model", "variant", "a..b", ".", "a.", "a[0]", "models[a]",
    "benchmark", "store.path", "publish_to", "baseline", "x@y", "x@y:z", "model@models.b",
    "hydra.searchpath", "hydra.job.name", "hydra.output_subdir", "hydra.mode", "seed", "",
    "hydra.runtime.cwd", "hydra", "hydra.sweep.subdir",
    "hydra.job.config.override_dirname.kv_sep", "opset",
)  # fmt: skip


def overrides() -> st.SearchStrategy[list[str]]:
    """Words of a command line; none has a NUL, which no process can be given."""
    keys = st.one_of(st.sampled_from(_KEYS), st.sampled_from(_ODD_KEYS), st.text(max_size=6))
    said = st.one_of(st.sampled_from(_SAID), values().map(written), st.text(max_size=12))
    word = st.one_of(
        st.builds(lambda p, k, s: f"{p}{k}={s}", st.sampled_from(_PREFIXES), keys, said),
        st.builds(lambda p, k, s: f"{p}{k}={s}", st.sampled_from(_PREFIXES), keys, said),
        st.builds(lambda p, k: f"{p}{k}", st.sampled_from(_PREFIXES), keys),
        st.sampled_from(_FLAGS),
        st.text(max_size=20),
    )
    return st.lists(word.map(lambda text: text.replace("\0", "")), max_size=4)


@st.composite
def commands(draw: st.DrawFn) -> Asked:
    """A file, a command line, or both."""
    plain = b"# @package _global_\nmodels: {a: {source: conv_bn_relu}}\n"
    kind = draw(st.integers(0, 5))
    text = plain if kind == 0 else draw(configurations())
    words = draw(overrides()) if kind < 3 else []
    verb = draw(st.sampled_from(("plan", "plan", "plan", "validate", "--cfg")))
    if words and verb == "validate":
        verb = "plan"
    return Asked(text, tuple(words), verb)


def command(asked: Asked, folder: Path) -> list[str]:
    """The words of the command, with its file put in its place."""
    path = folder / "conf/experiment/mutant.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(asked.text)
    if asked.verb == "validate":
        return ["validate", str(path)]
    there = ["--config-dir", str(folder / "conf"), "+experiment=mutant", *asked.words]
    return ["plan", *there] if asked.verb == "plan" else [*there, "--cfg", "job"]
