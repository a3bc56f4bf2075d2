# SPDX-License-Identifier: Apache-2.0
"""`ReprogrammedModel`: all that is learned, as one value.

Its way is that of the paper: normalise the series, place them and add the perturbation,
read the source outputs in each view, reduce them to scores by the label mapping.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch

from sklearn_v2s.label_mapping import BaseLabelMapping, LinearLabelMapping
from sklearn_v2s.label_mapping.contract import LabelMapping, MatrixMapping
from sklearn_v2s.label_mapping.fitting import LABEL_MAPPINGS, fit_mapping
from sklearn_v2s.label_mapping.heads import head_for
from sklearn_v2s.label_mapping.offset import Offset
from sklearn_v2s.perturbation import Perturbation, ReprogrammedSource
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.runtime.user_warnings import warn_user
from sklearn_v2s.series.normalization import Normalization, SeriesNormalizer
from sklearn_v2s.sources.contract import (
    SourceOutputs,
    SourceReference,
    independent_copy,
)
from sklearn_v2s.sources.registry import load_reference, load_source
from sklearn_v2s.training.module import TargetModule
from sklearn_v2s.views.base import View, content_order, of_shape
from sklearn_v2s.views.build import VIEWS, build_view
from sklearn_v2s.views.source_views import SourceOutput, SourceView
from sklearn_v2s.views.wave import WaveView

__all__ = [
    "MAPPING_CLASSES",
    "ModelSettings",
    "ModelState",
    "ReprogrammedModel",
    "plain_values",
    "resolve_views",
]

#: The label mappings that a file can hold, by name.
MAPPING_CLASSES = {mapping.__name__: mapping for mapping in LABEL_MAPPINGS.values()}
# Probabilities that differ by less are equal up to the rounding of source outputs.
_EQUAL = 1e-7
_PLAIN = (str, int, float, bool, type(None))


def resolve_views(
    views: Any, source_output: SourceOutput, reads_logits: bool = False
) -> tuple[str, ...]:
    """Return the names of the views that a parameter ``views`` means.

    Parameters
    ----------
    views : "auto", str or sequence of str
        The parameter.
    source_output : {"logits", "embedding", "both"}
        What is read of the source outputs.
    reads_logits : bool, default=False
        Whether the label mapping reads the logits of the source classes.

    Returns
    -------
    tuple of str
        In the order of `VIEWS`.

    Raises
    ------
    ValueError
        If a name is unknown or given twice, or cannot be read by the label mapping.

    Examples
    --------
    >>> from sklearn_v2s.model import resolve_views
    >>> resolve_views(["tone", "replicas"], "embedding")
    ('replicas', 'tone')
    """
    names: tuple[str, ...]
    if isinstance(views, str):
        if views != "auto":
            names = (views,)
        elif reads_logits or source_output == "logits":
            names = ("replicas",)
        else:
            names = VIEWS
    else:
        names = tuple(views)
    unknown = any(name not in VIEWS for name in names)
    if not names or unknown or len(set(names)) < len(names):
        raise ValueError(
            f"views={views!r} is not allowed: give 'auto', one of {list(VIEWS)}, or a "
            "list of different ones."
        )
    if reads_logits and names != ("replicas",):
        raise ValueError(
            f"views={views!r} cannot be read by a label mapping of source classes; "
            "only 'replicas' can. Set views='replicas' or 'auto', or "
            "label_mapping='linear'."
        )
    # In one order, whatever the user's, so that it changes nothing.
    return tuple(name for name in VIEWS if name in names)


@dataclass(frozen=True)
class ModelSettings:
    """Parameters of an estimator that a model is built from; see `V2SClassifier`.

    Attributes
    ----------
    views : tuple of str
        Names in the order of `VIEWS`.
    mean_logits : bool
        Whether the label mapping reads the mean logits of the source classes.
    n_folds : int
        Parts of the training data; each perturbation is there once for each, trained on
        the others.
    """

    source: Any
    wave_source: Any
    source_output: SourceOutput
    views: tuple[str, ...]
    mean_logits: bool
    n_views: int
    n_segments: int | Literal["auto"]
    input_gain: float
    init_scale: float
    normalization: Normalization
    precision: Literal["float32", "float64"]
    mask: bool = False
    dropout: float = 0.0
    train_gain: bool = False
    fine_tune: bool = False
    n_folds: int = 1
    tone_source: Any = None

    @property
    def dtype(self) -> torch.dtype:
        """Precision of perturbation and source."""
        return torch.float64 if self.precision == "float64" else torch.float32


@dataclass
class _Sources:
    """The sources of the views; None where no view reads one of its own."""

    replicas: Any
    tone: Any = None
    wave: Any = None


class ModelState(NamedTuple):
    """A model as arrays and JSON, to be written to a file.

    Attributes
    ----------
    arrays : dict of str to ndarray
        What was learned.
    document : dict
        JSON: everything else. Sources are named, with their SHA-256.
    """

    arrays: dict[str, np.ndarray]
    document: dict[str, Any]

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """Return the arrays whose names begin with `prefix`, without it."""
        return {
            name.removeprefix(prefix): value
            for name, value in self.arrays.items()
            if name.startswith(prefix)
        }


class ReprogrammedModel:
    """Normaliser, views with the perturbation, and label mapping.

    `build` returns one that has no label mapping yet, as `V2STransformer` needs it;
    `fit_label_mapping` fits one. Estimators build a model aside and assign it at the
    end of ``fit``.

    Attributes
    ----------
    settings : ModelSettings
        What it was built from.
    normalizer : SeriesNormalizer
        Brings series to a common level and scale.
    reprogrammed : ReprogrammedSource
        Placement, perturbation and source, on the CPU.
    views : dict of str to View
        In the order of their features.
    source_reference : SourceReference or None
        Name and SHA-256 of the source, also of one that was fine-tuned since.
    label_mapping : LabelMapping or None
        Features to target-class scores.
    classes : ndarray of shape (n_classes,) or None
        The target classes.
    temperature_limit : float
        Largest temperature of a linear label mapping. The leave-one-out scores of a
        trained perturbation are too good, for it has seen the labels; those of the
        random one, before any training, are honest.
    offset : Offset or None
        What the views without a perturbation say, while a training adds to it.
    shuffle_seed : int
        Of the order of batches, for a training that begins.
    fold_seed : int
        Of the parts of the training data, the same for all trainings that go on.
    history : list of dict
        Losses, accuracies and seconds of each epoch.
    """

    label_mapping: LabelMapping

    def __init__(
        self,
        settings: ModelSettings,
        normalizer: SeriesNormalizer,
        reprogrammed: ReprogrammedSource,
        views: dict[str, View],
        source_reference: SourceReference | None,
    ) -> None:
        self.settings = settings
        self.normalizer = normalizer
        self.reprogrammed = reprogrammed
        self.views = views
        self.source_reference = source_reference
        self.classes: np.ndarray | None = None
        self.temperature_limit = np.inf
        self.offset: Offset | None = None
        self.shuffle_seed = 0
        self.fold_seed = 0
        self.history: list[dict[str, float]] = []

    @classmethod
    def build(
        cls,
        settings: ModelSettings,
        normalizer: SeriesNormalizer,
        series: np.ndarray,
        *,
        seeds: Sequence[int],
        view_seed: int,
    ) -> Self:
        """Return a model with new perturbations and no label mapping.

        Parameters
        ----------
        settings : ModelSettings
            What to build.
        normalizer : SeriesNormalizer
            Fitted.
        series : ndarray of shape (n, n_channels, n_timepoints)
            Training series as the user gave them.
        seeds : sequence of int
            One for each perturbation.
        view_seed : int
            Of the views without training.

        Returns
        -------
        ReprogrammedModel
            The model.
        """
        sources = _Sources(load_source(settings.source, settings.dtype))
        if "tone" in settings.views and settings.tone_source is not None:
            sources.tone = _load_named("tone_source", settings)
        if not {"wave", "slope"}.isdisjoint(settings.views):
            sources.wave = _load_named("wave_source", settings)
        model = cls._assemble(
            settings, normalizer, series.shape[1:], sources, seeds, view_seed
        )
        if isinstance(model.reprogrammed.placement, ReplicaPlacement):
            model.reprogrammed.placement.warn_if_resampling()
        fitted = [view for name, view in model.views.items() if name != "replicas"]
        if fitted:
            normalised = normalizer.transform(series)
            order = content_order(series, view_seed)
            for view in fitted:
                view.fit(normalised, order)
        return model

    @classmethod
    def _assemble(
        cls,
        settings: ModelSettings,
        normalizer: SeriesNormalizer,
        shape: tuple[int, ...],
        sources: "_Sources",
        seeds: Sequence[int],
        view_seed: int,
    ) -> Self:
        """Put a model together from its sources; views are not fitted."""
        n_channels, n_timepoints = shape
        source = sources.replicas
        placement = ReplicaPlacement(
            source.input_length,
            n_channels=n_channels,
            n_timepoints=n_timepoints,
            n_segments=settings.n_segments,
        )
        perturbation = Perturbation(
            source.input_length,
            [torch.Generator().manual_seed(seed) for seed in seeds],
            init_scale=settings.init_scale,
            mask=placement.mask() if settings.mask else None,
            dropout=settings.dropout,
            input_gain=settings.input_gain,
            train_gain=settings.train_gain,
        ).to(settings.dtype)
        reprogrammed = ReprogrammedSource(
            independent_copy(source) if settings.fine_tune else source,
            placement,
            perturbation,
            owns_source=settings.fine_tune,
        ).eval()
        views = {
            name: build_view(
                name,
                reprogrammed,
                source if sources.tone is None else sources.tone,
                sources.wave,
                source_output=settings.source_output,
                mean_logits=settings.mean_logits,
                n_folds=settings.n_folds,
                n_channels=n_channels,
                n_timepoints=n_timepoints,
                seed=view_seed,
            )
            for name in settings.views
        }
        reference = getattr(source, "reference", None)
        return cls(settings, normalizer, reprogrammed, views, reference)

    @classmethod
    def continue_from(
        cls, model: "ReprogrammedModel", settings: ModelSettings | None = None
    ) -> "ReprogrammedModel":
        """Return a copy to train further; `model` stays as it is.

        Parameters
        ----------
        model : ReprogrammedModel
            Of an earlier fit.
        settings : ModelSettings, default=None
            Which source output the view ``"replicas"`` reads from now on; None keeps
            it.

        Returns
        -------
        ReprogrammedModel
            With its own perturbation, label mapping and, if it is fine-tuned, source.
        """
        before = model.reprogrammed
        owns = before.owns_source
        continued = copy.copy(model)
        if settings is not None:
            continued.settings = replace(
                model.settings,
                source_output=settings.source_output,
                mean_logits=settings.mean_logits,
            )
        continued.reprogrammed = ReprogrammedSource(
            copy.deepcopy(before.source) if owns else before.source,
            before.placement,
            copy.deepcopy(before.perturbation),
            owns_source=owns,
        ).eval()
        continued.views = dict(model.views)
        if "replicas" in model.views:
            continued.views["replicas"] = SourceView(
                continued.reprogrammed,
                continued.settings.source_output,
                continued.settings.mean_logits,
                continued.settings.n_folds,
            )
        continued.label_mapping = copy.deepcopy(model.label_mapping)
        continued.history = list(model.history)
        return continued

    @property
    def n_replica_features(self) -> int:
        """Number of features, the first ones, that the perturbation changes."""
        return self.views["replicas"].n_features if "replicas" in self.views else 0

    @property
    def block_sizes(self) -> list[int]:
        """Numbers of neighbouring columns of the features that form a block."""
        return [size for view in self.views.values() for size in view.block_sizes]

    def features(
        self, series: np.ndarray, device: torch.device, memory: Any = None
    ) -> np.ndarray:
        """Return the features of normalised series in all views, as columns.

        Those of the replicas are of the perturbations of the first part of the data
        (see `fold`).

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised series.
        device : torch.device
            Where to compute.
        memory : str, object with the interface of joblib.Memory or None, default=None
            Where source outputs are cached.

        Returns
        -------
        ndarray of shape (n, n_features)
            In the precision of the source; float64 if ``"replicas"`` is the only view.

        Raises
        ------
        ValueError
            If a view gives NaN or infinity.
        """
        # Filled view by view: two copies of many series are a lot of memory.
        features = np.empty(
            (len(series), sum(self.block_sizes)),
            np.float64 if list(self.views) == ["replicas"] else self.settings.precision,
        )
        end = 0
        for name in self.views:
            start, end = end, end + self.views[name].n_features
            features[:, start:end] = self.view_features(name, series, device, memory)
        return features

    def view_features(
        self, name: str, series: np.ndarray, device: torch.device, memory: Any = None
    ) -> np.ndarray:
        """Return the features of one view; see `features`."""
        with np.errstate(over="ignore", invalid="ignore"):
            features = self.views[name].features(series, device, memory)
            if name != "replicas":
                features = features.astype(self.settings.precision, copy=False)
        self._check_finite(name, series, features)
        return features

    def source_outputs(
        self, series: np.ndarray, device: torch.device, memory: Any = None
    ) -> SourceOutputs:
        """Return the source outputs of normalised series with the perturbation.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised series.
        device : torch.device
            Where to compute.
        memory : str, object with the interface of joblib.Memory or None, default=None
            Where source outputs are cached.

        Returns
        -------
        SourceOutputs
            ``logits`` of shape (n, n_views, K), ``embedding`` of shape (n, n_views, d).
        """
        view = SourceView(self.reprogrammed, self.settings.source_output)
        outputs = view.outputs(series, device, memory)
        self._check_finite("replicas", series, *outputs)
        return outputs

    def _check_finite(self, name: str, series: np.ndarray, *arrays: np.ndarray) -> None:
        if all(np.isfinite(array).all() for array in arrays):
            return
        added, advice = "", "Use"
        if name == "replicas":
            delta = self.reprogrammed.perturbation.delta.detach().abs().max()
            added = f" and a perturbation up to {float(delta):.3g}"
            advice = "Use smaller init_scale, input_gain and lr, and"
        raise ValueError(
            f"the view {name!r} gave NaN or infinity for series with values up to "
            f"{np.abs(series).max():.3g} after normalization="
            f"{self.settings.normalization!r}{added}, in precision="
            f"{self.settings.precision!r}. {advice} normalization='global' or 'series' "
            "for large values."
        )

    def fit_label_mapping(
        self,
        features: np.ndarray,
        codes: np.ndarray,
        weight: np.ndarray,
        held_out: bool = False,
    ) -> None:
        """Fit the label mapping, in place.

        Parameters
        ----------
        features : ndarray of shape (n, n_features)
            As `features` returns them.
        codes : ndarray of shape (n,)
            Positions of the labels in `classes`.
        weight : ndarray of shape (n,)
            Positive weights.
        held_out : bool, default=False
            Whether no perturbation has seen the series that it gave the features for:
            then `temperature_limit` is not needed.
        """
        assert self.classes is not None
        mapping = self.label_mapping
        given = mapping.get_params()
        if given.get("block_sizes", 0) is None:
            mapping.set_params(block_sizes=self.block_sizes)
        chooses = given.get("mapping_size") is not None and "replicas" in self.views
        if chooses and given.get("n_source_outputs", 0) is None:
            mapping.set_params(n_source_outputs=self.n_replica_features)
        fit_mapping(mapping, features, codes, weight, len(self.classes))
        if isinstance(mapping, LinearLabelMapping) and not held_out:
            mapping.temperature_ = min(mapping.temperature_, self.temperature_limit)
        self.name_source_classes()

    def source_class_weights(self) -> np.ndarray | None:
        """Return how much each source class speaks for each target class.

        Returns
        -------
        ndarray of shape (K, n_classes) or None
            Of a label mapping that is a matrix, its weights; of a linear one the
            coefficients of the standardised logits in the view ``"replicas"``, their
            mean over the perturbations. None where no logit is read.
        """
        mapping, n_sources = self.label_mapping, len(self.reprogrammed.source.classes)
        if isinstance(mapping, MatrixMapping):
            return np.asarray(mapping.weights_)
        reads = self.settings.source_output != "embedding" and "replicas" in self.views
        if not (reads and isinstance(mapping, LinearLabelMapping)):
            return None
        coef = np.zeros((len(mapping.coef_), mapping.n_features_in_))
        coef[:, mapping.selected_] = mapping.coef_
        n_views = len(self.reprogrammed.perturbation.delta) // self.settings.n_folds
        logits = coef[:, : n_views * n_sources].reshape(len(coef), n_views, n_sources)
        return np.asarray(logits.mean(axis=1).T)

    def name_source_classes(self) -> None:
        """Tell the label mapping the names of its source classes, in place.

        Its attribute ``source_classes_`` is a list for each target class: the names of
        the source classes that speak for it, the strongest first.
        """
        weights = self.source_class_weights()
        if weights is None:
            return
        mapping: Any = self.label_mapping
        names = self.reprogrammed.source.classes
        order = np.argsort(-weights, axis=0, kind="stable").T
        mapping.source_classes_ = [
            [str(names[row]) for row in rows if weights[row, column] > 0]
            for column, rows in enumerate(order)
        ]

    def warn_of_equal_scores(self, features: np.ndarray) -> None:
        """Warn if the label mapping says the same of all classes or of all rows.

        Parameters
        ----------
        features : ndarray of shape (n, n_features)
            Of the training series.
        """
        scores = np.asarray(self.label_mapping.transform(features))
        scores = scores / scores.sum(axis=1, keepdims=True)
        n_classes = scores.shape[1]
        equal = None
        if n_classes > 1 and np.ptp(scores, axis=1).max() < _EQUAL:
            equal = "all classes, so that every prediction is the first one"
        elif len(np.unique(features, axis=0)) > 1 and (
            np.ptp(scores, axis=0).max() < _EQUAL
        ):
            equal = "all training series, so that every prediction is the same class"
        if equal is not None:
            warn_user(
                f"the label mapping {self.label_mapping!r} gives equal scores to "
                f"{equal}: the source outputs that it reads do not tell the series "
                "apart. Use label_mapping='linear', another n_segments or input_gain, "
                "or train the perturbation (max_epochs='auto')."
            )

    def limit_temperature(self) -> None:
        """Let no later label mapping be surer than the one that is fitted now."""
        self.temperature_limit = float(
            getattr(self.label_mapping, "temperature_", np.inf)
        )

    def scores(
        self, series: np.ndarray, device: torch.device, memory: Any = None
    ) -> np.ndarray:
        """Return target-class scores of series as the user gives them.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Checked, not normalised.
        device : torch.device
            Where to compute.
        memory : str, object with the interface of joblib.Memory or None, default=None
            Where source outputs are cached.

        Returns
        -------
        ndarray of shape (n, n_classes)
            Non-negative; rows need not sum to 1.
        """
        normalised = self.normalizer.transform(series)
        n_folds, n_learned = self.settings.n_folds, self.n_replica_features
        features = self.features(normalised, device, memory)
        scores = np.asarray(self.label_mapping.transform(features), dtype=np.float64)
        for number in range(1, n_folds):
            # The map was fitted to outputs of one perturbation at a time: it reads them
            # so, and the scores are averaged, not the outputs.
            part = self.fold(number)
            features[:, :n_learned] = part.view_features(
                "replicas", normalised, device, memory
            )
            scores = scores + self.label_mapping.transform(features)
        return scores / n_folds

    def split_off(self, features: np.ndarray) -> None:
        """Let the next training add to what the views without a perturbation say.

        It does so where the label mapping is linear and there are such views.

        Parameters
        ----------
        features : ndarray of shape (n, n_features)
            Of the training series, which the label mapping is fitted to.
        """
        n_learned, mapping = self.n_replica_features, self.label_mapping
        some = 0 < n_learned < features.shape[1]
        if some and isinstance(mapping, LinearLabelMapping):
            self.offset = Offset.split(mapping, features, n_learned)

    def target_module(self) -> TargetModule:
        """Return the model as a module to train: it shares the perturbation.

        With an offset its head reads the replicas alone, else all views.
        """
        assert self.classes is not None
        if self.offset is None:
            mapping, n_features = self.label_mapping, sum(self.block_sizes)
        else:
            mapping, n_features = self.offset.learned, self.n_replica_features
        head = head_for(mapping, n_features, len(self.classes))
        return TargetModule(
            self.reprogrammed,
            head.to(self.reprogrammed.perturbation.delta),
            self.settings.source_output,
            "replicas" in self.views,
            self.offset is not None,
            self.settings.n_folds,
        )

    def fold(self, number: int) -> "ReprogrammedModel":
        """Return the model with the perturbations that one part is held out from.

        Parameters
        ----------
        number : int
            Of the part, from 0 to ``settings.n_folds - 1``.

        Returns
        -------
        ReprogrammedModel
            A copy; this model if there is one part only.
        """
        if self.settings.n_folds == 1:
            return self
        part = copy.copy(self)
        part.settings = replace(self.settings, n_folds=1)
        part.reprogrammed = self.reprogrammed.fold(number, self.settings.n_folds)
        part.views = dict(self.views)
        part.views["replicas"] = SourceView(
            part.reprogrammed, self.settings.source_output
        )
        part.history = []
        return part

    def set_fold(self, number: int, part: "ReprogrammedModel") -> None:
        """Take over what a training made of `fold`, in place.

        Parameters
        ----------
        number : int
            Of the part.
        part : ReprogrammedModel
            What `fold` returned, trained.
        """
        n_folds = self.settings.n_folds
        groups = self.reprogrammed.groups_of_fold(number, n_folds)
        trained = part.reprogrammed.perturbation
        self.reprogrammed.perturbation.set_groups(groups, trained)

    def snapshot(self, module: TargetModule) -> "ReprogrammedModel":
        """Return the model as a training has it between two epochs.

        Parameters
        ----------
        module : TargetModule
            What is trained, on any device.

        Returns
        -------
        ReprogrammedModel
            A copy; a linear label mapping is what the gradient has made of it.
        """
        taken = self.continue_from(self)
        target = taken.target_module()
        target.load_learned_state(
            {name: value.cpu() for name, value in module.learned_state().items()}
        )
        mapping = taken.label_mapping
        if taken.offset is None:
            target.head.write_to(mapping)
        elif isinstance(mapping, LinearLabelMapping):
            offset = replace(taken.offset, learned=copy.copy(taken.offset.learned))
            target.head.write_to(offset.learned)
            offset.write_to(mapping)
        taken.offset = None
        return taken

    def state(self) -> ModelState:
        """Return the model as arrays and JSON.

        Returns
        -------
        ModelState
            For `from_state`.

        Raises
        ------
        ValueError
            If a part of the model is an object that no file can hold.
        """
        mapping = self.label_mapping
        if type(mapping) not in MAPPING_CLASSES.values():
            raise ValueError(
                f"label_mapping_ is a {type(mapping).__name__}, which only joblib can "
                f"keep; files hold {sorted(MAPPING_CLASSES)}."
            )
        perturbation = self.reprogrammed.perturbation
        arrays = {
            "perturbation/delta": perturbation.delta.detach().cpu().numpy(),
            "perturbation/log_gain": perturbation.log_gain.detach().cpu().numpy(),
            "normalizer/mean": self.normalizer.mean_,
            "normalizer/scale": self.normalizer.scale_,
        }
        if self.reprogrammed.owns_source:
            for name, tensor in self.reprogrammed.source.state_dict().items():
                arrays[f"source/{name}"] = tensor.cpu().numpy()
        for name, view in self.views.items():
            for key, value in view.arrays().items():
                arrays[f"view/{name}/{key}"] = value
        fitted: dict[str, Any] = {}
        for name, value in vars(mapping).items():
            if name == "source_classes_":  # the source has the names
                continue
            if name.endswith("_") and isinstance(value, np.ndarray):
                arrays[f"label_mapping/{name}"] = value
            elif name.endswith("_"):
                fitted[name] = value.item() if isinstance(value, np.generic) else value
        wave_sources = [
            _reference(getattr(view.source, "reference", None))
            for view in self.views.values()
            if isinstance(view, WaveView)
        ]
        tone, tone_source = self.views.get("tone"), None
        if isinstance(tone, SourceView):
            reference = getattr(tone.module.source, "reference", None)
            if reference != self.source_reference:
                tone_source = _reference(reference)
        settings = asdict(
            replace(self.settings, source=None, tone_source=None, wave_source=None)
        )
        document = {
            "source": _reference(self.source_reference),
            "tone_source": tone_source,
            "wave_source": wave_sources[0] if wave_sources else None,
            "views": list(self.views),
            "settings": plain_values("the model", settings),
            "classes": _classes_document(self.classes),
            "history": self.history,
            "fold_seed": self.fold_seed,
            # JSON has no infinity: null means that there is no limit.
            "temperature_limit": (
                self.temperature_limit if np.isfinite(self.temperature_limit) else None
            ),
            "label_mapping": {
                "class": type(mapping).__name__,
                "parameters": plain_values("label_mapping", mapping.get_params()),
                "fitted": fitted,
            },
        }
        return ModelState(arrays, document)

    @classmethod
    def from_state(
        cls, state: ModelState, shape: tuple[int, int], seeds: Sequence[int]
    ) -> Self:
        """Return the model that `state` was made of.

        Parameters
        ----------
        state : ModelState
            What `state` returned.
        shape : tuple of (int, int)
            Channels and time points of a series.
        seeds : sequence of int
            Of the dropout of each perturbation, for a training that goes on.

        Returns
        -------
        ReprogrammedModel
            The model.

        Raises
        ------
        Exception
            Of any kind, if the state was not written by this version or an earlier one.
        CheckpointError
            If a source of that name is another one here.
        """
        document = state.document
        mapping_document = document["label_mapping"]
        mapping = MAPPING_CLASSES[mapping_document["class"]](
            **mapping_document["parameters"]
        )
        for name, value in mapping_document["fitted"].items():
            setattr(mapping, name, value)
        for name, value in state.under("label_mapping/").items():
            setattr(mapping, name, value)
        mapping.complete()
        settings = _settings(document, mapping)
        normalizer = SeriesNormalizer(settings.normalization)
        of_normalizer = state.under("normalizer/")
        normalizer.mean_ = of_shape("mean", of_normalizer, (shape[0], 1))
        normalizer.scale_ = of_shape("scale", of_normalizer, (shape[0], 1))
        sources = _Sources(
            *(
                None
                if reference is None
                else load_reference(
                    reference["name"], reference["sha256"], settings.precision
                )
                # In files of 0.1.0 the tone is read by the source of the replicas.
                for reference in (
                    document["source"],
                    document.get("tone_source"),
                    document["wave_source"],
                )
            )
        )
        # The seed of the views matters only before they are fitted.
        model = cls._assemble(settings, normalizer, shape, sources, seeds, view_seed=0)
        arrays: dict[str, dict[str, np.ndarray]] = {name: {} for name in model.views}
        for key, value in state.under("view/").items():
            name, _, part = key.partition("/")
            arrays[name][part] = value
        for name, view in model.views.items():
            view.restore(arrays[name])
        if settings.fine_tune:
            model.reprogrammed.source.load_state_dict(
                {
                    name: torch.from_numpy(value)
                    for name, value in state.under("source/").items()
                }
            )
        perturbation = model.reprogrammed.perturbation
        with torch.no_grad():
            for name in ("delta", "log_gain"):
                learned = getattr(perturbation, name)
                # What has another shape would be broadcast.
                array = of_shape(
                    name, state.under("perturbation/"), tuple(learned.shape)
                )
                learned.copy_(torch.from_numpy(array))
        classes = document["classes"]
        model.classes = np.array(classes["values"], dtype=np.dtype(classes["dtype"]))
        mapping.check_arrays(
            len(model.reprogrammed.source.classes)
            if settings.mean_logits
            else sum(model.block_sizes),
            len(model.classes),
        )
        limit = document["temperature_limit"]
        model.temperature_limit = np.inf if limit is None else limit
        model.label_mapping = mapping
        model.name_source_classes()
        model.history = document["history"]
        # In files of 0.1.0 there are no parts.
        model.fold_seed = document.get("fold_seed", 0)
        return model


def _load_named(parameter: str, settings: ModelSettings) -> Any:
    """Return the source of a view; an error says which parameter it is of."""
    try:
        return load_source(getattr(settings, parameter), settings.dtype)
    except (FileNotFoundError, TypeError, ValueError) as error:
        error.args = (f"{parameter}: {error}",)
        raise


def _settings(document: dict[str, Any], mapping: BaseLabelMapping) -> ModelSettings:
    """Return the settings in a document; 0.1.0 had them among the parameters."""
    settings = document["settings" if "settings" in document else "parameters"]
    known = {
        name: settings[name]
        for name in ModelSettings.__dataclass_fields__
        if name in settings
    }
    known |= {"views": tuple(document["views"]), "mean_logits": mapping.reads_logits}
    return ModelSettings(**known)


def plain_values(owner: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON values; an error names one that cannot be.

    Parameters
    ----------
    owner : str
        Whose parameters, for the error.
    parameters : dict
        By name.

    Returns
    -------
    dict
        Numbers, strings, and lists of them.

    Raises
    ------
    ValueError
        If a value is something else.
    """
    plain = {}
    for name, value in parameters.items():
        if isinstance(value, np.generic):
            value = value.item()
        if hasattr(value, "__fspath__"):
            value = value.__fspath__()
        if isinstance(value, tuple | list):
            # A sequence of names or numbers; JSON gives it back as a list.
            value = list(value)
            is_plain = all(isinstance(item, _PLAIN) for item in value)
        else:
            is_plain = isinstance(value, _PLAIN)
        if not is_plain:
            raise ValueError(
                f"{owner} cannot be saved with {name}={value!r}: a file holds numbers "
                "and strings. Give a registered source by name, an int as "
                "random_state, a device by name; set class_weight and callbacks to "
                "None after fit; or use joblib."
            )
        plain[name] = value
    return plain


def _classes_document(classes: Any) -> dict[str, Any]:
    values = [
        value.item() if isinstance(value, np.generic) else value
        for value in classes.tolist()
    ]
    objects = [value for value in values if not isinstance(value, _PLAIN)]
    if objects:
        raise ValueError(
            f"the classifier cannot be saved with the class {objects[0]!r}: a file "
            "holds numbers and strings. Use joblib."
        )
    return {"dtype": classes.dtype.str, "values": values}


def _reference(reference: SourceReference | None) -> dict[str, str]:
    """Return the name and SHA-256 of a source; raise an error if it has none."""
    if reference is None:
        raise ValueError(
            "the classifier was fitted with a source that did not come from a "
            "checkpoint, and a saved classifier holds no source weights. Save the "
            "source with sklearn_v2s.sources.save_checkpoint and fit with its path, "
            "or use joblib."
        )
    return {"name": reference.name, "sha256": reference.sha256}
