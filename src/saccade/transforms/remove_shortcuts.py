"""Shortcuts that never fire, taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from saccade.layers import ResidualBlock, SpikingShortcut
from saccade.transforms.base import TRANSFORMS, Change, Transform, matching


@dataclass(frozen=True)
class RemoveShortcutsConfig(Transform):
    """Take out the spiking shortcuts at the paths (or patterns) ``remove``, so that their blocks give the backbone alone."""

    remove: tuple[str, ...] = ()

    def apply(self, model: nn.Module) -> Change:
        """Raises ValueError for a path that is no spiking shortcut, or whose connection needs it."""
        blocks = spiking_shortcuts(model)
        paths: tuple[str, ...] = ()
        if self.remove:
            if not blocks:
                raise ValueError(f"{type(model).__name__} has no spiking shortcuts to remove")
            paths = matching(blocks, self.remove, "remove: among the spiking shortcuts")
        for path in paths:
            connection = blocks[path].connection
            if connection is None or not connection.removable:
                name = "none" if connection is None else connection.name
                raise ValueError(f"{path!r} cannot be removed: {name!r} of a silent shortcut is not the backbone")
        for path in paths:
            blocks[path].shortcut = None
        return Change(RemoveShortcutsConfig(paths), paths, tuple(path for path in blocks if path not in paths))


TRANSFORMS.register("remove_shortcuts", RemoveShortcutsConfig())


def spiking_shortcuts(model: nn.Module) -> dict[str, ResidualBlock]:
    """The spiking shortcuts of a model by path, each with the block that it belongs to."""
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, SpikingShortcut):
            block = model.get_submodule(path.rpartition(".")[0])
            if isinstance(block, ResidualBlock):
                found[path] = cast(ResidualBlock, block)
    return found
