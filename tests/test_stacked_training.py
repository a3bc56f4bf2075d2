# SPDX-License-Identifier: Apache-2.0
"""Trainings side by side against trainings alone, which skorch drives."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn_v2s.stacked_runs import Part, Run, TrainingPlan
from sklearn_v2s.stacked_training import StackedPerturbation, train_stacked

from sklearn_v2s import V2SClassifier, stacked_training
from sklearn_v2s.perturbation import Perturbation
from sklearn_v2s.sources import load_source
from tests.small import WORDS, make_classifier, make_series
from tests.tiny_source import TinySource

SOURCE = TinySource()
X, Y = make_series(40, 3)


def prepare(classifier: V2SClassifier, rows: np.ndarray) -> Run:
    """Return a run that is where the training of a classifier begins."""
    random = make_classifier(SOURCE)
    random.set_params(**classifier.get_params(deep=False) | {"max_epochs": 0})
    random.fit(X[rows], Y[rows])
    series = random._normalizer.transform(X[rows, None, :])
    codes = np.unique(Y[rows], return_inverse=True)[1]

    def part(chosen: np.ndarray) -> Part:
        nothing, ones = np.empty((len(chosen), 0)), np.ones(len(chosen))
        return Part(series[chosen], nothing, codes[chosen], ones)

    train, validation = random._split(codes)
    return Run(
        random.net_.module_,
        part(train),
        None if validation is None else part(validation),
        random._shuffle_seed,
    )


def plan_of(classifier: V2SClassifier) -> TrainingPlan:
    """Return how a classifier trains."""
    return TrainingPlan(
        max_epochs=classifier.max_epochs,
        batch_size=classifier.batch_size,
        lr=classifier.lr,
        lr_schedule=classifier.lr_schedule,
        l2=classifier.l2,
        n_iter_no_change=classifier.n_iter_no_change,
    )


run_settings = st.fixed_dictionaries(
    {
        "dropout": st.sampled_from([0.0, 0.2, 0.7]),
        "mapping_size": st.integers(1, 4),
        "random_state": st.integers(0, 3),
    }
)
# Of different sizes, so that batches and numbers of steps differ.
folds = st.sampled_from([np.arange(40) % 4 != 1, np.arange(40) < 33, np.arange(40) > 8])
common = st.fixed_dictionaries(
    {
        "n_views": st.integers(1, 2),
        "mask": st.booleans(),
        "train_gain": st.booleans(),
        "lr_schedule": st.sampled_from(["constant", "cosine"]),
        "l2": st.sampled_from([0.0, 0.02]),
        "early_stopping": st.booleans(),
        "n_iter_no_change": st.integers(1, 2),
        # The larger one makes steps that validate worse, and stops early. Still larger
        # ones let rounding alone grow to 1e-10.
        "lr": st.sampled_from([0.02, 0.2]),
    }
)


@given(
    st.lists(st.tuples(run_settings, folds), min_size=1, max_size=5),
    common,
    st.integers(1, 5),
)
@settings(max_examples=8, deadline=None)
def test_runs_side_by_side_equal_runs_alone(of_runs, of_all, runs_per_pass):
    alone = [
        make_classifier(
            SOURCE,
            **WORDS | of_all | of_run,
            precision="float64",
            max_epochs=5,
            batch_size=10,
        )
        for of_run, _ in of_runs
    ]
    rows = [np.flatnonzero(fold) for _, fold in of_runs]
    runs = [prepare(*pair) for pair in zip(alone, rows, strict=True)]
    train_stacked(runs, plan_of(alone[0]), runs_per_pass)
    for run, classifier, chosen in zip(runs, alone, rows, strict=True):
        classifier.fit(X[chosen], Y[chosen])
        found = run.module.reprogrammed.perturbation
        expected = classifier.net_.module_.reprogrammed.perturbation
        for one, other in ((found.delta, expected.delta), (found.gain, expected.gain)):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
        assert len(run.history) == classifier.n_iter_
        for row, known in zip(run.history, classifier.history_, strict=True):
            assert row == pytest.approx({name: known[name] for name in row}, abs=1e-10)


@pytest.mark.parametrize("runs_per_pass", [1, 4])
def test_several_threads_give_what_one_gives(runs_per_pass):
    classifiers = [
        make_classifier(
            SOURCE, **WORDS, precision="float64", dropout=rate, n_views=1, max_epochs=2
        )
        for rate in (0.0, 0.1, 0.2, 0.3, 0.4)
    ]
    rows = np.arange(32)
    results = []
    before = torch.get_num_threads()
    for n_threads in (1, 3):
        runs = [prepare(classifier, rows) for classifier in classifiers]
        torch.set_num_threads(n_threads)
        try:
            train_stacked(runs, plan_of(classifiers[0]), runs_per_pass)
            assert torch.get_num_threads() == n_threads
            # A thread that begins later has what the last one set.
            with ThreadPoolExecutor(1) as later:
                assert later.submit(torch.get_num_threads).result() == n_threads
        finally:
            torch.set_num_threads(before)
        results.append(
            torch.cat([run.module.reprogrammed.perturbation.delta for run in runs])
        )
    torch.testing.assert_close(*results, rtol=0, atol=1e-10)


def test_a_thread_that_fails_stops_the_others(monkeypatch):
    classifier = make_classifier(SOURCE, **WORDS, max_epochs=10_000)
    runs = [prepare(classifier, np.arange(20)) for _ in range(2)]
    steps = stacked_training._Stack._backward

    def fail(self, shares):
        if self.runs[0] is runs[1]:
            raise MemoryError("no room")
        return steps(self, shares)

    monkeypatch.setattr(stacked_training._Stack, "_backward", fail)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        # Without the stop the other run would go on for minutes.
        with pytest.raises(MemoryError, match="no room"):
            train_stacked(runs[::-1], plan_of(classifier))
    finally:
        torch.set_num_threads(before)


def test_the_shared_spectrogram_of_a_shipped_source_is_shared_by_runs():
    words = load_source("attrnn", torch.float64)
    parameters: dict[str, Any] = {
        "n_segments": 3, "max_epochs": 1, "batch_size": 4, "early_stopping": False,
        "precision": "float64", "device": "cpu", "random_state": 0,
    }  # fmt: skip
    chosen = np.arange(8)
    classifiers = [
        V2SClassifier.from_paper(source=words, dropout=rate, **parameters)
        for rate in (0.0, 0.4)
    ]
    runs = [prepare(classifier, chosen) for classifier in classifiers]
    train_stacked(runs, plan_of(classifiers[0]), runs_per_pass=2)
    for run, classifier in zip(runs, classifiers, strict=True):
        classifier.fit(X[chosen], Y[chosen])
        found = run.module.reprogrammed.perturbation.effective().detach().numpy()
        np.testing.assert_allclose(found, classifier.perturbation_, rtol=0, atol=1e-10)


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9]), min_size=1, max_size=5),
    st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def test_stacked_perturbations_draw_what_each_would(rates, seed):
    def make() -> list[Perturbation]:
        return [
            Perturbation(
                50, [torch.Generator().manual_seed(seed + place)], dropout=rate
            )
            for place, rate in enumerate(rates)
        ]

    stacked, alone = StackedPerturbation(make()), make()
    for _ in range(2):
        expected = torch.cat([perturbation.added() for perturbation in alone])
        torch.testing.assert_close(stacked.added(), expected, rtol=1e-6, atol=0)


def test_a_device_takes_as_many_runs_as_it_has_room_for(monkeypatch):
    delta = torch.zeros(2, 16000)
    of_run = 1024 * 2 * 16000 * 32
    for free, expected in ((5 * of_run, 5), (of_run // 2, 1), (None, 1)):
        monkeypatch.setattr(
            stacked_training, "free_bytes", lambda device, free=free: free
        )
        assert stacked_training._runs_per_pass(delta, 32) == expected


def test_a_full_device_gets_fewer_runs_at_once(monkeypatch):
    classifiers = [
        make_classifier(
            SOURCE, precision="float64", dropout=rate, max_epochs=3, early_stopping=True
        )
        for rate in (0.0, 0.1, 0.2, 0.3, 0.4)
    ]
    rows, plan = np.arange(32), plan_of(classifiers[0])
    expected = [prepare(classifier, rows) for classifier in classifiers]
    train_stacked(expected, plan, runs_per_pass=1)
    hear = stacked_training._Stack._losses
    sizes = []

    def fill(self, shares, added, gain):
        losses = hear(self, shares, added, gain)
        sizes.append(len(shares))
        if len(shares) > 2:
            if added.requires_grad:
                # It gets as far as the heads on its way back.
                torch.stack(losses).sum().backward()
            raise torch.OutOfMemoryError("full")
        return losses

    monkeypatch.setattr(stacked_training._Stack, "_losses", fill)
    found = [prepare(classifier, rows) for classifier in classifiers]
    with pytest.warns(UserWarning, match="no memory left for 5 runs") as caught:
        train_stacked(found, plan, runs_per_pass=5)
    assert len(caught) == 1
    assert max(sizes) == 5 and sizes.count(5) == 1
    for one, other in zip(found, expected, strict=True):
        for row, known in zip(one.history, other.history, strict=True):
            assert row == pytest.approx(known, abs=1e-10)
        for name, value in one.module.state_dict().items():
            torch.testing.assert_close(
                value, other.module.state_dict()[name], rtol=0, atol=1e-10
            )
