"""Put a data set in place: fetch, verify, unpack, or say what to place where."""

import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from saccade.data.catalogue import describe
from saccade.data.cifar import FORMATS, missing_binary_file, missing_python_file
from saccade.data.download import fetch, md5_of
from saccade.data.folder import check_folder
from saccade.data.idx import FILES, find_idx, read_idx

Report = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """A file at its canonical address, with the MD5 that is published for it."""

    url: str
    md5: str

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[1]


_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

# Of each CIFAR set: the binary archive, which is fetched, and the Python one, which is taken if somebody placed it.
CIFAR_SOURCES = {
    "cifar10": (
        Source(f"{_TORONTO}cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
        Source(f"{_TORONTO}cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    ),
    "cifar100": (
        Source(f"{_TORONTO}cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
        Source(f"{_TORONTO}cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    ),
}
# In the order of idx.FILES.
IDX_SOURCES = {
    "mnist": (
        Source(f"{_MNIST}{FILES[0]}.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        Source(f"{_MNIST}{FILES[1]}.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        Source(f"{_MNIST}{FILES[2]}.gz", "9fb629c4189551a2d022fa330f9573f3"),
        Source(f"{_MNIST}{FILES[3]}.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
    "fashion-mnist": (
        Source(f"{_FASHION}{FILES[0]}.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        Source(f"{_FASHION}{FILES[1]}.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        Source(f"{_FASHION}{FILES[2]}.gz", "bef4ecab320f06d8554ea6380940ec79"),
        Source(f"{_FASHION}{FILES[3]}.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
}


def prepare(name: str, root: str | Path, *, report: Report = print) -> Path:
    """Make `name` loadable from `root` and return the folder that holds it.

    Files that are complete are left alone; archives placed in `root` by hand are verified and unpacked; the rest is
    fetched, resuming what an earlier call began. Raises ConnectionError where there is no network (the line says what
    to place where), ValueError for damaged files, FileNotFoundError for a `folder` without the right layout.
    """
    describe(name)  # raises for unknown names
    root = Path(root).expanduser()
    if name in CIFAR_SOURCES:
        return _prepare_cifar(name, root, report)
    if name in IDX_SOURCES:
        return _prepare_idx(name, root, report)
    if name == "digits":
        report("digits comes with scikit-learn (pip install 'saccade[demo]'): nothing to fetch")
        return root
    if not (root / "train").is_dir() or not (root / "test").is_dir():
        raise FileNotFoundError(
            f"{root}: an image folder has train/CLASS/*.png and test/CLASS/*.png (or jpg, ...), optionally "
            "validation/CLASS/*.png: place your images there"
        )
    report(f"{root}: {check_folder(root, report=report):,} images, all readable")
    return root


def _prepare_cifar(name: str, root: Path, report: Report) -> Path:
    form = FORMATS[name]
    binary, python = root / form.binary_folder, root / form.python_folder
    if missing_binary_file(binary, form) is None:
        report(f"{binary}: complete")
        return binary
    if not binary.is_dir() and missing_python_file(python, form) is None:
        report(f"{python}: complete")
        return python
    for source, folder in zip(CIFAR_SOURCES[name], (binary, python), strict=True):
        if (root / source.file).is_file():
            return _unpack(root / source.file, source.md5, folder, report)
    source = CIFAR_SOURCES[name][0]
    _fetch_or_explain(name, source, root, report)
    return _unpack(root / source.file, source.md5, binary, report)


def _prepare_idx(name: str, root: Path, report: Report) -> Path:
    folder = root / name
    for source, file in zip(IDX_SOURCES[name], FILES, strict=True):
        path = find_idx(folder, file)
        if path is None:
            _fetch_or_explain(name, source, folder, report)
            path = folder / source.file
        elif path.name == source.file and md5_of(path) != source.md5:
            raise ValueError(f"{path}: MD5 {md5_of(path)}, not the published {source.md5}: delete it and run again")
        read_idx(path)
        report(f"{path}: complete")
    return folder


def _fetch_or_explain(name: str, source: Source, folder: Path, report: Report) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fetch(source.url, folder / source.file, source.md5, report=report)
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}; without a network, fetch {source.url} elsewhere, place {source.file} in {folder} "
            f"and run `saccade data prepare {name}` again"
        ) from None


def _unpack(archive: Path, md5: str, folder: Path, report: Report) -> Path:
    """Unpack `folder` from `archive`, aside first: files move into place whole, so that a break leaves none in halves."""
    found = md5_of(archive)
    if found != md5:
        raise ValueError(f"{archive}: MD5 {found}, not the published {md5}: delete it and run again")
    report(f"unpacking {archive}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as aside:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(aside, filter="data")
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
    form = next(form for form in FORMATS.values() if folder.name in (form.binary_folder, form.python_folder))
    missing = (missing_binary_file if folder.name == form.binary_folder else missing_python_file)(folder, form)
    if missing is not None:
        raise ValueError(f"{missing}: absent from {archive}, or of the wrong size")
    report(f"{folder}: complete; {archive} may be deleted")
    return folder
