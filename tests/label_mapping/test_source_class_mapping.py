# SPDX-License-Identifier: Apache-2.0
"""Mappings that weigh source classes by a matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.base import clone

from sklearn_v2s.label_mapping import BayesianLabelMapping
from tests.small_mappings import each_source_class, few, make_data, seeds

X8, Y2 = make_data(n=8, k=6, c=2)


def as_weighed(mapping, logits):
    """Return what a mapping fitted to these logits weighs of them."""
    if isinstance(mapping, BayesianLabelMapping):
        return logits - sum(logits) / len(logits)
    return logits


@each_source_class
def test_probability_aggregation_is_equation_4(mapping):
    logits, y = make_data(4, n=12, k=11, c=3)
    mapping = clone(mapping).set_params(aggregation="probability").fit(logits, y)
    scores = mapping.transform(logits)
    for i, row in enumerate(as_weighed(mapping, logits)):
        exp = [np.exp(z) for z in row]
        for t in range(3):
            if isinstance(mapping, BayesianLabelMapping):
                share = mapping.weights_[:, t]
                expected = sum(
                    w * e / sum(exp) for w, e in zip(share, exp, strict=True)
                )
            else:
                group = mapping.source_indices_[t]
                expected = sum(exp[s] / sum(exp) for s in group) / len(group)
            assert_allclose(scores[i, t], expected, rtol=1e-12)


@each_source_class
def test_logit_aggregation(mapping):
    logits, y = make_data(5, n=12, k=11, c=3)
    mapping = clone(mapping).set_params(aggregation="logit").fit(logits, y)
    rows = as_weighed(mapping, logits)
    for row, got in zip(rows, mapping.transform(logits), strict=True):
        means = [sum(row * mapping.weights_[:, t]) for t in range(3)]
        expected = np.exp(means) / np.exp(means).sum()
        assert_allclose(got, expected, rtol=1e-12)


@each_source_class
@few
@given(seed=seeds, shift=st.floats(-50, 50))
def test_logits_are_defined_up_to_a_constant(mapping, seed, shift):
    logits, y = make_data(seed)
    by_row = shift * np.random.default_rng(seed).normal(size=(30, 1))
    mapping = clone(mapping).fit(logits, y)
    shifted = clone(mapping).fit(logits + by_row, y)
    assert_allclose(shifted.weights_, mapping.weights_, rtol=1e-9, atol=1e-12)
    assert_allclose(
        shifted.transform(logits + by_row), mapping.transform(logits), rtol=1e-9
    )


@pytest.mark.parametrize("aggregation", ["probability", "logit"])
@each_source_class
def test_extreme_logits_can_be_normalised(mapping, aggregation):
    logits, y = make_data(6, k=10, c=3)
    mapping = clone(mapping).set_params(aggregation=aggregation).fit(logits, y)
    extreme = 2000.0 * np.eye(10) - 1000
    scores = mapping.transform(extreme)
    shares = scores / scores.sum(axis=1, keepdims=True)
    assert_allclose(shares.sum(axis=1), 1)


@each_source_class
def test_transform_checks_the_aggregation_set_since(mapping):
    mapping = clone(mapping).fit(X8, Y2).set_params(aggregation="sum")
    with pytest.raises(
        ValueError, match=r"'aggregation' .*'logit'.* Got 'sum' instead"
    ):
        mapping.transform(X8)
