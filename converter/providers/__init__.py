"""Execution providers: one file each, whose name is its configuration name.

A provider is a module with ``NAME`` (what ONNX Runtime calls it) and ``OPTIONS`` (its provider
options).
"""
