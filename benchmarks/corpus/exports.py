"""Plain exports of a module: whether any exporter's file would have been right."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import onnx
import torch

from corpus.module import Module
from corpus.probing import build, tensors

EXPORTERS = ("torchscript", "dynamo")
OPSET = 17


def plain(module: Module, folder: Path, exporter: str, destination: Path) -> bool:
    """Write ``destination`` as a short script would; whether there is a file of opset 17."""
    feed = module.scene.feed(0)
    entry = module.entry
    options = {"input_names": list(feed), "output_names": ["out"], "opset_version": OPSET}
    axes = module.scene.axes
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its operator has no ONNX form
    try:
        with quiet(), torch.no_grad():
            if exporter == "torchscript":
                options |= {"dynamic_axes": entry["dynamic_axes"] or None, "dynamo": False}
                torch.onnx.export(build(module, folder), tensors(feed), str(destination), **options)
            else:
                shapes = tuple(axes.get(name) for name in feed) if axes else None
                options |= {"dynamic_shapes": shapes, "dynamo": True, "verbose": False}
                torch.onnx.export(build(module, folder), tensors(feed), destination, **options)
    except Exception:  # whatever an exporter raises: there is no file
        return False
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    found = onnx.load(destination, load_external_data=False).opset_import
    return any(item.domain in ("", "ai.onnx") and item.version == OPSET for item in found)


@contextlib.contextmanager
def quiet():  # type: ignore[no-untyped-def]
    """Exporters print, warn and log; the table is what is wanted here."""
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
