"""Things that recipes and files call by name, and their settings: ``{name: ..., config: {...}}``.

A ``Registry`` maps names to values; a ``Config`` is a frozen dataclass whose instances are such values. A preset is a Config
under a name; whatever says how something is made (a neuron, a model, a change of a model, a task, a stage) is one.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import typing
from collections.abc import Iterator, Mapping, ValuesView
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import core_schema

from saccade import plugins

V = TypeVar("V")


class Registry(Mapping[str, V], Generic[V]):
    """Values by name, in order of registration. A name that is not there is a ValueError with the nearest that are.

    kind: what the values are, in words ("neuron"). listing: how a user sees all names, for error messages.
    """

    def __init__(self, kind: str, listing: str = "") -> None:
        self.kind, self.listing = kind, listing
        self._values: dict[str, V] = {}

    def register(self, name: str, value: V) -> V:
        """Make a value known. Raises ValueError if the name is taken."""
        if name in self._values:
            raise ValueError(f"the {self.kind} name {name!r} is taken")
        self._values[name] = value
        return value

    def __getitem__(self, name: str) -> V:
        if name not in self._values:
            plugins.load_installed()
        if name not in self._values:
            raise ValueError(f"unknown {self.kind} {name!r}{self._hint(name)}")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._values:
            plugins.load_installed()
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        plugins.load_installed()
        return iter(self._values)

    def __len__(self) -> int:
        plugins.load_installed()
        return len(self._values)

    def values(self) -> ValuesView[V]:
        """As of any mapping, without looking each name up again."""
        plugins.load_installed()
        return self._values.values()

    def names(self, pattern: str = "*") -> list[str]:
        """Names that match a shell pattern, sorted."""
        return sorted(fnmatch.filter(self, pattern))

    def _hint(self, name: object) -> str:
        near = difflib.get_close_matches(str(name), self._values, 3)
        words = f"; did you mean {' or '.join(near)}?" if near else ""
        if self.listing:
            return f"{words} ({self.listing} lists all)"
        return words or f"; known: {', '.join(self._values) or 'none'}"


@dataclass(frozen=True)
class Config:
    """Base of the settings that have a name. A subclass is a frozen dataclass with a ``registry`` that it shares with its kin.

    Values are checked by their annotations whenever one is made: lists, arrays and NumPy numbers become tuples and numbers;
    anything else that does not fit, and NaN, is a ValueError naming the field.
    """

    registry: ClassVar[Registry[Any]]

    def __post_init__(self) -> None:
        for name, adapter in _adapters(type(self)).items():  # type: ignore[arg-type]
            object.__setattr__(self, name, _checked(name, adapter, getattr(self, name)))

    @classmethod
    def parse(cls, value: Any) -> Self:
        """A config from itself, a registered name, or ``{name: ..., config: {...}}`` (fields that differ from the named one's).

        Raises ValueError for an unknown name or field, or a value that does not fit.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if (
            not isinstance(value, Mapping)
            or not set(value) <= {"name", "config"}
            or not isinstance(value.get("name"), str)
        ):
            raise ValueError(f"a {cls.registry.kind} is a name or {{name: ..., config: {{...}}}}, got {value!r}")
        known = cls.registry[value["name"]]
        if not isinstance(known, cls):
            raise ValueError(f"{value['name']!r} is another kind of {cls.registry.kind} than is wanted here")
        changes = value.get("config") or {}
        if not isinstance(changes, Mapping):
            raise ValueError(f"{value['name']}: config is a mapping of settings, got {changes!r}")
        return known.changed(value["name"], changes)

    def changed(self, name: str, changes: Mapping[str, Any]) -> Self:
        """A copy with other values. Raises ValueError, beginning with ``name``, for an unknown field or a wrong value."""
        known = [field.name for field in fields(self)]
        for key in changes:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known) or 'nothing'}"
                raise ValueError(f"{name} takes no {key!r}; {hint}")
        try:
            return replace(self, **changes)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def record(self) -> dict[str, Any]:
        """``{name, config}`` of plain values, as files hold it: the name of this kind of config, and every field.

        Raises ValueError for a kind that has no registered name.
        """
        return {"name": self.kind(), "config": self.settings()}

    def kind(self) -> str:
        """The first name that was registered with a config of this class."""
        for name, known in self.registry.items():
            if type(known) is type(self):
                return name
        raise ValueError(
            f"{type(self).__name__} has no registered name, so no file can say what it is; register it first"
        )

    def settings(self) -> dict[str, Any]:
        """Every field, as plain values."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(cls.parse)


def plain(value: Any) -> Any:
    """Values as JSON and YAML hold them: configs as records, tuples as lists."""
    if isinstance(value, Config):
        return value.record()
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value


@cache
def _adapters(kind: type[Config]) -> dict[str, TypeAdapter[Any]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    options = ConfigDict(arbitrary_types_allowed=True)
    return {
        field.name: TypeAdapter(hints[field.name])
        if isinstance(hints[field.name], type) and issubclass(hints[field.name], Config)
        else TypeAdapter(hints[field.name], config=options)
        for field in fields(kind)
    }


def _checked(name: str, adapter: TypeAdapter[Any], value: Any) -> Any:
    value = _native(value)
    try:
        found = adapter.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([name, *(str(part) for part in first["loc"] if isinstance(part, int))])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(
            f"{where}: {message}" + ("" if first["type"] == "value_error" else f", got {value!r}")
        ) from None
    if _has_nan(found):
        raise ValueError(f"{name}: is not a number (NaN)")
    return found


def _native(value: Any) -> Any:
    """Arrays, tensors and their scalars as Python has them; lists as tuples."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(_native(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _native(item) for key, item in value.items()}
    return value


def _has_nan(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(_has_nan(item) for item in value)
    return isinstance(value, float) and math.isnan(value)
