# SPDX-License-Identifier: Apache-2.0
"""Figures in the style of scikit-learn's Displays; they need the extra ``plot``."""

from sklearn_v2s.plotting.embeddings import SourceEmbeddingDisplay
from sklearn_v2s.plotting.explanation import V2SExplanationDisplay
from sklearn_v2s.plotting.history import TrainingHistoryDisplay
from sklearn_v2s.plotting.label_mapping import LabelMappingDisplay

__all__ = [
    "LabelMappingDisplay",
    "SourceEmbeddingDisplay",
    "TrainingHistoryDisplay",
    "V2SExplanationDisplay",
]
