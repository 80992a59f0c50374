"""Seeing what the modules of a model are given and return while it runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

Select = Iterable[str] | Callable[[str, nn.Module], bool]
Note = Callable[[str, nn.Module, tuple[Any, ...], Any], None]


def selected(model: nn.Module, select: Select) -> dict[str, nn.Module]:
    """Modules by path: those that a predicate on (path, module) accepts, or those at the given paths.

    The model itself is at "". A predicate is asked once a module, by its first path.
    Raises ValueError for a path that the model does not have.
    """
    if callable(select):
        return {path: module for path, module in model.named_modules() if select(path, module)}
    if isinstance(select, str):
        raise ValueError(f"modules are selected by a list of paths or a predicate, got the text {select!r}")
    known = dict(model.named_modules(remove_duplicate=False))
    result: dict[str, nn.Module] = {}
    for path in select:
        if path not in known:
            near = difflib.get_close_matches(path, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{type(model).__name__} has no module {path!r}{hint}")
        result[path] = known[path]
    return result


@contextmanager
def observe(model: nn.Module, select: Select, note: Note) -> Iterator[dict[str, nn.Module]]:
    """Call ``note(path, module, args, output)`` after each call of the selected modules (see ``selected``), which it yields.

    ``args``: the positional arguments of the call, then the values of its keyword arguments. What ``note`` returns is not used.

    >>> with observe(model, lambda path, module: isinstance(module, Spiking), note):
    ...     model(x)
    """
    modules = selected(model, select)
    handles = [
        module.register_forward_hook(_hook(path, note), with_kwargs=True) for path, module in list(modules.items())
    ]
    try:
        yield modules
    finally:
        for handle in handles:
            handle.remove()


def _hook(path: str, note: Note) -> Callable[..., None]:
    def call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        note(path, module, (*args, *kwargs.values()), output)

    return call


@contextmanager
def outputs(model: nn.Module, select: Select) -> Iterator[dict[str, list[Any]]]:
    """What the selected modules return, by path, in order of their calls; an empty list for one that was not called.

    Tensors are copied, so that a later operation in place does not change them; gradients flow through the copies.

    >>> with outputs(model, ["stem", "head"]) as seen:
    ...     model(x)
    >>> seen["stem"][0].shape
    """
    seen: dict[str, list[Any]] = {}

    def note(path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen[path].append(tree_map(_copy, output))

    with observe(model, select, note) as modules:
        seen.update({path: [] for path in modules})
        yield seen


def _copy(leaf: Any) -> Any:
    return torch.clone(leaf) if isinstance(leaf, Tensor) else leaf
