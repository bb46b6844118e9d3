"""Intel CPUs through OpenVINO (package ``onnxruntime-openvino``)."""

NAME = "OpenVINOExecutionProvider"
# Without a stated precision OpenVINO computes in bfloat16 where the CPU has it.
OPTIONS: dict[str, str] = {"device_type": "CPU", "precision": "FP32"}
DEVICE = "cpu"
FALLBACKS: tuple[str, ...] = ()
INSTALL = (
    "install onnxruntime-openvino in a fresh environment, in place of onnxruntime: they share a "
    "folder and break each other"
)
LOAD_HINT = "install onnxruntime-openvino again, in a fresh environment"


def prepare() -> None:
    """Nothing: its libraries are in the package."""
