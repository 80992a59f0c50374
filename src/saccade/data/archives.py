"""Published archives of data sets: their addresses and checksums, fetching, unpacking."""

import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from saccade.data.download import fetch, md5_of

Report = Callable[[str], None]


@dataclass(frozen=True)
class Archive:
    """A file at its canonical address, with the MD5 that is published for it."""

    url: str
    md5: str

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[1]


def advice(name: str) -> str:
    """What to do where the files of a data set are missing."""
    return f"`saccade data prepare {name}` fetches the set, SACCADE_DATA names the folder that holds it"


def fetch_or_explain(name: str, archive: Archive, folder: Path, report: Report) -> None:
    """Fetch an archive into a folder. Raises ConnectionError that says what to place where, if there is no network."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fetch(archive.url, folder / archive.file, archive.md5, report=report)
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}; without a network, fetch {archive.url} elsewhere, place {archive.file} in {folder} "
            f"and run `saccade data prepare {name}` again"
        ) from None


def check_md5(path: Path, md5: str) -> None:
    """Raises ValueError if a file is not the published one."""
    actual = md5_of(path)
    if actual != md5:
        raise ValueError(f"{path}: MD5 {actual}, not the published {md5}: delete it and run again")


def unpack(archive: Path, md5: str, folder: Path, report: Report) -> None:
    """Unpack `folder` from a tar archive, aside first: files move into place whole, so that a break leaves none in halves.

    Files that lie in `folder` already and are not in the archive stay. Raises ValueError for an archive that is not the
    published one or cannot be unpacked.
    """
    check_md5(archive, md5)
    report(f"unpacking {archive}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as aside:
        try:
            with tarfile.open(archive) as tar:
                extract_tar(tar, Path(aside))
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(f"{archive}: cannot be unpacked ({error})") from None
        unpacked = Path(aside) / folder.name
        if not unpacked.is_dir():
            raise ValueError(f"{archive}: holds no folder {folder.name}")
        if folder.exists():
            for file in unpacked.iterdir():
                os.replace(file, folder / file.name)
        else:
            os.replace(unpacked, folder)


def extract_tar(tar: tarfile.TarFile, place: Path) -> None:
    """Files and folders below ``place``. Raises tarfile.TarError for anything that reaches outside."""
    if hasattr(tarfile, "data_filter"):
        tar.extractall(place, filter="data")
        return
    members = tar.getmembers()  # Python before 3.11.4
    for member in members:
        if not (member.isfile() or member.isdir()) or not (place / member.name).resolve().is_relative_to(
            place.resolve()
        ):
            raise tarfile.TarError(f"{member.name!r} would be extracted to outside, or is no plain file")
    tar.extractall(place, members)
