"""Changes of a model that its file replays: each is a Config with ``apply``, in place, and ``undo`` where there is a way
back.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from saccade.config import Config, Registry

TRANSFORMS: Registry[Transform] = Registry("model transform")


@dataclass(frozen=True)
class Change:
    """What a transform did. layers: paths that changed; left: those that could have and did not; config: what a file replays,
    with every pattern and choice made out.
    """

    config: Transform
    layers: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Transform(Config):
    """Base of the changes of a model. ``changes_structure``: whether a file of values alone (a packed file) must replay it.

    ``one_process``: a model so changed is trained in one process only.
    """

    registry: ClassVar[Registry[Transform]] = TRANSFORMS
    changes_structure: ClassVar[bool] = True
    one_process: ClassVar[bool] = False

    def apply(self, model: nn.Module) -> Change:
        """Change a model in place. Raises ValueError, with the model untouched, where it cannot be."""
        raise NotImplementedError

    def undo(self, model: nn.Module) -> None:
        """Change it back. Raises ValueError for a change that is one-way, or a model without it."""
        raise ValueError(f"{self.kind()} is one-way: what it removed is gone")


def apply(model: nn.Module, transform: Transform | str | dict[str, Any]) -> Change:
    """Apply a transform (a config, a name or ``{name, config}``) in place, and note it in ``model.transforms`` for files.

    A model without such a list goes without. Raises ValueError, with the model untouched, for settings or a model that do not
    fit.
    """
    change = Transform.parse(transform).apply(model)
    noted(model).append(change.config)
    return change


def undo(model: nn.Module, name: str) -> None:
    """Undo the transforms of a name, and strike them from ``model.transforms``. Raises ValueError where that cannot be."""
    transform = TRANSFORMS[name]
    done = [one for one in noted(model) if type(one) is type(transform)]
    (done[-1] if done else transform).undo(model)
    noted(model)[:] = [one for one in noted(model) if type(one) is not type(transform)]


def noted(model: nn.Module) -> list[Transform]:
    """What was done to a model, in order; an empty list of nobody's for a model that keeps none."""
    transforms: Any = getattr(model, "transforms", None)
    return transforms if isinstance(transforms, list) else []


def matching(paths: Iterable[str], patterns: Sequence[str], what: str) -> tuple[str, ...]:
    """The paths that fit any of the patterns (shell patterns: ``blocks.*.conv1``).

    Raises ValueError, beginning with ``what``, for a pattern that fits none.
    """
    paths = list(paths)
    for pattern in patterns:
        if not fnmatch.filter(paths, pattern):
            raise ValueError(f"{what}: {pattern!r} fits none of {', '.join(paths)}")
    return tuple(path for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns))


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of another, wherever that occurs: it may sit at two paths."""
    old = model.get_submodule(path)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                parent._modules[name] = module
