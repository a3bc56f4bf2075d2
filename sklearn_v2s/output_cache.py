# SPDX-License-Identifier: Apache-2.0
"""Source outputs that were computed before, kept in a folder."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.utils.validation import check_memory

from sklearn_v2s import __version__

__all__ = ["recall"]

_Result = TypeVar("_Result")


def recall(
    memory: Any,
    identity: dict[str, Any] | None,
    series: np.ndarray,
    device: torch.device,
    compute: Callable[[], _Result],
) -> _Result:
    """Return what was computed from the same series before, or compute it.

    Parameters
    ----------
    memory : str, object with the interface of joblib.Memory, or None
        Where results are kept; None keeps nothing.
    identity : dict or None
        All that decides the result beside the series. None means that it is not known:
        nothing is kept then.
    series : ndarray of shape (n, n_channels, n_timepoints)
        What is heard.
    device : torch.device
        Where. Another kind of device may round otherwise.
    compute : callable
        Returns arrays.

    Returns
    -------
    object
        What `compute` returns or returned.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, torch
    >>> from sklearn_v2s.output_cache import recall
    >>> def hear():
    ...     print("heard")
    ...     return np.ones(1)
    >>> series, cpu = np.zeros((1, 1, 5)), torch.device("cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for _ in range(2):
    ...         found = recall(folder, {"view": "tone"}, series, cpu, hear)
    heard
    """
    if memory is None or identity is None:
        return compute()
    key = {
        **identity,
        "series": series,
        "device": device.type,
        "package": __version__,
        "torch": str(torch.__version__),
    }
    return check_memory(memory).cache(_computed, ignore=["compute"])(key, compute)


def _computed(key: dict[str, Any], compute: Callable[[], _Result]) -> _Result:
    return compute()
