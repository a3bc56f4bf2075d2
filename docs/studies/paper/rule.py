# SPDX-License-Identifier: Apache-2.0
"""The paper preset under the paper's own rule, and under an honest one.

The released script gives the test part to Keras as validation data and prints the best
epoch; dropout and number of replicas were tuned. `run_paper_rule` does the same with
`V2SClassifier.from_paper`, to see how much of the published numbers that rule
explains. Everything whose name has ``chosen_on_test`` is CHOSEN ON TEST DATA and used
nowhere else in this package. The same fits also give the honest number: epoch and
configuration with the least loss on a validation part of the training data.
"""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from tqdm import tqdm

from docs.studies.paper.table2 import read_table2
from sklearn_v2s.benchmark.results import merge_files, read_rows, write_rows
from sklearn_v2s.benchmark.worker import Dataset, describe_error
from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.datasets import list_datasets
from sklearn_v2s.perturbation import collect_outputs
from sklearn_v2s.runtime.environment import describe_environment
from sklearn_v2s.sources.registry import load_source
from sklearn_v2s.views.source_views import read_outputs

__all__ = [
    "COLUMNS",
    "DROPOUTS",
    "SEGMENTS",
    "AccuracyOnSeries",
    "measure_configuration",
    "read_rule",
    "run_paper_rule",
    "summarise_paper_rule",
]

# The grid of section D.4.
DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.4)
SEGMENTS = tuple(range(1, 11))

COLUMNS = (
    "dataset", "seed", "dropout", "n_segments", "epochs", "source", "n_train",
    "n_test", "length", "n_classes", "validation_loss", "epoch_chosen_by_validation",
    "accuracy_chosen_by_validation", "epoch_chosen_on_test", "accuracy_chosen_on_test",
    "seconds", "seconds_of_test", "environment", "error",
)  # fmt: skip


class AccuracyOnSeries(Callback):
    """Measure the accuracy on given series after each epoch; change nothing.

    Parameters
    ----------
    X : ndarray of shape (n, n_timepoints)
        Series, as the classifier would normalise them.
    codes : ndarray of shape (n,)
        Positions of the labels in ``classes_``.

    Attributes
    ----------
    accuracies : list of float
        One for each epoch.
    seconds : float
        What the measuring took.
    """

    def __init__(self, X: np.ndarray, codes: np.ndarray) -> None:
        self.series = np.asarray(X, dtype=np.float64)[:, None]
        self.codes = codes
        self.accuracies: list[float] = []
        self.seconds = 0.0

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Predict in evaluation mode, without dropout, as `V2SClassifier` predicts."""
        start = time.perf_counter()
        module = net.module_
        outputs = collect_outputs(module.reprogrammed, self.series)
        scores = read_outputs(outputs, module.source_output, mean_logits=True)
        with torch.inference_mode():
            parameter = module.reprogrammed.perturbation.delta
            predicted = module.head(torch.from_numpy(scores).to(parameter)).argmax(1)
        self.accuracies.append(float(np.mean(predicted.cpu().numpy() == self.codes)))
        self.seconds += time.perf_counter() - start


def measure_configuration(
    data: Dataset,
    seed: int,
    dropout: float,
    n_segments: int,
    epochs: int,
    source: Any = "attrnn",
) -> dict[str, Any]:
    """Fit the paper preset once, and pick its epoch in two ways.

    Parameters
    ----------
    data : Dataset
        Both official parts.
    seed : int
        Of the classifier.
    dropout, n_segments, epochs
        See `sklearn_v2s.V2SClassifier`.
    source : str, path-like or nn.Module, default="attrnn"
        Source model.

    Returns
    -------
    dict of str to float
        ``validation_loss``, the least of all epochs; ``..._chosen_by_validation``, that
        epoch and its test accuracy; ``..._chosen_on_test``, the epoch of the greatest
        test accuracy and that accuracy, which are CHOSEN ON TEST DATA; seconds of all,
        and of the test after each epoch.
    """
    codes = np.searchsorted(np.unique(data.y_train), data.y_test)
    on_test = AccuracyOnSeries(data.X_test, codes)
    classifier = V2SClassifier.from_paper(
        source=source,
        dropout=dropout,
        n_segments=n_segments,
        max_epochs=epochs,
        # Never before the last epoch, however many there are.
        n_iter_no_change=epochs,
        random_state=seed,
        callbacks=[on_test],
    )
    start = time.perf_counter()
    classifier.fit(data.X_train, data.y_train)
    seconds = time.perf_counter() - start
    losses = np.array([row["valid_loss"] for row in classifier.history_])
    predicted = classifier.predict(data.X_test)
    best = int(np.argmax(on_test.accuracies))
    return {
        "validation_loss": float(losses.min()),
        "epoch_chosen_by_validation": int(losses.argmin()) + 1,
        "accuracy_chosen_by_validation": float(np.mean(predicted == data.y_test)),
        "epoch_chosen_on_test": best + 1,
        "accuracy_chosen_on_test": on_test.accuracies[best],
        "seconds": seconds,
        "seconds_of_test": on_test.seconds,
    }


def _key(row: dict[str, Any]) -> tuple[str, int, float, int]:
    return (
        row["dataset"],
        int(row["seed"]),
        float(row["dropout"]),
        int(row["n_segments"]),
    )


def _read_same_kind(path: Path, epochs: int, source: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = list(read_rows(path, COLUMNS))
    for row in rows:
        if (row["epochs"], row["source"]) != (str(epochs), source):
            raise ValueError(
                f"{path.name} has runs of {row['epochs']} epochs with the source "
                f"{row['source']!r}, but epochs={epochs} and source={source!r} are "
                "asked for; name another output."
            )
    return rows


def run_paper_rule(
    folder: Path,
    datasets: Sequence[str],
    seeds: Sequence[int],
    output: Path,
    dropouts: Sequence[float] = DROPOUTS,
    segments: Sequence[int] = SEGMENTS,
    epochs: int = 100,
    source: Any = "attrnn",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Fit the paper preset for each dataset, seed, dropout and number of replicas.

    Parameters
    ----------
    folder : Path
        Datasets in UCR layout.
    datasets : sequence of str
        Names; empty means the ones of the paper's Table 2 that are in `folder`.
    seeds : sequence of int
        Seeds of the classifiers.
    output : Path
        CSV file with the columns `COLUMNS`, written after each fit. Fits that are there
        are kept and not done again; those that failed are tried again.
    dropouts : sequence of float
        Grid.
    segments : sequence of int
        Grid; numbers of replicas that do not fit are left out.
    epochs : int, default=100
        Passes over the training data.
    source : str, path-like or nn.Module, default="attrnn"
        Source model.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    list of dict
        The rows of the file.

    Raises
    ------
    ValueError
        If the file has runs of another kind, or there is nothing to run.
    """
    named = source if isinstance(source, str) else type(source).__name__
    named = Path(named).name
    if epochs < 1:
        raise ValueError(f"epochs={epochs} must be at least 1.")
    names = list(datasets)
    if not names:
        there = set(list_datasets(folder))
        names = [row.dataset for row in read_table2() if row.dataset in there]
    if not (names and seeds and dropouts and segments):
        raise ValueError(
            f"{len(names)} datasets, {len(seeds)} seeds, {len(dropouts)} dropouts and "
            f"{len(segments)} segments leave nothing to run; give at least one of each."
        )
    rows = {_key(row): row for row in _read_same_kind(output, epochs, named)}
    input_length = load_source(source).input_length
    bar = tqdm(
        total=len(names) * len(seeds) * len(dropouts) * len(segments),
        desc="paper rule",
        disable=not progress,
    )
    with bar:
        for name in names:
            data = Dataset(name, str(folder))
            if not isinstance(data.X_train, np.ndarray) or data.X_train.ndim != 2:
                raise ValueError(
                    f"datasets: {name} has several channels or series of unequal "
                    "length, which the paper has none of."
                )
            fits = max(1, input_length // data.length)
            for seed, dropout, n_segments in product(seeds, dropouts, segments):
                bar.update()
                key = name, seed, dropout, n_segments
                done = key in rows and not rows[key]["error"]
                if done or n_segments > fits:
                    continue
                row = {
                    "dataset": name,
                    "seed": seed,
                    "dropout": dropout,
                    "n_segments": n_segments,
                    "epochs": epochs,
                    "source": named,
                    "n_train": len(data.y_train),
                    "n_test": len(data.y_test),
                    "length": data.length,
                    "n_classes": len(np.unique(data.y_train)),
                    "environment": json.dumps(describe_environment()),
                }
                try:
                    row |= measure_configuration(
                        data, seed, dropout, n_segments, epochs, source
                    )
                except ValueError as error:
                    # A training that diverged; the others go on.
                    row["error"] = describe_error(error)
                rows[key] = _as_written(row)
                write_rows(output, COLUMNS, list(rows.values()))
    return list(rows.values())


def _as_written(row: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in (dict.fromkeys(COLUMNS, "") | row).items()
    }


def read_rule(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Read files of `run_paper_rule`.

    Parameters
    ----------
    paths : sequence of Path
        CSV files. A fit that is in several counts once, as the last file has it, but a
        failed one never replaces another.

    Returns
    -------
    list of dict of str to str
        Rows.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If a file has other columns.
    """
    return merge_files(paths, COLUMNS, _key)


def summarise_paper_rule(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Choose a configuration for each dataset and seed, and average over seeds.

    Parameters
    ----------
    rows : sequence of dict
        As `run_paper_rule` returns them.

    Returns
    -------
    dict of str to dict
        Dataset to ``honest``, the test accuracy of the configuration and epoch with the
        least validation loss; ``chosen_on_test``, the greatest test accuracy of all
        configurations and epochs, CHOSEN ON TEST DATA; ``best_seed_chosen_on_test``,
        the same without the mean over seeds;
        ``n_seeds``; ``n_fits``. Accuracies are between 0 and 1.
    """
    runs: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        if not row["error"]:
            runs[row["dataset"]][int(row["seed"])].append(row)
    summary = {}
    for dataset, by_seed in runs.items():
        honest, on_test = [], []
        for fits in by_seed.values():
            least = min(fits, key=lambda row: float(row["validation_loss"]))
            honest.append(float(least["accuracy_chosen_by_validation"]))
            on_test.append(max(float(row["accuracy_chosen_on_test"]) for row in fits))
        summary[dataset] = {
            "honest": float(np.mean(honest)),
            "chosen_on_test": float(np.mean(on_test)),
            "best_seed_chosen_on_test": max(on_test),
            "n_seeds": len(by_seed),
            "n_fits": sum(len(fits) for fits in by_seed.values()),
        }
    return summary
