"""AEDAT 2 (jAER): lines of ``#``, then big-endian address and time; of a DVS128 or a DAVIS, whose addresses differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from saccade.events.decoding import decode
from saccade.events.encoding import refuse, times_fit
from saccade.events.format import CERTAIN, FORMATS, NO, Format
from saccade.events.source import Columns, Source
from saccade.events.stream import EventStream

MAGICS = (b"#!AER-DAT2.0", b"#!AER-DAT1.0")
MOST_HEADER = 1 << 20
RECORD = 8
# A word of the chip's name in the header, lower case: height, width, and how its addresses are laid out.
CHIPS = (("dvs128", 128, 128, "dvs128"), ("davis240", 180, 240, "davis"), ("davis346", 260, 346, "davis"))
NAMES = {(128, 128): "ch.unizh.ini.jaer.chip.retina.DVS128", (180, 240): "DAVIS240C", (260, 346): "Davis346red"}


def sniff(path: Path, head: bytes) -> int:
    return CERTAIN if head.startswith(MAGICS) else NO


def _header_end(data: bytes) -> int:
    """The first byte that is not of a line of ``#`` and text; events may begin with the same letter."""
    at = 0
    while data[at : at + 1] == b"#":
        stop = data.find(b"\n", at)
        line = data[at:stop]
        if stop < 0 or any(b < 32 and b not in (9, 13) for b in line):
            break
        at = stop + 1
        if line.lower().startswith(b"#end of ascii"):
            break
    return at


def read(source: Source) -> Iterator[Columns]:
    head = source.head(MOST_HEADER)
    if not head.startswith(MAGICS):
        raise source.faults.error("header", "is not that of AEDAT 2")
    if head.startswith(MAGICS[1]):
        raise source.faults.error("header", "is of AEDAT 1, whose records have six bytes; AEDAT 2 is read")
    end = _header_end(head)
    lines = head[:end].decode("latin-1").lower().splitlines()
    chip = next((line for line in lines if line.startswith("# aechip:")), "")
    known = [one for one in CHIPS if one[0] in chip.replace(" ", "")]
    wide = _wide(source, end)
    if known:
        _, height, width, layout = known[0]
        if (layout == "dvs128") == bool(wide) and wide is not None:
            other = "a DAVIS" if layout == "dvs128" else "a DVS128"
            words = f"names {chip.partition(':')[2].strip()}, and the addresses are laid out as those of {other}"
            raise source.faults.error("header", words)
    elif chip and not (source.height and source.width):
        words = (
            f"names the chip {chip.partition(':')[2].strip()}; give its height and width (DVS128 and DAVIS are read)"
        )
        raise source.faults.error("header", words)
    else:
        layout = "davis" if wide else "dvs128"
        height, width = (180, 240) if wide else (128, 128)
    source.facts["chip"] = chip.partition(":")[2].strip() or layout
    source.sensor(
        height if known or not chip else source.height or 0, width if known or not chip else source.width or 0
    )
    yield from decode(source, layout, end)


def _wide(source: Source, begin: int) -> bool | None:
    """Whether addresses need more than the 16 bits of a DVS128, in the first records; None if there are none."""
    count = min((len(source.data) - begin) // RECORD, 1 << 14)
    if count <= 0:
        return None
    words = np.frombuffer(source.data[begin : begin + count * RECORD].tobytes(), ">u4")[0::2]
    return bool((words >> 16 != 0).sum() * 2 > count)


def write(path: Path, streams: Iterable[EventStream], height: int, width: int) -> None:
    if (height, width) not in NAMES:
        known = ", ".join(f"{w} x {h}" for h, w in NAMES)
        raise refuse("aedat2", f"its sensor is {width} x {height}, and those of known cameras are {known}")
    lines = ("!AER-DAT2.0", " This is a raw AE data file - do not edit", f" AEChip: {NAMES[height, width]}")
    with path.open("wb") as file:
        file.write("".join(f"#{line}\r\n" for line in lines).encode())
        for events in streams:
            times_fit("aedat2", events, 32)
            x, y, on = (column.astype(np.uint32) for column in (events.x, events.y, events.p))
            x, y = width - 1 - x, height - 1 - y
            address = y << 8 | x << 1 | 1 - on if height == 128 else y << 22 | x << 12 | on << 11
            file.write(np.stack([address, events.t.astype(np.uint32)], 1).astype(">u4").tobytes())


FORMATS.register("aedat2", Format("aedat2", "AEDAT 2 (DVS128, DAVIS)", (".aedat",), sniff, read, write, preferred=1))
