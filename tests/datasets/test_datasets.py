# SPDX-License-Identifier: Apache-2.0
"""Reading datasets from folders and from aeon."""

import pickle
import socket
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sklearn_v2s.datasets import (
    list_datasets,
    load_dataset,
    load_file,
    load_labels,
)
from tests.ucr_folder import write_dataset, write_part

TS = """@problemName Pairs
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength true
@seriesLength 3
@classLabel true a b
@data
1,2,3:4,5,6:a
7,8,9:0,1,2:b
"""


NUMBERING = "0,1,2,3,4,5,6,7"


def write_text(folder: Path, name: str, file: str, text: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / file).write_text(text, encoding="utf-8")


@given(
    X=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.integers(1, 6)),
        elements=st.floats(allow_infinity=False),
    ),
    data=st.data(),
)
def test_tables_are_read_as_they_were_written(X: np.ndarray, data: st.DataObject):
    y = data.draw(hnp.arrays(np.int64, len(X), elements=st.integers(-99, 99)))
    with tempfile.TemporaryDirectory() as folder:
        write_part(Path(folder), "A", "train", X, y)
        found, labels = load_dataset("A", "train", folder)
    np.testing.assert_array_equal(found, X)
    np.testing.assert_array_equal(labels, y)
    assert labels.dtype == np.int64


@pytest.mark.parametrize(
    ("given_labels", "expected"),
    [
        (["1.0000000e+00", "-2.0"], [1, -2]),
        (["up", "2"], ["up", "2"]),
        (["0.5", "1"], ["0.5", "1"]),
    ],
)
def test_labels_stay_what_they_are(tmp_path: Path, given_labels, expected):
    write_part(tmp_path, "A", "test", np.zeros((2, 3)), np.array(given_labels))
    assert load_dataset("A", "test", tmp_path)[1].tolist() == expected


def test_parts_are_not_confused(tmp_path: Path):
    write_dataset(tmp_path, "A", n_train=6, n_test=9)
    assert [
        len(load_dataset("A", part, tmp_path)[1]) for part in ("train", "test")
    ] == [
        6,
        9,
    ]


def test_ts_files(tmp_path: Path):
    pytest.importorskip("aeon", reason=".ts files are read by aeon")
    write_text(tmp_path, "Pairs", "Pairs_TRAIN.ts", TS)
    X, y = load_dataset("Pairs", "train", tmp_path)
    assert X.tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [0, 1, 2]]]
    assert y.tolist() == ["a", "b"]
    # The table wins where both are there.
    write_part(tmp_path, "Pairs", "train", np.ones((1, 3)), np.array([4]))
    assert load_dataset("Pairs", "train", tmp_path)[1].tolist() == [4]


def test_what_is_bundled_with_aeon_needs_no_connection(
    shared: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("aeon", reason="the dataset is bundled with aeon")

    def refuse(*args: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for split in ("train", "test"):
        X, y = load_dataset("GunPoint", split)
        expected, labels = load_dataset("GunPoint", split, shared / "ucr")
        np.testing.assert_allclose(X[:, 0], expected, atol=1e-6)
        assert y.astype(int).tolist() == labels.tolist()


def test_without_aeon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "aeon", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-v2s\[benchmark\]"'):
        load_dataset("GunPoint", "train")
    write_text(tmp_path, "Pairs", "Pairs_TRAIN.ts", TS)
    with pytest.raises(ImportError, match=r"sklearn-v2s\[benchmark\]"):
        load_dataset("Pairs", "train", tmp_path)


def test_list(tmp_path: Path):
    for name in ("B", "A"):
        write_dataset(tmp_path, name)
    write_part(tmp_path, "OnlyTrain", "train", np.zeros((1, 2)), np.array([1]))
    write_text(tmp_path, "Pairs", "Pairs_TRAIN.ts", TS)
    write_text(tmp_path, "Pairs", "Pairs_TEST.ts", TS)
    (tmp_path / "Empty").mkdir()
    (tmp_path / "MANIFEST.csv").write_text("name\n")
    assert list_datasets(tmp_path) == ["A", "B", "Pairs"]
    assert list_datasets(tmp_path, ["train"]) == ["A", "B", "OnlyTrain", "Pairs"]


def test_refusals(tmp_path: Path):
    write_dataset(tmp_path, "A")
    with pytest.raises(ValueError, match=r"split='valid' is unknown; choose 'train'"):
        load_dataset("A", "valid", tmp_path)
    with pytest.raises(ValueError, match="split='valid'"):
        list_datasets(tmp_path, ["valid"])
    with pytest.raises(FileNotFoundError, match=r"name='B'.*it has \['A'\]"):
        load_dataset("B", "train", tmp_path)
    with pytest.raises(FileNotFoundError, match="is not there"):
        list_datasets(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "labels", "rows"),
    [
        # The mark that spreadsheets put in front.
        ("\ufeff1,2,3\n2,4,5\n", [1, 2], [[2, 3], [4, 5]]),
        ("\ufefflabel,a,b\n1,2,3\n", [1], [[2, 3]]),
        # Names of columns as pandas makes them up.
        ("0,1,2,3,4,5,6,7\n4,1,2,1,2,1,2,1\n", [4], [[1, 2, 1, 2, 1, 2, 1]]),
        # Too few to be told from a series.
        ("0,1,2\n1,8,9\n2,6,7\n", [0, 1, 2], [[1, 2], [8, 9], [6, 7]]),
        # What pandas makes of NaN.
        ("1,2,\n2,,5\n", [1, 2], [[2, np.nan], [np.nan, 5]]),
        ("up,0.5,1\ndown,2, \n", ["up", "down"], [[0.5, 1], [2, np.nan]]),
    ],
)
def test_tables_of_other_programs(tmp_path: Path, text: str, labels, rows):
    path = tmp_path / "table.CSV"
    path.write_text(text, encoding="utf-8")
    X, y = load_file(path)
    np.testing.assert_array_equal(X, rows)
    assert y.tolist() == labels


@pytest.mark.parametrize(
    ("text", "labelled", "message"),
    [
        ("0.1,2,3\n0.2,4,5\n0.3,4,5\n", True, "3 different numbers in 3 rows, .*0.1"),
        (f",{NUMBERING}\n0,{NUMBERING}\n", True, "no name.*index=False"),
        (f",{NUMBERING}\n0,{NUMBERING}\n", False, "no name.*index=False"),
        (",y,a\n0,1,8\n", True, "first column has no name"),
    ],
)
def test_tables_without_labels_are_not_taken_for_labelled_ones(
    tmp_path: Path, text: str, labelled: bool, message: str
):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"table\.csv: .*{message}"):
        load_file(path, labelled)


def test_arrays_without_labels_are_not_taken_for_labelled_ones(tmp_path: Path):
    path = tmp_path / "X.npy"
    np.save(path, np.random.default_rng(0).normal(size=(9, 5)))
    with pytest.raises(ValueError, match=r"9 different numbers in 9 rows.*--labels"):
        load_file(path)
    assert load_file(path, labelled=False)[0].shape == (9, 5)


def npy(header: str, version: int = 1, data: bytes = bytes(96)) -> bytes:
    length = len(header).to_bytes(2 * version, "little")
    return np.lib.format.magic(version, 0) + length + header.encode() + data


HEADER = "{{'descr': '<f8', 'fortran_order': False, 'shape': ({},)}}\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "does not begin as one"),
        (b"PK\x03\x04" + bytes(50), "does not begin as one"),
        (pickle.dumps([1.0]), "does not begin as one"),
        (npy(HEADER.format("3, 4"))[:-1], "mmap length"),
        (npy(HEADER.format("3, 4")) + b"\0", r"ends after \d+ of its \d+ bytes"),
        # What numpy would make room for before it reads.
        (npy(HEADER.format("3, 40000000000")), "mmap length"),
        (npy(HEADER.format("3" * 40)), "OverflowError"),
        (npy("")[:8] + b"\xff\xff", "does not begin as one"),
        (npy("", 2)[:8] + b"\xff\xff\xff\xff" + bytes(90), "does not begin as one"),
        (npy(HEADER.format("(" * 150)), "Error"),
        (npy(HEADER.format("-" * 9000 + "1"), 2), "Error"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (12,)}\n"), "objects"),
    ],
)
def test_damaged_arrays_are_refused_by_name(tmp_path: Path, content, problem):
    path = tmp_path / "X.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"X\.npy is not an intact .*{problem}"):
        load_file(path, labelled=False)
    with pytest.raises(ValueError, match=r"X\.npy is not an intact"):
        load_labels(path)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shape", ["3, 4", "0, 4"])
def test_arrays_of_each_version_are_read(tmp_path: Path, version, shape):
    path = tmp_path / "X.npy"
    data = np.arange(12.0).tobytes() if shape[0] == "3" else b""
    path.write_bytes(npy(HEADER.format(shape), version, data))
    X, _ = load_file(path, labelled=False)
    assert type(X) is np.ndarray
    np.testing.assert_array_equal(X.ravel(), np.frombuffer(data))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ts"])
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, suffix: str):
    path = tmp_path / f"X{suffix}"
    path.write_bytes(b"1,2\t3\xff")
    with pytest.raises(ValueError, match=rf"X\{suffix} is not text in UTF-8: .*byte 5"):
        load_file(path)
    with pytest.raises(ValueError, match=rf"X\{suffix} is not text in UTF-8: .*byte 5"):
        load_labels(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no series follow '@data'"),
        ("[[[[", "no series follow '@data'"),
        ("@classLabel true 1 2\n@data\n", "no series follow '@data'"),
        ("@classLabel true 1 2\n@data\n1,2:1\n1:2\n", "is not a .ts file: OSError"),
        ("@classLabel true 1 2\n@data\n1,x:1\n", "is not a .ts file: ValueError"),
        ("@classLabel true 1 2\n@data\n1,2\n", "no series follow '@data'"),
        ("@classLabel true 1 2\n@data\n1,2:1\n1,3:3\n", r"labels \['3'\].*declares"),
        ("@classLabel true a b\n@data\n1,2:a\n1,3:c\n", r"labels \['c'\].*declares"),
    ],
)
def test_damaged_ts_files_are_refused_by_name(tmp_path: Path, text: str, message):
    path = tmp_path / "waves.ts"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"waves\.ts .*{message}"):
        load_file(path)


def test_labels_of_ts_files_may_be_declared_as_other_numbers(tmp_path: Path):
    path = tmp_path / "waves.ts"
    path.write_text("@classLabel true 1.0 Two\n@data\n1,2:1\n1,3:two\n")
    assert load_file(path)[1].tolist() == ["1", "two"]


def test_missing_labels_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"file of labels '.*nope\.txt'"):
        load_labels(tmp_path / "nope.txt")


@pytest.mark.parametrize("text", ["", "1\n", "1\t2\t3\n2\t3\n", "1\tx\n", "1,2,3\n"])
def test_damaged_tables(tmp_path: Path, text: str):
    write_text(tmp_path, "A", "A_TRAIN.tsv", text)
    with pytest.raises(ValueError, match=r"A_TRAIN\.tsv"):
        load_dataset("A", "train", tmp_path)
