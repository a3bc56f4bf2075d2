# SPDX-License-Identifier: Apache-2.0
"""The commands ``v2s datasets``."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_v2s.cli.data import (
    DATA_HELP,
    add_data_options,
    add_labels,
    is_file_name,
    read_data,
)
from sklearn_v2s.cli.help import HelpFormatter

__all__ = ["fill_datasets"]

_EXAMPLES = """\
examples:
  v2s datasets list
  v2s datasets list --data UCRArchive_2018
  v2s datasets show GunPoint
  v2s datasets show 32 --split test
  v2s datasets show my_series.csv
"""


def fill_datasets(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``v2s datasets`` its actions and their options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    """
    text: Any = {
        "epilog": _EXAMPLES,
        "formatter_class": HelpFormatter,
    }
    parser.description = (
        "Labelled series: the UCR datasets by name and number, and files."
    )
    parser.epilog = text["epilog"]
    parser.formatter_class = text["formatter_class"]
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser(
        "list",
        help="numbers, names, sizes where known, and where the data are",
        description="List the UCR datasets that the original command line numbers: "
        "series in the official parts, time points, classes, and where the data are "
        "on this machine; '-' stands for what is not known, or not there.",
        **text,
    )
    action.add_argument(
        "--data",
        "--folder",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="folder in UCR layout to look into",
    )
    action.set_defaults(run=_list)
    action = actions.add_parser(
        "show",
        help="sizes, classes and values of one dataset",
        description="Read a dataset and show what is in it. The first column of a "
        "table (.csv, .tsv, two-dimensional .npy) is the label.",
        **text,
    )
    action.add_argument("data", metavar="DATA", help=DATA_HELP)
    add_labels(action)
    add_data_options(action, "train")
    action.set_defaults(run=_show)


def _list(options: argparse.Namespace) -> int:
    from sklearn_v2s.datasets import list_ucr
    from sklearn_v2s.datasets.ucr import locate_ucr

    if options.folder is not None and not options.folder.is_dir():
        raise FileNotFoundError(f"--data {options.folder}: there is no such folder.")
    header = ("number", "name", "train", "test", "time points", "classes", "where")
    rows = [
        (*dataset, locate_ucr(dataset.name, options.folder)) for dataset in list_ucr()
    ]
    texts = [
        ["-" if value is None else str(value) for value in row]
        for row in [header, *rows]
    ]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
    return 0


def _show(options: argparse.Namespace) -> int:
    from sklearn_v2s.datasets import find_ucr

    X, y = read_data(options.data, options, labelled=True, labels=options.labels)
    assert y is not None
    if not is_file_name(options.data):
        try:
            dataset = find_ucr(options.data)
            print(f"dataset: {dataset.name}, number {dataset.number}")
        except ValueError:
            print(f"dataset: {options.data}, without a number")
        print(f"part: {options.split}")
    # Two dimensions: (series, time points); three: with channels in the middle.
    series = [np.atleast_2d(values) for values in X]
    lengths = {values.shape[1] for values in series}
    print(f"series: {len(series)}")
    print(f"channels: {', '.join(str(n) for n in sorted({len(s) for s in series}))}")
    span = f"{min(lengths)} to {max(lengths)}" if len(lengths) > 1 else max(lengths)
    print(f"time points: {span}")
    values = np.concatenate([values.ravel() for values in series])
    known = values[np.isfinite(values)]
    if len(known):
        print(
            f"values: {known.min():.6g} to {known.max():.6g}, mean {known.mean():.6g}"
        )
    print(f"missing: {np.isnan(values).sum()}")
    labels, counts = np.unique(y, return_counts=True)
    print(f"classes: {len(labels)}")
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        print(f"  {label}: {count}")
    return 0
