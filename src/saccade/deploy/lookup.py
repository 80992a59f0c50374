"""Convolutions with kernels from a codebook, by look-up: one table row a patch, one addition an output.

A 3x3 patch of one channel's spikes is a number x of nine bits (bit 3 ky + kx), a codeword P a number of nine bits (1 where
its sign is +). Their product is ``T[x][j] = 2 pop(x & P_j) - pop(x)``, from -9 to 9: int8, 512 * 2^eta bytes for a layer. The
reference for faster engines, in numpy.
Source: codebooks of Wei et al. (2025), S2NN; sharing of codeword products as in Wang et al. (2021), Sub-bit Neural Networks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

Table = npt.NDArray[np.int8]


def codebook_words(signs: Tensor) -> npt.NDArray[np.uint16]:
    """Codewords ``[K, 9]`` of signs as numbers ``[K]``."""
    bits = (signs.cpu().numpy() > 0).astype(np.uint16)
    return (bits << np.arange(bits.shape[1], dtype=np.uint16)).sum(1).astype(np.uint16)


def product_table(words: npt.NDArray[np.uint16], places: int = 9) -> Table:
    """``T[x][j]`` of every patch and codeword, ``[2^places, K]``."""
    patches = np.arange(2**places, dtype=np.uint16)
    hits = np.bitwise_count(patches[:, None] & words[None]).astype(np.int8)
    table: Table = (2 * hits - np.bitwise_count(patches).astype(np.int8)[:, None]).astype(np.int8)
    return table


def patch_codes(spikes: Tensor, padding: int = 1) -> npt.NDArray[np.uint16]:
    """The number of the 3x3 patch around every place, ``[N, C, H, W] -> [N, C, H', W']``, by sliding along the rows.

    One step to the right drops the left column and takes in the right one.
    """
    s = np.pad(spikes.cpu().numpy().astype(np.uint16), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    columns = s[:, :, :-2] | (s[:, :, 1:-1] << 3) | (s[:, :, 2:] << 6)  # the three rows of a column, at kx = 0
    height, width = columns.shape[2], columns.shape[3]
    codes = np.empty((*s.shape[:2], height, width - 2), dtype=np.uint16)
    code = (columns[..., 0] << 1) | (columns[..., 1] << 2)  # as if the patch stood one place to the left
    for x in range(width - 2):
        code = ((code >> 1) & 0b011011011) | (columns[..., x + 2] << 2)
        codes[..., x] = code
    return codes


def lookup_conv(spikes: Tensor, indices: Tensor, signs: Tensor, padding: int = 1) -> npt.NDArray[np.int64]:
    """``sum_c P[indices[o, c]] . patch_c`` of every output, ``[N, O, H', W']``, exact; patches without a spike add nothing."""
    table = product_table(codebook_words(signs), signs.shape[1]).astype(np.int64)
    codes, index = patch_codes(spikes, padding), indices.cpu().numpy()
    acc = np.zeros((len(codes), *codes.shape[2:], len(index)), dtype=np.int64)
    for c in range(codes.shape[1]):
        alive = codes[:, c] != 0
        acc[alive] += table[codes[:, c][alive]][:, index[:, c]]
    return acc.transpose(0, 3, 1, 2)
