# SPDX-License-Identifier: Apache-2.0
"""Perturbations that are trained once for each part of the data, on the other parts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback

from sklearn_v2s import V2SClassifier
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.perturbation import Perturbation
from sklearn_v2s.training.net import mean_history
from sklearn_v2s.training.train import balanced_folds
from tests.small import make_series, normalised
from tests.small_mappings import few, seeds


def split_seed(fitted):
    """Return the seed of the parts: `fit` draws it second."""
    return fitted._seeds(2)[1]


@few
@given(
    n=st.integers(1, 40),
    n_classes=st.integers(1, 6),
    n_folds=st.integers(1, 5),
    seed=seeds,
)
def test_parts_and_the_classes_in_them_differ_by_at_most_one_row(
    n, n_classes, n_folds, seed
):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, size=n)
    folds = balanced_folds(y, n_folds, rng)
    assert folds.min() >= 0 and folds.max() < n_folds
    for rows in (folds, *(folds[y == label] for label in np.unique(y))):
        assert np.ptp(np.bincount(rows, minlength=n_folds)) <= 1


def test_each_perturbation_is_there_once_for_each_part(make):
    X, y = make_series(n=30, n_classes=3)
    delta = make(cross_fit=2, n_views=3).fit(X, y).perturbation_
    start = make(max_epochs=0, n_views=3).fit(X, y).perturbation_
    assert delta.shape[0] == 6 and start.shape[0] == 3
    # From the same start, the parts have gone different ways.
    moved = delta - np.repeat(start, 2, axis=0)
    assert all(np.abs(group).max() > 0 for group in moved)
    assert (moved[0] != moved[1]).any()


def test_the_label_mapping_is_fitted_to_series_that_were_held_out(make):
    X, y = make_series(n=30, n_classes=3)
    # In float64 a series gives the same, alone and among others.
    fitted = make(cross_fit=2, precision="float64").fit(X, y)
    model = fitted.model_
    assert model.settings.n_folds == 2
    series = normalised(fitted, X)
    cpu = torch.device("cpu")
    by_part = [
        model.fold(number).view_features("replicas", series, cpu) for number in (0, 1)
    ]
    folds = balanced_folds(y, 2, np.random.default_rng(split_seed(fitted)))
    features = np.where((folds == 0)[:, None], by_part[0], by_part[1])
    expected = LinearLabelMapping(block_sizes=model.block_sizes).fit(features, y)
    assert_allclose(fitted.label_mapping_.coef_, expected.coef_, rtol=1e-6, atol=1e-9)
    assert fitted.label_mapping_.temperature_ == pytest.approx(expected.temperature_)
    # Predictions are the mean of what it says of each.
    mean = np.mean([expected.transform(part) for part in by_part], axis=0)
    assert_allclose(fitted.predict_proba(X), mean, rtol=1e-5)


class Recorder(Callback):
    """Keep the series of each training."""

    def __init__(self, seen):
        self.seen = seen

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.seen.append(X["series"])


def test_a_part_has_not_seen_what_was_held_out(make):
    X, y = make_series(n=30, n_classes=3)
    seen = []
    fitted = make(cross_fit=3, callbacks=[Recorder(seen)]).fit(X, y)
    assert len(seen) == 3
    folds = balanced_folds(y, 3, np.random.default_rng(split_seed(fitted)))
    series = normalised(fitted, X)
    for number, trained_on in enumerate(seen):
        assert_array_equal(trained_on, series[folds != number])


def test_a_training_that_goes_on_averages_the_scores_as_predictions_do(make):
    X, y = make_series(n=30, n_classes=3)
    fitted = make(cross_fit=2, n_views=2, precision="float64").fit(X, y)
    model = fitted.model_
    series = torch.from_numpy(normalised(fitted, X))
    fixed = model.features(series.numpy(), torch.device("cpu"))
    module = model.target_module().eval()
    with torch.no_grad():
        logs = module(series, torch.from_numpy(fixed[:, model.n_replica_features :]))
    assert_allclose(logs.exp().numpy(), fitted.predict_proba(X), rtol=1e-6, atol=1e-9)


def test_groups_of_a_perturbation_go_there_and_back():
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    whole = Perturbation(20, generators, train_gain=True)
    some = whole.groups([1, 3])
    assert_array_equal(some.delta.detach(), whole.delta.detach()[[1, 3]])
    with torch.no_grad():
        some.delta.add_(1.0)
        some.log_gain.add_(0.5)
    before = whole.delta.detach().clone()
    whole.set_groups([1, 3], some)
    assert_array_equal(whole.delta.detach()[[0, 2]], before[[0, 2]])
    assert_allclose(whole.delta.detach()[[1, 3]], before[[1, 3]] + 1)
    assert_allclose(whole.gain.detach()[[1, 3]], np.exp(0.5), rtol=1e-6)


def test_the_history_is_the_mean_of_the_parts():
    found = mean_history(
        [
            [{"epoch": 1.0, "train_loss": 2.0, "dur": 1.0}, {"epoch": 2.0, "dur": 1.0}],
            [{"epoch": 1.0, "train_loss": 4.0, "dur": 2.0}],
        ]
    )
    assert found == [
        {"epoch": 1.0, "train_loss": 3.0, "dur": 3.0},
        {"epoch": 2.0, "dur": 1.0},
    ]


def test_saved_and_loaded_it_predicts_the_same(tmp_path):
    X, y = make_series(n=20)
    classifier = V2SClassifier(views="replicas", max_epochs=1, random_state=0)
    classifier.fit(X, y).save(tmp_path / "model.safetensors")
    loaded = V2SClassifier.load(tmp_path / "model.safetensors")
    assert loaded.model_.settings.n_folds == 2
    assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    loaded.partial_fit(X, y)
    assert loaded.perturbation_.shape[0] == 2


def test_a_warm_start_goes_on_with_the_same_parts(make):
    X, y = make_series(n=20)
    classifier = make(cross_fit=2, warm_start=True, max_epochs=1)
    before = classifier.fit(X, y).perturbation_
    after = classifier.fit(X, y).perturbation_
    assert after.shape == before.shape and (after != before).any()


def test_one_part_is_one_training(make):
    X, y = make_series(n=20)
    fitted = make(cross_fit=1, n_views=1).fit(X, y)
    assert fitted.model_.settings.n_folds == 1
    assert fitted.perturbation_.shape[0] == 1


def test_probabilities_are_honest_and_stay_so_when_a_fit_goes_on(make):
    # Labels without any relation to the series, which a perturbation learns by heart.
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(24, 20)), np.arange(24) % 2
    quick = make(max_epochs=0).fit(X, y).label_mapping_.temperature_
    fitted = make(cross_fit=2, max_epochs=20, lr=0.05, warm_start=True).fit(X, y)
    # Fitted to outputs for series that both have seen, the map would be surer.
    outputs = fitted.source_outputs(X).embedding
    features = outputs.reshape(len(X), -1, 2, outputs.shape[2]).mean(2)
    seen = LinearLabelMapping().fit(features.reshape(len(X), -1), y)
    assert fitted.label_mapping_.temperature_ < seen.temperature_
    fitted.set_params(max_epochs=0).fit(X, y)
    assert fitted.label_mapping_.temperature_ <= quick


def test_parts_stay_the_same_when_a_fit_goes_on(make):
    X, y = make_series(n=30, n_classes=3)
    seen = []
    fitted = make(cross_fit=2, callbacks=[Recorder(seen)], warm_start=True)
    # Another seed draws other parts, but not for a training that goes on.
    fitted.fit(X, y).set_params(random_state=1).fit(X, y)
    for first, second in zip(seen[:2], seen[2:], strict=True):
        assert_array_equal(first, second)
