"""The ONNX file: its graph, interface, checks, simplification, and writing it."""
