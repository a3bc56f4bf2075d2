# SPDX-License-Identifier: Apache-2.0
"""The forward pass of a fitted classifier, differentiable to the series."""

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.label_mapping.heads import MatrixHead
from sklearn_v2s.perturbation import ReprogrammedSource
from sklearn_v2s.series import check_series
from sklearn_v2s.sources.contract import SourceOutputs
from sklearn_v2s.views.source_views import SourceView, read_outputs

__all__ = ["DifferentiableViews", "class_number", "one_series", "source_outputs"]


def one_series(series: Any) -> np.ndarray:
    """Return one series of shape (t,) or (n_channels, t)."""
    row = np.asarray(series, dtype=np.float64)
    if row.ndim in (2, 3) and len(row) == 1:
        row = row[0]
    if row.ndim not in (1, 2) or row.size == 0:
        raise ValueError(
            f"series has shape {np.shape(series)}; give one series of shape "
            "(n_timepoints,) or (n_channels, n_timepoints), such as X[0]."
        )
    return row


def class_number(classes: np.ndarray, proba: np.ndarray, target: Any) -> int:
    """Return the number of a class of ``classes_``, or of the likeliest one."""
    if target is None:
        return int(proba.argmax())
    found = np.flatnonzero(classes == target)
    if len(found) != 1:
        raise ValueError(
            f"target={target!r} is not a class of the classifier; allowed are "
            f"{classes.tolist()}. None takes the predicted one."
        )
    return int(found[0])


def source_outputs(module: ReprogrammedSource, series: Tensor) -> SourceOutputs:
    """Return the source outputs of normalised series, differentiable to the series.

    The forward pass of the module may not be: it shares spectra without gradients.
    """
    waveforms = module.waveforms(series)
    outputs = module.source(waveforms.flatten(0, 1))
    return SourceOutputs(*(part.unflatten(0, waveforms.shape[:2]) for part in outputs))


class DifferentiableViews:
    """The views of a fitted classifier that a gradient passes through, and its head.

    Parameters
    ----------
    classifier : V2SClassifier
        Fitted.
    row : ndarray of shape (n_timepoints,) or (n_channels, n_timepoints)
        The series to explain.

    Attributes
    ----------
    series : Tensor of shape (1, n_channels, n_timepoints)
        The normalised series.
    modules : dict of str to ReprogrammedSource
        Reprogrammed sources, by the name of the view.
    """

    def __init__(self, classifier: Any, row: np.ndarray) -> None:
        if not isinstance(classifier, V2SClassifier):
            raise TypeError(
                "explanations through the source need a V2SClassifier, got "
                f"{type(classifier).__name__}. attribute_series with "
                "method='occlusion' works for every classifier."
            )
        check_is_fitted(classifier)
        model = classifier.model_
        self.module = model.target_module()
        if not isinstance(self.module.head, MatrixHead) and not isinstance(
            model.label_mapping, LinearLabelMapping
        ):
            raise ValueError(
                f"label_mapping={classifier.label_mapping!r} is not one of the "
                "package's own: no gradient passes through it. Use method='occlusion'."
            )
        self.classifier = classifier
        self.modules = {
            name: view.module
            for name, view in model.views.items()
            if isinstance(view, SourceView)
        }
        X, _ = check_series(
            classifier, row[None], reset=False, missing=classifier.missing
        )
        normalised = model.normalizer.transform(X)
        self.series = torch.from_numpy(normalised).to(model.settings.dtype)
        # The features that no gradient passes through.
        cpu = torch.device("cpu")
        self.held = {
            name: torch.from_numpy(view.features(normalised, cpu))
            for name, view in model.views.items()
            if name not in self.modules
        }

    def log_odds(self, outputs: dict[str, SourceOutputs], code: int) -> Tensor:
        """Return the log-odds of a class; their slope does not vanish near certainty.

        Parameters
        ----------
        outputs : dict of str to SourceOutputs
            Source outputs in each view of `modules`.
        code : int
            Number of the class.
        """
        names = self.classifier.views_
        settings = self.classifier.model_.settings
        # The replicas, which the module reads, come first.
        fixed = [
            self.held[name].to(self.series)
            if name in self.held
            else read_outputs(outputs[name], settings.source_output)
            for name in names
            if name != "replicas"
        ]
        folds = [torch.cat(fixed, dim=1)] if fixed else []
        if "replicas" in names:
            folds = self.module.read(outputs["replicas"], *folds)
        log_proba = torch.log_softmax(self.module.log_scores(folds), dim=1)
        others = torch.arange(log_proba.shape[1]) != code
        return log_proba[0, code] - torch.logsumexp(log_proba[0, others], dim=0)
