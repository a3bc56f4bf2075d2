# SPDX-License-Identifier: Apache-2.0
"""The classifier: what it learns, returns and keeps."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_v2s.label_mapping import (
    LinearLabelMapping,
)
from tests.small import MAPPINGS, OUTPUT_OF, WORDS, make_series

# --- labels --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(np.array([-1, 1]), id="minus one and one"),
        pytest.param(np.array([3, 4, 5, 6, 7, 8]), id="3 to 8"),
        pytest.param(np.array(["down", "up"]), id="strings"),
        pytest.param(np.array([False, True]), id="booleans"),
        pytest.param(np.array(["a", "b", "c"], dtype=object), id="objects"),
        pytest.param(np.array([0.0, 2.0]), id="whole floats"),
    ],
)
@pytest.mark.parametrize("mapping", ["linear", "random"])
def test_labels_of_any_kind_give_the_same_predictions_up_to_their_names(
    make, names, mapping
):
    X, codes = make_series(n_classes=len(names))
    setting = {"label_mapping": mapping, "source_output": OUTPUT_OF[mapping]}
    plain = make(**setting).fit(X, codes)
    named = make(**setting).fit(X, names[codes])
    assert_array_equal(named.classes_, names)
    assert named.classes_.dtype == names.dtype
    assert_array_equal(named.predict_proba(X), plain.predict_proba(X))
    assert_array_equal(named.predict(X), names[plain.predict(X)])
    assert len(np.unique(named.predict(X))) > 1
    assert named.predict(X).dtype == names.dtype


def test_labels_may_come_as_a_list(make):
    X, codes = make_series()
    names = np.array(["no", "yes"])
    fitted = make(max_epochs=0).fit(X, names[codes].tolist())
    assert_array_equal(
        fitted.predict(X), make(max_epochs=0).fit(X, names[codes]).predict(X)
    )


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_class_may_have_one_sample(make, mapping, early_stopping):
    X, y = make_series(n=31)
    y[7] = 2
    fitted = make(
        label_mapping=mapping,
        source_output=OUTPUT_OF[mapping],
        early_stopping=early_stopping,
    ).fit(X, y)
    assert_array_equal(fitted.classes_, [0, 1, 2])
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (31, 3)
    assert np.isfinite(probabilities).all()


@pytest.mark.parametrize("label", [4, "up"])
def test_one_class_alone_is_an_error(make, label):
    X, _ = make_series(n=6)
    with pytest.raises(ValueError, match=f"only one class: {label!r}"):
        make().fit(X, [label] * 6)


def test_one_class_with_a_positive_weight_is_an_error(make):
    X, y = make_series(n=6)
    with pytest.raises(ValueError, match="only one class: 0"):
        make().fit(X, y, sample_weight=1.0 - y)


# --- shapes of series ----------------------------------------------------------------


def test_a_single_channel_may_have_its_own_axis(make):
    X, y = make_series()
    flat, deep = make().fit(X, y), make().fit(X[:, None, :], y)
    for series in (X, X[:, None, :]):
        assert_array_equal(deep.predict_proba(series), flat.predict_proba(X))
        assert_array_equal(flat.predict_proba(series), flat.predict_proba(X))
    for fitted in (flat, deep):
        shape = fitted.n_features_in_, fitted.n_channels_in_, fitted.n_timepoints_in_
        assert shape == (24, 1, 24)


def test_each_of_several_channels_has_its_own_place(make):
    X, y = make_series(n_channels=3)
    fitted = make(n_segments=2).fit(X, y)
    shape = fitted.n_features_in_, fitted.n_channels_in_, fitted.n_timepoints_in_
    assert shape == (72, 3, 24)
    for channel in range(3):
        changed = X.copy()
        changed[:, channel] += 1.0
        parts = (fitted.reprogram(changed) != fitted.reprogram(X)).any(axis=(0, 1))
        samples = np.flatnonzero(parts)
        start = channel * (400 // 3)
        assert samples[0] == start
        assert samples[-1] < start + 400 // 3
        assert not np.array_equal(
            fitted.predict_proba(changed), fitted.predict_proba(X)
        )


def test_series_of_unequal_length_are_padded_with_silence(make):
    X, y = make_series()
    cut = [series[: 24 - position % 5] for position, series in enumerate(X)]
    fitted = make().fit(cut, y)
    assert fitted.unequal_length_
    assert fitted.n_timepoints_in_ == 24
    assert fitted.score(cut, y) > 0.8
    # Series 4 has 20 points: the last four of its first replica are silent.
    silence = fitted.reprogram([cut[4]])[0] - fitted.perturbation_
    assert_array_equal(silence[:, 20:24], 0.0)
    assert (silence[:, :20] != 0).all()


def test_series_of_unequal_length_may_have_channels(make):
    X, y = make_series(n_channels=2)
    cut = [series[:, : 24 - position % 5] for position, series in enumerate(X)]
    fitted = make().fit(cut, y)
    assert (fitted.n_channels_in_, fitted.n_timepoints_in_) == (2, 24)
    assert fitted.predict_proba(cut).shape == (36, 2)


def test_shorter_series_may_be_predicted_after_a_fit_on_unequal_ones(make):
    X, y = make_series()
    cut = [series[: 24 - position % 5] for position, series in enumerate(X)]
    fitted = make().fit(cut, y)
    short = X[:, :9]
    as_table = fitted.predict_proba(short)
    assert_array_equal(fitted.predict_proba(short[:, None, :]), as_table)
    one_by_one = [fitted.predict_proba([series])[0] for series in short]
    assert_allclose(one_by_one, as_table, atol=1e-5)


def test_a_longer_series_than_in_fit_is_resampled_with_a_warning(make):
    X, y = make_series()
    fitted = make(max_epochs=0).fit([*X[:-1], X[-1, :20]], y)
    with pytest.warns(UserWarning, match=r"1 of 2 series have more than 24 time"):
        assert len(fitted.predict([X[0], np.zeros(25)])) == 2


def test_unequal_series_need_a_fit_on_unequal_series(make):
    X, y = make_series()
    fitted = make(max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match=r"expecting 24 time points.*unequal"):
        fitted.predict([X[0], X[1, :20]])


def test_a_list_of_series_of_one_length_is_a_table(make):
    X, y = make_series()
    assert_array_equal(
        make().fit(list(X), y).predict_proba(list(X)),
        make().fit(X, y).predict_proba(X),
    )


def test_a_series_longer_than_the_waveform_is_resampled_with_one_warning(make):
    X, y = make_series(n=8, n_timepoints=900)
    with pytest.warns(UserWarning, match="900 time points.*resampled to 400") as seen:
        fitted = make(n_segments="auto").fit(X, y)
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted.predict_proba(X).shape == (8, 2)


def test_missing_values_are_interpolated_where_asked_for(make):
    X, y = make_series()
    X[:, 10] = (X[:, 9] + X[:, 11]) / 2
    holes = X.copy()
    holes[:, 10] = np.nan
    filled = make(missing="interpolate").fit(holes, y)
    assert_allclose(
        filled.predict_proba(holes), make().fit(X, y).predict_proba(X), atol=1e-5
    )


# --- what fit leaves -----------------------------------------------------------------


@pytest.mark.parametrize("n_views", [1, 3])
def test_fit_sets_the_documented_attributes(make, n_views):
    X, y = make_series()
    fitted = make(n_views=n_views).fit(X, y)
    assert_array_equal(fitted.classes_, [0, 1])
    assert fitted.perturbation_.shape == (n_views, 400)
    assert fitted.perturbation_.dtype == np.float32
    assert_allclose(fitted.input_gain_, [0.5] * n_views, rtol=1e-6)
    assert isinstance(fitted.label_mapping_, LinearLabelMapping)
    assert_array_equal(fitted.label_mapping_.classes_, [0, 1])
    assert isinstance(fitted.net_, NeuralNet)
    assert [row["epoch"] for row in fitted.history_] == [1, 2, 3]
    for row in fitted.history_:
        assert set(row) == {"epoch", "train_loss", "train_accuracy", "dur"}
        assert all(type(value) is float for value in row.values())
    assert fitted.n_iter_ == 3
    assert type(fitted.n_iter_) is int
    shape = fitted.n_features_in_, fitted.n_channels_in_, fitted.n_timepoints_in_
    assert shape == (24, 1, 24)
    assert fitted.unequal_length_ is False


def test_fit_returns_the_classifier(make):
    X, y = make_series()
    classifier = make(max_epochs=0)
    assert classifier.fit(X, y) is classifier
    assert classifier.partial_fit(X, y) is classifier


def test_training_changes_the_perturbation_and_lowers_the_loss(make):
    X, y = make_series()
    start, end = make(max_epochs=0).fit(X, y), make(max_epochs=8).fit(X, y)
    assert start.history_ == []
    assert start.n_iter_ == 0
    assert (start.perturbation_ != end.perturbation_).mean() > 0.9
    assert end.history_[-1]["train_loss"] < end.history_[0]["train_loss"]


def test_the_gain_is_learned_where_asked_for(make):
    X, y = make_series()
    fixed, learned = make().fit(X, y), make(train_gain=True).fit(X, y)
    assert_allclose(fixed.input_gain_, 0.5, rtol=1e-6)
    assert (learned.input_gain_ != np.float32(0.5)).all()
    assert (learned.input_gain_ > 0).all()


def test_a_failed_fit_leaves_the_classifier_unfitted(make):
    X, y = make_series()
    classifier = make(**WORDS, mapping_size=50)
    with pytest.raises(ValueError, match="mapping_size=50"):
        classifier.fit(X, y)
    assert not [name for name in vars(classifier) if name.endswith("_")]


def test_a_failed_fit_leaves_the_previous_one_as_it_was(make):
    class Failing(Callback):
        def on_batch_end(self, net, **kwargs):
            raise RuntimeError("a callback failed")

    X, y = make_series()
    classifier = make().fit(X, y)
    before = classifier.predict_proba(X)
    state = set(vars(classifier))
    other, names = make_series(n_timepoints=30, n_classes=3)
    for warm_start in (False, True):
        classifier.set_params(callbacks=[Failing()], warm_start=warm_start)
        data = (X, y) if warm_start else (other, names)
        with pytest.raises(RuntimeError, match="a callback failed"):
            classifier.fit(*data)
        assert_array_equal(classifier.predict_proba(X), before)
        assert set(vars(classifier)) == state


def test_a_failed_partial_fit_changes_nothing(make):
    class Failing(Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.history[-1, "batches"]) == 2:
                raise RuntimeError("a callback failed")

    X, y = make_series()
    classifier = make().fit(X, y)
    before = classifier.predict_proba(X)
    size = len(pickle.dumps(classifier))
    classifier.set_params(callbacks=[Failing()])
    with pytest.raises(RuntimeError, match="a callback failed"):
        classifier.partial_fit(X, y)
    classifier.set_params(callbacks=None, lr=1e30)
    with pytest.raises(ValueError, match="diverged"):
        classifier.partial_fit(X, y)
    assert_array_equal(classifier.predict_proba(X), before)
    assert len(classifier.net_.history) == classifier.n_iter_ == 3
    assert abs(len(pickle.dumps(classifier.set_params(lr=0.02))) - size) < 100
    classifier.partial_fit(X, y)
    assert classifier.n_iter_ == 4
    assert np.isfinite(classifier.perturbation_).all()


def test_a_diverged_training_is_an_error_that_names_the_learning_rate(make):
    X, y = make_series()
    with pytest.raises(ValueError, match=r"diverged.*lr=1e\+30.*smaller lr"):
        make(lr=1e30, l2=1e30).fit(X, y)


# --- probabilities and decisions -----------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_probabilities_predictions_and_decisions_agree(make, mapping, n_classes):
    X, y = make_series(n_classes=n_classes)
    fitted = make(label_mapping=mapping, source_output=OUTPUT_OF[mapping]).fit(X, y)
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (36, n_classes)
    assert probabilities.dtype == np.float64
    assert (probabilities > 0).all()
    assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
    assert len(np.unique(probabilities)) > 36
    assert_array_equal(fitted.predict(X), probabilities.argmax(axis=1))
    assert_allclose(np.exp(fitted.predict_log_proba(X)), probabilities, rtol=1e-12)
    decision = fitted.decision_function(X)
    if n_classes == 2:
        assert decision.shape == (36,)
        assert_array_equal(fitted.predict(X), (decision > 0).astype(int))
        assert_allclose(1 / (1 + np.exp(-decision)), probabilities[:, 1], rtol=1e-9)
    else:
        assert_array_equal(decision.argmax(axis=1), fitted.predict(X))
    assert fitted.score(X, y) == np.mean(fitted.predict(X) == y)


def test_probabilities_do_not_depend_on_the_neighbours(make):
    X, y = make_series()
    fitted = make(precision="float64").fit(X, y)
    one_by_one = np.vstack([fitted.predict_proba(series[None]) for series in X])
    assert_allclose(one_by_one, fitted.predict_proba(X), rtol=1e-9)


# --- inputs and outputs of the source ------------------------------------------------


@pytest.mark.parametrize("normalization", ["global", "series", None])
def test_reprogram_returns_gain_times_series_plus_perturbation(make, normalization):
    X, y = make_series()
    fitted = make(train_gain=True, normalization=normalization).fit(X, y)
    if normalization == "global":
        normalised = (X - X.mean()) / X.std()
    elif normalization == "series":
        normalised = (X - X.mean(1, keepdims=True)) / X.std(1, keepdims=True)
    else:
        normalised = X
    placed = np.zeros((36, 400))
    # 16 whole series fit into 400 samples: three replicas stand 5 series apart.
    for start in (0, 120, 240):
        placed[:, start : start + 24] = normalised
    gain = fitted.input_gain_[None, :, None]
    expected = gain * placed[:, None, :] + fitted.perturbation_
    waveforms = fitted.reprogram(X)
    assert waveforms.shape == (36, 2, 400)
    assert_allclose(waveforms, expected, atol=1e-6)


def test_source_outputs_are_those_of_the_source_on_the_reprogrammed(make, tiny_source):
    X, y = make_series()
    fitted = make(dropout=0.4).fit(X, y)
    logits, embedding = fitted.source_outputs(X)
    assert logits.shape == (36, 2, 12)
    assert embedding.shape == (36, 2, 10)
    waveforms = torch.from_numpy(fitted.reprogram(X))
    tiny_source.eval()
    for view in range(2):
        with torch.no_grad():
            expected = tiny_source(waveforms[:, view])
        assert_allclose(logits[:, view], expected.logits, rtol=1e-4, atol=1e-5)
        assert_allclose(embedding[:, view], expected.embedding, rtol=1e-4, atol=1e-5)


def test_a_masked_perturbation_is_zero_where_the_series_sit(make):
    X, y = make_series()
    fitted = make(mask=True, l2=0.0).fit(X, y)
    sits = np.zeros(400, dtype=bool)
    for start in (0, 120, 240):
        sits[start : start + 24] = True
    assert (fitted.perturbation_[:, sits] == 0).all()
    assert (fitted.perturbation_[:, ~sits] != 0).all()


@pytest.mark.parametrize("normalization", ["global", "series"])
def test_level_and_scale_of_the_series_do_not_matter(make, normalization):
    X, y = make_series()
    setting = {"normalization": normalization, "precision": "float64"}
    plain = make(**setting).fit(X, y)
    scaled = make(**setting).fit(1000.0 * X - 7.0, y)
    assert_allclose(
        scaled.predict_proba(1000.0 * X - 7.0), plain.predict_proba(X), rtol=1e-5
    )


def test_predictions_do_not_switch_dropout_on(make):
    X, y = make_series()
    fitted = make(dropout=0.5).fit(X, y)
    assert_array_equal(fitted.predict_proba(X), fitted.predict_proba(X))
    assert not fitted.net_.module_.training
