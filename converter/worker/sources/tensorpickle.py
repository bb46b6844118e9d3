"""Reads the tensors of a checkpoint file that ``torch.load(weights_only=True)`` refuses.

What Lightning, mmcv or a script of one's own save beside the weights are arguments, callbacks and
numbers of NumPy: objects, which a pickle makes by calling what it names. Here nothing that a file
names is imported or called, and no attribute of anything is read or set. An interpreter of our own
goes through the opcodes: containers become ``dict``, ``list`` and ``tuple``, tensors are built from
the bytes of their storages by the code below, and each other object stays an ``Opaque``.

A file that names what no checkpoint needs (``os.system``, ``builtins.eval``) is refused as a
whole, although it could do nothing: who made it meant it to run.
"""

from __future__ import annotations

import builtins
import io
import mmap
import pickletools
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

# What torch.save wrote at the front of a file before it wrote zip archives (torch 1.6).
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
# The names of storages are older than dtypes.
_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip
# Modules of the standard library whose objects are data. All others of it run programs, open files
# or lead to what does.
_DATA = {
    "_codecs", "_collections", "_io", "_pydatetime", "_random", "_strptime", "abc", "argparse",
    "array", "collections", "copyreg", "dataclasses", "datetime", "decimal", "enum", "fractions",
    "functools", "io", "ipaddress", "logging", "numbers", "pathlib", "random", "re", "string",
    "time", "types", "typing", "uuid", "weakref", "zoneinfo",
}  # fmt: skip
# Beside classes, which are data too. How an enumeration (Python 3.11) and a method are pickled.
_HARMLESS = {"getattr", "NotImplemented", "Ellipsis"}


class UnsafeError(ValueError):
    """The file names what runs programs; nothing of it was run.

    Attributes:
        name: what it names.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(eq=False)
class Opaque:
    """An object that was not made.

    Attributes:
        name: of its class or of the function that makes it.
        holds: its arguments, its state and its items.
    """

    name: str
    holds: list[object] = field(default_factory=list)

    @property
    def is_module(self) -> bool:
        """Whether it is a pickled ``nn.Module``."""
        return any(isinstance(part, dict) and "_parameters" in part for part in self.holds)


@dataclass(frozen=True)
class _Name:
    path: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    start: int = 0


@dataclass(frozen=True)
class _Planned:
    """A tensor whose storage is still to be read."""

    storage: _Storage
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


Bytes = Callable[[str], bytearray]


def read(path: Path) -> object:
    """What a file of ``torch.save`` holds, with each tensor that a mapping holds.

    Raises:
        UnsafeError: it names what runs programs.
        ValueError, LookupError, TypeError, RuntimeError, zipfile.BadZipFile: it is damaged, or
            none.
    """
    with warnings.catch_warnings():
        # pickletools warns of odd escapes in a damaged text (Python 3.12).
        warnings.simplefilter("ignore", DeprecationWarning)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _of_archive(archive)
        # Mapped, so that a damaged length asks for no more memory than the file has.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _of_legacy(data)


def _of_archive(archive: zipfile.ZipFile) -> object:
    pickled = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
    folder = pickled.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order).decode("ascii") != sys.byteorder:
        raise ValueError(f"the byte order of this machine is {sys.byteorder}, the file has another")
    content = _Machine().run(io.BytesIO(archive.read(pickled)))

    def bytes_of(key: str) -> bytearray:
        return bytearray(archive.read(f"{folder}data/{key}"))

    return _Tensors(bytes_of).real(content)


def _of_legacy(file: mmap.mmap) -> object:
    """A file from before torch 1.6: pickles one after the other, then the storages."""
    magic, protocol = _Machine().run(file), None
    if magic == _MAGIC:
        protocol = _Machine().run(file)
        _Machine().run(file)  # what machine wrote it
    if protocol != _PROTOCOL:
        raise ValueError("a pickle that torch.save did not write")
    machine = _Machine()
    content, keys = machine.run(file), _Machine().run(file)
    if not isinstance(keys, list):
        raise ValueError("no list of storages")
    found: dict[str, bytearray] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        length = count * machine.storages[key].itemsize
        if not 0 <= length <= len(file) - file.tell():
            raise ValueError("a storage is longer than the file")
        found[key] = bytearray(file.read(length))
    return _Tensors(found.__getitem__).real(content)


class _Tensors:
    """Makes planned tensors real; a storage that several share is read once."""

    def __init__(self, bytes_of: Bytes) -> None:
        self._bytes_of = bytes_of
        self._read: dict[str, bytearray] = {}
        self._mappings: dict[int, dict[object, object]] = {}

    def real(self, value: object) -> object:
        """The tensors that are values of mappings, also of nested ones: what a state dict is."""
        if isinstance(value, _Planned):
            return self._tensor(value)
        if not isinstance(value, dict):
            return value
        # A mapping may hold itself.
        if (known := self._mappings.get(id(value))) is not None:
            return known
        made = self._mappings[id(value)] = {}
        made.update((key, self.real(item)) for key, item in value.items())
        return made

    def _tensor(self, planned: _Planned) -> Tensor:
        key = planned.storage.key
        if key not in self._read:
            self._read[key] = self._bytes_of(key)
        data = self._read[key]
        whole = len(data) - len(data) % planned.dtype.itemsize
        flat = torch.empty(0, dtype=planned.dtype)
        if whole:
            flat = torch.frombuffer(memoryview(data)[:whole], dtype=planned.dtype)
        size, stride = planned.size, planned.stride
        offset = planned.storage.start + planned.offset
        if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
            raise ValueError("a tensor with a negative size")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        # as_strided would read beyond the storage.
        if 0 not in size and last >= flat.numel():
            raise ValueError("a tensor is longer than its storage")
        return flat.as_strided(size, stride, 0 if 0 in size else offset)


class _Machine:
    """Goes through the opcodes of one pickle.

    Attributes:
        storages: the dtype of each storage that was named.
    """

    def __init__(self) -> None:
        self.storages: dict[str, torch.dtype] = {}
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._protocol = 0

    def run(self, file: io.BytesIO | mmap.mmap) -> object:
        """What the pickle at the place of the file stands for."""
        # genops reads opcodes and calls nothing; it reads no byte beyond the last one.
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], file)):
            if opcode.name == "STOP":
                break
            if opcode.name in _CONSTANTS:
                self._push(argument)
            else:
                _OPCODES[opcode.name](self, argument)
        return self._stack.pop()

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _marked(self) -> list[Any]:
        """What stands above the last mark, which is taken away."""
        items = self._stack
        self._stack = self._below.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _dup(self, _: Any) -> None:
        self._push(self._stack[-1])

    def _pop(self, _: Any) -> None:
        # In front of a mark it is the mark.
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _proto(self, argument: int) -> None:
        self._protocol = argument

    def _put(self, argument: int | None) -> None:
        place = len(self._memo) if argument is None else int(argument)
        self._memo[place] = self._stack[-1]

    def _get(self, argument: int) -> None:
        self._push(self._memo[int(argument)])

    def _tuple_of(self, count: int) -> None:
        items = [self._stack.pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _dict(self, _: Any) -> None:
        items = self._marked()
        self._push({})
        self._set(items)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Opaque):
            target.holds.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif isinstance(target, dict):
            target.update(zip(items[::2], items[1::2], strict=True))
        else:
            raise TypeError("items for what is no mapping")

    def _add(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Opaque):
            target.holds.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(items)
        else:
            raise TypeError("items for what is no list")

    def _name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no text")
        if self._protocol < 3:  # written with the names of Python 2
            module, name = NAME_MAPPING.get((module, name), (module, name))
            module = IMPORT_MAPPING.get(module, module)
        if not _is_data(module, name):
            raise UnsafeError(f"{module}.{name}")
        self._push(_Name(f"{module}.{name}"))

    def _global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _inst(self, argument: str) -> None:
        arguments = tuple(self._marked())
        self._global(argument)
        self._push(_made(self._stack.pop(), arguments))

    def _obj(self, _: Any) -> None:
        made, *arguments = self._marked()
        self._push(_made(made, tuple(arguments)))

    def _reduce(self, _: Any) -> None:
        arguments, made = self._stack.pop(), self._stack.pop()
        self._push(_made(made, arguments))

    def _newobj_ex(self, _: Any) -> None:
        keywords, arguments, made = (self._stack.pop() for _ in range(3))
        self._push(Opaque(_called(made), [arguments, keywords]))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        # Attributes of anything else are of no use: hooks of a tensor, `_metadata` of a state dict.
        if isinstance(self._stack[-1], Opaque):
            self._stack[-1].holds.append(state)

    def _persistent(self, _: Any) -> None:
        kind, storage, key, _place, *more = self._stack.pop()
        if kind == "module":  # a class, with its source: in files from before torch 1.6
            self._push(storage)
            return
        if kind != "storage" or not isinstance(storage, _Name) or not isinstance(key, str):
            raise ValueError("what is kept beside the pickle is no storage")
        dtype = _STORAGES[storage.path.rpartition(".")[2]]
        self.storages[key] = dtype
        # Before torch 0.4 a storage could be a part of another one: its key, where, how long.
        view = more[1] if len(more) > 1 and more[1] is not None else (None, 0, None)
        self._push(_Storage(key, dtype, _whole(view[1])))

    def _extension(self, argument: int) -> None:
        self._push(_Name(f"extension {argument}"))


def _is_data(module: str, name: str) -> bool:
    """Whether an object of that name may be in a checkpoint. It will not be made."""
    if module == "builtins":
        return name in _HARMLESS or isinstance(vars(builtins).get(name), type)
    # `torch.serialization` and `os.system` is a way to write `os.system`.
    tops = {module.partition(".")[0], *name.split(".")[:-1]}
    return not any(top in sys.stdlib_module_names and top not in _DATA for top in tops)


def _called(made: object) -> str:
    if isinstance(made, _Name):
        return made.path
    return made.name if isinstance(made, Opaque) else "an object"


def _made(made: object, arguments: object) -> object:
    """What a call would give: a tensor or a container where that is known, else an ``Opaque``."""
    maker = _MAKERS.get(made.path) if isinstance(made, _Name) else None
    if maker is not None and isinstance(arguments, tuple):
        return maker(*arguments)
    # What makes an object of a class that is its first argument.
    if _called(made).startswith("copyreg.") and isinstance(arguments, tuple) and arguments:
        made = arguments[0]
    return Opaque(_called(made), [arguments])


def _rebuilt(storage: object, offset: object, size: object, stride: object, *_: object) -> object:
    """``torch._utils._rebuild_tensor`` and ``_rebuild_tensor_v2``."""
    if not isinstance(storage, _Storage):
        return Opaque("torch.Tensor")
    return _Planned(storage, storage.dtype, _whole(offset), _sizes(size), _sizes(stride))


def _rebuilt_v3(
    storage: object, offset: object, size: object, stride: object, *more: object
) -> object:
    """``torch._utils._rebuild_tensor_v3``: of dtypes that have no storage of their own."""
    made = _rebuilt(storage, offset, size, stride)
    dtype = next((one for one in more if isinstance(one, _Name)), None)
    if not isinstance(made, _Planned) or dtype is None:
        raise ValueError("a tensor without a dtype")
    return _Planned(made.storage, _DTYPES[dtype.path], made.offset, made.size, made.stride)


def _subclass(function: object, _kind: object, arguments: object, *_: object) -> object:
    """``torch._tensor._rebuild_from_type_v2``: the tensor, without what its class adds."""
    return _made(function, arguments)


def _ordered(*arguments: object) -> object:
    found: dict[object, object] = {}
    for part in arguments[:1]:
        # Python 2 wrote a list of pairs.
        if isinstance(part, list | dict):
            found.update(part)
    return found


def _first(value: object = None, *_: object) -> object:
    return value


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple | list):
        raise TypeError("sizes that are no list")
    return tuple(_whole(one) for one in value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or not -(2**62) < value < 2**62:
        raise TypeError("a size that is no number")
    return value


_MAKERS: Mapping[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _rebuilt,
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_tensor_v3": _rebuilt_v3,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch.Size": _first,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _ordered,
    # Its factory is its one argument.
    "collections.defaultdict": lambda *_: {},
    "builtins.dict": _ordered,
}
_CONSTANTS = {
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4",
    "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_OPCODES: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine._proto,
    "FRAME": lambda machine, _: None,
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._pop_mark,
    "DUP": _Machine._dup,
    "EMPTY_LIST": lambda machine, _: machine._push([]),
    "EMPTY_DICT": lambda machine, _: machine._push({}),
    "EMPTY_TUPLE": lambda machine, _: machine._push(()),
    "EMPTY_SET": lambda machine, _: machine._push(set()),
    "LIST": lambda machine, _: machine._push(machine._marked()),
    "TUPLE": lambda machine, _: machine._push(tuple(machine._marked())),
    "FROZENSET": lambda machine, _: machine._push(frozenset(machine._marked())),
    "DICT": _Machine._dict,
    "TUPLE1": lambda machine, _: machine._tuple_of(1),
    "TUPLE2": lambda machine, _: machine._tuple_of(2),
    "TUPLE3": lambda machine, _: machine._tuple_of(3),
    "APPEND": lambda machine, _: machine._add([machine._stack.pop()]),
    "APPENDS": lambda machine, _: machine._add(machine._marked()),
    "ADDITEMS": lambda machine, _: machine._add(machine._marked()),
    "SETITEM": lambda machine, _: machine._set([machine._stack.pop(), machine._stack.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine._set(machine._marked()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _Machine._extension),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine._reduce),
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "INST": _Machine._inst,
    "OBJ": _Machine._obj,
    "NEWOBJ_EX": _Machine._newobj_ex,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._persistent,
}
