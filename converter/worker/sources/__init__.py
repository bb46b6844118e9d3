"""From a source to a PyTorch module or an ONNX file, with its weights."""
