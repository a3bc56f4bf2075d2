# SPDX-License-Identifier: Apache-2.0
"""The classifier among others: randomness, side effects, scikit-learn."""

import copy
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_html_repr

from sklearn_v2s import V2SClassifier
from sklearn_v2s.label_mapping import (
    LinearLabelMapping,
    RandomLabelMapping,
)
from sklearn_v2s.sources import load_source
from tests.small import WORDS, make_classifier, make_series

# --- randomness and side effects -----------------------------------------------------

RANDOM_SETTING = {"dropout": 0.3, "early_stopping": True}


def test_the_same_random_state_gives_the_same_bits(make):
    X, y = make_series()
    one, two = (make(**RANDOM_SETTING).fit(X, y) for _ in range(2))
    assert_array_equal(one.perturbation_, two.perturbation_)
    assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_an_unset_random_state_of_a_mapping_is_that_of_the_classifier(make):
    X, y = make_series(n_classes=3)
    setting = {"label_mapping": RandomLabelMapping(), "source_output": "logits"}
    one, two = (make(**setting).fit(X, y) for _ in range(2))
    assert_array_equal(
        one.label_mapping_.source_indices_, two.label_mapping_.source_indices_
    )
    assert setting["label_mapping"].random_state is None


def test_another_random_state_gives_another_result(make):
    X, y = make_series()
    seeds = (0, 1, np.random.RandomState(2))
    results = [make(random_state=seed).fit(X, y).perturbation_ for seed in seeds]
    for position, result in enumerate(results):
        for other in results[:position]:
            assert (result != other).mean() > 0.9


def test_a_random_state_may_be_an_instance_that_goes_on(make):
    X, y = make_series()
    state = np.random.RandomState(0)
    first, second = (make(random_state=state).fit(X, y) for _ in range(2))
    assert_array_equal(first.perturbation_, make().fit(X, y).perturbation_)
    assert not np.array_equal(second.perturbation_, first.perturbation_)


def test_a_view_does_not_depend_on_how_many_there_are(make):
    X, y = make_series()
    two, three = (make(n_views=n, max_epochs=0).fit(X, y) for n in (2, 3))
    assert_array_equal(three.perturbation_[:2], two.perturbation_)


@pytest.mark.parametrize("source", ["tiny", "attrnn"])
def test_global_random_generators_are_left_alone(tiny_source, source):
    X, y = make_series(n=8)
    source = tiny_source if source == "tiny" else source
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    random.seed(5)
    before = np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate()  # noqa: NPY002
    setting = {"max_epochs": 1, "n_views": 1, "n_segments": 1, "batch_size": 8}
    classifier = make_classifier(source, **setting, **RANDOM_SETTING).fit(X, y)
    classifier.partial_fit(X, y)
    classifier.predict_proba(X)
    pickle.loads(pickle.dumps(classifier)).predict(X)
    assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]


def test_the_global_random_state_has_no_influence(make):
    X, y = make_series()
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        results.append(make(**RANDOM_SETTING).fit(X, y).perturbation_)
    assert_array_equal(*results)


@pytest.mark.parametrize("normalization", ["global", "series", None])
def test_inputs_may_be_read_only_and_are_not_changed(make, normalization):
    X, y = make_series()
    weight = np.linspace(0.5, 1.5, 36)
    inputs = (X, y, weight)
    copies = [array.copy() for array in inputs]
    for array in inputs:
        array.flags.writeable = False
    classifier = make(normalization=normalization)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(X, y, sample_weight=weight)
        classifier.partial_fit(X, y, sample_weight=weight)
        classifier.predict_proba(X)
        classifier.reprogram(X)
    for array, original in zip(inputs, copies, strict=True):
        assert_array_equal(array, original)


@pytest.mark.parametrize("train_gain", [False, True])
def test_the_source_is_bit_identical_after_fit(tiny_source, train_gain):
    tiny_source.train()
    before = copy.deepcopy(tiny_source.state_dict())
    X, y = make_series()
    classifier = make_classifier(tiny_source, train_gain=train_gain)
    classifier.fit(X, y).partial_fit(X, y)
    used = classifier.model_.reprogrammed.source
    assert used is not tiny_source
    for source in (tiny_source, used):
        assert source.state_dict().keys() == before.keys()
        for name, tensor in source.state_dict().items():
            assert torch.equal(tensor, before[name]), name
    assert tiny_source.training
    assert all(parameter.requires_grad for parameter in tiny_source.parameters())


def test_the_shared_source_is_bit_identical_after_fit():
    before = copy.deepcopy(load_source("attrnn").state_dict())
    X, y = make_series(n=8)
    make_classifier("attrnn", n_views=1, n_segments=1, max_epochs=1).fit(X, y)
    after = load_source("attrnn").state_dict()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    fresh = load_source("attrnn", torch.float64).state_dict()
    for name, tensor in fresh.items():
        assert torch.equal(tensor.to(before[name]), before[name]), name


# --- a citizen of scikit-learn -------------------------------------------------------


def test_clone_copies_parameters_and_nothing_else(make):
    X, y = make_series()
    classifier = make(label_mapping=LinearLabelMapping(solver="logistic"))
    copied = clone(classifier.fit(X, y))
    assert not hasattr(copied, "classes_")
    mine, theirs = classifier.get_params(), copied.get_params()
    assert mine.keys() == theirs.keys()
    objects = {"source", "label_mapping"}
    assert {name: mine[name] for name in mine.keys() - objects} == {
        name: theirs[name] for name in mine.keys() - objects
    }
    assert theirs["label_mapping__solver"] == "logistic"
    assert_array_equal(copied.fit(X, y).predict_proba(X), classifier.predict_proba(X))


def test_parameters_are_set_by_name_also_those_of_a_mapping():
    classifier = V2SClassifier(label_mapping=LinearLabelMapping())
    classifier.set_params(n_views=7, label_mapping__solver="logistic")
    assert classifier.get_params()["n_views"] == 7
    assert classifier.label_mapping.solver == "logistic"
    with pytest.raises(ValueError, match="Invalid parameter 'view'"):
        classifier.set_params(view=7)


def test_repr_shows_what_is_not_the_default():
    assert repr(V2SClassifier()) == "V2SClassifier()"
    text = repr(V2SClassifier(n_views=77, label_mapping="bayesian"))
    assert text == "V2SClassifier(label_mapping='bayesian', n_views=77)"


def test_the_html_repr_shows_the_state(make):
    X, y = make_series()
    classifier = make(max_epochs=0)
    assert "Not fitted" in estimator_html_repr(classifier)
    html = estimator_html_repr(classifier.fit(X, y))
    assert "V2SClassifier" in html
    assert "Not fitted" not in html


def test_it_works_in_a_pipeline(make):
    X, y = make_series()
    smooth = FunctionTransformer(lambda X: X[:, :20])
    pipeline = make_pipeline(smooth, make()).fit(X, y)
    assert_array_equal(
        pipeline.predict_proba(X), make().fit(X[:, :20], y).predict_proba(X[:, :20])
    )


@pytest.mark.slow
def test_a_grid_search_finds_the_same_with_any_number_of_processes(make):
    X, y = make_series(n_classes=3)
    grid = {"mapping_size": [1, 3], "dropout": [0.0, 0.4]}
    searches = [
        GridSearchCV(make(**WORDS), grid, cv=3, n_jobs=n_jobs, scoring="neg_log_loss")
        for n_jobs in (1, 2)
    ]
    one, two = (search.fit(X, y) for search in searches)
    assert one.best_params_ == two.best_params_
    scores = one.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 4
    for split in range(3):
        key = f"split{split}_test_score"
        assert_allclose(one.cv_results_[key], two.cv_results_[key], rtol=1e-5)
    assert_allclose(one.predict_proba(X), two.predict_proba(X), rtol=1e-5)


def test_cross_val_predict_gives_what_each_fold_predicts(make):
    X, y = make_series()
    folds = [(np.arange(18, 36), np.arange(18)), (np.arange(18), np.arange(18, 36))]
    seen = cross_val_predict(make(), X, y, cv=folds, method="predict_proba")
    for train, test in folds:
        expected = make().fit(X[train], y[train]).predict_proba(X[test])
        assert_array_equal(seen[test], expected)


def test_it_works_in_a_stack(make):
    X, y = make_series(n_classes=3)
    stack = StackingClassifier(
        [("v2s", make()), ("dummy", DummyClassifier())],
        final_estimator=LogisticRegression(),
        cv=3,
        stack_method="predict_proba",
    ).fit(X, y)
    assert stack.score(X, y) > 0.8
    assert stack.transform(X).shape == (36, 6)


@pytest.mark.parametrize("ensemble", [False, True])
def test_it_can_be_calibrated(make, ensemble):
    X, y = make_series()
    calibrated = CalibratedClassifierCV(make(), cv=3, ensemble=ensemble).fit(X, y)
    assert calibrated.score(X, y) > 0.8
    assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1.0)


def test_it_votes_with_others(make):
    X, y = make_series()
    members = [("one", make(random_state=1)), ("two", make(random_state=2))]
    vote = VotingClassifier(members, voting="soft").fit(X, y)
    expected = np.mean([model.fit(X, y).predict_proba(X) for _, model in members], 0)
    assert_allclose(vote.predict_proba(X), expected, rtol=1e-12)


def test_a_table_with_names_is_checked_by_them(make):
    pandas = pytest.importorskip("pandas")
    X, y = make_series()
    table = pandas.DataFrame(X, columns=[f"t{time}" for time in range(24)])
    fitted = make(max_epochs=0).fit(table, y)
    assert_array_equal(fitted.feature_names_in_, table.columns)
    assert_array_equal(
        fitted.predict_proba(table), make(max_epochs=0).fit(X, y).predict_proba(X)
    )
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(table[table.columns[::-1]])


def test_sample_weights_are_routed_through_a_pipeline(make):
    X, y = make_series()
    weight = np.where(y == 0, 6.0, 1.0)
    with config_context(enable_metadata_routing=True):
        step = make().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), step)
        pipeline.fit(X, y, sample_weight=weight)
        expected = make().fit(X, y, sample_weight=weight).predict_proba(X)
    assert_array_equal(pipeline.predict_proba(X), expected)
    assert not np.array_equal(make().fit(X, y).predict_proba(X), expected)


def test_sample_weights_are_routed_through_a_grid_search(make):
    X, y = make_series()
    weight = np.where(y == 0, 6.0, 1.0)
    folds = [(np.arange(18, 36), np.arange(18))]
    with config_context(enable_metadata_routing=True):
        classifier = make(max_epochs=1).set_fit_request(sample_weight=True)
        classifier.set_score_request(sample_weight=True)
        search = GridSearchCV(classifier, {"n_views": [1, 2]}, cv=folds)
        search.fit(X, y, sample_weight=weight)
        for position, n_views in enumerate((1, 2)):
            fitted = make(max_epochs=1, n_views=n_views)
            fitted.fit(X[18:], y[18:], sample_weight=weight[18:])
            expected = fitted.score(X[:18], y[:18], sample_weight=weight[:18])
            assert search.cv_results_["mean_test_score"][position] == expected
        whole = make(max_epochs=1, **search.best_params_)
        whole.fit(X, y, sample_weight=weight)
    assert_array_equal(search.predict_proba(X), whole.predict_proba(X))
