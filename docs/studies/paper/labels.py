# SPDX-License-Identifier: Apache-2.0
"""What the label code of the public releases does to labels, and what ours does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from docs.studies.paper.finding import Finding, Table
from docs.studies.paper.table2 import read_table2
from sklearn_v2s.benchmark.worker import Dataset
from sklearn_v2s.datasets import list_datasets

__all__ = ["ERAS", "LABEL_SETS", "Era", "examine_labels", "released_codes"]

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


@dataclass(frozen=True)
class Era:
    """The label code of a time.

    Attributes
    ----------
    prepare : callable
        What comes first: from labels, and whether they are those of ECG200, to whole
        numbers.
    by_maximum : bool, default=False
        Whether the remainder is then taken by the largest label, and not by the number
        of classes.
    """

    prepare: Callable[[np.ndarray, bool], np.ndarray]
    by_maximum: bool = False


# What is printed, to the code of that time.
ERAS = {
    "A: 2021-07-15 to 2022-01-10": Era(lambda y, is_ecg200: y),
    "B: IBM HEAD, other until 2022-09-11": Era(
        lambda y, is_ecg200: np.where(y == -1, 0, y) if is_ecg200 else y
    ),
    "C: 9ee886b, 2022-09-11": Era(lambda y, is_ecg200: np.abs(y)),
    # -1 becomes 4294967295.
    "D: HEAD since 2022-09-11": Era(
        lambda y, is_ecg200: y.astype(np.uint32).astype(np.int64), by_maximum=True
    ),
}
_FIRST = next(iter(ERAS))


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
    >>> from docs.studies.paper.labels import ERAS, released_codes
    >>> {era[0]: released_codes(era, np.array([-1, 1])).tolist() for era in ERAS}
    {'A': [1, 1], 'B': [1, 1], 'C': [0, 0], 'D': [0, 1]}
    """
    codes = ERAS[era].prepare(np.asarray(y), is_ecg200)
    n_classes = len(np.unique(codes))
    if codes.min() != 0:
        codes = codes % (codes.max() if ERAS[era].by_maximum else n_classes)
    # Too late: the remainder of -1 is positive by now.
    codes = np.where(codes == -1, 0, codes)
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
    collapsed = released_codes(_FIRST, np.where(codes == 0, -1, 1))
    try:
        clone(classifier).fit(X[train], collapsed[train])
        outcome = "fitted"
    except ValueError as error:
        outcome = str(error)
    lines.append(["{-1,1} after era A", outcome])
    return Table(
        "Test accuracy of V2SClassifier on the same series under different labels",
        ["labels", "accuracy"],
        lines,
    )


def _whole_numbers(name: str, y: np.ndarray) -> np.ndarray:
    try:
        return y.astype(np.float64).astype(np.int64)
    except ValueError as error:
        raise ValueError(
            f"datasets: {name} has labels that are no numbers, which the released code "
            "cannot read; name datasets with the labels -1 and 1."
        ) from error


def _collapsed_table(classifier: Any, names: Sequence[str], folder: Path) -> Table:
    printed = {row.dataset: row for row in read_table2()}
    lines = []
    for name in names:
        data = Dataset(name, str(folder))
        labels = np.concatenate([data.y_train, data.y_test])
        codes = released_codes(_FIRST, _whole_numbers(name, labels))
        train, test = np.split(codes, [len(data.y_train)])
        # The accuracy of a model that always predicts the most frequent class.
        numbers, counts = np.unique(train, return_counts=True)
        collapsed = float(np.mean(test == numbers[counts.argmax()]))
        n_left = f"{len(numbers)} of {len(np.unique(data.y_train))}"
        fitted = clone(classifier).fit(data.X_train, data.y_train)
        real = float(np.mean(fitted.predict(data.X_test) == data.y_test))
        known = f"{printed[name].accuracy['v2sa']:.2f}" if name in printed else "–"
        lines.append(
            [name, known, n_left, f"{100 * collapsed:.2f}", f"{100 * real:.2f}"]
        )
    header = ["", "V2Sa, printed", "classes left", "era A, constant", "real, ours"]
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
