"""Signatures with real keys: of what was published, and of what somebody made of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.cli.commands import verify
from converter.config import standard, validation
from converter.finalize import publication, published, zoo_index
from converter.layout import signing
from converter.model.batch import PublishSpec
from converter.model.errors import ConfigError
from tests.published import artifacts, sound
from tests.unit.nights import manifest

pytestmark = pytest.mark.integration
for name in ("model_signing", "OpenSSL"):
    pytest.importorskip(name, reason="the extra `sign`")

Publish = Callable[..., Path]


def keys(folder: Path, name: str, curve: str = "SECP256R1") -> tuple[Path, Path]:
    """A private and a public key in PEM; ``ed25519`` is a curve that signatures do not know."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    key = (
        ed25519.Ed25519PrivateKey.generate()
        if curve == "ed25519"
        else ec.generate_private_key(getattr(ec, curve)())
    )
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    def run(private: Path | None, layout: str = "zoo", content: str = "one") -> Path:
        rows = artifacts(tmp_path, "a", content, half="half", data="weights")
        said = {"path": str(tmp_path / "zoo"), "layout": layout}
        sign = {"sign": {"private_key": str(private)}} if private else {}
        spec = PublishSpec.model_validate({**said, **sign})
        publication.check(spec)
        assert publication.publish(manifest(*rows), tmp_path, spec, None) == []
        return tmp_path / "zoo"

    return run


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
@pytest.mark.parametrize("layout", ["zoo", "triton", "huggingface"])
def test_a_signature_is_of_its_files_and_of_its_key(
    tmp_path: Path, publish: Publish, layout: str, curve: str
) -> None:
    private, public = keys(tmp_path, "mine", curve)
    target = publish(private, layout)
    found = published.check(target, public)
    assert (found.problems, found.signed) == ([], found.sets)
    _, other = keys(tmp_path, "other", curve)
    assert {text.rpartition(": ")[2] for text in published.check(target, other).problems} == {
        "the signature is not by this key"
    }


def test_what_was_changed_is_found_also_where_the_sums_were_made_again(
    tmp_path: Path, publish: Publish
) -> None:
    private, public = keys(tmp_path, "mine")
    target = publish(private)
    home = target / zoo_index.read(target).models["a"].sets[0].folder
    assert published.check(home, public).problems == []
    (home / "model.onnx").write_text("two")
    named = [p.name for p in home.iterdir() if p.name not in ("SHA256SUMS", signing.SIGNATURE)]
    sums = subprocess.run(["sha256sum", *named], cwd=home, check=True, capture_output=True)
    (home / "SHA256SUMS").write_bytes(sums.stdout)
    assert published.check(home, None).problems == []
    assert published.check(home, public).problems == [
        "the signature is not of these files: SHA256SUMS, model.onnx"
    ]
    assert verify.main([str(home), "--key", str(public)]) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda home: (home / "model.fp16.onnx").unlink(), "model.fp16.onnx is missing"),
        (lambda home: (home / ".gitattributes").write_text(""), ".gitattributes is not in"),
        (lambda home: (home / "model.sig").unlink(), "it is not signed"),
        (lambda home: (home / "model.sig").write_text("{}"), "the signature is damaged"),
        (lambda home: (home / "model.sig").write_text("no JSON"), "the signature is damaged"),
    ],
)
def test_whatever_is_missing_damaged_or_more_is_named(
    tmp_path: Path, publish: Publish, change: Callable[[Path], object], said: str
) -> None:
    private, public = keys(tmp_path, "mine")
    target = publish(private)
    home = target / zoo_index.read(target).models["a"].sets[0].folder
    change(home)
    for folder in (target, home):
        assert any(said in text for text in published.check(folder, public).problems), folder


def test_another_key_signs_another_version(tmp_path: Path, publish: Publish) -> None:
    first, _ = keys(tmp_path, "first")
    second, public = keys(tmp_path, "second")
    for private in (None, first, second):
        target = publish(private, "triton")
    assert sound(target) == {"a": "one", "a/fp16": "half"}
    assert published.check(target, public).problems == []
    assert (target / "a/3/model.sig").is_file()
    # The same key once more signs nothing again.
    before = (target / "a/3/model.sig").stat().st_ino
    publish(second, "triton")
    assert (target / "a/3/model.sig").stat().st_ino == before


def test_a_key_that_cannot_sign_is_told_before_the_run(tmp_path: Path) -> None:
    private, public = keys(tmp_path, "odd", "ed25519")

    def problem(key: Path) -> str:
        sign = {"private_key": str(key)}
        config = {**standard.plain(), "models": {"a": "srcnn"}}
        with pytest.raises(ConfigError) as caught:
            validation.parse({**config, "publish_to": {"path": "zoo", "sign": sign}})
        return str(caught.value.problems[0])

    curves = "an elliptic curve (P-256, P-384 or P-521), in PEM and without a password"
    assert problem(private) == (
        f"publish_to.sign.private_key: {private} is no private key of {curves}."
    )
    none = tmp_path / "none.pem"
    assert problem(none) == f"publish_to.sign.private_key: No such file or directory: {none}."
    with pytest.raises(ValueError, match="is no public key of"):
        signing.refusal(tmp_path, public)
