# SPDX-License-Identifier: Apache-2.0
"""Views by their names."""

from typing import Any

from sklearn_v2s.perturbation import ReprogrammedSource
from sklearn_v2s.views.base import View
from sklearn_v2s.views.level import LevelView
from sklearn_v2s.views.source_views import SourceOutput, SourceView, tone_view
from sklearn_v2s.views.wave import WaveView

__all__ = ["VIEWS", "build_view"]

#: Names of the views, in the order of their features.
VIEWS = ("replicas", "tone", "wave", "slope", "level")


def build_view(
    name: str,
    reprogrammed: ReprogrammedSource,
    tone_source: Any,
    wave_source: Any,
    *,
    source_output: SourceOutput,
    mean_logits: bool,
    n_folds: int,
    n_channels: int,
    n_timepoints: int,
    seed: int,
) -> View:
    """Return a view by its name, not fitted.

    Parameters
    ----------
    name : str
        One of `VIEWS`.
    reprogrammed : ReprogrammedSource
        What the view ``"replicas"`` reads.
    tone_source : SourceModel or None
        Source of the view ``"tone"``.
    wave_source : SourceModel or None
        Source of the views ``"wave"`` and ``"slope"``.
    source_output : {"logits", "embedding", "both"}
        What ``"replicas"`` and ``"tone"`` read.
    mean_logits : bool
        As in `read_outputs`.
    n_folds : int
        As in `read_outputs`, for ``"replicas"``.
    n_channels, n_timepoints : int
        Shape of a series.
    seed : int
        Of ``"wave"`` and ``"slope"``.

    Returns
    -------
    View
        Not fitted.
    """
    if name == "replicas":
        return SourceView(reprogrammed, source_output, mean_logits, n_folds)
    if name == "tone":
        dtype = reprogrammed.perturbation.delta.dtype
        return tone_view(tone_source, source_output, n_channels, dtype)
    if name == "level":
        return LevelView(n_channels)
    return WaveView(wave_source, name == "slope", n_channels, n_timepoints, seed)
