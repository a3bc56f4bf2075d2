# SPDX-License-Identifier: Apache-2.0
"""Explanations of predictions, as arrays; `sklearn_v2s.plotting` draws them."""

from sklearn_v2s.explain.activation import SourceExplanation, explain_source
from sklearn_v2s.explain.attribution import SeriesAttribution, attribute_series
from sklearn_v2s.explain.representations import (
    Representation,
    represent_series,
)
from sklearn_v2s.sources.inspection import explainable_layers

__all__ = [
    "Representation",
    "SeriesAttribution",
    "SourceExplanation",
    "attribute_series",
    "explain_source",
    "explainable_layers",
    "represent_series",
]
