# SPDX-License-Identifier: Apache-2.0
"""Checks and conversion of the series that a user hands in."""

from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    validate_data,
)

from sklearn_v2s.runtime.user_warnings import warn_user
from sklearn_v2s.series.containers import as_arrays, label_array, refuse_times

__all__ = ["Missing", "check_series", "interpolate_missing"]

Missing = Literal["error", "interpolate"]


def _is_ragged(X: Any) -> bool:
    """Whether X is a list of series that do not all have one shape."""
    if not isinstance(X, list | tuple):
        return False
    shapes = {_as_array(series).shape for series in X}
    if () in shapes and len(shapes) > 1:
        raise ValueError(
            "X mixes series and single values; every element of a list "
            "must be a series of shape (n_timepoints,) or (n_channels, n_timepoints)."
        )
    return len(shapes) > 1


def _n_dimensions(X: Any) -> int:
    if isinstance(X, list | tuple):
        return np.ndim(X)
    # Array-likes of other kinds are left to scikit-learn, unopened.
    return getattr(X, "ndim", 2)


def _as_array(series: Any) -> np.ndarray:
    try:
        masked = isinstance(series, np.ma.MaskedArray)
        array = np.asarray(as_arrays(series) if masked else series)
    except ValueError as error:
        raise ValueError(
            "X holds a series whose channels have different lengths; all channels of "
            "one series must have the same number of time points."
        ) from error
    refuse_times(array.dtype)
    return array


def _pad_ragged(X: Any, missing: Missing) -> np.ndarray:
    cases = []
    for position, series in enumerate(X):
        try:
            # Not float64 at once: that would read numbers out of strings.
            case = check_array(
                np.atleast_2d(_as_array(series)),
                dtype="numeric",
                ensure_all_finite="allow-nan",
            ).astype(np.float64, copy=False)
        except ValueError as error:
            raise ValueError(f"X, series {position}: {error}") from error
        if missing == "error":
            _refuse_missing(case, position)
        cases.append(_interpolate(case, position) if missing != "error" else case)
    channels = {len(case) for case in cases}
    if len(channels) > 1:
        raise ValueError(
            f"X holds series with different numbers of channels: {sorted(channels)}. "
            "All series must have the same channels."
        )
    longest = max(case.shape[1] for case in cases)
    padded = np.full((len(cases), channels.pop(), longest), np.nan)
    for row, case in zip(padded, cases, strict=True):
        row[:, : case.shape[1]] = case
    return padded


def _refuse_missing(case: np.ndarray, position: int) -> None:
    """Raise if a series has missing values."""
    n_missing = int(np.isnan(case).sum())
    if n_missing:
        raise ValueError(
            f"Input X contains NaN: series {position} has {n_missing} missing values. "
            "Set missing='interpolate' to fill them, or leave the series out."
        )


def _interpolate(case: np.ndarray, position: int) -> np.ndarray:
    """Fill the missing values of one series; `position` is for the error."""
    filled = case.copy()
    times = np.arange(case.shape[1])
    known = ~np.isnan(case)
    if not known.any():
        raise ValueError(
            f"X, series {position}: all values are missing (NaN); nothing can be "
            "interpolated. Leave the series out."
        )
    for channel, values in enumerate(case):
        there = known[channel]
        # A channel without any value stays NaN: it will be silent.
        if there.any():
            filled[channel] = np.interp(times, times[there], values[there])
    return filled


def interpolate_missing(series: np.ndarray) -> np.ndarray:
    """Fill missing values by linear interpolation within each channel.

    Parameters
    ----------
    series : ndarray of shape (n, n_channels, n_timepoints)
        NaN where a value is missing. Before the first and after the last known value
        the nearest known one is repeated.

    Returns
    -------
    ndarray of shape (n, n_channels, n_timepoints)
        NaN only in channels of a series that have no value at all, which are silent;
        the input is left as it is.

    Raises
    ------
    ValueError
        If a series has no value at all.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.series import interpolate_missing
    >>> interpolate_missing(np.array([[[1.0, np.nan, 3.0, np.nan]]]))
    array([[[1., 2., 3., 3.]]])
    """
    incomplete = np.flatnonzero(np.isnan(series).any(axis=(1, 2)))
    if len(incomplete) == 0:
        return series
    filled = series.copy()
    for position in incomplete:
        filled[position] = _interpolate(series[position], position)
    return filled


def check_series(
    estimator: BaseEstimator,
    X: Any,
    y: Any = "no_validation",
    *,
    reset: bool,
    missing: Missing,
) -> tuple[np.ndarray, Any]:
    """Check X (and y) and return series of one shape.

    Sets, or checks against, ``n_features_in_``, ``n_channels_in_``,
    ``n_timepoints_in_`` and ``unequal_length_`` of `estimator`. ``n_features_in_`` is
    the number of values of a series: ``(n, t)`` and ``(n, 1, t)`` are the same data.

    Parameters
    ----------
    estimator : BaseEstimator
        The estimator that checks.
    X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints), or list
        Series, or a list of series ``(t,)`` or ``(n_channels, t)`` of unequal length;
        also a frame of whole series, or with an index of (series, time point).
    y : array-like of shape (n,), default="no_validation"
        Labels; the default where the caller has none to check.
    reset : bool
        True in ``fit``.
    missing : {"error", "interpolate"}
        What to do with NaN.

    Returns
    -------
    series : ndarray of shape (n, n_channels, n_timepoints) and dtype float64
        Shorter series end in NaN.
    y : ndarray or "no_validation"
        As scikit-learn checks it.

    Raises
    ------
    ValueError
        With what is wrong, what is allowed and what to do.
    """
    X = as_arrays(X)
    if not isinstance(y, str):
        y = label_array(y)
    ragged = _is_ragged(X)
    unequal = ragged if reset else estimator.unequal_length_
    if ragged or _n_dimensions(X) >= 3 or (unequal and not reset):
        if ragged:
            series = _pad_ragged(X, missing)
        else:
            # Before a shorter series is padded with NaN, which is to stay.
            series = _without_missing(_check_stack(estimator, X), missing)
        if not isinstance(y, str):
            y = validate_data(estimator, y=y, reset=False)
            check_consistent_length(series, y)
        if reset:
            # Names of columns, from an earlier fit on a table.
            vars(estimator).pop("feature_names_in_", None)
        else:
            series = _check_shape(estimator, series, ragged)
    else:
        checked = validate_data(
            estimator, X, y=y, reset=reset, ensure_all_finite="allow-nan"
        )
        values, y = (checked, y) if isinstance(y, str) else checked
        series = values.astype(np.float64, copy=False)[:, None, :]
        if not reset and estimator.n_channels_in_ > 1:
            series = _check_shape(estimator, series, ragged)
        series = _without_missing(series, missing)
    if reset:
        estimator.n_channels_in_, estimator.n_timepoints_in_ = series.shape[1:]
        estimator.n_features_in_ = series.shape[1] * series.shape[2]
        estimator.unequal_length_ = ragged
    return series, y


def _without_missing(series: np.ndarray, missing: Missing) -> np.ndarray:
    if missing == "interpolate":
        return interpolate_missing(series)
    for position in np.flatnonzero(np.isnan(series).any(axis=(1, 2))):
        _refuse_missing(series[position], position)
    return series


def _check_stack(estimator: BaseEstimator, X: Any) -> np.ndarray:
    """Check series of one length that do not come as a plain table."""
    values = check_array(
        X,
        dtype="numeric",
        allow_nd=True,
        ensure_all_finite="allow-nan",
        input_name="X",
        estimator=estimator,
    ).astype(np.float64, copy=False)
    if values.ndim == 2:
        values = values[:, None, :]
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(
            f"X has shape {np.shape(X)}; allowed are (n, n_timepoints) and "
            "(n, n_channels, n_timepoints) with at least one channel and one time "
            "point, or a list of series."
        )
    return values


def _check_shape(
    estimator: BaseEstimator, series: np.ndarray, ragged: bool
) -> np.ndarray:
    name = type(estimator).__name__
    _, n_channels, n_timepoints = series.shape
    if n_channels != estimator.n_channels_in_:
        raise ValueError(
            f"X has {n_channels} channels, but {name} is expecting "
            f"{estimator.n_channels_in_} channels as in fit."
        )
    if estimator.unequal_length_:
        series = _shorten(series, estimator.n_timepoints_in_)
        n_timepoints = series.shape[2]
        room = estimator.n_timepoints_in_ - n_timepoints
        return np.pad(series, ((0, 0), (0, 0), (0, room)), constant_values=np.nan)
    if ragged or n_timepoints != estimator.n_timepoints_in_:
        seen = "series of unequal length" if ragged else f"{n_timepoints} time points"
        raise ValueError(
            f"X has {seen}, but {name} is expecting {estimator.n_timepoints_in_} time "
            "points as in fit. Fit on a list of unequal series to allow other lengths."
        )
    return series


def _shorten(series: np.ndarray, longest: int) -> np.ndarray:
    """Resample what is longer than the longest series of the fit to its length."""
    if series.shape[2] <= longest:
        return series
    # Channels that are silent throughout are as long as the others.
    ends = series.shape[2] - (~np.isnan(series)).any(axis=1)[:, ::-1].argmax(axis=1)
    longer = np.flatnonzero(ends > longest)
    warn_user(
        f"{len(longer)} of {len(series)} series have more than {longest} time points, "
        f"the length of the longest in fit (up to {ends.max()}); they are resampled to "
        f"that length. Fit with a series as long to read them at their own rate."
    )
    fitted = series[:, :, :longest].copy()
    for number in longer:
        times = np.linspace(0, ends[number] - 1, longest)
        known = np.arange(ends[number])
        for channel in range(series.shape[1]):
            values = series[number, channel, : ends[number]]
            fitted[number, channel] = np.interp(times, known, values)
    return fitted
