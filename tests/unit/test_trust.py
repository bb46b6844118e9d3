"""The trust rule: names, folders, links, and the line that the message prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.layout import trust
from converter.model.errors import Code


def test_entries_are_modules_and_absolute_folders(tmp_path: Path) -> None:
    found = trust.parse(f"acme.models::./zoo:/srv/models/: {tmp_path}", tmp_path)
    assert found == ["acme.models", f"{tmp_path}/zoo", "/srv/models", str(tmp_path)]
    assert trust.parse("", tmp_path) == []
    assert trust.parse(".", tmp_path) == [str(tmp_path)]


@pytest.mark.parametrize("name", ["acme", "acme.models", "acme.models.net.Net"])
def test_a_module_covers_what_is_below_it(name: str) -> None:
    assert trust.is_listed(name, ["other", "acme"])


@pytest.mark.parametrize("name", ["acmeevil.build", "acm", "os.system", "my.acme.build"])
def test_a_module_does_not_cover_its_neighbours(name: str) -> None:
    assert not trust.is_listed(name, ["acme", "/acme"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision.models.resnet18", True),
        ("torchvision.ops.FrozenBatchNorm2d", True),
        ("timm.models.resnet.resnet18", True),
        ("registry.srcnn.build", True),
        ("torchvision.datasets.utils.download_url", False),
        ("torchvision.os.system", False),
        ("torchvision.models_evil.build", False),
        ("timm.utils.checkpoint_saver.CheckpointSaver", False),
        ("setuptools._distutils.spawn.spawn", False),
        ("converter.runner.loop.run", False),
    ],
)
def test_the_built_in_packages_are_those_of_models(name: str, expected: bool) -> None:
    assert trust.is_built_in(name) is expected


def test_a_folder_covers_its_files_where_links_lead(tmp_path: Path) -> None:
    inside, outside = tmp_path / "zoo", tmp_path / "secret"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "net.py").touch()
    (inside / "leads_out.py").symlink_to(outside / "net.py")
    (outside / "leads_in.py").symlink_to(inside / "net.py")
    listed = [str(inside)]
    assert trust.holds_file(inside / "net.py", listed)
    assert trust.holds_file(outside / "leads_in.py", listed)
    assert not trust.holds_file(inside / "leads_out.py", listed)
    assert not trust.holds_file(inside / ".." / "secret" / "net.py", listed)
    assert not trust.holds_file(f"{inside}2/net.py", listed)
    assert not trust.holds_file(inside / "net.py", ["zoo"])


def test_a_listed_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert trust.holds_file(tmp_path / "real" / "net.py", [str(tmp_path / "link")])


def test_the_refusal_prints_the_line_that_trusts_it_too() -> None:
    error = trust.target_denied("_target_ 'os.system' is not trusted", "os", ["acme", "/srv/zoo"])
    assert error.code is Code.TARGET_DENIED
    assert error.hint == "If you trust it: export CONVERTER_TRUST=acme:/srv/zoo:os"
    assert trust.line_to_export("/my zoo", []) == "export CONVERTER_TRUST='/my zoo'"
