# SPDX-License-Identifier: Apache-2.0
"""`V2SClassifierCV` against scikit-learn's `GridSearchCV`, its oracle."""

import io
import pickle
import warnings
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer, recall_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch.callbacks import Callback

from sklearn_v2s import V2SClassifier, V2SClassifierCV
from sklearn_v2s.label_mapping import FrequencyLabelMapping, IterativeLabelMapping
from sklearn_v2s.sources import load_source
from tests.small import WORDS, make_classifier, make_series
from tests.tiny_source import TinySource

GRID: dict[str, list[Any]] = {
    "mapping_size": [1, 3],
    "dropout": [0.0, 0.4],
    "n_segments": [2, 3],
}
FOLDS = StratifiedKFold(2, shuffle=True, random_state=1)
TIMES = ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time")


class Counting(TinySource):
    """A source that counts the waveforms of its forward passes."""

    waveforms = 0

    def forward(self, waveform):
        Counting.waveforms += len(waveform)
        return super().forward(waveform)


class Probe:
    """A scorer that keeps what the fitted classifiers are and say."""

    def __init__(self) -> None:
        self.seen: list[tuple[np.ndarray, np.ndarray, int, float]] = []

    def __call__(self, estimator, X, y):
        last = estimator.history_[-1]["train_loss"] if estimator.history_ else 0.0
        proba = estimator.predict_proba(X)
        self.seen.append((estimator.perturbation_, proba, estimator.n_iter_, last))
        return estimator.score(X, y)


def assert_same_results(ours, theirs, exactly: bool = True) -> None:
    """Assert that two searches found the same, in the same order."""
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, expected in theirs.cv_results_.items():
        found = ours.cv_results_[name]
        if name in TIMES:
            assert np.isfinite(found).all()
        elif name.startswith(("split", "mean", "std")):
            tolerance = 0.0 if exactly else 1e-9
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        elif name == "params":
            assert found == expected
        else:
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
    for name in ("best_params_", "best_index_", "n_splits_", "multimetric_"):
        assert getattr(ours, name) == getattr(theirs, name)


def search_both(estimator, X, y, *, grid=None, cv=FOLDS, **parameters):
    grid = GRID if grid is None else grid
    ours = V2SClassifierCV(estimator, **grid, cv=cv, **parameters).fit(X, y)
    return ours, GridSearchCV(estimator, grid, cv=cv, **parameters).fit(X, y)


@pytest.mark.parametrize(
    "parameters",
    [
        WORDS,
        WORDS | {"normalization": None, "missing": "interpolate"},
        WORDS | {"label_mapping": "frequency", "mask": True, "n_views": 1},
        WORDS | {"label_mapping": FrequencyLabelMapping(2)},
        {"views": ("replicas", "level"), "class_weight": "balanced"},
        {"views": ("wave", "level")},
        {"source_output": "both", "precision": "float64"},
    ],
    ids=["words", "as given", "frequency", "instance", "views", "waves", "both"],
)
def test_without_training_all_is_what_a_grid_search_finds(tiny_source, parameters):
    X, y = make_series(40, 3, n_channels=2)
    if parameters.get("missing") == "interpolate":
        X[0, 0, 3] = np.nan
    estimator = make_classifier(tiny_source, **parameters, max_epochs=0)
    ours, theirs = search_both(estimator, X, y, return_train_score=True)
    assert_same_results(ours, theirs)
    assert ours.best_score_ == theirs.best_score_
    assert type(ours.best_estimator_) is V2SClassifier
    np.testing.assert_allclose(
        ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("normalization", "passes"), [(None, 1), ("series", 1), ("global", 3)]
)
def test_no_forward_pass_is_computed_twice(normalization, passes):
    X, y = make_series(30, 2)
    estimator = make_classifier(
        Counting(), **WORDS, max_epochs=0, n_views=1, normalization=normalization
    )
    grid = {"mapping_size": [1, 3, 5], "dropout": [0.0, 0.1, 0.4]}
    search = V2SClassifierCV(estimator, **grid, cv=FOLDS)
    # What `load_source` takes to check the contract, each time.
    Counting.waveforms = 0
    load_source(estimator.source)
    checks = Counting.waveforms
    Counting.waveforms = 0
    search.fit(X, y)
    # Each fold and the refit have a mean and a scale of their own if they are global.
    n_fits = 9 * FOLDS.get_n_splits() + 1
    assert Counting.waveforms == passes * len(X) + n_fits * checks


@pytest.mark.parametrize(
    "parameters",
    [
        WORDS,
        WORDS | {"early_stopping": True, "n_iter_no_change": 1, "max_epochs": 5},
        WORDS | {"label_mapping": "contiguous", "lr_schedule": "cosine", "mask": True},
        {"l2": 0.01, "train_gain": True, "class_weight": "balanced"},
        {
            "views": ("replicas", "level"),
            "early_stopping": True,
            "precision": "float64",
        },
        {"source_output": "both", "normalization": "series", "max_epochs": 1},
    ],
    ids=["words", "stopped", "contiguous", "embedding", "views", "both"],
)
def test_each_trained_fit_of_a_search_is_what_it_is_by_itself(tiny_source, parameters):
    X, y = make_series(37, 3)
    estimator = make_classifier(tiny_source, **parameters)
    ours, theirs = Probe(), Probe()
    grid = {name: GRID[name] for name in ("mapping_size", "dropout")}
    # Three folds have rows in common.
    V2SClassifierCV(estimator, **grid, cv=3, scoring=ours).fit(X, y)
    GridSearchCV(estimator, grid, cv=3, scoring=theirs).fit(X, y)
    assert len(ours.seen) == len(theirs.seen) == 12
    for mine, other in zip(ours.seen, theirs.seen, strict=True):
        # On a CPU they are the same operations on the same shapes.
        np.testing.assert_array_equal(mine[0], other[0])
        np.testing.assert_array_equal(mine[1], other[1])
        assert mine[2] == other[2]
        assert mine[3] == pytest.approx(other[3], rel=1e-5)
    stops = {seen[2] for seen in ours.seen}
    assert (len(stops) > 1) == (parameters.get("n_iter_no_change") == 1)


def test_trained_searches_agree_in_all_results(tiny_source):
    X, y = make_series(40, 2)
    estimator = make_classifier(tiny_source, **WORDS)
    ours, theirs = search_both(estimator, X, y)
    assert_same_results(ours, theirs)
    assert len(set(ours.cv_results_["mean_test_score"])) > 1
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.best_estimator_.history_ == [
        row | {"dur": mine["dur"]}
        for row, mine in zip(
            theirs.best_estimator_.history_,
            ours.best_estimator_.history_,
            strict=True,
        )
    ]


@pytest.mark.parametrize("parameters", [WORDS, {"views": ("replicas", "level")}])
def test_the_data_may_say_whether_training_helps(tiny_source, parameters):
    X, y = make_series(36, 2)
    estimator = make_classifier(tiny_source, **parameters)
    ours, theirs = Probe(), Probe()
    grid = {"max_epochs": [0, 1, 3], "dropout": [0.0, 0.3]}
    # Any sequence of rows will do.
    cv = [(range(24), range(24, 36)), (list(range(12, 36)), range(12))]
    searches = (
        V2SClassifierCV(estimator, **grid, cv=cv, scoring=ours).fit(X, y),
        GridSearchCV(estimator, grid, cv=cv, scoring=theirs).fit(X, y),
    )
    assert_same_results(*searches)
    for mine, other in zip(ours.seen, theirs.seen, strict=True):
        np.testing.assert_array_equal(mine[0], other[0])
        np.testing.assert_allclose(mine[1], other[1], rtol=0, atol=1e-6)
        assert mine[2] == other[2]
    assert {seen[2] for seen in ours.seen} == {0, 1, 3}
    best = searches[0].best_estimator_
    assert best.n_iter_ == best.max_epochs == searches[0].best_params_["max_epochs"]


@pytest.mark.parametrize("epochs", [0, 2])
def test_weights_groups_and_several_scores(tiny_source, epochs):
    X, y = make_series(36, 2)
    rng = np.random.default_rng(0)
    weight, groups = rng.integers(0, 3, size=36) + 0.5, np.arange(36) % 5
    estimator = make_classifier(tiny_source, **WORDS, max_epochs=epochs)
    several = {"loss": "neg_log_loss", "recall": make_scorer(recall_score)}
    parameters = {"cv": GroupKFold(3), "scoring": several, "refit": "loss"}
    fits = []
    for search in (
        V2SClassifierCV(estimator, mapping_size=[1, 4], **parameters),
        GridSearchCV(estimator, {"mapping_size": [1, 4]}, **parameters),
    ):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The scoring")
            fits.append(search.fit(X, y, sample_weight=weight, groups=groups))
    ours, theirs = fits
    assert_same_results(ours, theirs, exactly=False)
    assert ours.multimetric_
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y))
    unweighted = V2SClassifierCV(estimator, mapping_size=[1, 4], **parameters)
    unweighted.fit(X, y, groups=groups)
    weighted = ours.best_estimator_.perturbation_
    assert (weighted == unweighted.best_estimator_.perturbation_).all() == (epochs == 0)


def test_unequal_series_and_string_labels(tiny_source):
    rng = np.random.default_rng(0)
    X = [rng.normal(size=length) for length in rng.integers(12, 25, size=30)]
    for start in range(3):
        # The longest in each fold, so that all parts have it.
        X[start::12] = [rng.normal(size=25) for _ in X[start::12]]
    y = np.where(np.arange(30) % 2, "odd", "even")
    for epochs in (0, 1):
        estimator = make_classifier(tiny_source, **WORDS, max_epochs=epochs)
        ours, theirs = search_both(estimator, X, y)
        assert_same_results(ours, theirs)
        assert ours.classes_.tolist() == ["even", "odd"]


def as_table(X):
    pandas = pytest.importorskip("pandas", reason="needs the extra benchmark")
    return pandas.DataFrame(X, columns=[f"t{column}" for column in range(X.shape[1])])


def test_a_splitter_that_draws_is_called_once(tiny_source):
    X, y = make_series(40, 2)
    estimator = make_classifier(tiny_source, **WORDS, max_epochs=1)
    cv = StratifiedShuffleSplit(2, random_state=np.random.RandomState(0))
    ours = V2SClassifierCV(estimator, dropout=[0.0, 0.3], cv=cv).fit(X, y)
    cv = StratifiedShuffleSplit(2, random_state=np.random.RandomState(0))
    theirs = GridSearchCV(estimator, {"dropout": [0.0, 0.3]}, cv=cv).fit(X, y)
    assert_same_results(ours, theirs)


class Own(V2SClassifier):
    """A subclass, which may do anything."""

    def predict(self, X):
        return self.classes_[np.zeros(len(X), dtype=int)]


ANY = {
    "fine-tuning": {"fine_tune": True, "source_lr": 1e-3},
    "callbacks": {"callbacks": [Callback()]},
    "progress": {"verbose": 1},
    "followed mapping": {"label_mapping": "iterative"},
    "followed instance": {"label_mapping": IterativeLabelMapping(2)},
}


@pytest.mark.parametrize("case", [*ANY, "subclass"])
def test_every_kind_of_training_is_searched(tiny_source, case):
    X, y = make_series(24, 2)
    parameters = WORDS | {"max_epochs": 1} | ANY.get(case, {})
    estimator = make_classifier(tiny_source, **parameters)
    if case == "subclass":
        estimator = Own(**estimator.get_params(deep=False))
    grid = {"dropout": [0.0, 0.3]}
    ours, theirs = search_both(estimator, X, y, grid=grid, cv=2)
    assert_same_results(ours, theirs)
    assert type(ours.best_estimator_) is type(estimator)
    assert ours.best_estimator_.memory is None


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_settings_that_fail_are_reported_as_in_a_grid_search(tiny_source):
    X, y = make_series(24, 2)
    for epochs in (0, 1):
        estimator = make_classifier(tiny_source, **WORDS, max_epochs=epochs)
        # TinySource has 12 words, 6 for each of two classes.
        grid = {"mapping_size": [2, 7], "dropout": [0.0, 1.5]}
        found = []
        for search in (
            V2SClassifierCV(estimator, **grid, cv=2),
            GridSearchCV(estimator, grid, cv=2),
        ):
            with pytest.warns(Warning, match=r"(?s)mapping_size=7.*dropout|dropout"):
                found.append(search.fit(X, y))
        assert_same_results(*found)
        assert np.isnan(found[0].cv_results_["mean_test_score"]).sum() == 3
        with pytest.raises(ValueError, match="mapping_size=7 for 2 target classes"):
            V2SClassifierCV(estimator, mapping_size=[7], cv=2, error_score="raise").fit(
                X, y
            )


def test_a_training_that_diverges_is_an_error(tiny_source):
    X, y = make_series(24, 2)
    estimator = make_classifier(tiny_source, **WORDS, lr=1e30, l2=1.0)
    with pytest.raises(ValueError, match=r"diverged.*after 3 epochs with lr=1e\+30"):
        V2SClassifierCV(estimator, dropout=[0.0], cv=2, error_score="raise").fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mapping_size": []}, r"mapping_size=\[\] leaves nothing to choose from"),
        ({"max_epochs": []}, r"max_epochs=\[\] leaves nothing to choose from"),
        ({"dropout": 0.2}, "The 'dropout' parameter of V2SClassifierCV"),
        ({"n_segments": "auto"}, "The 'n_segments' parameter of V2SClassifierCV"),
        ({"estimator": object()}, "The 'estimator' parameter of V2SClassifierCV"),
        ({"refit": 3}, "The 'refit' parameter of V2SClassifierCV"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    X, y = make_series(12, 2)
    with pytest.raises(ValueError, match=message):
        V2SClassifierCV(**parameters).fit(X, y)


@pytest.mark.parametrize("epochs", [None, "5", -1])
def test_bad_numbers_of_epochs_are_named(tiny_source, epochs):
    X, y = make_series(12, 2)
    estimator = make_classifier(tiny_source)
    search = V2SClassifierCV(
        estimator, max_epochs=[0, epochs], cv=2, error_score="raise"
    )
    with pytest.raises(ValueError, match="The 'max_epochs' parameter of V2SClassifier"):
        search.fit(X, y)


def test_bad_data_is_named_at_once(tiny_source):
    X, y = make_series(12, 2)
    search = V2SClassifierCV(make_classifier(tiny_source, max_epochs=0), cv=2)
    with pytest.raises(ValueError, match="only one class"):
        search.fit(X, np.zeros(12))
    with pytest.raises(ValueError, match="NaN"):
        search.fit(np.full_like(X, np.nan), y)
    with pytest.raises(NotFittedError):
        search.predict(X)
    assert not hasattr(search, "cv_results_")


def test_without_refit_there_is_nothing_to_predict_with(tiny_source):
    X, y = make_series(20, 2)
    estimator = make_classifier(tiny_source, **WORDS, max_epochs=0)
    search = V2SClassifierCV(estimator, dropout=[0.1], cv=2, refit=False).fit(X, y)
    assert search.best_params_ == {"dropout": 0.1}
    assert not hasattr(search, "best_estimator_")
    with pytest.raises(AttributeError, match="predict") as raised:
        search.predict(X)
    assert "refit=False leaves no classifier" in str(raised.value.__cause__)


def test_the_best_classifier_goes_on_like_any_other(tiny_source):
    X, y = make_series(24, 2)
    estimator = make_classifier(tiny_source, **WORDS, max_epochs=0)
    # The fit is shared with the first setting, of another dropout.
    grid = {"dropout": [0.0, 0.5]}
    everything = [(range(24), range(24))]
    ours, theirs = search_both(
        estimator, X, y, grid=grid, cv=everything, refit=lambda results: 1
    )
    for search in (ours, theirs):
        search.best_estimator_.partial_fit(X, y)
    np.testing.assert_array_equal(
        ours.best_estimator_.perturbation_, theirs.best_estimator_.perturbation_
    )


def test_without_a_seed_all_fits_start_alike(tiny_source):
    X, y = make_series(24, 2)
    estimator = make_classifier(tiny_source, **WORDS, max_epochs=0, random_state=None)
    probe = Probe()
    grid = {"mapping_size": [1, 4], "dropout": [0.0, 0.2]}
    searches = [
        V2SClassifierCV(estimator, **grid, cv=2, scoring=probe).fit(X, y)
        for _ in range(2)
    ]
    assert len({seen[0].tobytes() for seen in probe.seen[:8]}) == 1
    assert len({seen[0].tobytes() for seen in probe.seen}) == 2
    assert searches[0].best_estimator_.random_state is None
    assert estimator.random_state is None


def test_global_generators_and_threads_stay_as_they_are(tiny_source):
    X, y = make_series(24, 2)
    estimator = make_classifier(tiny_source, **WORDS, max_epochs=1, dropout=0.3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    V2SClassifierCV(estimator, mapping_size=[1, 2], cv=2).fit(X, y)
    after = np.random.get_state()[1]  # noqa: NPY002
    np.testing.assert_array_equal(after, before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.get_num_threads() == threads


def test_clone_pickle_and_joblib(tiny_source):
    X, y = make_series(24, 2)
    search = V2SClassifierCV(
        make_classifier(tiny_source, **WORDS, max_epochs=1), dropout=[0.0, 0.2], cv=2
    )
    copied = clone(search.fit(X, y))
    assert not hasattr(copied, "cv_results_")
    expected = search.predict_proba(X)
    np.testing.assert_array_equal(copied.fit(X, y).predict_proba(X), expected)
    unpickled = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(unpickled.predict_proba(X), expected)
    buffer = io.BytesIO()
    joblib.dump(search, buffer)
    buffer.seek(0)
    np.testing.assert_array_equal(joblib.load(buffer).predict_proba(X), expected)
    # Nothing of what was shared is kept.
    assert len(pickle.dumps(search)) < 4 * len(pickle.dumps(search.best_estimator_))


def test_a_table_keeps_the_names_of_its_columns(tiny_source):
    X, y = make_series(24, 2)
    table = as_table(X)
    for epochs in (0, 1):
        estimator = make_classifier(tiny_source, **WORDS, max_epochs=epochs)
        ours, theirs = search_both(estimator, table, y, grid={"mapping_size": [1, 3]})
        assert_same_results(ours, theirs)
        assert ours.feature_names_in_.tolist() == table.columns.tolist()


CHEAP = V2SClassifier(views=("wave", "level"), random_state=0)


@parametrize_with_checks([V2SClassifierCV(CHEAP, dropout=[0.0, 0.1], cv=3)])
def test_it_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
