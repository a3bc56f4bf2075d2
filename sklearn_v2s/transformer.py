# SPDX-License-Identifier: Apache-2.0
"""`V2STransformer`: source outputs as features for any scikit-learn estimator."""

from typing import Any, Literal

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s.base import ReprogrammedEstimator
from sklearn_v2s.model import ReprogrammedModel, resolve_views
from sklearn_v2s.parameter_effects import Setting, warn_of_idle_parameters
from sklearn_v2s.runtime.devices import resolve_device
from sklearn_v2s.runtime.sklearn_compat import fit_context
from sklearn_v2s.series.checks import check_series
from sklearn_v2s.views.source_views import SourceOutput

__all__ = ["V2STransformer"]


class V2STransformer(TransformerMixin, ReprogrammedEstimator):
    """Turn time series into outputs of a frozen speech model.

    Each series is placed in the source's waveform, a random perturbation is added, and
    the source outputs of all views are returned as columns. Nothing is trained: use
    `V2SClassifier` for a learned perturbation, and this for features in a pipeline.

    Parameters
    ----------
    source : str, path-like or nn.Module, default="tc-resnet"
        Source model of the view ``"replicas"``: a shipped or registered name, a
        ``.safetensors`` checkpoint, or a module that meets the source contract.
    source_output : {"logits", "embedding", "both"}, default="both"
        Which outputs to return.
    views : "auto", str or sequence of str, default="auto"
        Ways in which the series is read, see `V2SClassifier`. ``"auto"`` takes all, but
        ``"replicas"`` alone where `source_output` is ``"logits"``.
    tone_source : str, path-like or nn.Module or None, default="attrnn"
        Source model of the view ``"tone"``, whose recurrent states follow a melody
        better; None reads it with `source`.
    wave_source : str, path-like or nn.Module, default="wavebank"
        Source model with a kernel bank, for the views ``"wave"`` and ``"slope"``.
    n_views : int, default=1
        Number of perturbations of the view ``"replicas"``, each a pass through the
        source.
    n_segments : int or "auto", default="auto"
        Replicas of a series; ``"auto"`` takes 8, or as many as fit.
    input_gain : float, default=1.0
        Factor of the normalised series against the perturbation.
    init_scale : float, default=0.1
        The perturbations are uniform in ``[-init_scale, init_scale]``.
    normalization : {"global", "series"} or None, default="global"
        Remove mean and scale of the training data, of each series, or nothing.
    missing : {"error", "interpolate"}, default="error"
        What to do with NaN.
    precision : {"float32", "float64"}, default="float32"
        Arithmetic of the source.
    device : str or torch.device, default="auto"
        Where to compute; ``"auto"`` takes CUDA, XPU, MPS or CPU, the first there is.
    memory : str or object with the interface of joblib.Memory, default=None
        Folder in which source outputs are cached, for searches that compute the same
        ones again and again. Only those of sources that come from a checkpoint; what is
        kept is read back by joblib, so that nobody else should be able to write there.
    random_state : int, RandomState instance or None, default=None
        Of the perturbations.

    Attributes
    ----------
    views_ : tuple of str
        Names of the views.
    perturbation_ : ndarray of shape (n_views, input_length)
        What is added to the placed series.
    n_features_in_ : int
        Values of a series, over all channels.
    n_timepoints_in_, n_channels_in_ : int
        Shape of a series.
    unequal_length_ : bool
        Whether `fit` saw series of unequal length; shorter ones are then allowed.

    See Also
    --------
    V2SClassifier : Learns the perturbation and the label mapping.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2STransformer
    >>> X = np.random.default_rng(0).normal(size=(3, 50))
    >>> V2STransformer(random_state=0).fit_transform(X).shape
    (3, 7128)
    >>> V2STransformer(views="tone", random_state=0).fit_transform(X).shape
    (3, 555)
    """

    _parameter_constraints = ReprogrammedEstimator._parameter_constraints

    def __init__(
        self,
        source: Any = "tc-resnet",
        *,
        source_output: SourceOutput = "both",
        views: Any = "auto",
        tone_source: Any = "attrnn",
        wave_source: Any = "wavebank",
        n_views: int = 1,
        n_segments: int | Literal["auto"] = "auto",
        input_gain: float = 1.0,
        init_scale: float = 0.1,
        normalization: Literal["global", "series"] | None = "global",
        missing: Literal["error", "interpolate"] = "error",
        precision: Literal["float32", "float64"] = "float32",
        device: Any = "auto",
        memory: Any = None,
        random_state: Any = None,
    ) -> None:
        self.source = source
        self.source_output = source_output
        self.views = views
        self.tone_source = tone_source
        self.wave_source = wave_source
        self.n_views = n_views
        self.n_segments = n_segments
        self.input_gain = input_gain
        self.init_scale = init_scale
        self.normalization = normalization
        self.missing = missing
        self.precision = precision
        self.device = device
        self.memory = memory
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> "V2STransformer":
        """Learn level and scale of the series and draw the perturbations.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, or a list of series of unequal length.
        y : ignored
            Present for the API.

        Returns
        -------
        V2STransformer
            The fitted transformer.
        """
        views = resolve_views(self.views, self.source_output)
        parameters = self.get_params(deep=False)
        warn_of_idle_parameters(self, Setting(parameters, views))
        fitted = self._unfitted_copy()
        series, _ = check_series(fitted, X, reset=True, missing=self.missing)
        seeds = self._seeds(self.n_views)
        fitted.model_ = ReprogrammedModel.build(
            self._model_settings(),
            self._fit_normalizer(series),
            series,
            seeds=seeds,
            view_seed=seeds[0],
        )
        return self._assign_fitted(fitted)

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of series, in all views.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        ndarray of shape (n, n_features_out)
            View by view, in the order of ``views_``. Of the perturbations of
            ``"replicas"`` one comes after the other; with ``source_output="both"`` the
            logits of all come before the embeddings of all.
        """
        series = self._normalized_series(X)
        device = resolve_device(self.device)
        features = self.model_.features(series, device, self.memory)
        return features.astype(np.float64, copy=False)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the columns of `transform`.

        Parameters
        ----------
        input_features : ignored
            Present for the API.

        Returns
        -------
        ndarray of str
            Such as ``"view0_embedding17"`` for the replicas and ``"tone17"``.
        """
        check_is_fitted(self)
        source = self.model_.reprogrammed.source
        sizes = {"logits": len(source.classes), "embedding": source.embedding_size}
        both = self.source_output == "both"
        names = []
        for name, view in self.model_.views.items():
            if name != "replicas":
                names += [f"{name}{column}" for column in range(view.n_features)]
                continue
            names += [
                f"view{group}_{output}{column}"
                for output in (sizes if both else [self.source_output])
                for group in range(len(self.perturbation_))
                for column in range(sizes[output])
            ]
        return np.array(names, dtype=object)
