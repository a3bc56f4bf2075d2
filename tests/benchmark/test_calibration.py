# SPDX-License-Identifier: Apache-2.0
"""Probabilities for heads that have decision scores only."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeClassifierCV
from sklearn.metrics import log_loss

from sklearn_v2s.benchmark.calibration import CalibratedHead, class_scores, find_head
from sklearn_v2s.benchmark.methods import resolve_method
from tests.small import make_series


class Spoken(ClassifierMixin, BaseEstimator):
    """Its features are the scores of the classes 0, 1, ...; one column for two."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Spoken":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0] if X.shape[1] == 1 else X[:, self.classes_]


def calibrate(X: Any, y: Any, **parameters: Any) -> CalibratedHead:
    head = RidgeClassifierCV(alphas=np.logspace(-3, 3, 10)).fit(X, y)
    return CalibratedHead(head, **parameters).fit(X, y)


@pytest.mark.parametrize("factor", [0.3, 2.0, 8.0])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_known_factor_is_found(factor: float, n_classes: int):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6000, 1 if n_classes == 2 else n_classes))
    logits = np.column_stack([-scores, scores]) if n_classes == 2 else scores
    logs = factor * logits + rng.gumbel(size=(6000, n_classes))
    y = logs.argmax(axis=1)
    calibrated = CalibratedHead(Spoken().fit(scores, y)).fit(scores, y)
    assert calibrated.factor_ == pytest.approx(factor, rel=0.1)
    np.testing.assert_allclose(
        calibrated.predict_proba(scores), softmax(calibrated.factor_ * logits, axis=1)
    )


def test_a_class_of_one_series_does_not_spoil_the_factor():
    rng = np.random.default_rng(0)
    scores = np.full((3001, 4), -50.0)
    scores[:, :3] = 20 + rng.normal(size=(3001, 3))
    y = (2 * scores[:, :3] + rng.gumbel(size=(3001, 3))).argmax(axis=1)
    # No head can know this one when it is left out.
    y[0], scores[0, 0] = 3, 1000
    calibrated = CalibratedHead(Spoken().fit(scores, y)).fit(scores, y)
    assert calibrated.factor_ == pytest.approx(2, rel=0.1)


def test_scores_of_a_class_that_was_not_seen_are_those_of_its_regression():
    rng = np.random.default_rng(0)
    X, new, classes = rng.normal(size=(30, 4)), rng.normal(size=(5, 4)), np.arange(4)
    for seen in ([0, 3], [0, 1, 3]):
        y = rng.choice(seen, 30)
        targets = np.where(y[:, None] == classes, 1.0, -1.0)
        expected = Ridge().fit(X, targets).predict(new)
        found = class_scores(RidgeClassifier().fit(X, y), new, classes)
        np.testing.assert_allclose(found, expected, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 7), min_size=2, max_size=5),
)
def test_predictions_are_those_of_the_head(seed: int, sizes: list[int]):
    """Also where classes have one series: nothing is raised, nothing is warned of."""
    rng = np.random.default_rng(seed)
    y = np.repeat([f"class {index}" for index in range(len(sizes))], sizes)
    X = rng.normal(size=(len(y), 3)) + np.repeat(np.arange(len(sizes)), sizes)[:, None]
    calibrated = calibrate(X, y, random_state=seed)
    new = rng.normal(size=(20, 3))
    proba = calibrated.predict_proba(new)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    labels = calibrated.head.classes_[proba.argmax(axis=1)]
    assert labels.tolist() == calibrated.head.predict(new).tolist()


@pytest.mark.parametrize("sizes", [(1, 1), (1, 5), (1, 1, 1)])
def test_too_small_to_say(sizes: tuple[int, ...]):
    y = np.repeat(np.arange(len(sizes)), sizes)
    X = np.random.default_rng(0).normal(size=(len(y), 3))
    calibrated = calibrate(X, y)
    assert np.isfinite(calibrated.factor_)
    if max(sizes) == 1:
        assert calibrated.factor_ == 1.0


def test_separable_training_data_does_not_make_certain():
    y = np.arange(40) % 2
    X = np.where(y, 1.0, -1.0)[:, None] + np.random.default_rng(0).normal(
        scale=0.05, size=(40, 1)
    )
    proba = calibrate(X, y).predict_proba(X)
    # One more series of either class weighs 1 in 41.
    assert 0.95 < proba.max(axis=1).mean() < 0.999


def test_it_helps_on_unseen_data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 30))
    y = (X[:, 0] + rng.normal(size=400) > 0).astype(int)
    calibrated = calibrate(X[:60], y[:60])
    found = log_loss(y[60:], calibrated.predict_proba(X[60:]))
    scores = calibrated.head.decision_function(X[60:])
    certain = softmax(50 * np.column_stack([-scores, scores]), axis=1)
    assert found < np.log(2) < log_loss(y[60:], certain)


def test_folds_depend_on_the_seed_only():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(31, 4)), rng.integers(0, 3, 31)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    factors = [calibrate(X, y, random_state=seed).factor_ for seed in (0, 0, 1)]
    assert factors[0] == factors[1] != factors[2]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_unknown_classifiers_are_refused():
    with pytest.raises(TypeError, match="DummyClassifier has no head"):
        find_head(DummyClassifier())


@pytest.fixture
def own_state() -> Iterator[None]:
    """Give back what aeon's classifiers change: numpy's generator, torch's threads."""
    state, threads = np.random.get_state(), torch.get_num_threads()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("own_state")
@pytest.mark.parametrize("name", ["minirocket", "rocket", "multirocket-hydra"])
def test_rocket_family_keeps_its_predictions(name: str):
    pytest.importorskip("aeon", reason="the ROCKET family is aeon's")
    for n_classes in (2, 3):
        X, y = make_series(78, n_classes, 16)
        # Hard enough for some errors, on which the own probabilities are 0.
        X = X + np.random.default_rng(0).normal(size=X.shape)
        X, y, X_new, y_new = X[:18], y[:18], X[18:], y[18:]
        estimator = resolve_method(name).make(0, 1).fit(X, y)
        head, transform = find_head(estimator)
        calibrated = CalibratedHead(head).fit(transform(X), y)
        proba = calibrated.predict_proba(transform(X_new))
        own = estimator.predict(X_new)
        assert head.classes_[proba.argmax(axis=1)].tolist() == own.tolist()
        # aeon's own are zeros and ones; these are not, and are worth more.
        assert 0 < proba.min() < proba.max() < 1
        assert (own != y_new).any()
        assert log_loss(y_new, proba) < log_loss(y_new, estimator.predict_proba(X_new))
