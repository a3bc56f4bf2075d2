# SPDX-License-Identifier: Apache-2.0
"""Estimators on a device that is not the CPU: the same results, and no waiting."""

from functools import partial

import numpy as np
import pytest
import torch

from sklearn_v2s import (
    V2SClassifier,
    V2SClassifierCV,
    V2STransformer,
    stacked_training,
    views,
)
from sklearn_v2s.baselines import FCNClassifier, TransferClassifier
from sklearn_v2s.explain import represent_series
from sklearn_v2s.sources import load_source
from sklearn_v2s.sources.checkpoint import ARCHITECTURES
from sklearn_v2s.sources.contract import copy_source
from tests.pretend_device import NAME, pretend_device
from tests.small import WORDS, make_classifier, make_series
from tests.tiny_source import TinySource

SOURCE = TinySource()
X, Y = make_series(20, 2, 40)
EXACT = {"precision": "float64", "random_state": 0}
make_tiny = partial(make_classifier, SOURCE, precision="float64", batch_size=8)
ESTIMATORS = {
    "linear": make_tiny,
    "words": partial(
        make_tiny,
        **WORDS,
        dropout=0.3,
        mask=True,
        train_gain=True,
        early_stopping=True,
        lr_schedule="cosine",
    ),
    "iterative": partial(
        V2SClassifier.from_paper,
        label_mapping="iterative",
        max_epochs=1,
        n_segments=2,
        **EXACT,
    ),
    "fine-tuned": partial(make_tiny, fine_tune=True),
    "default": partial(V2SClassifier, **EXACT),
    "paper": partial(V2SClassifier.from_paper, max_epochs=2, batch_size=8, **EXACT),
    "fully convolutional": partial(FCNClassifier, max_epochs=2, **EXACT),
    "transfer": partial(TransferClassifier, SOURCE, max_epochs=2, **EXACT),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_accelerator_gives_what_the_cpu_gives(name):
    expected = ESTIMATORS[name](device="cpu").fit(X, Y).predict_proba(X)
    with pretend_device():
        estimator = ESTIMATORS[name](device=NAME).fit(X, Y)
        found = estimator.predict_proba(X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    # Fitted there, it goes anywhere: what it holds is on the CPU.
    on_cpu = estimator.set_params(device="cpu").predict_proba(X)
    np.testing.assert_allclose(on_cpu, expected, rtol=0, atol=1e-9)


def test_an_accelerator_goes_on_with_a_training():
    found = []
    for device in ("cpu", NAME):
        with pretend_device():
            classifier = make_tiny(device=device, train_gain=True).fit(X, Y)
            classifier.partial_fit(X, Y).partial_fit(X, Y)
            found.append(classifier.predict_proba(X))
        assert classifier.n_iter_ == 5
    np.testing.assert_allclose(*found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "words", "fine-tuned", "transfer"])
def test_float32_needs_no_float64_of_an_accelerator(name):
    found = []
    for device in ("cpu", NAME):
        estimator = ESTIMATORS[name](device=device, precision="float32")
        with pretend_device(has_float64=False):
            estimator.fit(X, Y)
            if isinstance(estimator, V2SClassifier):
                estimator.partial_fit(X, Y)
            found.append(estimator.predict_proba(X))
    np.testing.assert_allclose(*found, rtol=0, atol=1e-3)
    with (
        pretend_device(has_float64=False),
        pytest.raises(TypeError, match="no float64"),
    ):
        ESTIMATORS[name](device=NAME).fit(X, Y)


def test_an_accelerator_describes_series_as_the_cpu_does():
    transformer = V2STransformer(device="cpu", **EXACT).fit(X)
    expected = transformer.transform(X)
    with pretend_device():
        found = transformer.set_params(device=NAME).transform(X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("max_epochs", [0, 2])
def test_a_search_passes_its_trainings_at_once(max_epochs, monkeypatch):
    monkeypatch.setattr(stacked_training, "_runs_per_pass", lambda delta, size: 4)
    passes = []
    pass_all = stacked_training._Stack._losses

    def count(self, shares, added, gain):
        passes.append(len(shares))
        return pass_all(self, shares, added, gain)

    monkeypatch.setattr(stacked_training._Stack, "_losses", count)
    searches, found = [], []
    for device in ("cpu", NAME):
        search = V2SClassifierCV(
            make_tiny(**WORDS | {"max_epochs": max_epochs, "device": device}),
            dropout=[0.0, 0.4],
            mapping_size=[1, 3],
            cv=3,
        )
        with pretend_device():
            searches.append(search.fit(X, Y))
            found.append(search.predict_proba(X))
            if device == "cpu":
                passes.clear()
    on_cpu, there = searches
    # 3 folds and 4 settings, of which those of one dropout rate have one training.
    assert not passes if max_epochs == 0 else max(passes) == 4
    assert there.best_params_ == on_cpu.best_params_
    np.testing.assert_array_equal(
        there.cv_results_["mean_test_score"], on_cpu.cv_results_["mean_test_score"]
    )
    np.testing.assert_allclose(*found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_heard_alike(name):
    source = load_source(f"{name}:untrained", torch.float64)
    generator = torch.Generator().manual_seed(0)
    waveforms = torch.randn(2, source.input_length, generator=generator).double()
    found = []
    with pretend_device():
        for heard_by, device in ((source, "cpu"), (copy_source(source), NAME)):
            given = waveforms.to(device).detach().requires_grad_()
            logits, embedding = heard_by.to(device)(given)
            (slope,) = torch.autograd.grad(embedding.square().sum(), given)
            found.append([part.detach().cpu() for part in (logits, embedding, slope)])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-12)


def test_representations_are_those_of_the_cpu():
    classifier = make_tiny(device="cpu").fit(X, Y)
    transfer = TransferClassifier(SOURCE, max_epochs=1, device="cpu", **EXACT)
    transfer.fit(X, Y)
    expected = represent_series(classifier, X, transfer=transfer)
    classifier.set_params(device=NAME)
    transfer.set_params(device=NAME)
    with pretend_device():
        found = represent_series(classifier, X, transfer=transfer)
    for one, other in zip(found, expected, strict=True):
        assert one.name == other.name
        np.testing.assert_allclose(one.points, other.points, rtol=0, atol=1e-9)


def test_few_series_hear_little_silence_beside_them(monkeypatch):
    classifier = V2SClassifier(views=["wave"], device="cpu", **EXACT).fit(X, Y)
    sizes = []
    plain = views._side_by_side

    def see(waveforms, size):
        sizes.append(size)
        return plain(waveforms, size)

    monkeypatch.setattr(views, "_side_by_side", see)
    with pretend_device():
        classifier.set_params(device=NAME).predict(X)
    # It was as many as fill the memory of a device: 20,000.
    assert sizes == [256]


def waits_of(train, batch_size):
    """Return how often the host waits, without what happens once in a fit."""
    counts = []
    for max_epochs in (1, 3):
        with pretend_device() as device:
            train(batch_size=batch_size, max_epochs=max_epochs)
        counts.append(device.waits)
    return counts[1] - counts[0]


def train_one(**parameters):
    make_classifier(
        SOURCE, **WORDS, dropout=0.3, train_gain=True, device=NAME, **parameters
    ).fit(X, Y)


def train_validating(**parameters):
    make_classifier(
        SOURCE, lr_schedule="cosine", early_stopping=True, device=NAME, **parameters
    ).fit(X, Y)


def train_following(**parameters):
    iterative = {"source_output": "logits", "label_mapping": "iterative"}
    make_classifier(SOURCE, **iterative, fine_tune=True, device=NAME, **parameters).fit(
        X, Y
    )


def train_side_by_side(**parameters):
    V2SClassifierCV(
        make_classifier(
            SOURCE, **WORDS, lr_schedule="cosine", device=NAME, **parameters
        ),
        dropout=[0.0, 0.4],
        cv=2,
        refit=False,
    ).fit(X, Y)


@pytest.mark.parametrize(
    "train", [train_one, train_validating, train_following, train_side_by_side]
)
def test_the_host_waits_once_an_epoch_however_many_steps_there_are(train):
    few, many = waits_of(train, batch_size=20), waits_of(train, batch_size=2)
    assert few == many
    assert few.total() > 0


def test_the_pretended_device_refuses_values_of_the_host():
    with pretend_device():
        there, here = torch.ones(3).to(NAME), torch.ones(3)
        assert (there + torch.tensor(2.0)).cpu().tolist() == [3.0, 3.0, 3.0]
        with pytest.raises(RuntimeError, match="different devices"):
            there + here


@pytest.mark.parametrize(
    "ask",
    [
        lambda values: values.sum().item(),
        lambda values: values.tolist(),
        lambda values: bool((values > 0).all()),
        lambda values: values[values > 0],
        lambda values: values.cpu(),
        lambda values: values.copy_(torch.zeros(3)),
        lambda values: torch.equal(values, values),
    ],
)
def test_the_pretended_device_counts_where_the_host_waits(ask):
    with pretend_device() as device:
        values = torch.ones(3).to(NAME)
        before = device.waits.total()
        assert (values * 2 - 1).argmax().device.type == NAME
        assert device.waits.total() == before
        ask(values)
        assert device.waits.total() == before + 1
