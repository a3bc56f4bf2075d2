# SPDX-License-Identifier: Apache-2.0
"""Fits of one search that compute together what they have in common.

All of it is found again by content, never by place: rows of the same values give the
same outputs in whatever fold and order they come.
"""

import warnings
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, Self

import joblib
import numpy as np
import torch

from sklearn_v2s._compat import fit_context
from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.reprogramming import ReprogrammedSource
from sklearn_v2s.sources.contract import SourceOutputs
from sklearn_v2s.stacked_runs import Part, Run, TrainingPlan
from sklearn_v2s.stacked_training import train_stacked

__all__ = ["SharedFits", "plain", "shares_fits"]

# X, y and weights.
_Data = tuple[Any, Any, Any]
# Attributes that only a member of a search has.
_OF_MEMBER = ("_shared", "_key", "_held", "_waits", "run")


def shares_fits(estimator: V2SClassifier) -> bool:
    """Return whether fits of a classifier have something to share.

    Parameters
    ----------
    estimator : V2SClassifier
        With the parameters that are not searched over.

    Returns
    -------
    bool
        False where each fit has to be made by itself.
    """
    # A subclass may do anything anywhere.
    if type(estimator) is not V2SClassifier:
        return False
    return estimator.max_epochs == 0 or _stacks(estimator)


def _stacks(estimator: V2SClassifier) -> bool:
    """Return whether trainings of a classifier may run side by side."""
    mapping = estimator.label_mapping
    follows = mapping == "iterative" or getattr(mapping, "refit_each_epoch", False)
    alone = estimator.fine_tune or estimator.callbacks or estimator.verbose or follows
    return estimator.max_epochs > 0 and not alone


class SharedFits:
    """What the fits of one search have computed so far.

    Attributes
    ----------
    outputs : dict
        Source outputs of single series, by perturbation and content.
    """

    def __init__(self) -> None:
        self.outputs: dict[Hashable, _Outputs] = {}
        self._found: dict[Hashable, Any] = {}

    def once(self, key: tuple[Hashable, ...], compute: Callable[[], Any]) -> Any:
        """Return what `compute` returned when it was first asked for under this key.

        Parameters
        ----------
        key : tuple
            What the result depends on.
        compute : callable
            Without arguments.

        Returns
        -------
        object
            The result; nobody may change it.
        """
        if key not in self._found:
            self.tell(key, compute())
        return self._found[key]

    def tell(self, key: tuple[Hashable, ...], result: Any) -> None:
        """Say what `once` is to return."""
        self._found[key] = result

    def knows(self, key: tuple[Hashable, ...]) -> bool:
        """Return whether `once` has something to return."""
        return key in self._found

    def member(self, estimator: V2SClassifier) -> "_Member":
        """Return a classifier with the same parameters that takes part.

        Parameters
        ----------
        estimator : V2SClassifier
            Not fitted.

        Returns
        -------
        V2SClassifier
            Its clones take part too.
        """
        member = _Member()
        member.__dict__.update(estimator.__dict__)
        member._shared = self
        return member

    def train(self, fits: Iterable[tuple[Any, _Data]]) -> None:
        """Fit many classifiers that train, side by side.

        Parameters
        ----------
        fits : iterable of (V2SClassifier, tuple)
            Clones of what `member` returns, with their settings, and the arguments of
            their `fit`. One that cannot be fitted will say why when it is asked to.
        """
        alike: dict[Hashable, list[_Member]] = {}
        for member, arguments in fits:
            if member.begin(*arguments):
                placed = member.max_epochs, member.n_segments, member.n_timepoints_in_
                alike.setdefault(placed, []).append(member)
        for group in alike.values():
            first = group[0]
            plan = TrainingPlan(
                max_epochs=first.max_epochs,
                batch_size=first.batch_size,
                lr=first.lr,
                lr_schedule=first.lr_schedule,
                l2=first.l2,
                n_iter_no_change=first.n_iter_no_change,
            )
            try:
                train_stacked([member.run for member in group], plan)
            except Exception as error:
                # Alone, each fails or succeeds on its own account.
                warnings.warn(
                    f"{len(group)} trainings side by side failed ({error!r}); each is "
                    "made alone.",
                    UserWarning,
                    stacklevel=3,
                )
                continue
            for member in group:
                member.end()


def plain(estimator: V2SClassifier) -> V2SClassifier:
    """Return a classifier in the same state that takes part in nothing."""
    if not isinstance(estimator, _Member):
        return estimator
    classifier = V2SClassifier()
    classifier.__dict__.update(estimator.__dict__)
    for name in _OF_MEMBER:
        classifier.__dict__.pop(name, None)
    # It may have been fitted for another setting that differs in nothing but this.
    perturbation = classifier.net_.module_.reprogrammed.perturbation
    perturbation.dropout = classifier.dropout
    return classifier


class _Outputs:
    """Source outputs of series, found by what the series are."""

    def __init__(self) -> None:
        self.position: dict[bytes, int] = {}
        self.parts: SourceOutputs | None = None

    def add(self, keys: Iterable[bytes], found: SourceOutputs) -> None:
        """Take in the outputs of series that are not there yet."""
        for key in keys:
            self.position[key] = len(self.position)
        if self.parts is None:
            self.parts = found
        else:
            pairs = zip(self.parts, found, strict=True)
            self.parts = SourceOutputs(*(np.concatenate(pair) for pair in pairs))


class _Member(V2SClassifier):
    """A classifier that looks up what others have computed."""

    run: Run
    _shared: SharedFits
    _key: tuple[Hashable, str]
    # Series, features of the views without training, classes and weights.
    _held: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    _waits = False

    def __sklearn_clone__(self) -> Self:
        cloned = super().__sklearn_clone__()
        cloned._shared = self._shared
        return cloned

    def _setting(self) -> tuple[Any, ...]:
        """Return the searched parameters that make a difference."""
        mapping = self.label_mapping
        chooses = isinstance(mapping, str) and mapping not in ("bayesian", "linear")
        return (
            self.n_segments,
            self.mapping_size if chooses else None,
            self.dropout if self.max_epochs > 0 else None,
            self.max_epochs,
        )

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit, or take over what an equal fit found."""
        self._key = self._setting(), joblib.hash((X, y, sample_weight))
        fit = super().fit

        def compute() -> dict[str, Any]:
            fit(X, y, sample_weight)
            return self._fitted()

        found = self._shared.once(("fit", *self._key), compute)
        if isinstance(found, Exception):
            raise found
        self.__dict__.update(found)
        return self

    def _fitted(self) -> dict[str, Any]:
        """Return what a fit has set."""
        other = {*self.get_params(deep=False), *_OF_MEMBER}
        return {name: v for name, v in self.__dict__.items() if name not in other}

    def begin(self, X: Any, y: Any, sample_weight: Any = None) -> bool:
        """Do what `fit` does before the training; return whether there is any to do."""
        if self.max_epochs == 0:
            return False
        self._key = self._setting(), joblib.hash((X, y, sample_weight))
        if self._shared.knows(("fit", *self._key)):
            return False
        self._waits = True
        try:
            super().fit(X, y, sample_weight)
        except Exception as error:
            # Whoever asks for this fit is to see it.
            self._shared.tell(("fit", *self._key), error)
            return False
        return True

    def _train(
        self,
        series: np.ndarray,
        fixed: np.ndarray,
        codes: np.ndarray,
        weight: np.ndarray,
    ) -> None:
        if not self._waits:
            super()._train(series, fixed, codes, weight)
            return
        # Held once for all settings. The features, too, for those at hand are a part
        # of the array that the label mapping has read.
        self._held = self._shared.once(
            ("held", self._key[1]),
            lambda: (series, self._fixed_features(series), codes, weight),
        )
        train, validation = self._shared.once(("parts", self._key[1]), self._parts)
        self.run = Run(self._module, train, validation, self._shuffle_seed)

    def _parts(self) -> tuple[Part, Part | None]:
        series, fixed, codes, weight = self._held

        def part(rows: np.ndarray) -> Part:
            mean = weight[rows].mean()
            return Part(series[rows], fixed[rows], codes[rows], weight[rows] / mean)

        train, validation = self._split(codes)
        return part(train), None if validation is None else part(validation)

    def _finish(self) -> None:
        if not self._waits:
            super()._finish()

    def end(self) -> None:
        """Do what `fit` does after the training, and tell the others."""
        self._waits = False

        try:
            with self._unchanged_on_failure():
                self._check_convergence(len(self.run.history))
                self._fit_mapping_again(*self._held)
                self._finish()
        except Exception as error:
            self._shared.tell(("fit", *self._key), error)
            return
        self.history_ = self.run.history
        self.n_iter_ = len(self.history_)
        self._shared.tell(("fit", *self._key), self._fitted())

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of the target classes."""
        found = self._shared.once(
            ("predict_proba", *self._key, joblib.hash(X)),
            partial(super().predict_proba, X),
        )
        return found.copy()

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy."""
        return self._shared.once(
            ("score", *self._key, joblib.hash((X, y, sample_weight))),
            partial(super().score, X, y, sample_weight),
        )

    def _new_reprogrammed(self, source: Any, seeds: list[int]) -> ReprogrammedSource:
        if self.max_epochs > 0:
            return super()._new_reprogrammed(source, seeds)
        return self._shared.once(
            ("module", self.n_segments, self.n_channels_in_, self.n_timepoints_in_),
            partial(super()._new_reprogrammed, source, seeds),
        )

    def _fit_fixed_views(
        self, source: Any, series: np.ndarray, normalised: np.ndarray, seed: int
    ) -> None:
        fit = super()._fit_fixed_views
        if self.views_ == ("replicas",):
            fit(source, series, normalised, seed)
            return

        def compute() -> Any:
            fit(source, series, normalised, seed)
            return self._fixed_views

        key = "views", joblib.hash((series, normalised)), seed
        self._fixed_views = self._shared.once(key, compute)

    def _fixed_features(self, series: np.ndarray) -> np.ndarray:
        if not self._fixed_views:
            return super()._fixed_features(series)
        # The views stay alive as long as the search, and with them their identity.
        return self._shared.once(
            ("features", id(self._fixed_views), joblib.hash(series)),
            partial(super()._fixed_features, series),
        )

    def _collect(self, module: ReprogrammedSource, series: np.ndarray) -> SourceOutputs:
        if self.max_epochs == 0:
            return self._collect_by_row(module, series)
        if not self._waits:
            # Nobody else has this perturbation: it was trained.
            return super()._collect(module, series)
        # The same rows as if it were alone: even rounding can grow in a training.
        key = "outputs", *self._heard(module, series), joblib.hash(series)
        return self._shared.once(key, partial(super()._collect, module, series))

    def _heard(
        self, module: ReprogrammedSource, series: np.ndarray
    ) -> tuple[Hashable, ...]:
        """Return what decides source outputs beside the series."""
        perturbation = module.perturbation
        arrays = [
            tensor.detach().cpu().numpy()
            for tensor in (perturbation.effective(), perturbation.gain)
        ]
        return self.n_segments, series.shape[1:], joblib.hash(arrays)

    def _collect_by_row(
        self, module: ReprogrammedSource, series: np.ndarray
    ) -> SourceOutputs:
        """Return source outputs; only those of series not heard before are computed."""
        known = self._shared.outputs.setdefault(self._heard(module, series), _Outputs())
        keys = [row.tobytes() for row in np.ascontiguousarray(series)]
        new = {key: row for row, key in enumerate(keys) if key not in known.position}
        if new:
            # Nothing is lost: that is the precision in which they were computed.
            exact = np.float64 if self._dtype == torch.float64 else np.float32
            found = super()._collect(module, series[list(new.values())])
            known.add(new, SourceOutputs(*(part.astype(exact) for part in found)))
        assert known.parts is not None
        rows = [known.position[key] for key in keys]
        return SourceOutputs(*(part[rows].astype(np.float64) for part in known.parts))


# Errors and warnings name the class that the user knows.
_Member.__name__ = _Member.__qualname__ = V2SClassifier.__name__
