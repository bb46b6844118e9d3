"""What stands around the package: the pre-commit hook, the images, the site."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
GROUPS = {path.name for path in (REPOSITORY / "configs").iterdir() if path.is_dir()}
IMAGES = sorted((REPOSITORY / "deploy/docker").glob("*.Dockerfile"))


def read(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def test_the_hook_takes_the_files_of_a_zoo_and_no_others() -> None:
    (hook,) = yaml.safe_load(read(".pre-commit-hooks.yaml"))
    assert hook["id"] in read("docs/howto/ci.md")
    assert hook["entry"] == "python -m converter validate"
    takes = re.compile(hook["files"]).search
    assert all(takes(f"configs/{group}/x.yaml") and takes(f"{group}/x.yaml") for group in GROUPS)
    for path in ("configs/config.yaml", "model/x.py", "my_model/x.yaml", "deploy/x.yaml"):
        assert not takes(path)


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_an_image_copies_what_is_there_and_not_ignored(image: Path) -> None:
    text = image.read_text(encoding="utf-8")
    sources = {
        word
        for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE)
        for word in line.split()[:-1]
    }
    kept = set(re.findall(r"^!(.+)$", read(".dockerignore"), re.MULTILINE))
    assert sources == kept
    assert all((REPOSITORY / name).exists() for name in sources)
    assert f"-f {image.relative_to(REPOSITORY)}" in text


def test_an_image_holds_all_that_the_wheel_is_built_from() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    hatch = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*hatch["only-include"], project["project"]["readme"], "pyproject.toml"}
    assert {*needed, *project["project"]["license-files"]} <= set(
        re.findall(r"^!(.+)$", read(".dockerignore"), re.MULTILINE)
    )


def test_no_file_around_the_package_names_an_index() -> None:
    for path in (*IMAGES, REPOSITORY / "action.yml", *(REPOSITORY / "docs").rglob("*.md")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "index-url" in line:
                assert "://" not in line, path


def test_the_site_has_every_page_and_loads_nothing() -> None:
    # `mkdocs build --strict` in .ci/run looks at links and anchors.
    text = read("mkdocs.yml")
    pages = set(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE))
    docs = REPOSITORY / "docs"
    found = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    assert pages == found | {"CONTRIBUTING.md", "CHANGELOG.md"}
    assert "font: false" in text
