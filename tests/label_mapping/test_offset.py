# SPDX-License-Identifier: Apache-2.0
"""A fitted map in two parts: what a training changes, and an offset."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax

from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.label_mapping.heads import LinearHead
from sklearn_v2s.label_mapping.offset import Offset
from tests.small_mappings import few, make_block_data, seeds

# Replicas, then a long block, a short one and a single feature.
N_LEARNED, SIZES = 9, [9, 40, 5, 1]


def make_mapping(seed=0, **parameters):
    features, codes = make_block_data(30, SIZES, 3, seed)
    mapping = LinearLabelMapping(
        block_sizes=SIZES, n_source_outputs=N_LEARNED, **parameters
    )
    return mapping.fit(features, codes), features, codes


@few
@given(seed=seeds)
@pytest.mark.parametrize("size", [None, 1, 2])
def test_both_parts_together_say_what_the_map_says(seed, size):
    mapping, features, _ = make_mapping(seed, mapping_size=size)
    offset = Offset.split(mapping, features, N_LEARNED)
    learned = torch.from_numpy(features[:, :N_LEARNED])
    head = LinearHead(offset.learned, N_LEARNED, 3)
    found = head(learned, torch.from_numpy(offset.scores)).detach().numpy()
    expected = np.log(mapping.transform(features))
    assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@few
@given(seed=seeds)
@pytest.mark.parametrize("size", [None, 2])
def test_a_changed_part_goes_back_into_the_map(seed, size):
    mapping, features, _ = make_mapping(seed, mapping_size=size)
    offset = Offset.split(mapping, features, N_LEARNED)
    rng = np.random.default_rng(seed)
    learned = copy.copy(offset.learned)
    learned.coef_ = rng.normal(size=learned.coef_.shape)
    learned.intercept_ = rng.normal(size=learned.intercept_.shape)
    learned.temperature_ = 1.0
    changed = copy.deepcopy(mapping)
    Offset(learned, offset.scores).write_to(changed)
    scores = learned.decision_scores(features[:, :N_LEARNED]) + offset.scores
    assert_allclose(
        np.log(changed.transform(features)),
        log_softmax(scores, axis=1),
        rtol=1e-9,
        atol=1e-9,
    )


def test_the_split_leaves_the_map_as_it_was():
    mapping, features, _ = make_mapping()
    before = copy.deepcopy(vars(mapping))
    offset = Offset.split(mapping, features, N_LEARNED)
    offset.learned.coef_ = offset.learned.coef_ + 1
    for name, value in before.items():
        assert_array_equal(getattr(mapping, name), value)


def test_without_blocks_any_feature_may_be_the_last():
    features, codes = make_block_data(30, SIZES, 3, 1)
    mapping = LinearLabelMapping().fit(features, codes)
    offset = Offset.split(mapping, features, 4)
    head = LinearHead(offset.learned, 4, 3)
    found = head(torch.from_numpy(features[:, :4]), torch.from_numpy(offset.scores))
    assert_allclose(found.detach().exp(), mapping.transform(features), rtol=1e-9)


def test_a_block_with_features_of_both_parts_cannot_be_split():
    mapping, features, _ = make_mapping()
    assert Offset.split(mapping, features, N_LEARNED + 3) is None
