# SPDX-License-Identifier: Apache-2.0
"""Which time points of a series mattered for a class."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s.explain.differentiable import (
    DifferentiableViews,
    class_number,
    one_series,
    source_outputs,
)

__all__ = ["SeriesAttribution", "attribute_series"]

# "auto" of occlusion: windows in a series, and steps in a window.
_WINDOWS = 20
_STEPS = 4
# Changed copies of a series to classify at once.
_COPIES = 64
# Smallest probability: it keeps the logarithms of classifiers finite that return 0.
_LEAST = 1e-12


@dataclass(frozen=True)
class SeriesAttribution:
    """Which time points of a series support a class.

    Attributes
    ----------
    series : ndarray of shape (n_channels, n_timepoints)
        The series, as the user gave it.
    values : ndarray of shape (n_channels, n_timepoints)
        Positive where a time point supports the class, negative where it opposes it.
        ``"occlusion"``: fall of the class's log-odds where the time point is hidden,
        averaged over the windows that hide it. ``"gradient"``: slope of the log-odds
        times the distance of the value from the mean of its channel, averaged over a
        window. With ``scale="log-probability"`` the logarithm of the probability takes
        the place of the log-odds.
    target : object
        The class, as in ``classes_``.
    probability : float
        Of that class, for the unchanged series.
    method : {"occlusion", "gradient"}
        How it was computed.
    held : tuple of str
        Views of the classifier that the gradient did not pass through.
    scale : {"log-odds", "log-probability"}
        What the values are a fall of.
    """

    series: np.ndarray
    values: np.ndarray
    target: Any
    probability: float
    method: str
    held: tuple[str, ...] = ()
    scale: str = "log-odds"


def attribute_series(
    classifier: Any,
    series: Any,
    *,
    target: Any = None,
    method: Literal["occlusion", "gradient"] = "occlusion",
    window: int | Literal["auto"] = "auto",
    stride: int | Literal["auto"] = "auto",
    scale: Literal["log-odds", "log-probability"] = "log-odds",
) -> SeriesAttribution:
    """Compute which time points of a series mattered for a class.

    Occlusion hides a window behind a straight line between its neighbours and watches
    the probability of the class fall. It needs nothing but
    ``predict_proba``. The gradient goes through placement, perturbation and source,
    adding up over the replicas; it is for `V2SClassifier` alone, and the views
    ``"wave"``, ``"slope"`` and ``"level"``, which count and compare, are held as they
    are.

    Parameters
    ----------
    classifier : estimator
        Fitted classifier of series.
    series : array-like of shape (n_timepoints,) or (n_channels, n_timepoints)
        One series, as a row of ``X``; a single row ``(1, ...)`` is taken as well.
    target : object, default=None
        A class of ``classes_``; None takes the predicted one.
    method : {"occlusion", "gradient"}, default="occlusion"
        How to find out.
    window : int or "auto", default="auto"
        Time points to hide at once, or to average the gradient over; ``"auto"`` takes
        a twentieth of the series.
    stride : int or "auto", default="auto"
        Distance of two windows; ``"auto"`` takes a quarter of the window.
    scale : {"log-odds", "log-probability"}, default="log-odds"
        What falls. Near certainty the logarithm of a probability hardly moves, whatever
        is hidden; log-odds do.

    Returns
    -------
    SeriesAttribution
        A value for each time point of each channel.

    Raises
    ------
    ValueError
        If a parameter cannot be used.
    TypeError
        If the gradient is wanted of another classifier.

    References
    ----------
    Zeiler, Fergus. Visualizing and understanding convolutional networks. ECCV 2014
    (occlusion). Shrikumar, Greenside, Kundaje. Learning important features through
    propagating activation differences. ICML 2017 (gradient times input).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.explain import attribute_series
    >>> X = np.random.default_rng(0).normal(size=(20, 40))
    >>> X[10:, 20:30] += 3
    >>> y = np.repeat(["flat", "bump"], 10)
    >>> classifier = V2SClassifier(random_state=0).fit(X, y)
    >>> attribution = attribute_series(classifier, X[12])
    >>> attribution.values.shape, str(attribution.target)
    ((1, 40), 'bump')
    """
    check_is_fitted(classifier)
    row = one_series(series)
    proba = classifier.predict_proba(row[None])[0]
    code = class_number(classifier.classes_, proba, target)
    held: tuple[str, ...] = ()
    if scale not in ("log-odds", "log-probability"):
        raise ValueError(
            f"scale={scale!r} is not allowed: give 'log-odds' or 'log-probability'."
        )
    if method == "occlusion":
        values = _occlusion(classifier, row, code, scale, window, stride)
    elif method == "gradient":
        values, held = _gradient(classifier, row, code, scale, window)
    else:
        raise ValueError(
            f"method={method!r} is not allowed: give 'occlusion', which works for all "
            "classifiers, or 'gradient'."
        )
    return SeriesAttribution(
        np.atleast_2d(row),
        values,
        classifier.classes_[code],
        float(proba[code]),
        method,
        held,
        scale,
    )


def _positive(name: str, value: Any, automatic: int) -> int:
    if isinstance(value, str) and value == "auto":
        return max(1, automatic)
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a positive int or 'auto'.")
    return int(value)


def _window(window: Any, row: np.ndarray) -> int:
    n_timepoints = row.shape[-1]
    size = _positive("window", window, round(n_timepoints / _WINDOWS))
    return min(size, n_timepoints)


def _occlusion(
    classifier: Any, row: np.ndarray, code: int, scale: str, window: Any, stride: Any
) -> np.ndarray:
    n_timepoints = row.shape[-1]
    size = _window(window, row)
    step = _positive("stride", stride, size // _STEPS)
    if step > size:
        raise ValueError(
            f"stride={step} is larger than window={size}: time points between the "
            "windows would never be hidden. Use a smaller stride."
        )
    starts = list(range(0, n_timepoints - size + 1, step))
    if starts[-1] + size < n_timepoints:
        starts.append(n_timepoints - size)
    n_channels = len(np.atleast_2d(row))
    total = np.zeros((n_channels, n_timepoints))
    count = np.zeros(n_timepoints)
    whole = _logs(classifier.predict_proba(row[None]), code, scale)[0]
    places = [(channel, start) for channel in range(n_channels) for start in starts]
    for first in range(0, len(places), _COPIES):
        part = places[first : first + _COPIES]
        hidden = np.stack([_hide(row, channel, start, size) for channel, start in part])
        falls = whole - _logs(classifier.predict_proba(hidden), code, scale)
        for (channel, start), fall in zip(part, falls, strict=True):
            total[channel, start : start + size] += fall
    for start in starts:
        count[start : start + size] += 1
    return total / count


def _logs(proba: np.ndarray, code: int, scale: str) -> np.ndarray:
    """Return log-odds, or logarithms of probabilities, of one class."""
    logs = np.log(np.maximum(proba[:, code], _LEAST))
    if scale == "log-odds":
        others = np.delete(proba, code, axis=1).sum(axis=1)
        logs -= np.log(np.maximum(others, _LEAST))
    return logs


def _hide(row: np.ndarray, channel: int, start: int, size: int) -> np.ndarray:
    """Return a copy with a straight line in place of a window of one channel."""
    copy = row.copy()
    values = np.atleast_2d(copy)[channel]
    seen = ~np.isnan(values)
    seen[start : start + size] = False
    times = np.arange(len(values))
    where = slice(start, start + size)
    if seen.any():
        values[where] = np.interp(times[where], times[seen], values[seen])
    else:
        values[where] = np.nanmean(values)
    return copy


def _gradient(
    classifier: Any, row: np.ndarray, code: int, scale: str, window: Any
) -> tuple[np.ndarray, tuple[str, ...]]:
    size = _window(window, row)
    differentiable = DifferentiableViews(classifier, row)
    if not differentiable.modules:
        raise ValueError(
            f"no gradient goes through the views {list(classifier.views_)}: they count "
            "and compare. Use method='occlusion'."
        )
    series = differentiable.series.requires_grad_()
    outputs = {
        name: source_outputs(module, series)
        for name, module in differentiable.modules.items()
    }
    height = differentiable.log_odds(outputs, code)
    if scale == "log-probability":
        height = torch.nn.functional.logsigmoid(height)
    (slope,) = torch.autograd.grad(height, series)
    centred = series.detach() - series.detach().mean(2, keepdim=True)
    # What a shorter series was padded with is no part of it.
    values = (slope * centred)[0, :, : row.shape[-1]].double().numpy()
    # Through a spectrogram, the slopes of neighbours alternate in sign.
    return uniform_filter1d(values, size, mode="nearest"), tuple(differentiable.held)
