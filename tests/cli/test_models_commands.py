# SPDX-License-Identifier: Apache-2.0
"""The commands ``v2s train``, ``predict``, ``evaluate`` and ``explain``."""

import csv
import inspect
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
)

from sklearn_v2s import V2SClassifier
from sklearn_v2s.cli import build_parser, main, models
from sklearn_v2s.cli.parameters import add_parameters, given_parameters
from sklearn_v2s.training.callbacks import KeepState
from tests.estimators.test_persistence import write_small_checkpoint
from tests.small import make_series
from tests.ucr_folder import write_dataset

N_TIMEPOINTS = 24
SETTING: dict[str, Any] = {
    "views": "replicas",
    "n_segments": 3,
    "init_scale": 0.3,
    "max_epochs": 2,
    "lr": 0.02,
    "batch_size": 16,
    "device": "cpu",
}
OPTIONS = ["--views", "replicas", "--segments", "3", "--init-scale", "0.3"]
OPTIONS += ["--epochs", "2", "--lr", "0.02", "--batch-size", "16", "--device", "cpu"]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and test parts in all kinds of files, and a small source."""
    folder = tmp_path_factory.mktemp("data")
    write_small_checkpoint(folder / "source.safetensors", seed=0)
    for seed, part in enumerate(("train", "test")):
        X, codes = make_series(30, 2, N_TIMEPOINTS, seed=seed)
        y = codes * 2 - 1
        table = [[int(label), *series] for label, series in zip(y, X, strict=True)]
        for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
            lines = (delimiter.join(map(repr, map(float, row))) for row in table)
            (folder / f"{part}{suffix}").write_text("\n".join(lines) + "\n")
        np.save(folder / f"{part}.npy", np.column_stack([y, X]))
        np.save(folder / f"{part}_X.npy", X)
        np.save(folder / f"{part}_y.npy", y)
        header = "@problemName sines\n@timeStamps false\n@missing false\n"
        header += "@univariate true\n@equalLength true\n"
        header += f"@seriesLength {N_TIMEPOINTS}\n@classLabel true -1 1\n@data\n"
        rows = (
            f"{','.join(map(repr, row[1:].tolist()))}:{int(row[0])}"
            for row in np.asarray(table)
        )
        (folder / f"{part}.ts").write_text(header + "\n".join(rows) + "\n")
    return folder


@pytest.fixture
def v2s(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command in the folder of the data; return exit code and what it printed."""
    monkeypatch.chdir(data)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a classifier in a file, fitted by Python."""
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    fitted(data).save(path)
    return path


def fitted(data: Path, **parameters: Any) -> V2SClassifier:
    classifier = V2SClassifier(
        str(data / "source.safetensors"), **(SETTING | {"random_state": 0} | parameters)
    )
    return classifier.fit(np.load(data / "train_X.npy"), np.load(data / "train_y.npy"))


def source_of(data: Path) -> list[object]:
    return ["--source", data / "source.safetensors", "--quiet"]


def assert_one_line(errors: str, text: str) -> None:
    assert errors.startswith("v2s: ")
    assert errors.count("\n") == 1
    assert text in errors


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    return errors


# --- all four -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".npy", ".ts"])
def test_train_predict_evaluate(
    v2s: Command,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    # Several steps of the progress bar.
    monkeypatch.setattr(models, "_CHUNK", 7)
    if suffix == ".ts":
        pytest.importorskip("aeon", reason="reading .ts files needs aeon")
    output = tmp_path / "model.safetensors"
    train = ["train", "--dataset", f"train{suffix}", "--output", output]
    assert v2s(*train, *source_of(data), *OPTIONS) == (0, "", "")
    expected = fitted(data)
    X, y = np.load(data / "test_X.npy"), np.load(data / "test_y.npy")
    proba = expected.predict_proba(X)
    table = tmp_path / "predictions.csv"
    labelled = [] if suffix == ".ts" else ["--labelled"]
    code, printed, _ = v2s(
        "predict", output, f"test{suffix}", "--output", table, *labelled
    )
    assert (code, printed) == (0, f"{table}: 30 predictions\n")
    rows = list(csv.reader(io.StringIO(table.read_text())))
    assert rows[0] == ["row", "prediction", "probability_-1", "probability_1"]
    numbers = np.array(rows[1:], dtype=float)
    assert_array_equal(numbers[:, 0], np.arange(30))
    assert_array_equal(numbers[:, 1], expected.predict(X))
    # In float32 a sum depends on how many series are in a batch.
    assert_allclose(numbers[:, 2:], proba, atol=1e-4)
    code, printed, _ = v2s("evaluate", output, f"test{suffix}", "--json")
    assert code == 0
    found = json.loads(printed)
    predicted = expected.predict(X)
    assert found["n_series"] == 30
    assert found["accuracy"] == pytest.approx(accuracy_score(y, predicted))
    assert found["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(y, predicted)
    )
    assert found["log_loss"] == pytest.approx(log_loss(y, proba), abs=1e-4)
    assert 0 < found["ece"] < 1
    assert found["confusion_matrix"] == confusion_matrix(y, predicted).tolist()


def test_labels_in_a_file_of_their_own(
    v2s: Command, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.safetensors"
    (tmp_path / "labels.txt").write_text(
        "\n".join(np.where(np.load(data / "train_y.npy") > 0, "up", "down"))
    )
    v2s("train", "--dataset", "train_X.npy", "--labels", tmp_path / "labels.txt",
        "--output", output, *source_of(data), *OPTIONS)  # fmt: skip
    assert V2SClassifier.load(output).classes_.tolist() == ["down", "up"]
    code, printed, _ = v2s("predict", output, "test_X.npy")
    assert code == 0
    assert printed.startswith("row,prediction,probability_down,probability_up\n0,")
    code, _, errors = v2s("evaluate", output, "test_X.npy", "--labels", "test_y.npy")
    assert code == 1
    assert_one_line(errors, "does not know; its classes are ['down', 'up']")


def test_the_parts_of_a_named_dataset(v2s: Command, data: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, "Coffee", n_timepoints=N_TIMEPOINTS)
    output = tmp_path / "model.safetensors"
    named = ["--data", tmp_path]
    code, _, _ = v2s("train", "--dataset", "18", *named, "--output", output,
                     *source_of(data), *OPTIONS)  # fmt: skip
    assert code == 0
    assert len(v2s("predict", output, "Coffee", *named)[1].splitlines()) == 1 + 15
    code, printed, _ = v2s("evaluate", output, "18", *named, "--split", "train")
    assert code == 0
    lines = printed.splitlines()
    assert lines[0] == "series: 18"
    titles = [line.split(":")[0] for line in lines[1:5]]
    assert titles == ["accuracy", "balanced accuracy", "log loss", "ECE"]
    counts = np.array([line.split()[1:] for line in lines[-3:]], dtype=int)
    assert counts.sum(axis=1).tolist() == [6, 6, 6]
    assert lines[1] == f"accuracy: {np.trace(counts) / 18:.4f}"


# --- train ----------------------------------------------------------------------------


def test_every_parameter_has_an_option() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_parameters(parser)
    names = {action.dest for action in parser._actions} - {"help"}
    # What a command decides itself, and what only a program can give.
    own = {"verbose", "callbacks", "warm_start", "memory"}
    assert names == set(inspect.signature(V2SClassifier).parameters) - own


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--dr 4", {"dropout": 0.4}),
        ("--dr 0.25", {"dropout": 0.25}),
        ("--net 3", {"source": "unet-attrnn"}),
        ("--net torchaudio:HUBERT_BASE:4", {"source": "torchaudio:HUBERT_BASE:4"}),
        ("--seg auto", {"n_segments": "auto"}),
        ("--normalization none", {"normalization": None}),
        ("--views tone", {"views": "tone"}),
        ("--views tone wave", {"views": ["tone", "wave"]}),
        ("--no-mask --train-gain", {"mask": False, "train_gain": True}),
        ("--label-mapping linear", {"label_mapping": "linear"}),
        (
            "--label-mapping frequency --mapping 3",
            {
                "label_mapping": "frequency",
                "mapping_size": 3,
                "source_output": "logits",
            },
        ),
    ],
)
def test_options_become_parameters(options: str, expected: dict[str, Any]) -> None:
    parsed = build_parser().parse_args(
        ["train", "--dataset", "a", "--output", "b", *options.split()]
    )
    names = inspect.signature(V2SClassifier).parameters
    assert given_parameters(parsed, names) == expected | {"random_state": 0}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0, {"mapping_size": 1, "fine_tune": False}),
        (1, {"mapping_size": None, "fine_tune": False}),
        (2, {"mapping_size": None, "fine_tune": True}),
    ],
)
def test_the_modes_of_the_original_are_the_paper(
    v2s: Command, data: Path, tmp_path: Path, mode: int, expected: dict[str, Any]
) -> None:
    output = tmp_path / "model.safetensors"
    code, *_ = v2s("train", "--dataset", "train.csv", "--output", output, "--mod", mode,
                   "--dr", 2, "--seg", 3, "--eps", 1, "--net",
                   data / "source.safetensors", "--seed", 7, "--quiet")  # fmt: skip
    assert code == 0
    found = V2SClassifier.load(output).get_params()
    paper = V2SClassifier.from_paper(
        source=str(data / "source.safetensors"), dropout=0.2, n_segments=3,
        max_epochs=1, random_state=7, **expected,
    )  # fmt: skip
    assert found == paper.get_params()


def test_it_says_what_was_trained(v2s: Command, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.safetensors"
    options = ["--dataset", "train.csv", "--output", output, *OPTIONS]
    options += ["--source", data / "source.safetensors", "--early-stopping"]
    code, printed, errors = v2s("train", *options)
    assert code == 0
    classifier = V2SClassifier.load(output)
    lines = printed.splitlines()
    assert lines[0] == "series: 30, classes: 2, time points: 24, channels: 1"
    losses = [row["valid_loss"] for row in classifier.history_]
    best = classifier.history_[int(np.argmin(losses))]
    assert lines[1] == (
        f"epochs: 2, epoch {best['epoch']:.0f}: train loss {best['train_loss']:.4f}, "
        f"train accuracy {best['train_accuracy']:.4f}, valid loss "
        f"{best['valid_loss']:.4f}, valid accuracy {best['valid_accuracy']:.4f}"
    )
    score = classifier.score(
        np.load(data / "train_X.npy"), np.load(data / "train_y.npy")
    )
    assert lines[2] == f"accuracy on the training series: {score:.4f}"
    assert lines[3].startswith(f"{output}: {output.stat().st_size} bytes")
    assert "2/2" in errors  # the progress bar


def test_without_gradient_there_are_no_epochs_to_tell_of(
    v2s: Command, data: Path, tmp_path: Path
) -> None:
    code, printed, _ = v2s(
        "train", "--dataset", "train.csv", "--output", tmp_path / "a.safetensors",
        "--source", data / "source.safetensors", "--views", "replicas",
        "--epochs", "0",
    )  # fmt: skip
    assert code == 0
    assert "epoch" not in printed


def test_by_default_there_are_epochs_to_tell_of(
    v2s: Command, data: Path, tmp_path: Path
) -> None:
    code, printed, _ = v2s(
        "train", "--dataset", "train.csv", "--output", tmp_path / "a.safetensors",
        "--source", data / "source.safetensors", "--views", "replicas",
    )  # fmt: skip
    assert code == 0
    # The 15 series of a part are one step in each epoch.
    assert "epochs: 200, epoch 200: train loss" in printed
    assert V2SClassifier.load(tmp_path / "a.safetensors").n_iter_ == 200


class CrashError(RuntimeError):
    """A power failure."""


@pytest.fixture
def break_off(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the next trainings end after an epoch."""
    original = KeepState.on_epoch_end

    def arrange(epoch: int, error: type[BaseException] | None) -> None:
        def on_epoch_end(self: KeepState, net: Any, **kwargs: Any) -> None:
            original(self, net, **kwargs)
            if error is not None and len(net.history) == epoch:
                raise error

        monkeypatch.setattr(KeepState, "on_epoch_end", on_epoch_end)

    return arrange


def training(data: Path, output: Path) -> list[object]:
    """Return a command of 6 epochs with everything that a checkpoint has to keep."""
    return [
        "train", "--dataset", "train.csv", "--output", output, *source_of(data),
        *OPTIONS, "--epochs", 6, "--dropout", 0.2, "--early-stopping",
        "--cross-fit", 1,
    ]  # fmt: skip


def test_resumed_is_the_same_as_never_interrupted(
    v2s: Command, data: Path, tmp_path: Path, break_off: Callable[..., None]
) -> None:
    v2s(*training(data, tmp_path / "whole.safetensors"))
    output = tmp_path / "model.safetensors"
    break_off(5, CrashError)
    with pytest.raises(CrashError):
        v2s(*training(data, output), "--per", 2)
    break_off(5, None)
    code, _, errors = v2s(*training(data, output))
    assert code == 1
    assert_one_line(errors, "model.state.safetensors is the checkpoint of an unfinish")
    assert len(V2SClassifier.load(output).history_) == 4
    code, _, errors = v2s(*training(data, output), "--resume", "--lr", 0.1)
    assert code == 1
    assert_one_line(errors, "different now: lr=0.1 (it was 0.02)")
    assert v2s(*training(data, output), "--resume") == (0, "", "")
    found = V2SClassifier.load(output)
    expected = V2SClassifier.load(tmp_path / "whole.safetensors")
    X = np.load(data / "test_X.npy")
    assert_array_equal(found.perturbation_, expected.perturbation_)
    assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.safetensors",
        "whole.safetensors",
    ]
    code, printed, _ = v2s(*training(data, output), "--resume")
    assert (code, printed.count("the training is complete")) == (0, 1)


def test_a_damaged_checkpoint(
    v2s: Command, data: Path, tmp_path: Path, break_off: Callable[..., None]
) -> None:
    output = tmp_path / "model.safetensors"
    break_off(3, CrashError)
    with pytest.raises(CrashError):
        v2s(*training(data, output), "--checkpoint-every", 1)
    state = tmp_path / "model.state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    code, _, errors = v2s(*training(data, output), "--resume")
    assert code == 1
    assert_one_line(errors, "is damaged: nothing can go on from it. Remove the file")


@pytest.mark.filterwarnings("ignore:the training was interrupted")
@pytest.mark.parametrize("checkpoints", [True, False])
def test_ctrl_c(
    v2s: Command,
    data: Path,
    tmp_path: Path,
    break_off: Callable[..., None],
    checkpoints: bool,
) -> None:
    output = tmp_path / "model.safetensors"
    break_off(3, KeyboardInterrupt)
    every = ["--checkpoint-every", 2] if checkpoints else []
    code, _, errors = v2s(*training(data, output), *every)
    assert code == 130
    assert_one_line(errors, f"interrupted after 3 epochs; {output} holds the best")
    assert ("--resume goes on" in errors) == checkpoints
    assert V2SClassifier.load(output).n_iter_ == 3


@pytest.mark.parametrize("command", ["train", "evaluate MODEL DATA", "datasets list"])
def test_an_unknown_option_shows_the_usage_of_the_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    required = " --dataset DATA --output MODEL" if command == "train" else ""
    errors = usage_error(capsys, *f"{command}{required} --nonsense 3".split())
    name = " ".join(word for word in command.split() if word.islower())
    assert errors.startswith(f"usage: v2s {name} ")
    assert f"v2s {name}: error: unrecognized arguments: --nonsense 3" in errors


@pytest.mark.parametrize("option", ["--data", "--folder"])
def test_the_folder_of_datasets_has_the_name_that_the_benchmark_gives_it(
    option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_dataset(tmp_path, "Mine", n_test=11)
    words = ["datasets", "show", "Mine", option, str(tmp_path), "--split", "test"]
    assert main(words) == 0
    assert "11" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--output a.pt", "a.pt: must end in .safetensors"),
        (
            "--output a.safetensors --label-mapping bayesian --mapping 3",
            "--mapping-size has no effect on the label mapping 'bayesian'",
        ),
        ("--output a.safetensors --mod 0 --mapping 3", "--mod 0 means mapping_size=1"),
        ("--output a.safetensors --mod 2 --no-fine-tune", "means fine_tune=True"),
        ("--output a.safetensors --mod 3", "invalid choice: 3"),
        ("--output a.safetensors --per 3 --eps 0", "nothing is trained by gradient"),
        ("--output a.safetensors --per -1 --eps 2", "must be 0 or more"),
        ("--output a.safetensors --dr much", "neither a whole number of tenths nor"),
        ("--output a.safetensors --dr 3 --eps 0", "dropout given, but nothing is"),
        ("--output a.safetensors --lr 1 --mod 1 --eps 0", "lr given, but nothing is"),
        ("--output a.safetensors --seg many", "neither a number nor one of ['auto']"),
        ("--output a.safetensors --net 7", "7 is none of the numbers [0, 1, 2, 3]"),
        ("--output a.safetensors --normalization no", "invalid choice: 'no'"),
        ("", "the following arguments are required: --output"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], options: str, text: str
) -> None:
    errors = usage_error(capsys, "train", "--dataset", "no.csv", *options.split())
    assert errors.startswith("usage: v2s train")
    assert text in errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--dataset no.csv", "'no.csv' is not there"),
        ("--dataset folder/no", "ends in ''"),
        ("--dataset sub/Folder", "Folder --data sub"),
        ("--dataset train_X.npy", "seems to be no label"),
        ("--dataset Nothing", "dataset 'Nothing' is none of the 80 names"),
        ("--dataset 80", "dataset 80 is none of the numbers 0 to 79"),
        ("--dataset Beef", "The options are --data DIR and --download."),
        ("--dataset Beef --labels a.txt", "is the name of a dataset"),
        ("--dataset train.csv --labels a.txt", "a.txt"),
        ("--dataset train_X.npy --labels short.txt", "short.txt has 2 labels, and"),
        ("--dataset cube.npy", "only an array (n, 1 + n_timepoints) has room"),
        ("--dataset train.csv --source no", "unknown source 'no'"),
        ("--dataset train.csv --net 1", "the source 'vggish' is not shipped"),
        ("--dataset train.csv --epochs -1", "'max_epochs' parameter of V2SClassifier"),
        ("--dataset train.csv --device gpu", "device='gpu' is no device of torch"),
        ("--dataset holes.csv --views replicas", "Set missing='interpolate'"),
    ],
)
def test_what_train_cannot_do(
    v2s: Command,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    text: str,
) -> None:
    monkeypatch.setenv("AEON_DATA", str(tmp_path))
    (data / "short.txt").write_text("1\n2\n")
    (data / "sub" / "Folder").mkdir(parents=True, exist_ok=True)
    (data / "holes.csv").write_text("1,0.5,nan,0.1\n2,0.1,0.2,0.3\n")
    np.save(data / "cube.npy", np.zeros((4, 2, 3)))
    output = tmp_path / "model.safetensors"
    code, printed, errors = v2s("train", *arguments.split(), "--output", output)
    assert (code, printed) == (1, "")
    assert_one_line(errors, text)
    assert not output.exists()


# --- predict, evaluate, explain -------------------------------------------------------


def test_predict_shows_a_bar_only_where_somebody_looks(
    v2s: Command, model: Path
) -> None:
    code, printed, errors = v2s("predict", model, "test_X.npy", "--device", "cpu")
    assert (code, errors) == (0, "")
    assert len(printed.splitlines()) == 31


def test_labels_are_the_same_as_numbers_and_as_text(
    v2s: Command, data: Path, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("aeon", reason="reading .ts files needs aeon")
    # .ts files have the labels as text; the model learned them as numbers.
    found = [v2s("evaluate", model, name) for name in ("test.csv", "test.ts")]
    assert found[0] == found[1]
    assert found[0][0] == 0
    output = tmp_path / "text.safetensors"
    train = ["train", "--dataset", "train.ts", "--output", output]
    v2s(*train, *source_of(data), *OPTIONS)
    assert V2SClassifier.load(output).classes_.tolist() == ["-1", "1"]
    assert v2s("evaluate", output, "test.csv") == found[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["predict", "{model}", "test.csv"], "add --labelled"),
        (["predict", "{model}", "test_X.npy", "--labelled"], "leave out --labelled"),
        (["predict", "{model}", "wide.npy"], "X has 30 features, but"),
        (["predict", "no.safetensors", "test_X.npy"], "MODEL 'no.safetensors' is not"),
        (["predict", "source.safetensors", "test_X.npy"], "'source model', not a"),
        (["predict", "train.csv", "test_X.npy"], "not an intact sklearn_v2s file"),
        (["predict", "{model}", "wide.pdf"], "ends in '.pdf'"),
        (["evaluate", "{model}", "other.csv"], "has the labels [5]"),
        (["evaluate", "{model}", "names.csv"], "of another kind than the classes"),
        (["explain", "{model}", "test_X.npy", "--row", "30"], "has the rows 0 to 29"),
        (["explain", "{model}", "test_X.npy", "--row", "-1"], "--row -1"),
        (["explain", "{model}", "test_X.npy", "--target", "2"], "['-1', '1']"),
        (["explain", "{model}", "test_X.npy", "--layer", "no"], "layer='no'"),
        (["explain", "{model}", "test_X.npy", "--view", "tone"], "view='tone'"),
    ],
)
def test_what_a_model_cannot_do(
    v2s: Command,
    data: Path,
    model: Path,
    tmp_path: Path,
    arguments: list[str],
    text: str,
) -> None:
    if arguments[0] == "explain":
        pytest.importorskip("matplotlib", reason="figures need matplotlib")
    np.save(data / "wide.npy", np.zeros((2, 30)))
    values = ",".join(["0.5"] * N_TIMEPOINTS)
    (data / "other.csv").write_text(f"1,{values}\n5,{values}\n")
    (data / "names.csv").write_text(f"up,{values}\ndown,{values}\n")
    arguments = [argument.replace("{model}", str(model)) for argument in arguments]
    if arguments[0] == "explain":
        arguments += ["--output", str(tmp_path / "a.png")]
    code, printed, errors = v2s(*arguments)
    assert (code, printed) == (1, "")
    assert_one_line(errors, text)
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("name", "beginning"), [("a.png", b"\x89PNG\r\n"), ("a.svg", b"<?xml")]
)
def test_explain_draws(
    v2s: Command, model: Path, tmp_path: Path, name: str, beginning: bytes
) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    path = tmp_path / name
    assert v2s("explain", model, "test.csv", "--labelled", "--row", 3, "--target", "-1",
               "--layer", "network.conv2", "--method", "gradient", "--output", path,
               ) == (0, f"{path}\n", "")  # fmt: skip
    assert path.read_bytes().startswith(beginning)
    assert path.stat().st_size > 10_000
    if name == "a.svg":
        # Texts are outlines there, with the text itself in a comment.
        assert "Class activation map of network.conv2" in path.read_text()
        assert "Class -1, probability" in path.read_text()


def test_explain_says_which_kinds_of_figures_there_are(
    v2s: Command, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    code, _, errors = v2s(
        "explain", model, "test_X.npy", "--output", tmp_path / "a.txt"
    )
    assert code == 1
    assert_one_line(errors, ".png, .ps, .raw")


# --- the program ----------------------------------------------------------------------

COMMANDS = ["train", "predict", "evaluate", "explain", "datasets", "sources"]
COMMANDS += ["pretrain", "benchmark"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], *([name] for name in COMMANDS)):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--help"])
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(" ".join(["usage: v2s", *arguments]))


@pytest.mark.parametrize(
    "name", ["README.md", "docs/command_line.md", "docs/sources.md"]
)
def test_commands_in_the_docs_are_right(name: str) -> None:
    text = (Path(__file__).parents[2] / name).read_text(encoding="utf-8")
    lines = text.replace("\\\n", "").splitlines()
    commands = [line for line in lines if line.startswith("v2s ")]
    assert len(commands) > 4
    for command in commands:
        build_parser().parse_args(shlex.split(command, comments=True)[1:])


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "explain"])
def test_the_examples_in_the_help_are_right(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    examples = capsys.readouterr().out.split("examples:\n")[1].replace("\\\n", "")
    for line in examples.splitlines():
        assert line.startswith("  v2s ")
        build_parser().parse_args(shlex.split(line)[1:])


def test_no_command_and_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert ",".join(COMMANDS) in usage_error(capsys)
    assert "invalid choice: 'fly'" in usage_error(capsys, "fly")


def test_it_is_a_program() -> None:
    code = (
        "import sys\nfrom sklearn_v2s.cli import main\nsys.argv = ['v2s', '--help']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: v2s ")
    done = subprocess.run(
        [sys.executable, "-m", "sklearn_v2s", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("v2s ")


def test_a_reader_may_leave_early() -> None:
    command = [sys.executable, "-m", "sklearn_v2s", "datasets", "list"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait() == 141
