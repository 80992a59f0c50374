"""Data sets that nobody may fetch for their user: archives that were placed by hand are unpacked."""

import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from saccade.data.archives import Report, extract_tar


def unpack_placed(
    name: str,
    root: Path,
    folder: str,
    archives: Sequence[str],
    contents: Sequence[str],
    address: str,
    report: Report,
) -> Path:
    """Make root/folder hold ``contents`` (names of files or folders) from whichever of ``archives`` lie in root or in it.

    A folder inside an archive that holds all of ``contents`` becomes root/folder. Raises FileNotFoundError that says what to
    fetch where, ValueError for a damaged archive.
    """
    place = root / folder
    for archive in (found for one in archives for found in (root / one, place / one) if found.is_file()):
        if all((place / one).exists() for one in contents):
            break
        report(f"unpacking {archive}")
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".unpacking-") as aside:
            try:
                _extract(archive, Path(aside))
            except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
                raise ValueError(f"{archive}: cannot be unpacked ({error})") from None
            _move(_inner(Path(aside), contents), place)
    missing = [one for one in contents if not (place / one).exists()]
    if missing:
        raise FileNotFoundError(
            f"{place}: holds no {missing[0]}; fetch the set from {address}, place {' or '.join(archives[:2])} in {root} "
            f"and run `saccade data prepare {name}` again"
        )
    report(f"{place}: complete")
    return place


def _extract(archive: Path, place: Path) -> None:
    if not zipfile.is_zipfile(archive):
        with tarfile.open(archive) as tar:
            extract_tar(tar, place)
        return
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():  # extract() keeps names inside the folder
            packed.extract(entry, place)


def _inner(place: Path, contents: Sequence[str]) -> Path:
    """The folder in an unpacked archive that is the set: whichever holds its contents, else the only one, else all of it."""
    for at in (place, *sorted(path for path in place.rglob("*") if path.is_dir())):
        if all((at / one).exists() for one in contents):
            return at
    return place


def _move(source: Path, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        target = place / path.name
        if target.is_dir() and path.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
