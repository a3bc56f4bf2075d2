# SPDX-License-Identifier: Apache-2.0
"""How estimators make and fit the label mapping that their parameters name."""

import numpy as np
from sklearn.base import clone

from sklearn_v2s.label_mapping.base import BaseLabelMapping, Codes, Floats
from sklearn_v2s.label_mapping.bayesian import BayesianLabelMapping
from sklearn_v2s.label_mapping.contiguous import ContiguousLabelMapping
from sklearn_v2s.label_mapping.contract import LabelMapping
from sklearn_v2s.label_mapping.frequency import (
    FrequencyLabelMapping,
    IterativeLabelMapping,
)
from sklearn_v2s.label_mapping.linear import LinearLabelMapping
from sklearn_v2s.label_mapping.random_mapping import RandomLabelMapping

__all__ = ["LABEL_MAPPINGS", "fit_mapping", "new_mapping"]

LABEL_MAPPINGS: dict[str, type[BaseLabelMapping]] = {
    "random": RandomLabelMapping,
    "contiguous": ContiguousLabelMapping,
    "frequency": FrequencyLabelMapping,
    "iterative": IterativeLabelMapping,
    "bayesian": BayesianLabelMapping,
    "linear": LinearLabelMapping,
}


def new_mapping(
    label_mapping: str | LabelMapping, mapping_size: int | None, seed: int
) -> LabelMapping:
    """Return the label mapping that an estimator's parameters mean, not fitted.

    Parameters
    ----------
    label_mapping : str or LabelMapping
        A name of `LABEL_MAPPINGS`, or an instance, which is cloned.
    mapping_size : int or None
        Source classes for each target class; without effect on instances and on
        mappings that have no such parameter.
    seed : int
        Of a mapping that draws and has no ``random_state`` of its own.

    Returns
    -------
    LabelMapping
        A new one.

    Examples
    --------
    >>> from sklearn_v2s.label_mapping.fitting import new_mapping
    >>> new_mapping("frequency", mapping_size=3, seed=0)
    FrequencyLabelMapping(mapping_size=3)
    """
    if not isinstance(label_mapping, str):
        mapping = clone(label_mapping)
    else:
        mapping = LABEL_MAPPINGS[label_mapping]()
        if "mapping_size" in mapping.get_params():
            mapping.set_params(mapping_size=mapping_size)
    if mapping.get_params().get("random_state", 0) is None:
        mapping.set_params(random_state=seed % (2**32))
    return mapping


def fit_mapping(
    mapping: LabelMapping,
    features: Floats,
    codes: Codes,
    weight: Floats,
    n_classes: int,
) -> None:
    """Fit a label mapping to target classes 0 to ``n_classes - 1``, all of them.

    Parameters
    ----------
    mapping : LabelMapping
        Perhaps the user's own.
    features : ndarray of shape (n, n_features)
        What it reads.
    codes : ndarray of shape (n,)
        Target class of each row; some may have none.
    weight : ndarray of shape (n,)
        Not negative.
    n_classes : int
        Number of target classes.

    Raises
    ------
    ValueError
        If the mapping does not return one score for each class.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping.fitting import fit_mapping, new_mapping
    >>> mapping = new_mapping("contiguous", mapping_size=1, seed=0)
    >>> fit_mapping(mapping, np.eye(3), np.array([0, 2, 0]), np.ones(3), n_classes=3)
    >>> mapping.transform(np.zeros((1, 3))).round(2)
    array([[0.33, 0.33, 0.33]])
    """
    # `classes` is a parameter of the mappings here; others may lack it.
    absent = len(np.unique(codes[weight > 0])) < n_classes
    classes = {"classes": np.arange(n_classes)} if absent else {}
    mapping.fit(features, codes, sample_weight=weight, **classes)
    shape = np.shape(mapping.transform(features[:1]))
    if shape != (1, n_classes):
        raise ValueError(
            f"label_mapping={mapping!r} returned scores of shape {shape} for one "
            f"series and {n_classes} classes; its transform must return one score for "
            "each class."
        )
