# SPDX-License-Identifier: Apache-2.0
"""Scores of the benchmark against hand-made and scikit-learn's values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, log_loss

from sklearn_v2s.benchmark.metrics import expected_calibration_error, score_predictions


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_calibration_error_is_the_definition(pairs, n_bins: int):
    correct, confidence = (np.array(column) for column in zip(*pairs, strict=True))
    total = 0.0
    for index in range(n_bins):
        low, high = index / n_bins, (index + 1) / n_bins
        inside = (confidence > low) & (confidence <= high)
        if index == 0:
            inside |= confidence == 0
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            total += inside.sum() / len(correct) * gap
    found = expected_calibration_error(correct, confidence, n_bins)
    assert found == pytest.approx(total, abs=1e-12)


def test_calibration_error_by_hand():
    # (0.4, 0.4667]: 0.45 right, 0.46 wrong; (0.8667, 0.9333]: 0.9 right, 0.91 right.
    correct = np.array([True, False, True, True])
    confidence = np.array([0.45, 0.46, 0.9, 0.91])
    expected = 2 / 4 * abs(0.5 - 0.455) + 2 / 4 * abs(1 - 0.905)
    assert expected_calibration_error(correct, confidence) == pytest.approx(expected)


def test_an_edge_belongs_to_the_bin_below():
    correct, confidence = np.array([True, False]), np.array([1 / 15, 0.05])
    expected = abs(1 - (1 / 15 + 0.05)) / 2
    assert expected_calibration_error(correct, confidence) == pytest.approx(expected)


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_scores_are_those_of_scikit_learn(seed: int, n_classes: int):
    rng = np.random.default_rng(seed)
    classes = np.arange(n_classes) * 3 - 1
    proba = rng.dirichlet(np.ones(n_classes), size=30)
    y = np.concatenate([classes, rng.choice(classes, 30 - n_classes)])
    predicted = rng.choice(classes, 30)
    scores = score_predictions(y, proba, predicted, classes)
    assert scores["accuracy"] == np.mean(predicted == y)
    assert scores["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(y, predicted)
    )
    assert scores["log_loss"] == pytest.approx(log_loss(y, proba, labels=classes))
    confidence = proba[np.arange(30), np.searchsorted(classes, predicted)]
    expected = expected_calibration_error(predicted == y, confidence)
    assert scores["ece"] == pytest.approx(expected)


def test_certain_and_wrong_is_clipped():
    y = np.array([0, 1])
    proba = np.array([[0.0, 1.0], [0.0, 1.0]])
    scores = score_predictions(y, proba, np.array([1, 1]), np.array([0, 1]))
    assert scores["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps) / 2)
    assert scores["ece"] == 0.5


def test_a_class_that_training_lacked():
    y = np.array(["a", "b", "c"])
    proba = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    predicted = np.array(["a", "a", "c"])
    scores = score_predictions(y, proba, predicted, np.array(["a", "c"]))
    assert scores["accuracy"] == scores["balanced_accuracy"] == pytest.approx(2 / 3)
    assert scores["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps) / 3)


def test_a_test_part_without_one_of_the_classes():
    proba = np.full((2, 3), 1 / 3)
    scores = score_predictions(
        np.array([0, 0]), proba, np.array([0, 2]), np.array([0, 1, 2])
    )
    assert scores["balanced_accuracy"] == 0.5


@pytest.mark.parametrize("row", [[0.5, 0.6], [1.5, -0.5], [np.nan, 1.0]])
def test_what_is_no_probability_is_refused(row: list[float]):
    with pytest.raises(ValueError, match="Mend predict_proba"):
        score_predictions(
            np.array([0]), np.array([row]), np.array([0]), np.array([0, 1])
        )
