# SPDX-License-Identifier: Apache-2.0
"""The commands ``v2s datasets``."""

import csv
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from sklearn_v2s.cli import main
from sklearn_v2s.datasets import folders
from tests.ucr_folder import write_dataset

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def v2s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command in an empty folder, without what aeon may have downloaded."""
    monkeypatch.setenv("AEON_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["datasets", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


# --- list -----------------------------------------------------------------------------


def test_list_shows_all_by_number(v2s: Command, tmp_path: Path) -> None:
    write_dataset(tmp_path / "ucr", "Beef")
    code, printed, errors = v2s("list", "--data", "ucr")
    assert (code, errors) == (0, "")
    lines = printed.splitlines()
    assert lines[0].split()[:2] == ["number", "name"]
    table = resources.files("sklearn_v2s.datasets") / "ucr_numbers.csv"
    expected = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    assert len(lines) == 81 == 1 + len(expected)
    for line, row in zip(lines[1:], expected, strict=True):
        assert line.split()[:6] == [value or "-" for value in row.values()]
    assert lines[1 + 1].split() == ["1", "Beef", "30", "30", "470", "5", "folder"]
    assert lines[1 + 0].split() == ["0", "FordA", "3601", "1320", "500", "2", "-"]


def test_list_shows_what_comes_with_aeon(v2s: Command) -> None:
    pytest.importorskip("aeon", reason="asks what is bundled with aeon")
    places = [line.split("  ")[-1] for line in v2s("list")[1].splitlines()]
    assert places[1 + 32].strip() == "aeon, bundled"  # GunPoint


def test_list_without_the_folder(v2s: Command) -> None:
    code, printed, errors = v2s("list", "--data", "none")
    assert (code, printed) == (1, "")
    assert errors == "v2s: --data none: there is no such folder.\n"


# --- show -----------------------------------------------------------------------------


def test_show_a_named_dataset(v2s: Command, tmp_path: Path) -> None:
    write_dataset(tmp_path, "Beef", n_train=18, n_test=15, n_classes=3)
    for name in ("Beef", "1"):
        code, printed, _ = v2s("show", name, "--folder", tmp_path)
        assert code == 0
        lines = printed.splitlines()
        assert lines[:5] == [
            "dataset: Beef, number 1",
            "part: train",
            "series: 18",
            "channels: 1",
            "time points: 12",
        ]
        assert lines[6:] == ["missing: 0", "classes: 3", "  1: 6", "  2: 6", "  3: 6"]
        values = np.loadtxt(tmp_path / "Beef" / "Beef_TRAIN.tsv")[:, 1:]
        assert lines[5] == (
            f"values: {values.min():.6g} to {values.max():.6g}, "
            f"mean {values.mean():.6g}"
        )
    _, printed, _ = v2s("show", "Beef", "--folder", tmp_path, "--split", "test")
    assert printed.splitlines()[1:3] == ["part: test", "series: 15"]


def test_show_a_dataset_without_a_number(v2s: Command, tmp_path: Path) -> None:
    write_dataset(tmp_path, "Mine")
    code, printed, _ = v2s("show", "Mine", "--folder", tmp_path)
    assert code == 0
    assert printed.startswith("dataset: Mine, without a number\npart: train\n")


def test_show_a_file(v2s: Command, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("up,1,nan,3\ndown,4,5,6\nup,7,8,9\n")
    code, printed, _ = v2s("show", "a.csv")
    assert code == 0
    assert printed.splitlines() == [
        "series: 3",
        "channels: 1",
        "time points: 3",
        "values: 1 to 9, mean 5.375",
        "missing: 1",
        "classes: 2",
        "  down: 1",
        "  up: 2",
    ]


def test_show_channels_and_labels_of_their_own(v2s: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", np.arange(24.0).reshape(4, 2, 3))
    (tmp_path / "labels.txt").write_text("1\n2\n2\n2\n")
    code, printed, _ = v2s("show", "cube.npy", "--labels", "labels.txt")
    assert code == 0
    lines = printed.splitlines()
    assert lines[:3] == ["series: 4", "channels: 2", "time points: 3"]
    assert lines[-2:] == ["  1: 1", "  2: 3"]


def test_show_series_of_unequal_length(v2s: Command, tmp_path: Path) -> None:
    pytest.importorskip("aeon", reason="reading .ts files needs aeon")
    (tmp_path / "a.ts").write_text(
        "@problemName a\n@timeStamps false\n@missing false\n@univariate true\n"
        "@equalLength false\n@classLabel true x y\n@data\n1,2,3:x\n4,5:y\n"
    )
    code, printed, _ = v2s("show", "a.ts")
    assert code == 0
    assert printed.splitlines()[:3] == [
        "series: 2",
        "channels: 1",
        "time points: 2 to 3",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["Bee"], "Did you mean one of ['Beef', 'BeetleFly']?"),
        (["-1"], "dataset -1 is none of the numbers 0 to 79"),
        (["99"], "dataset 99 is none of the numbers 0 to 79"),
        (["a.txt"], "a.txt ends in '.txt'; series are read from .ts, .tsv, .csv"),
        (["a.csv"], "'a.csv' is not there"),
    ],
)
def test_what_cannot_be_shown(v2s: Command, arguments: list[str], text: str) -> None:
    code, printed, errors = v2s("show", *arguments)
    assert (code, printed) == (1, "")
    assert errors.startswith("v2s: ")
    assert errors.count("\n") == 1
    assert text in errors


def test_nothing_is_downloaded_unasked(
    v2s: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Loaders:
        @staticmethod
        def load_classification(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
            asked.append((name, split))
            return np.zeros((2, 1, 3)), np.array(["a", "b"])

    monkeypatch.setattr(folders, "aeon_datasets", lambda: Loaders)
    code, _, errors = v2s("show", "Beef")
    assert code == 1
    assert "'Beef' is not on this machine" in errors
    assert "--data DIR and --download" in errors
    assert asked == []
    code, printed, _ = v2s("show", "Beef", "--download", "--split", "test")
    assert code == 0
    assert printed.startswith("dataset: Beef, number 1\npart: test\nseries: 2\n")
    assert asked == [("Beef", "test")]


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["datasets"])
    assert caught.value.code == 2
    assert "{list,show}" in capsys.readouterr().err
