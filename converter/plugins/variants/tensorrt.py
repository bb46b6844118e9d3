"""TensorRT: an engine for the GPU of this machine, built from the ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from converter.layout.files import sha256
from converter.model.base import Frozen
from converter.model.spec import ExportSpec
from converter.plugins.providers import tensorrt as runtime
from converter.plugins.variants import Given

if TYPE_CHECKING:
    # The parent process reads the options, and never imports numpy.
    from numpy.typing import NDArray

FORMAT = "tensorrt"
PRECISION = "float32"
PACKAGES = runtime.PACKAGES
SUFFIX = ".engine"
COMPANIONS = (".timing",)
PROVIDER = "tensorrt"

_MIB = 1 << 20


class Options(Frozen):
    """What the engine is built with. TF32 is off, and types are those of the ONNX file.

    Attributes:
        fp16: weights and computation in float16, by the conversion of the variant ``fp16``; inputs
            and outputs stay float32.
        profile: sizes of a symbol that the engine takes: least, best and most. What is not stated
            is taken from the sizes that are verified; the best is that of the traced example.
            Example: ``{batch: [1, 8, 32]}``.
        timing_cache: a timing cache to build with, such as the file ``.timing`` beside an engine:
            with the timings of a build the same choices are made again. Example:
            ``engines/resnet18.tensorrt.timing``.
        workspace_mb: memory of the GPU that a layer may use while it runs; by default all of it.
    """

    fp16: bool = False
    profile: dict[str, list[int]] = Field(default_factory=dict)
    timing_cache: str | None = None
    workspace_mb: int | None = Field(default=None, gt=0)

    @field_validator("profile")
    @classmethod
    def _is_ordered(cls, value: dict[str, list[int]]) -> dict[str, list[int]]:
        for symbol, sizes in value.items():
            if len(sizes) != 3 or sizes != sorted(sizes) or sizes[0] < 0:
                raise ValueError(f"{symbol}: three sizes are needed, least, best and most")
        return value

    @field_validator("timing_cache")
    @classmethod
    def _is_absolute(cls, value: str | None) -> str | None:
        # A job may run in another folder than the one that the path was written for.
        return value if value is None else str(Path(value).absolute())


def keeps_io(options: Options) -> bool:
    return True


def precision(options: Options) -> str:
    return "float16" if options.fp16 else PRECISION


def decided_by(options: Options) -> dict[str, str]:
    """What decides the engine beside the options' own words, for the key of its job."""
    if options.timing_cache is None:
        return {}
    path = Path(options.timing_cache)
    return {"timing_cache": sha256(path) if path.is_file() else "absent"}


@dataclass(frozen=True)
class Range:
    """The shapes of an input that an engine takes: least, best and most sizes of each axis."""

    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]

    @property
    def is_fixed(self) -> bool:
        return self.least == self.most

    def __str__(self) -> str:
        if self.is_fixed:
            return runtime.by(self.best)
        least, best, most = map(runtime.by, (self.least, self.best, self.most))
        return f"{least} to {most}, best at {best}"


def profile(
    shapes: Mapping[str, Sequence[int | str | None]],
    cases: Sequence[Mapping[str, Sequence[int]]],
    stated: Mapping[str, Sequence[int]],
) -> dict[str, Range]:
    """The shapes of each input that an engine is to take.

    Args:
        shapes: as the ONNX file declares them.
        cases: the shapes of all verified cases, the traced example first.
        stated: symbol → least, best and most size.

    Raises:
        ValueError: a stated symbol is none of the file's, or leaves the traced example out.
    """
    symbols = {size for shape in shapes.values() for size in shape if isinstance(size, str)}
    if unknown := sorted(set(stated) - symbols):
        known = ", ".join(sorted(symbols)) or "none"
        raise ValueError(f"profile: {', '.join(unknown)} is no dynamic axis; the file has: {known}")
    found = {}
    for name, declared in shapes.items():
        axes = []
        for axis, size in enumerate(declared):
            seen = [case[name][axis] for case in cases]
            least, best, most = min(seen), seen[0], max(seen)
            if isinstance(size, str) and size in stated:
                least, best, most = stated[size]
                if not least <= seen[0] <= most:
                    raise ValueError(
                        f"profile: {size} of {least} to {most} leaves out the traced {seen[0]}"
                    )
            axes.append((least, best, most))
        columns = zip(*axes, strict=True) if axes else ((), (), ())
        found[name] = Range(*(tuple(column) for column in columns))
    return found


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Build the engine; its timing cache lies beside it.

    Raises:
        ValueError: TensorRT lacks an operator, or refuses to build; the timing cache is another
            one's.
    """
    import tensorrt

    ranges = profile(
        {tensor.name: tensor.shape for tensor in given.interface.inputs},
        [{name: array.shape for name, array in case.items()} for case in given.cases],
        options.profile,
    )
    log = runtime.logger()
    builder = tensorrt.Builder(log)
    # TensorRT 11 knows no other networks; 10 has to be asked.
    strictly = 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strictly)
    _parse(network, log, _source(parent, target, options))
    config = builder.create_builder_config()
    _configure(config, options)
    cache = _timings(config, options)
    _add_profile(builder, config, network, ranges, given.cases)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise ValueError(f"TensorRT builds no engine: {runtime.said(log, 'the log has the rest')}")
    target.write_bytes(built)
    target.with_suffix(COMPANIONS[0]).write_bytes(cache.serialize())
    _tell(given, ranges)


def _source(parent: Path, target: Path, options: Options) -> Path:
    """The ONNX file to build from: the types of its tensors are those of the engine."""
    if not options.fp16:
        return parent
    import tempfile

    import onnx

    from converter.plugins.variants._reduced import convert
    from converter.worker.inputs.reduced import FLOAT16
    from converter.worker.onnxfile import publishing

    model = convert(
        onnx.load(parent), FLOAT16, keep_io_types=True, op_block_list=[], node_block_list=[]
    )
    folder = Path(tempfile.mkdtemp())  # of this call: it goes with it
    publishing.save(model, folder / parent.name, ExportSpec())
    return folder / parent.name


def _parse(network: Any, log: Any, file: Path) -> None:
    """Read an ONNX file into a network.

    Raises:
        ValueError: TensorRT lacks an operator.
    """
    import tensorrt

    parser = tensorrt.OnnxParser(network, log)
    if parser.parse_from_file(str(file)):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    words = [
        f"{error.node_operator()} {error.node_name()}: {' '.join(error.desc().split())}"
        for error in errors
    ]
    reason = words[0] if words else runtime.said(log, "it gives no reason")
    more = f"; and {len(words) - 1} more" if len(words) > 1 else ""
    raise ValueError(f"TensorRT does not take the file: {reason}{more}")


def _configure(config: Any, options: Options) -> None:
    import tensorrt

    # On by default; it keeps 10 bits of the mantissa.
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    # What says afterwards what each layer computes in.
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
    if options.workspace_mb is not None:
        pool = tensorrt.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, options.workspace_mb * _MIB)


def _timings(config: Any, options: Options) -> Any:
    """The timing cache that the build reads and fills.

    Raises:
        ValueError: it is not there, or of another GPU, version or options.
    """
    content = b""
    if options.timing_cache is not None:
        try:
            content = Path(options.timing_cache).read_bytes()
        except OSError as error:
            raise ValueError(f"timing_cache: {error}") from error
    cache = config.create_timing_cache(content)
    # Of another model of GPU it would name kernels that are not the fastest here, or none.
    if cache is None or not config.set_timing_cache(cache, False):
        raise ValueError(
            f"timing_cache: {options.timing_cache} is of another GPU, or of another version of "
            "TensorRT: leave it out, and take the .timing file beside the engine that is built then"
        )
    return cache


def _add_profile(
    builder: Any,
    config: Any,
    network: Any,
    ranges: Mapping[str, Range],
    cases: Sequence[Mapping[str, NDArray[Any]]],
) -> None:
    """Tell the builder which shapes and, of sizes that are inputs, which values there will be.

    Raises:
        ValueError: TensorRT refuses them.
    """
    wanted = builder.create_optimization_profile()
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for tensor in inputs:
        if tensor.is_shape_tensor:
            values = [case[tensor.name].reshape(-1).tolist() for case in cases]
            low, high = (list(map(pick, zip(*values, strict=True))) for pick in (min, max))
            wanted.set_shape_input(tensor.name, low, values[0], high)
        else:
            found = ranges[tensor.name]
            wanted.set_shape(tensor.name, found.least, found.best, found.most)
    # A network without dynamic axes needs none, and takes one.
    if config.add_optimization_profile(wanted) < 0:
        told = "; ".join(f"{name}: {found}" for name, found in ranges.items())
        raise ValueError(f"TensorRT refuses the sizes {told}")


def _tell(given: Given, ranges: Mapping[str, Range]) -> None:
    tools = runtime.device()
    notes = [
        f"runs on {tools['gpu']} with TensorRT {tools['tensorrt']} alone: build it anew for another"
    ]
    notes += [f"{name}: {found}" for name, found in ranges.items() if not found.is_fixed]
    given.made = given.made.model_copy(update={"tools": tools, "notes": notes})
