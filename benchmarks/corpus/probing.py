"""Whether a file computes what a module of the corpus computes, and has its interface."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import torch

from corpus.module import Array, Feed, Module

# A file that is right is within 1e-5; what is planted moves an output by a hundredth at least.
RELATIVE_L2 = 1e-3
ELEMENT = 1e-2
_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool"}
_REFUSALS = (RuntimeError, ValueError, IndexError, TypeError)


def build(module: Module, folder: Path) -> torch.nn.Module:
    """The module, from the file that the converter was given."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    built = getattr(_imported(folder / f"{module.name}.py"), module.class_name)()
    assert isinstance(built, torch.nn.Module)
    return built.eval()


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"corpus_file_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def tensors(feed: Feed) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.array(value)) for value in feed.values())


def references(module: Module, folder: Path) -> list[tuple[Feed, Array]]:
    """What PyTorch computes on the probes, one call after the other on one instance.

    A probe that PyTorch refuses, or at which it is not finite, is none.
    """
    model, found = build(module, folder), []
    for feed in module.probes:
        try:
            with torch.no_grad():
                out = model(*tensors(feed)).numpy()
        except _REFUSALS:
            continue
        if out.size and (out.dtype.kind != "f" or np.isfinite(out).all()):
            found.append((feed, out.copy()))
    return found


def fault(file: Path, module: Module, wanted: list[tuple[Feed, Array]]) -> str | None:
    """The first probe that shows that a file is wrong, in words; ``None``: all are right."""
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return f"does not load: {_line(error)}"
    names = [item.name for item in session.get_inputs()]
    if names != list(module.scene.inputs):
        return f"inputs {names}"
    for feed, want in wanted:
        try:
            got = session.run(None, feed)[0]
        except Exception as error:
            return f"{shapes(feed)}: refuses what PyTorch takes: {_line(error)}"
        found = next(_faults(session, feed, want, got), None)
        if found is not None:
            return f"{shapes(feed)}: {found}"
    return None


def _faults(session: Any, feed: Feed, want: Array, got: Array) -> Iterator[str]:
    if got.dtype != want.dtype or got.shape != want.shape:
        yield f"{got.dtype}{list(got.shape)} for {want.dtype}{list(want.shape)}"
        return
    yield from _different(want, got)
    sizes: dict[str, int] = {}
    pairs = [(item, feed[item.name]) for item in session.get_inputs()]
    for item, value in [*pairs, (session.get_outputs()[0], got)]:
        if len(item.shape) != value.ndim:
            yield f"{item.name} is declared with {len(item.shape)} axes for {value.ndim}"
            continue
        if _DTYPES.get(item.type, str(value.dtype)) != str(value.dtype):
            yield f"{item.name} is declared {item.type}"
        for declared, size in zip(item.shape, value.shape, strict=True):
            if isinstance(declared, int) and declared != size:
                yield f"{item.name} is declared {item.shape} and is {list(value.shape)}"
            if isinstance(declared, str) and sizes.setdefault(declared, size) != size:
                yield f"'{declared}' is {sizes[declared]} and {size} in one run"


def _different(want: Array, got: Array) -> Iterator[str]:
    if want.dtype.kind != "f":
        count = int((want != got).sum())
        if count:
            yield f"{count} of {want.size} elements differ"
        return
    if not np.isfinite(got).all():
        yield "not finite"
        return
    exact, off = want.astype(np.float64), np.abs(got.astype(np.float64) - want)
    rms = float(np.sqrt((exact**2).mean()))
    share = float(np.sqrt((off**2).mean())) / (rms + 1e-9)
    if share > RELATIVE_L2 or (off > ELEMENT * (rms + np.abs(exact)) + 1e-9).any():
        yield f"relative L2 error {share:.1e}, worst {off.max():.1e} of rms {rms:.1e}"


def shapes(feed: Feed) -> str:
    """``x 2×5 (-1.3 to 2.2)``: what tells a probe."""
    texts = []
    for name, value in feed.items():
        span = ""
        if value.size:
            span = f" ({value.min():.3g} to {value.max():.3g})"
        if value.dtype == np.bool_:
            span = f" ({int(value.sum())} of {value.size} true)"
        texts.append(f"{name} {'×'.join(map(str, value.shape)) or 'scalar'}{span}")
    return ", ".join(texts)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
