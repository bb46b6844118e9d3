"""OpenVINO as an execution provider of ONNX Runtime (package ``onnxruntime-openvino``)."""

from converter.model.base import Frozen

NAME = "OpenVINOExecutionProvider"
TITLE = "onnxruntime-openvino"


class Options(Frozen):
    """Without a stated precision OpenVINO computes in bfloat16 where the CPU has it.

    Attributes:
        device_type: the device that OpenVINO computes on. Example: ``GPU``.
        precision: what it computes in. Example: ``FP16``.
    """

    device_type: str = "CPU"
    precision: str = "FP32"


DEVICE = "cpu"
FALLBACKS: tuple[str, ...] = ()
INSTALL = (
    "install onnxruntime-openvino in a fresh environment, in place of onnxruntime: they share a "
    "folder and break each other"
)
LOAD_HINT = "install onnxruntime-openvino again, in a fresh environment"


def prepare() -> None:
    """Nothing: its libraries are in the package."""
