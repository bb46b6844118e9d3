"""Damage to the structure of an ONNX file: what it may be, and where it fits."""
