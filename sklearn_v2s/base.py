# SPDX-License-Identifier: Apache-2.0
"""What the classifier and the transformer share: series, source, perturbation."""

from abc import ABCMeta, abstractmethod
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s._compat import HasMethods, Interval, StrOptions
from sklearn_v2s.devices import resolve_device
from sklearn_v2s.output_cache import recall
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.reprogramming import (
    Perturbation,
    ReprogrammedSource,
    collect_outputs,
)
from sklearn_v2s.series_estimator import SeriesEstimator
from sklearn_v2s.sources.contract import SourceOutputs, independent_copy
from sklearn_v2s.sources.registry import load_source
from sklearn_v2s.target_module import mapping_input
from sklearn_v2s.views import VIEWS, View, build_views, content_order

__all__ = ["BaseV2S"]


class BaseV2S(SeriesEstimator, metaclass=ABCMeta):
    """Base of the estimators: series in, source outputs out.

    Subclasses hold the `ReprogrammedSource` and return it from `_reprogrammed`.
    """

    _parameter_constraints: dict[str, Any] = {
        **SeriesEstimator._parameter_constraints,
        "source": "no_validation",
        "source_output": [StrOptions({"logits", "embedding", "both"})],
        "views": [StrOptions({"auto", *VIEWS}), tuple, list],
        "wave_source": "no_validation",
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "n_segments": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "input_gain": [Interval(Real, 0, None, closed="neither")],
        "init_scale": [Interval(Real, 0, None, closed="left")],
        "memory": [str, HasMethods(["cache"]), None],
    }

    _fixed_views: dict[str, View]
    views_: tuple[str, ...]

    @abstractmethod
    def _reprogrammed(self) -> ReprogrammedSource:
        """Return the fitted module, on the CPU."""

    def _resolve_views(self, reads_logits: bool = False) -> tuple[str, ...]:
        """Return the names of the views that the parameter ``views`` means."""
        names: tuple[str, ...]
        if isinstance(self.views, str):
            if self.views != "auto":
                names = (self.views,)
            elif reads_logits or self.source_output != "embedding":
                names = ("replicas",)
            else:
                names = VIEWS
        else:
            names = tuple(self.views)
        if (
            not names
            or any(name not in VIEWS for name in names)
            or len(set(names)) < len(names)
        ):
            raise ValueError(
                f"views={self.views!r} is not allowed: give 'auto', one of "
                f"{list(VIEWS)}, or a list of different ones."
            )
        if reads_logits and names != ("replicas",):
            raise ValueError(
                f"views={self.views!r} cannot be read by a label mapping of words; "
                "only 'replicas' can. Set views='replicas' or 'auto', or "
                "label_mapping='linear'."
            )
        # In one order, whatever the user's, so that it changes nothing.
        return tuple(name for name in VIEWS if name in names)

    def _check_reprogrammed(self) -> None:
        """Raise if nothing is reprogrammed: no perturbation, no words to compare."""
        check_is_fitted(self)
        if "replicas" not in self.views_:
            raise ValueError(
                f"the estimator hears the views {list(self.views_)}; only 'replicas' "
                "is reprogrammed. Fit it with views='auto' or 'replicas'."
            )

    def _load_wave_source(self) -> Any:
        """Return the source of the views that hear waveforms, if there are any."""
        if {"wave", "slope"}.isdisjoint(self.views_):
            return None
        return load_source(self.wave_source, self._dtype)

    def _new_fixed_views(
        self, source: Any, wave_source: Any, seed: int
    ) -> dict[str, View]:
        """Return the views of `views_` that need no training, not fitted."""
        return build_views(
            self.views_,
            source,
            wave_source,
            source_output=self.source_output,
            n_channels=self.n_channels_in_,
            n_timepoints=self.n_timepoints_in_,
            dtype=self._dtype,
            seed=seed,
        )

    def _fit_fixed_views(
        self, source: Any, series: np.ndarray, normalised: np.ndarray, seed: int
    ) -> None:
        """Set up the views that need no training, from series as given and as heard."""
        wave_source = self._load_wave_source()
        self._fixed_views = self._new_fixed_views(source, wave_source, seed)
        if self._fixed_views:
            order = content_order(series, seed)
            for view in self._fixed_views.values():
                view.fit(normalised, order)

    def _fixed_features(self, series: np.ndarray) -> np.ndarray:
        """Return the features of the views that need no training, side by side."""
        dtype = np.float64 if self.precision == "float64" else np.float32
        device = resolve_device(self.device)
        sizes = [sum(view.block_sizes) for view in self._fixed_views.values()]
        # Filled view by view: two copies of many series are a lot of memory.
        features = np.empty((len(series), sum(sizes)), dtype)
        end = 0
        for name, view in self._fixed_views.items():
            with np.errstate(over="ignore", invalid="ignore"):
                found = recall(
                    self.memory,
                    view.identity(),
                    series,
                    device,
                    partial(view.features, series, device),
                ).astype(dtype, copy=False)
            if not np.isfinite(found).all():
                raise ValueError(
                    f"the view {name!r} gave NaN or infinity for series with values up "
                    f"to {np.abs(series).max():.3g} after normalization="
                    f"{self.normalization!r}, in precision={self.precision!r}. Use "
                    "normalization='global' or 'series' for large values."
                )
            start, end = end, end + found.shape[1]
            features[:, start:end] = found
        return features

    def _block_sizes(self, n_replica_features: int) -> list[int]:
        """Return how many features each block has, that of the replicas first."""
        sizes = [n_replica_features] if "replicas" in self.views_ else []
        for view in self._fixed_views.values():
            sizes += view.block_sizes
        return sizes

    def _features(
        self,
        module: ReprogrammedSource,
        series: np.ndarray,
        fixed: np.ndarray,
        reads_logits: bool = False,
    ) -> np.ndarray:
        """Return what a label mapping reads of normalised series.

        `module` is on the device to compute on; `fixed` as `_fixed_features` returns.
        """
        if "replicas" not in self.views_:
            return fixed
        outputs = self._collect(module, series)
        heard = mapping_input(outputs, self.source_output, reads_logits)
        if not fixed.shape[1]:
            return heard
        # In the precision that all was computed in: in float64, which `heard` comes in,
        # many series would take twice the memory and say no more.
        features = np.empty((len(fixed), heard.shape[1] + fixed.shape[1]), fixed.dtype)
        features[:, : heard.shape[1]] = heard
        features[:, heard.shape[1] :] = fixed
        return features

    def _build(
        self,
        source: Any,
        seeds: list[int],
        *,
        mask: bool = False,
        dropout: float = 0.0,
        train_gain: bool = False,
        fine_tune: bool = False,
    ) -> ReprogrammedSource:
        """Return source, placement and a new perturbation for series as in fit."""
        placement = ReplicaPlacement(
            source.input_length,
            n_channels=self.n_channels_in_,
            n_timepoints=self.n_timepoints_in_,
            n_segments=self.n_segments,
        )
        perturbation = Perturbation(
            source.input_length,
            [torch.Generator().manual_seed(seed) for seed in seeds],
            init_scale=self.init_scale,
            mask=placement.mask() if mask else None,
            dropout=dropout,
            input_gain=self.input_gain,
            train_gain=train_gain,
        )
        if fine_tune:
            source = independent_copy(source)
        return ReprogrammedSource(
            source, placement, perturbation, owns_source=fine_tune
        ).to(self._dtype)

    def _on_device(self) -> ReprogrammedSource:
        """Return the fitted module on the device of the parameter ``device``."""
        return self._reprogrammed().on(resolve_device(self.device))

    def _collect(self, module: ReprogrammedSource, series: np.ndarray) -> SourceOutputs:
        """Return the source outputs of normalised series, all of them finite."""
        outputs = recall(
            self.memory,
            module.identity(),
            series,
            module.perturbation.delta.device,
            partial(collect_outputs, module, series),
        )
        if not all(np.isfinite(part).all() for part in outputs):
            delta = module.perturbation.delta.detach().abs().max()
            raise ValueError(
                "the source returned NaN or infinity for series with values up to "
                f"{np.abs(series).max():.3g} after normalization="
                f"{self.normalization!r} and a perturbation up to {float(delta):.3g}, "
                f"in precision={self.precision!r}. Use normalization='global' or "
                "'series' for large values, and smaller init_scale, input_gain and lr."
            )
        return outputs

    def _outputs(self, X: Any) -> SourceOutputs:
        series = self._series(X)
        return self._collect(self._on_device(), series)

    def source_outputs(self, X: Any) -> SourceOutputs:
        """Return what the source model says about replicas and perturbation.

        That is the view ``"replicas"``; the features of all views are those of
        `V2STransformer`.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        SourceOutputs
            ``logits`` of shape (n, n_views, K), ``embedding`` of shape (n, n_views, d).
        """
        return self._outputs(X)

    def reprogram(self, X: Any) -> np.ndarray:
        """Return the waveforms that the source hears in the view ``"replicas"``.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        ndarray of shape (n, n_views, input_length)
            Samples at the source's sample rate (16 kHz for the shipped source).
        """
        series = self._series(X)
        module = self._reprogrammed()
        with torch.inference_mode():
            delta = module.perturbation.delta
            was_training = module.training
            waveforms = module.eval().waveforms(torch.from_numpy(series).to(delta))
            module.train(was_training)
        return waveforms.numpy()

    @property
    def _perturbation(self) -> np.ndarray:
        effective = self._reprogrammed().perturbation.effective()
        # A copy: the array must not change when the training goes on.
        return effective.detach().cpu().numpy().copy()
