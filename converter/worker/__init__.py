"""What runs in a worker process: one job through its stages. May import torch and ONNX Runtime."""
