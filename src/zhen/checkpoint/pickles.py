"""Reads a pickle of tensors without running it: a walk over its opcodes that knows a few harmless names and no other.

Nothing is imported or called: the names stand for descriptions of tensors, which `torchfile` finds in the file.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from zhen.errors import ZhenError

LARGEST = 32 << 20
"""Bytes of a pickle that are walked at most; the description of a tensor takes about 150."""

STORAGES = {
    "torch DoubleStorage": "F64",
    "torch FloatStorage": "F32",
    "torch HalfStorage": "F16",
    "torch BFloat16Storage": "BF16",
    "torch LongStorage": "I64",
    "torch IntStorage": "I32",
    "torch ShortStorage": "I16",
    "torch CharStorage": "I8",
    "torch ByteStorage": "U8",
    "torch BoolStorage": "BOOL",
    "torch ComplexFloatStorage": "C64",
}
"""PyTorch's name of a typed storage -> the dtype as safetensors names it."""

ORDERED = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
PARAMETER = "torch._utils _rebuild_parameter"
SIZE = "torch Size"
OPAQUE = frozenset(
    {"_codecs encode", "numpy dtype", "numpy ndarray"}
    | {f"numpy.{core}.multiarray {name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")}
)
"""Names that make values which are no tensors and are passed over: NumPy's arrays and numbers of a training's state."""

ALLOWED = frozenset(STORAGES) | {ORDERED, TENSOR, PARAMETER, SIZE} | OPAQUE


class Name(NamedTuple):
    """A name that the pickle would import, `module name`."""

    name: str


class Storage(NamedTuple):
    """A row of elements that lies elsewhere in the file under `key`."""

    dtype: str
    key: str
    elements: int


class Tensor(NamedTuple):
    """A tensor as the pickle describes it; offset and strides count elements of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Opaque:
    """A value that is no tensor, and of no use here."""


def walk(
    data: bytes, file: Path, place: str = "pickle", base: int = 0, storages: dict[str, Storage] | None = None
) -> tuple[Any, int]:
    """(the value that the first pickle in `data` describes, the offset behind it).

    Values are tables, lists, tuples, sets, numbers, strings, Tensor, Storage, Opaque; the storages that are named go
    into `storages`, by key. Raises ZhenError, with the offset of the opcode from `base` on, for every name outside
    ALLOWED, every opcode that makes objects otherwise, and broken data.
    """
    if len(data) > LARGEST:
        raise ZhenError(f"{len(data)} bytes", expected=f"at most {LARGEST}", file=file, place=place, rule="pickle.size")
    machine = _Machine({} if storages is None else storages)
    at = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings of Python 2
            for opcode, argument, position in pickletools.genops(data):
                at = position or 0
                if opcode.name == "STOP":
                    return machine.stopped(), at + 1
                machine.step(opcode.name, argument)
    except _Refused as error:
        raise ZhenError(
            error.found, expected=error.expected, file=file, place=f"{place}, byte {base + at}", rule=error.rule
        ) from error
    except (ValueError, IndexError, TypeError, OverflowError, struct.error, RecursionError) as error:
        found = f"a broken pickle ({str(error)[:80]})"
        raise ZhenError(found, file=file, place=f"{place}, byte {base + at}", rule="pickle.broken") from error
    raise ZhenError("a pickle without an end", file=file, place=place, rule="pickle.broken")


class _Refused(Exception):
    def __init__(self, rule: str, found: str, expected: str) -> None:
        self.rule = f"pickle.{rule}"
        self.found = found
        self.expected = expected


_TENSORS_ONLY = "a pickle of tensors only"
_MARK = object()
_PUSHED = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING", "INT", "LONG", "FLOAT"}
    | {"UNICODE", "STRING"}
)
"""Opcodes whose argument is the value."""
_MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack and the memo of the pickle format, without its powers."""

    def __init__(self, storages: dict[str, Storage]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def stopped(self) -> Any:
        if len(self.stack) != 1 or self.stack[0] is _MARK:
            raise _Refused("broken", f"{len(self.stack)} values at the end", "one")
        return self.stack[0]

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _MADE:
            self.stack.append(_MADE[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self._top()
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            if argument not in self.memo:
                raise _Refused("broken", f"memo {argument} is empty", "one that was filled")
            self.stack.append(self.memo[argument])
        elif name in _TUPLES:
            self._push_tuple(_TUPLES[name])
        else:
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        if name == "TUPLE":
            self.stack.append(tuple(self._to_mark()))
        elif name == "LIST":
            self.stack.append(self._to_mark())
        elif name == "DICT":
            self.stack.append(_table(self._to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = self._to_mark() if name == "APPENDS" else [self._pop()]
            _of(self._top(), list).extend(items)
        elif name == "ADDITEMS":
            items = [_scalar(item) for item in self._to_mark()]
            _of(self._top(), set).update(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if name == "SETITEMS" else [self._pop(), self._pop()][::-1]
            _of(self._top(), dict).update(_table(items))
        elif name == "GLOBAL":
            self._name(argument)
        elif name == "STACK_GLOBAL":
            last, module = self._pop(), self._pop()
            self._name(f"{_of(module, str)} {_of(last, str)}")
        elif name == "BINPERSID":
            storage = _storage(self._pop())
            if self.storages.setdefault(storage.key, storage) != storage:
                raise _Refused("shape", f"storage {storage.key[:40]!r} in two ways", "one dtype and size")
            self.stack.append(storage)
        elif name == "REDUCE":
            arguments, called = self._pop(), self._pop()
            self.stack.append(_called(called, arguments))
        elif name == "BUILD":
            self._pop()
            # the attributes of an OrderedDict (PyTorch's `_metadata`) and NumPy's values are not looked at
            _of(self._top(), dict, Opaque)
        else:
            raise _Refused("opcode", f"uses the opcode {name}", _TENSORS_ONLY)

    def _name(self, name: str) -> None:
        if name not in ALLOWED:
            raise _Refused("name", f"names {name.replace(' ', '.')[:200]}", _TENSORS_ONLY)
        self.stack.append(Name(name))

    def _pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _Refused("broken", "an empty stack", "a value on it")
        return self.stack.pop()

    def _top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _Refused("broken", "an empty stack", "a value on it")
        return self.stack[-1]

    def _push_tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self.stack.append(tuple(values[::-1]))

    def _to_mark(self) -> list[Any]:
        values = []
        while self.stack and self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        if not self.stack:
            raise _Refused("broken", "no mark", "a mark on the stack")
        self.stack.pop()
        return values[::-1]


def _of(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise _Refused("shape", f"a {type(value).__name__} where it can't be", expected)
    return value


def _table(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise _Refused("broken", "a key without a value", "pairs")
    return dict(zip(map(_scalar, items[::2]), items[1::2], strict=True))


def _scalar(key: Any) -> Any:
    # nested tuples would do in Python, but hashing or printing them can take for ever
    return _of(key, str, int, float, bool, bytes, type(None))


def _called(called: Any, arguments: Any) -> Any:
    name = _of(called, Name).name
    _of(arguments, tuple)
    if name in OPAQUE:
        return Opaque()
    if name == ORDERED:
        return _ordered(arguments)
    if name == SIZE and len(arguments) == 1:
        return _sizes(arguments[0])
    if name == TENSOR and len(arguments) in (6, 7):
        storage, offset, shape, strides = arguments[:4]
        return _tensor(_of(storage, Storage), offset, _sizes(shape), _sizes(strides))
    if name == PARAMETER and arguments:
        return _of(arguments[0], Tensor)
    raise _Refused("shape", f"{name.replace(' ', '.')} called with {len(arguments)} values", "its arguments")


def _ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """An OrderedDict: empty, or of a list of pairs, as Python 2 wrote it."""
    pairs = _of(arguments[0], list) if len(arguments) == 1 else []
    if len(arguments) > 1 or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise _Refused("shape", "an OrderedDict of something else", "pairs")
    return _table([value for pair in pairs for value in pair])


def _storage(value: Any) -> Storage:
    """What stands for a storage: ("storage", its type, key, device, elements), and in old files a view or None."""
    if type(value) is not tuple or len(value) not in (5, 6) or value[0] != "storage" or value[5:] not in ((), (None,)):
        raise _Refused("shape", "a reference to something else than a storage", _TENSORS_ONLY)
    kind, key, elements = value[1], value[2], value[4]
    if type(kind) is not Name or kind.name not in STORAGES:
        raise _Refused("shape", "a storage without a type", "one of " + ", ".join(STORAGES))
    return Storage(STORAGES[kind.name], _of(key, str), _sizes((elements,))[0])


def _sizes(value: Any) -> tuple[int, ...]:
    if type(value) is not tuple or len(value) > 64:
        raise _Refused("shape", f"a {type(value).__name__} for sizes", "at most 64 sizes")
    if any(type(item) is not int or not 0 <= item < 1 << 63 for item in value):
        raise _Refused("shape", "sizes that are none", "whole numbers from 0 up")
    return value


def _tensor(storage: Storage, offset: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """Checked: every element lies in its storage, and there are no more of them than the storage has."""
    (offset,) = _sizes((offset,))
    if len(shape) != len(strides):
        raise _Refused("tensor", f"shape {shape}, strides {strides}", "one stride a size")
    count, last = 1, offset
    for size, stride in zip(shape, strides, strict=True):
        count *= size
        last += (size - 1) * stride
        if count > storage.elements and 0 not in shape:
            raise _Refused("tensor", f"shape {shape} in {storage.elements} elements", "no more than are stored")
    if count and last >= storage.elements:
        found = f"shape {shape}, strides {strides} from {offset} on"
        raise _Refused("tensor", found, f"{storage.elements} elements at most")
    return Tensor(storage, offset, shape, strides)
