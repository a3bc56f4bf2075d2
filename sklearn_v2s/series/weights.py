# SPDX-License-Identifier: Apache-2.0
"""Sample weights and class weights."""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

__all__ = ["balance_classes", "check_weights"]


def check_weights(sample_weight: Any, n: int) -> np.ndarray:
    """Return sample weights as an array.

    Parameters
    ----------
    sample_weight : array-like of shape (n,), number or None
        None and a number mean the same weight for all.
    n : int
        Number of samples.

    Returns
    -------
    ndarray of shape (n,)
        Non-negative, not all zero.

    Raises
    ------
    ValueError
        Otherwise.
    """
    if sample_weight is None:
        return np.ones(n)
    # Not numpy.ndim, which some array-likes refuse.
    values = np.asarray(sample_weight)
    weight = check_array(
        np.full(n, values) if values.ndim == 0 else values,
        dtype=np.float64,
        ensure_2d=False,
        input_name="sample_weight",
    )
    if weight.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {weight.shape}, expected ({n},): one weight for "
            "each sample."
        )
    if (weight < 0).any():
        raise ValueError(
            f"sample_weight has the negative value {weight.min()} at position "
            f"{int(weight.argmin())}; weights must be 0 or larger."
        )
    if not weight.any():
        raise ValueError(
            "sample_weight has only zero values; at least one sample must have a "
            "positive weight."
        )
    return weight


def balance_classes(
    class_weight: Any, classes: np.ndarray, codes: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Return the factor of each sample that a ``class_weight`` asks for.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        ``"balanced"`` gives every class present the same total weight.
    classes : ndarray of shape (n_classes,)
        Labels of the classes.
    codes : ndarray of shape (n,)
        Class of each sample, as a position in `classes`.
    weight : ndarray of shape (n,)
        Sample weights.

    Returns
    -------
    ndarray of shape (n,)
        Factors.

    Raises
    ------
    ValueError
        If a dictionary names an unknown class or a weight that is negative or no finite
        number, or leaves no sample with a positive weight.
    """
    if class_weight is None:
        return np.ones(len(codes))
    if isinstance(class_weight, str):
        totals = np.bincount(codes, weights=weight, minlength=len(classes))
        present = totals > 0
        factors = np.ones(len(classes))
        factors[present] = weight.sum() / (present.sum() * totals[present])
        return factors[codes]
    known = {label: position for position, label in enumerate(classes.tolist())}
    unknown = [label for label in class_weight if label not in known]
    if unknown:
        raise ValueError(
            f"class_weight names the classes {unknown}, which are not in y; allowed "
            f"are {classes.tolist()}."
        )
    factors = np.ones(len(classes))
    for label, factor in class_weight.items():
        if not (isinstance(factor, Real) and 0 <= float(factor) < np.inf):
            raise ValueError(
                f"class_weight[{label!r}]={factor!r} must be a finite number of 0 or "
                "more."
            )
        factors[known[label]] = factor
    if not (weight * factors[codes]).any():
        raise ValueError(
            f"class_weight={class_weight!r} leaves no sample of y with a positive "
            "weight."
        )
    return factors[codes]
