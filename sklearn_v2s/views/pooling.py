# SPDX-License-Identifier: Apache-2.0
"""Pooling: responses of kernels over time to features of one series."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "FULL_VECTORS",
    "GROUP_SIZE",
    "N_THRESHOLDS",
    "PooledResponses",
    "pool_responses",
    "quantiles",
    "spread_levels",
]

# Thresholds of each kernel at each dilation.
N_THRESHOLDS = 4
# Contiguous values that torch needs for its fast, vectorised reductions.
FULL_VECTORS = 32
# Parts of the series in which the first threshold is counted by itself.
_N_SEGMENTS = 4
# Kernels that compete with each other for each time point.
GROUP_SIZE = 7
_GOLDEN_RATIO = (5**0.5 - 1) / 2


class PooledResponses(NamedTuple):
    """Pooled responses of k kernels to a batch of series.

    Attributes
    ----------
    ppv : Tensor of shape (N_THRESHOLDS, k, batch)
        Proportion of values above each threshold (PPV).
    segment_ppv : Tensor of shape (k, 4, batch)
        PPV of the first threshold in each quarter of the series.
    hydra_counts : Tensor of shape (2, k - k % 7, batch)
        Square root of the share of time points at which a kernel has the largest, and
        the smallest, response of its group of seven.
    extremes : Tensor of shape (2, k, batch)
        Largest and smallest response.
    """

    ppv: Tensor
    segment_ppv: Tensor
    hydra_counts: Tensor
    extremes: Tensor

    @staticmethod
    def join(parts: "Sequence[PooledResponses]") -> "PooledResponses":
        """Join the pooled responses of several groups of kernels.

        Parameters
        ----------
        parts : sequence of PooledResponses
            Of neighbouring kernels, in multiples of seven but for the last.

        Returns
        -------
        PooledResponses
            As if all kernels had been pooled together.
        """
        axes = (1, 0, 1, 1)
        fields = zip(zip(*parts, strict=True), axes, strict=True)
        return PooledResponses(*(torch.cat(field, dim=axis) for field, axis in fields))

    def features(self) -> list[Tensor]:
        """Return the four fields as tables of shape (batch, n_features)."""
        return [part.flatten(0, 1).T for part in self]


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
    >>> from sklearn_v2s.views.pooling import spread_levels
    >>> [round(float(level), 3) for level in spread_levels(3, 0.0)]
    [0.618, 0.236, 0.854]
    """
    steps = torch.arange(1, count + 1, dtype=torch.float64)
    return (start + steps * _GOLDEN_RATIO) % 1.0


def pool_responses(responses: Tensor, thresholds: Tensor) -> PooledResponses:
    """Pool the responses of kernels at one dilation.

    Parameters
    ----------
    responses : Tensor of shape (k, n_timepoints, batch)
        Of each kernel at each time point. With the series as columns, vectors of a
        CPU are full whatever the length of the series.
    thresholds : Tensor of shape (N_THRESHOLDS, k)
        Of each kernel.

    Returns
    -------
    PooledResponses
        Of each series.

    References
    ----------
    Dempster, Schmidt, Webb. MiniRocket. KDD 2021 (proportion of positive values).
    Dempster, Schmidt, Webb. Hydra: competing convolutional kernels for fast and
    accurate time series classification. 2023 (competition within groups).

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.views.pooling import pool_responses
    >>> pooled = pool_responses(torch.zeros(84, 10, 2), torch.ones(4, 84))
    >>> [tuple(part.shape) for part in pooled.features()]
    [(2, 336), (2, 336), (2, 168), (2, 168)]
    """
    n_kernels, n_timepoints, batch = responses.shape
    # Zeros and ones as floats in one buffer: several times faster on a CPU than
    # tensors of booleans, and their sums are exact.
    above = torch.empty_like(responses)
    ppv = responses.new_empty(N_THRESHOLDS, n_kernels, batch)
    # The first threshold last: its PPV in segments is read from the buffer.
    for number in reversed(range(N_THRESHOLDS)):
        torch.gt(responses, thresholds[number][:, None, None], out=above)
        ppv[number] = _over_time(torch.sum, above)
    ppv /= n_timepoints
    segment_ppv = responses.new_empty(n_kernels, _N_SEGMENTS, batch)
    for segment in range(_N_SEGMENTS):
        # Parts that do not fit evenly share time points.
        first = segment * n_timepoints // _N_SEGMENTS
        last = -(-(segment + 1) * n_timepoints // _N_SEGMENTS)
        segment_ppv[:, segment] = _over_time(torch.sum, above[:, first:last])
        segment_ppv[:, segment] /= last - first
    n_grouped = n_kernels // GROUP_SIZE * GROUP_SIZE
    groups = responses[:n_grouped].unflatten(0, (-1, GROUP_SIZE))
    is_best = above[:n_grouped].unflatten(0, (-1, GROUP_SIZE))
    hydra_counts = responses.new_empty(2, len(groups), GROUP_SIZE, batch)
    for number, best in enumerate((groups.amax(1), groups.amin(1))):
        torch.eq(groups, best.unsqueeze(1), out=is_best)
        hydra_counts[number] = _over_time(torch.sum, is_best)
    hydra_counts = (hydra_counts / n_timepoints).sqrt().flatten(1, 2)
    extremes = torch.stack(
        [_over_time(torch.amax, responses), _over_time(torch.amin, responses)]
    )
    return PooledResponses(ppv, segment_ppv, hydra_counts, extremes)


def _over_time(reduce: Callable[[Tensor, int], Tensor], values: Tensor) -> Tensor:
    """Reduce values of shape (..., n_timepoints, batch) over time.

    `reduce` may be applied to parts first, which fills the vector registers of a CPU
    where the batch is small.
    """
    n_timepoints, batch = values.shape[-2:]
    fold = max(1, FULL_VECTORS // batch)
    whole = n_timepoints // fold * fold
    if fold == 1 or whole == 0:
        return reduce(values, -2)
    wide = values[..., :whole, :].unflatten(-2, (-1, fold)).flatten(-2)
    parts = reduce(wide, -2).unflatten(-1, (fold, batch))
    return reduce(torch.cat([parts, values[..., whole:, :]], dim=-2), -2)


def quantiles(responses: Tensor, levels: Tensor) -> Tensor:
    """Return quantiles over time, each at a level of its own.

    Parameters
    ----------
    responses : Tensor of shape (rows, k, n_timepoints)
        Any values.
    levels : Tensor of shape (rows, k)
        From 0 to 1.

    Returns
    -------
    Tensor of shape (rows, k)
        As `numpy.quantile` computes them.
    """
    ordered = responses.sort(dim=2).values
    position = levels.unsqueeze(2) * (ordered.shape[2] - 1)
    below = position.floor().long()
    above = position.ceil().long()
    fraction = position - below
    low, high = ordered.gather(2, below), ordered.gather(2, above)
    return (low + fraction * (high - low)).squeeze(2)
