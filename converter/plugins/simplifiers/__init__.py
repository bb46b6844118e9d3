"""Simplifiers: one file each, whose name is its configuration name.

A simplifier is a module with ``simplify(model) -> ModelProto``. It gets a loaded,
checked model, never a path (onnxsim follows external data out of the model's folder),
and is never trusted: ``converter.worker.onnxfile.simplification`` decides whether its result ships.
"""
