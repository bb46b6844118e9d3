"""Weights: from a checkpoint into a module they must fit, and whether they are numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from converter.model.errors import Code, StageError
from converter.model.source import Checkpoint
from converter.plan import checkpoints
from converter.storage import downloads
from converter.worker.sources import proposals, tensornames
from converter.worker.sources.checkpoint import AGAIN, not_a_checkpoint, read
from converter.worker.sources.proposals import Proposal, Shapes, holds_tensors
from converter.worker.sources.tensornames import UnfitError, first
from converter.worker.sources.tensorpickle import Opaque

_NOTHING = object()


def load_checkpoint(module: torch.nn.Module, checkpoint: Checkpoint) -> str:
    """Load a checkpoint into a module, all of it and nothing else.

    Returns:
        The SHA-256 of the file; of several that of their list (``checkpoints.sha256``).

    Raises:
        StageError: one of the WEIGHTS codes.
    """
    path = local(checkpoint)
    found = checkpoints.require(path)
    sha256 = checkpoints.sha256(found)
    # Before anything of the file is unpickled.
    if checkpoint.sha256 not in (None, sha256):
        raise StageError(
            Code.WEIGHTS_FORMAT,
            f"{path} is not the checkpoint that was promised: weights.sha256 is "
            f"{checkpoint.sha256}, the {'files have' if found.files[1:] else 'file has'} {sha256}",
            f"{AGAIN} If it was replaced on purpose, state the new sha256.",
        )
    content = _content(found)
    _Fitting(module, checkpoint, path, content).load()
    return sha256


def local(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint lies on this machine; one at a URL is downloaded.

    Raises:
        StageError: WEIGHTS_DOWNLOAD, or WEIGHTS_FORMAT where another file lies there.
    """
    if not checkpoint.is_url:
        return Path(checkpoint.checkpoint)
    return downloads.local(
        "checkpoint",
        "weights.checkpoint",
        checkpoint.checkpoint,
        str(checkpoint.sha256),
        unreachable=Code.WEIGHTS_DOWNLOAD,
        other=Code.WEIGHTS_FORMAT,
    )


def _content(found: checkpoints.Found) -> object:
    """What the file holds; of shards all their tensors, each of which is in one of them."""
    if found.index is None:
        return read(found.shards[0])
    together: dict[str, object] = {}
    for shard in found.shards:
        state = read(shard)
        if not isinstance(state, Mapping):
            raise not_a_checkpoint(shard, f"holds a {type(state).__name__}, not a state dict")
        if twice := state.keys() & together.keys():
            raise _not_indexed(found, f"{first(sorted(twice))} in two of its files")
        wanted = {name for name, file in found.tensors.items() if file == _named(found, shard)}
        if lost := sorted(wanted - state.keys()):
            raise _not_indexed(found, f"not {first(lost)}, which {shard.name} should hold")
        together |= state
    return together


def _named(found: checkpoints.Found, shard: Path) -> str:
    assert found.index is not None
    return shard.relative_to(found.index.parent).as_posix()


def _not_indexed(found: checkpoints.Found, what: str) -> StageError:
    return StageError(
        Code.WEIGHTS_FORMAT,
        f"{found.index} and its files do not belong together: there is {what}",
        AGAIN.replace("the file", "all files"),
    )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _loses(value: Tensor, own: Tensor) -> bool:
    """Whether values are no longer what they were in the model's dtype, beyond rounding."""
    if value.is_complex() and not own.is_complex():
        return bool(value.imag.any())
    if value.is_floating_point() and not own.is_floating_point() and not own.is_complex():
        return not torch.equal(value.to(own.dtype).to(value.dtype), value)
    # Integers of one byte are quantised: without their scale they are other numbers.
    return value.dtype in (torch.int8, torch.uint8) and own.is_floating_point()


class _Fitting:
    """A module, and the content of a checkpoint that is to fit it."""

    def __init__(
        self, module: torch.nn.Module, stated: Checkpoint, path: Path, content: object
    ) -> None:
        self._module = module
        self._stated = stated
        self._path = path
        self._content = content
        self._own: dict[str, Any] = module.state_dict()

    def load(self) -> None:
        """Load, strictly.

        Raises:
            StageError: WEIGHTS_FORMAT, WEIGHTS_KEYS or WEIGHTS_UNSAFE.
        """
        held = self._held()
        try:
            names = tensornames.fitted(held, self._stated)
        except UnfitError as error:
            hint = error.hint if error.final else self._proposed(error.hint)
            message = f"{self._path}: {error.message}"
            raise StageError(Code.WEIGHTS_KEYS, message, hint) from None
        state = {name: held[key] for name, key in names.items()}
        self._check_shapes(state)
        for name, value in state.items():
            if isinstance(value, Opaque) and name in self._own:
                raise _unsafe(self._path, value, f"as '{names[name]}'", self._stated.key)
        state = {name: value for name, value in state.items() if not isinstance(value, Opaque)}
        self._check_values(state)
        # torch's own verdict on the keys: old BatchNorm checkpoints may lack num_batches_tracked.
        keys = self._module.load_state_dict(state, strict=False)
        extra = [name for name in names if name in keys.unexpected_keys or name not in state]
        problems = [
            f"{len(found)} {kind} ({first(found)})"
            for kind, found in (("missing", keys.missing_keys), ("extra", extra))
            if found
        ]
        if problems:
            raise StageError(
                Code.WEIGHTS_KEYS,
                f"{self._path} does not fit the model; keys: {', '.join(problems)}",
                self._proposed(
                    "Is it a checkpoint of this model? Check its kwargs.",
                    sum(name in self._own for name in state),
                ),
            )

    def _check_values(self, state: Mapping[str, object]) -> None:
        """Refuse what torch would change in silence while it copies."""
        changed = [
            f"{name} is {_dtype(value)}, the model's is {_dtype(own)}"
            for name, value in state.items()
            if isinstance(value, Tensor)
            and isinstance(own := self._own.get(name), Tensor)
            and not is_lazy(own)
            and _loses(value, own)
        ]
        if changed:
            raise StageError(
                Code.WEIGHTS_FORMAT,
                f"{self._path} holds values that the model's tensors cannot: {first(changed)}",
                "Save them in the model's dtypes; quantised weights need their scales applied.",
            )
        seen: dict[tuple[int, torch.Size], str] = {}
        for name, value in state.items():
            own = self._own.get(name)
            if not isinstance(own, Tensor) or not isinstance(value, Tensor) or not own.numel():
                continue
            # One tensor of the model under two names: the last would win.
            other = seen.setdefault((own.data_ptr(), own.shape), name)
            twin = state[other]
            if other != name and isinstance(twin, Tensor) and not torch.equal(twin, value):
                raise StageError(
                    Code.WEIGHTS_KEYS,
                    f"{self._path}: {other} and {name} are one tensor of the model, and differ",
                    f"Is it a checkpoint of this model? ignore: ['{name}'] takes the first.",
                )

    def _held(self) -> Mapping[str, object]:
        """The mapping of tensors, under ``key`` when one is given."""
        content, key = self._content, self._stated.key
        if isinstance(content, Opaque):
            raise _unsafe(self._path, content, "and nothing else", None)
        if not isinstance(content, Mapping):
            kind = f"holds a {type(content).__name__}, not a state dict"
            raise not_a_checkpoint(self._path, kind)
        if key is not None:
            below = _below(content, key)
            if below is _NOTHING:
                raise StageError(
                    Code.WEIGHTS_KEYS,
                    f"{self._path} has no key '{key}'; it has {first(map(str, content))}",
                    self._proposed(
                        "Set weights.key to the one that holds the tensors, or remove it."
                    ),
                )
            content = below
        if holds_tensors(content):
            return content  # type: ignore[return-value]  # a mapping with names, by now
        where = f"under '{key}'" if key else "at its top"
        for name, value in [("", content), *_items(content)]:
            if isinstance(value, Opaque) and value.is_module:
                inner = ".".join(str(part) for part in (key, name) if part)
                raise _unsafe(self._path, value, f"as '{inner}'", inner, self._proposed(""))
        there = first(str(name) for name, _ in _items(content))
        raise StageError(
            Code.WEIGHTS_KEYS,
            f"{self._path} holds no tensors {where}; it holds {there}",
            self._proposed(AGAIN),
        )

    def _check_shapes(self, state: Mapping[str, object]) -> None:
        """Torch raises for a wrong shape even when it is not strict, in words of its own."""
        expected = self._expected
        shapes = [
            f"{name} is {_shape(value)}, the model's is {_shape(self._own[name])}"
            for name, value in state.items()
            if name in expected
            and isinstance(value, Tensor)
            and not proposals.fits(value, expected[name])
        ]
        if not shapes:
            return
        found = self._best()
        raise StageError(
            Code.WEIGHTS_KEYS,
            f"{self._path} does not fit the model: {first(shapes)}",
            found.line(expected)
            if found is not None and found.complete
            else "Give the builder the kwargs that these weights were trained with "
            "(num_classes, …).",
        )

    @property
    def _expected(self) -> Shapes:
        return {
            name: tuple(value.shape) if isinstance(value, Tensor) and not is_lazy(value) else None
            for name, value in self._own.items()
        }

    def _best(self) -> Proposal | None:
        found = proposals.best(self._content, self._expected, self._stated)
        # What is stated already is no way out.
        return None if found is not None and found.stated == self._stated else found

    def _proposed(self, otherwise: str, fitting: int = 0) -> str:
        """The proposal, where it is right or better than what is stated, which fits so far."""
        found = self._best()
        if found is None or not (found.complete or found.fitting > fitting):
            return otherwise
        return found.line(self._expected)


def _below(content: object, key: str) -> object:
    """What a dotted key leads to; a key that has dots itself comes first."""
    if not isinstance(content, Mapping):
        return _NOTHING
    if key in content:
        return content[key]
    parts = key.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        found = _below(content.get(".".join(parts[:cut])), ".".join(parts[cut:]))
        if found is not _NOTHING:
            return found
    return _NOTHING


def _unsafe(
    path: Path, found: Opaque, where: str, key: str | None, proposal: str = ""
) -> StageError:
    """The refusal of an object, with the two ways to its weights."""
    inside = f"[{']['.join(map(repr, key.split('.')))}]" if key else ""
    loaded = f"torch.load({str(path)!r}, map_location='cpu', weights_only=False){inside}"
    hint = proposal or (
        f"Where it was made, save its state dict: torch.save({loaded}.state_dict(), 'state.pth'). "
        "Or, if you trust the file, let a builder of your own load it, build.py: "
        f"def build(path): import torch; return {loaded.replace(repr(str(path)), 'path')}.float() "
        f"with source: {{file: build.py, name: build}}, kwargs: {{path: {path}}} and no weights."
    )
    kind = "pickled module" if found.is_module else "pickled object"
    return StageError(
        Code.WEIGHTS_UNSAFE,
        f"{path} holds a {kind} '{found.name}' {where}: to load it would run its code, "
        "and it was not loaded",
        hint,
    )


def check_finite(module: torch.nn.Module | torch.export.ExportedProgram) -> None:
    """Refuse a model with a NaN or infinite weight.

    A buffer may hold −inf: attention masks do.

    Raises:
        StageError: WEIGHTS_NONFINITE with the name of the first such tensor.
    """
    buffers = {name for name, _ in module.named_buffers()}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor) or not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        values = tensor.detach()
        if values.is_floating_point() and values.itemsize == 1:
            values = values.float()  # isfinite knows no float8
        # One that is not finite makes the sum so; that of large ones may be infinite by itself.
        if bool(torch.isfinite(values.sum())):
            continue
        good = torch.isfinite(values)
        if name in buffers and not values.is_complex():
            good |= torch.isneginf(values)
        if not bool(good.all()):
            raise StageError(
                Code.WEIGHTS_NONFINITE,
                f"weight '{name}' holds NaN or infinite values: "
                f"{int((~good).sum()):,} of {good.numel():,}",
                "Use another checkpoint; a model with such weights proves nothing.",
            )


def _items(content: object) -> Iterable[tuple[object, object]]:
    return content.items() if isinstance(content, Mapping) else ()


def _shape(value: object) -> str:
    return "×".join(map(str, value.shape)) or "a scalar" if isinstance(value, Tensor) else "?"
