# SPDX-License-Identifier: Apache-2.0
"""Label mappings: from the scores of K source classes to those of C target classes.

A label mapping is a scikit-learn transformer. ``fit(source_scores, y)`` learns how to
read the source model's outputs, ``transform(source_scores)`` returns non-negative
target-class scores of shape ``(n, C)``, and dividing a row by its sum gives
probabilities. Most mappings read logits of source classes and keep a matrix
``weights_`` of shape ``(K, C)``; the linear mapping reads any real features.
"""

from sklearn_v2s.label_mapping.base import BaseLabelMapping, BaseWordMapping
from sklearn_v2s.label_mapping.bayesian import BayesianLabelMapping
from sklearn_v2s.label_mapping.groups import (
    ContiguousLabelMapping,
    FrequencyLabelMapping,
    IterativeLabelMapping,
    RandomLabelMapping,
)
from sklearn_v2s.label_mapping.linear import LinearLabelMapping

__all__ = [
    "BaseLabelMapping",
    "BaseWordMapping",
    "BayesianLabelMapping",
    "ContiguousLabelMapping",
    "FrequencyLabelMapping",
    "IterativeLabelMapping",
    "LinearLabelMapping",
    "RandomLabelMapping",
]
