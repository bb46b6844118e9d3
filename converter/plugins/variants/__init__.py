"""Variants: a verified ONNX file in another precision, or for another runtime."""
