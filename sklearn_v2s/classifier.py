# SPDX-License-Identifier: Apache-2.0
"""`V2SClassifier`: Voice2Series as a scikit-learn classifier."""

import os
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s.base import ReprogrammedEstimator
from sklearn_v2s.label_mapping.contract import LabelMapping
from sklearn_v2s.label_mapping.fitting import LABEL_MAPPINGS, new_mapping
from sklearn_v2s.model import (
    MAPPING_CLASSES,
    ModelState,
    ReprogrammedModel,
    plain_values,
    resolve_views,
)
from sklearn_v2s.parameter_effects import (
    TRAINING_PARAMETERS,
    VALIDATION_PARAMETERS,
    Setting,
    warn_of_idle_parameters,
)
from sklearn_v2s.runtime.batching import showing_progress
from sklearn_v2s.runtime.devices import resolve_device, warn_of_sharing
from sklearn_v2s.runtime.sklearn_compat import (
    HasMethods,
    Interval,
    StrOptions,
    fit_context,
)
from sklearn_v2s.runtime.tensor_file import (
    TensorFileError,
    read_tensor_file,
    write_tensor_file,
)
from sklearn_v2s.series.estimator import SeriesClassifier, TrainingData
from sklearn_v2s.sources.checkpoint import CheckpointError
from sklearn_v2s.training.budget import training_budget
from sklearn_v2s.training.net import (
    TrainingSettings,
    V2SNet,
    epoch_rows,
    mean_history,
)
from sklearn_v2s.training.train import (
    Rows,
    balanced_folds,
    stratified_validation_rows,
    train,
)
from sklearn_v2s.views.source_views import SourceOutput

__all__ = ["V2SClassifier"]

_FILE_KIND = "V2SClassifier"
_SHAPE_ATTRIBUTES = ("n_features_in_", "n_timepoints_in_", "n_channels_in_")


class V2SClassifier(SeriesClassifier, ReprogrammedEstimator):
    """Classify time series with a frozen speech model (Voice2Series).

    A series is placed in one second of sound, a learned perturbation is added, a frozen
    keyword recogniser runs, and a label mapping reduces its outputs to the user's
    classes. `fit` learns the perturbation by gradient and the label mapping from the
    source outputs that result.

    The defaults are this package's own choice, made by cross-validation on training
    data; `from_paper` gives the setting of the paper. A parameter that has no effect in
    the setting at hand is named in a warning.

    Parameters
    ----------
    source : str, path-like or nn.Module, default="tc-resnet"
        Source model of the view ``"replicas"``: a shipped or registered name, a
        ``.safetensors`` checkpoint, or a module that meets the source contract. It is
        never changed.
    source_output : {"logits", "embedding", "both"}, default="both"
        What a learned label mapping reads. The other mappings read source classes and
        need ``"logits"``, the paper's choice.
    views : "auto", str or sequence of str, default="auto"
        Ways in which the series is read: ``"replicas"`` (the paper's placement, with
        the perturbation), ``"tone"`` (the series as the pitch of a tone), ``"wave"``
        and ``"slope"`` (the series, or its differences, as the waveform itself, read
        by the kernels of `wave_source`) and ``"level"`` (mean and standard deviation).
        ``"auto"`` takes ``"replicas"`` where the label mapping reads the logits alone,
        and else all.
    tone_source : str, path-like or nn.Module or None, default="attrnn"
        Source model of the view ``"tone"``, whose recurrent states follow a melody
        better; None reads it with `source`.
    wave_source : str, path-like or nn.Module, default="wavebank"
        Source model with a kernel bank as its front end, for ``"wave"`` and
        ``"slope"``.
    n_views : int, default=1
        Number of perturbations of the view ``"replicas"``, each a pass through the
        source.
    n_segments : int or "auto", default="auto"
        Number m of replicas of a series in the waveform; ``"auto"`` takes 8, or as many
        as fit.
    mask : bool, default=False
        Keep the perturbation away from the samples where a series sits (M of eq. 1).
    dropout : float, default=0.2
        Share of the perturbation's samples that are zeroed, the same for a whole step;
        off at prediction.
    input_gain : float, default=1.0
        Factor of the normalised series against the perturbation, at the start.
    train_gain : bool, default=False
        Learn that factor too.
    init_scale : float, default=0.1
        The initial perturbation is uniform in ``[-init_scale, init_scale]``.
    label_mapping : str or transformer, default="linear"
        ``"random"`` (many-to-one, the paper), ``"contiguous"``, ``"frequency"``,
        ``"iterative"``, ``"bayesian"``, ``"linear"``, or an instance, which is cloned.
    mapping_size : int, default=None
        How many source classes speak for each target class. Of a mapping that assigns
        source classes, None takes as many as there are, ``floor(K / C)``. Of
        ``"linear"``, it is the number of source outputs (logits and embedding of
        ``"replicas"``) with the largest coefficients for each target class, chosen on
        the training data; None takes all.
    cross_fit : int, default=2
        Parts that the training data are cut into. Each perturbation is trained once
        for each part, on the other parts, and the label mapping is fitted to outputs
        for series that the perturbation has not seen; predictions are the mean of the
        probabilities. 1 trains on all data, and the label mapping then trusts what the
        perturbation has learned by heart. Mappings of source classes are not
        cross-fitted, nor is a fine-tuned source.
    max_epochs : int or "auto", default="auto"
        Passes over the training data that train the perturbation by gradient.
        ``"auto"`` takes as many as make 200 steps, and at least 2
        (`sklearn_v2s.training.budget`). 0 is the quick mode: the perturbation stays
        random.
    batch_size : int or "auto", default="auto"
        Series for each step; ``"auto"`` takes a fiftieth of them, between 16 and 64.
    lr : float, default=0.01
        Learning rate of Adam.
    lr_schedule : {"constant", "cosine"}, default="cosine"
        Course of the learning rates.
    fine_tune : bool, default=False
        Train a copy of the source together with the perturbation (``--mod 2`` of the
        release). The copy is for the view ``"replicas"``; the shared source stays as it
        is, for the others.
    source_lr : float, default=0.001
        Learning rate of the weights of that copy, which are to change less.
    l2 : float, default=0.0
        Factor of the squared perturbation in the loss.
    early_stopping : bool, default=False
        Hold out a stratified part of the training data and return the epoch with the
        least loss there.
    validation_fraction : float, default=0.1
        Share of each class to hold out.
    n_iter_no_change : int, default=10
        Stop after so many epochs without a better validation loss.
    class_weight : dict, "balanced" or None, default=None
        Factors of the sample weights by class.
    warm_start : bool, default=False
        Go on from the perturbation of the previous call of `fit`.
    normalization : {"global", "series"} or None, default="global"
        Remove mean and scale of the training data, of each series, or nothing.
    missing : {"error", "interpolate"}, default="error"
        What to do with NaN.
    precision : {"float32", "float64"}, default="float32"
        Arithmetic of perturbation and source.
    device : str or torch.device, default="auto"
        Where to compute; ``"auto"`` takes CUDA, XPU, MPS or CPU, the first there is.
    memory : str or object with the interface of joblib.Memory, default=None
        Folder in which source outputs are cached, for searches that compute the same
        ones again and again. Only those of sources that come from a checkpoint; what is
        kept is read back by joblib, so that nobody else should be able to write there.
    random_state : int, RandomState instance or None, default=None
        Of initial values, dropout, order, validation part and random mapping.
    verbose : int, default=0
        1 shows progress bars on standard error: over the forward passes, if that
        is a terminal, and over the epochs.
    callbacks : list of skorch callbacks, default=None
        Called during training.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The target classes.
    views_ : tuple of str
        Names of the views.
    perturbation_ : ndarray of shape (n_views * n_parts, input_length)
        What is added to the placed series; n_parts is `cross_fit` where it acts, else
        1. The parts of a view are neighbours.
    input_gain_ : ndarray of shape (n_views,)
        Factor of the normalised series.
    label_mapping_ : transformer
        The fitted label mapping; its classes are the positions in `classes_`.
    model_ : ReprogrammedModel
        All that was learned, as one value.
    net_ : skorch.NeuralNet
        The trained net, on the CPU; only where something was trained.
    history_ : list of dict
        Losses, accuracies and seconds of each epoch.
    n_iter_ : int
        Epochs trained.
    n_features_in_ : int
        Values of a series, over all channels.
    n_timepoints_in_, n_channels_in_ : int
        Shape of a series.
    unequal_length_ : bool
        Whether `fit` saw series of unequal length; shorter ones are then allowed.

    See Also
    --------
    V2STransformer : Source outputs as features.

    Notes
    -----
    Several channels share the second, each with replicas in its own part. Series of
    unequal length are padded with zeros.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021. arXiv:2106.09296.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 50)).cumsum(axis=1)
    >>> y = np.where(X[:, -1] > 0, "up", "down")
    >>> classifier = V2SClassifier(max_epochs=0, random_state=0).fit(X, y)
    >>> classifier.predict_proba(X).shape
    (20, 2)
    """

    _parameter_constraints: dict[str, Any] = {
        **ReprogrammedEstimator._parameter_constraints,
        "mask": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "train_gain": ["boolean"],
        "label_mapping": [
            StrOptions(set(LABEL_MAPPINGS)),
            HasMethods(["fit", "transform"]),
        ],
        "mapping_size": [Interval(Integral, 1, None, closed="left"), None],
        "cross_fit": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [
            Interval(Integral, 0, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({"constant", "cosine"})],
        "fine_tune": ["boolean"],
        "source_lr": [Interval(Real, 0, None, closed="neither")],
        "l2": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "callbacks": [list, None],
    }

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
        mask: bool = False,
        dropout: float = 0.2,
        input_gain: float = 1.0,
        train_gain: bool = False,
        init_scale: float = 0.1,
        label_mapping: str | LabelMapping = "linear",
        mapping_size: int | None = None,
        cross_fit: int = 2,
        max_epochs: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        lr: float = 1e-2,
        lr_schedule: Literal["constant", "cosine"] = "cosine",
        fine_tune: bool = False,
        source_lr: float = 1e-3,
        l2: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Any = None,
        warm_start: bool = False,
        normalization: Literal["global", "series"] | None = "global",
        missing: Literal["error", "interpolate"] = "error",
        precision: Literal["float32", "float64"] = "float32",
        device: Any = "auto",
        memory: Any = None,
        random_state: Any = None,
        verbose: int = 0,
        callbacks: list[Any] | None = None,
    ) -> None:
        self.source = source
        self.source_output = source_output
        self.views = views
        self.tone_source = tone_source
        self.wave_source = wave_source
        self.n_views = n_views
        self.n_segments = n_segments
        self.mask = mask
        self.dropout = dropout
        self.input_gain = input_gain
        self.train_gain = train_gain
        self.init_scale = init_scale
        self.label_mapping = label_mapping
        self.mapping_size = mapping_size
        self.cross_fit = cross_fit
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.fine_tune = fine_tune
        self.source_lr = source_lr
        self.l2 = l2
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.normalization = normalization
        self.missing = missing
        self.precision = precision
        self.device = device
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    @classmethod
    def from_paper(cls, **overrides: Any) -> Self:
        """Return a classifier with the setting of the paper (Algorithm 1).

        ==================== ============ ============================================
        parameter            value        where the paper says so
        ==================== ============ ============================================
        source               "attrnn"     sec. 5.1, V2Sa
        source_output        "logits"     eq. 4 reads probabilities of source classes
        views                "replicas"   sec. 5.2, nothing else is read
        n_views              1            one perturbation
        n_segments           1            tuned over 1 to 10 there; tune it likewise
        mask                 True         M of eq. 1
        dropout              0.0          tuned over 0 to 0.4 there; off at prediction
        input_gain           1.0          no gain; series as UCR has them
        init_scale           0.01936      "randomly"; the released code: Glorot uniform
        label_mapping        "random"     sec. 3.2, many-to-one
        mapping_size         None         maximal, floor(K / C), sec. 5.2
        max_epochs           100          D.4
        batch_size           32           D.4
        lr, lr_schedule      0.05, const. Adam, step 6 of Algorithm 1 and D.4
        fine_tune            False        the source is frozen, sec. 3.1
        l2                   0.04         D.4
        early_stopping       True         "best performed model based on validation
                                          loss", one of ten folds of the training data
        validation_fraction  0.1          the same
        n_iter_no_change     100          never stops before the last epoch
        normalization        None         series as they come
        ==================== ============ ============================================

        Parameters
        ----------
        **overrides
            Parameters to set otherwise. With ``max_epochs=0`` or
            ``early_stopping=False`` those that have no effect then keep their defaults.

        Returns
        -------
        V2SClassifier
            Not fitted.

        References
        ----------
        Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
        classification. ICML 2021, Algorithm 1, sections 3.2, 5.1 to 5.3 and D.4.

        Examples
        --------
        >>> from sklearn_v2s import V2SClassifier
        >>> V2SClassifier.from_paper(n_segments=3).lr
        0.05
        """
        paper: dict[str, Any] = {
            "source": "attrnn",
            "source_output": "logits",
            "views": "replicas",
            "n_views": 1,
            "n_segments": 1,
            "mask": True,
            "dropout": 0.0,
            "input_gain": 1.0,
            "train_gain": False,
            "init_scale": 0.01936,
            "label_mapping": "random",
            "mapping_size": None,
            "max_epochs": 100,
            "batch_size": 32,
            "lr": 0.05,
            "lr_schedule": "constant",
            "fine_tune": False,
            "l2": 0.04,
            "early_stopping": True,
            "validation_fraction": 0.1,
            "n_iter_no_change": 100,
            "normalization": None,
        }
        # What the overrides leave without an effect is left as it is by default.
        idle: tuple[str, ...] = ()
        if overrides.get("max_epochs") == 0:
            idle = TRAINING_PARAMETERS + VALIDATION_PARAMETERS
        elif overrides.get("early_stopping") is False:
            idle = VALIDATION_PARAMETERS
        for name in idle:
            paper.pop(name, None)
        return cls(**(paper | overrides))

    @property
    def input_gain_(self) -> np.ndarray:
        """Factor of the normalised series, of shape (n_views,)."""
        return self.model_.reprogrammed.perturbation.gain.detach().numpy()

    @property
    def label_mapping_(self) -> Any:
        """The fitted label mapping; its classes are the positions in `classes_`."""
        return self.model_.label_mapping

    @property
    def history_(self) -> list[dict[str, float]]:
        """Losses, accuracies and seconds of each epoch."""
        return self.model_.history

    @property
    def n_iter_(self) -> int:
        """Epochs trained."""
        return len(self.model_.history)

    # A label mapping handed in has parameters of its own to validate.
    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn the perturbation and the label mapping.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, or a list of series ``(t,)`` or ``(n_channels, t)`` of unequal
            length.
        y : array-like of shape (n,)
            Labels of any kind.
        sample_weight : array-like of shape (n,), default=None
            Weights; a weight of 2 counts as the series twice, a weight of 0 as its
            absence.

        Returns
        -------
        V2SClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If X, y or a parameter cannot be used; the text names it, the value seen and
            what is allowed.
        """
        if self.fine_tune and self.max_epochs == 0:
            raise ValueError(
                "fine_tune=True trains the source, but max_epochs=0 trains nothing. "
                "Set max_epochs to the number of passes over the data, for example 20."
            )
        warn_of_idle_parameters(self, self._setting())
        before = self.model_ if self.warm_start and hasattr(self, "model_") else None
        fitted = self._unfitted_copy(keep_shape=before is not None)
        data = fitted._check_training_data(X, y, sample_weight, reset=before is None)
        shuffle_seed, split_seed, mapping_seed, *seeds = self._seeds(3 + self.n_views)
        # A mapping of source classes goes on as it is; others begin anew.
        keeps_mapping = before is not None and before.settings.mean_logits
        mapping = None if keeps_mapping else self._new_mapping(mapping_seed)
        device = resolve_device(self.device)
        warn_of_sharing(device)
        with showing_progress(self.verbose > 0):
            if before is None:
                assert mapping is not None
                model = self._new_model(
                    data, mapping, seeds, mapping_seed, cross_fits=True
                )
                model.fold_seed = split_seed
            else:
                model = fitted._continued_model(before, mapping)
            model.classes, model.shuffle_seed = fitted.classes_, shuffle_seed
            series = model.normalizer.transform(data.series)
            features = model.features(series, device, self.memory)
            if not keeps_mapping:
                model.fit_label_mapping(features, data.codes, data.weight)
            if before is None:
                model.limit_temperature()
        fitted.model_ = model
        if self._trains(model.settings.views):
            model.split_off(features)
            offset, fixed = None, None
            if model.offset is None:
                fixed = features[:, model.n_replica_features :]
            else:
                offset = model.offset.scores
            rows = Rows(series, data.codes, data.weight, fixed, offset)
            learned = features[:, : model.n_replica_features]
            if model.settings.n_folds > 1:
                fitted._cross_fit(rows, learned, split_seed)
            else:
                held_out = self._held_out_rows(data.codes, split_seed)
                fitted._train(rows, self.lr_schedule, validation_rows=held_out)
                if not model.settings.mean_logits:
                    learned[:] = model.view_features(
                        "replicas", series, device, self.memory
                    )
            reads_all_views = model.offset is None and model.settings.n_folds == 1
            model.offset = None
            if not model.settings.mean_logits:
                # In closed form to all data, now that the perturbation is learned.
                model.fit_label_mapping(
                    features, data.codes, data.weight, model.settings.n_folds > 1
                )
                if reads_all_views:
                    fitted.net_.replace_head(model.target_module().head)
        if model.settings.mean_logits:
            if fitted.model_.history:
                features = model.features(series, device, self.memory)
            model.name_source_classes()
            model.warn_of_equal_scores(features)
        return self._assign_fitted(fitted)

    # A label mapping handed in has parameters of its own to validate.
    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train for one pass over a part of the data.

        The perturbation and a linear label mapping go on by gradient from where they
        are; other label mappings stay what they were made of at the first call. (`fit`
        in contrast ends with a label mapping fitted in closed form to all data.)

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series.
        y : array-like of shape (n,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All classes; needed at the first call if `y` lacks some.
        sample_weight : array-like of shape (n,), default=None
            Weights.

        Returns
        -------
        V2SClassifier
            The classifier.
        """
        before = getattr(self, "model_", None)
        known = None if classes is None else np.unique(classes)
        if before is not None:
            if known is not None and not np.array_equal(known, self.classes_):
                raise ValueError(
                    f"classes={known.tolist()} is not the same as at the first call of "
                    f"partial_fit: {self.classes_.tolist()}."
                )
            known = self.classes_
        fitted = self._unfitted_copy(keep_shape=before is not None)
        data = fitted._check_training_data(
            X, y, sample_weight, known, reset=before is None
        )
        device = resolve_device(self.device)
        warn_of_sharing(device)
        if before is None:
            shuffle_seed, _, mapping_seed, *seeds = self._seeds(3 + self.n_views)
            mapping = self._new_mapping(mapping_seed)
            model = self._new_model(
                data, mapping, seeds, mapping_seed, cross_fits=False
            )
            model.classes, model.shuffle_seed = fitted.classes_, shuffle_seed
        else:
            model = ReprogrammedModel.continue_from(before)
        series = model.normalizer.transform(data.series)
        features = model.features(series, device, self.memory)
        if before is None:
            model.fit_label_mapping(features, data.codes, data.weight)
            model.limit_temperature()
        fitted.model_ = model
        fixed = features[:, model.n_replica_features :]
        rows = Rows(series, data.codes, data.weight, fixed)
        previous = getattr(self, "net_", None)
        if previous is not None and (
            previous.module_.adds_to_offset
            or previous.module_.n_folds != model.settings.n_folds
        ):
            # It trained other parameters: a part of the head, or of the perturbations.
            previous = None
        net = fitted._train(rows, "constant", epochs=1, previous=previous)
        net.module_.head.write_to(model.label_mapping)
        model.name_source_classes()
        return self._assign_fitted(fitted)

    def _setting(self) -> Setting:
        """Return what decides which parameters have an effect."""
        mapping = self._new_mapping(0)
        reads_logits = getattr(mapping, "reads_logits", False)
        views = resolve_views(self.views, self.source_output, reads_logits)
        parameters = self.get_params(deep=False)
        return Setting(parameters, views, self._trains(views), mapping)

    def _new_mapping(self, seed: int) -> LabelMapping:
        """Return the label mapping that the parameters mean, not fitted."""
        mapping = new_mapping(self.label_mapping, self.mapping_size, seed)
        if getattr(mapping, "reads_logits", False) and self.source_output != "logits":
            raise ValueError(
                f"label_mapping={self.label_mapping!r} reads the logits of the source "
                f"classes, but source_output={self.source_output!r}. Set "
                "source_output='logits', or label_mapping='linear', which reads any "
                "output."
            )
        return mapping

    def _new_model(
        self,
        data: TrainingData,
        mapping: LabelMapping,
        seeds: list[int],
        view_seed: int,
        *,
        cross_fits: bool,
    ) -> ReprogrammedModel:
        """Return a model with new perturbations, its label mapping not fitted."""
        settings = self._model_settings(getattr(mapping, "reads_logits", False))
        # Or say why it cannot, before it takes time.
        trains = self._trains(settings.views)
        if cross_fits and trains and not (settings.mean_logits or self.fine_tune):
            settings = replace(settings, n_folds=self.cross_fit)
            # All parts start from the same values.
            seeds = [seed for seed in seeds for _ in range(self.cross_fit)]
        normalizer = self._fit_normalizer(data.series, data.weight)
        model = ReprogrammedModel.build(
            settings, normalizer, data.series, seeds=seeds, view_seed=view_seed
        )
        model.label_mapping = mapping
        self._check_mapping_size(len(model.reprogrammed.source.classes))
        return model

    def _check_mapping_size(self, n_source_classes: int) -> None:
        """Raise where no label mapping could have that size."""
        size, reads_logits = self.mapping_size, self.source_output == "logits"
        if size is not None and reads_logits and size > n_source_classes:
            raise ValueError(
                f"mapping_size={size!r} is not allowed: give an integer from 1 to "
                f"{n_source_classes}, the number of source classes, or None."
            )

    def _trains(self, views: tuple[str, ...]) -> bool:
        """Return whether `fit` trains a perturbation."""
        if self.max_epochs == "auto":
            return "replicas" in views
        if self.max_epochs > 0 and "replicas" not in views:
            raise ValueError(
                f"max_epochs={self.max_epochs} trains the perturbation of the view "
                f"'replicas', which views={self.views!r} lacks. Add it, or set "
                "max_epochs='auto' or 0."
            )
        return self.max_epochs > 0

    def _continued_model(
        self, before: ReprogrammedModel, mapping: LabelMapping | None
    ) -> ReprogrammedModel:
        """Return the model of the previous fit, to go on from, with a new mapping.

        None keeps its mapping.
        """
        assert before.classes is not None
        if not np.array_equal(before.classes, self.classes_):
            raise ValueError(
                "warm_start=True needs the classes of the previous fit, "
                f"{before.classes.tolist()}, but y has {self.classes_.tolist()}. Set "
                "warm_start=False to begin anew."
            )
        reads_logits = mapping is None or getattr(mapping, "reads_logits", False)
        settings = self._model_settings(reads_logits)
        self._trains(settings.views)
        if before.settings.fine_tune != self.fine_tune:
            raise ValueError(
                f"warm_start=True goes on from a fit with fine_tune="
                f"{before.settings.fine_tune}, but fine_tune={self.fine_tune}. Set "
                "warm_start=False to begin anew."
            )
        if before.settings.views != settings.views:
            raise ValueError(
                "warm_start=True needs the views of the previous fit, "
                f"{list(before.settings.views)}, but views={self.views!r} now means "
                f"{list(settings.views)}. Set warm_start=False to begin anew."
            )
        model = ReprogrammedModel.continue_from(before, settings)
        if mapping is not None:
            model.label_mapping = mapping
        return model

    def _cross_fit(self, rows: Rows, learned: np.ndarray, seed: int) -> None:
        """Train each perturbation once for each part of the data, on the others.

        Parameters
        ----------
        rows : Rows
            All training series.
        learned : ndarray of shape (n, n_replica_features)
            Features of the replicas; replaced by those of perturbations that have not
            seen the series.
        seed : int
            Of the rows to validate on.
        """
        model, n_folds = self.model_, self.model_.settings.n_folds
        rng = np.random.default_rng(model.fold_seed)
        folds = balanced_folds(rows.codes, n_folds, rng)
        device = resolve_device(self.device)
        histories = []
        for number in range(n_folds):
            kept, held_out = np.flatnonzero(folds != number), folds == number
            self.model_ = part = model.fold(number)
            some = rows.some(kept)
            validation = self._held_out_rows(some.codes, seed)
            net = self._train(some, self.lr_schedule, validation_rows=validation)
            model.set_fold(number, part)
            histories.append(part.history)
            learned[held_out] = part.view_features(
                "replicas", rows.series[held_out], device, self.memory
            )
            if net.interrupted_:
                break
        self.model_ = model
        model.history = mean_history(histories)

    def _held_out_rows(self, codes: np.ndarray, seed: int) -> np.ndarray | None:
        """Return the rows to validate on, if there are any."""
        if not self.early_stopping:
            return None
        rng = np.random.default_rng(seed)
        return stratified_validation_rows(codes, self.validation_fraction, rng)

    def _train(
        self,
        rows: Rows,
        lr_schedule: Literal["constant", "cosine"],
        *,
        epochs: int | None = None,
        validation_rows: np.ndarray | None = None,
        previous: V2SNet | None = None,
    ) -> V2SNet:
        """Train the perturbation of `model_`; set ``net_`` and the history."""
        callbacks = self.callbacks or []
        for callback in callbacks:
            if hasattr(callback, "bind"):
                callback.bind(self)
        model = self.model_
        n_trained = len(rows.codes) - len(
            () if validation_rows is None else validation_rows
        )
        budget = training_budget(n_trained, self.max_epochs, self.batch_size)
        settings = TrainingSettings(
            max_epochs=budget.max_epochs,
            batch_size=budget.batch_size,
            lr=self.lr,
            source_lr=self.source_lr,
            lr_schedule=lr_schedule,
            l2=self.l2,
            n_iter_no_change=self.n_iter_no_change,
            shuffle_seed=model.shuffle_seed,
            verbose=self.verbose,
            callbacks=callbacks,
        )
        self.net_ = train(
            model.target_module(),
            model.label_mapping,
            rows,
            settings,
            resolve_device(self.device),
            validation_rows=validation_rows,
            epochs=epochs,
            previous=previous,
        )
        model.history = epoch_rows(self.net_.history)
        return self.net_

    def _scores(self, X: Any) -> np.ndarray:
        series = self._checked_series(X)
        device = resolve_device(self.device)
        # Equation 4 gives each class the mean of its source classes, no distribution:
        # `predict_proba` divides by the sum.
        return self.model_.scores(series, device, self.memory)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier to a file without pickle.

        Parameters
        ----------
        path : path-like
            Target, usually ``*.safetensors``. It holds perturbation, label mapping,
            classes, parameters, and name and SHA-256 of the source: some hundreds of
            kilobytes with all views, tens with the replicas alone.

        Raises
        ------
        ValueError
            If a parameter is an object that no file can hold, such as a source module
            or callbacks.
        """
        check_is_fitted(self)
        arrays, document = self.model_.state()
        # A folder of this machine has no meaning elsewhere.
        parameters = self.get_params(deep=False) | {"memory": None}
        given = parameters["label_mapping"]
        if not isinstance(given, str):
            # Beside the fitted one. What fit filled in, such as block_sizes, is not
            # what the user gave.
            fitted = self.model_.label_mapping
            given = given if type(given) is type(fitted) else fitted
            mapping = plain_values("label_mapping", given.get_params())
            document["label_mapping"]["given"] = mapping
            parameters["label_mapping"] = None
        header = {
            "kind": _FILE_KIND,
            "parameters": plain_values(_FILE_KIND, parameters),
            "fitted": {name: getattr(self, name) for name in _SHAPE_ATTRIBUTES},
            "unequal_length": self.unequal_length_,
            "feature_names": list(getattr(self, "feature_names_in_", [])),
        }
        write_tensor_file(path, arrays, {**document, **header})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a classifier that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        V2SClassifier
            Fitted; it predicts as before.

        Raises
        ------
        TensorFileError
            If the file is damaged, or holds what this version cannot read.
        CheckpointError
            If the source of that name is another one here.
        """
        arrays, header, _ = read_tensor_file(path)
        if header.get("kind") != _FILE_KIND:
            raise TensorFileError(
                f"{path} holds a {header.get('kind')!r}, not a {_FILE_KIND!r}."
            )
        try:
            return cls._from_file(ModelState(arrays, header))
        except (MemoryError, OSError):
            raise
        except CheckpointError as error:
            # Of the source, not of this file.
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        except Exception as error:
            # The SHA-256 is right, so this is what was written; what it makes of the
            # parts of a model may be any error.
            raise TensorFileError(
                f"{path} holds a {_FILE_KIND} that this version of sklearn-v2s cannot "
                f"read ({error!r}). Update sklearn-v2s, or fit again."
            ) from error

    @classmethod
    def _from_file(cls, state: ModelState) -> Self:
        header = state.document
        mapping, parameters = header["label_mapping"], header["parameters"]
        if parameters["label_mapping"] is None:
            mapping_class = MAPPING_CLASSES[mapping["class"]]
            parameters["label_mapping"] = mapping_class(**mapping["given"])
        classifier = cls(**parameters)
        classifier._validate_params()
        for name in _SHAPE_ATTRIBUTES:
            setattr(classifier, name, header["fitted"][name])
        shape = classifier.n_channels_in_, classifier.n_timepoints_in_
        if classifier.n_features_in_ != shape[0] * shape[1]:
            raise ValueError(f"n_features_in_ does not fit {shape}")
        classifier.unequal_length_ = header["unequal_length"]
        if header["feature_names"]:
            names = np.array(header["feature_names"], dtype=object)
            classifier.feature_names_in_ = names
        # The seeds matter only to a partial_fit that goes on from here.
        n_groups = len(state.arrays["perturbation/delta"])
        n_folds = header.get("settings", {}).get("n_folds", 1)
        shuffle_seed, _, _, *seeds = classifier._seeds(3 + n_groups // n_folds)
        seeds = [seed for seed in seeds for _ in range(n_folds)]
        model = ReprogrammedModel.from_state(state, shape, seeds)
        assert model.classes is not None
        model.shuffle_seed = shuffle_seed
        classifier.model_, classifier.classes_ = model, model.classes
        return classifier
