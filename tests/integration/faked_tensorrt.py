"""A stand-in for the package ``tensorrt``, whose engines are ONNX files that ONNX Runtime runs.

It has the names of the real API and no others (``NAMES``), refuses what the real one refuses, and
reads inputs from and writes outputs to the addresses that it is given. So what it shows is that
the plugins call TensorRT as its documentation says, and nothing about TensorRT.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import torch

HEADER = b"ENGINE"
GPU = "Fake GPU"
TIMINGS = b"timed on Fake GPU"


class BuilderFlag(enum.IntEnum):
    TF32 = 7


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 0


ProfilingVerbosity = enum.Enum("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")
MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE")
TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
TensorLocation = enum.Enum("TensorLocation", "DEVICE HOST")
DataType = enum.Enum("DataType", "FLOAT HALF INT64 INT32 BOOL DOUBLE")
_KINDS = {
    1: DataType.FLOAT, 10: DataType.HALF, 7: DataType.INT64, 6: DataType.INT32, 9: DataType.BOOL,
    11: DataType.DOUBLE,
}  # fmt: skip
_WORDS = {DataType.FLOAT: "Float", DataType.HALF: "Half"}


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


class IOutputAllocator:
    pass


def _error(log: ILogger, words: str) -> None:
    log.log(ILogger.ERROR, words)


class Tensor:
    is_shape_tensor = False

    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        dims = value.type.tensor_type.shape.dim
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)


class Network:
    file: Path
    inputs: list[Tensor]

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]


class ParserError:
    def desc(self) -> str:
        return "No importer registered for op: Refused"

    def node_name(self) -> str:
        return "/refused"

    def node_operator(self) -> str:
        return "Refused"


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, logger: ILogger) -> None:
        self._network = network

    def parse_from_file(self, model: str) -> bool:
        graph = onnx.load(model).graph
        held = {tensor.name for tensor in graph.initializer}
        self._network.file = Path(model)
        self._network.inputs = [Tensor(v) for v in graph.input if v.name not in held]
        self.num_errors = sum(node.op_type == "Refused" for node in graph.node)
        return not self.num_errors

    def get_error(self, index: int) -> ParserError:
        return ParserError()


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(
        self,
        input: str,  # noqa: A002 - TensorRT's names
        min: Sequence[int],  # noqa: A002
        opt: Sequence[int],
        max: Sequence[int],  # noqa: A002
    ) -> None:
        self.shapes[input] = (tuple(min), tuple(opt), tuple(max))


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content or TIMINGS


class Config:
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY

    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}  # on by default
        self.profiles: list[Profile] = []
        self.pools: dict[Any, int] = {}

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.pools[pool] = pool_size

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache:
        return TimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        return ignore_mismatch or cache.content in (b"", TIMINGS)

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Builder:
    last: Config

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> Network:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self) -> Config:
        Builder.last = Config()
        return Builder.last

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        (profile,) = config.profiles
        for tensor in network.inputs:
            ranges = profile.shapes[tensor.name]
            if any(
                d not in (-1, size) for r in ranges for d, size in zip(tensor.shape, r, strict=True)
            ):
                _error(self._logger, "Error Code 4: static dimension mismatch in the profile")
                return None
        meta = {
            "profile": profile.shapes,
            "tf32": BuilderFlag.TF32 in config.flags,
            "detailed": config.profiling_verbosity is ProfilingVerbosity.DETAILED,
        }
        return HEADER + json.dumps(meta).encode() + b"\0" + network.file.read_bytes()


class Inspector:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_engine_information(self, format: Any) -> str:  # noqa: A002
        assert format is LayerInformationFormat.JSON
        engine = self._engine
        if not engine.meta["detailed"]:
            return json.dumps({"Layers": [node.name for node in engine.model.graph.node]})
        halves = {t.name for t in engine.model.graph.initializer if t.data_type == 10}
        tactic = "xmma_tf32f32" if engine.meta["tf32"] else "sgemm"
        layers = [
            {
                "Name": node.name,
                "Outputs": [{"DataType": "Half" if set(node.input) & halves else "Float"}],
                "TacticName": tactic,
            }
            for node in engine.model.graph.node
        ]
        return json.dumps({"Layers": layers})


class Engine:
    num_optimization_profiles = 1

    def __init__(self, meta: dict[str, Any], content: bytes) -> None:
        self.meta, self.model = meta, onnx.load_from_string(content)
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        graph = self.model.graph
        self.values = {v.name: v for v in [*graph.input, *graph.output]}
        self._inputs = [v.name for v in self.session.get_inputs()]
        self._names = [*self._inputs, *(v.name for v in graph.output)]

    @property
    def num_io_tensors(self) -> int:
        return len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return _KINDS[self.values[name].type.tensor_type.elem_type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return Tensor(self.values[name]).shape

    def get_tensor_location(self, name: str) -> Any:
        return TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.meta["profile"][name]]

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    """Outputs whose sizes the graph does not know go through the allocator, as NonZero's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        inside = len(shape) == len(least) and all(
            low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
        )
        if inside:
            self._shapes[name] = shape
        return inside

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._places[name] = memory
        return memory != 0

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._allocators[name] = output_allocator
        return True

    def infer_shapes(self) -> list[str]:
        return [n for n in self._engine._inputs if n not in self._shapes or n not in self._places]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        graph = self._engine.model.graph
        if any(node.op_type == "NonZero" and name in node.output for node in graph.node):
            return (-1, -1)
        found = self._run()[self._engine._names.index(name) - len(self._engine._inputs)]
        return tuple(found.shape)

    def execute_async_v3(self, stream_handle: int) -> bool:
        names = self._engine._names[len(self._engine._inputs) :]
        for name, array in zip(names, self._run(), strict=True):
            place = self._places.get(name)
            if name in self._allocators:
                allocator = self._allocators[name]
                place = allocator.reallocate_output_async(name, 0, array.nbytes, 1, stream_handle)
                allocator.notify_shape(name, array.shape)
            assert place
            ctypes.memmove(place, np.ascontiguousarray(array).ctypes.data, array.nbytes)
        return True

    def _run(self) -> list[Any]:
        feeds = {}
        for name, shape in self._shapes.items():
            kind = self._engine.values[name].type.tensor_type.elem_type
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
            size = int(np.prod(shape)) * dtype.itemsize
            content = ctypes.string_at(self._places[name], size)
            feeds[name] = np.frombuffer(content, dtype).reshape(shape)
        return list(self._engine.session.run(None, feeds))


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        head, _, content = serialized_engine.partition(b"\0")
        if not head.startswith(HEADER):
            _error(self._logger, "Error Code 1: Serialization (magic tag does not match)")
            return None
        return Engine(json.loads(head.removeprefix(HEADER)), content)


_CLASSES: dict[str, Any] = {
    "BuilderFlag": BuilderFlag, "NetworkDefinitionCreationFlag": NetworkDefinitionCreationFlag,
    "ProfilingVerbosity": ProfilingVerbosity, "LayerInformationFormat": LayerInformationFormat,
    "MemoryPoolType": MemoryPoolType, "TensorIOMode": TensorIOMode,
    "TensorLocation": TensorLocation, "ILogger": ILogger, "IOutputAllocator": IOutputAllocator,
    "Builder": Builder, "Runtime": Runtime, "OnnxParser": OnnxParser,
}  # fmt: skip
# What TensorRT calls the classes here that nobody makes an object of.
_INNER = {
    "INetworkDefinition": Network, "ITensor": Tensor, "ParserError": ParserError,
    "IOptimizationProfile": Profile, "ITimingCache": TimingCache, "IBuilderConfig": Config,
    "ICudaEngine": Engine, "IExecutionContext": Context, "EngineInspector": Inspector,
}  # fmt: skip
_OWN = {"last", "file", "inputs", "shapes", "content", "flags", "profiles", "pools", "meta"}
NAMES = sorted(
    {
        f"{name}.{part}"
        for name, kind in (_CLASSES | _INNER).items()
        for part in vars(kind)
        if not part.startswith("_") and part not in _OWN
    }
    | {"DataType.FLOAT", "DataType.HALF", "DataType.INT64", "DataType.INT32", "DataType.BOOL"}
    | {"ITensor.name"}
)
"""What the plugins may use of the package: ``Builder.create_network``."""


@contextmanager
def installed(version: str = "11.4.0.106") -> Iterator[ModuleType]:
    """``import tensorrt`` gives the stand-in, and PyTorch's memory on the GPU is the CPU's."""
    module = ModuleType("tensorrt")
    # `find_spec` asks for it.
    spec = ModuleSpec("tensorrt", None)
    module.__dict__.update(_CLASSES, __version__=version, __spec__=spec)
    empty: Callable[..., torch.Tensor] = torch.empty
    with (
        mock.patch.dict(sys.modules, {"tensorrt": module}),
        mock.patch.object(torch, "empty", lambda *a, device=None, **more: empty(*a, **more)),
        mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor),
        mock.patch.object(torch.cuda, "Stream", mock.MagicMock),
        mock.patch.object(torch.cuda, "synchronize"),
        mock.patch.object(torch.cuda, "get_device_name", return_value=GPU),
        mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0)),
    ):
        yield module
