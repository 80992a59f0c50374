"""Every reader, fuzzed: a few hundred mutations by default, 100,000 a reader in the slow run."""

import warnings

import fuzzing
import pytest

READERS = fuzzing.all_readers()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("count", [150, pytest.param(100_000, marks=pytest.mark.slow)])
def test_whatever_bytes_a_file_holds(name, count):
    found = fuzzing.fuzz(name, READERS[name], count)
    assert found.count == count
    assert 0.05 < found.refused / count < 0.999
    assert not found.faults, found.words()


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (lambda path: {}["x"], "KeyError"),
        (lambda path: warnings.warn("a word", stacklevel=1), "a warning: a word"),
        (lambda path: fuzzing.os.write(2, b"libtiff: a word\n"), "printed: 'libtiff: a word'"),
        (lambda path: int("x"), "names no file"),
        (lambda path: path.read_bytes().decode(), "UnicodeDecodeError"),
        (lambda path: (_ for _ in ()).throw(ValueError(f"{path}: two\nlines")), "several lines"),
        (lambda path: (_ for _ in ()).throw(EOFError("the end")), "EOFError"),
    ],
)
def test_the_fuzzer_sees_what_it_looks_for(give, words, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"\xff\xfe")
    what, _ = fuzzing.trouble(path, give)
    assert words in what
