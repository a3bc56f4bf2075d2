# SPDX-License-Identifier: Apache-2.0
"""Standardised features that are made, part by part, when they are needed.

Ten thousand series have half a gigabyte of features. A standardised copy, and the
copies on the way to it, would take several times as much; a part at a time takes next
to nothing.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sklearn_v2s.label_mapping.base import Floats

__all__ = [
    "StandardRows",
    "chunks",
    "long_blocks",
    "standardise",
]

# Sources compute in float32: a feature that varies by less than some units of its last
# place is constant, and to standardise it would turn rounding noise into a feature.
_ROUNDING = 10 * float(np.finfo(np.float32).eps)
# How far beyond the training rows a feature is followed.
_EXTRAPOLATION = 2.0
# Blocks of fewer features carry information in their length, and weigh less.
_LONG_BLOCK = 32
# Not less than a rounding error: a row at the mean has no direction.
_SHORTEST = 1e-6
# Values to standardise at a time, in float64: 16 MiB.
_CHUNK_VALUES = 2**21


def long_blocks(block_sizes: Sequence[int] | None) -> list[slice]:
    """Return the features of the blocks that every row has the same length in."""
    return [
        block
        for block in _blocks([] if block_sizes is None else block_sizes)
        if block.stop - block.start >= _LONG_BLOCK
    ]


def _blocks(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum(sizes).astype(int).tolist()
    return [slice(start, end) for start, end in pairwise([0, *ends])]


def _standardise(rows: Any, mean: Any, scale: Any) -> Any:
    # The second step in place: there are many values, and rows stay as they are.
    standardised = rows - mean
    standardised /= scale
    return standardised


def _length(mean_square: Any, xp: Any = np) -> Any:
    """Return the length of rows in a block, per root of its number of features."""
    # Clipped first, for the slope of a square root is infinite at zero.
    return xp.sqrt(xp.clip(mean_square, _SHORTEST**2, None))


def standardise(
    rows: Any,
    mean: Any,
    scale: Any,
    bound: Any,
    blocks: Sequence[slice] = (),
    xp: Any = np,
) -> Any:
    """Return rows as the linear mapping reads them once it is fitted.

    Parameters
    ----------
    rows : ndarray or Tensor of shape (n, d)
        Features.
    mean, scale, bound : ndarray or Tensor of shape (d,)
        Attributes of the `StandardRows` of the fit.
    blocks : sequence of slice, default=()
        Blocks in which every row is brought to the same length: `long_blocks`.
    xp : module, default=numpy
        ``numpy``, or ``torch`` for tensors.

    Returns
    -------
    ndarray or Tensor of shape (n, d)
        Standardised, clipped at the bound, and brought to length.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping.standard_rows import standardise
    >>> rows = np.array([[5.0, 9.0, 9.0]])
    >>> standardise(rows, mean=3.0, scale=2.0, bound=2.5, blocks=[slice(1, 3)])
    array([[1., 1., 1.]])
    """
    rows = xp.clip(_standardise(rows, mean, scale), -bound, bound)
    if not blocks:
        return rows
    parts, start = [], 0
    for block in blocks:
        part = rows[:, block]
        length = _length((part**2).mean(axis=1, keepdims=True), xp)
        parts += [rows[:, start : block.start], part / length]
        start = block.stop
    return xp.concatenate([*parts, rows[:, start:]], axis=1)


def chunks(count: int, size: int, chunk_values: int = _CHUNK_VALUES) -> Iterator[slice]:
    """Cut ``range(count)`` so that `size` values for each stay few at a time.

    Parameters
    ----------
    count : int
        Rows or columns.
    size : int
        Values of each.
    chunk_values : int, default=2**21
        How many values are few.

    Yields
    ------
    slice
        One after the other.

    Examples
    --------
    >>> from sklearn_v2s.label_mapping.standard_rows import chunks
    >>> list(chunks(3, 10))
    [slice(0, 3, None)]
    """
    step = max(1, chunk_values // max(1, size))
    for start in range(0, count, step):
        yield slice(start, min(count, start + step))


class StandardRows:
    """Rows of weighted mean 0 and standard deviation 1, in which blocks weigh the same.

    Parameters
    ----------
    rows : ndarray of shape (n, d), float32 or float64
        Features; they are read again for each part and never changed.
    weight : ndarray of shape (n,)
        Positive weights of the rows.
    chunk_values : int, default=2**21
        How many values to standardise at a time.

    Attributes
    ----------
    mean, scale : ndarray of shape (d,)
        Weighted mean and standard deviation; a scale of 1 where a feature is constant.
    bound : ndarray of shape (d,)
        Twice the largest absolute value of each standardised feature.
    offset, share : ndarray of shape (d,)
        What `balance` made the rows subtract and then multiply by.
    variation : float
        Weighted sum of all squared values.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping.standard_rows import StandardRows
    >>> rows = StandardRows(np.array([[1.0, 5.0], [3.0, 5.0]]), np.ones(2))
    >>> rows.part()
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    def __init__(
        self, rows: Floats, weight: Floats, chunk_values: int = _CHUNK_VALUES
    ) -> None:
        n, d = rows.shape
        self.shape = n, d
        self._rows = rows
        self._weight = weight
        self._chunk_values = chunk_values
        self._lengths: list[tuple[slice, Floats]] = []
        self.mean, self.scale, self.bound = np.empty(d), np.empty(d), np.empty(d)
        self._varies = np.empty(d, dtype=bool)
        self.offset, self.share = np.zeros(d), np.ones(d)
        self.variation = 0.0
        total = weight.sum()
        for columns in chunks(d, n, chunk_values):
            part = rows[:, columns].astype(np.float64)
            mean = weight @ part / total
            part -= mean
            scale = np.sqrt(weight @ part**2 / total)
            constant = scale <= _ROUNDING * np.abs(mean)
            scale[constant] = 1
            part /= scale
            part[:, constant] = 0
            self.mean[columns], self.scale[columns] = mean, scale
            self._varies[columns] = ~constant
            self.bound[columns] = _EXTRAPOLATION * np.abs(part).max(axis=0)
            self.variation += float((weight @ part**2).sum())

    def balance(self, sizes: Sequence[int]) -> None:
        """Give every block the same share, and its rows the same length.

        Parameters
        ----------
        sizes : sequence of int
            Neighbouring features that belong together, d in all.
        """
        n, d = self.shape
        total = self._weight.sum()
        variance = np.zeros(len(sizes))
        for number, block in enumerate(_blocks(sizes)):
            size = block.stop - block.start
            pieces = [
                slice(block.start + piece.start, block.start + piece.stop)
                for piece in chunks(size, n, self._chunk_values)
            ]
            if size >= _LONG_BLOCK:
                square = sum((self.part(columns=piece) ** 2).sum(1) for piece in pieces)
                self._lengths.append((block, _length(square / size)))
            for piece in pieces:
                part = self.part(columns=piece)
                self.offset[piece] = self._weight @ part / total
                part -= self.offset[piece]
                variance[number] += (self._weight @ part**2).sum() / total
        varies = variance > 0
        wanted = varies * np.minimum(1.0, np.asarray(sizes) / _LONG_BLOCK)
        # The total is the number of features, as without blocks.
        wanted *= d / max(wanted.sum(), 1 / _LONG_BLOCK)
        share = np.sqrt(wanted / np.where(varies, variance, 1.0))
        self.share = np.repeat(share, np.asarray(sizes))
        self.variation = float(total * (share**2 * variance).sum())

    def part(self, rows: slice = slice(None), columns: slice = slice(None)) -> Floats:
        """Return a part of the rows as they are fitted to.

        Parameters
        ----------
        rows, columns : slice, default=slice(None)
            Which; all of them if not given.

        Returns
        -------
        ndarray
            In float64; the caller may change it.
        """
        part: Floats = _standardise(
            self._rows[rows, columns], self.mean[columns], self.scale[columns]
        )
        part[:, ~self._varies[columns]] = 0
        first, end, _ = columns.indices(self.shape[1])
        for block, length in self._lengths:
            start, stop = max(block.start, first), min(block.stop, end)
            if start < stop:
                part[:, start - first : stop - first] /= length[rows, None]
        part -= self.offset[columns]
        part *= self.share[columns]
        return part

    def subset(self, taken: npt.NDArray[np.intp]) -> "StandardRows":
        """Return some of the rows, as they are fitted to, but with a mean of 0.

        Parameters
        ----------
        taken : ndarray of int
            Which.

        Returns
        -------
        StandardRows
            With a copy of their features.
        """
        some = copy(self)
        some._rows, some._weight = self._rows[taken], self._weight[taken]
        some._lengths = [(block, length[taken]) for block, length in self._lengths]
        some.shape = some._rows.shape
        some.offset = self.offset.copy()
        total = some._weight.sum()
        for columns, values in some.column_parts():
            mean = some._weight @ values / total
            share = self.share[columns]
            some.offset[columns] += np.divide(
                mean, share, out=np.zeros_like(mean), where=share > 0
            )
        return some

    def column_parts(self) -> Iterator[tuple[slice, Floats]]:
        """Yield columns, a few at a time, and their values."""
        n, d = self.shape
        for columns in chunks(d, n, self._chunk_values):
            yield columns, self.part(columns=columns)

    def row_parts(self) -> Iterator[tuple[slice, Floats]]:
        """Yield rows, a few at a time, and their values."""
        for rows in chunks(*self.shape, self._chunk_values):
            yield rows, self.part(rows)
