# SPDX-License-Identifier: Apache-2.0
"""The source outputs that speak for each class, and leave-one-out scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sklearn_v2s.label_mapping import LinearLabelMapping
from tests.small_mappings import (
    assert_same_fit,
    each_solver,
    few,
    float_state,
    make_block_data,
    make_data,
    seeds,
)


def planted(n=90, d=12, seed=0):
    """Return noise in which features 2, 5 and 9 speak, each for a class of its own."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    rows = rng.normal(size=(n, d))
    for code, feature in enumerate([2, 5, 9]):
        rows[:, feature] += 6.0 * (codes == code)
    return rows, codes


@each_solver
@few
@given(seed=seeds)
def test_the_features_that_speak_are_selected(solver, seed):
    rows, codes = planted(seed=seed)
    mapping = LinearLabelMapping(solver=solver, mapping_size=1).fit(rows, codes)
    assert_array_equal(mapping.selected_, [2, 5, 9])
    assert mapping.coef_.shape == (3, 3)
    # Each speaks for its class, and no other does as loudly.
    assert_array_equal(mapping.coef_.argmax(axis=1), [0, 1, 2])
    assert np.mean(mapping.transform(rows).argmax(axis=1) == codes) > 0.9


@each_solver
@pytest.mark.parametrize("size", [1, 2, 5])
def test_for_each_class_the_largest_coefficients_of_a_first_fit(solver, size):
    rows, codes = make_data(1, n=40, k=15, c=4)
    first = LinearLabelMapping(solver=solver).fit(rows, codes)
    kept = set()
    for row in np.abs(first.coef_):
        kept |= set(sorted(range(15), key=lambda feature: -row[feature])[:size])
    mapping = LinearLabelMapping(solver=solver, mapping_size=size).fit(rows, codes)
    assert_array_equal(mapping.selected_, sorted(kept))
    alone = LinearLabelMapping(solver=solver).fit(rows[:, mapping.selected_], codes)
    # The map is that of the selected features, as if there were no others.
    assert_array_equal(mapping.coef_, alone.coef_)
    assert_array_equal(
        mapping.transform(rows), alone.transform(rows[:, mapping.selected_])
    )


def test_features_after_the_source_outputs_are_kept():
    rows, codes = planted()
    mapping = LinearLabelMapping(mapping_size=1, n_source_outputs=6)
    mapping.fit(rows, codes)
    # One of the first six for each class: 9, which speaks for class 2, is not among
    # them.
    assert {2, 5} <= set(mapping.selected_) <= {*range(12)}
    assert_array_equal(mapping.selected_[mapping.selected_ >= 6], np.arange(6, 12))
    assert 2 <= (mapping.selected_ < 6).sum() <= 3


@each_solver
@few
@given(seed=seeds, data=st.data())
def test_all_is_the_same_as_none(solver, seed, data):
    rows, codes = make_block_data(seed=seed, sizes=[33, 4])
    sizes = data.draw(st.sampled_from([None, [33, 4]]))
    count = data.draw(st.sampled_from([None, 33]))
    common = {"solver": solver, "block_sizes": sizes, "n_source_outputs": count}
    none = LinearLabelMapping(**common).fit(rows, codes)
    every = LinearLabelMapping(**common, mapping_size=count or 37).fit(rows, codes)
    expected = float_state(none)
    for name, value in float_state(every).items():
        assert_array_equal(value, expected[name], err_msg=name)
    assert_array_equal(every.transform(rows), none.transform(rows))


@each_solver
@pytest.mark.parametrize("size", [1, 3])
def test_weights_are_repetitions(solver, size):
    rows, codes = planted(n=45, seed=2)
    weight = np.random.default_rng(3).integers(0, 3, size=len(codes))
    make = {"solver": solver, "mapping_size": size, "n_source_outputs": 10}
    weighted = LinearLabelMapping(**make).fit(rows, codes, sample_weight=weight)
    order = np.repeat(np.arange(len(codes)), weight)
    repeated = LinearLabelMapping(**make).fit(rows[order], codes[order])
    assert_same_fit(weighted, repeated)


def test_blocks_lose_what_is_not_selected():
    rows, codes = planted(d=40, n=120)
    mapping = LinearLabelMapping(
        mapping_size=1, n_source_outputs=7, block_sizes=[2, 4, 1, 33]
    ).fit(rows, codes)
    first = set(mapping.selected_[mapping.selected_ < 7].tolist())
    expected = [len(first & {0, 1}), len(first & {2, 3, 4, 5}), len(first & {6}), 33]
    assert_array_equal(mapping.block_sizes_, [size for size in expected if size])
    assert mapping.block_sizes_.sum() == len(mapping.selected_)
    # What the user gave is left as it was.
    assert mapping.block_sizes == [2, 4, 1, 33]
    alone = LinearLabelMapping(block_sizes=mapping.block_sizes_.tolist())
    alone.fit(rows[:, mapping.selected_], codes)
    assert_array_equal(
        mapping.transform(rows), alone.transform(rows[:, mapping.selected_])
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mapping_size": 13}, "mapping_size=13 is not allowed: .* from 1 to 12"),
        (
            {"mapping_size": 6, "n_source_outputs": 5},
            "mapping_size=6 is not allowed: .* from 1 to 5, the number of source",
        ),
        ({"n_source_outputs": 13}, "n_source_outputs=13 .* from 1 to 12"),
        ({"mapping_size": 0}, "'mapping_size' parameter .* Got 0"),
        ({"mapping_size": 1.5}, "'mapping_size' parameter .* Got 1.5"),
    ],
    ids=str,
)
def test_impossible_sizes_are_errors(parameters, message):
    with pytest.raises(ValueError, match=message):
        LinearLabelMapping(**parameters).fit(*planted())


def test_a_mapping_of_0_1_0_reads_all_features():
    rows, codes = make_block_data(sizes=[33, 4])
    mapping = LinearLabelMapping(block_sizes=[33, 4]).fit(rows, codes)
    expected = mapping.transform(rows)
    del mapping.selected_, mapping.block_sizes_
    mapping.complete()
    assert_array_equal(mapping.selected_, np.arange(37))
    assert_array_equal(mapping.transform(rows), expected)
