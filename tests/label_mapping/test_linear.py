# SPDX-License-Identifier: Apache-2.0
"""The linear mapping without blocks, against scikit-learn and properties."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV

from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.label_mapping.linear import fit_temperature
from sklearn_v2s.label_mapping.ridge import fit_ridge_path
from sklearn_v2s.label_mapping.standard_rows import StandardRows
from tests.small_mappings import each_linear, few, make_data, seeds

SHAPES = pytest.mark.parametrize(("n", "d"), [(40, 7), (15, 60), (20, 20)])


def standardise(x, weight):
    mean = np.average(x, axis=0, weights=weight)
    return (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))


@SHAPES
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_coefficients_are_those_of_scikit_learn(n, d, weighted):
    x, y = make_data(9, n=n, k=d)
    x = x * np.linspace(0.1, 30, d) + 5
    rng = np.random.default_rng(9)
    weight = rng.uniform(0.2, 3, size=n) if weighted else np.ones(n)
    mapping = LinearLabelMapping(alphas=2.5).fit(x, y, sample_weight=weight)
    rows, targets = standardise(x, weight), 2.0 * np.eye(3)[y] - 1
    ridge = Ridge(alpha=2.5).fit(rows, targets, sample_weight=weight)
    assert mapping.alpha_ == 2.5
    assert_allclose(mapping.coef_, ridge.coef_, rtol=1e-7, atol=1e-10)
    assert_allclose(mapping.intercept_, ridge.intercept_, rtol=1e-9, atol=1e-12)
    scores = mapping.decision_scores(x)
    assert_allclose(scores, ridge.predict(rows), rtol=1e-7, atol=1e-10)
    assert_allclose(
        mapping.transform(x), softmax(mapping.temperature_ * scores, axis=1)
    )


@SHAPES
@few
@given(seed=seeds)
def test_ridge_chooses_the_alpha_of_ridgecv(n, d, seed):
    x, y = make_data(seed, n=n, k=d)
    # RidgeCV counts the errors of singleton classes, too.
    assume(np.bincount(y).min() > 1)
    alphas = np.logspace(-2, 4, 13)
    mapping = LinearLabelMapping(alphas=alphas).fit(x, y)
    rows, targets = standardise(x, None), 2.0 * np.eye(3)[y] - 1
    reference = RidgeCV(alphas=alphas).fit(rows, targets)
    assert mapping.alpha_ == reference.alpha_
    assert_allclose(mapping.coef_, reference.coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(14, 4), (10, 25)])
@pytest.mark.parametrize("kind", ["ones", "whole", "fractions"])
def test_leave_one_out_is_refitting_without_a_unit(n, d, kind):
    x, y = make_data(10, n=n, k=d)
    rng = np.random.default_rng(10)
    weight = {
        "ones": np.ones(n),
        "whole": rng.integers(1, 4, size=n) * 1.0,
        "fractions": rng.uniform(0.2, 2.5, size=n),
    }[kind]
    alphas = np.array([0.3, 3.0, 30.0])
    rows, targets = standardise(x, weight), 2.0 * np.eye(3)[y] - 1
    scores = np.empty((3, n, 3))
    for a, alpha in enumerate(alphas):
        for i in range(n):
            less = weight.copy()
            less[i] -= min(weight[i], 1)
            model = Ridge(alpha=alpha).fit(rows, targets, sample_weight=less)
            scores[a, i] = model.predict(rows[[i]])[0]
    errors = [weight @ ((targets - s) ** 2).sum(axis=1) for s in scores]
    best = int(np.argmin(errors))

    for a in range(3):
        standard = StandardRows(rows, weight)
        path = fit_ridge_path(standard, targets, weight, alphas[[a]])
        assert_allclose(path.loo_scores, scores[a], rtol=1e-8, atol=1e-10)
    mapping = LinearLabelMapping(alphas=alphas).fit(x, y, sample_weight=weight)
    assert mapping.alpha_ == alphas[best]
    right = scores[best].argmax(axis=1) == y
    assert_allclose(mapping.loo_accuracy_, np.average(right, weights=weight))
    logs = log_softmax(mapping.temperature_ * scores[best], axis=1)[np.arange(n), y]
    assert_allclose(mapping.loo_log_loss_, -np.average(logs, weights=weight))


@few
@given(seed=seeds)
def test_ridge_does_not_see_the_units_of_features(seed):
    x, y = make_data(seed)
    rng = np.random.default_rng(seed)
    moved = x * rng.uniform(0.01, 100, size=9) * rng.choice([-1, 1], 9)
    moved += rng.uniform(-100, 100, size=9)
    expected = LinearLabelMapping().fit(x, y)
    mapping = LinearLabelMapping().fit(moved, y)
    assert_allclose(mapping.alpha_, expected.alpha_)
    assert_allclose(mapping.transform(moved), expected.transform(x), rtol=1e-6)


def test_feature_that_was_flat_in_training_cannot_decide_alone():
    x, y = make_data(3)
    x[:, 0] = 0
    x[0, 0] = 1e-10
    mapping = LinearLabelMapping().fit(x, y)
    moved = x.copy()
    moved[:, 0] = 1.0
    bounded = moved.copy()
    bounded[:, 0] = mapping.mean_[0] + mapping.bound_[0] * mapping.scale_[0]
    assert_allclose(mapping.transform(moved), mapping.transform(bounded))
    agreed = mapping.transform(moved).argmax(axis=1) == mapping.transform(x).argmax(1)
    assert agreed.mean() > 0.9


@few
@given(seed=seeds, factor=st.floats(2, 100))
def test_default_grid_follows_the_sum_of_weights(seed, factor):
    x, y = make_data(seed, n=20)
    mapping = LinearLabelMapping().fit(x, y, sample_weight=np.full(20, factor))
    rows, targets = standardise(x, None), 2.0 * np.eye(3)[y] - 1
    # The same penalty for each unit of weight gives the same coefficients.
    alpha = mapping.alpha_ / factor
    assert_allclose(mapping.coef_, Ridge(alpha=alpha).fit(rows, targets).coef_, 1e-6)


@each_linear
def test_constant_features_are_ignored(mapping):
    x, y = make_data(11)
    noise = np.random.default_rng(0).normal(size=(30, 1))
    constant = np.hstack([np.full((30, 1), 3e7), 1e4 * (1 + 1e-7 * noise), x])
    expected = clone(mapping).fit(x, y)
    mapping = clone(mapping).fit(constant, y)
    assert_array_equal(mapping.scale_[:2], 1)
    assert_array_equal(mapping.coef_[:, :2], 0)
    assert_allclose(mapping.coef_[:, 2:], expected.coef_, rtol=1e-6, atol=1e-8)
    nothing = clone(mapping).fit(np.ones((30, 4)), y)
    assert_allclose(np.ptp(nothing.transform(x[:, :4]), axis=0), 0, atol=1e-15)


def test_ridge_of_equally_good_alphas_takes_the_largest():
    mapping = LinearLabelMapping(alphas=[1, 5, 2]).fit(np.ones((6, 2)), [0, 1] * 3)
    assert mapping.alpha_ == 5


def test_refit_leaves_nothing_of_the_other_solver():
    x, y = make_data()
    mapping = LinearLabelMapping().fit(x, y).set_params(solver="logistic").fit(x, y)
    assert not {"alpha_", "loo_log_loss_", "loo_accuracy_"} & vars(mapping).keys()


@few
@given(seed=seeds, scale=st.floats(0.1, 10))
def test_temperature_minimises_the_smoothed_log_loss(seed, scale):
    rng = np.random.default_rng(seed)
    scores = scale * rng.normal(size=(30, 4))
    y = rng.integers(0, 4, size=30)
    scores[np.arange(30), y] += scale
    weight = rng.uniform(0.1, 3, size=30)
    total = weight.sum()
    labels = (np.eye(4)[y] * total + 1 / 4) / (total + 1)

    def loss(log_temperature):
        logs = log_softmax(np.exp(log_temperature) * scores, axis=1)
        return -weight @ (labels * logs).sum(axis=1)

    best = minimize_scalar(loss, bounds=(np.log(1e-3), np.log(1e4)), method="bounded")
    assert loss(np.log(fit_temperature(scores, y, weight))) <= best.fun + 1e-9


@pytest.mark.parametrize("n", [4, 10, 100])
def test_certainty_grows_with_the_evidence_only(n):
    y = np.arange(n) % 2
    x = np.where(y, 1.0, -1.0)[:, None]
    mapping = LinearLabelMapping().fit(x, y)
    sure = mapping.transform(x)[np.arange(n), y]
    assert mapping.loo_accuracy_ == 1
    # One more row that is half of each class, up to the scores of the fit and of
    # leave-one-out.
    assert_allclose(sure, (n + 0.5) / (n + 1), atol=0.02)


def test_no_information_gives_no_certainty():
    x = np.random.default_rng(0).normal(size=(60, 500))
    mapping = LinearLabelMapping().fit(x, np.arange(60) % 3)
    assert np.abs(mapping.transform(x) - 1 / 3).max() < 0.2
    pair = LinearLabelMapping().fit([[0.0], [1.0]], ["a", "b"])
    shares = pair.transform([[0.0], [1.0]])
    # Without either row nothing is known of its class: the usual temperature it is.
    assert pair.temperature_ == 2.0
    assert_allclose(shares, [[expit(4), expit(-4)], [expit(-4), expit(4)]], atol=0.01)


def test_probabilities_are_calibrated_on_held_out_data():
    def log_loss(probability, y):
        return -np.log(probability[np.arange(len(y)), y]).mean()

    gains = {"softmax": [], "fitted to its own scores": [], "chosen on test rows": []}
    for seed in range(12):
        cases = [(60, 20, 4, 0.4), (200, 36, 5, 1.0), (200, 150, 5, 0.5)]
        n, d, c, signal = cases[seed % 3]
        rng = np.random.default_rng(seed)
        y = rng.integers(0, c, size=n + 2000)
        y[:c] = np.arange(c)
        x = rng.normal(size=(n + 2000, d))
        x[:, :10] += signal * rng.normal(size=(c, 10))[y]
        mapping = LinearLabelMapping().fit(x[:n], y[:n])
        unseen, truth = mapping.decision_scores(x[n:]), y[n:]
        own = mapping.decision_scores(x[:n])
        temperatures = {
            "softmax": [1.0],
            "fitted to its own scores": [fit_temperature(own, y[:n], np.ones(n))],
            "chosen on test rows": np.logspace(-2, 2, 60),
        }
        loss = log_loss(mapping.transform(x[n:]), truth)
        for name, values in temperatures.items():
            losses = [log_loss(softmax(t * unseen, axis=1), truth) for t in values]
            gains[name].append(min(losses) - loss)
    mean = {name: np.mean(gain) for name, gain in gains.items()}
    assert mean["softmax"] > 0.05
    assert mean["fitted to its own scores"] > 0.05
    assert mean["chosen on test rows"] > -0.03


@pytest.mark.parametrize("c", [2, 4])
@pytest.mark.parametrize(("n", "d"), [(60, 5), (20, 50)])
def test_logistic_is_that_of_scikit_learn(n, d, c):
    x, y = make_data(12, n=n, k=d, c=c)
    weight = np.random.default_rng(0).uniform(0.1, 2, size=n)
    mapping = LinearLabelMapping(solver="logistic", C=0.3).fit(x, y, weight)
    rows = standardise(x, weight)
    reference = LogisticRegression(C=0.3, tol=1e-8, max_iter=1000)
    expected = reference.fit(rows, y, sample_weight=weight).predict_proba(rows)
    assert mapping.coef_.shape == (c, d) and mapping.temperature_ == 1
    assert_allclose(mapping.transform(x), expected, atol=1e-5)


def test_logistic_gives_an_absent_class_one_pseudo_row():
    x, y = make_data(13, c=3)
    mapping = LinearLabelMapping(solver="logistic").fit(x, y, classes=range(5))
    rows = np.vstack([standardise(x, None), np.zeros((2, 9))])
    weight = np.append(np.ones(30), [0.2, 0.2])
    reference = LogisticRegression(tol=1e-8, max_iter=1000)
    reference.fit(rows, np.append(y, [3, 4]), sample_weight=weight)
    assert_allclose(mapping.transform(x), reference.predict_proba(rows)[:-2], atol=1e-5)
