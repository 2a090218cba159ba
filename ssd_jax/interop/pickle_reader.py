"""Reads a pickle without executing it.

Python's reader calls any function that a pickle names, and allocates any memory. This one
interprets the instructions of a pickle and builds only dictionaries, lists, tuples, numbers and
strings. Allowed classes and functions are replaced by functions of the caller.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

# A state dict of 1,000 tensors has 25,000 instructions; with an optimizer's state, 75,000.
MAX_INSTRUCTIONS = 300_000
MAX_BYTES = 2**24
MAX_BITS = 128  # of an integer

# Instructions that push the value after them on the stack.
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
    """A pickle needs more than plain values."""


class Name(NamedTuple):
    """The name of a class or function, `module.name`."""

    name: str


class PickleReader:
    """Reads consecutive pickles from one file."""

    def __init__(
        self,
        file: BinaryIO,
        functions: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any],
    ):
        """Begins at the current position of a file.

        Args:
          file: a file, at the beginning of a pickle; reading moves it to the end of the pickle.
          functions: the replacements of classes and functions, by `module.name`; pickles with other
            names are rejected.
          persistent: a function that returns the value of a persistent id.
        """
        self._file = file
        self._functions, self._persistent = functions, persistent
        self._left = MAX_BYTES

    # The interface of files for `pickletools`.

    def read(self, size: int) -> bytes:
        """Reads bytes of the file."""
        return self._counted(self._file.read(min(size, self._left + 1)))

    def readline(self) -> bytes:
        """Reads a line of the file."""
        return self._counted(self._file.readline(self._left + 1))

    def _counted(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise RefusedError(f"its index has more than {MAX_BYTES:,} bytes")
        return content

    def load(self) -> Any:
        """Reads the value of the next pickle.

        Raises:
          RefusedError: the pickle is too large, or needs more than plain values.
          ValueError: the pickle is damaged; damage may also raise other errors.
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
                raise RefusedError(f"it uses {name}, which does not build a plain value")
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
            raise ValueError("a value is appended, but not to a list")
        self._stack[-1].extend(items)

    def _setitem(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _setitems(self, _: None) -> None:
        self._set(self._to_mark())

    def _set(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise ValueError("an item is set, but not in a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing nested tuples may take forever.
            if not isinstance(key, SCALARS):
                raise RefusedError("a key is neither a string nor a number")
            self._stack[-1][key] = value

    def _global(self, name: str) -> None:
        self._name(*name.split(" ", 1))

    def _stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        if f"{module}.{name}" not in self._functions:
            raise RefusedError(f"it uses {module}.{name}, which is not part of a tensor")
        self._stack.append(Name(f"{module}.{name}"))

    def _reduce(self, _: None) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("a value is called that is not a function")
        self._stack.append(self._functions[function.name](*arguments))

    def _build(self, _: None) -> None:
        self._stack.pop()  # attributes, like the versions of modules in a state dict
        if not isinstance(self._stack[-1], dict):
            raise RefusedError("it sets attributes")

    def _binpersid(self, _: None) -> None:
        self._stack.append(self._persistent(self._stack.pop()))
