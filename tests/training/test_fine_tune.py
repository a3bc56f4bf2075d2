# SPDX-License-Identifier: Apache-2.0
"""Reprogramming with fine-tuning: a copy of the source is trained along."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_v2s import V2SClassifier
from sklearn_v2s.sources import load_source
from tests.small import make_series
from tests.tiny_source import TinySource


@pytest.fixture(scope="module")
def data():
    return make_series(16, 2, 40)


def fine_tuned(**parameters):
    settings = {"max_epochs": 2, "early_stopping": False, "random_state": 0}
    return V2SClassifier.from_paper(**(settings | parameters), fine_tune=True)


def own_source(classifier):
    return classifier.model_.reprogrammed.source


def differing(one, other):
    """Return the names of the weights in which two sources differ."""
    return {
        name
        for name, value in one.state_dict().items()
        if not torch.equal(value, other.state_dict()[name])
    }


def test_the_copy_is_trained_and_the_shared_source_is_not(data):
    shared = load_source("attrnn")
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    classifier = fine_tuned().fit(*data)
    assert load_source("attrnn") is shared
    for name, value in shared.state_dict().items():
        assert torch.equal(value, before[name]), name
    names = {name for name, _ in shared.named_parameters()}
    assert differing(own_source(classifier), shared) == names
    # Neither does a second fit begin where the first one ended.
    again = clone(classifier).fit(*data)
    assert own_source(again) is not own_source(classifier)
    assert not differing(own_source(again), own_source(classifier))
    assert not any(w.requires_grad for w in own_source(classifier).parameters())


def test_without_it_there_is_nothing_but_the_perturbation_to_train(data):
    classifier = fine_tuned().set_params(fine_tune=False).fit(*data)
    assert own_source(classifier) is load_source("attrnn")
    assert [name for name, _ in classifier.net_.get_all_learnable_params()] == [
        "reprogrammed.perturbation.delta"
    ]


def test_the_learning_rate_of_the_source(data):
    slow = fine_tuned(source_lr=1e-12).fit(*data)
    for name, value in load_source("attrnn").state_dict().items():
        own = own_source(slow).state_dict()[name]
        torch.testing.assert_close(own, value, atol=1e-9, rtol=1e-6)
    # In float64, for Adam makes as large a step of a gradient that is mere rounding.
    exact = fine_tuned(source_lr=1e-12, precision="float64")
    frozen = clone(exact).set_params(fine_tune=False).fit(*data)
    slow = exact.fit(*data)
    np.testing.assert_allclose(slow.perturbation_, frozen.perturbation_, atol=1e-6)


def test_it_can_learn_what_the_perturbation_alone_cannot():
    # The loss falls further with more to train.
    X, y = make_series(16, 2, 40)
    losses = {}
    for fine_tune in (False, True):
        # In float64: in float32 rounding grows into different losses.
        classifier = fine_tuned(max_epochs=20, lr=0.01, l2=0.0, precision="float64")
        classifier.set_params(fine_tune=fine_tune).fit(X, y)
        losses[fine_tune] = classifier.history_[-1]["train_loss"]
    assert losses[True] < losses[False] - 0.1


@pytest.mark.parametrize("how", ["pickle", "file"])
def test_the_weights_are_kept(data, tmp_path, how):
    classifier = fine_tuned().fit(*data)
    if how == "pickle":
        again = pickle.loads(pickle.dumps(classifier))
    else:
        classifier.save(tmp_path / "model.safetensors")
        again = V2SClassifier.load(tmp_path / "model.safetensors")
    expected = classifier.predict_proba(data[0])
    np.testing.assert_array_equal(again.predict_proba(data[0]), expected)
    # They can be trained further, beside the others.
    again.partial_fit(*data)
    assert differing(own_source(again), own_source(classifier))
    np.testing.assert_array_equal(classifier.predict_proba(data[0]), expected)


def test_early_stopping_gives_back_the_source_of_the_best_epoch(data):
    settings = {"early_stopping": True, "validation_fraction": 0.3, "lr": 0.3}
    stopped = fine_tuned(max_epochs=6, source_lr=0.05, **settings).fit(*data)
    losses = [row["valid_loss"] for row in stopped.history_]
    best = int(np.argmin(losses)) + 1
    assert best < 6
    direct = fine_tuned(max_epochs=best, source_lr=0.05, **settings).fit(*data)
    assert not differing(own_source(stopped), own_source(direct))


def test_warm_start_goes_on_from_the_trained_copy(data):
    classifier = fine_tuned(warm_start=True).fit(*data)
    first = own_source(classifier)
    kept = {name: value.clone() for name, value in first.state_dict().items()}
    classifier.fit(*data)
    assert own_source(classifier) is not first
    assert all(torch.equal(first.state_dict()[name], kept[name]) for name in kept)
    moved = own_source(classifier).state_dict()["network.output.bias"]
    start = kept["network.output.bias"]
    shared = load_source("attrnn").state_dict()["network.output.bias"]
    assert (moved - start).abs().max() < (moved - shared).abs().max()
    with pytest.raises(ValueError, match=r"fine_tune=True.*fine_tune=False"):
        classifier.set_params(fine_tune=False).fit(*data)


def test_all_views_with_a_source_of_the_users_own(data):
    source = TinySource()
    classifier = V2SClassifier(
        source, fine_tune=True, max_epochs=2, random_state=0, views=["replicas", "tone"]
    )
    classifier.fit(*data)
    assert differing(own_source(classifier), source)
    assert classifier.predict_proba(data[0]).shape == (16, 2)


def test_nothing_to_train_is_an_error(data):
    with pytest.raises(ValueError, match=r"fine_tune=True .* max_epochs=0"):
        V2SClassifier(fine_tune=True, max_epochs=0).fit(*data)
