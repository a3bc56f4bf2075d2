# SPDX-License-Identifier: Apache-2.0
"""What the label code of the public releases does to labels, and what ours does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from sklearn_v2s.benchmark.paper.finding import Finding, Table
from sklearn_v2s.benchmark.paper.table2 import read_table2
from sklearn_v2s.benchmark.worker import Dataset
from sklearn_v2s.datasets import list_datasets

__all__ = ["ERAS", "LABEL_SETS", "examine_labels", "released_codes"]

_ECG200 = "ECG200 {-1,1}"
# What is printed, to the labels.
LABEL_SETS: dict[str, tuple[int, ...]] = {
    "{-1,1}": (-1, 1),
    _ECG200: (-1, 1),
    "{1,2}": (1, 2),
    "{0,1}": (0, 1),
    "{1..5}": (1, 2, 3, 4, 5),
    "{3..8}": (3, 4, 5, 6, 7, 8),
}

_N_SERIES = 80
_N_TIMEPOINTS = 50


def _modulo(y: np.ndarray) -> np.ndarray:
    """Do as the first release did: the modulo comes before -1 is looked for."""
    n_classes = len(np.unique(y))
    if y.min() != 0:
        y = y % n_classes
    return np.where(y == -1, 0, y)


def _modulo_but_ecg200(y: np.ndarray, is_ecg200: bool) -> np.ndarray:
    return _modulo(np.where(y == -1, 0, y) if is_ecg200 else y)


def _unsigned(y: np.ndarray) -> np.ndarray:
    """Do as the last release does: -1 becomes 4294967295, then modulo the maximum."""
    y = y.astype(np.uint32)
    return (y % y.max() if y.min() != 0 else y).astype(np.int64)


# What is printed, to the code of that time.
ERAS: dict[str, Callable[[np.ndarray, bool], np.ndarray]] = {
    "A: 2021-07-15 to 2022-01-10": lambda y, is_ecg200: _modulo(y),
    "B: IBM HEAD, other until 2022-09-11": _modulo_but_ecg200,
    "C: 9ee886b, 2022-09-11": lambda y, is_ecg200: _modulo(np.abs(y)),
    "D: HEAD since 2022-09-11": lambda y, is_ecg200: _unsigned(y),
}


def released_codes(era: str, y: np.ndarray, is_ecg200: bool = False) -> np.ndarray:
    """Return the class numbers that the released code made of labels.

    Parameters
    ----------
    era : str
        One of `ERAS`.
    y : ndarray of shape (n,)
        Labels, whole numbers; the training part, or all that can occur.
    is_ecg200 : bool, default=False
        Whether the dataset is ECG200, which era B treats apart.

    Returns
    -------
    ndarray of shape (n,)
        Class numbers.

    Raises
    ------
    IndexError
        Where the one-hot encoding of the release (``to_categorical``) fails.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.benchmark.paper.labels import ERAS, released_codes
    >>> first, *_ = ERAS
    >>> released_codes(first, np.array([-1, 1])).tolist()
    [1, 1]
    """
    codes = ERAS[era](np.asarray(y), is_ecg200)
    n_classes = len(np.unique(np.abs(y) if era.startswith("C") else y))
    if codes.max() >= n_classes:
        raise IndexError(
            f"class number {codes.max()} is out of bounds for {n_classes} classes"
        )
    return codes


def _as_shown(era: str, name: str) -> str:
    labels = np.array(LABEL_SETS[name])
    try:
        codes = released_codes(era, labels, name == _ECG200)
    except IndexError:
        return "**IndexError**"
    shown = str(codes.tolist())
    return shown if len(np.unique(codes)) == len(labels) else f"**{shown}**"


def _release_table() -> Table:
    lines = []
    for name, labels in LABEL_SETS.items():
        # `V2SClassifier` does the same with whatever labels there are.
        ours = np.unique(labels, return_inverse=True)[1].tolist()
        lines.append([name, *(_as_shown(era, name) for era in ERAS), str(ours)])
    title = "Class numbers that become of labels; bold: classes are lost, or a crash"
    return Table(title, ["labels", *ERAS, "sklearn-v2s"], lines)


def _make_problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return series of two classes that overlap, and the classes 0 and 1."""
    rng = np.random.default_rng(seed)
    codes = np.arange(_N_SERIES) % 2
    angles = np.linspace(0, 2 * np.pi, _N_TIMEPOINTS)
    waves = np.sin((1 + codes[:, None]) * angles)
    return waves + rng.normal(scale=1.5, size=waves.shape), codes


def _equivalence_table(classifier: Any, seed: int) -> Table:
    X, codes = _make_problem(seed)
    train, test = np.split(np.arange(_N_SERIES), 2)
    lines = []
    for name, labels in (
        ("{0,1}", np.array([0, 1])),
        ("{-1,1}", np.array([-1, 1])),
        ("{3,8}", np.array([3, 8])),
        ("{'no','yes'}", np.array(["no", "yes"])),
    ):
        y = labels[codes]
        fitted = clone(classifier).fit(X[train], y[train])
        lines.append([name, f"{np.mean(fitted.predict(X[test]) == y[test]):.4f}"])
    collapsed = released_codes(next(iter(ERAS)), np.where(codes == 0, -1, 1))
    try:
        clone(classifier).fit(X[train], collapsed[train])
    except ValueError:
        lines.append(["{-1,1} after era A", "ValueError: only one class"])
    return Table(
        "Test accuracy of V2SClassifier on the same series under different labels",
        ["labels", "accuracy"],
        lines,
    )


def _collapsed_table(classifier: Any, names: Sequence[str], folder: Path) -> Table:
    era = next(iter(ERAS))
    printed = {row.dataset: row for row in read_table2()}
    lines = []
    for name in names:
        data = Dataset(name, str(folder))
        train, test = (released_codes(era, y) for y in (data.y_train, data.y_test))
        # Whatever the only class of the training part is, nothing else is predicted.
        collapsed = float(np.mean(test == np.unique(train)[0]))
        fitted = clone(classifier).fit(data.X_train, data.y_train)
        real = float(np.mean(fitted.predict(data.X_test) == data.y_test))
        known = f"{printed[name].accuracy['v2sa']:.2f}" if name in printed else "–"
        lines.append([name, known, f"{100 * collapsed:.2f}", f"{100 * real:.2f}"])
    header = ["", "V2Sa, printed", "labels of era A, any method", "real labels, ours"]
    return Table("Accuracy in percent on the official test part", header, lines)


def examine_labels(
    classifier: Any,
    folder: Path | None = None,
    datasets: Sequence[str] = (),
    seed: int = 0,
) -> Finding:
    """Show what the released label code makes of labels, and what that does to scores.

    Parameters
    ----------
    classifier : V2SClassifier
        Not fitted; it is cloned.
    folder : Path, default=None
        Datasets in UCR layout.
    datasets : sequence of str, default=()
        Those with the labels -1 and 1 to fit; empty means the ones of the paper that
        are in `folder`.
    seed : int, default=0
        Of the made-up series.

    Returns
    -------
    Finding
        Two tables, and a third about real data if there is a `folder`.

    Raises
    ------
    ValueError
        If `folder` has none of the datasets.
    """
    tables = [_release_table(), _equivalence_table(classifier, seed)]
    if folder is not None:
        affected = [row.dataset for row in read_table2() if row.labels == [-1, 1]]
        there = list_datasets(folder)
        names = list(datasets) or [name for name in affected if name in there]
        if not names:
            raise ValueError(
                f"the folder {folder.name!r} has none of {affected}, the datasets of "
                "the paper with the labels -1 and 1; name others with datasets."
            )
        tables.append(_collapsed_table(classifier, names, folder))
    return Finding("labels", tables)
