# SPDX-License-Identifier: Apache-2.0
"""The parts of scikit-learn that are not public, behind one door."""

from typing import Any

import numpy as np
from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)

__all__ = [
    "HasMethods",
    "Interval",
    "NumberInterval",
    "StrOptions",
    "fit_context",
    "validate_params",
]


class NumberInterval(Interval):
    """An interval that True and False do not lie in, which Python counts as 1 and 0."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether a value lies in the interval."""
        return not isinstance(val, bool | np.bool_) and super().is_satisfied_by(val)
