# SPDX-License-Identifier: Apache-2.0
"""The linear label mapping with blocks, against a reference written from its text."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV

from sklearn_v2s.label_mapping import LinearLabelMapping
from tests.small_mappings import BLOCKS, SIZES, each_solver, few, make_block_data, seeds

# --- the reference: nothing of the package is used below -----------------------------


class Reference:
    """Standardise, bring long blocks to length, centre, and share out the variance."""

    def __init__(self, x, weight, sizes):
        self.sizes = sizes
        self.mean = np.average(x, axis=0, weights=weight)
        self.std = np.sqrt(np.average((x - self.mean) ** 2, axis=0, weights=weight))
        self.std[self.std == 0] = 1
        self.bound = 2 * np.abs((x - self.mean) / self.std).max(axis=0)
        rows = self._directions(x)
        self.centre = np.average(rows, axis=0, weights=weight)
        variance = np.average((rows - self.centre) ** 2, axis=0, weights=weight)
        of_blocks = [part.sum() for part in np.split(variance, np.cumsum(sizes)[:-1])]
        # The variances of long blocks are equal, that of a short one is smaller in
        # proportion, and all sum to the number of features.
        shares = [
            min(size, 32) * (total > 0)
            for size, total in zip(sizes, of_blocks, strict=True)
        ]
        unit = x.shape[1] / sum(shares)
        self.factor = np.concatenate(
            [
                np.full(size, np.sqrt(unit * share / total) if total else 1)
                for size, share, total in zip(sizes, shares, of_blocks, strict=True)
            ]
        )

    def _directions(self, x):
        rows = np.clip((x - self.mean) / self.std, -self.bound, self.bound)
        parts = np.split(rows, np.cumsum(self.sizes)[:-1], axis=1)
        for number, part in enumerate(parts):
            if part.shape[1] >= 32:
                length = np.sqrt(np.mean(part**2, axis=1, keepdims=True))
                parts[number] = part / np.where(length > 0, length, 1)
        return np.hstack(parts)

    def rows(self, x):
        return (self._directions(x) - self.centre) * self.factor


def solve(rows, targets, weight, alpha):
    """Return coefficients and intercept of ridge with an intercept that is free."""
    d = rows.shape[1]
    with_one = np.hstack([rows, np.ones((len(rows), 1))])
    penalty = alpha * np.eye(d + 1)
    penalty[d, d] = 0
    gram = with_one.T @ (weight[:, None] * with_one) + penalty
    solution = np.linalg.solve(gram, with_one.T @ (weight[:, None] * targets))
    return solution[:d], solution[d]


# -------------------------------------------------------------------------------------


def weights(kind, n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "ones": np.ones(n),
        "whole": rng.integers(1, 4, size=n) * 1.0,
        "fractions": rng.uniform(0.2, 2.5, size=n),
    }[kind]


each_weight = pytest.mark.parametrize("kind", ["ones", "whole", "fractions"])


@BLOCKS
@each_weight
def test_scores_are_those_of_the_reference(sizes, kind):
    x, y = make_block_data(sizes=sizes)
    fresh, _ = make_block_data(sizes=sizes, seed=1)
    weight = weights(kind, len(x))
    mapping = LinearLabelMapping(block_sizes=sizes).fit(x, y, sample_weight=weight)
    reference = Reference(x, weight, sizes)
    targets = 2.0 * np.eye(3)[y] - 1
    coef, intercept = solve(reference.rows(x), targets, weight, mapping.alpha_)
    # Rows that were not seen, some of them beyond the bound.
    for rows in (x, fresh, 5 * fresh):
        expected = reference.rows(rows) @ coef + intercept
        found = mapping.decision_scores(rows)
        assert_allclose(found, expected, rtol=0, atol=1e-8)
        assert_allclose(
            mapping.transform(rows),
            softmax(mapping.temperature_ * expected, axis=1),
            rtol=0,
            atol=1e-6,
        )


@BLOCKS
def test_alpha_is_that_of_ridgecv(sizes):
    x, y = make_block_data(sizes=sizes)
    mapping = LinearLabelMapping(block_sizes=sizes).fit(x, y)
    rows, targets = Reference(x, np.ones(len(x)), sizes).rows(x), 2.0 * np.eye(3)[y] - 1
    grid = np.logspace(-7, -2, 21) * len(x) * sum(sizes)
    expected = RidgeCV(alphas=grid).fit(rows, targets)
    assert_allclose(mapping.alpha_, expected.alpha_, rtol=1e-9)
    assert_allclose(mapping.decision_scores(x), expected.predict(rows), atol=1e-8)


def loo_scores(rows, targets, weight, alpha):
    """Fit again without one unit of each row; the features stay as they are."""
    found = np.empty_like(targets)
    for i in range(len(rows)):
        less = weight.copy()
        less[i] -= min(weight[i], 1)
        model = Ridge(alpha=alpha).fit(rows, targets, sample_weight=less)
        found[i] = model.predict(rows[[i]])[0]
    return found


@BLOCKS
@each_weight
def test_leave_one_out_is_refitting_without_a_unit(sizes, kind):
    x, y = make_block_data(sizes=sizes, seed=4)
    weight = weights(kind, len(x), seed=4)
    alphas = len(x) * sum(sizes) * np.array([1e-3, 0.03, 1.0])
    mapping = LinearLabelMapping(block_sizes=sizes, alphas=alphas)
    mapping.fit(x, y, sample_weight=weight)
    rows, targets = Reference(x, weight, sizes).rows(x), 2.0 * np.eye(3)[y] - 1
    found = [loo_scores(rows, targets, weight, alpha) for alpha in alphas]
    errors = [weight @ ((targets - scores) ** 2).sum(axis=1) for scores in found]
    best = int(np.argmin(errors))
    assert mapping.alpha_ == alphas[best]
    right = found[best].argmax(axis=1) == y
    assert_allclose(mapping.loo_accuracy_, np.average(right, weights=weight))
    logs = log_softmax(mapping.temperature_ * found[best], axis=1)
    truth = logs[np.arange(len(y)), y]
    assert_allclose(
        mapping.loo_log_loss_, -np.average(truth, weights=weight), rtol=1e-6
    )


# --- shares --------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[1] * 12, [11, 1], [31, 1], [20, 31, 5]])
@each_solver
def test_short_blocks_weigh_by_their_features_as_without_blocks(sizes, solver):
    x, y = make_block_data(sizes=sizes)
    plain = LinearLabelMapping(solver, tol=1e-10).fit(x, y)
    mapping = LinearLabelMapping(solver, sizes, tol=1e-10).fit(x, y)
    assert_allclose(mapping.transform(x), plain.transform(x), rtol=1e-4)
    wide = np.hstack([x, np.random.default_rng(0).normal(size=(len(x), 64))])
    plain = LinearLabelMapping(solver, tol=1e-10).fit(wide, y)
    mapping = LinearLabelMapping(solver, [*sizes, 64], tol=1e-10).fit(wide, y)
    assert not np.allclose(mapping.transform(wide), plain.transform(wide), rtol=1e-3)


@pytest.mark.parametrize("size", [1, 8, 31, 32, 100])
def test_a_block_has_its_share_of_the_variance(size):
    sizes = [40, size, 300]
    x, y = make_block_data(sizes=sizes)
    # In the shrunken limit of a ridge, a feature's coefficient is its scale times its
    # covariance with the targets: with that the shares can be read off.
    mapping = LinearLabelMapping(block_sizes=sizes, alphas=1e9).fit(x, y)
    rows = Reference(x, np.ones(len(x)), sizes).rows(x)
    variances = [part.var(axis=0).sum() for part in np.split(rows, [40, 40 + size], 1)]
    assert_allclose(variances[1] / variances[0], min(1, size / 32))
    assert_allclose(variances[2], variances[0])
    targets = np.where(y[:, None] == np.unique(y), 1.0, -1.0)
    expected = (rows.T @ (targets - targets.mean(0)) / 1e9).T
    factor = Reference(x, np.ones(len(x)), sizes).factor
    scale = np.abs(expected * factor).max()
    assert_allclose(mapping.coef_, expected * factor, atol=1e-5 * scale)


def test_a_long_block_of_noise_does_not_drown_a_short_one_that_knows_the_class():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    informative = (2.0 * y - 1)[:, None] + 0.8 * rng.normal(size=(60, 1))
    x = np.hstack([rng.normal(size=(60, 3000)), informative])
    seen, unseen = slice(0, 30), slice(30, 60)

    def accuracy(block_sizes):
        mapping = LinearLabelMapping(block_sizes=block_sizes).fit(x[seen], y[seen])
        return (mapping.transform(x[unseen]).argmax(1) == y[unseen]).mean()

    assert accuracy([3000, 1]) > 0.8
    assert accuracy(None) < 0.75


def test_order_of_blocks_and_units_of_features_do_not_matter():
    x, y = make_block_data()
    expected = LinearLabelMapping(block_sizes=SIZES).fit(x, y)
    blocks = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    order = [3, 0, 4, 2, 1]
    moved = x[:, np.concatenate([blocks[number] for number in order])]
    moved = moved * np.logspace(-3, 3, moved.shape[1])
    sizes = [SIZES[number] for number in order]
    mapping = LinearLabelMapping(block_sizes=sizes).fit(moved, y)
    assert_allclose(mapping.transform(moved), expected.transform(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "same"), [([40, 50], True), ([32, 32], True), ([31, 40], False)]
)
def test_louder_rows_score_the_same_in_long_blocks_alone(sizes, same):
    x, y = make_block_data(sizes=sizes)
    mapping = LinearLabelMapping(block_sizes=sizes).fit(x, y)
    scores = mapping.decision_scores(x)
    for factor in (0.01, 1.5):
        louder = mapping.mean_ + factor * (x - mapping.mean_)
        difference = np.abs(mapping.decision_scores(louder) - scores)
        assert (difference.max() < 1e-9) == same
        assert same or np.median(difference) > 1e-3
    # A row at the mean of all features has no direction and a score all the same.
    assert np.isfinite(mapping.decision_scores(mapping.mean_[None])).all()


# --- what is ignored -----------------------------------------------------------------


@each_solver
@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("value", [0.0, 3e7])
def test_constant_blocks_are_ignored(solver, size, value):
    x, y = make_block_data(sizes=[3, 40])
    without = LinearLabelMapping(solver, block_sizes=[3, 40], C=1.0).fit(x, y)
    constant = np.full((len(x), size), value)
    wide = np.hstack([x[:, :3], constant, x[:, 3:]])
    # The total variance, which C is on the scale of, is the number of all features.
    factor = 43 / (43 + size)
    mapping = LinearLabelMapping(solver, block_sizes=[3, size, 40], C=factor)
    mapping.fit(wide, y)
    tolerance = 1e-8 if solver == "ridge" else 1e-4
    scores = mapping.decision_scores(wide)
    assert_allclose(scores, without.decision_scores(x), atol=tolerance)
    assert_allclose(mapping.coef_[:, 3 : 3 + size], 0, atol=1e-12)
    wide[:, 3 : 3 + size] = np.random.default_rng(0).normal(size=constant.shape)
    assert_array_equal(mapping.decision_scores(wide), scores)


@each_solver
def test_nothing_but_constant_blocks_say_nothing(solver):
    x, y = np.ones((12, 40)), np.arange(12) % 3
    mapping = LinearLabelMapping(solver, block_sizes=[5, 35]).fit(x, y)
    probabilities = mapping.transform(np.random.default_rng(0).normal(size=(4, 40)))
    assert_allclose(probabilities, 1 / 3, atol=1e-6)


def test_one_row_and_one_row_of_a_class():
    x, y = make_block_data(sizes=[40, 2])
    y[:] = 0
    y[3] = 1
    mapping = LinearLabelMapping(block_sizes=[40, 2]).fit(x, y)
    assert np.isfinite(mapping.transform(x)).all()
    alone = LinearLabelMapping(block_sizes=[40, 2]).fit(x[:1], y[:1], classes=[0, 1])
    assert np.isfinite(alone.transform(x)).all()


# --- weights -------------------------------------------------------------------------


@few
@given(seed=seeds, factor=st.integers(2, 3))
def test_an_integer_weight_is_a_repetition(seed, factor):
    x, y = make_block_data(n=15, sizes=[33, 4], seed=seed)
    weight = np.random.default_rng(seed).integers(0, factor + 1, size=15)
    # A row and a class too few would leave nothing to compare.
    weight[:3] = np.maximum(weight[:3], 1)
    mapping = LinearLabelMapping(block_sizes=[33, 4])
    weighted = clone(mapping).fit(x, y, sample_weight=weight)
    rows = np.repeat(np.arange(15), weight)
    repeated = clone(mapping).fit(x[rows], y[rows])
    assert_allclose(weighted.alpha_, repeated.alpha_, rtol=1e-9)
    for name in ("temperature_", "loo_log_loss_", "loo_accuracy_"):
        assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-5)
    assert_allclose(weighted.transform(x), repeated.transform(x), atol=1e-7)


# --- other settings ------------------------------------------------------------------


def test_without_blocks_all_is_as_it_was():
    x, y = make_block_data()
    mapping = LinearLabelMapping(alphas=3.0).fit(x, y)
    rows, targets = (x - x.mean(0)) / x.std(0), 2.0 * np.eye(3)[y] - 1
    ridge = Ridge(alpha=3.0).fit(rows, targets)
    assert_allclose(mapping.coef_, ridge.coef_, rtol=1e-6, atol=1e-10)
    assert_allclose(mapping.decision_scores(x), ridge.predict(rows), atol=1e-9)
    assert_allclose(mapping.intercept_, ridge.intercept_, atol=1e-12)


def test_logistic_fits_the_same_rows():
    x, y = make_block_data()
    mapping = LinearLabelMapping("logistic", SIZES, C=0.01).fit(x, y)
    rows = Reference(x, np.ones(len(x)), SIZES).rows(x)
    expected = LogisticRegression(C=0.01, tol=1e-8, max_iter=1000).fit(rows, y)
    assert_allclose(mapping.transform(x), expected.predict_proba(rows), atol=1e-4)


@pytest.mark.parametrize("kind", [tuple, list, np.array, np.uint8])
def test_sizes_may_come_in_any_kind_of_sequence(kind):
    x, y = make_block_data(sizes=[40, 2])
    expected = LinearLabelMapping(block_sizes=[40, 2]).fit(x, y).transform(x)
    sizes = np.array([40, 2], dtype=kind) if kind is np.uint8 else kind([40, 2])
    mapping = LinearLabelMapping(block_sizes=sizes).fit(x, y)
    assert_array_equal(mapping.transform(x), expected)
    assert_array_equal(clone(mapping).fit(x, y).transform(x), expected)


@each_solver
@pytest.mark.parametrize(
    "wrong",
    [
        [40],
        [40, 3],
        [41, 2],
        [42, 0],
        [43, -1],
        [40.0, 2.0],
        [],
        [[40, 2]],
        [[40], [1, 1]],
        ["40", "2"],
        [True] * 42,
        [None],
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_named(solver, wrong):
    x, y = make_block_data(sizes=[40, 2])
    message = re.escape(f"block_sizes={wrong!r} is not allowed")
    with pytest.raises(ValueError, match=message + r".* number of features, 42,"):
        LinearLabelMapping(solver, block_sizes=wrong).fit(x, y)


@each_solver
@pytest.mark.parametrize("wrong", [42, "42"])
def test_sizes_that_are_no_sequence_are_named(solver, wrong):
    x, y = make_block_data(sizes=[40, 2])
    message = f"'block_sizes' .* must be an array-like or None. Got {wrong!r} instead"
    with pytest.raises(ValueError, match=message):
        LinearLabelMapping(solver, block_sizes=wrong).fit(x, y)
