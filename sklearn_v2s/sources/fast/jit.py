# SPDX-License-Identifier: Apache-2.0
"""How the layers of this package are compiled."""

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["inline", "jit"]

_OPTIONS: dict[str, Any] = {
    # Several threads may run it at once.
    "nogil": True,
    # Sums may be reordered and fused: only then are they vectorised. NaN and
    # infinity propagate: a training that diverges must show.
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
}


def jit(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call, or read what an earlier process compiled.

    Parameters
    ----------
    function : callable
        In the part of Python that numba compiles. Only numbers may be closed over: what
        an earlier process compiled is found by the values.

    Returns
    -------
    callable
        The same, compiled. Compiled code is cached in a file beside the package or in
        the user's cache; where neither can be written, each process compiles.

    Examples
    --------
    >>> from sklearn_v2s.sources.fast.jit import jit
    >>> def double(x):
    ...     return 2 * x
    >>> jit(double)(1.5)
    3.0
    """
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        # numba found no folder for its files.
        return numba.njit(**_OPTIONS)(function)


def inline(function: Callable[..., Any]) -> Any:
    """Make a function a part of the compiled functions that call it.

    Sizes that are constants there are constants in its code, then.

    Parameters
    ----------
    function : callable
        As for `jit`, at module level.

    Returns
    -------
    callable
        The same.
    """
    return numba.njit(inline="always", **_OPTIONS)(function)
