# SPDX-License-Identifier: Apache-2.0
"""The classifier: what it learns, returns, keeps, and works together with."""

import copy
import pickle
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import estimator_html_repr
from sklearn.utils.class_weight import compute_sample_weight
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_v2s import V2SClassifier
from sklearn_v2s.label_mapping import (
    BayesianLabelMapping,
    ContiguousLabelMapping,
    FrequencyLabelMapping,
    IterativeLabelMapping,
    LinearLabelMapping,
    RandomLabelMapping,
)
from sklearn_v2s.sources import list_sources, load_source
from tests.small import WORDS, make_classifier, make_series

MAPPINGS = {
    "random": RandomLabelMapping,
    "contiguous": ContiguousLabelMapping,
    "frequency": FrequencyLabelMapping,
    "iterative": IterativeLabelMapping,
    "bayesian": BayesianLabelMapping,
    "linear": LinearLabelMapping,
}
OUTPUT_OF = {name: "logits" for name in MAPPINGS} | {"linear": "embedding"}


@pytest.fixture
def make(tiny_source):
    """Return a function that makes classifiers on the tiny source."""

    def make_on_tiny_source(**parameters):
        return make_classifier(tiny_source, **parameters)

    return make_on_tiny_source


# --- labels --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(np.array([-1, 1]), id="minus one and one"),
        pytest.param(np.array([3, 4, 5, 6, 7, 8]), id="3 to 8"),
        pytest.param(np.array(["down", "up"]), id="strings"),
        pytest.param(np.array([False, True]), id="booleans"),
        pytest.param(np.array(["a", "b", "c"], dtype=object), id="objects"),
        pytest.param(np.array([0.0, 2.0]), id="whole floats"),
    ],
)
@pytest.mark.parametrize("mapping", ["linear", "random"])
def test_labels_of_any_kind_give_the_same_predictions_up_to_their_names(
    make, names, mapping
):
    X, codes = make_series(n_classes=len(names))
    setting = {"label_mapping": mapping, "source_output": OUTPUT_OF[mapping]}
    plain = make(**setting).fit(X, codes)
    named = make(**setting).fit(X, names[codes])
    assert_array_equal(named.classes_, names)
    assert named.classes_.dtype == names.dtype
    assert_array_equal(named.predict_proba(X), plain.predict_proba(X))
    assert_array_equal(named.predict(X), names[plain.predict(X)])
    assert len(np.unique(named.predict(X))) > 1
    assert named.predict(X).dtype == names.dtype


def test_labels_may_come_as_a_list(make):
    X, codes = make_series()
    names = np.array(["no", "yes"])
    fitted = make(max_epochs=0).fit(X, names[codes].tolist())
    assert_array_equal(
        fitted.predict(X), make(max_epochs=0).fit(X, names[codes]).predict(X)
    )


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_class_may_have_one_sample(make, mapping, early_stopping):
    X, y = make_series(n=31)
    y[7] = 2
    fitted = make(
        label_mapping=mapping,
        source_output=OUTPUT_OF[mapping],
        early_stopping=early_stopping,
    ).fit(X, y)
    assert_array_equal(fitted.classes_, [0, 1, 2])
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (31, 3)
    assert np.isfinite(probabilities).all()


@pytest.mark.parametrize("label", [4, "up"])
def test_one_class_alone_is_an_error(make, label):
    X, _ = make_series(n=6)
    with pytest.raises(ValueError, match=f"only one class: {label!r}"):
        make().fit(X, [label] * 6)


def test_one_class_with_a_positive_weight_is_an_error(make):
    X, y = make_series(n=6)
    with pytest.raises(ValueError, match="only one class: 0"):
        make().fit(X, y, sample_weight=1.0 - y)


# --- shapes of series ----------------------------------------------------------------


def test_a_single_channel_may_have_its_own_axis(make):
    X, y = make_series()
    flat, deep = make().fit(X, y), make().fit(X[:, None, :], y)
    for series in (X, X[:, None, :]):
        assert_array_equal(deep.predict_proba(series), flat.predict_proba(X))
        assert_array_equal(flat.predict_proba(series), flat.predict_proba(X))
    for fitted in (flat, deep):
        shape = fitted.n_features_in_, fitted.n_channels_in_, fitted.n_timepoints_in_
        assert shape == (24, 1, 24)


def test_each_of_several_channels_is_heard_in_its_own_place(make):
    X, y = make_series(n_channels=3)
    fitted = make(n_segments=2).fit(X, y)
    shape = fitted.n_features_in_, fitted.n_channels_in_, fitted.n_timepoints_in_
    assert shape == (72, 3, 24)
    for channel in range(3):
        changed = X.copy()
        changed[:, channel] += 1.0
        parts = (fitted.reprogram(changed) != fitted.reprogram(X)).any(axis=(0, 1))
        heard = np.flatnonzero(parts)
        start = channel * (400 // 3)
        assert heard[0] == start
        assert heard[-1] < start + 400 // 3
        assert not np.array_equal(
            fitted.predict_proba(changed), fitted.predict_proba(X)
        )


def test_series_of_unequal_length_are_padded_with_silence(make):
    X, y = make_series()
    cut = [series[: 24 - position % 5] for position, series in enumerate(X)]
    fitted = make().fit(cut, y)
    assert fitted.unequal_length_
    assert fitted.n_timepoints_in_ == 24
    assert fitted.score(cut, y) > 0.8
    # Series 4 has 20 points: the last four of its first replica are silent.
    silence = fitted.reprogram([cut[4]])[0] - fitted.perturbation_
    assert_array_equal(silence[:, 20:24], 0.0)
    assert (silence[:, :20] != 0).all()


def test_series_of_unequal_length_may_have_channels(make):
    X, y = make_series(n_channels=2)
    cut = [series[:, : 24 - position % 5] for position, series in enumerate(X)]
    fitted = make().fit(cut, y)
    assert (fitted.n_channels_in_, fitted.n_timepoints_in_) == (2, 24)
    assert fitted.predict_proba(cut).shape == (36, 2)


def test_shorter_series_may_be_predicted_after_a_fit_on_unequal_ones(make):
    X, y = make_series()
    cut = [series[: 24 - position % 5] for position, series in enumerate(X)]
    fitted = make().fit(cut, y)
    short = X[:, :9]
    as_table = fitted.predict_proba(short)
    assert_array_equal(fitted.predict_proba(short[:, None, :]), as_table)
    one_by_one = [fitted.predict_proba([series])[0] for series in short]
    assert_allclose(one_by_one, as_table, atol=1e-5)


def test_a_longer_series_than_in_fit_is_an_error(make):
    X, y = make_series()
    fitted = make(max_epochs=0).fit([*X[:-1], X[-1, :20]], y)
    with pytest.raises(ValueError, match=r"25 time points.*seen in fit has 24"):
        fitted.predict([X[0], np.zeros(25)])


def test_unequal_series_need_a_fit_on_unequal_series(make):
    X, y = make_series()
    fitted = make(max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match=r"expecting 24 time points.*unequal"):
        fitted.predict([X[0], X[1, :20]])


def test_a_list_of_series_of_one_length_is_a_table(make):
    X, y = make_series()
    assert_array_equal(
        make().fit(list(X), y).predict_proba(list(X)),
        make().fit(X, y).predict_proba(X),
    )


def test_a_series_longer_than_the_waveform_is_resampled_with_one_warning(make):
    X, y = make_series(n=8, n_timepoints=900)
    with pytest.warns(UserWarning, match="900 time points.*resampled to 400") as seen:
        fitted = make(n_segments="auto").fit(X, y)
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted.predict_proba(X).shape == (8, 2)


def test_missing_values_are_interpolated_where_asked_for(make):
    X, y = make_series()
    X[:, 10] = (X[:, 9] + X[:, 11]) / 2
    holes = X.copy()
    holes[:, 10] = np.nan
    filled = make(missing="interpolate").fit(holes, y)
    assert_allclose(
        filled.predict_proba(holes), make().fit(X, y).predict_proba(X), atol=1e-5
    )


# --- what fit leaves -----------------------------------------------------------------


@pytest.mark.parametrize("n_views", [1, 3])
def test_fit_sets_the_documented_attributes(make, n_views):
    X, y = make_series()
    fitted = make(n_views=n_views).fit(X, y)
    assert_array_equal(fitted.classes_, [0, 1])
    assert fitted.perturbation_.shape == (n_views, 400)
    assert fitted.perturbation_.dtype == np.float32
    assert_allclose(fitted.input_gain_, [0.5] * n_views, rtol=1e-6)
    assert isinstance(fitted.label_mapping_, LinearLabelMapping)
    assert_array_equal(fitted.label_mapping_.classes_, [0, 1])
    assert isinstance(fitted.net_, NeuralNet)
    assert [row["epoch"] for row in fitted.history_] == [1, 2, 3]
    for row in fitted.history_:
        assert set(row) == {"epoch", "train_loss", "train_accuracy", "dur"}
        assert all(type(value) is float for value in row.values())
    assert fitted.n_iter_ == 3
    assert type(fitted.n_iter_) is int
    shape = fitted.n_features_in_, fitted.n_channels_in_, fitted.n_timepoints_in_
    assert shape == (24, 1, 24)
    assert fitted.unequal_length_ is False


def test_fit_returns_the_classifier(make):
    X, y = make_series()
    classifier = make(max_epochs=0)
    assert classifier.fit(X, y) is classifier
    assert classifier.partial_fit(X, y) is classifier


def test_training_changes_the_perturbation_and_lowers_the_loss(make):
    X, y = make_series()
    start, end = make(max_epochs=0).fit(X, y), make(max_epochs=8).fit(X, y)
    assert start.history_ == []
    assert start.n_iter_ == 0
    assert (start.perturbation_ != end.perturbation_).mean() > 0.9
    assert end.history_[-1]["train_loss"] < end.history_[0]["train_loss"]


def test_the_gain_is_learned_where_asked_for(make):
    X, y = make_series()
    fixed, learned = make().fit(X, y), make(train_gain=True).fit(X, y)
    assert_allclose(fixed.input_gain_, 0.5, rtol=1e-6)
    assert (learned.input_gain_ != np.float32(0.5)).all()
    assert (learned.input_gain_ > 0).all()


def test_a_failed_fit_leaves_the_classifier_unfitted(make):
    X, y = make_series()
    classifier = make(**WORDS, mapping_size=50)
    with pytest.raises(ValueError, match="mapping_size=50"):
        classifier.fit(X, y)
    assert not [name for name in vars(classifier) if name.endswith("_")]


def test_a_failed_fit_leaves_the_previous_one_as_it_was(make):
    class Failing(Callback):
        def on_batch_end(self, net, **kwargs):
            raise RuntimeError("a callback failed")

    X, y = make_series()
    classifier = make().fit(X, y)
    before = classifier.predict_proba(X)
    state = set(vars(classifier))
    other, names = make_series(n_timepoints=30, n_classes=3)
    for warm_start in (False, True):
        classifier.set_params(callbacks=[Failing()], warm_start=warm_start)
        data = (X, y) if warm_start else (other, names)
        with pytest.raises(RuntimeError, match="a callback failed"):
            classifier.fit(*data)
        assert_array_equal(classifier.predict_proba(X), before)
        assert set(vars(classifier)) == state


def test_a_failed_partial_fit_changes_nothing(make):
    class Failing(Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.history[-1, "batches"]) == 2:
                raise RuntimeError("a callback failed")

    X, y = make_series()
    classifier = make().fit(X, y)
    before = classifier.predict_proba(X)
    size = len(pickle.dumps(classifier))
    classifier.set_params(callbacks=[Failing()])
    with pytest.raises(RuntimeError, match="a callback failed"):
        classifier.partial_fit(X, y)
    classifier.set_params(callbacks=None, lr=1e30)
    with pytest.raises(ValueError, match="diverged"):
        classifier.partial_fit(X, y)
    assert_array_equal(classifier.predict_proba(X), before)
    assert len(classifier.net_.history) == classifier.n_iter_ == 3
    assert abs(len(pickle.dumps(classifier.set_params(lr=0.02))) - size) < 100
    classifier.partial_fit(X, y)
    assert classifier.n_iter_ == 4
    assert np.isfinite(classifier.perturbation_).all()


def test_a_diverged_training_is_an_error_that_names_the_learning_rate(make):
    X, y = make_series()
    with pytest.raises(ValueError, match=r"diverged.*lr=1e\+30.*smaller lr"):
        make(lr=1e30, l2=1e30).fit(X, y)


# --- probabilities and decisions -----------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_probabilities_predictions_and_decisions_agree(make, mapping, n_classes):
    X, y = make_series(n_classes=n_classes)
    fitted = make(label_mapping=mapping, source_output=OUTPUT_OF[mapping]).fit(X, y)
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (36, n_classes)
    assert probabilities.dtype == np.float64
    assert (probabilities > 0).all()
    assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
    assert len(np.unique(probabilities)) > 36
    assert_array_equal(fitted.predict(X), probabilities.argmax(axis=1))
    assert_allclose(np.exp(fitted.predict_log_proba(X)), probabilities, rtol=1e-12)
    decision = fitted.decision_function(X)
    if n_classes == 2:
        assert decision.shape == (36,)
        assert_array_equal(fitted.predict(X), (decision > 0).astype(int))
        assert_allclose(1 / (1 + np.exp(-decision)), probabilities[:, 1], rtol=1e-9)
    else:
        assert_array_equal(decision.argmax(axis=1), fitted.predict(X))
    assert fitted.score(X, y) == np.mean(fitted.predict(X) == y)


def test_probabilities_do_not_depend_on_the_neighbours(make):
    X, y = make_series()
    fitted = make(precision="float64").fit(X, y)
    alone = np.vstack([fitted.predict_proba(series[None]) for series in X])
    assert_allclose(alone, fitted.predict_proba(X), rtol=1e-9)


# --- label mappings ------------------------------------------------------------------


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_mapping_may_be_named_or_handed_in(make, name):
    X, y = make_series(n_classes=3)
    output = OUTPUT_OF[name]
    named = make(label_mapping=name, source_output=output).fit(X, y)
    assert type(named.label_mapping_) is MAPPINGS[name]
    instance = MAPPINGS[name]()
    handed = make(label_mapping=instance, source_output=output).fit(X, y)
    assert handed.label_mapping_ is not instance
    assert not [name for name in vars(instance) if name.endswith("_")]
    assert_array_equal(handed.predict_proba(X), named.predict_proba(X))


@pytest.mark.parametrize("name", ["random", "contiguous", "frequency", "iterative"])
def test_mapping_size_reaches_the_mapping(make, name):
    X, y = make_series(n_classes=3)
    fitted = make(label_mapping=name, source_output="logits", mapping_size=2).fit(X, y)
    assert fitted.label_mapping_.source_indices_.shape == (3, 2)
    largest = make(label_mapping=name, source_output="logits").fit(X, y)
    assert largest.label_mapping_.source_indices_.shape == (3, 4)
    assert not np.array_equal(fitted.predict_proba(X), largest.predict_proba(X))


@pytest.mark.parametrize("name", ["random", "contiguous", "frequency", "iterative"])
def test_a_mapping_size_that_is_too_large_names_the_largest(make, name):
    X, y = make_series(n_classes=3)
    classifier = make(label_mapping=name, source_output="logits", mapping_size=5)
    with pytest.raises(ValueError, match=r"mapping_size=5.*largest.*is 4"):
        classifier.fit(X, y)


def test_parameters_of_a_mapping_that_was_handed_in_are_kept(make):
    X, y = make_series()
    mapping = RandomLabelMapping(mapping_size=2, random_state=5)
    fitted = make(
        label_mapping=mapping, source_output="logits", mapping_size=3, random_state=1
    ).fit(X, y)
    assert fitted.label_mapping_.get_params() == mapping.get_params()


def test_an_iterative_mapping_follows_the_training(make):
    X, y = make_series(n_classes=3, n=60)
    setting = {"source_output": "logits", "lr": 0.2, "mapping_size": 1}
    once = make(label_mapping="frequency", max_epochs=0, **setting).fit(X, y)
    fitted = make(label_mapping="iterative", max_epochs=6, **setting).fit(X, y)
    assert not np.array_equal(
        fitted.label_mapping_.source_indices_, once.label_mapping_.source_indices_
    )


def test_a_mapping_that_reads_words_needs_the_logits(make):
    X, y = make_series()
    with pytest.raises(
        ValueError, match=r"label_mapping='random'.*source_output='embedding'"
    ):
        make(label_mapping="random").fit(X, y)


@pytest.mark.parametrize("output", ["logits", "embedding", "both"])
def test_a_linear_mapping_reads_what_it_is_told_to(make, output):
    X, y = make_series()
    fitted = make(source_output=output).fit(X, y)
    expected = {"logits": 2 * 12, "embedding": 2 * 10, "both": 2 * 22}[output]
    assert fitted.label_mapping_.n_features_in_ == expected


def test_a_foreign_mapping_with_the_wrong_number_of_scores_is_an_error(make):
    X, y = make_series()
    with pytest.raises(ValueError, match=r"StandardScaler.*\(1, 20\).*2 classes"):
        make(label_mapping=StandardScaler()).fit(X, y)


# --- weights -------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_whole_weight_is_a_repetition(make, mapping):
    X, y = make_series(n=20)
    weight = np.random.default_rng(0).integers(1, 4, size=20)
    setting = {
        "label_mapping": mapping,
        "source_output": OUTPUT_OF[mapping],
        "precision": "float64",
        # One batch: which series share a batch would differ otherwise.
        "batch_size": 1000,
        "max_epochs": 5,
    }
    weighted = make(**setting).fit(X, y, sample_weight=weight)
    repeated = make(**setting).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    expected = repeated.predict_proba(X)
    assert_allclose(weighted.predict_proba(X), expected, rtol=1e-6, atol=1e-9)
    ignored = make(**setting).fit(X, y)
    assert np.abs(ignored.predict_proba(X) - expected).max() > 1e-4


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_weight_of_zero_is_a_removal(make, mapping, early_stopping):
    X, y = make_series()
    kept = np.random.default_rng(1).random(36) < 0.7
    X[~kept] *= 50.0
    setting = {
        "label_mapping": mapping,
        "source_output": OUTPUT_OF[mapping],
        "precision": "float64",
        "early_stopping": early_stopping,
    }
    weighted = make(**setting).fit(X, y, sample_weight=kept.astype(float))
    removed = make(**setting).fit(X[kept], y[kept])
    assert_array_equal(weighted.perturbation_, removed.perturbation_)
    assert_array_equal(weighted.predict_proba(X), removed.predict_proba(X))


def test_a_common_factor_of_all_weights_changes_nothing(make):
    X, y = make_series()
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=36)
    setting = {**WORDS, "precision": "float64"}
    once = make(**setting).fit(X, y, sample_weight=weight)
    larger = make(**setting).fit(X, y, sample_weight=8 * weight)
    assert_allclose(larger.perturbation_, once.perturbation_, rtol=1e-9)


def test_class_weights_multiply_the_sample_weights(make):
    X, y = make_series()
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=36)
    by_class = make(class_weight={0: 3.0, 1: 0.5}).fit(X, y, sample_weight=weight)
    by_sample = make().fit(X, y, sample_weight=weight * np.where(y == 0, 3.0, 0.5))
    assert_array_equal(by_class.predict_proba(X), by_sample.predict_proba(X))
    plain = make().fit(X, y, sample_weight=weight)
    assert not np.array_equal(by_class.predict_proba(X), plain.predict_proba(X))


def test_class_weights_are_named_by_the_labels_of_the_user(make):
    X, y = make_series()
    names = np.array(["no", "yes"])
    named = make(class_weight={"yes": 4.0}).fit(X, names[y])
    coded = make(class_weight={1: 4.0}).fit(X, y)
    assert_array_equal(named.predict_proba(X), coded.predict_proba(X))


def test_balanced_class_weights_are_those_of_scikit_learn(make):
    X, y = make_series()
    X, y = X[:25], np.where(np.arange(25) < 6, 0, 1)
    setting = {"precision": "float64"}
    balanced = make(class_weight="balanced", **setting).fit(X, y)
    weight = compute_sample_weight("balanced", y)
    by_sample = make(**setting).fit(X, y, sample_weight=weight)
    assert_allclose(balanced.predict_proba(X), by_sample.predict_proba(X), rtol=1e-6)
    plain = make(**setting).fit(X, y)
    assert np.abs(plain.predict_proba(X) - balanced.predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("mapping", ["linear", "bayesian", "iterative"])
def test_a_class_of_weight_zero_stays_a_class(make, mapping):
    X, y = make_series(n_classes=3)
    fitted = make(
        label_mapping=mapping,
        source_output=OUTPUT_OF[mapping],
        class_weight={1: 0.0},
    ).fit(X, y)
    assert_array_equal(fitted.classes_, [0, 1, 2])
    assert fitted.predict_proba(X).shape == (36, 3)


# --- early stopping ------------------------------------------------------------------


def test_early_stopping_returns_the_epoch_with_the_least_validation_loss(make):
    X, y = make_series()
    setting = {"early_stopping": True, "lr": 0.3, "n_iter_no_change": 3}
    stopped = make(max_epochs=200, **setting).fit(X, y)
    losses = [row["valid_loss"] for row in stopped.history_]
    best = int(np.argmin(losses)) + 1
    assert stopped.n_iter_ == best + 3 < 200
    there = make(max_epochs=best, **setting).fit(X, y)
    assert_array_equal(stopped.perturbation_, there.perturbation_)
    assert_array_equal(stopped.predict_proba(X), there.predict_proba(X))


def test_early_stopping_says_nothing_of_an_interruption(make):
    X, y = make_series()
    classifier = make(early_stopping=True, lr=0.3, n_iter_no_change=1, max_epochs=200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert classifier.fit(X, y).n_iter_ < 200


def test_early_stopping_needs_a_class_with_two_samples(make):
    X, y = make_series(n=2)
    with pytest.raises(ValueError, match=r"early_stopping=True.*at least 2 samples"):
        make(early_stopping=True).fit(X, y)


# --- going on ------------------------------------------------------------------------


def test_warm_start_goes_on_from_the_previous_perturbation(make):
    X, y = make_series()
    classifier = make(warm_start=True).fit(X, y)
    first = classifier.perturbation_
    kept = first.copy()
    classifier.set_params(max_epochs=0).fit(X, y)
    assert_array_equal(classifier.perturbation_, kept)
    classifier.set_params(max_epochs=2).fit(X, y)
    assert classifier.n_iter_ == len(classifier.history_) == 2
    fresh = make(max_epochs=2).fit(X, y)
    assert not np.array_equal(classifier.perturbation_, fresh.perturbation_)
    moved = np.abs(classifier.perturbation_ - kept).max()
    assert 0 < moved < np.abs(classifier.perturbation_ - fresh.perturbation_).max()
    assert_array_equal(first, kept)


def test_warm_start_keeps_a_random_mapping(make):
    X, y = make_series()
    classifier = make(**WORDS, warm_start=True, random_state=None).fit(X, y)
    before = classifier.label_mapping_.source_indices_.copy()
    classifier.fit(X, y)
    assert_array_equal(classifier.label_mapping_.source_indices_, before)


def test_without_warm_start_fit_begins_anew(make):
    X, y = make_series()
    classifier = make().fit(X, y)
    before = classifier.perturbation_
    assert_array_equal(classifier.fit(X, y).perturbation_, before)


def test_warm_start_with_other_classes_is_an_error_and_changes_nothing(make):
    X, y = make_series()
    classifier = make(warm_start=True).fit(X, y)
    before = classifier.predict(X)
    with pytest.raises(ValueError, match=r"warm_start=True.*\[0, 1\].*\['a', 'b'\]"):
        classifier.fit(X, np.where(y == 0, "a", "b"))
    assert_array_equal(classifier.predict(X), before)


def test_warm_start_with_series_of_another_shape_is_an_error(make):
    X, y = make_series()
    classifier = make(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"20 features.*24 features"):
        classifier.fit(X[:, :20], y)
    with pytest.raises(ValueError, match=r"2 channels.*1 channels"):
        classifier.fit(X.reshape(36, 2, 12), y)
    assert classifier.n_channels_in_ == 1


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_partial_fit_lowers_the_loss_call_by_call(make, mapping):
    X, y = make_series()
    classifier = make(label_mapping=mapping, source_output=OUTPUT_OF[mapping], lr=0.01)
    losses = []
    for call in range(12):
        classifier.partial_fit(X, y)
        losses.append(log_loss(y, classifier.predict_proba(X)))
        assert classifier.n_iter_ == len(classifier.history_) == call + 1
    assert losses[-1] < losses[0]


def test_partial_fit_learns_classes_that_come_later(make):
    X, y = make_series(n_classes=3)
    classifier = make(lr=0.05)
    for label in (0, 1):
        classifier.partial_fit(X[y == label], y[y == label], classes=[2, 1, 0])
    assert_array_equal(classifier.classes_, [0, 1, 2])
    assert classifier.predict_proba(X).shape == (36, 3)
    for _ in range(15):
        for part in (slice(0, 18), slice(18, 36)):
            classifier.partial_fit(X[part], y[part])
    assert classifier.score(X, y) > 0.8


def test_partial_fit_needs_the_classes_that_are_yet_to_come(make):
    X, y = make_series(n_classes=3)
    classifier = make().partial_fit(X[y < 2], y[y < 2])
    with pytest.raises(ValueError, match=r"labels \[2\].*classes \[0, 1\]"):
        classifier.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"classes=\[0, 2\].*first call.*\[0, 1\]"):
        classifier.partial_fit(X, y, classes=[0, 2])


def test_partial_fit_refuses_series_of_another_length(make):
    X, y = make_series()
    classifier = make().partial_fit(X, y)
    with pytest.raises(ValueError, match=r"20 features.*24 features"):
        classifier.partial_fit(X[:, :20], y)


def test_partial_fit_goes_on_after_fit(make):
    X, y = make_series()
    classifier = make(lr_schedule="cosine", max_epochs=4).fit(X, y)
    before = classifier.perturbation_
    kept = before.copy()
    classifier.partial_fit(X, y)
    assert classifier.n_iter_ == 5
    moved = np.abs(classifier.perturbation_ - kept)
    # Three steps with the full learning rate, not with what the schedule left of it.
    assert 0.02 < moved.max() < 0.1
    assert_array_equal(before, kept)


@pytest.mark.parametrize("calls", [0, 1, 3])
@pytest.mark.parametrize("output", ["embedding", "both"])
def test_the_net_and_a_learned_mapping_say_the_same(make, calls, output):
    X, y = make_series(n_classes=3)
    classifier = make(source_output=output, precision="float64", lr=0.1).fit(X, y)
    for _ in range(calls):
        classifier.partial_fit(X, y)
    series = (X - X.mean()) / X.std()
    with torch.no_grad():
        scores = classifier.net_.module_(torch.from_numpy(series[:, None]))
    assert_allclose(np.exp(scores.numpy()), classifier.predict_proba(X), rtol=1e-6)


def test_partial_fit_takes_the_parameters_as_they_are_now(make):
    X, y = make_series()
    classifier = make().fit(X, y)
    before = classifier.perturbation_
    classifier.set_params(lr=1e-6, batch_size=36).partial_fit(X, y)
    steps = np.abs(classifier.perturbation_ - before).max() / 1e-6
    assert 0.1 < steps < 3.0


def test_a_whole_weight_is_a_repetition_in_partial_fit(make):
    X, y = make_series(n=20)
    weight = np.random.default_rng(0).integers(1, 4, size=20)
    setting = {"precision": "float64", "batch_size": 1000}
    weighted, repeated, plain = (make(**setting) for _ in range(3))
    for _ in range(3):
        weighted.partial_fit(X, y, sample_weight=weight)
        repeated.partial_fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
        plain.partial_fit(X, y)
    expected = repeated.predict_proba(X)
    assert_allclose(weighted.predict_proba(X), expected, rtol=1e-6, atol=1e-9)
    assert np.abs(plain.predict_proba(X) - expected).max() > 1e-4


# --- randomness and side effects -----------------------------------------------------

RANDOM_SETTING = {"dropout": 0.3, "early_stopping": True}


def test_the_same_random_state_gives_the_same_bits(make):
    X, y = make_series()
    one, two = (make(**RANDOM_SETTING).fit(X, y) for _ in range(2))
    assert_array_equal(one.perturbation_, two.perturbation_)
    assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_an_unset_random_state_of_a_mapping_is_that_of_the_classifier(make):
    X, y = make_series(n_classes=3)
    setting = {"label_mapping": RandomLabelMapping(), "source_output": "logits"}
    one, two = (make(**setting).fit(X, y) for _ in range(2))
    assert_array_equal(
        one.label_mapping_.source_indices_, two.label_mapping_.source_indices_
    )
    assert setting["label_mapping"].random_state is None


def test_another_random_state_gives_another_result(make):
    X, y = make_series()
    seeds = (0, 1, np.random.RandomState(2))
    results = [make(random_state=seed).fit(X, y).perturbation_ for seed in seeds]
    for position, result in enumerate(results):
        for other in results[:position]:
            assert (result != other).mean() > 0.9


def test_a_random_state_may_be_an_instance_that_goes_on(make):
    X, y = make_series()
    state = np.random.RandomState(0)
    first, second = (make(random_state=state).fit(X, y) for _ in range(2))
    assert_array_equal(first.perturbation_, make().fit(X, y).perturbation_)
    assert not np.array_equal(second.perturbation_, first.perturbation_)


def test_a_view_does_not_depend_on_how_many_there_are(make):
    X, y = make_series()
    two, three = (make(n_views=n, max_epochs=0).fit(X, y) for n in (2, 3))
    assert_array_equal(three.perturbation_[:2], two.perturbation_)


@pytest.mark.parametrize("source", ["tiny", "attrnn"])
def test_global_random_generators_are_left_alone(tiny_source, source):
    X, y = make_series(n=8)
    source = tiny_source if source == "tiny" else source
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    random.seed(5)
    before = np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate()  # noqa: NPY002
    setting = {"max_epochs": 1, "n_views": 1, "n_segments": 1, "batch_size": 8}
    classifier = make_classifier(source, **setting, **RANDOM_SETTING).fit(X, y)
    classifier.partial_fit(X, y)
    classifier.predict_proba(X)
    pickle.loads(pickle.dumps(classifier)).predict(X)
    assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]


def test_the_global_random_state_has_no_influence(make):
    X, y = make_series()
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        results.append(make(**RANDOM_SETTING).fit(X, y).perturbation_)
    assert_array_equal(*results)


@pytest.mark.parametrize("normalization", ["global", "series", None])
def test_inputs_may_be_read_only_and_are_not_changed(make, normalization):
    X, y = make_series()
    weight = np.linspace(0.5, 1.5, 36)
    inputs = (X, y, weight)
    copies = [array.copy() for array in inputs]
    for array in inputs:
        array.flags.writeable = False
    classifier = make(normalization=normalization)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(X, y, sample_weight=weight)
        classifier.partial_fit(X, y, sample_weight=weight)
        classifier.predict_proba(X)
        classifier.reprogram(X)
    for array, original in zip(inputs, copies, strict=True):
        assert_array_equal(array, original)


@pytest.mark.parametrize("train_gain", [False, True])
def test_the_source_is_bit_identical_after_fit(tiny_source, train_gain):
    tiny_source.train()
    before = copy.deepcopy(tiny_source.state_dict())
    X, y = make_series()
    classifier = make_classifier(tiny_source, train_gain=train_gain)
    classifier.fit(X, y).partial_fit(X, y)
    heard = classifier.net_.module_.reprogrammed.source
    assert heard is not tiny_source
    for source in (tiny_source, heard):
        assert source.state_dict().keys() == before.keys()
        for name, tensor in source.state_dict().items():
            assert torch.equal(tensor, before[name]), name
    assert tiny_source.training
    assert all(parameter.requires_grad for parameter in tiny_source.parameters())


def test_the_shared_source_is_bit_identical_after_fit():
    before = copy.deepcopy(load_source("attrnn").state_dict())
    X, y = make_series(n=8)
    make_classifier("attrnn", n_views=1, n_segments=1, max_epochs=1).fit(X, y)
    after = load_source("attrnn").state_dict()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    fresh = load_source("attrnn", torch.float64).state_dict()
    for name, tensor in fresh.items():
        assert torch.equal(tensor.to(before[name]), before[name]), name


# --- a citizen of scikit-learn -------------------------------------------------------


def test_clone_copies_parameters_and_nothing_else(make):
    X, y = make_series()
    classifier = make(label_mapping=LinearLabelMapping(solver="logistic"))
    copied = clone(classifier.fit(X, y))
    assert not hasattr(copied, "classes_")
    mine, theirs = classifier.get_params(), copied.get_params()
    assert mine.keys() == theirs.keys()
    objects = {"source", "label_mapping"}
    assert {name: mine[name] for name in mine.keys() - objects} == {
        name: theirs[name] for name in mine.keys() - objects
    }
    assert theirs["label_mapping__solver"] == "logistic"
    assert_array_equal(copied.fit(X, y).predict_proba(X), classifier.predict_proba(X))


def test_parameters_are_set_by_name_also_those_of_a_mapping():
    classifier = V2SClassifier(label_mapping=LinearLabelMapping())
    classifier.set_params(n_views=7, label_mapping__solver="logistic")
    assert classifier.get_params()["n_views"] == 7
    assert classifier.label_mapping.solver == "logistic"
    with pytest.raises(ValueError, match="Invalid parameter 'view'"):
        classifier.set_params(view=7)


def test_repr_shows_what_is_not_the_default():
    assert repr(V2SClassifier()) == "V2SClassifier()"
    text = repr(V2SClassifier(n_views=77, label_mapping="bayesian"))
    assert text == "V2SClassifier(label_mapping='bayesian', n_views=77)"


def test_the_html_repr_shows_the_state(make):
    X, y = make_series()
    classifier = make(max_epochs=0)
    assert "Not fitted" in estimator_html_repr(classifier)
    html = estimator_html_repr(classifier.fit(X, y))
    assert "V2SClassifier" in html
    assert "Not fitted" not in html


def test_it_works_in_a_pipeline(make):
    X, y = make_series()
    smooth = FunctionTransformer(lambda X: X[:, :20])
    pipeline = make_pipeline(smooth, make()).fit(X, y)
    assert_array_equal(
        pipeline.predict_proba(X), make().fit(X[:, :20], y).predict_proba(X[:, :20])
    )


@pytest.mark.slow
def test_a_grid_search_finds_the_same_with_any_number_of_processes(make):
    X, y = make_series(n_classes=3)
    grid = {"mapping_size": [1, 3], "dropout": [0.0, 0.4]}
    searches = [
        GridSearchCV(make(**WORDS), grid, cv=3, n_jobs=n_jobs, scoring="neg_log_loss")
        for n_jobs in (1, 2)
    ]
    one, two = (search.fit(X, y) for search in searches)
    assert one.best_params_ == two.best_params_
    scores = one.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 4
    for split in range(3):
        key = f"split{split}_test_score"
        assert_allclose(one.cv_results_[key], two.cv_results_[key], rtol=1e-5)
    assert_allclose(one.predict_proba(X), two.predict_proba(X), rtol=1e-5)


def test_cross_val_predict_gives_what_each_fold_predicts(make):
    X, y = make_series()
    folds = [(np.arange(18, 36), np.arange(18)), (np.arange(18), np.arange(18, 36))]
    seen = cross_val_predict(make(), X, y, cv=folds, method="predict_proba")
    for train, test in folds:
        expected = make().fit(X[train], y[train]).predict_proba(X[test])
        assert_array_equal(seen[test], expected)


def test_it_works_in_a_stack(make):
    X, y = make_series(n_classes=3)
    stack = StackingClassifier(
        [("v2s", make()), ("dummy", DummyClassifier())],
        final_estimator=LogisticRegression(),
        cv=3,
        stack_method="predict_proba",
    ).fit(X, y)
    assert stack.score(X, y) > 0.8
    assert stack.transform(X).shape == (36, 6)


@pytest.mark.parametrize("ensemble", [False, True])
def test_it_can_be_calibrated(make, ensemble):
    X, y = make_series()
    calibrated = CalibratedClassifierCV(make(), cv=3, ensemble=ensemble).fit(X, y)
    assert calibrated.score(X, y) > 0.8
    assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1.0)


def test_it_votes_with_others(make):
    X, y = make_series()
    members = [("one", make(random_state=1)), ("two", make(random_state=2))]
    vote = VotingClassifier(members, voting="soft").fit(X, y)
    expected = np.mean([model.fit(X, y).predict_proba(X) for _, model in members], 0)
    assert_allclose(vote.predict_proba(X), expected, rtol=1e-12)


def test_a_table_with_names_is_checked_by_them(make):
    pandas = pytest.importorskip("pandas")
    X, y = make_series()
    table = pandas.DataFrame(X, columns=[f"t{time}" for time in range(24)])
    fitted = make(max_epochs=0).fit(table, y)
    assert_array_equal(fitted.feature_names_in_, table.columns)
    assert_array_equal(
        fitted.predict_proba(table), make(max_epochs=0).fit(X, y).predict_proba(X)
    )
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(table[table.columns[::-1]])


def test_sample_weights_are_routed_through_a_pipeline(make):
    X, y = make_series()
    weight = np.where(y == 0, 6.0, 1.0)
    with config_context(enable_metadata_routing=True):
        step = make().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), step)
        pipeline.fit(X, y, sample_weight=weight)
        expected = make().fit(X, y, sample_weight=weight).predict_proba(X)
    assert_array_equal(pipeline.predict_proba(X), expected)
    assert not np.array_equal(make().fit(X, y).predict_proba(X), expected)


def test_sample_weights_are_routed_through_a_grid_search(make):
    X, y = make_series()
    weight = np.where(y == 0, 6.0, 1.0)
    folds = [(np.arange(18, 36), np.arange(18))]
    with config_context(enable_metadata_routing=True):
        classifier = make(max_epochs=1).set_fit_request(sample_weight=True)
        classifier.set_score_request(sample_weight=True)
        search = GridSearchCV(classifier, {"n_views": [1, 2]}, cv=folds)
        search.fit(X, y, sample_weight=weight)
        for position, n_views in enumerate((1, 2)):
            fitted = make(max_epochs=1, n_views=n_views)
            fitted.fit(X[18:], y[18:], sample_weight=weight[18:])
            expected = fitted.score(X[:18], y[:18], sample_weight=weight[:18])
            assert search.cv_results_["mean_test_score"][position] == expected
        whole = make(max_epochs=1, **search.best_params_)
        whole.fit(X, y, sample_weight=weight)
    assert_array_equal(search.predict_proba(X), whole.predict_proba(X))


# --- what the source hears and says --------------------------------------------------


@pytest.mark.parametrize("normalization", ["global", "series", None])
def test_reprogram_returns_gain_times_series_plus_perturbation(make, normalization):
    X, y = make_series()
    fitted = make(train_gain=True, normalization=normalization).fit(X, y)
    if normalization == "global":
        normalised = (X - X.mean()) / X.std()
    elif normalization == "series":
        normalised = (X - X.mean(1, keepdims=True)) / X.std(1, keepdims=True)
    else:
        normalised = X
    placed = np.zeros((36, 400))
    # 16 whole series fit into 400 samples: three replicas stand 5 series apart.
    for start in (0, 120, 240):
        placed[:, start : start + 24] = normalised
    gain = fitted.input_gain_[None, :, None]
    expected = gain * placed[:, None, :] + fitted.perturbation_
    waveforms = fitted.reprogram(X)
    assert waveforms.shape == (36, 2, 400)
    assert_allclose(waveforms, expected, atol=1e-6)


def test_source_outputs_are_those_of_the_source_on_the_reprogrammed(make, tiny_source):
    X, y = make_series()
    fitted = make(dropout=0.4).fit(X, y)
    logits, embedding = fitted.source_outputs(X)
    assert logits.shape == (36, 2, 12)
    assert embedding.shape == (36, 2, 10)
    waveforms = torch.from_numpy(fitted.reprogram(X))
    tiny_source.eval()
    for view in range(2):
        with torch.no_grad():
            expected = tiny_source(waveforms[:, view])
        assert_allclose(logits[:, view], expected.logits, rtol=1e-4, atol=1e-5)
        assert_allclose(embedding[:, view], expected.embedding, rtol=1e-4, atol=1e-5)


def test_a_masked_perturbation_is_zero_where_the_series_sit(make):
    X, y = make_series()
    fitted = make(mask=True, l2=0.0).fit(X, y)
    sits = np.zeros(400, dtype=bool)
    for start in (0, 120, 240):
        sits[start : start + 24] = True
    assert (fitted.perturbation_[:, sits] == 0).all()
    assert (fitted.perturbation_[:, ~sits] != 0).all()


@pytest.mark.parametrize("normalization", ["global", "series"])
def test_level_and_scale_of_the_series_do_not_matter(make, normalization):
    X, y = make_series()
    setting = {"normalization": normalization, "precision": "float64"}
    plain = make(**setting).fit(X, y)
    scaled = make(**setting).fit(1000.0 * X - 7.0, y)
    assert_allclose(
        scaled.predict_proba(1000.0 * X - 7.0), plain.predict_proba(X), rtol=1e-5
    )


def test_predictions_do_not_switch_dropout_on(make):
    X, y = make_series()
    fitted = make(dropout=0.5).fit(X, y)
    assert_array_equal(fitted.predict_proba(X), fitted.predict_proba(X))
    assert not fitted.net_.module_.training


# --- the paper -----------------------------------------------------------------------


def test_the_paper_preset_has_the_documented_parameters():
    expected = {
        "source_output": "logits",
        "n_views": 1,
        "n_segments": 1,
        "mask": True,
        "dropout": 0.0,
        "input_gain": 1.0,
        "train_gain": False,
        "label_mapping": "random",
        "mapping_size": None,
        "max_epochs": 100,
        "batch_size": 32,
        "lr": 0.05,
        "lr_schedule": "constant",
        "l2": 0.04,
        "early_stopping": True,
        "validation_fraction": 0.1,
        "normalization": None,
    }
    parameters = V2SClassifier.from_paper().get_params()
    assert {name: parameters[name] for name in expected} == expected
    assert parameters["n_iter_no_change"] >= parameters["max_epochs"]
    changed = V2SClassifier.from_paper(n_segments=4, lr=0.1)
    assert changed.get_params() == parameters | {"n_segments": 4, "lr": 0.1}


def test_the_paper_preset_is_algorithm_1(tiny_source):
    """Full batches, so that the order does not matter; written out independently."""
    X, y = make_series(n=15, n_classes=3)
    parameters = {
        "source": tiny_source,
        "n_segments": 3,
        "batch_size": 15,
        "early_stopping": False,
        "precision": "float64",
        "device": "cpu",
        "random_state": 4,
    }
    epochs = 6
    fitted = V2SClassifier.from_paper(max_epochs=epochs, **parameters).fit(X, y)
    start = V2SClassifier.from_paper(max_epochs=0, **parameters).fit(X, y)
    groups = fitted.label_mapping_.source_indices_
    assert groups.shape == (3, 4)
    assert len(np.unique(groups)) == 12

    mask = np.ones(400)
    padded = np.zeros((15, 400))
    for begin in (0, 120, 240):
        mask[begin : begin + 24] = 0
        padded[:, begin : begin + 24] = X
    mask, padded = torch.from_numpy(mask), torch.from_numpy(padded)
    source = copy.deepcopy(tiny_source).double().eval()
    theta = torch.from_numpy(start.perturbation_[0]).clone().requires_grad_()
    first, second = torch.zeros(400).double(), torch.zeros(400).double()
    for step in range(1, epochs + 1):
        words = torch.softmax(source(padded + mask * theta).logits, dim=1)
        classes = torch.stack([words[:, group].mean(1) for group in groups], dim=1)
        loss = -torch.log(classes[torch.arange(15), torch.from_numpy(y)]).mean()
        loss = loss + 0.04 * (mask * theta).square().sum()
        (gradient,) = torch.autograd.grad(loss, theta)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        size = (second / (1 - 0.999**step)).sqrt() + 1e-8
        with torch.no_grad():
            theta -= 0.05 * first / (1 - 0.9**step) / size
    assert_allclose(
        fitted.perturbation_[0], (mask * theta).detach().numpy(), rtol=1e-6, atol=1e-9
    )


def test_the_paper_preset_fits_from_end_to_end(tiny_source):
    X, y = make_series(n=60)
    setting = {"source": tiny_source, "device": "cpu", "random_state": 0}
    fitted = V2SClassifier.from_paper(n_segments=8, dropout=0.1, **setting).fit(X, y)
    assert fitted.perturbation_.shape == (1, 400)
    assert fitted.n_iter_ == 100
    losses = [row["valid_loss"] for row in fitted.history_]
    assert min(losses) < losses[0] - 0.1
    assert fitted.score(X, y) > 0.8


# --- progress, callbacks, interruption -----------------------------------------------


def test_verbose_shows_a_bar_and_prints_nothing(make, capsys):
    X, y = make_series()
    make(verbose=1).fit(X, y)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "epochs of training" in seen.err
    assert "3/3" in seen.err
    assert "train_loss" in seen.err


def test_without_verbose_nothing_is_shown(make, capsys):
    X, y = make_series()
    make(verbose=0, early_stopping=True).fit(X, y).partial_fit(X, y).predict(X)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "")


class Recorder(Callback):
    """Record the losses, and hold what no pickle can hold."""

    def __init__(self):
        self.losses = []
        self.unpicklable = (number for number in range(3))

    def on_epoch_end(self, net, **kwargs):
        self.losses.append(net.history[-1, "train_loss"])


def test_callbacks_are_called_in_fit_and_in_partial_fit(make):
    X, y = make_series()
    recorder = Recorder()
    classifier = make(callbacks=[recorder]).fit(X, y)
    assert recorder.losses == [row["train_loss"] for row in classifier.history_]
    for _ in range(2):
        classifier.partial_fit(X, y)
    assert len(recorder.losses) == 5
    assert recorder.losses == [row["train_loss"] for row in classifier.history_]


def test_the_fitted_state_holds_no_callbacks(make):
    X, y = make_series()
    classifier = make(callbacks=[Recorder()], verbose=1, lr_schedule="cosine")
    classifier.set_params(early_stopping=True).fit(X, y)
    classifier.set_params(callbacks=None)
    restored = pickle.loads(pickle.dumps(classifier))
    assert_array_equal(restored.predict_proba(X), classifier.predict_proba(X))


class Interrupt(Callback):
    """Press Ctrl-C at the end of an epoch, or after so many batches."""

    def __init__(self, epoch=None, batch=None):
        self.epoch = epoch
        self.batch = batch
        self.batches = 0

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt

    def on_batch_end(self, net, **kwargs):
        self.batches += 1
        if self.batches == self.batch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("mapping", ["linear", "random", "iterative"])
@pytest.mark.parametrize(
    "interrupt",
    [
        pytest.param({"epoch": 3}, id="after an epoch"),
        # Three batches to an epoch: the second of the fourth epoch.
        pytest.param({"batch": 11}, id="within an epoch"),
    ],
)
def test_an_interruption_keeps_the_last_whole_epoch_and_says_so(
    make, mapping, interrupt
):
    X, y = make_series()
    setting = {"label_mapping": mapping, "source_output": OUTPUT_OF[mapping]}
    classifier = make(max_epochs=9, callbacks=[Interrupt(**interrupt)], **setting)
    with pytest.warns(UserWarning, match="interrupted after 3 complete epochs of 9"):
        classifier.fit(X, y)
    assert classifier.n_iter_ == len(classifier.history_) == 3
    expected = make(max_epochs=3, **setting).fit(X, y)
    assert_array_equal(classifier.perturbation_, expected.perturbation_)
    assert_array_equal(classifier.predict_proba(X), expected.predict_proba(X))


def test_an_interruption_keeps_the_best_epoch_of_an_early_stopping(make):
    X, y = make_series()
    setting = {"early_stopping": True, "lr": 0.3, "n_iter_no_change": 50}
    whole = make(max_epochs=30, **setting).fit(X, y)
    best = int(np.argmin([row["valid_loss"] for row in whole.history_])) + 1
    assert best < 29
    classifier = make(max_epochs=30, callbacks=[Interrupt(epoch=best + 1)], **setting)
    with pytest.warns(UserWarning, match=f"interrupted after {best + 1} complete"):
        classifier.fit(X, y)
    assert_array_equal(classifier.perturbation_, whole.perturbation_)


def test_an_interruption_in_the_first_epoch_keeps_the_beginning(make):
    X, y = make_series()
    classifier = make(callbacks=[Interrupt(batch=1)])
    with pytest.warns(UserWarning, match="interrupted after 0 complete epochs of 3"):
        classifier.fit(X, y)
    start = make(max_epochs=0).fit(X, y)
    assert_array_equal(classifier.perturbation_, start.perturbation_)
    assert classifier.history_ == []


def test_an_interrupted_partial_fit_keeps_the_state_before(make):
    X, y = make_series()
    classifier = make().partial_fit(X, y)
    before = classifier.predict_proba(X)
    classifier.set_params(callbacks=[Interrupt(batch=2)])
    with pytest.warns(UserWarning, match="interrupted after 0 complete epochs of 1"):
        classifier.partial_fit(X, y)
    assert_allclose(classifier.predict_proba(X), before, rtol=1e-5)
    assert classifier.n_iter_ == 1


CTRL_C = """
import os, signal, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)
from skorch.callbacks import Callback
from tests.small import make_classifier, make_series
from tests.tiny_source import TinySource

class Signal(Callback):
    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 3:
            os.kill(os.getpid(), signal.SIGINT)

X, y = make_series()
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    classifier = make_classifier(TinySource(), max_epochs=9, callbacks=[Signal()])
    classifier.fit(X, y)
print(*[warning.message for warning in seen], sep="|")
expected = make_classifier(TinySource(), max_epochs=2).fit(X, y)
print((classifier.predict_proba(X) == expected.predict_proba(X)).all())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="the system has no SIGINT")
def test_a_real_ctrl_c_keeps_the_last_whole_epoch():
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    message, equal = done.stdout.splitlines()
    assert message.startswith("the training was interrupted after 2 complete epochs")
    assert equal == "True"


# --- real series ---------------------------------------------------------------------


def read_ucr(shared, name):
    tables = (
        np.loadtxt(shared / "ucr" / name / f"{name}_{part}.tsv")
        for part in ("TRAIN", "TEST")
    )
    return [(table[:, 1:], table[:, 0].astype(int)) for table in tables]


@pytest.fixture
def trained_source():
    if list_sources()["attrnn"] == "dev":
        pytest.skip("the shipped checkpoint is an untrained stand-in")
    return "attrnn"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GunPoint", "ItalyPowerDemand"])
def test_the_defaults_beat_the_majority_on_real_series(shared, trained_source, name):
    (X, y), (X_test, y_test) = read_ucr(shared, name)
    fitted = V2SClassifier(trained_source, random_state=0).fit(X, y)
    majority = DummyClassifier().fit(X, y).score(X_test, y_test)
    assert majority < 0.55
    assert fitted.score(X_test, y_test) > 0.75


@pytest.mark.slow
def test_labels_minus_one_and_one_are_two_classes(shared, trained_source):
    (X, y), (X_test, y_test) = read_ucr(shared, "ECG200")
    assert set(y) == {-1, 1}
    fitted = V2SClassifier(trained_source, random_state=0).fit(X, y)
    predicted = fitted.predict(X_test)
    assert set(predicted) == {-1, 1}
    renamed = V2SClassifier(trained_source, random_state=0).fit(
        X, np.where(y > 0, 1, 0)
    )
    assert_array_equal(renamed.predict(X_test), np.where(predicted > 0, 1, 0))
    majority = DummyClassifier().fit(X, y).score(X_test, y_test)
    assert fitted.score(X_test, y_test) > majority


def test_training_never_makes_the_probabilities_surer(tiny_source):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(24, 20)), np.arange(24) % 2
    common = {
        "source": tiny_source,
        "views": "replicas",
        "random_state": 0,
        "precision": "float64",
    }
    untrained = V2SClassifier(max_epochs=0, **common).fit(X, y)
    trained = V2SClassifier(max_epochs=20, lr=0.05, **common).fit(X, y)
    limit = untrained.label_mapping_.temperature_
    assert trained.label_mapping_.temperature_ <= limit
    # Labels without any relation to the series, learned by heart all the same.
    relearned = LinearLabelMapping().fit(trained.source_outputs(X).embedding[:, 0], y)
    assert relearned.temperature_ > limit
    # Nor does going on from there, by whatever way.
    trained.set_params(warm_start=True).fit(X, y)
    assert trained.label_mapping_.temperature_ <= limit
    trained.partial_fit(X, y).set_params(max_epochs=0).fit(X, y)
    assert trained.label_mapping_.temperature_ <= limit


def test_the_limit_of_the_temperature_survives_a_file(tmp_path):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(16, 20)), np.arange(16) % 2
    fitted = V2SClassifier(max_epochs=2, lr=0.05, random_state=0).fit(X, y)
    fitted.save(tmp_path / "a.safetensors")
    loaded = V2SClassifier.load(tmp_path / "a.safetensors")
    for classifier in (fitted, loaded):
        classifier.set_params(warm_start=True, max_epochs=0).fit(X, y)
    assert loaded.label_mapping_.temperature_ == fitted.label_mapping_.temperature_
    words = V2SClassifier(
        source_output="logits", label_mapping="random", max_epochs=0, random_state=0
    ).fit(X, y)
    words.save(tmp_path / "b.safetensors")
    assert V2SClassifier.load(tmp_path / "b.safetensors")._temperature_limit == np.inf
