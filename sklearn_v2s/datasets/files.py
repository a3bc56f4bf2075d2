# SPDX-License-Identifier: Apache-2.0
"""Series from single files: .ts, .tsv, .csv and .npy.

aeon reads .ts files. Tables are read here: aeon's reader of .tsv has no line of names
and reads no .csv, and ``v2s predict`` should not need aeon.
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "SUFFIXES",
    "aeon_datasets",
    "load_file",
    "load_labels",
    "plain_labels",
]

_DELIMITERS = {".tsv": "\t", ".csv": ","}
_DELIMITER_NAMES = {"\t": "tabs", ",": "commas"}
# With or without the mark that spreadsheets put in front.
_ENCODING = "utf-8-sig"
_SHORTEST_NUMBERING = 8
SUFFIXES = (".ts", *_DELIMITERS, ".npy")


def load_file(
    path: str | os.PathLike[str], labelled: bool = True
) -> tuple[Any, np.ndarray | None]:
    r"""Load the series of one file.

    Parameters
    ----------
    path : path-like
        ``.tsv`` (tabs) or ``.csv`` (commas): a series on each line; a line of names at
        the top is skipped, and an empty cell is NaN. ``.npy``: an array of numbers, of
        shape (n, n_timepoints) or (n, n_channels, n_timepoints). ``.ts``: read by aeon.
    labelled : bool, default=True
        Whether the first column of a table (``.tsv``, ``.csv``, or ``.npy`` of two
        dimensions) is the label, as in the UCR archive. ``.ts`` files say themselves
        whether they have labels.

    Returns
    -------
    X : ndarray of shape (n, n_timepoints) or (n, n_channels, n_timepoints), or list
        Series as the file has them; a list of ndarrays of shape (n_channels,
        n_timepoints) where lengths differ.
    y : ndarray of shape (n,) or None
        Labels as they stand: integers stay integers, all else is text. None if the file
        has none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If aeon is needed and missing.
    ValueError
        If the file is damaged or of another kind, does not match its suffix, or seems
        to have values of a series where labels are expected.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_v2s.datasets import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "waves.csv"
    ...     _ = path.write_text("up,0.5,0.7,0.9\ndown,0.3,0.2,0.1\n")
    ...     X, y = load_file(path)
    >>> X.shape, y.tolist()
    ((2, 3), ['up', 'down'])
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path.name} ends in {path.suffix!r}; series are read from "
            f"{', '.join(SUFFIXES)}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} is not there, or is no file.")
    if suffix == ".npy":
        return _read_npy(path, labelled)
    try:
        if suffix == ".ts":
            return _read_ts(path)
        return _read_table(path, _DELIMITERS[suffix], labelled)
    except UnicodeDecodeError as error:
        raise _not_text(path, error) from error


def load_labels(path: str | os.PathLike[str]) -> np.ndarray:
    r"""Load labels that have a file of their own.

    Parameters
    ----------
    path : path-like
        ``.npy``: an array of shape (n,) of numbers or text. Anything else is text with
        a label on each line.

    Returns
    -------
    ndarray of shape (n,)
        Labels as they stand: integers stay integers, all else is text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file holds no labels, or an array of another shape.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_v2s.datasets import load_labels
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels.txt"
    ...     _ = path.write_text("1\n-1\n")
    ...     load_labels(path)
    array([ 1, -1])
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"the file of labels {str(path)!r} is not there, or is no file."
        )
    if path.suffix.lower() == ".npy":
        labels = _read_array(path)
        if labels.ndim != 1:
            raise ValueError(f"{path.name} does not hold one array of shape (n,).")
    else:
        try:
            lines = path.read_text(encoding=_ENCODING).splitlines()
        except UnicodeDecodeError as error:
            raise _not_text(path, error) from error
        labels = np.array([line.strip() for line in lines if line.strip()], dtype=str)
    if len(labels) == 0:
        raise ValueError(f"{path.name} holds no labels.")
    return plain_labels(labels.astype(str))


def aeon_datasets() -> Any:
    """Return aeon's module of loaders; the error says how to install it."""
    try:
        from aeon import datasets
    except ImportError as error:
        raise ImportError(
            ".ts files and aeon's archive need aeon: "
            'pip install "sklearn-v2s[benchmark]"'
        ) from error
    return datasets


def _not_text(path: Path, error: UnicodeDecodeError) -> ValueError:
    return ValueError(
        f"{path.name} is not text in UTF-8: {error.reason} at byte {error.start}."
    )


def _read_ts(path: Path) -> tuple[Any, np.ndarray | None]:
    load = aeon_datasets().load_from_ts_file
    try:
        found = load(str(path))
    except UnicodeDecodeError:
        raise
    except Exception as error:
        # aeon has errors of many kinds for text that is no .ts; those of the system
        # have a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path.name} is not a .ts file: {error!r}.") from error
    # Without labels aeon returns the series alone.
    X, y = found if isinstance(found, tuple) else (found, None)
    if len(X) == 0 or np.size(X[0]) == 0:
        raise ValueError(f"{path.name} is not a .ts file: no series follow '@data'.")
    declared = _declared_labels(path)
    labels = [] if y is None else np.unique(y).tolist()
    known = {*map(_plain, declared)}
    unknown = [label for label in labels if _plain(label) not in known]
    if declared and unknown:
        raise ValueError(
            f"{path.name} has the labels {unknown}, but its header declares {declared}."
        )
    return X, y


def _declared_labels(path: Path) -> list[str]:
    """Return the labels that the header of a .ts file names; aeon ignores them."""
    declared: list[str] = []
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            words = line.lower().split()
            if words[:1] == ["@data"]:
                break
            if words[:2] == ["@classlabel", "true"]:
                declared = words[2:]
    return declared


def _plain(label: Any) -> str:
    """Return a label as text; 1 and 1.0 are the same."""
    text = str(label).strip()
    return str(float(text)) if _is_number(text) else text


def _read_array(path: Path) -> np.ndarray:
    """Return the array of a .npy file."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        start = stream.read(12)
    # The length of the header has two bytes in version 1 of the format, else four.
    length = int.from_bytes(start[8 : 10 if start[6:7] == b"\1" else 12], "little")
    problem = "it does not begin as one"
    if start.startswith(np.lib.format.MAGIC_PREFIX) and length <= size:
        try:
            # Never a pickle: an array of objects is refused. Mapped, since otherwise
            # numpy makes room for all that the header claims before it reads.
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as error:
            # Whatever numpy's parser of headers makes of a damaged one.
            problem = repr(error)
        else:
            end = mapped.offset + mapped.nbytes
            if end == size:
                return np.array(mapped)
            problem = f"its array ends after {end} of its {size} bytes"
    raise ValueError(f"{path.name} is not an intact .npy file: {problem}.")


def _read_npy(path: Path, labelled: bool) -> tuple[np.ndarray, np.ndarray | None]:
    array = _read_array(path)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path.name} does not hold one array of real numbers.")
    if not labelled:
        return array, None
    if array.ndim != 2 or array.shape[1] < 2:
        raise ValueError(
            f"{path.name} has shape {array.shape}; only an array (n, 1 + n_timepoints) "
            "has room for labels, in its first column. Hand the labels over in a file "
            "of their own."
        )
    return array[:, 1:], _labels_in_front(path, array[:, 0].astype(str))


def _read_table(
    path: Path, delimiter: str, labelled: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    line_of = "a label and numbers" if labelled else "numbers"
    expected = f"{line_of} on each line, separated by {_DELIMITER_NAMES[delimiter]}"
    n_before = int(labelled)
    empty_cell = re.compile(f"(^|{delimiter}) *({delimiter}|$)")
    with open(path, encoding=_ENCODING) as stream:
        # loadtxt would read the columns that it is given and ignore all others.
        counts, has_empty_cells = [], False
        for number, line in enumerate(stream, start=1):
            if line.strip():
                counts.append((number, line.count(delimiter) + 1))
                has_empty_cells |= empty_cell.search(line) is not None
    n_columns = counts[0][1] if counts else 0
    if n_columns < 1 + n_before:
        raise ValueError(f"{path.name} does not begin with {expected}.")
    for number, count in counts:
        if count != n_columns:
            raise ValueError(
                f"{path.name} is not {expected}: line {number} has {count} columns, "
                f"the first has {n_columns}. Series of unequal length go into .ts "
                "files, or are filled up with NaN."
            )
    with open(path, encoding=_ENCODING) as stream:
        first = next(line for line in stream if line.strip()).split(delimiter)
    first = [name.strip() for name in first]
    has_names = len(counts) > 1 and (
        not any(map(_is_number, first[n_before:])) or _is_numbering(first)
    )
    if has_names and not first[0]:
        raise ValueError(
            f"{path.name}: the first column has no name, as where pandas writes the "
            "numbers of the rows. Leave it out: to_csv(..., index=False)."
        )
    layout: dict[str, Any] = {
        "delimiter": delimiter,
        "encoding": _ENCODING,
        "comments": None,
        "skiprows": counts[0][0] if has_names else 0,
    }
    try:
        # Two passes, so that no series is ever held as text.
        series = np.loadtxt(
            path,
            usecols=range(n_before, n_columns),
            ndmin=2,
            converters=_number_or_nan if has_empty_cells else None,
            **layout,
        )
        if not labelled:
            return series, None
        labels = np.loadtxt(path, dtype=str, usecols=0, ndmin=1, **layout)
    except ValueError as error:
        raise ValueError(f"{path.name} is not {expected}: {error}") from error
    return series, _labels_in_front(path, labels)


def _number_or_nan(text: str) -> float:
    return float(text) if text.strip() else np.nan


def _is_numbering(first: list[str]) -> bool:
    """Say whether a line is what pandas writes where columns have no names."""
    names = first if first[0] else first[1:]
    # Fewer could be a series.
    return len(names) >= _SHORTEST_NUMBERING and names == [
        str(number) for number in range(len(names))
    ]


def _labels_in_front(path: Path, labels: np.ndarray) -> np.ndarray:
    """Return the labels of a first column, unless they seem to be values of series."""
    plain = plain_labels(labels)
    if plain.dtype.kind == "U" and all(map(_is_number, labels)):
        n_different = len(np.unique(labels))
        if n_different > max(2, len(labels) / 2):
            raise ValueError(
                f"{path.name}: the first column has {n_different} different numbers "
                f"in {len(labels)} rows, such as {labels[0]}, and seems to be no "
                "label. Put the labels there, or hand them over in a file of their own "
                "(--labels FILE). For series without labels set labelled=False, or "
                "leave out --labelled."
            )
    return plain


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def plain_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels that are all whole numbers as integers, others as they are."""
    try:
        numbers = labels.astype(np.float64)
    except ValueError:
        return labels
    # Some editions of the archive write 1.0000000e+00 for the label 1.
    if np.array_equal(numbers, np.rint(numbers)):
        return numbers.astype(np.int64)
    return labels
