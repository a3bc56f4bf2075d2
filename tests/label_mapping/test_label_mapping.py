# SPDX-License-Identifier: Apache-2.0
"""What holds for every label mapping: contract, weights, errors."""

from numbers import Number

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_v2s.label_mapping import (
    BayesianLabelMapping,
    ContiguousLabelMapping,
    FrequencyLabelMapping,
    IterativeLabelMapping,
    LinearLabelMapping,
    RandomLabelMapping,
)
from tests.small_mappings import (
    ALL,
    GROUPS,
    assert_same_fit,
    each,
    each_group,
    few,
    float_state,
    make_data,
    seeds,
    tolerance,
)

X8, Y2 = make_data(n=8, k=6, c=2)


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


@pytest.mark.parametrize(("mapping", "arguments", "message"), ERRORS)
def test_errors_say_what_is_wrong(mapping, arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        clone(mapping).fit(**{"source_scores": X8, "y": Y2, **arguments})


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


@each
def test_transform_checks_its_rows(mapping):
    with pytest.raises(NotFittedError):
        clone(mapping).transform(X8)
    mapping = clone(mapping).fit(X8, Y2)
    with pytest.raises(ValueError, match="6 features"):
        mapping.transform(X8[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        mapping.transform(X8 * np.nan)
