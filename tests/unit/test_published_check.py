"""What goes along with a published set, and how a reader finds out that it was changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nights import manifest
from test_publication import publish

from converter.cli.commands import verify
from converter.finalize import published, zoo_index
from converter.layout import signing
from converter.model.errors import ConfigError
from converter.model.manifest import Git
from tests.published import artifacts

Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Publishes a model with a variant; gives the folder."""

    def make(layout: str = "zoo", **changes: Any) -> Path:
        rows = artifacts(tmp_path, "a", "one", half="half", data="weights", **changes)
        run = manifest(*rows)
        info = run.run.model_copy(update={"git": Git(commit="c" * 40, dirty=True)})
        assert publish(run.model_copy(update={"run": info}), tmp_path, layout=layout) == []
        return tmp_path / "zoo"

    return make


def home_of(target: Path) -> Path:
    return target / zoo_index.read(target).models["a"].sets[0].folder


def bill(target: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home_of(target) / "sbom.cdx.json").read_text())
    return found


# The bill of materials


def test_the_bill_lists_the_model_its_files_and_its_packages(made: Made) -> None:
    found = bill(made(license="Apache-2.0", source="file:/home/me/net.py"))
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    model = found["metadata"]["component"]
    assert (model["type"], model["name"]) == ("machine-learning-model", "a")
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    said = {each["name"]: each["value"] for each in model["properties"]}
    assert said["converter:source"] == "file:net.py"
    assert said["converter:commit"] == "c" * 40 + "-dirty"
    assert said["converter:artifacts"] == "onnx, fp16"
    files = {c["name"]: c["hashes"] for c in found["components"] if c["type"] == "file"}
    assert set(files) == {"model.onnx", "a.onnx.data", "model.fp16.onnx", "README.md"}
    assert all(hashes[0]["alg"] == "SHA-256" for hashes in files.values())
    purls = {c["purl"] for c in found["components"] if c["type"] == "library"}
    assert purls == {"pkg:pypi/torch@2.14.0", "pkg:pypi/onnx@1.23.2", "pkg:pypi/onnxruntime@1.31.1"}
    assert set(found["dependencies"][0]["dependsOn"]) == purls


def test_the_bill_of_the_same_run_is_the_same(made: Made) -> None:
    first = bill(made())
    assert first == bill(made())
    assert first["metadata"]["timestamp"] == "2026-11-01T02:00:00.000Z"


@pytest.mark.parametrize("layout", ["zoo", "triton", "huggingface"])
def test_the_bill_follows_the_schema(made: Made, layout: str) -> None:
    schema = pytest.importorskip("cyclonedx.validation.json", reason="the extra `test`")
    from cyclonedx.schema import SchemaVersion

    text = (home_of(made(layout, license="mine alone")) / "sbom.cdx.json").read_text()
    validator = schema.JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    # The validator can say no.
    assert validator.validate_str(text.replace('"machine-learning-model"', '"model"')) is not None


def test_versions_of_packages_are_escaped(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from converter.finalize import sbom

    assert sbom._library("My_Torch", "2.15.0+cpu")["purl"] == "pkg:pypi/my-torch@2.15.0%2Bcpu"


# The check


def problems(folder: Path) -> list[str]:
    return published.check(folder, None).problems


@pytest.mark.parametrize("layout", ["zoo", "triton", "huggingface"])
def test_what_was_published_is_right(made: Made, layout: str) -> None:
    target = made(layout)
    found = published.check(target, None)
    assert (found.problems, found.signed) == ([], 0)
    assert found.sets == (2 if layout == "triton" else 1)
    assert problems(home_of(target)) == []


@pytest.mark.parametrize("layout", ["zoo", "triton", "huggingface"])
def test_every_file_that_is_changed_is_named(made: Made, layout: str) -> None:
    target = made(layout)
    for each in zoo_index.read(target).models["a"].sets:
        for part in each.files:
            path = target / part.path
            name = path.relative_to(target / each.folder)
            before = path.read_bytes()
            path.write_bytes(before[:-1] + b"!")
            assert any(f"{each.folder}: {name} is not " in text for text in problems(target)), name
            path.unlink()
            assert any(f"{each.folder}: {name} is missing" in t for t in problems(target)), name
            path.symlink_to(target / "index.json")
            assert problems(target) != []
            path.unlink()
            path.write_bytes(before)
    assert problems(target) == []


def test_one_set_alone_is_checked_by_its_sums(made: Made) -> None:
    home = home_of(made())
    (home / "model.onnx").write_text("two")
    assert problems(home) == ["model.onnx is not as SHA256SUMS says"]
    (home / "model.onnx").unlink()
    assert problems(home) == ["model.onnx is missing"]
    (home / "SHA256SUMS").write_text("nonsense")
    assert problems(home)[0] == "SHA256SUMS is missing or damaged"


def test_a_file_that_is_listed_twice_is_named(made: Made) -> None:
    """``sha256sum -c`` says FAILED of one of the two lines."""
    target = made()
    home = home_of(target)
    (home / "README.md").write_text("evil")
    more = f"{hashlib.sha256(b'evil').hexdigest()}  README.md\n"
    (home / "SHA256SUMS").write_text((home / "SHA256SUMS").read_text() + more)
    assert problems(home) == ["README.md is listed twice in SHA256SUMS"]
    (home / "SHA256SUMS").write_text((home / "SHA256SUMS").read_text().replace("\n", "\r\n"))
    assert "README.md is missing" not in problems(home)
    assert "README.md\r is missing" in problems(home)


def test_a_file_that_the_index_lists_twice_is_named(made: Made) -> None:
    target = made()
    index = json.loads((target / zoo_index.INDEX).read_text())
    (listed,) = index["models"]["a"]["sets"]
    listed["files"].insert(0, {**listed["files"][0], "sha256": "0" * 64})
    (target / zoo_index.INDEX).write_text(json.dumps(index))
    path = listed["files"][0]["path"]
    assert f"{path} is listed twice in index.json" in problems(target)


def test_a_file_that_nobody_has_published_is_named(made: Made) -> None:
    target = made("huggingface")
    home = home_of(target)
    (home / "onnx/extra.onnx").write_text("evil")
    (text,) = problems(target)
    assert text.endswith("onnx/extra.onnx is not in SHA256SUMS: nobody has published it")


def test_a_set_that_is_gone_or_behind_a_link_is_named(made: Made, tmp_path: Path) -> None:
    target = made()
    home = home_of(target)
    home.rename(tmp_path / "elsewhere")
    (text,) = problems(target)
    assert text.endswith("there is no such folder, or a symbolic link in its place")
    home.symlink_to(tmp_path / "elsewhere")
    assert problems(target) == [text]


def test_what_a_server_reads_must_be_that_of_the_version(made: Made) -> None:
    target = made("triton")
    (target / "a/config.pbtxt").write_text("name: 'a'")
    assert problems(target) == ["a: config.pbtxt is not that of version 1"]
    (target / "a/config.pbtxt").unlink()
    assert problems(target) == ["a: config.pbtxt is missing"]


def test_a_folder_of_a_converter_without_sets_is_checked_by_its_index(tmp_path: Path) -> None:
    old = Path(__file__).resolve().parents[1] / "data/v1/zoo"
    shutil.copytree(old, tmp_path / "old")
    found = published.check(tmp_path / "old", None)
    assert (found.problems, found.sets) == ([], 2)
    (file, *_) = (tmp_path / "old").glob("*/*/*.onnx")
    file.write_bytes(b"evil")
    assert problems(tmp_path / "old") == [
        f"{file.relative_to(tmp_path / 'old')} is not as index.json says"
    ]


# The command


def test_the_command_says_what_is_wrong(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    target = made()
    assert verify.main([str(target)]) == 0
    assert capsys.readouterr().out == "right: 6 files in 1 sets, 0 of them signed\n"
    (home_of(target) / "model.onnx").write_text("two")
    assert verify.main([str(target), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], len(said["problems"])) == ("wrong", 1)


def test_a_folder_may_be_named_as_a_file_url(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/none does not exist"):
        verify.main([f"file://{tmp_path}/none"])
    with pytest.raises(ConfigError, match=r"is no published folder"):
        verify.main([f"file://{tmp_path}"])
    with pytest.raises(ConfigError, match="is a page of the web"):
        verify.main(["http://zoo/models"])


def test_the_command_names_what_it_cannot_check(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"is no published folder\. Name a folder of"):
        verify.main([str(tmp_path)])
    with pytest.raises(ConfigError, match="does not exist"):
        verify.main([str(tmp_path / "none")])
    with pytest.raises(ConfigError, match="--key is for a folder that was published"):
        verify.main([str(tmp_path), "a", "--key", "k"])
    monkeypatch.setattr(signing, "missing", lambda: "pyOpenSSL cannot be imported")
    with pytest.raises(
        ConfigError, match=r"cannot be imported. Install it: pip install .*\[sign\]"
    ):
        verify.main([str(made()), "--key", "k"])


def test_a_name_in_an_index_acts_on_no_terminal(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    target = made()
    index = json.loads((target / zoo_index.INDEX).read_text())
    index["models"]["\x1b[2Jb\x7f"] = index["models"].pop("a") | {"path": "../\x1b[31mx"}
    (target / zoo_index.INDEX).write_text(json.dumps(index))
    assert verify.main([str(target)]) == 1
    told = capsys.readouterr()
    assert not {"\x1b", "\x7f"} & set(told.out + told.err)
