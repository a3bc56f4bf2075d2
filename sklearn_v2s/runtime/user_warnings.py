# SPDX-License-Identifier: Apache-2.0
"""Warnings that point at the line of the user."""

import inspect
import warnings

__all__ = ["warn_user"]

# Packages that may lie between the user and what is warned of: a pipeline, the check of
# parameters around `fit`, the loop over epochs.
_BETWEEN = {"sklearn_v2s", "sklearn", "skorch", "joblib", "torch"}


def warn_user(message: str) -> None:
    """Warn, with the line outside of this package that led here.

    Parameters
    ----------
    message : str
        What the user should know.

    Warns
    -----
    UserWarning
        At the first line, from here outwards, that is neither in this package nor in
        one that calls it for the user, such as scikit-learn.

    Examples
    --------
    >>> from sklearn_v2s.runtime.user_warnings import warn_user
    >>> warn_user("the perturbation stays random")  # doctest: +SKIP
    """
    frame, level = inspect.currentframe(), 1
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
