# SPDX-License-Identifier: Apache-2.0
"""The Bayesian mapping, by hand and against slow sums."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklearn_v2s.label_mapping import BayesianLabelMapping
from tests.small_mappings import make_data


def test_bayesian_mapping_by_hand():
    # N = [[2, 0], [1, 1], [0, 2], [0, 0]], row sums 2, 2, 2, 0, smoothing 1:
    # [[2/3, 0], [1/3, 1/3], [0, 2/3], [0, 0]]; both columns sum to 1.
    logits = np.eye(4)[[0, 0, 1, 1, 2, 2]]
    y = [0, 0, 0, 1, 1, 1]
    mapping = BayesianLabelMapping().fit(logits, y)
    assert mapping.frequencies_.tolist() == [[2, 0], [1, 1], [0, 2], [0, 0]]
    thirds = np.array([[2, 0], [1, 1], [0, 2], [0, 0]]) / 3
    assert_allclose(mapping.weights_, thirds, rtol=1e-15)
    # A weight of 3 for the last row: N[2, 1] = 4, 4 / 5 of its row; column 1 has
    # 1/3 + 4/5 = 17/15.
    mapping.fit(logits, y, sample_weight=[1, 1, 1, 1, 1, 3])
    assert_allclose(mapping.weights_[:, 1], [0, 5 / 17, 12 / 17, 0], rtol=1e-15)
    # Without smoothing the rows become shares: [[1, 0], [1/2, 1/2], [0, 1], [0, 0]].
    for weight in (None, np.full(6, 0.1)):
        mapping = BayesianLabelMapping(smoothing=0).fit(logits, y, weight)
        assert_allclose(mapping.weights_, thirds, rtol=1e-12)
    empty = BayesianLabelMapping().fit(logits, y, classes=[0, 1, 2])
    assert_allclose(empty.weights_[:, 2], 0.25)


@pytest.mark.parametrize(("k", "top_k"), [(2, 1), (9, 1), (10, 2), (36, 5)])
def test_bayesian_plus_sums_top_probabilities(k, top_k):
    logits, y = make_data(7, n=20, k=k, c=2)
    weight = np.random.default_rng(0).uniform(0.5, 2, size=20)
    sums = np.zeros((k, 2))
    mean = sum(w * row for row, w in zip(logits, weight, strict=True)) / weight.sum()
    for logit, t, w in zip(logits, y, weight, strict=True):
        row = logit - mean
        exp = np.exp(row)
        for s in sorted(range(k), key=lambda s: -row[s])[:top_k]:
            sums[s, t] += w * exp[s] / exp.sum()
    expected = sums / (sums.sum(axis=1, keepdims=True) + 1)
    expected /= expected.sum(axis=0)
    default = BayesianLabelMapping(plus=True).fit(logits, y, weight)
    stated = BayesianLabelMapping(plus=True, top_k=top_k).fit(logits, y, weight)
    for mapping in (default, stated):
        assert_allclose(mapping.frequencies_, sums, rtol=1e-12)
        assert_allclose(mapping.weights_, expected, rtol=1e-12)
    if top_k > 1:
        other = BayesianLabelMapping(plus=True, top_k=1).fit(logits, y, weight)
        assert not np.allclose(other.weights_, expected)


def test_bayesian_mapping_shares_source_classes():
    logits, y = make_data(8, k=3, c=5)
    assert BayesianLabelMapping().fit(logits, y).weights_.shape == (3, 5)


@pytest.mark.parametrize("plus", [False, True])
def test_a_dominating_source_class_does_not_fill_the_columns(plus):
    # Classes move source classes 1 and 2; source class 0 wins everywhere.
    logits, y = make_data(9, n=40, k=6, c=2)
    logits[:, 0] += 50
    assert set(logits.argmax(axis=1)) == {0}
    mapping = BayesianLabelMapping(plus=plus).fit(logits, y)
    assert np.abs(mapping.weights_[:, 0] - mapping.weights_[:, 1]).max() > 0.2
    assert np.mean(mapping.transform(logits).argmax(axis=1) == y) > 0.9
    # What dominates is not told apart from what does not.
    plain = BayesianLabelMapping(plus=plus).fit(logits - [50, 0, 0, 0, 0, 0], y)
    assert_allclose(mapping.weights_, plain.weights_, rtol=1e-9, atol=1e-12)
    assert_allclose(mapping.offset_[0] - plain.offset_[0], 50, rtol=1e-12)


def test_the_offset_is_the_weighted_mean_of_the_logits():
    logits, y = make_data(10)
    weight = np.random.default_rng(1).uniform(0.1, 3, size=len(y))
    mapping = BayesianLabelMapping().fit(logits, y, weight)
    assert_allclose(mapping.offset_, weight @ logits / weight.sum(), rtol=1e-12)
    # Means over the samples of `fit`, not of what is transformed.
    assert_allclose(
        mapping.transform(logits[:1]), mapping.transform(logits)[:1], rtol=1e-12
    )


def test_a_mapping_of_0_1_0_has_no_offset():
    logits, y = make_data(11)
    mapping = BayesianLabelMapping().fit(logits, y)
    fitted = mapping.offset_.copy()
    mapping.complete()
    assert_allclose(mapping.offset_, fitted)
    del mapping.offset_
    mapping.complete()
    expected = np.exp(logits @ mapping.weights_)
    expected /= expected.sum(axis=1, keepdims=True)
    assert_allclose(mapping.transform(logits), expected, rtol=1e-12)
