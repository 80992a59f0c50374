"""What a recipe asks for, read and made: the model, every client's batches, the held-out text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.split.lora import Adapted
from saccade.split.models import load_model, load_tokenizer
from saccade.split.partition import length_dirichlet, partition_report
from saccade.split.parts import split_causal_lm, token_loss
from saccade.split.recipe import SplitRecipe
from saccade.split.text import Batches, find, padded_blocks, read_samples, stream_blocks

Blocks = tuple[Tensor, Tensor]


@dataclass
class World:
    """base: the frozen model. samples: of the training text. parts: which of them each client has. held_out: blocks
    to score on."""

    base: nn.Module
    samples: list[str]
    lengths: list[int]
    parts: list[list[int]]
    clients: dict[str, Batches]
    held_out: Blocks

    def report(self, classes: int = 10) -> dict[str, Any]:
        return partition_report(self.lengths, self.parts, classes)


def client_name(index: int) -> str:
    return f"client-{index}"


def read_training_text(recipe: SplitRecipe, path: str | None = None) -> list[str]:
    """Samples of a text file, or of JSON lines ``{"text": ...}``. Raises ValueError naming file and line."""
    place = find(path or recipe.data.train)
    if place.suffix != ".jsonl":
        return read_samples(place, recipe.data.unit)
    samples = []
    for number, line in enumerate(place.read_text(encoding="utf-8").splitlines(), 1):
        try:
            value = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError(f"{place}: line {number} is not {{'text': ...}}") from None
        if not isinstance(value, str):
            raise ValueError(f"{place}: line {number} is not {{'text': ...}}")
        samples.append(value)
    if not samples:
        raise ValueError(f"{place}: holds no samples")
    return samples


def share_text(recipe: SplitRecipe) -> tuple[list[str], list[list[int]], list[list[int]]]:
    """``(samples, their token ids, which samples each client gets)``."""
    samples = read_training_text(recipe)
    encode = load_tokenizer(recipe.model, recipe.data.tokenizer)
    ids = [encode(sample) for sample in samples]
    c = recipe.clients
    parts = length_dirichlet([len(row) for row in ids], c.count, c.alpha, c.classes, c.mode, recipe.seed, c.min_size)
    return samples, ids, parts


def make_world(recipe: SplitRecipe) -> World:
    """Read model and text. Raises ValueError, in one line, for whatever does not fit."""
    samples, ids, parts = share_text(recipe)
    clients = {
        client_name(i): batches_of(recipe, [ids[j] for j in part], i, client_name(i)) for i, part in enumerate(parts)
    }
    base = load_model(recipe.model, recipe.seed)
    check_vocabulary(base, clients.values(), recipe.model)
    return World(base, samples, [len(row) for row in ids], parts, clients, held_out(recipe))


def batches_of(recipe: SplitRecipe, ids: Sequence[Sequence[int]], index: int, name: str) -> Batches:
    """A client's batches. Raises ValueError naming the client if its text is too short."""
    make = stream_blocks if recipe.data.pack else padded_blocks
    try:
        blocks = make(ids, recipe.data.length)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return Batches(blocks, recipe.data.batch, (recipe.seed, index))


def held_out(recipe: SplitRecipe) -> Blocks:
    """Blocks of the evaluation text, always packed; evenly spread where ``eval_rows`` asks for fewer than there are."""
    encode = load_tokenizer(recipe.model, recipe.data.tokenizer)
    samples = read_training_text(recipe, recipe.data.eval)
    inputs, labels = stream_blocks([encode(sample) for sample in samples], recipe.data.length)
    rows = recipe.data.eval_rows
    if rows is not None and rows < len(inputs):
        chosen = torch.linspace(0, len(inputs) - 1, rows).round().long()
        inputs, labels = inputs[chosen], labels[chosen]
    return inputs, labels


def check_vocabulary(base: nn.Module, clients: Any, name: str) -> None:
    """Raises ValueError for a tokenizer whose ids the model does not have."""
    config: Any = base.config  # of Transformers
    most = max((int(batches.inputs.max()) for batches in clients), default=0)
    if most >= config.vocab_size:
        raise ValueError(
            f"{name}: knows {config.vocab_size} tokens, and the text has number {most}; another tokenizer?"
        )
    longest = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", 1 << 30)
    length = max((batches.inputs.shape[1] for batches in clients), default=0)
    if longest is not None and length > longest:
        raise ValueError(f"{name}: reads {longest} tokens at most, and data.length is {length}")


@torch.no_grad()
def evaluate(adapted: Adapted | nn.Module, blocks: Blocks, batch: int = 16) -> dict[str, float]:
    """Mean cross entropy in nats a token and share of next tokens that came out on top, of a whole model in eval
    mode."""
    model = adapted.model if isinstance(adapted, Adapted) else adapted
    parts = split_causal_lm(model, 1)
    loss_sum, tokens, right = 0.0, 0, 0
    for at in range(0, len(blocks[0]), batch):
        x, labels = blocks[0][at : at + batch], blocks[1][at : at + batch]
        loss, count, top = token_loss(parts.forward(x), labels)
        loss_sum += float(loss) * count
        tokens += count
        right += top
    return {"loss": loss_sum / tokens, "accuracy": right / tokens, "tokens": tokens}


def write_parts(world_samples: Sequence[str], parts: Sequence[Sequence[int]], folder: Path) -> list[Path]:
    """A file of JSON lines a client. Raises ValueError if one is there already."""
    paths = [folder / f"{client_name(i)}.jsonl" for i in range(len(parts))]
    for path in paths:
        if path.exists():
            raise ValueError(f"{path}: is there already; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    for path, part in zip(paths, parts, strict=True):
        path.write_text("".join(json.dumps({"text": world_samples[i]}) + "\n" for i in part), encoding="utf-8")
    return paths
