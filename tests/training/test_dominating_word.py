# SPDX-License-Identifier: Apache-2.0
"""Sources for which one word wins nearly always: every mapping learns all the same."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sklearn_v2s.label_mapping import BayesianLabelMapping
from sklearn_v2s.label_mapping.heads import MatrixHead
from tests.small import make_classifier, make_series
from tests.small_mappings import each_source_class, make_data
from tests.tiny_source import TinySource

X, Y = make_series(40, n_classes=2)
SETTING = {
    "source_output": "logits",
    "max_epochs": 20,
    "lr": 0.1,
    "precision": "float64",
    "n_views": 1,
}


def dominated(by=10):
    """Return a source that says its first word to every waveform.

    Of the others no logit is larger than that of another by 6.
    """
    source = TinySource()
    with torch.no_grad():
        source.output.bias[0] += by
    return source


def words_of(fitted):
    return set(fitted.source_outputs(X).logits[:, 0].argmax(axis=1))


@each_source_class
def test_it_learns_where_one_word_dominates(mapping):
    start, fitted = (
        make_classifier(
            dominated(), label_mapping=mapping, **SETTING | {"max_epochs": epochs}
        ).fit(X, Y)
        for epochs in (0, 20)
    )
    assert words_of(start) == {0}
    assert fitted.score(X, Y) > 0.9
    assert fitted.history_[-1]["train_loss"] < fitted.history_[0]["train_loss"]


@pytest.mark.parametrize("plus", [False, True])
def test_bayesian_weights_learn_however_much_it_dominates(plus):
    mapping = BayesianLabelMapping(plus=plus)
    fitted = make_classifier(dominated(60), label_mapping=mapping, **SETTING).fit(X, Y)
    # It dominates still.
    assert words_of(fitted) == {0}
    assert fitted.score(X, Y) > 0.9
    few = make_classifier(TinySource(), label_mapping=mapping, **SETTING).fit(X, Y)
    assert_allclose(fitted.predict_proba(X), few.predict_proba(X), rtol=1e-4)


@each_source_class
def test_the_gradient_is_not_zero_where_one_word_dominates(mapping):
    start = make_classifier(
        dominated(), label_mapping=mapping, **SETTING | {"max_epochs": 0}
    ).fit(X, Y)
    weights = start.label_mapping_.weights_
    assert np.abs(weights[:, 0] - weights[:, 1]).max() > 0.1
    module = start.model_.target_module()
    series = torch.from_numpy((X - X.mean()) / X.std())[:, None]
    loss = -module(series)[torch.arange(40), torch.from_numpy(Y)].mean()
    delta = start.model_.reprogrammed.perturbation.delta
    (slope,) = torch.autograd.grad(loss, delta)
    assert slope.abs().max() > 1e-6


@pytest.mark.parametrize("aggregation", ["logit", "probability"])
@pytest.mark.parametrize("plus", [False, True])
def test_the_head_subtracts_the_offset_of_the_mapping(plus, aggregation):
    logits, y = make_data(3, n=30, k=9, c=3)
    logits[:, 4] += 30
    mapping = BayesianLabelMapping(plus=plus, aggregation=aggregation).fit(logits, y)
    head = MatrixHead(mapping)
    assert_allclose(head.offset, mapping.offset_, rtol=1e-15)
    found = head(torch.from_numpy(logits)).exp()
    assert_allclose(found, mapping.transform(logits), rtol=1e-12)
    # Fitted again, as in each epoch, it has another one.
    mapping.fit(logits[:20], y[:20])
    head.read(mapping)
    assert_allclose(head.offset, logits[:20].mean(axis=0), rtol=1e-12)
    found = head(torch.from_numpy(logits)).exp()
    assert_allclose(found, mapping.transform(logits), rtol=1e-12)


def test_the_offset_of_a_fit_survives_a_file(tmp_path):
    from sklearn_v2s import V2SClassifier

    fitted = V2SClassifier(
        source_output="logits", label_mapping="bayesian", max_epochs=1, random_state=0
    ).fit(X, Y)
    fitted.save(tmp_path / "a.safetensors")
    loaded = V2SClassifier.load(tmp_path / "a.safetensors")
    assert_allclose(loaded.label_mapping_.offset_, fitted.label_mapping_.offset_)
    assert_allclose(loaded.predict_proba(X), fitted.predict_proba(X), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["bayesian", "frequency", "iterative"])
def test_it_learns_with_the_shipped_source(mapping):
    # Of the shipped AttRNN one word wins for nearly all series.
    fitted = make_classifier(
        "attrnn",
        label_mapping=mapping,
        **SETTING | {"precision": "float32", "n_segments": "auto", "init_scale": 0.1},
    ).fit(X, Y)
    assert fitted.score(X, Y) > 0.9
