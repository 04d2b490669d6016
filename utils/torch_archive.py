"""Reads what ``torch.save`` of another program wrote, without importing or calling anything that the file names.

Checkpoints of YOLOv5 hold whole modules. Here a pickle is data: tensors are built, instances of unknown classes become
inert :class:`Record` objects, and a file that names any other callable is refused with that name. Both layouts of
``torch.save`` are read, the archive (since torch 1.6) and the older sequence of pickles.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from utils.errors import UserError

MAX_PICKLE_BYTES = 64 * 2**20  # the pickle of yolov5x6, the largest network of the family, has 0.4 MB
MAX_REPEATED = 2**24  # elements of a tensor that repeats the values of a smaller storage
MAX_DEPTH = 100  # of nested modules and containers

STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in STORAGE_TYPES.values()}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Opcodes that YOLOv5's files never hold: old-style instances, the extension registry, out-of-band buffers.
_REFUSED_OPCODES = {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "PERSID"}


class RefusedError(UserError):
    """A file names something that only running it could need."""


class Record:
    """An instance of a class that is not imported: its name, what it was made from, and its state.

    Attributes:
        kind: ``module.Class`` as the file names it.
        arguments: of its construction.
        state: what the file says of it; of a module the dictionary with ``_modules``, ``_parameters``, ``_buffers``.
    """

    kind = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Record:
        record = super().__new__(cls)
        record.arguments, record.state = arguments, {}
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute of the instance."""
        return self.state.get(name, default) if isinstance(self.state, dict) else default

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class _RecordType(type):
    """Classes of records: a file may make instances of them (NEWOBJ), but not call them as it calls functions."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise _refused(cls.kind)  # type: ignore[attr-defined]


class _Mapping(OrderedDict[Any, Any]):
    """An ordered dictionary whose attributes a file cannot set: ``_metadata`` of state dicts is dropped."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise RefusedError("expected an ordered dictionary without a state of its own")


class _Storage:
    """The bytes behind tensors: filled at once in an archive, at the end of the older layout."""

    def __init__(self, dtype: torch.dtype, key: str, content: bytearray | None = None) -> None:
        self.dtype, self.key, self.content = dtype, key, content

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("expected a storage without a state of its own")


class _Strided:
    """A tensor to be: a view of a storage."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        numbers = (offset, *size, *stride) if isinstance(size, tuple) and isinstance(stride, tuple) else (None,)
        if not isinstance(storage, _Storage) or len(size) != len(stride):
            raise RefusedError("expected a tensor of a storage, an offset, sizes and as many strides")
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise RefusedError("expected whole numbers of at least 0 as sizes and strides of a tensor")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("expected a tensor without a state of its own")

    def tensor(self) -> Tensor:
        """The tensor, with memory of its own.

        Raises:
            UserError: it reaches beyond its storage.
        """
        content = self.storage.content
        if content is None:
            raise UserError(f"the storage {self.storage.key!r} of a tensor is missing")
        values = torch.frombuffer(content, dtype=self.storage.dtype) if content else torch.empty(0)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.size, self.stride, strict=True))
        if math.prod(self.size) == 0:
            return torch.empty(self.size, dtype=self.storage.dtype)
        # strides of 0 repeat values: a few of them must not become gigabytes
        if last >= len(values) or math.prod(self.size) > max(len(values), MAX_REPEATED):
            raise UserError(f"a tensor of shape {list(self.size)} reaches beyond its {len(values)} values")
        return values.as_strided(self.size, self.stride, self.offset).clone(memory_format=torch.contiguous_format)


class _Call:
    """Something that a file may call, and not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("expected a state for an instance but found one for a function")


def _inert(kind: str) -> Callable[..., Record]:
    """A function in place of another: it only notes the arguments."""

    def make(*arguments: Any) -> Record:
        record = Record(*arguments)
        record.kind = kind
        return record

    return make


def _path(*parts: Any) -> str:
    return "/".join(map(str, parts))


def _method(owner: Any, name: Any) -> Record:
    """In place of ``getattr``, which files use to name a method of a class: an inert record of that name."""
    if not isinstance(owner, _RecordType) or not isinstance(name, str):
        raise _refused(f"builtins.getattr of {getattr(owner, 'kind', owner)!s:.60}, {name!s:.60}")
    return _inert(f"{owner.kind}.{name}")()  # type: ignore[attr-defined]


# Everything that a file may call.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _Mapping,
    "collections.defaultdict": lambda *_: _Mapping(),
    "torch._utils._rebuild_tensor": _Strided,
    "torch._utils._rebuild_tensor_v2": _Strided,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.Size": tuple,
    "torch.device": _inert("torch.device"),
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.slice": slice,
    "builtins.complex": complex,
    "builtins.getattr": _method,
    **{f"pathlib.{kind}": _path for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")},
    **{f"pathlib._local.{kind}": _path for kind in ("Path", "PosixPath", "WindowsPath")},
    **{
        f"numpy.{core}.multiarray.{name}": _inert(f"numpy.{name}")
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    },
    "numpy.dtype": _inert("numpy.dtype"),
}
_CALLABLES = {kind: _Call(function) for kind, function in _FUNCTIONS.items()}
# Names of data, not called.
_DATA: dict[str, Any] = {
    **{f"torch.{name}": name for name in STORAGE_TYPES},
    **{f"torch.{name}": dtype for name, dtype in _DTYPES.items()},
    "numpy.ndarray": "numpy.ndarray",
}
# Packages of the standard library and of torch whose classes may stand in a module's state as inert records.
_INERT_PREFIXES = ("torch.nn.modules.", "torch.nn.parameter.", "argparse.Namespace", "types.SimpleNamespace")
_CLOSED_PACKAGES = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "__builtin__", "nt", "posix"}


class _Reader(pickle.Unpickler):
    """An unpickler that finds nothing but the tables above."""

    def __init__(self, file: BinaryIO, load_storage: Callable[[Any], Any]) -> None:
        super().__init__(file, encoding="utf-8")
        self._load_storage = load_storage
        self._types: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the file."""
        kind = f"{module}.{name}".replace("__builtin__.", "builtins.", 1)
        if kind in _CALLABLES:
            return _CALLABLES[kind]
        if kind in _DATA:
            return _DATA[kind]
        if module.split(".")[0] in _CLOSED_PACKAGES and not kind.startswith(_INERT_PREFIXES):
            raise _refused(kind)
        if kind not in self._types:
            self._types[kind] = _RecordType(name.rpartition(".")[2], (Record,), {"kind": kind})
        return self._types[kind]

    def persistent_load(self, pid: Any) -> Any:
        """The storage, or class, that a persistent id stands for."""
        return self._load_storage(pid)


def read_torch_archive(path: str | Path) -> Any:
    """Read a file of ``torch.save``.

    Args:
        path: the file.

    Returns:
        What was saved: dictionaries, lists, numbers, text, CPU tensors in the types of the file, and :class:`Record`
        objects in place of instances of classes.

    Raises:
        RefusedError: the file names a callable, a path or an opcode that it has no business with.
        UserError: the file is damaged, or is no file of ``torch.save``.
    """
    path = Path(path)
    try:
        content = _read_archive(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        return _finished(content, {}, 0)
    except UserError as error:
        raise type(error)(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble over
        raise UserError(f"{path}: damaged, or no file of torch.save: {type(error).__name__}: {error!s:.200}") from None


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        for name, entry in entries.items():
            if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
                raise RefusedError(f"holds an entry with the path {name!r:.80}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise RefusedError(f"holds the compressed entry {name!r:.80}, which torch.save never writes")
        if sum(entry.file_size for entry in entries.values()) > path.stat().st_size:
            raise RefusedError("its entries claim more bytes than the file has")
        pickles = [name for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(pickles) != 1:
            if any(name.endswith("constants.pkl") for name in entries):
                raise UserError("expected a checkpoint but found a TorchScript archive")
            raise UserError("expected an archive of torch.save, with data.pkl, but found another one")
        top = pickles[0].partition("/")[0]
        if f"{top}/constants.pkl" in entries:
            raise UserError("expected a checkpoint but found a TorchScript archive")
        if f"{top}/byteorder" in entries and archive.read(f"{top}/byteorder") != b"little":
            raise UserError("expected little-endian numbers but found another byte order")
        storages: dict[str, _Storage] = {}

        def load_storage(pid: Any) -> _Storage:
            dtype, key = _storage_of(pid)
            name = f"{top}/data/{key}"
            if name not in entries:
                raise RefusedError(f"a tensor names the storage {key!r:.80}, which is not in the file")
            if key not in storages:
                storages[key] = _Storage(dtype, key, bytearray(archive.read(name)))
            return storages[key]

        data = archive.read(pickles[0])
        _check_opcodes(io.BytesIO(data))
        return _Reader(io.BytesIO(data), load_storage).load()


def _read_legacy(path: Path) -> Any:
    """The layout before torch 1.6: five pickles (magic number, version, machine, content, keys), then the storages."""
    with path.open("rb") as file:
        if file.read(1) != b"\x80":
            raise UserError("expected a checkpoint but found a file that torch.save did not write")
        file.seek(0)
        storages: dict[str, _Storage] = {}

        def load_storage(pid: Any) -> Any:
            if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], _RecordType):
                return pid[1]  # a class with its source text, which is left alone
            dtype, key = _storage_of(pid)
            return storages.setdefault(key, _Storage(dtype, key))

        def load() -> Any:
            start = file.tell()
            _check_opcodes(file)
            file.seek(start)
            return _Reader(file, load_storage).load()

        if load() != _LEGACY_MAGIC:
            raise UserError("expected a checkpoint but found a pickle that torch.save did not write")
        load(), load()
        content, keys = load(), load()
        size = path.stat().st_size
        for key in keys:
            if key not in storages:
                raise RefusedError(f"holds the storage {key!r:.80}, which no tensor uses")
            storage = storages[key]
            length = int.from_bytes(file.read(8), "little", signed=True) * storage.dtype.itemsize
            if not 0 <= length <= size - file.tell():
                raise UserError(f"the storage {key!r:.80} claims more bytes than the file has")
            storage.content = bytearray(file.read(length))
        return content


def _storage_of(pid: Any) -> tuple[torch.dtype, str]:
    """Type and key of a persistent id, ``("storage", type, key, location, number)`` and nothing else."""
    if not (isinstance(pid, tuple) and len(pid) >= 4 and pid[0] == "storage"):
        raise RefusedError(f"names something outside the pickle: {pid!r:.80}")
    kind, key = pid[1], pid[2]
    if kind not in STORAGE_TYPES:
        raise RefusedError(f"names a storage of the type {kind!r:.80}")
    if not isinstance(key, str) or not re.fullmatch(r"[0-9]+", key):
        raise RefusedError(f"names a storage by {key!r:.80} instead of a number")
    return STORAGE_TYPES[kind], key


def _check_opcodes(file: BinaryIO) -> None:
    """Look at the opcodes of the next pickle before any of them acts; a memo or a text cannot claim gigabytes.

    Raises:
        UserError: a pickle that is too long, or an opcode that the family's files do not hold.
    """
    start = file.tell()
    for number, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        if opcode.name in _REFUSED_OPCODES:
            raise RefusedError(f"holds the pickle opcode {opcode.name}")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(str(argument)) > number:
            raise RefusedError(f"numbers an entry of its memo {argument} at opcode {number}")
        if opcode.name == "GLOBAL":
            _Reader(io.BytesIO(), _storage_never).find_class(*str(argument).split(" ", 1))
        if position is not None and position - start > MAX_PICKLE_BYTES:
            raise RefusedError(f"its pickle is longer than {MAX_PICKLE_BYTES // 2**20} MiB")


def _storage_never(pid: Any) -> _Storage:
    raise RefusedError(f"names something outside the pickle: {pid!r:.80}")


def _refused(kind: str) -> RefusedError:
    return RefusedError(f"names {kind!s:.120}, which is not trusted; nothing of the file was run")


def _finished(value: Any, done: dict[int, tuple[Any, Any]], depth: int) -> Any:
    """A copy with tensors in place of their descriptions; shared parts stay shared."""
    if depth > MAX_DEPTH:
        raise UserError(f"is nested deeper than {MAX_DEPTH} levels")
    if id(value) in done:
        return done[id(value)][1]
    result: Any = value
    if isinstance(value, _Strided):
        result = value.tensor()
    elif isinstance(value, Record):
        done[id(value)] = (value, value)
        value.state = _finished(value.state, done, depth + 1)
        value.arguments = _finished(value.arguments, done, depth + 1)
    elif isinstance(value, Mapping):
        result = {}
        done[id(value)] = (value, result)
        result.update((key, _finished(entry, done, depth + 1)) for key, entry in value.items())
    elif isinstance(value, list):
        result = []
        done[id(value)] = (value, result)
        result.extend(_finished(entry, done, depth + 1) for entry in value)
    elif type(value) is tuple:
        result = tuple(_finished(entry, done, depth + 1) for entry in value)
    done[id(value)] = (value, result)  # with the value, so that no other takes its id
    return result
