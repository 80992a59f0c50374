"""Text as lists of token ids, and batches of it that depend on nothing but (seed, client, step)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saccade.optional import need
from saccade.split.llama2c import Llama2cTokenizer

IGNORED = -100  # a label that no loss counts
HEADING = re.compile(r"^ = [^=].* = $")  # of an article; sections have more signs


def data_root() -> Path:
    """Where data lie: ``$SACCADE_DATA``, else ``./data``."""
    return Path(os.environ.get("SACCADE_DATA") or "data")


def find(place: str) -> Path:
    """A path as given, else below the data folder. Raises ValueError naming both places if it is in neither."""
    for path in (Path(place), data_root() / place, data_root() / "text" / place):
        if path.exists():
            return path
    raise ValueError(f"{place}: neither here nor in {data_root()} (SACCADE_DATA names the folder with the data)")


def read_samples(path: Path, unit: str = "paragraph") -> list[str]:
    """The samples of a text file. ``paragraph``: its lines, headings left out. ``article``: what lies between two titles
    of WikiText's form `` = Title = ``.

    Raises ValueError for a file that is not UTF-8 or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    if unit == "paragraph":
        samples = [line for line in lines if line.strip() and not line.startswith(" = ")]
    else:
        samples = []
        current: list[str] = []
        for line in lines:
            if HEADING.match(line) and current:
                samples.append("\n".join(current))
                current = []
            if line.strip():
                current.append(line)
        samples += ["\n".join(current)] if current else []
    if not samples:
        raise ValueError(f"{path}: holds no {unit}")
    return samples


def tokenizer_of(folder: Path) -> Callable[[str], list[int]]:
    """What turns text into ids: a llama2.c ``tok*.bin``, GPT-2's ``vocab.bpe`` and ``encoder.json``, or a
    tokenizer's folder."""
    found = sorted(folder.glob("tok*.bin"))
    if found:
        return Llama2cTokenizer(found[0]).encode
    if (folder / "vocab.bpe").is_file():
        bpe = need("tokenizers", "split").ByteLevelBPETokenizer(str(folder / "encoder.json"), str(folder / "vocab.bpe"))
        return lambda text: bpe.encode(text).ids
    try:
        theirs = need("transformers", "split").AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: holds no tokenizer ({' '.join(str(error).split())[:120]})") from None
    return lambda text: theirs(text, verbose=False)["input_ids"]


def stream_blocks(samples: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor]:
    """Samples one after another, cut into blocks: inputs and labels ``[n, length]``; a token's label is the next
    one."""
    flat = torch.tensor([token for sample in samples for token in sample], dtype=torch.int64)
    count = (len(flat) - 1) // length
    if count < 1:
        raise ValueError(f"{len(flat)} tokens fill no block of {length}; shorten `length` or give the client more data")
    return flat[: count * length].view(count, length), flat[1 : count * length + 1].view(count, length)


def padded_blocks(samples: Sequence[Sequence[int]], length: int, pad: int = 0) -> tuple[Tensor, Tensor]:
    """A row a sample, cut off at ``length`` and padded: inputs and labels ``[n, length]``; labels of padding are
    IGNORED."""
    kept = [list(sample[: length + 1]) for sample in samples if len(sample) > 1]
    if not kept:
        raise ValueError("no sample has two tokens, and a language model needs a next one")
    inputs, labels = torch.full((len(kept), length), pad), torch.full((len(kept), length), IGNORED)
    for row, sample in enumerate(kept):
        inputs[row, : len(sample) - 1] = torch.tensor(sample[:-1])
        labels[row, : len(sample) - 1] = torch.tensor(sample[1:])
    return inputs, labels


class Batches:
    """Batches of one client. The step's number says which: a round is the same whatever came before it."""

    def __init__(self, blocks: tuple[Tensor, Tensor], batch: int, seed: Sequence[int]) -> None:
        self.inputs, self.labels = blocks
        self.batch, self.seed = batch, tuple(seed)
        self.per_epoch = max(1, len(self.inputs) // batch)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and labels ``[batch, length]``; a client with fewer rows than a batch repeats some."""
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng((*self.seed, epoch)).permutation(len(self.inputs))
        rows = torch.from_numpy(np.resize(order[place * self.batch :], self.batch))
        return self.inputs[rows], self.labels[rows]

    @property
    def tokens(self) -> int:
        """Labels that count, over all rows."""
        return int((self.labels != IGNORED).sum())
