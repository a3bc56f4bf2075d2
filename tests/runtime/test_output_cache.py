# SPDX-License-Identifier: Apache-2.0
"""Source outputs that several candidates of a search share."""

import numpy as np
import pytest
from joblib import Memory
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV

from sklearn_v2s import V2SClassifier, V2STransformer
from sklearn_v2s.views import source_views
from sklearn_v2s.views.wave import WaveView
from tests.small import make_series
from tests.tiny_source import TinySource

X, Y = make_series(n=24)


@pytest.fixture
def passes(monkeypatch):
    """Lists the batch size of each forward pass of a source or a kernel bank."""
    passes = []

    def watch(owner, name, position):
        plain = getattr(owner, name)

        def watched(*arguments, **more):
            passes.append((name, len(arguments[position])))
            return plain(*arguments, **more)

        monkeypatch.setattr(owner, name, watched)

    watch(source_views, "collect_outputs", 1)
    watch(WaveView, "compute", 1)
    return passes


def make_quick(**parameters):
    return V2SClassifier(**{"max_epochs": 0, "random_state": 0} | parameters)


def make_words(**parameters):
    return V2SClassifier.from_paper(max_epochs=0, random_state=0, **parameters)


def test_nothing_is_cached_by_default(passes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        make_quick().fit(X, Y)
    assert len(passes) == 2 * 4
    assert not list(tmp_path.iterdir())


def test_a_forward_pass_is_not_computed_twice(passes, tmp_path):
    expected = make_quick().fit(X, Y).predict_proba(X)
    passes.clear()
    classifier = make_quick(memory=str(tmp_path)).fit(X, Y)
    assert_array_equal(classifier.predict_proba(X), expected)
    first = list(passes)
    assert [name for name, _ in first] == ["collect_outputs"] * 2 + ["compute"] * 2
    again = make_quick(memory=str(tmp_path)).fit(X, Y)
    assert_array_equal(again.predict_proba(X), expected)
    assert passes == first


@pytest.mark.parametrize(
    "other",
    [
        {"random_state": 1},
        {"n_segments": 2},
        {"input_gain": 0.5},
        {"init_scale": 0.2},
        {"mask": True},
        {"precision": "float64"},
        {"normalization": "series"},
        {"source": "attrnn:untrained"},
        {"n_views": 2},
    ],
    ids=str,
)
def test_whatever_decides_the_outputs_is_told_apart(other, tmp_path):
    common = {"views": "replicas", "n_segments": 1, "mask": False}
    make_quick(memory=str(tmp_path), **common).fit(X, Y)
    expected = make_quick(**(common | other)).fit(X, Y).predict_proba(X)
    found = make_quick(memory=str(tmp_path), **(common | other)).fit(X, Y)
    assert_array_equal(found.predict_proba(X), expected)


@pytest.mark.parametrize("view", ["wave", "slope", "tone"])
def test_views_are_told_apart(view, tmp_path):
    for name in ("wave", "slope", "tone"):
        make_quick(views=name, memory=str(tmp_path)).fit(X, Y)
    expected = make_quick(views=view, random_state=1).fit(X, Y)
    found = make_quick(views=view, memory=str(tmp_path), random_state=1).fit(X, Y)
    assert_array_equal(found.predict_proba(X), expected.predict_proba(X))


def test_a_perturbation_that_was_trained_on_is_another(tmp_path):
    trained = [
        make_words(memory=memory).set_params(max_epochs=2).fit(X, Y).predict_proba(X)
        for memory in (None, str(tmp_path), str(tmp_path))
    ]
    assert_array_equal(trained[1], trained[0])
    assert_array_equal(trained[2], trained[0])


def test_a_search_computes_each_part_once(passes, tmp_path):
    grid = {"mapping_size": [1, 3, 5], "dropout": [0.0, 0.4]}
    plain = GridSearchCV(make_words(), grid, cv=3).fit(X, Y)
    without = len(passes)
    passes.clear()
    memory = Memory(tmp_path, verbose=0)
    kept = GridSearchCV(make_words(memory=memory), grid, cv=3).fit(X, Y)
    for key in ("mean_test_score", "rank_test_score"):
        assert_array_equal(kept.cv_results_[key], plain.cv_results_[key])
    # A training and a test part for each fold, and all series at the end.
    assert len(passes) == 2 * 3 + 1
    assert without == 6 * 2 * 3 + 1


def test_a_source_without_a_name_is_computed_each_time(passes, tmp_path):
    for _ in range(2):
        classifier = make_words(memory=str(tmp_path)).set_params(source=TinySource())
        classifier.fit(X, Y)
    assert len(passes) == 2
    assert not list(tmp_path.rglob("*.pkl"))


def test_the_transformer_shares_with_the_classifier(passes, tmp_path):
    parameters = {"memory": str(tmp_path), "random_state": 0}
    features = V2STransformer(**parameters).fit_transform(X)
    before = len(passes)
    assert_array_equal(V2STransformer(**parameters).fit_transform(X), features)
    assert len(passes) == before
    assert np.isfinite(features).all()


def test_the_folder_is_no_part_of_a_saved_classifier(tmp_path):
    path = tmp_path / "saved.safetensors"
    classifier = make_quick(memory=str(tmp_path / "kept"))
    classifier.fit(X, Y).save(path)
    assert str(tmp_path).encode() not in path.read_bytes()
    assert V2SClassifier.load(path).memory is None


def test_what_is_no_memory_is_refused():
    with pytest.raises(ValueError, match="'memory' parameter"):
        V2SClassifier(memory=3).fit(X, Y)
