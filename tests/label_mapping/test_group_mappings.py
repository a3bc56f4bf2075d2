# SPDX-License-Identifier: Apache-2.0
"""Random, contiguous and frequency mappings: groups of source classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone

from sklearn_v2s.label_mapping import (
    ContiguousLabelMapping,
    FrequencyLabelMapping,
    IterativeLabelMapping,
    RandomLabelMapping,
)
from tests.small_mappings import each_group, few, make_data, seeds


@each_group
@few
@given(data=st.data(), c=st.integers(1, 6), k=st.integers(6, 40))
def test_groups_are_disjoint_and_of_one_size(mapping, data, c, k):
    logits, y = make_data(k, n=20, k=k, c=c)
    size = data.draw(st.none() | st.integers(1, k // c))
    mapping = clone(mapping).set_params(mapping_size=size).fit(logits, y)
    expected = size or k // c
    groups = mapping.source_indices_
    assert groups.shape == (c, expected) and mapping.mapping_size_ == expected
    assert len(np.unique(groups)) == c * expected
    assert groups.min() >= 0 and groups.max() < k
    assert_allclose(mapping.weights_.sum(axis=0), 1)
    assert set(np.unique(mapping.weights_)) <= {0.0, 1 / expected}
    for t, group in enumerate(groups):
        assert_array_equal(np.flatnonzero(mapping.weights_[:, t]), group)


@pytest.mark.parametrize(("k", "c", "q"), [(36, 2, 18), (36, 5, 7), (35, 10, 1)])
def test_contiguous_is_the_grouping_of_the_release(k, c, q):
    logits, y = make_data(0, n=c, k=k, c=c)
    probability = softmax(logits, axis=1)
    # multi_mapping(prob, source_num, mapping_num, target_num) of the released code
    means = [probability[:, q * t : q * t + q].mean(axis=1) for t in range(c)]
    mapping = ContiguousLabelMapping(mapping_size=q).fit(logits, y)
    assert_allclose(mapping.transform(logits), np.transpose(means), rtol=1e-12)


def slow_greedy(logits, y, weight, c, q):
    """Take the best free pair again and again, every number summed by hand."""
    k = logits.shape[1]
    count = {(s, t): 0.0 for s in range(k) for t in range(c)}
    likeness = dict(count)
    for row, t, w in zip(logits, y, weight, strict=True):
        count[list(row).index(max(row)), t] += w
        exp = np.exp(row - max(row))
        for s in range(k):
            likeness[s, t] += w * exp[s] / sum(exp) / sum(weight[y == t])
    free, room = set(range(k)), dict.fromkeys(range(c), q)
    groups = [[] for _ in range(c)]
    while any(room.values()):
        s, t = min(
            ((s, t) for s in free for t in room if room[t]),
            key=lambda p: (-count[p], -round(likeness[p], 12), *p),
        )
        groups[t].append(s)
        free.remove(s)
        room[t] -= 1
    return [sorted(group) for group in groups], count


@few
@given(seed=seeds, k=st.integers(3, 12), ties=st.booleans(), data=st.data())
def test_frequency_mapping_is_greedy(seed, k, ties, data):
    rng = np.random.default_rng(seed)
    n, c = 15, 3
    logits = rng.integers(0, 2, (n, k)) * 1.0 if ties else rng.normal(size=(n, k))
    y = np.concatenate([np.arange(c), rng.integers(0, c, n - c)])
    weight = rng.integers(1, 4, size=n)
    size = data.draw(st.integers(1, k // c))
    groups, count = slow_greedy(logits, y, weight, c, size)
    for cls in (FrequencyLabelMapping, IterativeLabelMapping):
        mapping = cls(mapping_size=size).fit(logits, y, sample_weight=weight)
        assert mapping.source_indices_.tolist() == groups
        for (s, t), value in count.items():
            assert mapping.frequencies_[s, t] == value


def test_frequency_mapping_of_equal_rows_takes_the_lower_index():
    mapping = FrequencyLabelMapping(mapping_size=2).fit(np.zeros((4, 5)), [0, 0, 1, 1])
    # Source class 0 is predicted for all rows and goes to class 0; the rest are equally
    # likely.
    assert mapping.source_indices_.tolist() == [[0, 1], [2, 3]]


def test_rounding_errors_do_not_decide_ties():
    # Every shift of a row once: all source classes are predicted equally often and have
    # the same probabilities, only summed in another order.
    first, second = np.random.default_rng(0).normal(size=(2, 9))
    logits = [np.roll(row, shift) for row in (first, second) for shift in range(9)]
    mapping = FrequencyLabelMapping().fit(logits, [0] * 9 + [1] * 9)
    assert mapping.source_indices_.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_random_mapping_draws_locally():
    logits, y = make_data(k=36)

    def draw(random_state):
        mapping = RandomLabelMapping(random_state=random_state)
        return mapping.fit(logits, y).source_indices_.tolist()

    def global_state():
        return repr(np.random.get_state(legacy=False))  # noqa: NPY002 the one left alone

    before = global_state()
    assert draw(0) == draw(0) != draw(1)
    assert draw(None) != draw(None)
    stream = np.random.RandomState(0)
    assert draw(stream) == draw(0)
    assert draw(stream) != draw(0)
    assert global_state() == before


def test_random_mapping_gives_every_source_class_its_turn():
    logits, y = make_data(k=6, c=2)
    draws = np.zeros(6)
    for seed in range(300):
        mapping = RandomLabelMapping(mapping_size=1, random_state=seed).fit(logits, y)
        draws[mapping.source_indices_[0]] += 1
    assert draws.min() > 25 and draws.max() < 80  # 50 expected
