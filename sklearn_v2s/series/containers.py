# SPDX-License-Identifier: Apache-2.0
"""Containers that users keep series in, as arrays or lists of arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse

__all__ = ["as_arrays", "label_array", "refuse_times"]

_ACCEPTED = (
    "Accepted are an array-like of numbers of shape (n, n_timepoints) or (n, "
    "n_channels, n_timepoints), a list of arrays of shape (n_timepoints,) or "
    "(n_channels, n_timepoints), a frame whose cells are numbers or whole series, and "
    "a frame with an index of the two levels (series, time point)."
)


def as_arrays(X: Any) -> Any:
    """Return X as an array, a frame of numbers, or a list of arrays.

    Parameters
    ----------
    X : object
        What a user hands in as series.

    Returns
    -------
    ndarray, list, tuple, frame or sparse matrix
        A frame of single numbers stays one, for the names of its columns. Frames of
        whole series, and those with an index of (series, time point), become lists of
        arrays of shape (n_channels, n_timepoints). Masked values become NaN.

    Raises
    ------
    TypeError
        If X is of another type, or holds dates or durations.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.series.containers import as_arrays
    >>> as_arrays(np.ma.masked_greater([[1, 2, 99]], 9))
    array([[ 1.,  2., nan]])
    """
    if issparse(X) or isinstance(X, list | tuple):
        return X
    if isinstance(X, np.ma.MaskedArray):
        refuse_times(X.dtype)
        return np.ma.filled(X.astype(np.float64), np.nan)
    if hasattr(X, "columns"):
        return _from_frame(X)
    if hasattr(X, "__array__"):
        X = _array(X)
        refuse_times(X.dtype)
        if X.dtype == object and X.ndim == 1:
            return list(X)
        if X.dtype == object and X.ndim == 2 and X.size and _is_series(X[0, 0]):
            return [_channels(row, number) for number, row in enumerate(X)]
        return X
    # Other sequences, such as datasets, are read like lists.
    if isinstance(X, str | bytes | Mapping) or not hasattr(X, "__getitem__"):
        raise TypeError(f"X is a {_type_name(X)}. {_ACCEPTED}")
    return X


def _type_name(X: Any) -> str:
    kind = type(X)
    if kind.__module__ == "builtins":
        return kind.__name__
    return f"{kind.__module__}.{kind.__name__}"


def _array(X: Any) -> np.ndarray:
    if type(X) is np.ndarray:
        return X
    try:
        return np.asarray(X)
    except Exception as error:  # each library raises errors of its own
        raise TypeError(
            f"X is a {_type_name(X)}, which cannot be read as an array ({error}). "
            + _ACCEPTED
        ) from error


def _from_frame(frame: Any) -> Any:
    for dtype in getattr(frame, "dtypes", ()):
        refuse_times(dtype)
    index = getattr(frame, "index", None)
    if getattr(index, "nlevels", 1) == 2:
        # In the order of the first level as it comes, not sorted.
        groups = frame.groupby(level=0, sort=False)
        return [np.ascontiguousarray(part.to_numpy().T) for _, part in groups]
    if len(frame) == 0 or len(frame.columns) == 0:
        return frame
    values = _array(frame)
    if values.dtype == object and _is_series(values[0, 0]):
        return [_channels(row, number) for number, row in enumerate(values)]
    return frame


def _is_series(cell: Any) -> bool:
    return not isinstance(cell, str | bytes) and np.ndim(cell) == 1


def _channels(row: Any, number: int) -> np.ndarray:
    """Return one series whose channels are cells of a row."""
    channels = [np.asarray(cell) for cell in row]
    lengths = sorted({len(channel) if channel.ndim else 1 for channel in channels})
    if len(lengths) > 1:
        raise ValueError(
            f"X, series {number}: its channels have {lengths} time points; all "
            "channels of one series must have the same number."
        )
    return np.stack(channels)


def refuse_times(dtype: Any) -> None:
    """Raise a TypeError if a data type is one of dates or durations.

    Parameters
    ----------
    dtype : dtype
        Of NumPy, pandas or polars.
    """
    if getattr(dtype, "kind", "") in ("m", "M"):
        raise TypeError(
            f"X has values of type {dtype}, which are times, not the values of a "
            "series. Leave them out, or turn durations into numbers, for example with "
            "X / np.timedelta64(1, 's')."
        )


def label_array(y: Any) -> Any:
    """Return labels of a nullable type of pandas as the type that it stands for.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels.

    Returns
    -------
    array-like of shape (n,)
        Others are left as they are.

    Raises
    ------
    ValueError
        If labels are missing.
    TypeError
        If labels are bytes.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_v2s.series.containers import label_array
    >>> label_array(pd.Series([3, 4, 3], dtype="Int64"))
    array([3, 4, 3])
    """
    if y is None or issparse(y):
        return y
    labels = np.asarray(y)
    if labels.ndim != 1:
        return y
    if labels.dtype.kind == "S" or (
        labels.dtype == object and any(isinstance(label, bytes) for label in labels)
    ):
        raise TypeError(
            "y holds labels of type bytes, which scikit-learn does not take. Decode "
            "them: y = [label.decode() for label in y]."
        )
    missing = np.flatnonzero(_is_missing(labels))
    if len(missing):
        raise ValueError(
            f"Input y contains NaN: {len(missing)} of {len(labels)} labels are missing "
            f"(None or NaN), the first at position {missing[0]}. Leave these series "
            "out, or give them a label."
        )
    nullable = getattr(getattr(y, "dtype", None), "numpy_dtype", None)
    return y if nullable is None else labels.astype(nullable)


def _is_missing(labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind in "fcmM":
        return labels != labels
    if labels.dtype != object:
        return np.zeros(len(labels), dtype=bool)
    # NaN and NaT differ from themselves; pandas' NA says neither yes nor no.
    return np.array(
        [
            label is None or type(label).__name__ == "NAType" or label != label
            for label in labels
        ]
    )
