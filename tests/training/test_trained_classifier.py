# SPDX-License-Identifier: Apache-2.0
"""The classifier in training: stopping, going on, interruption."""

import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss
from skorch.callbacks import Callback

from tests.small import MAPPINGS, OUTPUT_OF, WORDS, make_series, normalised

# --- early stopping ------------------------------------------------------------------


def test_early_stopping_returns_the_epoch_with_the_least_validation_loss(make):
    X, y = make_series()
    setting = {"early_stopping": True, "lr": 0.3, "n_iter_no_change": 3}
    stopped = make(max_epochs=200, **setting).fit(X, y)
    losses = [row["valid_loss"] for row in stopped.history_]
    best = int(np.argmin(losses)) + 1
    assert stopped.n_iter_ == best + 3 < 200
    there = make(max_epochs=best, **setting).fit(X, y)
    assert_array_equal(stopped.perturbation_, there.perturbation_)
    assert_array_equal(stopped.predict_proba(X), there.predict_proba(X))


def test_early_stopping_says_nothing_of_an_interruption(make):
    X, y = make_series()
    classifier = make(early_stopping=True, lr=0.3, n_iter_no_change=1, max_epochs=200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert classifier.fit(X, y).n_iter_ < 200


def test_early_stopping_needs_a_class_with_two_samples(make):
    X, y = make_series(n=2)
    with pytest.raises(ValueError, match=r"early_stopping=True.*at least 2 samples"):
        make(early_stopping=True).fit(X, y)


# --- going on ------------------------------------------------------------------------


def test_warm_start_goes_on_from_the_previous_perturbation(make):
    X, y = make_series()
    classifier = make(warm_start=True).fit(X, y)
    first = classifier.perturbation_
    kept = first.copy()
    classifier.set_params(max_epochs=0).fit(X, y)
    assert_array_equal(classifier.perturbation_, kept)
    classifier.set_params(max_epochs=2).fit(X, y)
    assert classifier.n_iter_ == len(classifier.history_) == 2
    fresh = make(max_epochs=2).fit(X, y)
    assert not np.array_equal(classifier.perturbation_, fresh.perturbation_)
    moved = np.abs(classifier.perturbation_ - kept).max()
    assert 0 < moved < np.abs(classifier.perturbation_ - fresh.perturbation_).max()
    assert_array_equal(first, kept)


def test_warm_start_keeps_a_random_mapping(make):
    X, y = make_series()
    classifier = make(**WORDS, warm_start=True, random_state=None).fit(X, y)
    before = classifier.label_mapping_.source_indices_.copy()
    classifier.fit(X, y)
    assert_array_equal(classifier.label_mapping_.source_indices_, before)


def test_without_warm_start_fit_begins_anew(make):
    X, y = make_series()
    classifier = make().fit(X, y)
    before = classifier.perturbation_
    assert_array_equal(classifier.fit(X, y).perturbation_, before)


def test_warm_start_with_other_classes_is_an_error_and_changes_nothing(make):
    X, y = make_series()
    classifier = make(warm_start=True).fit(X, y)
    before = classifier.predict(X)
    with pytest.raises(ValueError, match=r"warm_start=True.*\[0, 1\].*\['a', 'b'\]"):
        classifier.fit(X, np.where(y == 0, "a", "b"))
    assert_array_equal(classifier.predict(X), before)


def test_warm_start_with_series_of_another_shape_is_an_error(make):
    X, y = make_series()
    classifier = make(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"20 features.*24 features"):
        classifier.fit(X[:, :20], y)
    with pytest.raises(ValueError, match=r"2 channels.*1 channels"):
        classifier.fit(X.reshape(36, 2, 12), y)
    assert classifier.n_channels_in_ == 1


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_partial_fit_lowers_the_loss_call_by_call(make, mapping):
    X, y = make_series()
    classifier = make(label_mapping=mapping, source_output=OUTPUT_OF[mapping], lr=0.01)
    losses = []
    for call in range(12):
        classifier.partial_fit(X, y)
        losses.append(log_loss(y, classifier.predict_proba(X)))
        assert classifier.n_iter_ == len(classifier.history_) == call + 1
    assert losses[-1] < losses[0]


def test_partial_fit_learns_classes_that_come_later(make):
    X, y = make_series(n_classes=3)
    classifier = make(lr=0.05)
    for label in (0, 1):
        classifier.partial_fit(X[y == label], y[y == label], classes=[2, 1, 0])
    assert_array_equal(classifier.classes_, [0, 1, 2])
    assert classifier.predict_proba(X).shape == (36, 3)
    for _ in range(15):
        for part in (slice(0, 18), slice(18, 36)):
            classifier.partial_fit(X[part], y[part])
    assert classifier.score(X, y) > 0.8


def test_partial_fit_needs_the_classes_that_are_yet_to_come(make):
    X, y = make_series(n_classes=3)
    classifier = make().partial_fit(X[y < 2], y[y < 2])
    with pytest.raises(ValueError, match=r"labels \[2\].*classes \[0, 1\]"):
        classifier.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"classes=\[0, 2\].*first call.*\[0, 1\]"):
        classifier.partial_fit(X, y, classes=[0, 2])


def test_partial_fit_refuses_series_of_another_length(make):
    X, y = make_series()
    classifier = make().partial_fit(X, y)
    with pytest.raises(ValueError, match=r"20 features.*24 features"):
        classifier.partial_fit(X[:, :20], y)


def test_partial_fit_goes_on_after_fit(make):
    X, y = make_series()
    classifier = make(lr_schedule="cosine", max_epochs=4).fit(X, y)
    before = classifier.perturbation_
    kept = before.copy()
    classifier.partial_fit(X, y)
    assert classifier.n_iter_ == 5
    moved = np.abs(classifier.perturbation_ - kept)
    # Three steps with the full learning rate, not with what the schedule left of it.
    assert 0.02 < moved.max() < 0.1
    assert_array_equal(before, kept)


@pytest.mark.parametrize("calls", [0, 1, 3])
@pytest.mark.parametrize("output", ["embedding", "both"])
def test_the_net_and_a_learned_mapping_say_the_same(make, calls, output):
    X, y = make_series(n_classes=3)
    classifier = make(source_output=output, precision="float64", lr=0.1).fit(X, y)
    for _ in range(calls):
        classifier.partial_fit(X, y)
    series = (X - X.mean()) / X.std()
    with torch.no_grad():
        scores = classifier.model_.target_module()(torch.from_numpy(series[:, None]))
    assert_allclose(np.exp(scores.numpy()), classifier.predict_proba(X), rtol=1e-6)


def test_partial_fit_takes_the_parameters_as_they_are_now(make):
    X, y = make_series()
    classifier = make().fit(X, y)
    before = classifier.perturbation_
    classifier.set_params(lr=1e-6, batch_size=36).partial_fit(X, y)
    steps = np.abs(classifier.perturbation_ - before).max() / 1e-6
    assert 0.1 < steps < 3.0


def test_a_whole_weight_is_a_repetition_in_partial_fit(make):
    X, y = make_series(n=20)
    weight = np.random.default_rng(0).integers(1, 4, size=20)
    setting = {"precision": "float64", "batch_size": 1000}
    weighted, repeated, plain = (make(**setting) for _ in range(3))
    for _ in range(3):
        weighted.partial_fit(X, y, sample_weight=weight)
        repeated.partial_fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
        plain.partial_fit(X, y)
    expected = repeated.predict_proba(X)
    assert_allclose(weighted.predict_proba(X), expected, rtol=1e-6, atol=1e-9)
    assert np.abs(plain.predict_proba(X) - expected).max() > 1e-4


# --- progress, callbacks, interruption -----------------------------------------------


def test_verbose_shows_a_bar_and_prints_nothing(make, capsys):
    X, y = make_series()
    make(verbose=1).fit(X, y)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "epochs of training" in seen.err
    assert "3/3" in seen.err
    assert "train_loss" in seen.err


def test_without_verbose_nothing_is_shown(make, capsys):
    X, y = make_series()
    make(verbose=0, early_stopping=True).fit(X, y).partial_fit(X, y).predict(X)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "")


class Recorder(Callback):
    """Record the losses, and hold what no pickle can hold."""

    def __init__(self):
        self.losses = []
        self.unpicklable = (number for number in range(3))

    def on_epoch_end(self, net, **kwargs):
        self.losses.append(net.history[-1, "train_loss"])


def test_callbacks_are_called_in_fit_and_in_partial_fit(make):
    X, y = make_series()
    recorder = Recorder()
    classifier = make(callbacks=[recorder]).fit(X, y)
    assert recorder.losses == [row["train_loss"] for row in classifier.history_]
    for _ in range(2):
        classifier.partial_fit(X, y)
    assert len(recorder.losses) == 5
    assert recorder.losses == [row["train_loss"] for row in classifier.history_]


def test_the_fitted_state_holds_no_callbacks(make):
    X, y = make_series()
    classifier = make(callbacks=[Recorder()], verbose=1, lr_schedule="cosine")
    classifier.set_params(early_stopping=True).fit(X, y)
    classifier.set_params(callbacks=None)
    restored = pickle.loads(pickle.dumps(classifier))
    assert_array_equal(restored.predict_proba(X), classifier.predict_proba(X))


class Interrupt(Callback):
    """Press Ctrl-C at the end of an epoch, or after so many batches."""

    def __init__(self, epoch=None, batch=None):
        self.epoch = epoch
        self.batch = batch
        self.batches = 0

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt

    def on_batch_end(self, net, **kwargs):
        self.batches += 1
        if self.batches == self.batch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("mapping", ["linear", "random", "iterative"])
@pytest.mark.parametrize(
    "interrupt",
    [
        pytest.param({"epoch": 3}, id="after an epoch"),
        # Three batches to an epoch: the second of the fourth epoch.
        pytest.param({"batch": 11}, id="within an epoch"),
    ],
)
def test_an_interruption_keeps_the_last_whole_epoch_and_says_so(
    make, mapping, interrupt
):
    X, y = make_series()
    setting = {"label_mapping": mapping, "source_output": OUTPUT_OF[mapping]}
    classifier = make(max_epochs=9, callbacks=[Interrupt(**interrupt)], **setting)
    with pytest.warns(UserWarning, match="interrupted after 3 complete epochs of 9"):
        classifier.fit(X, y)
    assert classifier.n_iter_ == len(classifier.history_) == 3
    expected = make(max_epochs=3, **setting).fit(X, y)
    assert_array_equal(classifier.perturbation_, expected.perturbation_)
    assert_array_equal(classifier.predict_proba(X), expected.predict_proba(X))


def test_an_interruption_keeps_the_best_epoch_of_an_early_stopping(make):
    X, y = make_series()
    setting = {"early_stopping": True, "lr": 0.3, "n_iter_no_change": 50}
    whole = make(max_epochs=30, **setting).fit(X, y)
    best = int(np.argmin([row["valid_loss"] for row in whole.history_])) + 1
    assert best < 29
    classifier = make(max_epochs=30, callbacks=[Interrupt(epoch=best + 1)], **setting)
    with pytest.warns(UserWarning, match=f"interrupted after {best + 1} complete"):
        classifier.fit(X, y)
    assert_array_equal(classifier.perturbation_, whole.perturbation_)


def test_an_interruption_in_the_first_epoch_keeps_the_beginning(make):
    X, y = make_series()
    classifier = make(callbacks=[Interrupt(batch=1)])
    with pytest.warns(UserWarning, match="interrupted after 0 complete epochs of 3"):
        classifier.fit(X, y)
    start = make(max_epochs=0).fit(X, y)
    assert_array_equal(classifier.perturbation_, start.perturbation_)
    assert classifier.history_ == []


def test_an_interrupted_partial_fit_keeps_the_state_before(make):
    X, y = make_series()
    classifier = make().partial_fit(X, y)
    before = classifier.predict_proba(X)
    classifier.set_params(callbacks=[Interrupt(batch=2)])
    with pytest.warns(UserWarning, match="interrupted after 0 complete epochs of 1"):
        classifier.partial_fit(X, y)
    assert_allclose(classifier.predict_proba(X), before, rtol=1e-5)
    assert classifier.n_iter_ == 1


CTRL_C = """
import os, signal, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)
from skorch.callbacks import Callback
from tests.small import make_classifier, make_series
from tests.tiny_source import TinySource

class Signal(Callback):
    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 3:
            os.kill(os.getpid(), signal.SIGINT)

X, y = make_series()
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    classifier = make_classifier(TinySource(), max_epochs=9, callbacks=[Signal()])
    classifier.fit(X, y)
print(*[warning.message for warning in seen], sep="|")
expected = make_classifier(TinySource(), max_epochs=2).fit(X, y)
print((classifier.predict_proba(X) == expected.predict_proba(X)).all())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="the system has no SIGINT")
def test_a_real_ctrl_c_keeps_the_last_whole_epoch():
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    message, equal = done.stdout.splitlines()
    assert message.startswith("the training was interrupted after 2 complete epochs")
    assert equal == "True"


def test_the_last_fit_may_select_other_source_outputs_than_the_first(make):
    X, y = make_series(37, 3)
    parameters = {"source_output": "both", "mapping_size": 2, "max_epochs": 6}
    classifier = make(**parameters, lr=0.3, precision="float64").fit(X, y)
    first = make(**parameters | {"max_epochs": 0}, precision="float64").fit(X, y)
    selected = classifier.label_mapping_.selected_
    assert set(selected) != set(first.label_mapping_.selected_)
    # The net reads what the mapping reads, and goes on from there.
    series = torch.from_numpy(normalised(classifier, X))
    with torch.no_grad():
        found = classifier.net_.module_(series).exp()
    assert_allclose(found, classifier.predict_proba(X), rtol=1e-6, atol=1e-9)
    classifier.partial_fit(X, y)
    assert classifier.n_iter_ == 7
    assert_array_equal(classifier.label_mapping_.selected_, selected)
