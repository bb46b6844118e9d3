"""An ONNX file as plain data, as text, and beside another one. Nothing here imports onnx."""
