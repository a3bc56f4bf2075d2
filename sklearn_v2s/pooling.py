# SPDX-License-Identifier: Apache-2.0
"""Pooling: responses of kernels over time to features of one series."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["N_THRESHOLDS", "PooledResponses", "pool_responses", "spread_levels"]

# Thresholds of each kernel at each dilation.
N_THRESHOLDS = 4
# Parts of the series in which the first threshold is counted by itself.
_N_SEGMENTS = 4
# Kernels that compete with each other for each time point.
_GROUP_SIZE = 7
_GOLDEN_RATIO = (5**0.5 - 1) / 2


class PooledResponses(NamedTuple):
    """What is kept of the responses of k kernels to a batch of series.

    Attributes
    ----------
    exceedance : Tensor of shape (batch, N_THRESHOLDS * k)
        Share of time points above each threshold (proportion of positive values).
    course : Tensor of shape (batch, 4 * k)
        The same for one threshold, in each quarter of the series.
    wins : Tensor of shape (batch, 2 * (k - k % 7))
        Square root of the share of time points at which a kernel has the largest, and
        the smallest, response of its group of seven.
    extremes : Tensor of shape (batch, 2 * k)
        Largest and smallest response.
    """

    exceedance: Tensor
    course: Tensor
    wins: Tensor
    extremes: Tensor


def spread_levels(count: int, start: float) -> Tensor:
    """Return quantile levels that cover the interval (0, 1) evenly in any order.

    Parameters
    ----------
    count : int
        How many.
    start : float
        Where the sequence starts; another start gives other levels.

    Returns
    -------
    Tensor of shape (count,) and dtype float64
        Multiples of the golden ratio, modulo 1.

    Examples
    --------
    >>> from sklearn_v2s.pooling import spread_levels
    >>> [round(float(level), 3) for level in spread_levels(3, 0.0)]
    [0.618, 0.236, 0.854]
    """
    steps = torch.arange(1, count + 1, dtype=torch.float64)
    return (start + steps * _GOLDEN_RATIO) % 1.0


def pool_responses(responses: Tensor, thresholds: Tensor) -> PooledResponses:
    """Pool the responses of kernels at one dilation.

    Parameters
    ----------
    responses : Tensor of shape (batch, k, n_timepoints)
        Of each kernel at each time point.
    thresholds : Tensor of shape (N_THRESHOLDS, k)
        Of each kernel.

    Returns
    -------
    PooledResponses
        Features of each series.

    References
    ----------
    Dempster, Schmidt, Webb. MiniRocket. KDD 2021 (proportion of positive values).
    Dempster, Schmidt, Webb. Hydra: competing convolutional kernels for fast and
    accurate time series classification. 2023 (competition within groups).

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.pooling import pool_responses
    >>> pooled = pool_responses(torch.zeros(2, 84, 10), torch.ones(4, 84))
    >>> [part.shape[1] for part in pooled]
    [336, 336, 168, 168]
    """
    n_kernels, n_timepoints = responses.shape[1:]
    # A float buffer and a product with ones: several times quicker on a CPU than the
    # mean of a tensor of booleans.
    above = torch.empty_like(responses)
    ones = responses.new_full((n_timepoints,), 1.0 / n_timepoints)
    exceedance = []
    for threshold in thresholds[1:]:
        torch.gt(responses, threshold.unsqueeze(1), out=above)
        exceedance.append(above @ ones)
    torch.gt(responses, thresholds[0].unsqueeze(1), out=above)
    exceedance.insert(0, above @ ones)
    course = functional.adaptive_avg_pool1d(above, _N_SEGMENTS)
    n_groups = n_kernels // _GROUP_SIZE
    grouped = responses[:, : n_groups * _GROUP_SIZE]
    groups = grouped.unflatten(1, (n_groups, _GROUP_SIZE))
    wins = []
    for best in (groups.amax(2, keepdim=True), groups.amin(2, keepdim=True)):
        wins.append((groups == best).to(responses.dtype) @ ones)
    return PooledResponses(
        torch.cat(exceedance, dim=1),
        course.flatten(1),
        torch.cat([counts.flatten(1) for counts in wins], dim=1).sqrt(),
        torch.cat([responses.amax(2), responses.amin(2)], dim=1),
    )
