# SPDX-License-Identifier: Apache-2.0
"""What `V2SClassifier` and `V2STransformer` share: the parameters of a model."""

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s.model import ModelSettings, ReprogrammedModel, resolve_views
from sklearn_v2s.runtime.devices import resolve_device
from sklearn_v2s.runtime.output_cache import OutputMemo
from sklearn_v2s.runtime.sklearn_compat import HasMethods, Interval, StrOptions
from sklearn_v2s.series.estimator import SeriesEstimator
from sklearn_v2s.series.normalization import SeriesNormalizer
from sklearn_v2s.sources.contract import SourceOutputs, SourceReference
from sklearn_v2s.sources.registry import pack_source, unpack_source
from sklearn_v2s.views.build import VIEWS

__all__ = ["ReprogrammedEstimator", "check_replicas"]

_SOURCE_PARAMETERS = ("source", "tone_source", "wave_source")


class ReprogrammedEstimator(SeriesEstimator):
    """Base of the estimators whose fitted state is a `ReprogrammedModel`.

    Attributes
    ----------
    model_ : ReprogrammedModel
        All that `fit` learned.
    """

    _parameter_constraints: dict[str, Any] = {
        **SeriesEstimator._parameter_constraints,
        "source": "no_validation",
        "source_output": [StrOptions({"logits", "embedding", "both"})],
        "views": [StrOptions({"auto", *VIEWS}), tuple, list],
        "tone_source": "no_validation",
        "wave_source": "no_validation",
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "n_segments": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "input_gain": [Interval(Real, 0, None, closed="neither")],
        "init_scale": [Interval(Real, 0, None, closed="left")],
        "memory": [str, HasMethods(["cache"]), OutputMemo, None],
    }

    model_: ReprogrammedModel

    def __getstate__(self) -> dict[str, Any]:
        # A shared source is pickled as its name and SHA-256, here as in the model.
        state = super().__getstate__()
        packed = {name: pack_source(state[name]) for name in _SOURCE_PARAMETERS}
        return {**state, **packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for name in _SOURCE_PARAMETERS:
            if isinstance(state[name], SourceReference):
                setattr(self, name, unpack_source(state[name], self._dtype))

    def _model_settings(self, reads_logits: bool = False) -> ModelSettings:
        """Return the parameters that a model is built from."""
        parameters = self.get_params(deep=False)
        settings = {
            name: parameters[name]
            for name in ModelSettings.__dataclass_fields__
            if name in parameters
        }
        views = resolve_views(self.views, self.source_output, reads_logits)
        return ModelSettings(
            **{**settings, "views": views, "mean_logits": reads_logits}
        )

    def source_outputs(self, X: Any) -> SourceOutputs:
        """Return the outputs of the source model for series with the perturbation.

        That is the view ``"replicas"``; the features of all views are those of
        `V2STransformer`.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        SourceOutputs
            ``logits`` of shape (n, n_perturbations, K), ``embedding`` of shape (n,
            n_perturbations, d).
        """
        series = self._normalized_series(X)
        device = resolve_device(self.device)
        return self.model_.source_outputs(series, device, self.memory)

    def reprogram(self, X: Any) -> np.ndarray:
        """Return the waveforms that the source reads in the view ``"replicas"``.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        ndarray of shape (n, n_perturbations, input_length)
            Samples at the source's sample rate (16 kHz for the shipped source).
        """
        series = self._normalized_series(X)
        module = self.model_.reprogrammed
        like = module.perturbation.delta
        with torch.inference_mode():
            return module.waveforms(torch.from_numpy(series).to(like)).numpy()

    @property
    def _normalizer(self) -> SeriesNormalizer:  # type: ignore[override]
        return self.model_.normalizer

    @property
    def views_(self) -> tuple[str, ...]:
        """Names of the views."""
        return self.model_.settings.views

    @property
    def perturbation_(self) -> np.ndarray:
        """What is added to the placed series, of shape (n_perturbations, input_length).

        A cross-fit has one for each view and part of the data.
        """
        effective = self.model_.reprogrammed.perturbation.effective()
        return effective.detach().numpy().copy()


def check_replicas(estimator: ReprogrammedEstimator) -> None:
    """Check that a fitted estimator reads the view that has the perturbation.

    Parameters
    ----------
    estimator : V2SClassifier or V2STransformer
        Any.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If it has other views only.
    """
    check_is_fitted(estimator)
    if "replicas" not in estimator.views_:
        raise ValueError(
            f"the estimator has the views {list(estimator.views_)}; only 'replicas' "
            "is reprogrammed. Fit it with views='auto' or 'replicas'."
        )
