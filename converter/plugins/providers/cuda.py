"""NVIDIA GPUs through CUDA and cuDNN (package ``onnxruntime-gpu``)."""

from converter.model.base import Frozen

NAME = "CUDAExecutionProvider"
TITLE = "onnxruntime-cuda"


class Options(Frozen):
    """TF32 keeps 10 bits of mantissa: verification against float32 needs all 23.

    Attributes:
        use_tf32: compute matrix products in TF32. Example: ``"1"``.
    """

    use_tf32: str = "0"


DEVICE = "cuda"
FALLBACKS: tuple[str, ...] = ()
INSTALL = (
    "on a machine with an NVIDIA GPU install the extra `gpu` (package onnxruntime-gpu) in a fresh "
    "environment, without the extra `cpu`"
)
LOAD_HINT = (
    "libcuda.so.1 comes with the driver, the libraries of CUDA and cuDNN with the extra `gpu`: "
    "install what the message names, and ask `python -m converter doctor`"
)


def prepare() -> None:
    """Load the libraries that pip has put where the dynamic loader does not look."""
    import onnxruntime

    onnxruntime.preload_dlls()
