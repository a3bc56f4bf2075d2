# SPDX-License-Identifier: Apache-2.0
"""Label mappings against formulas, slow references, scikit-learn and properties."""

from numbers import Number

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_v2s.label_mapping import (
    BayesianLabelMapping,
    ContiguousLabelMapping,
    FrequencyLabelMapping,
    IterativeLabelMapping,
    LinearLabelMapping,
    RandomLabelMapping,
)
from sklearn_v2s.label_mapping.linear import fit_temperature
from sklearn_v2s.label_mapping.ridge import fit_ridge_path
from sklearn_v2s.label_mapping.standard_rows import StandardRows

GROUPS = [
    RandomLabelMapping(random_state=0),
    ContiguousLabelMapping(),
    FrequencyLabelMapping(),
    IterativeLabelMapping(),
]
WORDS = [*GROUPS, BayesianLabelMapping(), BayesianLabelMapping(plus=True)]
LINEAR = [LinearLabelMapping(), LinearLabelMapping(solver="logistic")]
ALL = [*WORDS, *LINEAR]

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
each = pytest.mark.parametrize("mapping", ALL, ids=repr)
each_word = pytest.mark.parametrize("mapping", WORDS, ids=repr)
each_group = pytest.mark.parametrize("mapping", GROUPS, ids=repr)
each_linear = pytest.mark.parametrize("mapping", LINEAR, ids=repr)


def make_data(seed=0, n=30, k=9, c=3):
    """Return scores that tell c classes apart with some errors, and all c labels."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(c), rng.integers(0, c, n - c)])
    centres = rng.normal(size=(c, k))
    return 1.5 * centres[codes] + rng.normal(size=(n, k)), codes


def float_state(mapping):
    """Return the fitted numbers of a mapping, by name."""
    return {
        name: np.asarray(value)
        for name, value in vars(mapping).items()
        if name.endswith("_") and name not in {"classes_", "n_iter_"}
    }


def tolerance(mapping):
    """Return what rounding may do: an iterative solver stops within `tol`."""
    iterative = getattr(mapping, "solver", None) == "logistic"
    return {"rtol": 1e-4, "atol": 1e-5} if iterative else {"rtol": 1e-6, "atol": 1e-8}


def assert_same_fit(first, second):
    assert_array_equal(first.classes_, second.classes_)
    expected = float_state(second)
    assert float_state(first).keys() == expected.keys()
    for name, value in float_state(first).items():
        assert_allclose(value, expected[name], **tolerance(first), err_msg=name)


# --- scikit-learn's checks -----------------------------------------------------------


def _expected_failed_checks(estimator):
    if not any(isinstance(estimator, type(group)) for group in GROUPS):
        return {}
    reason = (
        "the data have 3 target classes and 2 features: 3 disjoint, non-empty groups "
        "of 2 source classes do not exist"
    )
    return {
        "check_estimators_fit_returns_self": reason,
        "check_estimators_overwrite_params": reason,
        "check_readonly_memmap_input": reason,
    }


@parametrize_with_checks(ALL, expected_failed_checks=_expected_failed_checks)
def test_sklearn_checks(estimator, check):
    check(estimator)


@each_group
def test_checks_that_need_more_features_hold_with_them(mapping):
    logits, y = make_data()
    mapping = clone(mapping)
    parameters = dict(mapping.get_params())
    logits.setflags(write=False)
    y.setflags(write=False)
    assert mapping.fit(logits, y) is mapping
    assert mapping.get_params() == parameters


# --- the contract --------------------------------------------------------------------


@each
def test_contract(mapping):
    logits, y = make_data()
    mapping = clone(mapping).fit(logits, y)
    scores = mapping.transform(logits)
    assert scores.shape == (30, 3) and scores.dtype == np.float64
    assert (scores >= 0).all()
    assert mapping.n_features_in_ == 9
    assert list(mapping.get_feature_names_out()) == ["class_0", "class_1", "class_2"]
    assert mapping.__sklearn_tags__().target_tags.required
    for name, value in vars(mapping).items():
        if name.endswith("_"):
            assert isinstance(value, np.ndarray | Number | str), name
    with pytest.raises(NotFittedError):
        clone(mapping).get_feature_names_out()


def test_flags():
    assert [m.reads_logits for m in ALL] == [True] * 6 + [False] * 2
    refits = [m.refit_each_epoch for m in ALL]
    assert refits == [False, False, False, True, True, True, False, False]


LABELS = {
    "sign": [-1, 1],
    "from three": [3, 4, 5, 6, 7, 8],
    "strings": ["no", "yes", "maybe"],
    "booleans": [False, True],
    "floats": [-1.0, 1.0],
    "one": [7],
}


@each
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_label_sets_give_what_their_codes_give(mapping, labels):
    labels = np.sort(np.array(labels))
    logits, codes = make_data(1, n=40, k=12, c=len(labels))
    by_code = clone(mapping).fit(logits, codes)
    by_label = clone(mapping).fit(logits, labels[codes])
    assert_array_equal(by_label.classes_, labels)
    assert_array_equal(by_label.transform(logits), by_code.transform(logits))
    assert list(by_label.get_feature_names_out()) == [f"class_{v}" for v in labels]


@each
def test_classes_that_y_lacks(mapping):
    logits, codes = make_data(2, c=3)
    labels = np.array(["b", "d", "e"])[codes]
    mapping = clone(mapping).fit(logits, labels, classes=["e", "b", "c", "d", "a"])
    assert list(mapping.classes_) == ["a", "b", "c", "d", "e"]
    scores = mapping.transform(logits)
    assert scores.shape == (30, 5) and np.isfinite(scores).all()
    same = clone(mapping).fit_transform(logits, labels, classes=list("abcde"))
    assert_array_equal(scores, same)
    if not mapping.reads_logits:
        share = scores / scores.sum(axis=1, keepdims=True)
        assert share[:, [0, 2]].sum(axis=1).mean() < 0.2


@each
def test_one_sample_of_a_class_and_one_row(mapping):
    logits, _ = make_data(3, n=8)
    y = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    mapping = clone(mapping)
    scores = mapping.fit(logits, y).transform(logits)
    assert np.isfinite(scores).all() and scores.shape == (8, 3)
    alone = mapping.fit(logits[:1], ["x"]).transform(logits)
    assert alone.shape == (8, 1) and (alone > 0).all()
    several = mapping.fit(logits[:1], ["x"], classes=["w", "x", "y"])
    assert np.isfinite(several.transform(logits)).all()
    if mapping.__dict__.get("solver") == "ridge":
        # Without its only row, a fit knows nothing and prefers no class.
        assert_allclose(several.loo_log_loss_, np.log(3))


# --- weights -------------------------------------------------------------------------


@each
@few
@given(seed=seeds, factor=st.integers(1, 3))
def test_integer_weight_is_repetition(mapping, seed, factor):
    logits, y = make_data(seed, n=16)
    rng = np.random.default_rng(seed)
    weight = factor * rng.integers(0, 4, size=16)
    weight[0] = factor
    order = rng.permutation(16)
    weighted = clone(mapping).fit(logits[order], y[order], sample_weight=weight[order])
    repeated = clone(mapping).fit(logits.repeat(weight, 0), y.repeat(weight))
    assert_same_fit(weighted, repeated)
    assert_allclose(
        weighted.transform(logits), repeated.transform(logits), **tolerance(mapping)
    )


@each
@few
@given(seed=seeds)
def test_zero_weight_is_removal(mapping, seed):
    logits, y = make_data(seed, n=20)
    rng = np.random.default_rng(seed)
    weight = np.where(y == 1, 0, rng.uniform(0.1, 2.5, size=20))
    kept = weight > 0
    zero = clone(mapping).fit(logits, y, sample_weight=weight)
    removed = clone(mapping).fit(logits[kept], y[kept], sample_weight=weight[kept])
    assert 1 not in zero.classes_
    assert_array_equal(zero.transform(logits), removed.transform(logits))
    for name, value in float_state(zero).items():
        assert_array_equal(value, float_state(removed)[name])


@each
def test_scalar_weight(mapping):
    logits, y = make_data()
    assert_same_fit(
        clone(mapping).fit(logits, y, sample_weight=2.0),
        clone(mapping).fit(logits, y, sample_weight=np.full(30, 2)),
    )


# --- word mappings -------------------------------------------------------------------


@each_word
def test_probability_aggregation_is_equation_4(mapping):
    logits, y = make_data(4, n=12, k=11, c=3)
    mapping = clone(mapping).set_params(aggregation="probability").fit(logits, y)
    scores = mapping.transform(logits)
    for i in range(12):
        exp = [np.exp(z) for z in logits[i]]
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


@each_word
def test_logit_aggregation(mapping):
    logits, y = make_data(5, n=12, k=11, c=3)
    mapping = clone(mapping).set_params(aggregation="logit").fit(logits, y)
    for row, got in zip(logits, mapping.transform(logits), strict=True):
        means = [sum(row * mapping.weights_[:, t]) for t in range(3)]
        expected = np.exp(means) / np.exp(means).sum()
        assert_allclose(got, expected, rtol=1e-12)


@each_word
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
@each_word
def test_extreme_logits_can_be_normalised(mapping, aggregation):
    logits, y = make_data(6, k=10, c=3)
    mapping = clone(mapping).set_params(aggregation=aggregation).fit(logits, y)
    extreme = 2000.0 * np.eye(10) - 1000
    scores = mapping.transform(extreme)
    shares = scores / scores.sum(axis=1, keepdims=True)
    assert_allclose(shares.sum(axis=1), 1)


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
    # Source 0 is everybody's answer and goes to class 0; the rest are equally likely.
    assert mapping.source_indices_.tolist() == [[0, 1], [2, 3]]


def test_rounding_errors_do_not_decide_ties():
    # Every shift of a row once: all source classes are the answer equally often and
    # have the same probabilities, only summed in another order.
    first, second = np.random.default_rng(0).normal(size=(2, 9))
    logits = [np.roll(row, shift) for row in (first, second) for shift in range(9)]
    mapping = FrequencyLabelMapping().fit(logits, [0] * 9 + [1] * 9)
    assert mapping.source_indices_.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


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
    for row, t, w in zip(logits, y, weight, strict=True):
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


@each
@few
@given(seed=seeds)
def test_columns_in_another_order(mapping, seed):
    if type(mapping) in (RandomLabelMapping, ContiguousLabelMapping):
        return  # They go by position and do not look at the scores.
    logits, y = make_data(seed)
    order = np.random.default_rng(seed).permutation(9)
    expected = clone(mapping).fit(logits, y)
    mapping = clone(mapping).fit(logits[:, order], y)
    if mapping.reads_logits:
        assert_allclose(mapping.weights_, expected.weights_[order], rtol=1e-9)
    else:
        assert_allclose(mapping.coef_, expected.coef_[:, order], **tolerance(mapping))


# --- randomness ----------------------------------------------------------------------


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


# --- ridge ---------------------------------------------------------------------------

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
    # RidgeCV lets the only row of a class judge, too.
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


# --- probabilities -------------------------------------------------------------------


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


# --- logistic ------------------------------------------------------------------------


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


# --- errors --------------------------------------------------------------------------

X8, Y2 = make_data(n=8, k=6, c=2)
ERRORS = [
    (FrequencyLabelMapping(mapping_size=4), {}, "mapping_size=4.*largest.*is 3"),
    (ContiguousLabelMapping(), {"classes": range(7)}, "n_features = 6.*7 target"),
    (BayesianLabelMapping(plus=True, top_k=7), {}, "top_k=7.*from 1 to 6"),
    (LinearLabelMapping(alphas=[1, 0]), {}, r"alphas=\[1, 0\].*positive"),
    (LinearLabelMapping(alphas=[]), {}, r"alphas=\[\].*positive"),
    (LinearLabelMapping(alphas=["a"]), {}, r"alphas=\['a'\].*positive"),
    (LinearLabelMapping(alphas=[[1.0]]), {}, "alphas=.*one-dimensional"),
    *[
        (mapping, arguments, message)
        for mapping in (FrequencyLabelMapping(), LinearLabelMapping())
        for arguments, message in [
            ({"sample_weight": np.zeros(8)}, "sample_weight has only zero values"),
            ({"sample_weight": [1] * 7 + [-2]}, r"negative value -2\.0 at position 7"),
            ({"sample_weight": np.ones(3)}, r"shape \(3,\), expected \(8,\)"),
            ({"sample_weight": [np.nan] * 8}, "sample_weight contains NaN"),
            ({"classes": [1, 5]}, r"y has the labels \[0\].*lacks"),
            ({"classes": ["0", "1"]}, r"y has the labels \[0, 1\]"),
            ({"classes": []}, r"classes has shape \(0,\)"),
            ({"classes": [[0, 1]]}, r"classes has shape \(1, 2\)"),
            ({"y": np.linspace(0, 1, 8)}, "continuous"),
            ({"y": None}, "requires y"),
            ({"source_scores": np.full((8, 6), np.nan)}, "NaN"),
        ]
    ],
]


# The last parameter of each is the wrong one.
WRONG_PARAMETERS = [
    (
        RandomLabelMapping,
        {"mapping_size": 0},
        r"an int in the range \[1, inf\) or None",
    ),
    (ContiguousLabelMapping, {"mapping_size": -2}, "an int in the range"),
    (FrequencyLabelMapping, {"mapping_size": 1.5}, "an int in the range"),
    (IterativeLabelMapping, {"mapping_size": True}, "an int in the range"),
    (RandomLabelMapping, {"mapping_size": "all"}, "an int in the range"),
    (RandomLabelMapping, {"aggregation": "mean"}, "among {.*'logit'.*}"),
    (BayesianLabelMapping, {"aggregation": None}, "among {.*'probability'.*}"),
    (RandomLabelMapping, {"random_state": "x"}, "an int in the range"),
    (BayesianLabelMapping, {"smoothing": -1}, r"a float in the range \[0.0, inf\)"),
    (BayesianLabelMapping, {"smoothing": np.inf}, r"a float in the range \[0.0, inf\)"),
    (BayesianLabelMapping, {"smoothing": "1"}, "a float in the range"),
    (BayesianLabelMapping, {"smoothing": True}, "a float in the range"),
    (BayesianLabelMapping, {"plus": "yes"}, "an instance of 'bool'"),
    (BayesianLabelMapping, {"plus": True, "top_k": 0}, r"in the range \[1, inf\) or N"),
    (LinearLabelMapping, {"solver": "svm"}, "among {.*'ridge'.*}"),
    (LinearLabelMapping, {"alphas": "auto"}, "an array-like, a float in the range"),
    (LinearLabelMapping, {"alphas": -1.0}, r"a float in the range \(0.0, inf\)"),
    (LinearLabelMapping, {"C": 0}, r"a float in the range \(0.0, inf\)"),
    (LinearLabelMapping, {"C": "1"}, "a float in the range"),
    (LinearLabelMapping, {"tol": -1}, r"a float in the range \(0.0, inf\)"),
    (LinearLabelMapping, {"max_iter": 0}, r"an int in the range \[1, inf\)"),
]


@pytest.mark.parametrize(("mapping", "parameters", "allowed"), WRONG_PARAMETERS)
def test_a_wrong_parameter_is_named_with_what_is_allowed(mapping, parameters, allowed):
    name, value = list(parameters.items())[-1]
    named = f"'{name}' parameter of {mapping.__name__} must be .*{allowed}"
    with pytest.raises(ValueError, match=f"(?s){named}.* Got {value!r} instead"):
        mapping(**parameters).fit(X8, Y2)


@pytest.mark.parametrize(("mapping", "arguments", "message"), ERRORS)
def test_errors_say_what_is_wrong(mapping, arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        clone(mapping).fit(**{"source_scores": X8, "y": Y2, **arguments})


@each
def test_transform_checks_its_rows(mapping):
    with pytest.raises(NotFittedError):
        clone(mapping).transform(X8)
    mapping = clone(mapping).fit(X8, Y2)
    with pytest.raises(ValueError, match="6 features"):
        mapping.transform(X8[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        mapping.transform(X8 * np.nan)


@each_word
def test_transform_checks_the_aggregation_set_since(mapping):
    mapping = clone(mapping).fit(X8, Y2).set_params(aggregation="sum")
    with pytest.raises(
        ValueError, match=r"'aggregation' .*'logit'.* Got 'sum' instead"
    ):
        mapping.transform(X8)
