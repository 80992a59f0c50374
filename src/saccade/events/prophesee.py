"""The text header of Prophesee's files: lines ``% key value``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from saccade.events.source import Source

MOST_LINE = 4096
# The sensor behind a camera's plug-in, where the header names no geometry: (height, width).
PLUGINS = (
    ("gen3", (480, 640)),
    ("gen31", (480, 640)),
    ("gen4", (720, 1280)),
    ("imx636", (720, 1280)),
    ("genx320", (320, 320)),
)


@dataclass
class Header:
    """Lines by key, lower case; where the data begins."""

    values: dict[str, str] = field(default_factory=dict)
    end: int = 0

    @property
    def version(self) -> str | None:
        """The EVT version that the header names: "2.0", "2.1", "3.0", or None."""
        if "evt" in self.values:
            return self.values["evt"].split()[0] if self.values["evt"] else None
        named = re.match(r"EVT(\d)(\d?)\b", self.values.get("format", ""), re.IGNORECASE)
        return f"{named[1]}.{named[2] or 0}" if named else None

    def option(self, key: str) -> str | None:
        """``key=value`` of the line ``% format EVT3;height=720;width=1280``."""
        for part in self.values.get("format", "").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == key:
                return value.strip()
        return None

    def sensor(self) -> tuple[int, int] | None:
        """Height and width, from the geometry, the format line or the camera's plug-in."""
        geometry = re.fullmatch(r"(\d{1,6})x(\d{1,6})", self.values.get("geometry", "").strip())
        if geometry:
            return int(geometry[2]), int(geometry[1])
        height = self.option("height") or self.values.get("height", "")
        width = self.option("width") or self.values.get("width", "")
        if re.fullmatch(r"\d{1,6}", height) and re.fullmatch(r"\d{1,6}", width):
            return int(height), int(width)
        named = re.match(r"hal_plugin_([a-z]+\d+)", self.values.get("plugin_name", ""))
        found = [size for name, size in PLUGINS if named and named[1].startswith(name)]
        return found[-1] if found else None


def read_header(head: bytes) -> Header:
    """The lines before the data: each begins with ``%`` and is text; ``% end`` is the last."""
    header = Header()
    while head[header.end : header.end + 1] == b"%":
        stop = head.find(b"\n", header.end, header.end + MOST_LINE)
        line = head[header.end : stop]
        if (
            stop < 0
            or line[1:2] not in (b" ", b"", b"\r")
            or any((b < 32 and b not in (9, 13)) or b > 126 for b in line)
        ):
            break
        header.end = stop + 1
        key, _, value = line[1:].decode("ascii").strip().partition(" ")
        if key.lower() == "end":
            break
        header.values.setdefault(key.lower(), value.strip())
    return header


def header(version: str, height: int, width: int, options: str = "") -> bytes:
    """The lines that are written."""
    major, _, minor = version.partition(".")
    name = f"EVT{major}{minor if minor != '0' else ''}"
    return (
        f"% evt {version}\n% format {name};{options}height={height};width={width}\n% geometry {width}x{height}\n% end\n"
    ).encode()


def version_of(head: bytes) -> str | None:
    """The EVT version of a file that begins so; None where there is none."""
    return read_header(head).version if head[:1] == b"%" else None


def begin(source: Source, version: str) -> Header:
    """The header of a file that is to be of one EVT version. Raises ValueError if it says another one."""
    header = read_header(source.head())
    if header.version not in (None, version):
        words = f"is of EVT {header.version}, and was to be read as EVT {version}; read it as what it is"
        raise source.faults.error("header", words)
    if header.values.get("data", "").startswith("file"):
        raise source.faults.error("header", f"is of a DAT file, and was to be read as EVT {version}")
    source.facts |= {
        key: header.values[key] for key in ("date", "plugin_name", "serial_number") if key in header.values
    }
    size = header.sensor()
    if size:
        source.sensor(*size)
    return header
