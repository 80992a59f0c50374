"""Generated C called from Python: compiled by the machine's own compiler, loaded by ctypes."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saccade.deploy.c.project import RECORD
from saccade.deploy.values import Integers, Reals

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow", "-shared", "-fPIC")


def load(folder: str | os.PathLike[str], compiler: str | None = None) -> Compiled:
    """Compile what ``saccade deploy c`` wrote and load it. compiler: its command (default: $CC, else cc).

    Raises ValueError where the folder holds none, the compiler is missing or refuses it.
    """
    path, name = Path(folder), compiler or os.environ.get("CC") or "cc"
    try:
        record = json.loads((path / RECORD).read_text())
        source = path / "src" / f"{record['name']}.c"
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not a folder that `saccade deploy c` wrote ({error})") from None
    if shutil.which(name) is None:
        raise ValueError(f"{name}: no such compiler; install one or name it in $CC")
    with tempfile.TemporaryDirectory() as aside:  # the library stays mapped when its file is gone
        library = Path(aside) / "net.so"
        command = [name, *FLAGS, f"-D{record['name'].upper()}_TRACE", str(source), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{source}: {name} refuses it: {done.stderr.strip().splitlines()[0]}")
        return Compiled(ctypes.CDLL(str(library)), record)


class Compiled:
    """A program as compiled C. ``run`` gives logits, ``spikes`` levels, as those of ``Program`` do."""

    def __init__(self, library: Any, record: dict[str, Any]) -> None:
        name, self.streams = record["name"], record["streams"]
        self.name, self.T, self.sequence, self.last = name, record["T"], record["sequence"], record["last"]
        shape, self.low, self.high, kind = record["input"]
        self.shape, self._kind = tuple(shape), np.dtype(kind[:-2])
        answer, self.bits, self.error = record["logits"]
        self.answer_shape = tuple(answer)
        self.layers = record["layers"]
        self._run, self._rest = getattr(library, f"{name}_run"), getattr(library, f"{name}_rest")
        self._step: Any = getattr(library, f"{name}_step") if self.streams else None
        for function, count in ((self._run, 3), (self._rest, 1), (self._step, 3)):
            if function is not None:
                function.argtypes = [ctypes.c_void_p] * count
        self._seen = ctypes.c_void_p.in_dll(library, f"{name}_seen")
        self._net = np.zeros(-(-library_size(library, name) // 8), np.int64)

    def run(self, x: npt.NDArray[Any]) -> Reals:
        """Logits ``[N, ...]`` of whole numbers ``[N, C, H, W]``, or ``[T, N, C, H, W]`` where it is made for sequences."""
        if self.streams:
            steps = self.steps(x)
            return steps[-1] if self.last else steps.mean(0)
        whole = np.stack([self._whole(one) for one in self._frames(x)])
        return np.ldexp(whole.astype(np.float64), -self.bits) / (1 if self.last else self.T)

    def steps(self, x: npt.NDArray[Any]) -> Reals:
        """Logits of each step, ``[T, N, ...]``. Raises ValueError for a program that looks at all steps at once."""
        if not self.streams:
            raise ValueError(f"{self.name} looks at all steps of a sequence, and gives the answer alone")
        return np.ldexp(self.whole_logits(x).astype(np.float64), -self.bits)

    def whole_logits(self, x: npt.NDArray[Any]) -> Integers:
        """The same as the C computes them: whole numbers."""
        frames = self._frames(x)
        return np.stack([self._sequence(one) for one in frames], 1)

    def spikes(self, x: npt.NDArray[Any]) -> list[tuple[str, Integers]]:
        """The levels of each layer of neurons with its path, ``[T or 1, N, ...]``."""
        frames = self._frames(x)
        found: list[list[list[Integers]]] = [[] for _ in self.layers]
        kinds = [np.dtype(kind[:-2]) for _, kind, *_ in self.layers]
        sizes = [int(np.prod(shape)) for _, _, shape, *_ in self.layers]

        def seen(layer: int, levels: int) -> None:
            raw = ctypes.string_at(levels, sizes[layer] * kinds[layer].itemsize)
            found[layer][-1].append(np.frombuffer(raw, kinds[layer]).astype(np.int64))

        callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)(seen)
        self._seen.value = ctypes.cast(callback, ctypes.c_void_p).value
        try:
            for one in frames:
                for layer in found:
                    layer.append([])
                self._sequence(one) if self.streams else self._whole(one)
        finally:
            self._seen.value = None
        made = []
        for (path, _, shape, order, _), samples in zip(self.layers, found, strict=True):
            stacked = np.stack([np.stack(steps) for steps in samples], 1)
            there = stacked.reshape(*stacked.shape[:2], *(shape[axis] for axis in order))
            made.append((path, there.transpose(0, 1, *(2 + order.index(axis) for axis in range(len(shape))))))
        return made

    def _whole(self, frames: npt.NDArray[Any]) -> Integers:
        """Whole logits of one sample: of the last step, or summed over steps."""
        if len(frames) != self.T:
            raise ValueError(f"{self.name} takes sequences of {self.T} steps; got {len(frames)}")
        logits = np.zeros(self.answer_shape, np.int64)
        self._run(self._net.ctypes.data, frames.ctypes.data, logits.ctypes.data)
        return logits

    def _sequence(self, frames: npt.NDArray[Any]) -> Integers:
        """Whole logits ``[T, ...]`` of one sample's frames."""
        logits = np.zeros((len(frames), *self.answer_shape), np.int64)
        self._rest(self._net.ctypes.data)
        for t, frame in enumerate(frames):
            if self._step(self._net.ctypes.data, frame.ctypes.data, logits[t : t + 1].ctypes.data):
                raise ValueError(
                    f"{self.name}: its ranges are proven for {t} steps from rest; export it with more --steps"
                )
        return logits

    def _frames(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``[N, T, ...]`` in the type of the C, checked."""
        lead = 2 if self.sequence else 1
        if x.ndim != lead + len(self.shape) or x.shape[lead:] != self.shape:
            takes = f"[{'T, N' if self.sequence else 'N'}, {', '.join(map(str, self.shape))}]"
            raise ValueError(f"{self.name} takes {takes}; got {list(x.shape)}")
        whole = np.where(np.isfinite(x), x, self.low - 1).astype(np.int64)
        inside = whole.min(initial=self.low) >= self.low and whole.max(initial=self.high) <= self.high
        if not np.array_equal(whole, x) or not inside:
            raise ValueError(f"{self.name} takes whole numbers from {self.low} to {self.high}")
        frames = np.moveaxis(whole, 1, 0) if self.sequence else np.repeat(whole[:, None], self.T, 1)
        return np.ascontiguousarray(frames.astype(self._kind))


def library_size(library: Any, name: str) -> int:
    """Bytes of the struct, as its compiler laid it out."""
    return int(ctypes.c_uint32.in_dll(library, f"{name}_bytes").value)
