"""TensorRT itself (package ``tensorrt``): engines, which a variant builds from the ONNX file.

An engine runs on the model of GPU and with the version of TensorRT that built it. Memory on the
GPU is PyTorch's. Written against TensorRT 10 and 11, whose networks can be strongly typed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.model.base import Frozen
from converter.model.errors import Code, StageError
from converter.model.records import CheckRecord
from converter.plugins.runnable import Interface, Runnable

if TYPE_CHECKING:
    # Of the plugins the parent process imports the modules, and never numpy.
    from numpy.typing import NDArray

NAME = "TensorRT"
FORMATS = ("tensorrt",)
PACKAGES = ("tensorrt", "tensorrt-cu12")
DEVICE = "cuda"
FALLBACKS: tuple[str, ...] = ()
INSTALL = (
    "on a machine with an NVIDIA GPU and its driver install the package tensorrt (10 or later), "
    "whose CUDA has to be that of the installed PyTorch"
)
LOAD_HINT = INSTALL

_OLDEST = 10
# As ONNX Runtime writes them, by the names of ``tensorrt.DataType``.
_TYPES = {
    "FLOAT": "float", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64", "INT32": "int32",
    "INT8": "int8", "UINT8": "uint8", "BOOL": "bool",
}  # fmt: skip
_PRECISIONS = {"float32": ("Float",), "float16": ("Half", "FP16")}
# Of the tensors with floats that layers write; inputs, outputs and normalisations may be float32.
_LEAST = 0.2


class Options(Frozen):
    """None: what an engine computes in was decided when it was built."""


def prepare() -> None:
    """Nothing: the package loads its libraries."""


def available() -> str:
    """Why this machine has no TensorRT.

    It must not start CUDA: a process that has started it can fork none that uses it, and a variant
    is made in a fork.
    """
    if importlib.util.find_spec("tensorrt") is None:
        return "TensorRT is not installed: there is no package tensorrt"
    try:
        import tensorrt
    except ImportError as error:  # a library of CUDA or of TensorRT that the loader does not find
        return f"TensorRT is not available: {' '.join(str(error).split())}"
    if int(tensorrt.__version__.split(".")[0]) < _OLDEST:
        return (
            f"TensorRT {_OLDEST} or later is not installed: tensorrt {tensorrt.__version__} has no "
            "strongly typed networks"
        )
    return _no_device()


def _no_device() -> str:
    import torch

    if torch.version.cuda is None:
        return (
            f"TensorRT is not available: PyTorch {torch.__version__} is built without CUDA, and "
            "memory on the GPU is PyTorch's"
        )
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "TensorRT is not available: the NVIDIA driver is not installed (no libcuda.so.1)"
    # Through NVML, which does not start CUDA.
    if not torch.cuda.device_count():
        return "TensorRT is not available: the NVIDIA driver finds no GPU"
    return ""


def device() -> dict[str, str]:
    """The GPU that engines are built for and run on, and what drives it.

    It starts CUDA.
    """
    import tensorrt
    import torch

    major, minor = torch.cuda.get_device_capability()
    return {
        "tensorrt": tensorrt.__version__,
        "cuda": torch.version.cuda or "",
        "gpu": torch.cuda.get_device_name(),
        "compute capability": f"{major}.{minor}",
    }


def logger() -> Any:
    """A logger of TensorRT that keeps what is said of errors, in ``errors``."""
    import tensorrt

    class Log(tensorrt.ILogger):  # type: ignore[misc]
        """The base class is TensorRT's, which is imported here."""

        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (tensorrt.ILogger.ERROR, tensorrt.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(msg.split()))
            if severity != tensorrt.ILogger.VERBOSE:
                print(msg)

    return Log()


def said(log: Any, otherwise: str) -> str:
    """The last error that a logger was told of."""
    return str(log.errors[-1]) if log.errors else otherwise


def open(  # noqa: A001 - the name that the contract of runtimes has
    file: Path, *, threads: int, options: Mapping[str, str], interface: Interface
) -> Runnable:
    """An engine on the current GPU.

    Raises:
        StageError: SESSION, where it is damaged, of another GPU or version, or has other inputs and
            outputs than ``interface``.
    """
    engine, log = _engine(file, Code.SESSION)
    wrong = _interface(engine, interface)
    if wrong:
        raise StageError(Code.SESSION, f"{file.name} {wrong}", "build it anew from its ONNX file")
    return _Engine(engine, log, interface)


def check(file: Path, parent: Path, precision: str) -> CheckRecord:
    """Whether an engine has the inputs and outputs of its parent, and is of its precision.

    What its layers compute in is read from the engine's own account of them, which the variant
    has TensorRT write into it.

    Raises:
        StageError: CHECKER; PRECISION_NOT_REACHED.
    """
    import tensorrt

    engine, _ = _engine(file, Code.CHECKER)
    form = tensorrt.LayerInformationFormat.JSON
    text = engine.create_engine_inspector().get_engine_information(form)
    return judged(json.loads(text), precision)


def judged(information: Mapping[str, Any], precision: str) -> CheckRecord:
    """The record of an engine whose layers say that they are of a precision.

    Args:
        information: of ``EngineInspector.get_engine_information``, as JSON.

    Raises:
        StageError: PRECISION_NOT_REACHED, where layers of a float32 engine compute in TF32 or in
            less, or few of a float16 one in float16; CHECKER, where the engine tells nothing.
    """
    layers = [layer for layer in information.get("Layers", []) if isinstance(layer, Mapping)]
    written = [kind for layer in layers for kind in _kinds(layer.get("Outputs", []))]
    if not written:
        raise StageError(
            Code.CHECKER,
            "the engine does not tell what its layers compute in",
            "build it with ProfilingVerbosity.DETAILED, as the variant tensorrt does",
        )
    rounded = [str(layer.get("Name")) for layer in layers if _is_tf32(layer)]
    share = sum(kind in _PRECISIONS["float16"] for kind in written) / len(written)
    if precision == "float32" and (rounded or share):
        what = f"{rounded[0]} computes in TF32" if rounded else "layers compute in float16"
        hint = "TensorRT was not to: report it with the log, and leave this variant out"
        raise StageError(Code.PRECISION_NOT_REACHED, f"the engine is float32, but {what}", hint)
    if precision == "float16" and share < _LEAST:
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"only {share:.0%} of the tensors with floats that layers write are float16",
            "leave fp16 out: most of this model has no float16 form",
        )
    reached = share if precision == "float16" else 1 - share
    return CheckRecord(status="passed", precision_nodes=round(reached, 4))


def _kinds(outputs: Sequence[Any]) -> list[str]:
    """What floats are held in, in the words of the inspector: ``Float``, ``Half``."""
    found = []
    for output in outputs:
        if not isinstance(output, Mapping):
            continue
        # TensorRT 11 has a field of its own; 10 says it in the words for the format.
        text = str(output.get("DataType") or output.get("Format/Datatype") or "")
        known = [word for words in _PRECISIONS.values() for word in words]
        named = [word for word in known if word in text] or (["Float"] if "FP32" in text else [])
        found += named[:1]
    return found


def _is_tf32(layer: Mapping[str, Any]) -> bool:
    return "tf32" in str(layer.get("TacticName", "")).lower()


def _engine(file: Path, code: Code) -> tuple[Any, Any]:
    """The engine in a file, and the logger that has to live as long.

    Raises:
        StageError: of that code.
    """
    import tensorrt

    log = logger()
    runtime = tensorrt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(file.read_bytes())
    if engine is None:
        raise StageError(
            code,
            f"TensorRT cannot load the file: {said(log, 'it gives no reason')}",
            "an engine runs on the model of GPU and with the version of TensorRT that built it",
        )
    # The engine does not keep its runtime alive.
    log.runtime = runtime
    return engine, log


def _interface(engine: Any, interface: Interface) -> str:
    """How the names of an engine differ from those of an ONNX file."""
    import tensorrt

    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = {n for n in names if engine.get_tensor_mode(n) == tensorrt.TensorIOMode.INPUT}
    for kind, found, asked in (
        ("inputs", inputs, {tensor.name for tensor in interface.inputs}),
        ("outputs", set(names) - inputs, {tensor.name for tensor in interface.outputs}),
    ):
        if found != asked:
            return f"has the {kind} {', '.join(sorted(found))}, and not {', '.join(sorted(asked))}"
    return ""


class _Engine(Runnable):
    """An engine with its execution context; one run at a time."""

    binds = True

    def __init__(self, engine: Any, log: Any, interface: Interface) -> None:
        import tensorrt
        import torch

        self._engine, self._log = engine, log
        self._context = engine.create_execution_context()
        if self._context is None:
            raise StageError(
                Code.SESSION,
                f"TensorRT cannot prepare the engine: {said(log, 'it gives no reason')}",
                "the GPU may lack memory: nvidia-smi tells what else uses it",
            )
        # Not the default stream, for which TensorRT synchronises more than it has to.
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._host = tensorrt.TensorLocation.HOST
        self._somewhere = torch.empty(1, device="cuda")
        self.provider = f"{NAME} {torch.cuda.get_device_name()}"
        self.active = [self.provider]
        self.inputs = [tensor.name for tensor in interface.inputs]
        self.outputs = [tensor.name for tensor in interface.outputs]
        kinds = {n: engine.get_tensor_dtype(n).name for n in (*self.inputs, *self.outputs)}
        self.types = {n: f"tensor({_TYPES.get(kind, kind)})" for n, kind in kinds.items()}

    def declared(self) -> dict[str, list[int | str | None]]:
        return {
            name: [None if size < 0 else size for size in self._engine.get_tensor_shape(name)]
            for name in self.inputs
        }

    def refuses(self, shapes: Mapping[str, Sequence[int]]) -> str:
        """Sizes outside of the profile that the engine was built with."""
        for name, shape in shapes.items():
            if name not in self.inputs or not self._engine.num_optimization_profiles:
                continue
            least, _, most = (list(d) for d in self._engine.get_tensor_profile_shape(name, 0))
            inside = len(shape) == len(least) and all(
                low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
            )
            if least and not inside:
                return f"the engine was built for {name} of {by(least)} to {by(most)}"
        return ""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        inputs = self._uploaded(feeds)
        outputs = self._bound(inputs)
        self._execute()
        return [outputs[name]().cpu().numpy() for name in self.outputs]

    def prepared(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """A run whose inputs are on the GPU; it binds again, since another may have run between."""
        inputs = self._uploaded(feeds)

        def call() -> None:
            outputs = self._bound(inputs)
            self._execute()
            del outputs  # which have to live until the run is over

        return call

    def _uploaded(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """The inputs where the engine takes them: on the GPU, or, of sizes, in host memory.

        Raises:
            RuntimeError: one is missing, or of another type.
        """
        import torch

        found = {}
        for name in self.inputs:
            if name not in feeds:
                raise RuntimeError(f"the input {name} is missing")
            tensor = torch.tensor(feeds[name])  # a copy, without strides of its own
            wanted = self._dtype(name)
            if tensor.dtype != wanted:
                raise RuntimeError(f"{name} is {tensor.dtype}, and the engine takes {wanted}")
            on_host = self._engine.get_tensor_location(name) == self._host
            found[name] = tensor if on_host else tensor.cuda()
        # The copies are on the default stream, and the engine runs on another.
        torch.cuda.synchronize()
        return found

    def _bound(self, inputs: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
        """Tell the context where everything is; what gives each output once the run is over.

        Raises:
            RuntimeError: the engine was not built for these sizes.
        """
        for name, tensor in inputs.items():
            if not self._context.set_input_shape(name, tuple(tensor.shape)):
                raise RuntimeError(self._refusal(name, tensor.shape))
            self._place(name, tensor)
        if missing := self._context.infer_shapes():
            raise RuntimeError(f"the engine cannot infer the sizes of {', '.join(missing)}")
        return {name: self._output(name) for name in self.outputs}

    def _refusal(self, name: str, shape: Sequence[int]) -> str:
        why = self.refuses({name: list(shape)}) or said(self._log, "it gives no reason")
        return f"TensorRT refuses {name} of {by(shape)}: {why}"

    def _output(self, name: str) -> Callable[[], Any]:
        import torch

        shape, dtype = tuple(self._context.get_tensor_shape(name)), self._dtype(name)
        if any(size < 0 for size in shape):
            # Its size follows from values: the run asks for the memory.
            allocator = _allocator()
            self._context.set_output_allocator(name, allocator)
            return lambda: allocator.tensor(dtype)
        on_host = self._engine.get_tensor_location(name) == self._host
        tensor = torch.empty(shape, dtype=dtype, device="cpu" if on_host else "cuda")
        self._place(name, tensor)
        return lambda: tensor

    def _place(self, name: str, tensor: Any) -> None:
        # An address has to be given for an empty tensor too, which has none.
        address = tensor.data_ptr() or self._somewhere.data_ptr()
        if not self._context.set_tensor_address(name, address):
            raise RuntimeError(f"TensorRT refuses the memory of {name}")

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise RuntimeError(f"TensorRT failed: {said(self._log, 'it gives no reason')}")
        self._stream.synchronize()

    def _dtype(self, name: str) -> Any:
        import torch

        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _TYPES:
            raise RuntimeError(f"{name} is {kind}, which NumPy does not have")
        return getattr(torch, {"FLOAT": "float32"}.get(kind, _TYPES[kind]))


def _allocator() -> Any:
    """Memory for an output whose size TensorRT knows once it has run."""
    import tensorrt
    import torch

    class Allocator(tensorrt.IOutputAllocator):  # type: ignore[misc]
        """The base class is TensorRT's, which is imported here."""

        def __init__(self) -> None:
            tensorrt.IOutputAllocator.__init__(self)
            self._memory = torch.empty(1, dtype=torch.uint8, device="cuda")
            self._shape: tuple[int, ...] = (0,)

        def reallocate_output(
            self, tensor_name: str, memory: int, size: int, alignment: int
        ) -> int:
            """Memory of PyTorch is aligned to 512 bytes, more than TensorRT asks for."""
            if size > self._memory.numel():
                self._memory = torch.empty(size, dtype=torch.uint8, device="cuda")
            return int(self._memory.data_ptr())

        def reallocate_output_async(
            self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Sequence[int]) -> None:
            self._shape = tuple(shape)

        def tensor(self, dtype: Any) -> Any:
            count = 1
            for size in self._shape:
                count *= size
            return self._memory[: count * dtype.itemsize].view(dtype).reshape(self._shape)

    return Allocator()


def by(shape: Sequence[int]) -> str:
    """``2×3×224×224``."""
    return "×".join(map(str, shape)) or "one number"
