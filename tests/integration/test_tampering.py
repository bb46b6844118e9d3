"""Published folders that somebody has changed without the key: ``verify DIR --key`` says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.cli.commands import verify
from converter.finalize import publication, published, zoo_index
from converter.model.batch import PublishSpec
from tests.integration.test_signing import keys
from tests.published import artifacts
from tests.unit.nights import manifest

pytestmark = pytest.mark.integration

Change = Callable[[Path], object]


@pytest.fixture(params=["zoo", "triton", "huggingface"])
def signed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of the models a and b, signed; and the public key."""
    private, public = keys(tmp_path, "mine")
    said = {"path": str(tmp_path / "zoo"), "layout": request.param}
    spec = PublishSpec.model_validate({**said, "sign": {"private_key": str(private)}})
    rows = [
        row
        for name in ("a", "b")
        for row in artifacts(tmp_path, name, f"one {name}", half=f"half {name}", data=name)
    ]
    publication.check(spec)
    assert publication.publish(manifest(*rows), tmp_path, spec, None) == []
    return tmp_path / "zoo", public


def edited(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the models of the index as JSON."""

    def apply(target: Path) -> None:
        content = json.loads((target / "index.json").read_text())
        change(content["models"])
        (target / "index.json").write_text(json.dumps(content))

    return apply


def swapped(models: dict[str, Any]) -> None:
    models["a"], models["b"] = models["b"], models["a"]


def retired(target: Path) -> None:
    edited(lambda m: m["a"].update(retired=True, path=m["b"]["path"]))(target)
    shutil.rmtree(target / "a")


def evil(target: Path) -> None:
    (target / "evil.onnx").write_text("evil")
    edited(lambda models: models["a"].update(path="evil.onnx"))(target)


def home(target: Path) -> Path:
    return target / zoo_index.read(target).models["a"].sets[0].folder


def copied_version(target: Path) -> None:
    shutil.copytree(home(target), target / "a/7")


def with_folder(path: str, file: str | None = None) -> Change:
    def apply(target: Path) -> None:
        (target / path).mkdir(parents=True, exist_ok=True)
        if file:
            (target / path / file).write_text("evil")

    return apply


INDEX: dict[str, tuple[Change, str]] = {
    "path of another model": (
        edited(lambda m: m["a"].update(path=m["b"]["path"])), "a: 'b' is no folder of it",
    ),
    "path beside the sets": (evil, "a: 'evil.onnx' leads out of its sets"),
    "path of another model where its own are gone": (retired, "a: 'b' is no folder of it"),
    "path of the variant": (
        edited(lambda m: m["a"].update(m["a"]["variants"]["fp16"]["files"][0])),
        "a: path or external_data is not what its set says",
    ),
    "path above": (edited(lambda m: m["a"].update(path="../x/y/z.onnx")), "leads out of its sets"),
    "absolute path": (edited(lambda m: m["a"].update(path="/x/y/z.onnx")), "leads out of its sets"),
    "folder above": (edited(lambda m: m["a"]["sets"][0].update(folder="../x")), "leads out"),
    "entries swapped": (edited(swapped), "a: 'b' is no folder of it"),
    "entry copied": (edited(lambda m: m.update(c=m["a"])), "c: 'a' is no folder of it"),
    "hash": (edited(lambda m: m["a"].update(sha256="0" * 64)), "size or hash of"),
    "size": (edited(lambda m: m["a"].update(bytes=1)), "size or hash of"),
    "size in a set": (
        edited(lambda m: m["a"]["sets"][0]["files"][0].update(bytes=1)), "as SHA256SUMS",
    ),
    "hash in a set": (
        edited(lambda m: m["a"]["sets"][0]["files"][0].update(sha256="0" * 64)), "another hash of",
    ),
    "file left out of a set": (
        edited(lambda m: m["a"]["sets"][0]["files"].pop(0)), "and not in index.json",
    ),
    "external data": (edited(lambda m: m["a"].update(external_data=[])), "external_data is not"),
    "opset": (edited(lambda m: m["a"].update(opset=3)), "a: opset is not what its set says"),
    "inputs": (edited(lambda m: m["a"].update(inputs=[])), "a: inputs is not what its set says"),
    "outputs": (edited(lambda m: m["a"].update(outputs=[])), "a: outputs is not what its set"),
    "license": (edited(lambda m: m["a"].update(license="MIT")), "a: license is not what its set"),
    "verified": (edited(lambda m: m["a"].update(verified=None)), "a: verified is not what its"),
    "key": (edited(lambda m: m["a"]["sets"][0].update(key="0")), "says of itself that it is"),
    "variant gone": (edited(lambda m: m["a"].update(variants={})), "fp16 is missing"),
    "variant added": (
        edited(lambda m: m["a"]["variants"].update(int8=m["a"]["variants"]["fp16"])),
        "int8 is in none of its sets",
    ),
    "variant of another model": (
        edited(lambda m: m["a"]["variants"].update(m["b"]["variants"])), "is no folder of it",
    ),
    "precision": (
        edited(lambda m: m["a"]["variants"]["fp16"].update(precision="int8")),
        "variants: precision of fp16 is not what its set says",
    ),
    "format": (
        edited(lambda m: m["a"]["variants"]["fp16"].update(format="ort")), "format of fp16",
    ),
    "verified of a variant": (
        edited(lambda m: m["a"]["variants"]["fp16"].update(verified=None)), "verified of fp16",
    ),
    "sets left out": (edited(lambda m: m["a"].update(sets=[])), "it is not signed"),
    "empty": (lambda target: (target / "index.json").write_text("{}"), "names no set"),
    "no models": (edited(lambda m: m.clear()), "names no set"),
    "one model left out": (edited(lambda m: m.pop("b")), "b has a set that index.json does not"),
}  # fmt: skip

ADDED: dict[str, tuple[Change, str]] = {
    "file of a model": (with_folder("a", "evil.onnx"), "a/evil.onnx is in no set"),
    "unsigned version": (with_folder("a/77", "model.onnx"), "a/77 is in no set"),
    "copied version": (copied_version, "a/7 is a set that index.json does not name"),
    "configurations": (with_folder("a/configs", "prod.pbtxt"), "a/configs is in no set"),
    "empty folder": (lambda target: (home(target) / "e").mkdir(), "e is an empty folder"),
    "file at the top": (with_folder(".", "evil.onnx"), "evil.onnx is not in index.json"),
    "hidden at the top": (with_folder(".", ".evil.onnx"), ".evil.onnx is not in index.json"),
    "link at the top": (lambda t: (t / "x").symlink_to(t / "a"), "x is a symbolic link"),
}


@pytest.mark.parametrize("case", [*INDEX, *ADDED])
def test_what_was_changed_without_the_key_is_refused(
    signed: tuple[Path, Path], case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target, public = signed
    assert published.check(target, public).problems == []
    change, said = {**INDEX, **ADDED}[case]
    change(target)
    assert verify.main([str(target), "--key", str(public)]) == 1
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("case", [case for case in (*INDEX, *ADDED) if case != "sets left out"])
def test_so_it_is_without_a_key(signed: tuple[Path, Path], case: str) -> None:
    target, _ = signed
    change, said = {**INDEX, **ADDED}[case]
    change(target)
    assert any(said in text for text in published.check(target, None).problems)


def test_what_is_allowed_is_said(
    signed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    target, public = signed
    for path, file in ((".git", "config"), (".", "README.md"), ("a/.new-1", "x.onnx")):
        with_folder(path, file)(target)
    assert verify.main([str(target), "--key", str(public)]) == 0
    told = capsys.readouterr().err
    assert "note: .git was not looked at" in told
    assert "note: a/.new-1 is unfinished: the next run removes it" in told
    assert "covered by no set: provenance, verified_by, " in told
    # Servers have models of others beside ours; readers of an index have none.
    with_folder("theirs/1", "model.onnx")(target)
    allowed = zoo_index.read(target).layout == "triton"
    assert verify.main([str(target), "--key", str(public)]) == (0 if allowed else 1)
    found = capsys.readouterr()
    assert ("theirs is not ours: it was not looked at" in found.err) is allowed


def test_sets_of_before_are_named_as_not_compared(
    signed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.finalize import statement

    target, public = signed
    monkeypatch.setattr(statement, "PROPERTY", "converter:none")
    found = published.check(target, public)
    assert found.problems == []
    assert sum("it was not compared" in note for note in found.notes) == found.sets
