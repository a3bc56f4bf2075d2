# SPDX-License-Identifier: Apache-2.0
"""The parts of scikit-learn that are not public, behind one door."""

from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)

__all__ = ["HasMethods", "Interval", "StrOptions", "fit_context", "validate_params"]
