"""ONNX Runtime: starting a provider, running a session, its words."""
