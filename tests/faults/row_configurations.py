"""Configurations that are wrong, each as one row of the list of faults says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MINE = {
    "model/mine.yaml": "# @package models.mine\nsource: conv_bn_relu\n",
    "experiment/one.yaml": "# @package _global_\ndefaults:\n  - /model: [mine]\n",
}
"""A folder of configurations that is right: its model takes one input, ``input``, of rank 4."""


@dataclass(frozen=True)
class Wrong:
    """A command that is refused.

    Attributes:
        words: of the command, behind its ``--config-dir``.
        said: parts of what it must say; ``{mine}`` is the folder of its configurations.
        file: one that lies there too, and its content.
        seconds: of a processor, at most.
    """

    row: int
    name: str
    words: tuple[str, ...]
    said: tuple[str, ...]
    file: tuple[str, str | bytes] | None = None
    seconds: float | None = None


def run(row: int, *words: str, said: tuple[str, ...]) -> Wrong:
    """Overrides of the run of one model."""
    return Wrong(row, " ".join(words)[:40], ("+experiment=one", *words), said)


def model(
    row: int, name: str, text: str | bytes, *said: str, seconds: float | None = None
) -> Wrong:
    """A file of a model."""
    file = ("model/wrong.yaml", text)
    return Wrong(row, name, ("+model=wrong",), said, file, seconds)


def of_m(row: int, name: str, text: str, *said: str) -> Wrong:
    """A file of the model ``m``."""
    return model(row, name, f"# @package models.m\n{text}\n", *said)


def experiment(row: int, name: str, text: str, *said: str) -> Wrong:
    file = ("experiment/two.yaml", f"# @package _global_\n{text}\n")
    return Wrong(row, name, ("+experiment=two",), said, file)


def aliases() -> str:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines)


def doubling(item: Callable[[int], str]) -> str:
    lines = [f"a{n}: {item(n - 1)}" for n in range(1, 21)]
    return "\n".join(["# @package models.bomb.kwargs", "a0: x", *lines])


FILE = "{mine}/model/wrong.yaml"
MAPPING = "a mapping is expected"
OPSETS = "expected a whole number from 7 to 25"
NAME = "is not a name: a model's name is made of letters, digits"
WEIGHTS = "weights by itself, unchecked. State them as models.x.weights: NAME or"
LINE = "has a line break; expected a path of one line"
NUL = "has a NUL character"
LONG = "has 5000 characters; expected 4096 at most"
BROKEN = '"a\\nb"'
FORMS = "# @package models\ncafe\u0301: {source: srcnn}\ncaf\u00e9: {source: srcnn}\n"
ONE = "defaults: [/model: [mine]]\n"

WRONG = [
    model(1, "syntax", "source: [1\nb: 2\n", FILE + ":2: not valid YAML"),
    model(2, "twice", "source: a\nsource: b\n", FILE + ":2: duplicate key 'source'"),
    model(3, "empty", "", FILE, MAPPING),
    model(3, "list", "- 1\n", FILE + ":1", "a list", MAPPING),
    model(3, "scalar", "17\n", FILE + ":1", "a single value", MAPPING),
    model(4, "nul", b"a: \0\n", FILE, "NUL byte"),
    model(4, "latin", b"a: \xff\n", FILE + ":1: is not UTF-8"),
    model(5, "aliases", aliases(), FILE, "more than the limit of 10000 nodes", seconds=1),
    run(6, "++seeed=3", said=("seeed: unknown key", "Did you mean seed?")),
    run(6, "++verify.rtoll=1", said=("verify.rtoll: unknown key", "Did you mean rtol")),
    of_m(6, "deep", "source: srcnn\ninputs: {x: {shape: [1], dtpye: int64}}",
         "models.m.inputs.x.dtpye: unknown key", "Did you mean dtype?"),
    run(7, "seed=x", said=("seed: found 'x'", "expected a whole number from 0")),
    run(7, "simplify=3", said=("simplify: found 3", "expected true or false")),
    of_m(7, "list", "source: srcnn\nopset: [17]", "models.m.opset: found a list", "expected"),
    model(8, "octal", "source: x\nopset: 012\n", FILE + ":2", 'quote it: "012"'),
    model(8, "sexagesimal", "source: x\nopset: 1:30\n", FILE + ":2", 'quote it: "1:30"'),
    model(8, "infinite", "source: x\nseed: 1e400\n", FILE + ":2", 'quote it: "1e400"'),
    run(9, "verify.rtol=nan", said=("verify.rtol: found nan; expected a finite number",)),
    run(9, "verify.atol=inf", said=("verify.atol: found inf; expected a finite number",)),
    run(9, "verify.atol=-1", said=("verify.atol: found -1; expected a number of 0 or more",)),
    run(10, "seed=???", said=("seed: a value is missing (???). Give seed=VALUE",)),
    run(11, "seed=${nope.x}", said=("seed: ${nope.x} cannot be resolved",)),
    run(12, "seed=${oc.env:SECRET}", said=("seed: ", "SECRET", "export CONVERTER_ENV=SECRET")),
    run(13, "select=[mien*]", said=("select: 'mien*' matches no model", "Did you mean mine?")),
    run(14, "+models.MINE={source: srcnn}", said=("'mine' and 'MINE' differ only in case",)),
    model(14, "form", FORMS,
          "'cafe\u0301' and 'caf\u00e9' differ only in case or Unicode form"),
    *[model(15, f"name {n}", f"# @package models\n{text}: {{source: srcnn}}\n", NAME)
      for n, text in enumerate(["../x", "/x", '"a\\0b"', "x" * 300, '"a b"', ".x"])],
    *[run(16, f"opset={value}", said=("opset: found ", OPSETS))
      for value in ("0", "-1", "99", "latest")],
    run(17, "opset=13", "exporter=dynamo",
        said=("models.mine: opset 13", "dynamo supports opsets ", "(torchscript supports 7 to")),
    run(18, "+models.mine.dynamic_axes={inp: [0]}",
        said=("models.mine.dynamic_axes.inp: no such input", "(inputs: input; outputs: output)")),
    run(18, "+models.mine.dynamic_axes={input: [4]}",
        said=("models.mine.dynamic_axes.input: axis 4 is beyond the input's rank, 4",)),
    of_m(19, "dtype", "source: srcnn\ninputs: {x: {shape: [1], dtype: float31}}",
         "models.m.inputs.x.dtype: found 'float31'; expected float16 or float32", "Did you mean"),
    run(19, "++benchmark.providers=[gpu]",
        said=("benchmark.providers: found 'gpu'; expected cpu or cuda", "Did you mean cuda?")),
    run(19, "exporter.name=onnxscript",
        said=("exporter.name: found 'onnxscript'; expected auto or dynamo", "Did you mean dyn")),
    run(19, "simplifier.name=onnxslm", said=("simplifier.name: found", "onnxsim or onnxslim")),
    run(20, "+models.mine.outputs=[a, a]",
        said=("models.mine.outputs: 'a' is listed more than once",)),
    run(20, "+models.mine.outputs={a: {constant: true}, input: {}}",
        said=("models.mine.outputs: 'input' is the name of an input as well",)),
    run(23, "models.mine.source=srcn", said=("the registry has no 'srcn'", "Did you mean srcnn")),
    run(23, "+models.x=torchvision/resnet19",
        said=("the installed torchvision has no 'resnet19'", "torchvision/resnet18")),
    *[run(60, f"+models.x={{source: {source}, kwargs: {{{key}: {value}}}}}",
          said=(f"models.x.kwargs.{key}: makes", WEIGHTS))
      for source, key, value in (
          ("torchvision/resnet18", "pretrained", "true"),
          ("torchvision/fcn_resnet50", "weights_backbone", "DEFAULT"),
          ("timm/resnet18", "pretrained", "true"),
          ("{_target_: torchvision.models.resnet18}", "pretrained", "true"),
      )],
    model(61, "text", doubling(lambda n: f'"${{.a{n}}}${{.a{n}}}"'),
          "models.bomb.kwargs.a", "more than 300 other interpolations", seconds=1),
    model(61, "lists", doubling(lambda n: f'["${{..a{n}}}", "${{..a{n}}}"]'),
          "models.bomb.kwargs.a", "the limit of 10000 values", seconds=1),
    of_m(65, "nul", 'source: srcnn\nweights: {checkpoint: "a\\0b"}',
         f"models.m.weights.checkpoint: {NUL}"),
    of_m(65, "long", f"source: srcnn\nweights: {{checkpoint: {'x' * 5000}}}",
         f"models.m.weights.checkpoint: {LONG}"),
    of_m(65, "line", f"source: srcnn\nweights: {{checkpoint: {BROKEN}}}",
         f"models.m.weights.checkpoint: {LINE}"),
    of_m(65, "source", f"source: {{onnx: {BROKEN}}}", f"models.m.source.onnx: {LINE}"),
    of_m(65, "input", f"source: srcnn\ninputs: {{x: {{shape: [1], path: {BROKEN}}}}}",
         f"models.m.inputs.x.path: {LINE}"),
    of_m(65, "data", f"source: srcnn\ndata: {BROKEN}", f"models.m.data: {LINE}"),
    *[experiment(65, f"line in {key}", ONE + text.format(BROKEN), f"{key}: {LINE}")
      for key, text in (
          ("publish_to", "publish_to: {}"),
          ("baseline", "baseline: {}"),
          ("store.path", "store: {{path: {}}}"),
          ("hydra.run.dir", "hydra: {{run: {{dir: {}}}}}"),
      )],
    experiment(65, "nul in hydra", ONE + 'hydra: {run: {dir: "a\\0b"}}', f"hydra.run.dir: {NUL}"),
    *[run(65, f"{key}={'x' * 5000}", said=(f"{key}: {LONG}",))
      for key in ("hydra.run.dir", "publish_to", "store.path", "baseline")],
    run(65, f"+{'x' * 5000}=1", said=("x… cannot be looked up: File name too long",)),
    run(65, f"models.mine.source={'x' * 4000}", said=("models.mine.source: the registry has no",)),
    run(65, f"seed=${{{'x' * 5000}}}", said=("seed: ", "cannot be resolved")),
    model(65, "set", "!!set {a, b}\n", FILE + ":1: found a set (!!set)", MAPPING),
    experiment(65, "defaults", "defaults: 1", "defaults: ", "each item is GROUP: NAME"),
    experiment(65, "itself", "defaults: [two]", "defaults: a file includes itself"),
    model(65, "digits", f"# @package models.m\nopset: {'9' * 5000}\n",
          FILE + ":2: a number of 5000 digits; expected 400 at most"),
    run(65, f"seed={'9' * 5000}", said=("seed: a number of 5000 digits; expected 400 at most",)),
]  # fmt: skip
