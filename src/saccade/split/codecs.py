"""How hidden states and their gradients become bytes.

A codec turns float32 ``[N, L, D]`` into a payload and back; a token's D numbers are coded together. Sizes are known from the
shape, or bounded, before a peer's payload is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from saccade.config import Config, Registry
from saccade.optional import need

CODECS: Registry[Codec] = Registry("codec")


@dataclass(frozen=True)
class Codec(Config):
    """``lossless``: float32 comes back bit for bit. ``foreign``: a library's own format, whose decoder has not been
    written for hostile input; servers take it only where their operator says so."""

    registry: ClassVar[Registry[Any]] = CODECS
    lossless: ClassVar[bool] = False
    foreign: ClassVar[bool] = False

    def encode(self, x: Tensor) -> bytes:
        """Payload of a finite float32 tensor. Raises ValueError for NaN or infinity."""
        x = x.detach().to(torch.float32).contiguous()
        if not bool(torch.isfinite(x).all()):
            raise ValueError("holds values that are not finite, so it is not sent")
        return self._encode(x) if x.numel() else b""

    def decode(self, payload: bytes | memoryview, shape: Sequence[int]) -> Tensor:
        """The tensor of a payload. Raises ValueError for a size that the shape does not have, or values that cannot
        be."""
        least, most = self.sizes(shape)
        if not least <= len(payload) <= most:
            raise ValueError(f"{len(payload)} bytes are no {list(shape)} in this codec ({least} to {most})")
        if math.prod(shape) == 0:
            return torch.zeros(tuple(shape))
        x = self._decode(payload, tuple(shape))
        if not bool(torch.isfinite(x).all()):
            raise ValueError("holds values that are not finite")
        return x

    def sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        """Fewest and most bytes of a payload of this shape."""
        raise NotImplementedError

    def _encode(self, x: Tensor) -> bytes:
        raise NotImplementedError

    def _decode(self, payload: bytes | memoryview, shape: tuple[int, ...]) -> Tensor:
        raise NotImplementedError


def _tokens(shape: Sequence[int]) -> tuple[int, int]:
    return math.prod(shape[:-1]), shape[-1]


def _from(payload: bytes | memoryview, kind: str, offset: int = 0, count: int = -1) -> np.ndarray:
    return np.frombuffer(payload, kind, count, offset)


@dataclass(frozen=True)
class Float32(Codec):
    lossless: ClassVar[bool] = True

    def sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        return 4 * math.prod(shape), 4 * math.prod(shape)

    def _encode(self, x: Tensor) -> bytes:
        return x.numpy().astype("<f4", copy=False).tobytes()

    def _decode(self, payload: bytes | memoryview, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(_from(payload, "<f4").reshape(shape).astype(np.float32))


@dataclass(frozen=True)
class Float16(Codec):
    """Values beyond what a half holds are held at its largest; the smallest become zero."""

    def sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        return 2 * math.prod(shape), 2 * math.prod(shape)

    def _encode(self, x: Tensor) -> bytes:
        return x.clamp(-65504, 65504).numpy().astype("<f2").tobytes()

    def _decode(self, payload: bytes | memoryview, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(_from(payload, "<f2").reshape(shape).astype(np.float32))


@dataclass(frozen=True)
class BFloat16(Float16):
    """The upper half of a float32, rounded to even; what would round to infinity is held."""

    def _encode(self, x: Tensor) -> bytes:
        most = float(torch.finfo(torch.bfloat16).max)
        return x.clamp(-most, most).to(torch.bfloat16).view(torch.int16).numpy().astype("<i2", copy=False).tobytes()

    def _decode(self, payload: bytes | memoryview, shape: tuple[int, ...]) -> Tensor:
        halves = torch.from_numpy(_from(payload, "<i2").astype(np.int16))
        return halves.view(torch.bfloat16).to(torch.float32).reshape(shape)


@dataclass(frozen=True)
class Int(Codec):
    """Whole numbers times a float32 scale a token, its largest magnitude over ``2^(bits-1) - 1``: off by half a
    scale at most."""

    bits: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (4, 8):
            raise ValueError(f"bits is 4 or 8, got {self.bits}")

    def sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        tokens, width = _tokens(shape)
        size = tokens * (4 + (width * self.bits + 7) // 8)
        return size, size

    def _encode(self, x: Tensor) -> bytes:
        rows = x.reshape(-1, x.shape[-1])
        top = (1 << (self.bits - 1)) - 1
        scale = rows.abs().amax(1, keepdim=True) / top
        whole = (rows / torch.where(scale > 0, scale, 1)).round().clamp(-top, top).to(torch.int8).numpy()
        if self.bits == 4:
            if whole.shape[1] % 2:
                whole = np.pad(whole, ((0, 0), (0, 1)))
            nibbles = (whole & 15).astype(np.uint8)
            whole = nibbles[:, 0::2] | nibbles[:, 1::2] << 4
        return scale.numpy().astype("<f4", copy=False).tobytes() + whole.tobytes()

    def _decode(self, payload: bytes | memoryview, shape: tuple[int, ...]) -> Tensor:
        tokens, width = _tokens(shape)
        scale = _from(payload, "<f4", 0, tokens).astype(np.float32).reshape(-1, 1)
        whole = _from(payload, "<i1" if self.bits == 8 else "u1", 4 * tokens)
        if self.bits == 4:
            pairs = np.stack([whole & 15, whole >> 4], -1).astype(np.int8)
            whole = np.where(pairs > 7, pairs - 16, pairs)
        whole = whole.reshape(tokens, -1)[:, :width]
        with np.errstate(all="ignore"):  # of a hostile scale; what is not finite is refused
            return torch.from_numpy((whole.astype(np.float32) * scale).reshape(shape))


@dataclass(frozen=True)
class TopK(Codec):
    """The ``share`` of a token's numbers that are largest in magnitude, as half and place (4 bytes each); the rest
    is zero."""

    share: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(f"share lies in (0, 1], got {self.share:g}")

    def kept(self, width: int) -> int:
        if width > 65535:
            raise ValueError(f"places of {width} numbers a token do not fit 16 bits")
        return max(1, round(self.share * width))

    def sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        tokens, width = _tokens(shape)
        size = tokens * 4 * self.kept(width) if width else 0
        return size, size

    def _encode(self, x: Tensor) -> bytes:
        rows = x.reshape(-1, x.shape[-1])
        places = rows.abs().topk(self.kept(x.shape[-1]), dim=1).indices.sort(1).values
        values = rows.gather(1, places).clamp(-65504, 65504)
        return values.numpy().astype("<f2").tobytes() + places.numpy().astype("<u2").tobytes()

    def _decode(self, payload: bytes | memoryview, shape: tuple[int, ...]) -> Tensor:
        tokens, width = _tokens(shape)
        count = tokens * self.kept(width)
        values = torch.from_numpy(_from(payload, "<f2", 0, count).astype(np.float32)).view(tokens, -1)
        places = torch.from_numpy(_from(payload, "<u2", 2 * count).astype(np.int64)).view(tokens, -1)
        if bool((places >= width).any()) or bool((places[:, 1:] <= places[:, :-1]).any()):
            raise ValueError("holds places that are not in order or not in the token")
        return torch.zeros(tokens, width).scatter_(1, places, values).view(shape)


@dataclass(frozen=True)
class SZ3(Codec):
    """Error-bounded quantising and entropy coding (Liang et al. 2022) without prediction, which does not help here.
    error: the largest one, as a share of the tensor's range."""

    error: float = 1e-2
    foreign: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.error < 1:
            raise ValueError(f"error lies in (0, 1), got {self.error:g}")

    def sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        size = 4 * math.prod(shape)
        return 0 if not size else 1, size + size // 2 + 4096 if size else 0

    def _encode(self, x: Tensor) -> bytes:
        flat = x.reshape(-1).numpy()
        low, high = float(flat.min()), float(flat.max())
        if high - low <= abs(high) * 1e-6 or flat.size < 32:  # nothing to quantise: as it is
            return b"\0" + flat.astype("<f4", copy=False).tobytes()
        pysz = need("pysz", "split")
        config = pysz.szConfig()
        config.errorBoundMode = pysz.szErrorBoundMode.ABS
        config.absErrorBound = self.error * (high - low)
        config.cmprAlgo = pysz.szAlgorithm.NOPRED
        packed, _ = pysz.sz.compress(flat, config)
        return b"\1" + np.asarray(packed).tobytes()

    def _decode(self, payload: bytes | memoryview, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        if payload[0] == 0:
            if len(payload) != 1 + 4 * count:
                raise ValueError(f"{len(payload)} bytes are no {list(shape)}")
            return torch.from_numpy(_from(payload, "<f4", 1).astype(np.float32).reshape(shape))
        pysz = need("pysz", "split")
        flat, _ = pysz.sz.decompress(_from(payload, "u1", 1).copy(), np.float32, (count,))
        return torch.from_numpy(np.asarray(flat, np.float32).reshape(shape).copy())


@dataclass(frozen=True)
class ZFP(Codec):
    """zfp (Lindstrom 2014) with a tolerance of ``error`` standard deviations of the tensor."""

    error: float = 0.1
    foreign: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.error > 0:
            raise ValueError(f"error is positive, got {self.error:g}")

    def sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        size = 4 * math.prod(shape)
        return 0 if not size else 1, 2 * size + 4096 if size else 0

    def _encode(self, x: Tensor) -> bytes:
        rows = x.reshape(-1, x.shape[-1]).numpy()
        tolerance = self.error * max(float(rows.std(dtype=np.float64)), 1e-30)
        return need("zfpy", "split").compress_numpy(rows, tolerance=tolerance)

    def _decode(self, payload: bytes | memoryview, shape: tuple[int, ...]) -> Tensor:
        try:
            rows = need("zfpy", "split").decompress_numpy(bytes(payload))
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"zfp does not read it ({error})") from None
        if rows.dtype != np.float32 or rows.size != math.prod(shape):
            raise ValueError(f"zfp reads {rows.dtype} {list(rows.shape)} where {list(shape)} was promised")
        return torch.from_numpy(rows.reshape(shape).copy())


for _name, _codec in {
    "fp32": Float32(),
    "fp16": Float16(),
    "bf16": BFloat16(),
    "int8": Int(8),
    "int4": Int(4),
    "topk": TopK(),
    "sz3": SZ3(),
    "zfp": ZFP(),
}.items():
    CODECS.register(_name, _codec)


class Feedback:
    """A sender that adds to each tensor what its codec lost of the one before (Seide et al. 2014), where shapes
    agree."""

    def __init__(self, codec: Codec, on: bool) -> None:
        self.codec, self.on, self._left = codec, on and not codec.lossless, None

    def encode(self, x: Tensor) -> bytes:
        x = x.detach()
        if self.on and self._left is not None and self._left.shape == x.shape:
            x = x + self._left
        payload = self.codec.encode(x)
        if self.on:
            self._left = x - self.codec.decode(payload, x.shape)
        return payload

    _left: Tensor | None
