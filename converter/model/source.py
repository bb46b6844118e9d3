"""Where a model and its weights come from: ``source`` and ``weights`` of a configuration."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from converter.model import urls
from converter.model.base import Frozen, PathText, Sha256, Text


def registry_source(value: object) -> object:
    return {"registry": value} if isinstance(value, str) else value


class Source(Frozen):
    """Where a model's ``nn.Module`` comes from: exactly one kind.

    In YAML a registry name may be written as a plain string.

    Attributes:
        registry: a name of the registry, as ``python -m converter list`` shows it; also written
            without the key. Example: ``torchvision/resnet18``.
        target: a function or class that returns the module, by the name to import it from.
            Example: ``my_package.classifier.build``.
        file: a Python file that has the function or class ``name``. Example: ``models/net.py``.
        name: the function or class in ``file``. Example: ``Net``.
        torchscript: an archive of ``torch.jit.save``. Example: ``models/net.pt``.
        exported_program: an archive of ``torch.export.save``. Example: ``models/net.pt2``.
        onnx: a file that is ONNX already. Example: ``models/net.onnx``.
    """

    registry: Text | None = None
    target: Text | None = Field(None, alias="_target_")
    file: PathText | None = None
    name: Text | None = None
    torchscript: PathText | None = None
    exported_program: PathText | None = None
    onnx: PathText | None = None

    @property
    def kind(self) -> str:
        """The one key that is set: ``registry``, ``target``, ``file``, …"""
        return next(kind for kind in SOURCE_KINDS if getattr(self, kind) is not None)

    @property
    def path(self) -> str | None:
        """The file that the source reads, if it reads one."""
        return self.file or self.torchscript or self.exported_program or self.onnx

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        # `name` is no kind of its own: it goes with `file`.
        kinds = [kind for kind in SOURCE_KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(
                "expected a registry name, or exactly one of _target_, file, torchscript, "
                f"exported_program, onnx; found {', '.join(kinds) or 'none'}"
            )
        if (self.file is None) != (self.name is None):
            raise ValueError("'file' and 'name' belong together: {file: PATH.py, name: CLASS}")
        return self

    def __str__(self) -> str:
        value = getattr(self, self.kind)
        return str(value) if self.kind == "registry" else f"{self.kind}:{value}"


SOURCE_KINDS = ("registry", "target", "file", "torchscript", "exported_program", "onnx")


def without_folders(source: str) -> str:
    """A source as files that go elsewhere name it: ``file:net.py`` for ``file:/home/me/net.py``."""
    kind, _, path = source.partition(":")
    of_files = kind in ("file", "torchscript", "exported_program", "onnx")
    return f"{kind}:{path.rpartition('/')[2]}" if of_files and path else source


class Checkpoint(Frozen):
    """A file of tensors: of ``torch.save``, or safetensors.

    Names of tensors are fitted to the model in this order: ``ignore``, ``strip_prefix``,
    ``rename``.

    Attributes:
        checkpoint: the path of a file, of an index of shards (``model.safetensors.index.json``), or
            of a folder as a hub has it; a relative one counts from where the command is started. Or
            the URL of one file (``https://``, ``s3://``, ``gs://``), with its ``sha256``. Example:
            ``weights/classifier.pth``.
        key: names the mapping of tensors inside, where the file holds more; dots lead further in
            (``ema.module``), unless the name with its dots is there. Example: ``state_dict``.
        strip_prefix: cut off the names of the tensors that have it; of a list each, in order.
            Example: ``module.``.
        ignore: globs of keys, as the file has them, that the model has no use for, such as those of
            a loss. Example: ``[loss.*]``.
        rename: by the old name of a tensor its name in the model; old and new name that end at a
            dot stand for all names that begin so, and an empty old one for all. Example:
            ``{fc.: head.}``.
        sha256: the file is refused if its SHA-256 is another one; of several files the SHA-256 of
            their list, a line ``NAME SHA256`` each, sorted. Example:
            ``"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"``.
    """

    checkpoint: PathText
    key: str | None = None
    strip_prefix: str | list[Text] | None = None
    ignore: list[Text] = Field(default_factory=list)
    rename: dict[str, str] = Field(default_factory=dict)
    sha256: Sha256 | None = None

    @property
    def prefixes(self) -> list[str]:
        """Those to be cut off, in order."""
        stated = self.strip_prefix
        return stated if isinstance(stated, list) else [] if stated is None else [stated]

    @property
    def is_url(self) -> bool:
        """Whether it is downloaded, by the machine that needs it."""
        return urls.is_url(self.checkpoint)

    @model_validator(mode="after")
    def _url_is_pinned(self) -> Checkpoint:
        urls.check_pinned(self.checkpoint, self.sha256)
        if self.is_url and self.checkpoint.endswith((".index.json", "/")):
            raise ValueError("a URL names one file of weights: no index, and no folder")
        return self

    @field_validator("rename")
    @classmethod
    def _names_are_of_one_kind(cls, rename: dict[str, str]) -> dict[str, str]:
        for old, new in rename.items():
            if _many(old) != _many(new):
                raise ValueError(
                    f"'{old}' to '{new}': both end at a dot (all names that begin so), or neither "
                    "does (one name)"
                )
        return rename


def _many(name: str) -> bool:
    return name == "" or name.endswith(".")


UNTRAINED = ("random", "conditioned")
"""Weights that the builder has drawn; ``conditioned``: also where it is the user's own."""
