"""Read the CIFAR Python batches without running what a pickle may ask for.

A pickle is a program: it may import any function and call it. Here the only names it can reach are the four that the
CIFAR batches use, and each leads to an inert stand-in of this file, not to numpy. Arrays are built afterwards, from
bytes whose number has been checked.
"""

import math
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


class _Array:
    """Stands for a numpy array while it is unpickled; takes the state that numpy's arrays pickle."""

    array: np.ndarray | None = None  # of the class: a pickle may make an object without calling its __init__

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, column_order, content = state
        if not isinstance(kind, _Kind) or kind.code not in ("u1", b"u1"):
            raise pickle.UnpicklingError("an array of other than unsigned bytes")
        if not isinstance(content, bytes) or not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
            raise pickle.UnpicklingError("an array without plain shape and content")
        if min(shape, default=0) < 0 or math.prod(shape) != len(content):
            raise pickle.UnpicklingError(f"an array of shape {shape} in {len(content)} bytes")
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if column_order else "C")


class _Kind:
    """Stands for a numpy dtype."""

    code: object = None

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, _: object) -> None:
        """Byte order and alignment say nothing about single bytes."""


class _Text(bytes):
    """Stands for `_codecs.encode(text, "latin1")`, by which Python 3 writes bytes in protocol 2."""

    def __new__(cls, text: object = "", encoding: object = "latin1") -> "_Text":
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("an unexpected text encoding")
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, _: object) -> None:
        raise pickle.UnpicklingError("bytes with a state")


_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _Text,
}


_Stepwise: Any = vars(pickle)["_Unpickler"]  # the one in Python: what it does can be looked at


class _PlainUnpickler(_Stepwise):
    """Keys are text or numbers: hashing tuples of tuples of one tuple takes for ever."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Stepwise.dispatch)
    for _name in ("EMPTY_SET", "ADDITEMS", "FROZENSET", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"):
        dispatch.pop(getattr(pickle, _name)[0])

    def _check(self, keys: list[Any]) -> None:
        if not all(type(key) in (str, bytes, int, _Text) for key in keys):
            raise pickle.UnpicklingError("a dictionary whose keys are no text")

    def load_setitem(self) -> None:
        self._check(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        self._check(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        self._check(self.stack[::2])
        super().load_dict()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict

    def find_class(self, module: str, name: str) -> type:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR batch needs") from None


def read_plain_pickle(path: Path) -> Any:
    """What a pickle of plain values and uint8 arrays holds; a dictionary's arrays become numpy arrays.

    Text written by Python 2 comes as bytes. Raises ValueError, one line, for anything else.
    """
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="bytes").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise ValueError(f"{path}: refused as a CIFAR Python batch: {reason}: fetch it again") from None
    if isinstance(content, dict):
        return {key: value.array if isinstance(value, _Array) else value for key, value in content.items()}
    return content
