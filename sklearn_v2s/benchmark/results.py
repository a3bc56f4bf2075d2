# SPDX-License-Identifier: Apache-2.0
"""Result files: CSV tables that are rewritten whole after each row.

The csv module and not pandas: a cell stays the text that was written, to the digit.
"""

import csv
import io
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from sklearn_v2s.runtime.tensor_file import write_bytes

__all__ = ["merge_files", "read_rows", "write_rows"]


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a result file.

    Parameters
    ----------
    path : Path
        CSV file; one that is not there has no rows.
    columns : sequence of str
        Columns that the file must have, in this order.

    Returns
    -------
    list of dict
        Column to text.

    Raises
    ------
    ValueError
        If the file has other columns: rows of two kinds are never mixed.
    """
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        found = list(reader.fieldnames or [])
        if found != list(columns):
            raise ValueError(
                f"{path.name} has the columns {found} where {list(columns)} are "
                "expected; name another file, or the file of the same command."
            )
        return list(reader)


def merge_files(
    paths: Sequence[Path],
    columns: Sequence[str],
    key: Callable[[dict[str, str]], Hashable],
) -> list[dict[str, str]]:
    """Read several result files of one kind, with a column ``error``.

    Parameters
    ----------
    paths : sequence of Path
        CSV files.
    columns : sequence of str
        Columns that they must have.
    key : callable
        From a row to what identifies its run. A run that is in several files counts
        once, as the last one has it, but a failed one never replaces another.

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
    rows: dict[Hashable, dict[str, str]] = {}
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"there is no result file {path}.")
        for row in read_rows(path, columns):
            if key(row) not in rows or not row["error"]:
                rows[key(row)] = row
    return list(rows.values())


def write_rows(
    path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]
) -> None:
    """Write a result file, in one step, so that it is never half-written.

    Parameters
    ----------
    path : Path
        CSV file; an existing one is replaced.
    columns : sequence of str
        Columns.
    rows : sequence of dict
        Column to value.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_v2s.benchmark.results import read_rows, write_rows
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "results.csv"
    ...     write_rows(path, ["method", "accuracy"], [{"method": "a", "accuracy": 1}])
    ...     read_rows(path, ["method", "accuracy"])
    [{'method': 'a', 'accuracy': '1'}]
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
