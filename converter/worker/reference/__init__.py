"""What PyTorch computes: on which cases, and how far its own rounding reaches."""
