# SPDX-License-Identifier: Apache-2.0
"""Cached outputs: in a folder, or in memory for the fits of one search."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Self

import joblib
import numpy as np
import torch
from sklearn.utils.validation import check_memory

from sklearn_v2s import __version__

__all__ = ["OutputMemo", "cached"]

# Bytes that a memo may hold before it drops what was used longest ago.
_MEMO_BUDGET = 2**30

Arrays = Sequence[np.ndarray]


def cached(
    memory: Any,
    identity: dict[str, Any] | None,
    series: np.ndarray,
    device: torch.device,
    compute: Callable[[np.ndarray], Arrays],
) -> Arrays:
    """Return ``compute(series)``, from a cache if it is there.

    Parameters
    ----------
    memory : str, object with the interface of joblib.Memory, OutputMemo or None
        The cache; None caches nothing.
    identity : dict or None
        All that the result depends on besides the series. None, where this is not
        known, caches nothing.
    series : ndarray of shape (n, n_channels, n_timepoints)
        Normalised series.
    device : torch.device
        Where it is computed. Another type of device may round differently.
    compute : callable
        Maps series to arrays with one row for each series, which depends on no other
        series.

    Returns
    -------
    sequence of ndarray
        What `compute` returns.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, torch
    >>> from sklearn_v2s.runtime.output_cache import cached
    >>> def compute(series):
    ...     print("computed")
    ...     return [np.ones(len(series))]
    >>> series, cpu = np.zeros((1, 1, 5)), torch.device("cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for _ in range(2):
    ...         outputs = cached(folder, {"view": "tone"}, series, cpu, compute)
    computed
    """
    if memory is None or identity is None:
        return compute(series)
    key = {
        **identity,
        "device": device.type,
        "package": __version__,
        "torch": str(torch.__version__),
    }
    if isinstance(memory, OutputMemo):
        return memory.outputs(joblib.hash(key), series, compute)
    compute_cached = check_memory(memory).cache(_compute, ignore=["compute"])
    return compute_cached({**key, "series": series}, compute)


def _compute(key: dict[str, Any], compute: Callable[[np.ndarray], Arrays]) -> Arrays:
    return compute(key["series"])


class OutputMemo:
    """Outputs in memory that the fits of one search share.

    A clone of an estimator gets the memo itself, for that is what it is there for; a
    worker process gets an empty one.

    Parameters
    ----------
    by_row : bool
        Look up single series, in whatever fold they come, and compute only those that
        are new. That changes the batches and so the rounding; where a training would
        amplify it, only the same series in the same order count as known.
    """

    def __init__(self, by_row: bool) -> None:
        self.by_row = by_row
        self._arrays: OrderedDict[Any, Arrays] = OrderedDict()
        self._rows: dict[str, _Rows] = {}
        self._n_bytes = 0

    def __sklearn_clone__(self) -> Self:
        return self

    def __reduce__(self) -> Any:
        return type(self), (self.by_row,)

    def outputs(
        self, key: str, series: np.ndarray, compute: Callable[[np.ndarray], Arrays]
    ) -> Arrays:
        """Return ``compute(series)``; see `cached`.

        Parameters
        ----------
        key : str
            What the result depends on besides the series.
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised series.
        compute : callable
            As in `cached`.

        Returns
        -------
        sequence of ndarray
            Nobody may write to them.
        """
        if self.by_row:
            return self._rows.setdefault(key, _Rows()).outputs(series, compute)
        whole = key, joblib.hash(series)
        if whole in self._arrays:
            self._arrays.move_to_end(whole)
            return self._arrays[whole]
        arrays = self._arrays[whole] = compute(series)
        self._n_bytes += sum(array.nbytes for array in arrays)
        while self._n_bytes > _MEMO_BUDGET and len(self._arrays) > 1:
            _, dropped = self._arrays.popitem(last=False)
            self._n_bytes -= sum(array.nbytes for array in dropped)
        return arrays


class _Rows:
    """Outputs of single series, found by the content of the series."""

    def __init__(self) -> None:
        self._position: dict[bytes, int] = {}
        self._arrays: list[np.ndarray] = []

    def outputs(
        self, series: np.ndarray, compute: Callable[[np.ndarray], Arrays]
    ) -> Arrays:
        """Return the outputs of series; compute those that are not known yet."""
        keys = [row.tobytes() for row in np.ascontiguousarray(series)]
        new = {key: row for row, key in enumerate(keys) if key not in self._position}
        if new:
            computed = compute(series[list(new.values())])
            for key in new:
                self._position[key] = len(self._position)
            self._arrays = [
                np.concatenate(parts)
                for parts in (
                    zip(self._arrays, computed, strict=True)
                    if self._arrays
                    else zip(computed, strict=True)
                )
            ]
        rows = [self._position[key] for key in keys]
        return [array[rows] for array in self._arrays]
