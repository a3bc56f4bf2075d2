# SPDX-License-Identifier: Apache-2.0
"""The ridge path of many series: both factorisations, part by part."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge

from sklearn_v2s.label_mapping import LinearLabelMapping, linear
from sklearn_v2s.label_mapping.ridge import draw_rows, fit_ridge_path
from sklearn_v2s.label_mapping.standard_rows import StandardRows

few = settings(max_examples=40, deadline=None)
each_factorisation = pytest.mark.parametrize(
    "largest", [0, 10**9], ids=["triangular", "eigenvectors"]
)


def make_rows(n, d, seed, rank=None):
    """Return features, targets of two columns and weights."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    if rank is not None:
        x = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d))
    return x, rng.normal(size=(n, 2)), rng.uniform(0.2, 3.0, size=n)


def loo_by_refitting(rows, targets, weight, alpha):
    """Return scores of each row without one unit of its weight, by scikit-learn."""
    scores = np.empty_like(targets)
    for i in range(len(rows)):
        less = weight.copy()
        less[i] -= min(weight[i], 1)
        model = Ridge(alpha=alpha, solver="cholesky")
        scores[i] = model.fit(rows, targets, sample_weight=less).predict(rows[[i]])[0]
    return scores


@each_factorisation
@pytest.mark.parametrize(("n", "d"), [(3, 9), (12, 12), (12, 13), (30, 7), (9, 40)])
@pytest.mark.parametrize("part", [5, 2**21], ids=["small parts", "one part"])
def test_each_factorisation_leaves_one_out_as_refitting_does(largest, n, d, part):
    x, targets, weight = make_rows(n, d, seed=n + d)
    rows = StandardRows(x, weight, chunk_values=part)
    for alpha in (0.05, 2.0, 80.0):
        found = fit_ridge_path(
            rows,
            targets,
            weight,
            np.array([alpha]),
            largest_eigenproblem=largest,
        )
        expected = Ridge(alpha=alpha, solver="cholesky")
        expected.fit(rows.part(), targets, sample_weight=weight)
        assert_allclose(found.coef, expected.coef_, rtol=1e-8, atol=1e-11)
        assert_allclose(found.intercept, np.average(targets, axis=0, weights=weight))
        loo = loo_by_refitting(rows.part(), targets, weight, alpha)
        assert_allclose(found.loo_scores, loo, rtol=1e-7, atol=1e-10)


@few
@given(
    n=st.integers(2, 25),
    d=st.integers(2, 25),
    rank=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_both_factorisations_agree_where_features_depend_on_each_other(
    n, d, rank, seed
):
    x, targets, weight = make_rows(n, d, seed, rank)
    rows = StandardRows(x, weight)
    # The mapping's smallest, 1e-7 of all variation, is that of at least 2,000 rows.
    for alpha in np.logspace(-4, 1, 6) * rows.variation:
        found = [
            fit_ridge_path(
                rows,
                targets,
                weight,
                np.array([alpha]),
                largest_eigenproblem=largest,
            )
            for largest in (0, 10**9)
        ]
        scores = [fit.loo_scores for fit in found]
        assert_allclose(*scores, rtol=1e-5, atol=1e-6)
        scores = [rows.part() @ fit.coef.T for fit in found]
        assert_allclose(*scores, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("n", "d"), [(90, 120), (120, 60)], ids=["wide", "tall"])
def test_beyond_some_size_drawn_rows_choose_the_penalty_of_all(n, d):
    x, targets, weight = make_rows(n, d, seed=0)
    # As rows often stand: each of the drawn ones would be of one class at equal steps.
    targets[:, 0] = np.where(np.arange(n) % 3 == 0, 1.0, -1.0) + 0.1 * x[:, 0]
    rows = StandardRows(x, weight)
    alphas = np.logspace(-1, 5, 13)
    found = fit_ridge_path(rows, targets, weight, alphas, largest_eigenproblem=40)
    drawn = draw_rows(n, 40)
    assert len(np.unique(drawn)) == 40
    assert len(np.unique(targets[drawn, 0] > 0)) == 2
    errors = []
    for alpha in alphas:
        sample = rows.part()[drawn], targets[drawn], weight[drawn]
        loo = loo_by_refitting(*sample, alpha)
        errors.append(weight[drawn] @ ((targets[drawn] - loo) ** 2).sum(axis=1))
    assert found.alpha == alphas[np.argmin(errors)]
    # All rows would have chosen another one.
    assert fit_ridge_path(rows, targets, weight, alphas).alpha != found.alpha
    # The fit itself, and what is left out of it, are those of all rows.
    exact = fit_ridge_path(rows, targets, weight, np.array([found.alpha]))
    assert_allclose(found.coef, exact.coef, rtol=1e-8, atol=1e-11)
    assert_allclose(found.loo_scores, exact.loo_scores, rtol=1e-8, atol=1e-10)


def test_a_subset_of_standard_rows_is_centred():
    x, _, weight = make_rows(30, 45, seed=2)
    x[:, 3] = 7.0
    rows = StandardRows(x, weight)
    rows.balance([5, 40])
    taken = np.array([2, 3, 11, 29])
    some = rows.subset(taken)
    assert some.shape == (4, 45)
    expected = rows.part()[taken]
    expected -= np.average(expected, axis=0, weights=weight[taken])
    assert_allclose(some.part(), expected, atol=1e-12)
    by_columns = np.hstack([values for _, values in some.column_parts()])
    assert_allclose(by_columns, expected, atol=1e-12)
    # The rows themselves are as they were.
    assert_allclose(np.average(rows.part(), axis=0, weights=weight), 0, atol=1e-12)


def test_where_drawn_rows_have_no_leave_one_out_weight_all_rows_choose():
    x, targets, weight = make_rows(30, 40, seed=0)
    rows = StandardRows(x, weight)
    alphas = np.logspace(0, 4, 5)
    loo_weight = np.ones(30)
    loo_weight[draw_rows(30, 3)] = 0
    found = fit_ridge_path(
        rows, targets, weight, alphas, loo_weight, largest_eigenproblem=3
    )
    expected = fit_ridge_path(rows, targets, weight, alphas, loo_weight)
    assert found.alpha == expected.alpha
    assert_allclose(found.loo_scores, expected.loo_scores, rtol=1e-9, atol=1e-11)


def test_a_penalty_lost_in_rounding_gets_the_eigenvectors():
    x, targets, weight = make_rows(8, 20, seed=0)
    rows = StandardRows(x, weight)
    alphas = np.array([0.0, 1e-300])
    found = fit_ridge_path(rows, targets, weight, alphas, largest_eigenproblem=0)
    # Centred rows: the eight of them have seven directions, and fit exactly.
    assert_allclose(
        rows.part() @ found.coef.T + found.intercept, targets, rtol=1e-6, atol=1e-8
    )


@few
@given(
    part=st.integers(1, 60),
    n=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from([np.float32, np.float64]),
)
def test_standard_rows_do_not_depend_on_the_parts(part, n, seed, kind):
    sizes = [2, 40, 1, 33]
    x, _, weight = make_rows(n, sum(sizes), seed)
    x = x.astype(kind)
    expected = StandardRows(x, weight)
    expected.balance(sizes)
    rows = StandardRows(x, weight, chunk_values=part)
    rows.balance(sizes)
    by_columns = np.hstack([values for _, values in rows.column_parts()])
    by_rows = np.vstack([values for _, values in rows.row_parts()])
    assert_allclose(by_columns, expected.part(), rtol=1e-9, atol=1e-9)
    assert_allclose(by_rows, by_columns, rtol=1e-9, atol=1e-9)
    assert_allclose(rows.variation, expected.variation, rtol=1e-9, atol=1e-9)
    assert_allclose((weight @ by_rows**2).sum(), rows.variation, atol=1e-9)


def test_features_are_read_and_left_alone():
    x, _, weight = make_rows(6, 50, seed=1)
    kept = x.copy()
    rows = StandardRows(x, weight)
    rows.balance([50])
    rows.part()[:] = 0
    assert_array_equal(x, kept)
    assert np.abs(rows.part()).max() > 0.5


@pytest.mark.parametrize(("n", "d"), [(600, 2600), (5000, 600)])
def test_no_second_table_of_the_features_is_made(n, d, monkeypatch):
    # As with more rows and features than a test has time for.
    path = partial(fit_ridge_path, largest_eigenproblem=200)
    monkeypatch.setattr(linear, "fit_ridge_path", path)
    rows = partial(StandardRows, chunk_values=2**14)
    monkeypatch.setattr(linear, "StandardRows", rows)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)).astype(np.float32)
    y = np.arange(n) % 2
    mapping = LinearLabelMapping(block_sizes=[d])
    mapping.fit(x[:50], y[:50])
    tracemalloc.start()
    try:
        mapping.fit(x, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Twice the Gram matrix, the values of rows for all penalties, and the parts.
    room = 2 * 8 * min(n, d) ** 2 + 4 * 8 * 21 * 2 * n + 16 * 2**14 * 8
    assert peak < room < 8 * n * d


def test_float32_features_are_mapped_as_float64_ones():
    x, _, _ = make_rows(40, 60, seed=3)
    x = x.astype(np.float32)
    y = np.arange(40) % 3
    mapping = LinearLabelMapping(block_sizes=[60]).fit(x, y)
    expected = LinearLabelMapping(block_sizes=[60]).fit(x.astype(np.float64), y)
    assert mapping.alpha_ == expected.alpha_
    assert mapping.coef_.dtype == np.float64
    assert_allclose(mapping.coef_, expected.coef_, rtol=1e-12, atol=1e-14)
    assert_allclose(
        mapping.transform(x), expected.transform(x.astype(np.float64)), rtol=1e-12
    )


def test_a_singleton_class_does_not_choose_penalty_and_temperature():
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(6, 40))
    y = np.array([0] * 8 + [1] * 8 + [2, 3, 4, 5])
    x = centres[y] + rng.normal(size=(20, 40))
    fresh = centres[y] + rng.normal(size=(20, 40))
    mapping = LinearLabelMapping().fit(x, y)
    assert (mapping.transform(fresh).argmax(axis=1) == y).mean() > 0.9
    # All leave-one-out predictions of the other rows are right: worth trusting.
    assert mapping.transform(fresh).max(axis=1).mean() > 0.6


def test_singleton_classes_alone():
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(6, 40))
    y = np.arange(6)
    mapping = LinearLabelMapping().fit(centres, y)
    assert mapping.temperature_ == 2.0
    fresh = centres + rng.normal(size=(6, 40))
    proba = mapping.transform(fresh)
    assert (proba.argmax(axis=1) == y).all()
    assert proba.max(axis=1).min() > 0.5
    # Of given penalties, the one that is nearest to the usual one.
    alphas = mapping.alpha_ * np.array([0.01, 0.5, 30])
    assert LinearLabelMapping(alphas=alphas).fit(centres, y).alpha_ == alphas[1]


def test_a_row_of_weight_two_chooses_as_two_rows_do():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 9)), np.array([0, 0, 1, 1, 2])
    weighted = LinearLabelMapping().fit(x, y, sample_weight=[1, 1, 1, 1, 2])
    repeated = LinearLabelMapping().fit(np.vstack([x, x[4:]]), np.append(y, 2))
    assert weighted.alpha_ == pytest.approx(repeated.alpha_)
    assert weighted.temperature_ == pytest.approx(repeated.temperature_)
