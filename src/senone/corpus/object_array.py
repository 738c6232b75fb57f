"""Where each utterance of a ``.npy`` object array lies in its file, found without unpickling anything.

``np.save`` writes an object array as a pickle, and a pickle is a program. Here it is read as data: a small
stack machine follows the few opcodes that numpy arrays are made of, seeks past their raw bytes, and
remembers where they are. Nothing of the file is ever called, so nothing of it can be executed; and since
only places are kept, memory does not grow with the size of the file. Files by Python 2 and 3, pickle
protocols 2 to 5, read alike; so do plain (U, T, F) arrays, to which equal-length utterances collapse.
"""

import math
import pickletools
import re
import struct
import tokenize
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array inside a file: ``shape`` items of ``dtype`` from byte ``offset`` on, ``size`` bytes long."""

    offset: int
    size: int
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool = False
    encoded: bool = False  # raw bytes as UTF-8 of Latin-1: protocol 2 written by Python 3

    def read(self, file: BinaryIO) -> np.ndarray:
        """The array itself, in its own shape and type."""
        file.seek(self.offset)
        raw = file.read(self.size)
        if self.encoded:
            raw = raw.decode().encode("latin-1")
        array = np.frombuffer(raw, self.dtype, math.prod(self.shape))
        return array.reshape(self.shape, order="F" if self.fortran else "C")


def index_arrays(path: Path) -> list[StoredArray]:
    """The places of a file's utterances, in file order.

    Raises ValueError, naming the file, where it is no ``.npy`` file, is cut short, holds anything but
    arrays of numbers, or asks for anything but numpy's own reconstruction of them.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version, np.lib.format.read_array_header_2_0)
            shape, fortran, dtype = read_header(file)
        except (ValueError, tokenize.TokenError) as error:  # numpy lets the second out
            file.seek(0)
            raise ValueError(
                f"{path.name} is not a .npy file: it starts with {file.read(16)!r} ({error})"
            ) from None
        if dtype.hasobject:
            return _PickleIndex(path.name, file, path.stat().st_size).run()
        return _index_plain(path, file.tell(), shape, fortran, dtype)


def _index_plain(
    path: Path, start: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype
) -> list[StoredArray]:
    """Equal-length utterances saved as one (U, T, F) or (U, T) array: a place for each of the U."""
    if fortran or len(shape) < 2:
        layout = "in Fortran order" if fortran else "of single numbers"
        raise ValueError(f"{path.name}: one array {shape} {layout}; expected an array of utterances")
    size = math.prod(shape[1:]) * dtype.itemsize
    needed, there = start + shape[0] * size, path.stat().st_size
    if there < needed:
        raise ValueError(f"{path.name} is cut short: {needed} bytes expected, {there} there")
    return [StoredArray(start + u * size, size, dtype, tuple(shape[1:])) for u in range(shape[0])]


@dataclass(slots=True)
class _Blob:
    """Bytes left in the file; the content is kept only while it is short enough to be a name."""

    offset: int
    size: int
    content: bytes
    encoded: bool = False

    def __str__(self) -> str:
        return self.content.decode("latin-1")


@dataclass(slots=True)
class _Dtype:
    name: str
    byte_order: str = "="

    def build(self) -> np.dtype:
        if not re.fullmatch("[fiub][0-9]{1,2}", self.name):
            raise ValueError(f"it holds items of type {self.name!r}, expected numbers")
        return np.dtype((self.byte_order if self.byte_order in "<>" else "=") + self.name)


@dataclass(slots=True)
class _Array:
    """An array under construction: its place in the file, or the objects it holds."""

    place: StoredArray | None = None
    items: list[Any] = field(default_factory=list)


_MARK = object()
_NAME_BYTES = 64  # longer strings are data
_GAP = 256  # picklers number what they remember in order, some from 1
_GLOBALS = {
    **{f"{core}.multiarray _reconstruct": "reconstruct" for core in ("numpy.core", "numpy._core")},
    **{f"{core}.numeric _frombuffer": "frombuffer" for core in ("numpy.core", "numpy._core")},
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
_NAMES = {op.code.encode("latin-1"): op.name for op in pickletools.opcodes}


class _PickleIndex:
    """The stack machine: pickle opcodes in, places of arrays out."""

    def __init__(self, name: str, file: BinaryIO, size: int) -> None:
        self.name, self.file, self.size = name, file, size
        self.stack: list[Any] = []
        self.memo: list[Any] = []  # a tenth of a dict's memory: there are a dozen entries an utterance
        push, pop, number = self.stack.append, self.stack.pop, self.number
        actions: dict[str, Callable[[], object]] = {
            "PROTO": lambda: number(1),
            "FRAME": lambda: number(8),
            "NONE": lambda: push(None),
            "NEWTRUE": lambda: push(True),
            "NEWFALSE": lambda: push(False),
            "BININT": lambda: push(number(4, signed=True)),
            "BININT1": lambda: push(number(1)),
            "BININT2": lambda: push(number(2)),
            "LONG1": lambda: push(number(number(1), signed=True)),
            "BINFLOAT": lambda: push(struct.unpack(">d", file.read(8))[0]),
            "SHORT_BINSTRING": lambda: self.string(1),
            "BINSTRING": lambda: self.string(4),
            "SHORT_BINBYTES": lambda: self.string(1),
            "BINBYTES": lambda: self.string(4),
            "BINBYTES8": lambda: self.string(8),
            "BYTEARRAY8": lambda: self.string(8),
            "SHORT_BINUNICODE": lambda: self.string(1, encoded=True),
            "BINUNICODE": lambda: self.string(4, encoded=True),
            "BINUNICODE8": lambda: self.string(8, encoded=True),
            "EMPTY_TUPLE": lambda: push(()),
            "TUPLE1": lambda: push((pop(),)),
            "TUPLE2": lambda: push((pop(), pop())[::-1]),
            "TUPLE3": lambda: push((pop(), pop(), pop())[::-1]),
            "TUPLE": lambda: push(tuple(self.pop_to_mark())),
            "EMPTY_LIST": lambda: push([]),
            "APPEND": lambda: self.extend([pop()]),
            "APPENDS": lambda: self.extend(self.pop_to_mark()),
            "MARK": lambda: push(_MARK),
            "GLOBAL": lambda: self.find(f"{self.line()} {self.line()}"),
            "STACK_GLOBAL": lambda: self.find(" ".join(map(str, (pop(), pop())[::-1]))),
            "REDUCE": self.reduce,
            "BUILD": self.build,
            "BINPUT": lambda: self.put(number(1)),
            "LONG_BINPUT": lambda: self.put(number(4)),
            "MEMOIZE": lambda: self.put(len(self.memo)),
            "BINGET": lambda: push(self.memo[number(1)]),
            "LONG_BINGET": lambda: push(self.memo[number(4)]),
        }
        self.actions = {code: actions[name] for code, name in _NAMES.items() if name in actions}

    def run(self) -> list[StoredArray]:
        try:
            while (code := self.file.read(1)) != b".":
                if code not in self.actions:
                    self.refuse(code)
                self.actions[code]()
            (outer,) = self.stack
            if not isinstance(outer, _Array) or outer.place is not None:
                raise ValueError("it does not hold an object array")
        except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError, struct.error):
            raise ValueError(f"{self.name}: its pickle is damaged near byte {self.file.tell()}") from None
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        places = [item.place if isinstance(item, _Array) else None for item in outer.items]
        for utterance, place in enumerate(places):
            if place is None:
                raise ValueError(
                    f"{self.name}, utterance {utterance}: expected an array of numbers, "
                    f"got {_describe(outer.items[utterance])}"
                )
        return [place for place in places if place is not None]

    def refuse(self, code: bytes) -> None:
        if not code:
            raise ValueError(f"the file is cut short: it ends at byte {self.size} inside its pickle")
        raise ValueError(
            f"its pickle uses {_NAMES.get(code, code)} at byte {self.file.tell() - 1}, "
            f"which arrays of numbers do not need; nothing of it was run"
        )

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.file.read(size), "little", signed=signed)

    def line(self) -> str:
        return self.file.readline(_NAME_BYTES).decode("ascii").rstrip("\n")

    def put(self, key: int) -> None:
        missing = key + 1 - len(self.memo)
        if missing > _GAP:
            raise IndexError(key)  # not to fill the memory with what nobody remembers
        self.memo.extend([None] * missing)
        self.memo[key] = self.stack[-1]

    def string(self, length_bytes: int, *, encoded: bool = False) -> None:
        size = self.number(length_bytes)
        offset = self.file.tell()
        if offset + size > self.size:
            raise ValueError(
                f"the file is cut short: {offset + size} bytes or more expected, {self.size} there"
            )
        content = self.file.read(size) if size <= _NAME_BYTES else b""
        if size > _NAME_BYTES:
            self.file.seek(size, 1)
        self.stack.append(_Blob(offset, size, content, encoded))

    def pop_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("its pickle appends to something that is no list")
        self.stack[-1].extend(items)

    def find(self, name: str) -> None:
        if name not in _GLOBALS:
            raise ValueError(
                f"its pickle asks for {name.replace(' ', '.')}, but utterances need only numpy arrays; "
                f"the file is refused and nothing of it was run"
            )
        self.stack.append(_GLOBALS[name])

    def reduce(self) -> None:
        """What a call would make, for the four calls that arrays are made of."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if function == "reconstruct":
            self.stack.append(_Array())
        elif function == "dtype":
            self.stack.append(_Dtype(str(arguments[0])))
        elif function == "encode":
            self.stack.append(arguments[0])
        elif function == "frombuffer":
            blob, dtype, shape, order = arguments
            self.stack.append(_Array(self.place(blob, dtype, shape, str(order) == "F")))
        else:
            raise ValueError(f"its pickle calls {function!r}; nothing of it was run")

    def build(self) -> None:
        """numpy's ``__setstate__``: (version, shape, dtype, is_fortran, data), or a dtype's byte order."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Dtype):
            target.byte_order = str(state[1])
        elif isinstance(target, _Array):
            _, shape, dtype, fortran, data = state
            if isinstance(data, list):
                target.items = data
            else:
                target.place = self.place(data, dtype, shape, bool(fortran))
        else:
            raise ValueError("its pickle sets the state of something that is no array")

    def place(self, blob: _Blob, dtype: _Dtype, shape: tuple[int, ...], fortran: bool) -> StoredArray:
        built = dtype.build()
        needed = math.prod(shape) * built.itemsize
        if not blob.encoded and blob.size != needed:
            raise ValueError(f"an array {shape} of {built} has {blob.size} bytes, expected {needed}")
        return StoredArray(blob.offset, blob.size, built, tuple(shape), fortran, blob.encoded)


def _describe(item: Any) -> str:
    """What stands where an utterance should."""
    if isinstance(item, _Array):
        return f"an object array of {len(item.items)} items"
    if isinstance(item, int | float) and not isinstance(item, bool):
        return f"the number {item} (equal lengths collapsed into one object array? save them as np.stack)"
    return f"a {type(item).__name__.strip('_').lower()}"
