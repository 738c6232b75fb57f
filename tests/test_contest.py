"""The contest's files: every way they are written reads alike, what is wrong with one is said in a line."""

import contextlib
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from senone.corpus.contest import REQUIRED, open_contest, write_utterances
from senone.corpus.object_array import index_arrays


def objects(arrays: list[np.ndarray]) -> np.ndarray:
    packed = np.empty(len(arrays), object)
    for index, array in enumerate(arrays):
        packed[index] = array
    return packed


def save_pickled(path: Path, array: np.ndarray, dump: bytes) -> None:
    """A .npy file of an object array with a given pickle in it."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": array.shape}
        )
        file.write(dump)


class Python2Pickler(pickle._Pickler):
    """Writes bytes and names as Python 2's strings, as numpy under Python 2 did."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_string(self, text: bytes | str) -> None:
        raw = text.encode("latin-1") if isinstance(text, str) else text
        short = len(raw) < 256
        self.write((b"U" + bytes([len(raw)]) if short else b"T" + struct.pack("<i", len(raw))) + raw)
        self.memoize(text)

    def save_global(self, obj: object, name: str | None = None) -> None:
        module = {"_reconstruct": "numpy.core.multiarray"}.get(obj.__name__, "numpy")
        self.write(f"c{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2_dump(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    pickler = Python2Pickler(buffer, protocol=2)
    for kind in (type, type(np._core.multiarray._reconstruct)):
        pickler.dispatch[kind] = Python2Pickler.save_global
    pickler.dump(array)
    return buffer.getvalue()


@pytest.fixture
def utterances() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal((length, 5)).astype(np.float32) for length in (7, 1, 300, 7)]


def read_all(path: Path) -> list[np.ndarray]:
    with path.open("rb") as file:
        return [place.read(file) for place in index_arrays(path)]


def assert_same(read: list[np.ndarray], written: list[np.ndarray]) -> None:
    assert len(read) == len(written)
    for ours, theirs in zip(read, written, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype.itemsize == theirs.dtype.itemsize


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_reads_alike(
    tmp_path: Path, utterances: list[np.ndarray], protocol: int
) -> None:
    path = tmp_path / "train.npy"
    array = objects(utterances)
    save_pickled(path, array, pickle.dumps(array, protocol=protocol))
    assert_same(read_all(path), utterances)


@pytest.mark.parametrize(("first", "damaged"), [(1, False), (200, False), (2**31, True)])
def test_what_a_pickle_remembers_may_be_numbered_from_1_but_not_take_all_memory(
    tmp_path: Path, first: int, damaged: bool
) -> None:
    array = objects([np.zeros((3, 4), np.float32)] * 2)  # the second is what was remembered of the first
    dump = pickle.dumps(array, protocol=2)
    numbered = b"".join(
        (b"r" if name == "BINPUT" else b"j") + (first + argument).to_bytes(4, "little")
        if name in ("BINPUT", "BINGET")
        else dump[start:end]
        for name, argument, start, end in opcodes(dump)
    )
    assert_same(list(pickle.loads(numbered)) if not damaged else list(array), list(array))
    save_pickled(tmp_path / "x.npy", array, numbered)
    if damaged:
        with pytest.raises(ValueError, match=r"x\.npy: its pickle is damaged near byte"):
            read_all(tmp_path / "x.npy")
    else:
        assert_same(read_all(tmp_path / "x.npy"), list(array))


def opcodes(dump: bytes) -> list[tuple[str, Any, int, int]]:
    """Name, argument, first byte and end of each."""
    found = [(code.name, argument, at or 0) for code, argument, at in pickletools.genops(dump)]
    ends = [at for _, _, at in found[1:]] + [len(dump)]
    return [(name, argument, at, end) for (name, argument, at), end in zip(found, ends, strict=True)]


def test_a_file_by_python_2_reads_alike(tmp_path: Path, utterances: list[np.ndarray]) -> None:
    path = tmp_path / "train.npy"
    dump = python2_dump(objects(utterances))
    assert b"cnumpy.core.multiarray\n_reconstruct" in dump
    assert_same(list(pickle.loads(dump, encoding="bytes")), utterances)  # it is what Python 2 would write
    save_pickled(path, objects(utterances), dump)
    assert_same(read_all(path), utterances)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i4", ">i8", "|u1"])
def test_every_number_type_and_byte_order_reads_alike(tmp_path: Path, dtype: str) -> None:
    arrays = [np.arange(6).reshape(3, 2).astype(dtype), np.arange(4).reshape(2, 2).astype(dtype)]
    np.save(tmp_path / "x.npy", objects(arrays))
    assert_same(read_all(tmp_path / "x.npy"), arrays)


def test_utterances_in_fortran_order_and_an_utterance_named_twice_read_alike(tmp_path: Path) -> None:
    first = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    arrays = [first, first + 1, first]
    np.save(tmp_path / "x.npy", objects(arrays))
    assert_same(read_all(tmp_path / "x.npy"), arrays)


def test_equal_lengths_saved_as_one_array_read_as_utterances(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save(tmp_path / "x.npy", array)
    assert_same(read_all(tmp_path / "x.npy"), list(array))


def test_reading_agrees_with_numpy_on_what_we_write(tmp_path: Path, utterances: list[np.ndarray]) -> None:
    equal = [utterances[0], utterances[3]]
    for arrays in (utterances, equal):
        write_utterances(tmp_path / "x.npy", arrays)
        assert_same(list(np.load(tmp_path / "x.npy", allow_pickle=True)), arrays)
        assert_same(read_all(tmp_path / "x.npy"), arrays)


class Evil:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o755)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_asks_for_more_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    path, trap = tmp_path / "train.npy", tmp_path / "trap"
    array = objects([np.zeros((2, 2)), Evil(trap)])
    save_pickled(path, array, pickle.dumps(array, protocol=protocol))
    with pytest.raises(ValueError, match=r"^train\.npy: its pickle (asks for|uses) .*nothing of it was run"):
        index_arrays(path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Evil(trap)))  # the trap works
    assert trap.exists()


@pytest.mark.parametrize(
    ("holds", "message"),
    [
        (objects([np.zeros((2, 2)), "text"]), r"x\.npy, utterance 1: expected an array of numbers"),
        (objects([np.zeros((2, 2)), 3.5]), r"x\.npy, utterance 1: .* the number 3.5 .*np\.stack"),
        (objects([objects([np.zeros(2)])]), r"x\.npy, utterance 0: .* an object array of 1 items"),
        (objects([np.array(["a", "b"])]), r"x\.npy: it holds items of type 'U1', expected numbers"),
        (np.zeros(3), r"x\.npy: one array \(3,\) of single numbers; expected an array of utterances"),
    ],
)
def test_what_is_no_array_of_utterances_is_named(tmp_path: Path, holds: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", holds)
    with pytest.raises(ValueError, match=message):
        index_arrays(tmp_path / "x.npy")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, utterances: list[np.ndarray]) -> None:
    whole, cut = tmp_path / "whole.npy", tmp_path / "train.npy"
    np.save(whole, objects(utterances))
    raw = whole.read_bytes()
    for length in [0, 5, 100, *range(128, len(raw), 97), len(raw) - 1]:
        cut.write_bytes(raw[:length])
        with pytest.raises(ValueError, match=r"train\.npy"):
            index_arrays(cut)
    np.save(whole, np.zeros((2, 3, 4)))
    cut.write_bytes(whole.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train\.npy is cut short: 320 bytes expected, 319 there"):
        index_arrays(cut)


def test_damaged_bytes_never_do_more_than_raise(tmp_path: Path, utterances: list[np.ndarray]) -> None:
    np.save(tmp_path / "x.npy", objects(utterances[:2]))
    raw = bytearray((tmp_path / "x.npy").read_bytes())
    generator = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(raw)
        damaged[generator.integers(128, len(raw))] = generator.integers(256)
        (tmp_path / "y.npy").write_bytes(damaged)
        with contextlib.suppress(ValueError):
            index_arrays(tmp_path / "y.npy")


def test_a_text_file_with_the_right_name_is_refused(contest_folder: Path) -> None:
    (contest_folder / "train.npy").write_text("id,label\n0,108\n")
    with pytest.raises(ValueError, match=r"^train\.npy is not a \.npy file: it starts with b'id,label"):
        open_contest(contest_folder)


def test_missing_files_are_named_and_so_are_those_that_are_there(contest_folder: Path) -> None:
    (contest_folder / "dev.npy").unlink()
    (contest_folder / "test.npy").unlink()
    with pytest.raises(ValueError, match=r"dev\.npy, test\.npy missing") as caught:
        open_contest(contest_folder)
    message = str(caught.value)
    assert all(name in message for name in REQUIRED)
    assert message.endswith("there: train.npy, train_labels.npy, dev_labels.npy")


def change(folder: Path, name: str, index: int, array: np.ndarray) -> None:
    arrays = list(np.load(folder / name, allow_pickle=True))
    arrays[index] = array
    write_utterances(folder / name, arrays)


@pytest.mark.parametrize(
    ("name", "index", "array", "message"),
    [
        (
            "train.npy",
            1,
            np.zeros((4, 9), "f4"),
            r"train\.npy, utterance 1: 9 values a frame, utterance 0 has",
        ),
        ("dev.npy", 0, np.zeros(6, "f4"), r"dev\.npy, utterance 0: expected \(frames, bins\).*got \(6,\)"),
        ("dev.npy", 1, np.zeros((6, 8), "i4"), r"dev\.npy, utterance 1: expected .* floats, got .*int32"),
        ("test.npy", 1, np.zeros((0, 8), "f4"), r"test\.npy, utterance 1 is empty"),
        (
            "train_labels.npy",
            2,
            np.zeros(3, "i8"),
            r"train_labels\.npy, utterance 2: \d+ frames but 3 labels",
        ),
        ("dev_labels.npy", 0, np.zeros((5, 1), "i8"), r"dev_labels\.npy, utterance 0: expected one integer"),
        ("dev_labels.npy", 0, np.zeros(5, "f4"), r"dev_labels\.npy, utterance 0: .*float32"),
    ],
)
def test_what_does_not_fit_is_named_with_its_file_and_utterance(
    contest_folder: Path, name: str, index: int, array: np.ndarray, message: str
) -> None:
    change(contest_folder, name, index, array)
    with pytest.raises(ValueError, match=message):
        open_contest(contest_folder)


def test_splits_that_do_not_fit_each_other_are_named(contest_folder: Path) -> None:
    labels = list(np.load(contest_folder / "dev_labels.npy", allow_pickle=True))
    write_utterances(contest_folder / "dev_labels.npy", labels[:-1])
    with pytest.raises(ValueError, match=r"dev_labels\.npy: \d+ utterances, but dev\.npy has \d+"):
        open_contest(contest_folder)
    write_utterances(contest_folder / "dev_labels.npy", labels)
    write_utterances(contest_folder / "test.npy", [np.zeros((3, 13), "f4")])
    with pytest.raises(ValueError, match=r"test\.npy: 13 values a frame, but train\.npy has 8"):
        open_contest(contest_folder)
    write_utterances(contest_folder / "test.npy", [])
    with pytest.raises(ValueError, match=r"test\.npy holds no utterance"):
        open_contest(contest_folder)


def test_test_labels_are_optional_and_found_where_they_are_kept_apart(contest_folder: Path) -> None:
    assert open_contest(contest_folder)["test"].labels is None
    lengths = open_contest(contest_folder)["test"].lengths
    (contest_folder / "private").mkdir()
    write_utterances(
        contest_folder / "private" / "test_labels.npy", [np.zeros(length, "i8") for length in lengths]
    )
    assert open_contest(contest_folder)["test"].labels is not None


def test_a_damaged_header_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O' ,")
    with pytest.raises(ValueError, match=r"x\.npy is not a \.npy file"):
        index_arrays(tmp_path / "x.npy")


def test_writing_leaves_the_old_file_when_it_fails(
    tmp_path: Path, utterances: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npy"
    write_utterances(path, utterances)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_utterances(path, utterances[:1])
    assert path.read_bytes() == before


def test_what_is_written_is_read_by_numpy_itself(tmp_path: Path, utterances: list[np.ndarray]) -> None:
    write_utterances(tmp_path / "x.npy", utterances)
    read = np.load(tmp_path / "x.npy", allow_pickle=True)
    assert read.shape == (len(utterances),)
    for ours, theirs in zip(utterances, read, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_writing_copies_one_utterance_at_a_time(tmp_path: Path) -> None:
    utterances = [np.zeros((2500, 40), np.float32) for _ in range(50)]  # 0.4 MB each
    tracemalloc.start()
    write_utterances(tmp_path / "x.npy", utterances)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * utterances[0].nbytes


def test_conversion_needs_no_more_memory_however_large_the_file(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).standard_normal((600, 40)).astype(np.float32)
    for name in ("train", "dev", "test"):
        count = 1000 if name == "train" else 1  # train: 96 MB
        write_utterances(tmp_path / f"{name}.npy", [frames + 0 for _ in range(count)])
        write_utterances(tmp_path / f"{name}_labels.npy", [np.zeros(600, np.int64) for _ in range(count)])
    program = f"""
import resource
from pathlib import Path
from typing import Any, ClassVar
from senone.corpus.contest import open_contest
from senone.preparation import open_store
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
split = open_contest(Path({str(tmp_path)!r}))["train"]
open_store(split, Path({str(tmp_path / "stores")!r}), context=12)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    grown = int(done.stdout) * (1024 if sys.platform != "darwin" else 1)
    assert grown < 64 * 2**20
