# SPDX-License-Identifier: Apache-2.0
"""`V2SClassifier` as it comes: it trains, and its parameters act."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

from sklearn_v2s import V2SClassifier, V2SClassifierCV
from sklearn_v2s.datasets import make_cylinder_bell_funnel
from sklearn_v2s.sources import load_source
from tests.small import make_series
from tests.tiny_source import TinySource

X, Y = make_cylinder_bell_funnel(24, random_state=0)
X_NEW, Y_NEW = make_cylinder_bell_funnel(90, random_state=1)
QUICK = V2SClassifier(max_epochs=0, random_state=0)
# Everything of the default but the time that it takes.
SHORT = V2SClassifier(max_epochs=2, random_state=0)


@pytest.fixture(scope="module")
def default():
    return V2SClassifier(random_state=0).fit(X, Y)


@pytest.fixture(scope="module")
def quick():
    return clone(QUICK).fit(X, Y)


def test_it_learns_a_perturbation(default, quick):
    # The 12 series of a part are one step in each epoch.
    assert default.n_iter_ == len(default.history_) == 200
    losses = [row["train_loss"] for row in default.history_]
    assert np.mean(losses[-10:]) < losses[0]
    assert default.perturbation_.shape == (2, 16000)
    # The same start, from which each sample has gone some way in both parts.
    moved = np.abs(default.perturbation_ - quick.perturbation_)
    assert np.median(moved) > 0.01
    assert moved.max() > 0.1


def test_the_quick_mode_does_not(quick):
    assert quick.n_iter_ == 0
    assert quick.history_ == []
    assert not hasattr(quick, "net_")
    assert np.abs(quick.perturbation_).max() <= 0.1


def test_it_reads_logits_and_embedding_of_all_views(default, quick):
    source = load_source("tc-resnet")
    size = len(source.classes) + source.embedding_size
    for fitted in (default, quick):
        assert fitted.views_ == ("replicas", "tone", "wave", "slope", "level")
        assert fitted.model_.views["replicas"].n_features == size
        assert fitted.model_.source_reference.name == "tc-resnet"
        tone = fitted.model_.views["tone"].module.source
        assert tone.reference.name == "attrnn"


def test_both_predict(default, quick):
    for fitted in (default, quick):
        assert fitted.score(X_NEW, Y_NEW) > 0.9
        assert log_loss(Y_NEW, fitted.predict_proba(X_NEW)) < 0.5
    difference = default.predict_proba(X_NEW) - quick.predict_proba(X_NEW)
    assert np.abs(difference).max() > 0.01


def test_it_is_saved_and_loaded(default, tmp_path):
    default.save(tmp_path / "a.safetensors")
    loaded = V2SClassifier.load(tmp_path / "a.safetensors")
    assert_array_equal(loaded.predict_proba(X_NEW), default.predict_proba(X_NEW))
    assert loaded.get_params() == default.get_params()
    assert loaded.history_ == default.history_
    # Tens of kilobytes of perturbation, some hundreds of coefficients.
    assert (tmp_path / "a.safetensors").stat().st_size < 1_000_000


# --- parameters act ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"), [("dropout", [0.0, 0.2, 0.6]), ("mapping_size", [1, 5, None])]
)
def test_each_value_has_scores_of_its_own(name, values):
    scores = [
        clone(SHORT).set_params(**{name: value}).fit(X, Y).predict_proba(X_NEW)
        for value in values
    ]
    for number, one in enumerate(scores):
        for other in scores[:number]:
            assert np.abs(one - other).max() > 1e-4


def test_searches_over_both_find_the_same_winner():
    grid = {"mapping_size": [1, 20], "dropout": [0.0, 0.5]}
    X_all, y_all = make_series(36, n_classes=3, seed=4)
    searches = [
        GridSearchCV(SHORT, grid, cv=3, scoring="neg_log_loss"),
        V2SClassifierCV(SHORT, **grid, cv=3, scoring="neg_log_loss"),
    ]
    first, second = (
        search.fit(X_all, y_all).cv_results_["mean_test_score"] for search in searches
    )
    assert len(set(first)) == len(first) == 4
    assert_allclose(second, first, rtol=1e-4)
    assert searches[0].best_params_ == searches[1].best_params_


@pytest.mark.parametrize("estimator", [QUICK, SHORT], ids=["quick", "short"])
def test_a_mapping_size_beyond_what_there_is(estimator):
    size = 43 + 480
    with pytest.raises(ValueError, match=rf"mapping_size=99999 .* from 1 to {size},"):
        clone(estimator).set_params(mapping_size=99999).fit(X, Y)
    # All of them are no choice.
    every = clone(QUICK).set_params(mapping_size=size).fit(X, Y)
    none = clone(QUICK).fit(X, Y)
    assert_array_equal(every.predict_proba(X_NEW), none.predict_proba(X_NEW))


@pytest.mark.parametrize("mapping", ["random", "contiguous", "frequency", "iterative"])
def test_a_mapping_size_beyond_the_words_there_are(mapping):
    classifier = V2SClassifier(
        source_output="logits", label_mapping=mapping, mapping_size=15, max_epochs=0
    )
    # 43 words for three classes are 14 each.
    with pytest.raises(ValueError, match=r"mapping_size=15 .* 14"):
        classifier.fit(X, Y)
    classifier.set_params(mapping_size=14).fit(X, Y)


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("views", ["auto", "replicas"])
def test_a_selection_survives_a_file(epochs, views, tmp_path):
    fitted = V2SClassifier(
        views=views, mapping_size=2, max_epochs=epochs, random_state=0
    ).fit(X, Y)
    mapping = fitted.label_mapping_
    n_choices = 43 + 480
    assert 2 <= (mapping.selected_ < n_choices).sum() <= 6
    assert (mapping.selected_ >= n_choices).sum() == (
        mapping.n_features_in_ - n_choices
    )
    fitted.save(tmp_path / "a.safetensors")
    loaded = V2SClassifier.load(tmp_path / "a.safetensors")
    assert_array_equal(loaded.label_mapping_.selected_, mapping.selected_)
    assert_array_equal(loaded.label_mapping_.block_sizes_, mapping.block_sizes_)
    assert_array_equal(loaded.predict_proba(X_NEW), fitted.predict_proba(X_NEW))


# --- the source of the tone ----------------------------------------------------------


@pytest.mark.parametrize("name", [None, "attrnn", "unet-attrnn"])
def test_the_tone_is_read_by_its_source(name, tmp_path):
    fitted = V2SClassifier(
        views=["replicas", "tone"], tone_source=name, max_epochs=0, random_state=0
    ).fit(X, Y)
    fitted.save(tmp_path / "a.safetensors")
    loaded = V2SClassifier.load(tmp_path / "a.safetensors")
    assert_array_equal(loaded.predict_proba(X_NEW), fitted.predict_proba(X_NEW))
    for each in (fitted, loaded):
        source = each.model_.views["tone"].module.source
        assert source.reference.name == (name or "tc-resnet")
        assert each.tone_source == name
        own = source is each.model_.reprogrammed.source
        assert own == (name is None)


def test_another_source_of_the_tone_changes_its_features_alone():
    parameters = {"views": ["replicas", "tone"], "max_epochs": 0, "random_state": 0}
    first, second = (
        V2SClassifier(tone_source=name, **parameters).fit(X, Y)
        for name in (None, "attrnn")
    )
    assert_array_equal(
        first.source_outputs(X).embedding, second.source_outputs(X).embedding
    )
    assert not np.array_equal(first.predict_proba(X), second.predict_proba(X))


def test_a_tone_source_of_the_users_own():
    source = TinySource(seed=3)
    own = V2SClassifier(
        views=["replicas", "tone"], tone_source=source, max_epochs=0, random_state=0
    ).fit(X, Y)
    assert own.model_.views["tone"].n_features == 22
    # It is the only one where the tone is all that is read of it.
    alone = V2SClassifier(views="tone", tone_source=source, random_state=0).fit(X, Y)
    both = V2SClassifier(source, views="tone", tone_source=None, random_state=0)
    assert_array_equal(alone.predict_proba(X), both.fit(X, Y).predict_proba(X))


@pytest.mark.parametrize(
    ("value", "message"),
    [("atrnn", "unknown source 'atrnn'"), (3, "source must be a torch.nn.Module")],
)
def test_what_is_no_source_of_the_tone(value, message):
    with pytest.raises((ValueError, TypeError), match=message):
        V2SClassifier(views="tone", tone_source=value).fit(X, Y)
