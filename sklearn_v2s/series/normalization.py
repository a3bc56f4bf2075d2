# SPDX-License-Identifier: Apache-2.0
"""Normalisation of series by mean and standard deviation."""

from typing import Literal

import numpy as np

__all__ = ["Normalization", "SeriesNormalizer"]

Normalization = Literal["global", "series"] | None


class SeriesNormalizer:
    """Bring series to a common level and scale.

    Parameters
    ----------
    mode : {"global", "series", None}
        ``"global"`` subtracts the mean and divides by the standard deviation of each
        channel over the training data, so that differences of level and scale between
        series stay; ``"series"`` does it for each series, so that they go; None leaves
        the values alone.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_channels, 1)
        What ``"global"`` learned.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.series import SeriesNormalizer
    >>> SeriesNormalizer("series").fit(np.ones((1, 1, 2))).transform(
    ...     np.array([[[1.0, 3.0]]])
    ... )
    array([[[-1.,  1.]]])
    """

    def __init__(self, mode: Normalization) -> None:
        self.mode = mode

    def fit(
        self, series: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> "SeriesNormalizer":
        """Learn mean and scale; series end in NaN where they are shorter."""
        n_channels = series.shape[1]
        self.mean_ = np.zeros((n_channels, 1))
        self.scale_ = np.ones((n_channels, 1))
        if self.mode == "global":
            weight = np.ones(len(series)) if sample_weight is None else sample_weight
            mean, scale = _mean_and_scale(series, weight[:, None, None], axis=(0, 2))
            self.mean_, self.scale_ = mean[0], scale[0]
        return self

    def transform(self, series: np.ndarray) -> np.ndarray:
        """Return normalised series without NaN; after its end a series is zero."""
        if self.mode == "series":
            mean, scale = _mean_and_scale(series, np.ones((1, 1, 1)), axis=2)
            normalised = (series - mean) / scale
        else:
            normalised = (series - self.mean_) / self.scale_
        return np.nan_to_num(normalised, nan=0.0, posinf=np.inf, neginf=-np.inf)


def _mean_and_scale(
    series: np.ndarray, weight: np.ndarray, axis: int | tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted mean and standard deviation of what is not NaN, axes kept.

    The scale is 1 where the standard deviation is nothing but rounding of the mean.
    """
    known = ~np.isnan(series)
    weights = known * weight
    # A channel without any value has the mean 0 and the scale 1.
    total = np.maximum(weights.sum(axis=axis, keepdims=True), np.finfo(float).tiny)

    def average(values: np.ndarray) -> np.ndarray:
        weighted = weights * np.where(known, values, 0.0)
        return weighted.sum(axis=axis, keepdims=True) / total

    mean = average(series)
    # Once more: what a sum over many values rounds off would pass for variation.
    mean = mean + average(series - mean)
    std = np.sqrt(average((series - mean) ** 2))
    rounding = 10.0 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(std <= rounding, 1.0, std)
