"""Recordings in folders, one folder a class."""

from collections.abc import Collection, Sequence
from pathlib import Path

from saccade.data.event_frames import Clip


def class_folders(folder: Path) -> tuple[str, ...]:
    """The class names of a folder that has one folder a class, sorted. Raises FileNotFoundError without any."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; it holds one folder a class, with recordings")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"{folder}: has no class folders: place recordings in {folder / 'CLASS'}")
    return tuple(names)


def by_class(folder: Path, classes: Sequence[str], suffixes: Collection[str] | None = None) -> list[Clip]:
    """The recordings of folder/CLASS/*, class by class, by name (numbers in names by their value).

    suffixes: of files that count (None: all but hidden ones). Raises FileNotFoundError for a class without recordings,
    ValueError for a folder that is no class.
    """
    strangers = set(class_folders(folder)) - set(classes)
    if strangers:
        known = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
        raise ValueError(f"{folder / min(strangers)}: there is no class of this name; known: {known}")
    clips = []
    for label, name in enumerate(classes):
        place = folder / name
        files = place.iterdir() if place.is_dir() else []
        recordings = sorted(
            (path for path in files if _counts(path, suffixes)), key=lambda path: (_numbers(path.name), path.name)
        )
        if not recordings:
            wanted = "/".join(sorted(suffixes)) if suffixes else ""
            raise FileNotFoundError(f"{place}: holds no {wanted} recording".replace("  ", " "))
        clips += [Clip(path, label) for path in recordings]
    return clips


def _counts(path: Path, suffixes: Collection[str] | None) -> bool:
    return (suffixes is None or path.suffix.lower() in suffixes) and not path.name.startswith(".") and path.is_file()


def _numbers(name: str) -> tuple[int, ...]:
    """The numbers in a name: cifar10_airplane_9 comes before cifar10_airplane_10."""
    digits = "".join(c if c in "0123456789" else " " for c in name)
    return tuple(int(word) for word in digits.split())
