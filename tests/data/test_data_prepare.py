import dataclasses
import gzip
import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest
from test_data_cifar import make_records, write_binary, write_python
from test_data_idx import idx_bytes, write_mnist

from saccade import data
from saccade.data import cifar, download, mnist
from saccade.data.archives import Archive
from saccade.data.cifar import FORMATS
from saccade.data.mnist import FILES


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, with ranges unless told otherwise, and may break off."""

    def do_GET(self):
        server = self.server
        content = server.files.get(self.path)
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if server.ranges else 0
        server.requests.append((self.path, start))
        if content is None:
            self.send_error(404)
            return
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : server.break_at])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests, server.ranges, server.break_at = {}, [], True, None
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


CONTENT = np.random.default_rng(0).bytes(3_000_000)


def md5(content):
    return hashlib.md5(content).hexdigest()


def quiet(_):
    pass


def test_a_file_is_fetched_and_verified(tmp_path, server):
    server.files["/a.bin"] = CONTENT
    lines: list[str] = []
    download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(CONTENT), report=lines.append)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert "3,000,000 bytes" in lines[0]


def test_a_broken_transfer_is_resumed(tmp_path, server):
    server.files["/a.bin"] = CONTENT
    server.break_at = 1_200_000
    with pytest.raises(ConnectionError, match=r"broke off at 1,200,000 of 3,000,000 bytes: run again to resume"):
        download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(CONTENT), report=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin.part"]
    server.break_at = None
    download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(CONTENT), report=quiet)
    assert server.requests[-1] == ("/a.bin", 1_200_000)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(tmp_path, server):
    server.files["/a.bin"], server.ranges = CONTENT, False
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(CONTENT), report=quiet)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_was_already_whole_is_taken(tmp_path, server):
    server.files["/a.bin"] = CONTENT
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin", md5(CONTENT), report=quiet)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(tmp_path, server):
    server.files["/a.bin"] = CONTENT
    with pytest.raises(ValueError, match="not the published 0123") as error:
        download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin", "0123", report=quiet)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def replace_archives(monkeypatch, formats, name, archives):
    """Other addresses and checksums in the place of the canonical ones."""
    monkeypatch.setitem(formats, name, dataclasses.replace(formats[name], archives=tuple(archives)))


@pytest.fixture
def mnist_site(tmp_path, server, monkeypatch):
    """A server with a small MNIST, whose addresses and checksums replace the canonical ones."""
    write_mnist(tmp_path / "site", zipped=True)
    sources = []
    for name in FILES:
        content = (tmp_path / "site" / f"{name}.gz").read_bytes()
        server.files[f"/{name}.gz"] = content
        sources.append(Archive(f"{server.url}/{name}.gz", md5(content)))
    replace_archives(monkeypatch, mnist.FORMATS, "mnist", sources)
    return server


def test_mnist_is_prepared_once(tmp_path, mnist_site):
    lines: list[str] = []
    root = tmp_path / "data"
    assert data.prepare("mnist", root, report=lines.append) == root / "mnist"
    assert len(data.load("mnist", root, validation=10).train) == 30
    mnist_site.requests.clear()
    lines.clear()
    data.prepare("mnist", root, report=lines.append)
    assert mnist_site.requests == []
    assert len(lines) == 4
    assert all(line.endswith("complete") for line in lines)


def test_a_damaged_mnist_file_is_refused(tmp_path, mnist_site):
    root = tmp_path / "data"
    path = data.prepare("mnist", root, report=quiet) / f"{FILES[0]}.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((2, 28, 28)))))
    with pytest.raises(ValueError, match="delete it and run again") as error:
        data.prepare("mnist", root, report=quiet)
    assert str(path) in str(error.value)


def test_without_a_network_the_line_says_what_to_place_where(tmp_path, server, monkeypatch):
    archives = cifar.FORMATS["cifar10"].archives
    away = [Archive(f"http://127.0.0.1:1/{archive.file}", archive.md5) for archive in archives]
    replace_archives(monkeypatch, cifar.FORMATS, "cifar10", away)
    with pytest.raises(ConnectionError, match="cannot be reached") as error:
        data.prepare("cifar10", tmp_path, report=quiet)
    line = str(error.value)
    assert "\n" not in line
    assert "http://127.0.0.1:1/cifar-10-binary.tar.gz" in line
    assert f"place cifar-10-binary.tar.gz in {tmp_path}" in line
    assert "saccade data prepare cifar10" in line
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_gone_is_named(tmp_path, mnist_site):
    mnist_site.files.clear()
    with pytest.raises(ConnectionError, match="answers 404"):
        data.prepare("mnist", tmp_path / "data", report=quiet)


@pytest.fixture
def cifar_archives(tmp_path, server, small_cifar, monkeypatch):
    """Archives of a small CIFAR-10 on the server; returns {file name: content}."""
    form = small_cifar["cifar10"]
    folders = (write_binary(tmp_path / "made", form), write_python(tmp_path / "made", form))
    archives, sources = {}, []
    for folder, kind in zip(folders, ("binary", "python"), strict=True):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            tar.add(folder, folder.name)
        name = f"cifar-10-{kind}.tar.gz"
        archives[name] = server.files[f"/{name}"] = buffer.getvalue()
        sources.append(Archive(f"{server.url}/{name}", md5(archives[name])))
    replace_archives(monkeypatch, cifar.FORMATS, "cifar10", sources)
    return archives


def test_cifar_is_fetched_unpacked_and_found_complete(tmp_path, server, cifar_archives):
    root = tmp_path / "data"
    assert data.prepare("cifar10", root, report=quiet) == root / "cifar-10-batches-bin"
    train = data.load("cifar10", root, validation=0).train
    assert (train[0][0].numpy().reshape(-1) == make_records(FORMATS["cifar10"], 0)[0][0]).all()
    assert sorted(path.name for path in root.iterdir()) == ["cifar-10-batches-bin", "cifar-10-binary.tar.gz"]
    server.requests.clear()
    lines: list[str] = []
    data.prepare("cifar10", root, report=lines.append)
    assert lines == [f"{root / 'cifar-10-batches-bin'}: complete"]
    assert server.requests == []


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_an_archive_placed_by_hand_is_unpacked(tmp_path, server, cifar_archives, kind):
    root = tmp_path / "data"
    root.mkdir()
    name = f"cifar-10-{kind}.tar.gz"
    (root / name).write_bytes(cifar_archives[name])
    folder = data.prepare("cifar10", root, report=quiet)
    assert folder.name == ("cifar-10-batches-bin" if kind == "binary" else "cifar-10-batches-py")
    assert server.requests == []
    assert len(data.load("cifar10", root, validation=0).train) == 100
    lines: list[str] = []
    assert data.prepare("cifar10", root, report=lines.append) == folder
    assert lines == [f"{folder}: complete"]


def test_a_truncated_archive_is_refused_and_nothing_unpacked(tmp_path, cifar_archives):
    root = tmp_path / "data"
    root.mkdir()
    archive = root / "cifar-10-binary.tar.gz"
    archive.write_bytes(cifar_archives[archive.name][:-100])
    with pytest.raises(ValueError, match="delete it and run again") as error:
        data.prepare("cifar10", root, report=quiet)
    assert str(archive) in str(error.value)
    assert list(root.iterdir()) == [archive]


def test_a_damaged_folder_is_mended(tmp_path, cifar_archives):
    root = tmp_path / "data"
    folder = data.prepare("cifar10", root, report=quiet)
    (folder / "data_batch_1.bin").write_bytes(b"short")
    (folder / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match=r"data_batch_1\.bin"):
        data.load("cifar10", root, validation=0)
    data.prepare("cifar10", root, report=quiet)
    assert len(data.load("cifar10", root, validation=0).train) == 100
    assert (folder / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize("absolute", [False, True])
def test_an_archive_that_reaches_outside_is_refused(tmp_path, cifar_archives, monkeypatch, absolute):
    member = str(tmp_path / "escaped") if absolute else "../escaped"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo(member), io.BytesIO())
    root = tmp_path / "data"
    root.mkdir()
    (root / "cifar-10-binary.tar.gz").write_bytes(buffer.getvalue())
    source = Archive("http://127.0.0.1:1/cifar-10-binary.tar.gz", md5(buffer.getvalue()))
    replace_archives(monkeypatch, cifar.FORMATS, "cifar10", (source, source))
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz") as error:
        data.prepare("cifar10", root, report=quiet)
    assert "\n" not in str(error.value)
    assert [path.name for path in root.iterdir()] == ["cifar-10-binary.tar.gz"]
    assert not (tmp_path / "escaped").exists()


def test_canonical_addresses_and_checksums():
    sources = [s for table in (cifar.FORMATS, mnist.FORMATS) for form in table.values() for s in form.archives]
    assert len(sources) == 12
    assert len({source.md5 for source in sources}) == 12
    assert all(len(source.md5) == 32 and source.url.startswith("http") for source in sources)


def test_digits_need_no_download(tmp_path):
    lines: list[str] = []
    data.prepare("digits", tmp_path, report=lines.append)
    assert "nothing to fetch" in lines[0]
