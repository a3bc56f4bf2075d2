# SPDX-License-Identifier: Apache-2.0
"""The classifier with its label mappings, and with weights."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from sklearn_v2s.label_mapping import (
    RandomLabelMapping,
)
from tests.small import MAPPINGS, OUTPUT_OF, WORDS, make_series

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


def test_parameters_of_a_mapping_that_was_handed_in_are_validated(make):
    X, y = make_series()
    mapping = RandomLabelMapping(mapping_size=1.5)
    classifier = make(label_mapping=mapping, source_output="logits")
    for fit in (classifier.fit, classifier.partial_fit):
        with pytest.raises(ValueError, match=r"'mapping_size' .* Got 1\.5 instead"):
            fit(X, y)


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
