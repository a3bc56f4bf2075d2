# SPDX-License-Identifier: Apache-2.0
"""What the views without a perturbation say, as an offset of a training."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax
from sklearn.linear_model import Ridge

from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.label_mapping.heads import LinearHead
from sklearn_v2s.label_mapping.offset import Offset
from tests.label_mapping.test_linear_blocks import Reference
from tests.small_mappings import few, make_block_data, seeds

# Replicas, then a long block, a short one and a single feature.
N_LEARNED, SIZES = 9, [40, 5, 1]


def make_features(seed=0, n=30, n_classes=3):
    return make_block_data(n, [N_LEARNED, *SIZES], n_classes, seed)


def fit(features, codes, weight=None, mapping_size=None):
    weight = np.ones(len(codes)) if weight is None else weight
    return Offset.fit(
        features, N_LEARNED, SIZES, codes, weight, codes.max() + 1, mapping_size
    )


def with_coefficients(offset, seed=0):
    """Return the offset with a learned map that says something, as after a training."""
    rng = np.random.default_rng(seed)
    learned = copy.copy(offset.learned)
    learned.coef_ = rng.normal(size=learned.coef_.shape)
    learned.intercept_ = rng.normal(size=learned.intercept_.shape)
    return Offset(learned, offset.fixed, offset.scores)


def test_leave_one_out_scores_are_those_of_refits_without_the_row():
    features, codes = make_features()
    weight = np.random.default_rng(1).uniform(0.2, 1, size=len(codes))
    offset = fit(features, codes, weight)
    rows = features[:, N_LEARNED:]
    # Blocks and scales use no labels: they are those of all rows.
    standard = Reference(rows, weight, SIZES).rows(rows)
    targets = 2.0 * np.eye(3)[codes] - 1
    for left_out in range(len(codes)):
        others = np.delete(np.arange(len(codes)), left_out)
        ridge = Ridge(alpha=offset.fixed.alpha_)
        ridge.fit(standard[others], targets[others], weight[others])
        scores = offset.fixed.temperature_ * ridge.predict(standard[[left_out]])
        assert_allclose(
            offset.scores[left_out],
            log_softmax(scores, axis=1)[0],
            rtol=1e-5,
            atol=1e-7,
        )


@few
@given(seed=seeds)
def test_a_training_begins_with_what_the_offset_says(seed):
    features, codes = make_features(seed)
    offset = fit(features, codes)
    head = LinearHead(offset.learned, N_LEARNED, 3)
    learned = torch.from_numpy(features[:, :N_LEARNED])
    found = head(learned, torch.from_numpy(offset.scores))
    assert_allclose(found.detach(), offset.scores, rtol=1e-12, atol=1e-12)
    assert head.penalty() == 0
    # The gradient is not: there is something to learn.
    loss = -found[torch.arange(len(codes)), torch.from_numpy(codes)].mean()
    loss.backward()
    assert head.weight.grad.abs().max() > 0


@few
@given(seed=seeds)
def test_the_sum_is_the_log_softmax_of_both(seed):
    features, codes = make_features(seed)
    offset = with_coefficients(fit(features, codes), seed)
    mapping = LinearLabelMapping(block_sizes=[N_LEARNED, *SIZES])
    mapping.fit(features, codes)
    offset.write_sum_to(mapping)
    learned, fixed = features[:, :N_LEARNED], features[:, N_LEARNED:]
    scores = offset.learned.temperature_ * offset.learned.decision_scores(learned)
    scores += offset.fixed.temperature_ * offset.fixed.decision_scores(fixed)
    assert_allclose(
        np.log(mapping.transform(features)),
        log_softmax(scores, axis=1),
        rtol=1e-9,
        atol=1e-9,
    )
    # And what the head says, given what the fixed map says of these rows.
    head = LinearHead(offset.learned, N_LEARNED, 3)
    of_fixed = np.log(offset.fixed.transform(fixed))
    found = head(torch.from_numpy(learned), torch.from_numpy(of_fixed))
    assert_allclose(
        found.detach(), np.log(mapping.transform(features)), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("size", [1, 2])
def test_the_learned_map_reads_what_is_selected(size):
    features, codes = make_features(2)
    offset = with_coefficients(fit(features, codes, mapping_size=size))
    assert size <= len(offset.learned.selected_) < N_LEARNED
    # `mapping_size` is of the source outputs that the training changes alone.
    assert_array_equal(offset.fixed.selected_, np.arange(sum(SIZES)))
    mapping = LinearLabelMapping().fit(features, codes)
    offset.write_sum_to(mapping)
    assert_array_equal(
        mapping.selected_,
        [*offset.learned.selected_, *range(N_LEARNED, features.shape[1])],
    )
    scores = offset.learned.temperature_ * offset.learned.decision_scores(
        features[:, :N_LEARNED]
    )
    scores += offset.fixed.temperature_ * offset.fixed.decision_scores(
        features[:, N_LEARNED:]
    )
    assert_allclose(np.log(mapping.transform(features)), log_softmax(scores, axis=1))
