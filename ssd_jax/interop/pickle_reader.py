"""Reads a pickle without running it.

Python's own reader calls whatever a pickle names, and takes what memory it asks for. This one goes
through the instructions of a pickle and builds dictionaries, lists, tuples, numbers and strings;
for the classes and functions that it may name, functions of the caller's stand.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

# A state dict of 1,000 tensors takes 25,000, three times as many with what an optimiser keeps.
MAX_INSTRUCTIONS = 300_000
MAX_BYTES = 2**24
MAX_BITS = 128  # of a whole number

# Instructions that put the value behind them on the stack.
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
NEW = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING = ("PROTO", "FRAME", "STOP")
SCALARS = (str, bytes, int, float, type(None))


class RefusedError(ValueError):
    """A pickle asks for something that is no plain value."""


class Name(NamedTuple):
    """The name of a class or function, `module.name`."""

    name: str


class PickleReader:
    """Reads pickles, one after the other, from one file."""

    def __init__(
        self,
        file: BinaryIO,
        functions: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any],
    ):
        """Takes the file.

        Args:
          file: stands at the beginning of a pickle, and afterwards behind it.
          functions: what is called for a class or function, by its `module.name`; a pickle that
            names others is refused.
          persistent: gives what stands for a persistent id.
        """
        self._file = file
        self._functions, self._persistent = functions, persistent
        self._left = MAX_BYTES

    # What `pickletools` needs of a file.

    def read(self, size: int) -> bytes:
        """Some bytes of the file."""
        return self._counted(self._file.read(min(size, self._left + 1)))

    def readline(self) -> bytes:
        """A line of the file."""
        return self._counted(self._file.readline(self._left + 1))

    def _counted(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise RefusedError(f"its index has more than {MAX_BYTES:,} bytes")
        return content

    def load(self) -> Any:
        """The value of the next pickle.

        Raises:
          RefusedError: it is too large, or asks for what is no plain value.
          ValueError: it is damaged; also as other errors.
        """
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        for number, (opcode, value, _) in enumerate(pickletools.genops(self)):  # pyright: ignore
            if number == MAX_INSTRUCTIONS:
                raise RefusedError(f"it has more than {MAX_INSTRUCTIONS:,} instructions")
            self._run(opcode.name, value)
        return self._stack.pop()

    def _run(self, name: str, value: Any) -> None:
        stack = self._stack
        if name in VALUES:
            if isinstance(value, int) and value.bit_length() > MAX_BITS:
                raise RefusedError(f"it has a number of {value.bit_length():,} bits")
            stack.append(value)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in NEW:
            stack.append(NEW[name]())
        elif name in TUPLES:
            count = TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[value] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[value])
        elif name not in NOTHING:
            run = getattr(self, f"_{name.lower()}", None)
            if run is None:
                raise RefusedError(f"it asks for {name}, which builds no plain value")
            run(value)

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _mark(self, _: None) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _pop(self, _: None) -> None:
        self._stack.pop()

    def _pop_mark(self, _: None) -> None:
        self._to_mark()

    def _dup(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def _tuple(self, _: None) -> None:
        items = self._to_mark()
        self._stack.append(tuple(items))

    def _list(self, _: None) -> None:
        items = self._to_mark()
        self._stack.append(items)

    def _dict(self, _: None) -> None:
        items = self._to_mark()
        self._stack.append({})
        self._set(items)

    def _append(self, _: None) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _appends(self, _: None) -> None:
        self._extend(self._to_mark())

    _additems = _appends

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("something is appended to what is no list")
        self._stack[-1].extend(items)

    def _setitem(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _setitems(self, _: None) -> None:
        self._set(self._to_mark())

    def _set(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise ValueError("an item is set in what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hash of tuples in tuples may take for ever.
            if not isinstance(key, SCALARS):
                raise RefusedError("a key is no string and no number")
            self._stack[-1][key] = value

    def _global(self, name: str) -> None:
        self._name(*name.split(" ", 1))

    def _stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        if f"{module}.{name}" not in self._functions:
            raise RefusedError(f"it asks for {module}.{name}, which is no part of a tensor")
        self._stack.append(Name(f"{module}.{name}"))

    def _reduce(self, _: None) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("something is called that is no function")
        self._stack.append(self._functions[function.name](*arguments))

    def _build(self, _: None) -> None:
        self._stack.pop()  # attributes, as the versions of modules that a state dict has
        if not isinstance(self._stack[-1], dict):
            raise RefusedError("it sets attributes")

    def _binpersid(self, _: None) -> None:
        self._stack.append(self._persistent(self._stack.pop()))
