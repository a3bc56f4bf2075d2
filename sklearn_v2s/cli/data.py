# SPDX-License-Identifier: Apache-2.0
"""Options of commands for the series to read, and progress bars."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "DATA_HELP",
    "add_data_options",
    "add_labels",
    "add_quiet",
    "is_file_name",
    "progress_bar",
    "read_data",
]

DATA_HELP = (
    "name of a UCR dataset, its number in the original command line (0 to 79), or a "
    "file: .ts, .tsv, .csv or .npy"
)


def add_data_options(parser: argparse.ArgumentParser, split: str) -> None:
    """Add the options for named datasets: folder, part, download.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of a command.
    split : {"train", "test"}
        Part of a named dataset that the command takes by default.
    """
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        "--folder",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="folder in UCR layout, <name>/<name>_TRAIN.tsv or .ts, to find a named "
        "dataset in before aeon's",
    )
    group.add_argument(
        "--split",
        choices=["train", "test"],
        default=split,
        help="official part of a named dataset (default: %(default)s)",
    )
    group.add_argument(
        "--download",
        action="store_true",
        help="let aeon download a named dataset that is not on this machine",
    )


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add ``--labels``, for commands that need them."""
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="labels of the series of a file, if they are not in it: a label on each "
        "line, or .npy",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet``."""
    parser.add_argument(
        "--quiet", action="store_true", help="no progress bar, nothing but the result"
    )


def progress_bar(total: int, what: str, quiet: bool) -> Any:
    """Return a bar on standard error; where that is no terminal, it is not shown."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, disable=True if quiet else None, leave=False)


def is_file_name(data: str) -> bool:
    """Return whether DATA means a file rather than the name or number of a dataset."""
    path = Path(data)
    return bool(path.suffix) or len(path.parts) > 1 or path.is_file()


def read_data(
    data: str,
    options: argparse.Namespace,
    *,
    labelled: bool,
    labels: Path | None = None,
) -> tuple[Any, np.ndarray | None]:
    """Read the series that a command was given.

    Parameters
    ----------
    data : str
        Name, number or path.
    options : argparse.Namespace
        With the options of `add_data_options`.
    labelled : bool
        Whether the first column of a table is the label.
    labels : Path, default=None
        File of the labels, if a file of series does not hold them.

    Returns
    -------
    X : ndarray or list of ndarray
        Series.
    y : ndarray of shape (n,) or None
        Labels, where there are some.

    Raises
    ------
    ValueError
        If `labelled` and there are no labels, or not one for each series.
    """
    from sklearn_v2s.datasets import load_file, load_labels, load_ucr

    if not is_file_name(data):
        if labels is not None:
            raise ValueError(
                f"--labels {labels} belongs to a file of series, and {data!r} is the "
                "name of a dataset, which has labels."
            )
        try:
            return load_ucr(
                data, options.split, options.folder, download=options.download
            )
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error} The options are --data DIR and --download."
            ) from error
    path = Path(data)
    if path.is_dir():
        raise ValueError(
            f"{data} is a folder. Name a file, or a dataset in UCR layout apart from "
            f"the folder that it is in: {path.name} --data {path.parent}."
        )
    if labels is None:
        X, y = load_file(path, labelled)
    else:
        X, _ = load_file(path, labelled=False)
        y = load_labels(labels)
        if len(y) != len(X):
            raise ValueError(
                f"--labels {labels} has {len(y)} labels, and {path.name} has {len(X)} "
                "series."
            )
    if labelled and y is None:
        raise ValueError(
            f"{path.name} has no labels, and this command needs them: a column in "
            "front, or --labels FILE where the command has it."
        )
    return X, y
