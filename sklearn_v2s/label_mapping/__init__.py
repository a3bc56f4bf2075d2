# SPDX-License-Identifier: Apache-2.0
"""Label mappings: from the scores of K source classes to those of C target classes.

A label mapping is a scikit-learn transformer. ``fit(source_scores, y)`` learns how to
read the source model's outputs, ``transform(source_scores)`` returns non-negative
target-class scores of shape ``(n, C)``, and dividing a row by its sum gives
probabilities. Most mappings read logits of source classes and keep a matrix
``weights_`` of shape ``(K, C)``; the linear mapping reads any real features.
"""

from typing import Any

from sklearn_v2s.label_mapping.base import BaseLabelMapping
from sklearn_v2s.label_mapping.bayesian import BayesianLabelMapping
from sklearn_v2s.label_mapping.contiguous import ContiguousLabelMapping
from sklearn_v2s.label_mapping.contract import LabelMapping
from sklearn_v2s.label_mapping.frequency import (
    FrequencyLabelMapping,
    IterativeLabelMapping,
)
from sklearn_v2s.label_mapping.linear import LinearLabelMapping
from sklearn_v2s.label_mapping.random_mapping import RandomLabelMapping
from sklearn_v2s.label_mapping.source_class_mapping import BaseSourceClassMapping
from sklearn_v2s.runtime.moved_modules import moved_name

__all__ = [
    "BaseLabelMapping",
    "BaseSourceClassMapping",
    "BayesianLabelMapping",
    "ContiguousLabelMapping",
    "FrequencyLabelMapping",
    "IterativeLabelMapping",
    "LabelMapping",
    "LinearLabelMapping",
    "RandomLabelMapping",
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
