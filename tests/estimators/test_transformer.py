# SPDX-License-Identifier: Apache-2.0
"""The transformer: source outputs as features."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_v2s import V2STransformer
from tests.small import make_series

# Every parameter that decides a result: the defaults may change.
SETTING = {
    "views": "replicas",
    "source_output": "embedding",
    "n_views": 2,
    "n_segments": 3,
    "input_gain": 0.5,
    "init_scale": 0.3,
    "normalization": "global",
    "missing": "error",
    "precision": "float32",
    "device": "cpu",
    "random_state": 0,
}


@pytest.fixture
def make(tiny_source):
    """Return a function that makes transformers on the tiny source."""

    def make_on_tiny_source(**parameters):
        return V2STransformer(tiny_source, **(SETTING | parameters))

    return make_on_tiny_source


@pytest.mark.parametrize("output", ["logits", "embedding", "both"])
@pytest.mark.parametrize("n_views", [1, 3])
def test_columns_are_what_their_names_say(make, output, n_views):
    X, _ = make_series()
    fitted = make(source_output=output, n_views=n_views).fit(X)
    features = fitted.transform(X)
    names = fitted.get_feature_names_out()
    assert features.dtype == np.float64
    assert len(set(names)) == features.shape[1]
    assert (
        features.shape[1]
        == n_views * {"logits": 12, "embedding": 10, "both": 22}[output]
    )
    outputs = fitted.source_outputs(X)
    for kind in ("logits", "embedding") if output == "both" else (output,):
        for view in range(n_views):
            column = list(names).index(f"view{view}_{kind}7")
            expected = getattr(outputs, kind)[:, view, 7]
            assert_array_equal(features[:, column], expected)


def test_the_input_is_the_placed_series_with_the_perturbation(make, tiny_source):
    X, _ = make_series()
    fitted = make().fit(X)
    placed = np.zeros((36, 1, 400))
    for start in (0, 120, 240):
        placed[:, 0, start : start + 24] = (X - X.mean()) / X.std()
    assert_allclose(fitted.reprogram(X), 0.5 * placed + fitted.perturbation_, atol=1e-6)
    with torch.no_grad():
        expected = tiny_source.eval()(torch.from_numpy(fitted.reprogram(X)[:, 1]))
    assert_allclose(
        fitted.transform(X)[:, 10:], expected.embedding, rtol=1e-4, atol=1e-5
    )


def test_fit_sets_the_documented_attributes(make):
    X, y = make_series(n_channels=2)
    transformer = make()
    assert transformer.fit(X, y) is transformer
    assert transformer.perturbation_.shape == (2, 400)
    assert np.abs(transformer.perturbation_).max() <= 0.3
    assert np.abs(transformer.perturbation_).max() > 0.29
    shape = (
        transformer.n_features_in_,
        transformer.n_channels_in_,
        transformer.n_timepoints_in_,
    )
    assert shape == (48, 2, 24)
    assert transformer.unequal_length_ is False


def test_labels_have_no_influence(make):
    X, y = make_series()
    assert_array_equal(make().fit_transform(X, y), make().fit(X).transform(X))


def test_the_random_state_decides_the_perturbations(make):
    X, _ = make_series()
    one, again, other = (
        make(random_state=seed).fit(X).perturbation_ for seed in (0, 0, 1)
    )
    assert_array_equal(one, again)
    assert (one != other).mean() > 0.9
    assert (one[0] != one[1]).mean() > 0.9


def test_level_and_scale_are_learned_in_fit(make):
    X, _ = make_series()
    fitted = make(precision="float64").fit(X)
    scaled = make(precision="float64").fit(50.0 * X + 3.0)
    assert_allclose(
        scaled.transform(50.0 * X[:5] + 3.0), fitted.transform(X[:5]), rtol=1e-6
    )
    assert np.abs(fitted.transform(50.0 * X[:5]) - fitted.transform(X[:5])).max() > 0.01


def test_changing_perturbation_does_not_change_the_transformer(make):
    X, _ = make_series()
    fitted = make().fit(X)
    before = fitted.transform(X)
    fitted.perturbation_[:] += 1.0
    assert_array_equal(fitted.transform(X), before)


def test_it_feeds_other_classifiers_in_a_pipeline(make):
    X, y = make_series(n_classes=3)
    pipeline = make_pipeline(make(), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"v2stransformer__n_views": [1, 2]}, cv=3)
    assert search.fit(X, y).score(X, y) > 0.8


def test_the_output_may_be_a_table(make):
    pytest.importorskip("pandas")
    X, _ = make_series()
    transformer = make(source_output="both").set_output(transform="pandas")
    table = transformer.fit_transform(X)
    assert list(table.columns) == list(transformer.get_feature_names_out())
    assert_array_equal(table.to_numpy(), make(source_output="both").fit_transform(X))


def test_series_of_unequal_length_are_allowed_after_a_fit_on_such(make):
    X, _ = make_series()
    fitted = make().fit(
        [series[: 24 - position % 5] for position, series in enumerate(X)]
    )
    assert fitted.unequal_length_
    assert fitted.transform([X[0], X[1, :7]]).shape == (2, 20)
    with pytest.warns(UserWarning, match=r"1 of 2 series have more than 24 time"):
        assert fitted.transform([X[0], np.zeros(25)]).shape == (2, 20)


def test_a_series_longer_than_the_waveform_is_resampled_with_a_warning(make):
    X, _ = make_series(n=4, n_timepoints=900)
    with pytest.warns(UserWarning, match=r"900 time points.*resampled to 400"):
        make(n_segments=1).fit(X)


def test_the_source_is_bit_identical_after_use(make, tiny_source):
    before = copy.deepcopy(tiny_source.state_dict())
    X, _ = make_series()
    make().fit(X).transform(X)
    for name, tensor in tiny_source.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert tiny_source.training


def test_inputs_may_be_read_only_and_are_not_changed(make):
    X, _ = make_series()
    original = X.copy()
    X.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().fit(X).transform(X)
    assert_array_equal(X, original)


def test_without_fit_there_is_nothing_to_transform(make):
    X, _ = make_series()
    for method in ("transform", "reprogram", "source_outputs", "get_feature_names_out"):
        with pytest.raises(NotFittedError, match="V2STransformer"):
            getattr(make(), method)(X)


def test_a_failed_fit_leaves_the_transformer_as_it_was(make):
    X, _ = make_series()
    transformer = make(n_segments=50)
    with pytest.raises(ValueError, match=r"n_segments=50.*largest.*is 16"):
        transformer.fit(X)
    with pytest.raises(NotFittedError):
        transformer.transform(X)
    before = transformer.set_params(n_segments=3).fit(X).transform(X)
    with pytest.raises(ValueError, match="n_segments=50"):
        transformer.set_params(n_segments=50).fit(X[:, :20])
    assert_array_equal(transformer.transform(X), before)


def test_pickle_and_clone_keep_what_they_should(make):
    X, _ = make_series()
    fitted = make().fit(X)
    restored = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(restored.transform(X), fitted.transform(X))
    assert not hasattr(clone(fitted), "perturbation_")


def test_a_pickle_names_a_shipped_source_and_does_not_hold_it():
    X, _ = make_series(n=4)
    fitted = V2STransformer("attrnn", **(SETTING | {"n_views": 1})).fit(X)
    size = len(pickle.dumps(fitted))
    # The perturbation and its copy take 64 kB each, the source would take 800.
    assert 64_000 < size < 200_000
