"""What the metadata of our files hold: checked as a whole, before anything is built from them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Count = Annotated[int, Field(ge=1, le=1 << 31, strict=True)]
Name = Annotated[str, Field(max_length=1000)]


class Record(BaseModel):
    """``{name, config}``."""

    model_config = ConfigDict(extra="allow")
    name: Name
    config: dict[str, Any]


class ModelRecord(BaseModel):
    """Of a model file. input: ``(C, H, W)`` of what it was trained on. frames: how that was made of event recordings."""

    model_config = ConfigDict(extra="allow")
    format: str
    model: Name
    config: dict[str, Any]
    transforms: list[Record]
    classes: list[Name] | None = None
    input: Annotated[list[Count], Field(min_length=3, max_length=3)] | None = None
    frames: dict[str, Any] | None = None
    plugins: list[Name] = []
    fingerprint: str | None = None


class LayerRecord(BaseModel):
    """Of a layer whose weight is stored in codes: the bits of each stream, and the weight's shape."""

    model_config = ConfigDict(extra="allow")
    values: Name
    bits: dict[str, Annotated[int, Field(ge=1, le=32)]]
    shape: list[Count] = Field(min_length=2, max_length=5)


class PackedRecord(ModelRecord):
    """Of a packed file."""

    layers: dict[str, LayerRecord]


def checked(metadata: dict[str, Any], kind: type[ModelRecord], source: str) -> dict[str, Any]:
    """Metadata that have that form. Raises ValueError, in one line, naming the first thing that does not."""
    try:
        return kind.model_validate(metadata).model_dump()  # JSON would make null of infinity
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{source}: its metadata are damaged ({where}: {first['msg']})") from None
    except RecursionError:
        raise ValueError(f"{source}: its metadata are damaged (nested too deep)") from None
