# SPDX-License-Identifier: Apache-2.0
"""Whatever a fit warns of, it points at the line that the user wrote."""

import inspect
import warnings

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from sklearn_v2s import (
    BlackBoxV2SClassifier,
    FCNClassifier,
    TransferClassifier,
    V2SClassifier,
    V2STransformer,
)
from sklearn_v2s.baselines import network
from sklearn_v2s.runtime.batching import run_in_batches
from tests.tiny_source import TinySource

#: Longer than the waveform of the source, so that they are resampled.
X = np.random.default_rng(0).normal(size=(8, 450))
y = np.arange(8) % 2


class Interrupt(Callback):
    """Ctrl-C at the end of the first epoch."""

    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def loudness(waveforms):
    return np.square(waveforms.reshape(len(waveforms), 4, -1)).mean(axis=2)


ESTIMATORS = {
    "classifier": V2SClassifier(TinySource(), views="replicas", max_epochs=0),
    "transformer": V2STransformer(TinySource(), views="replicas"),
    "transfer": TransferClassifier(TinySource(), max_epochs=1),
    "black box": BlackBoxV2SClassifier(
        loudness, input_length=400, max_iter=1, rank=2, random_state=0
    ),
}


def line_here(offset=0):
    return inspect.currentframe().f_back.f_lineno + offset


def the_warning(caught, text, line):
    (warning,) = [each for each in caught if text in str(each.message)]
    assert warning.category is UserWarning
    assert (warning.filename, warning.lineno) == (__file__, line)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_series_that_are_resampled(name):
    with pytest.warns(UserWarning, match="resampled") as caught:
        ESTIMATORS[name].fit(X, y)
    the_warning(caught, "do not fit into 400 samples", line_here(-1))


def test_scikit_learn_lies_between():
    pipeline = make_pipeline(FunctionTransformer(), ESTIMATORS["classifier"])
    with pytest.warns(UserWarning, match="resampled") as caught:
        pipeline.fit(X, y)
    the_warning(caught, "do not fit into 400 samples", line_here(-1))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_training_that_is_interrupted(method):
    classifier = V2SClassifier(
        TinySource(), views="replicas", max_epochs=2, callbacks=[Interrupt()]
    )
    fit = getattr(classifier, method)
    with pytest.warns(UserWarning, match="interrupted") as caught:
        fit(X[:, :50], y)
    the_warning(caught, "interrupted after 1 complete", line_here(-1))


def test_a_baseline_that_is_interrupted(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(network.BaselineNet, "train_step", interrupt)
    with pytest.warns(UserWarning, match="interrupted") as caught:
        FCNClassifier(max_epochs=1).fit(X[:, :50], y)
    the_warning(caught, "interrupted after 0 complete", line_here(-1))


def test_queries_that_allow_no_step():
    classifier = BlackBoxV2SClassifier(loudness, input_length=400, max_queries=16)
    with pytest.warns(UserWarning, match="no step") as caught:
        classifier.fit(X[:, :50], y)
    the_warning(caught, "allows no step", line_here(-1))


def test_memory_that_runs_out():
    def run(rows, size):
        if size > 2:
            raise torch.OutOfMemoryError("full")

    with pytest.warns(UserWarning, match="no memory left") as caught:
        run_in_batches(run, 4, 4, torch.device("cpu"))
    the_warning(caught, "no memory left for 4 series", line_here(-1))


def test_the_line_is_that_of_each_call():
    """Python shows a warning once for each line, so two calls are two warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        ESTIMATORS["transformer"].fit(X)
        ESTIMATORS["transformer"].fit(X)
    first, second = caught
    assert second.lineno == first.lineno + 1
