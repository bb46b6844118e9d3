"""Weights: from a checkpoint into a module they must fit, and whether they are numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from converter.layout import files
from converter.model.errors import Code, StageError
from converter.model.spec import Checkpoint
from converter.worker.sources.checkpoint import AGAIN, hash_of, not_a_checkpoint, read


def load_checkpoint(module: torch.nn.Module, checkpoint: Checkpoint) -> str:
    """Load a checkpoint into a module, all of it and nothing else.

    Returns:
        The SHA-256 of the file.

    Raises:
        StageError: one of the WEIGHTS codes.
    """
    path = Path(checkpoint.checkpoint)
    files.require(Code.WEIGHTS_MISSING, "weights.checkpoint:", path)
    sha256 = hash_of(path)
    # Before anything of the file is unpickled.
    if checkpoint.sha256 not in (None, sha256):
        raise StageError(
            Code.WEIGHTS_FORMAT,
            f"{path} is not the checkpoint that was promised: weights.sha256 is "
            f"{checkpoint.sha256}, the file has {sha256}",
            f"{AGAIN} If it was replaced on purpose, state the new sha256.",
        )
    state = _used(_state_dict(read(path), checkpoint, path), checkpoint.ignore, path)
    expected = set(module.state_dict())
    _apply(module, _stripped(state, checkpoint.strip_prefix, expected, path), state, path)
    return sha256


def _state_dict(content: object, checkpoint: Checkpoint, path: Path) -> Mapping[str, object]:
    """The mapping of tensors, under ``key`` when one is given."""
    if not isinstance(content, Mapping):
        raise not_a_checkpoint(path, f"holds a {type(content).__name__}, not a state dict")
    if checkpoint.key is not None:
        if checkpoint.key not in content:
            raise StageError(
                Code.WEIGHTS_KEYS,
                f"{path} has no key '{checkpoint.key}'; it has {_first(map(str, content))}",
                "Set weights.key to the one that holds the tensors, or remove it.",
            )
        content = content[checkpoint.key]
    if _holds_tensors(content):
        return cast(Mapping[str, object], content)
    holders = [str(key) for key, value in _items(content) if _holds_tensors(value)]
    where = f"under '{checkpoint.key}'" if checkpoint.key else "at its top"
    there = f"; it holds {_first(str(key) for key, _ in _items(content))}"
    raise StageError(
        Code.WEIGHTS_KEYS,
        f"{path} holds no tensors {where}{there}",
        f"Set weights.key: {holders[0]}" if holders and not checkpoint.key else AGAIN,
    )


def _used(state: Mapping[str, object], ignored: Sequence[str], path: Path) -> Mapping[str, object]:
    """The state dict without the keys that the configuration ignores."""
    for pattern in ignored:
        if not any(fnmatchcase(key, pattern) for key in state):
            raise StageError(
                Code.WEIGHTS_KEYS,
                f"{path}: weights.ignore '{pattern}' matches no key; there are {_first(state)}",
                "Correct the pattern, or remove it.",
            )
    return {
        key: value
        for key, value in state.items()
        if not any(fnmatchcase(key, pattern) for pattern in ignored)
    }


def _holds_tensors(content: object) -> bool:
    return (
        isinstance(content, Mapping)
        and all(isinstance(key, str) for key in content)
        and any(isinstance(value, Tensor) for value in content.values())
    )


def _stripped(
    state: Mapping[str, object], prefix: str | None, expected: set[str], path: Path
) -> dict[str, object]:
    """The state dict with ``prefix`` cut off the keys that have it; the others stay."""
    if prefix is None:
        return dict(state)
    stripped = {key.removeprefix(prefix): value for key, value in state.items()}
    if not any(key.startswith(prefix) for key in state):
        raise StageError(
            Code.WEIGHTS_KEYS,
            f"{path}: no key starts with weights.strip_prefix '{prefix}'; "
            f"there are {_first(state)}",
            _prefix_hint(state, expected, 0) or "Remove weights.strip_prefix, or correct it.",
        )
    # Two keys have become one, and one of the tensors would be lost.
    if len(stripped) < len(state):
        twice = [key for key in state if not key.startswith(prefix) and prefix + key in state]
        raise StageError(
            Code.WEIGHTS_KEYS,
            f"{path}: keys stand both with and without '{prefix}': {_first(twice)}",
            "Save the two state dicts under keys of their own and set weights.key.",
        )
    return stripped


def _apply(
    module: torch.nn.Module, state: dict[str, object], found: Iterable[str], path: Path
) -> None:
    """Load, strictly; ``found`` are the keys as they stand in the file."""
    own = module.state_dict()
    # torch raises for a wrong shape even when it is not strict, in words of its own.
    shapes = [
        f"{key} is {_shape(value)}, the model's is {_shape(own[key])}"
        for key, value in state.items()
        if isinstance(value, Tensor) and not _same_shape(own.get(key), value)
    ]
    if shapes:
        raise StageError(
            Code.WEIGHTS_KEYS,
            f"{path} does not fit the model: {_first(shapes)}",
            "Give the builder the kwargs that these weights were trained with (num_classes, …).",
        )
    # torch's own verdict on the keys: old BatchNorm checkpoints may lack num_batches_tracked.
    keys = module.load_state_dict(state, strict=False)
    problems = [
        f"{len(names)} {kind} ({_first(names)})"
        for kind, names in (("missing", keys.missing_keys), ("extra", keys.unexpected_keys))
        if names
    ]
    if problems:
        raise StageError(
            Code.WEIGHTS_KEYS,
            f"{path} does not fit the model; keys: {', '.join(problems)}",
            _keys_hint(list(found), state, set(own), keys.missing_keys, keys.unexpected_keys),
        )


def _keys_hint(
    found: Sequence[str],
    state: Mapping[str, object],
    expected: set[str],
    missing: Sequence[str],
    extra: Sequence[str],
) -> str:
    """What to set, so that the keys fit.

    Args:
        found: the keys as the file has them; ``state`` has them without the stated prefix.
        expected: the model's.
    """
    if hint := _prefix_hint(found, expected, len(expected & state.keys())):
        return hint
    if missing:
        return "Is it a checkpoint of this model? Check its kwargs."
    # In the order of the file, of which `state` has each key once.
    names = dict(zip(state, found, strict=True))
    return f"The model does not use them: set weights.ignore: {_patterns(extra, names)}."


def _patterns(extra: Sequence[str], names: Mapping[str, str]) -> str:
    """Globs for some keys of a file and no other: the modules that they are of, where that fits.

    Args:
        names: each key without its prefix, to the one in the file.
    """
    unused = {names[key] for key in extra}
    found: dict[str, None] = {}
    for key in (names[key] for key in extra):
        parts = key.split(".")
        globs = (".".join(parts[:cut]) + ".*" for cut in range(1, len(parts)))
        own = (
            glob
            for glob in globs
            if all(name in unused for name in names.values() if fnmatchcase(name, glob))
        )
        found[next(own, key)] = None
    return f"[{', '.join(repr(glob) for glob in found)}]"


def _same_shape(own: object, value: Tensor) -> bool:
    if not isinstance(own, Tensor) or is_lazy(own):
        return True
    # torch takes one element for a scalar: files from before it had scalars hold them so.
    return own.shape == value.shape or (own.ndim == 0 and value.numel() == 1)


def _prefix_hint(found: Iterable[str], expected: set[str], fitting: int) -> str:
    """The ``strip_prefix`` that makes most keys fit, and what is to be ignored then.

    Args:
        fitting: how many keys fit as it is; empty where no prefix beats that.
    """
    keys = list(found)
    fits: Counter[str] = Counter()
    for key in keys:
        parts = key.split(".")
        fits.update(
            ".".join(parts[:cut]) + "."
            # Every prefix that ends at a dot, counted by the keys that it would make fit.
            for cut in range(1, len(parts))
            if ".".join(parts[cut:]) in expected
        )
    prefix, count = max(fits.items(), key=lambda item: item[1], default=("", 0))
    if count <= max(fitting, sum(key in expected for key in keys)):
        return ""
    stripped = {key.removeprefix(prefix): key for key in keys}
    extra = [key for key in stripped if key not in expected]
    also = f", and weights.ignore: {_patterns(extra, stripped)}" if extra else ""
    told = f"{count} of {len(expected)} keys would fit"
    return f"Set weights.strip_prefix: '{prefix}'{also} ({told})."


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


def _first(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:5]) + (", …" if len(every) > 5 else "") if every else "nothing"
