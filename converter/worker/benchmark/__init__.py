"""Latency: one file on one provider, PyTorch beside it, two files in pairs."""
