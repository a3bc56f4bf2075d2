# SPDX-License-Identifier: Apache-2.0
"""The classifier in the paper's setting, and on real series."""

import copy
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.dummy import DummyClassifier

from sklearn_v2s import V2SClassifier
from sklearn_v2s.label_mapping import (
    LinearLabelMapping,
)
from tests.small import DEFAULT_OF_0_1_0, make_series

# --- the paper -----------------------------------------------------------------------


def test_the_paper_preset_has_the_documented_parameters():
    expected = {
        "source_output": "logits",
        "n_views": 1,
        "n_segments": 1,
        "mask": True,
        "dropout": 0.0,
        "input_gain": 1.0,
        "train_gain": False,
        "label_mapping": "random",
        "mapping_size": None,
        "max_epochs": 100,
        "batch_size": 32,
        "lr": 0.05,
        "lr_schedule": "constant",
        "l2": 0.04,
        "early_stopping": True,
        "validation_fraction": 0.1,
        "normalization": None,
    }
    parameters = V2SClassifier.from_paper().get_params()
    assert {name: parameters[name] for name in expected} == expected
    assert parameters["n_iter_no_change"] >= parameters["max_epochs"]
    changed = V2SClassifier.from_paper(n_segments=4, lr=0.1)
    assert changed.get_params() == parameters | {"n_segments": 4, "lr": 0.1}


@pytest.mark.parametrize(
    "overrides", [{"max_epochs": 0}, {"max_epochs": 1, "early_stopping": False}]
)
def test_the_preset_sets_nothing_that_the_overrides_leave_idle(tiny_source, overrides):
    X, y = make_series(n=12)
    made = V2SClassifier.from_paper(source=tiny_source, random_state=0, **overrides)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.fit(X, y)
    asked = V2SClassifier.from_paper(source=tiny_source, lr=0.3, **overrides)
    assert asked.lr == 0.3


def test_the_paper_preset_is_algorithm_1(tiny_source):
    """Full batches, so that the order does not matter; written out independently."""
    X, y = make_series(n=15, n_classes=3)
    parameters = {
        "source": tiny_source,
        "n_segments": 3,
        "batch_size": 15,
        "early_stopping": False,
        "precision": "float64",
        "device": "cpu",
        "random_state": 4,
    }
    epochs = 6
    fitted = V2SClassifier.from_paper(max_epochs=epochs, **parameters).fit(X, y)
    start = V2SClassifier.from_paper(max_epochs=0, **parameters).fit(X, y)
    groups = fitted.label_mapping_.source_indices_
    assert groups.shape == (3, 4)
    assert len(np.unique(groups)) == 12

    mask = np.ones(400)
    padded = np.zeros((15, 400))
    for begin in (0, 120, 240):
        mask[begin : begin + 24] = 0
        padded[:, begin : begin + 24] = X
    mask, padded = torch.from_numpy(mask), torch.from_numpy(padded)
    source = copy.deepcopy(tiny_source).double().eval()
    theta = torch.from_numpy(start.perturbation_[0]).clone().requires_grad_()
    first, second = torch.zeros(400).double(), torch.zeros(400).double()
    for step in range(1, epochs + 1):
        words = torch.softmax(source(padded + mask * theta).logits, dim=1)
        classes = torch.stack([words[:, group].mean(1) for group in groups], dim=1)
        loss = -torch.log(classes[torch.arange(15), torch.from_numpy(y)]).mean()
        loss = loss + 0.04 * (mask * theta).square().sum()
        (gradient,) = torch.autograd.grad(loss, theta)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        size = (second / (1 - 0.999**step)).sqrt() + 1e-8
        with torch.no_grad():
            theta -= 0.05 * first / (1 - 0.9**step) / size
    assert_allclose(
        fitted.perturbation_[0], (mask * theta).detach().numpy(), rtol=1e-6, atol=1e-9
    )


def test_the_paper_preset_fits_from_end_to_end(tiny_source):
    X, y = make_series(n=60)
    setting = {"source": tiny_source, "device": "cpu", "random_state": 0}
    fitted = V2SClassifier.from_paper(n_segments=8, dropout=0.1, **setting).fit(X, y)
    assert fitted.perturbation_.shape == (1, 400)
    assert fitted.n_iter_ == 100
    losses = [row["valid_loss"] for row in fitted.history_]
    assert min(losses) < losses[0] - 0.1
    assert fitted.score(X, y) > 0.8


# --- real series ---------------------------------------------------------------------


def read_ucr(shared, name):
    tables = (
        np.loadtxt(shared / "ucr" / name / f"{name}_{part}.tsv")
        for part in ("TRAIN", "TEST")
    )
    return [(table[:, 1:], table[:, 0].astype(int)) for table in tables]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("GunPoint", {}),
        ("GunPoint", DEFAULT_OF_0_1_0),
        ("ItalyPowerDemand", {"max_epochs": 0}),
        ("ItalyPowerDemand", DEFAULT_OF_0_1_0),
    ],
    ids=["GunPoint", "GunPoint as 0.1.0", "ItalyPowerDemand", "ItalyPower as 0.1.0"],
)
def test_the_defaults_beat_the_majority_on_real_series(shared, name, parameters):
    (X, y), (X_test, y_test) = read_ucr(shared, name)
    fitted = V2SClassifier(**parameters, random_state=0).fit(X, y)
    majority = DummyClassifier().fit(X, y).score(X_test, y_test)
    assert majority < 0.55
    assert fitted.score(X_test, y_test) > 0.75


@pytest.mark.slow
def test_labels_minus_one_and_one_are_two_classes(shared):
    (X, y), (X_test, y_test) = read_ucr(shared, "ECG200")
    assert set(y) == {-1, 1}
    fitted = V2SClassifier(max_epochs=0, random_state=0).fit(X, y)
    predicted = fitted.predict(X_test)
    assert set(predicted) == {-1, 1}
    renamed = V2SClassifier(max_epochs=0, random_state=0)
    renamed.fit(X, np.where(y > 0, 1, 0))
    assert_array_equal(renamed.predict(X_test), np.where(predicted > 0, 1, 0))
    majority = DummyClassifier().fit(X, y).score(X_test, y_test)
    assert fitted.score(X_test, y_test) > majority


def test_training_never_makes_the_probabilities_surer(tiny_source):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(24, 20)), np.arange(24) % 2
    common = {
        "source": tiny_source,
        "views": "replicas",
        "random_state": 0,
        "precision": "float64",
    }
    untrained = V2SClassifier(max_epochs=0, **common).fit(X, y)
    trained = V2SClassifier(cross_fit=1, max_epochs=20, lr=0.05, **common).fit(X, y)
    limit = untrained.label_mapping_.temperature_
    assert trained.label_mapping_.temperature_ <= limit
    # Labels without any relation to the series, learned by heart all the same.
    relearned = LinearLabelMapping().fit(trained.source_outputs(X).embedding[:, 0], y)
    assert relearned.temperature_ > limit
    # Nor does going on from there, by whatever way.
    trained.set_params(warm_start=True).fit(X, y)
    assert trained.label_mapping_.temperature_ <= limit
    trained.partial_fit(X, y).set_params(max_epochs=0, cross_fit=2).fit(X, y)
    assert trained.label_mapping_.temperature_ <= limit


def test_the_limit_of_the_temperature_survives_a_file(tmp_path):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(16, 20)), np.arange(16) % 2
    fitted = V2SClassifier(max_epochs=2, lr=0.05, random_state=0).fit(X, y)
    fitted.save(tmp_path / "a.safetensors")
    loaded = V2SClassifier.load(tmp_path / "a.safetensors")
    for classifier in (fitted, loaded):
        classifier.set_params(warm_start=True, max_epochs=0).fit(X, y)
    assert loaded.label_mapping_.temperature_ == fitted.label_mapping_.temperature_
    words = V2SClassifier(
        source_output="logits", label_mapping="random", max_epochs=0, random_state=0
    ).fit(X, y)
    words.save(tmp_path / "b.safetensors")
    assert (
        V2SClassifier.load(tmp_path / "b.safetensors").model_.temperature_limit
        == np.inf
    )
