# SPDX-License-Identifier: Apache-2.0
"""How long a training lasts where the user does not say."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skorch.callbacks import Callback

from sklearn_v2s.training.budget import training_budget
from tests.small import make_series

counts = st.integers(2, 200_000)
epochs = st.one_of(st.just("auto"), st.integers(0, 1000))
sizes = st.one_of(st.just("auto"), st.integers(1, 100_000))


@given(n=counts, max_epochs=epochs, batch_size=sizes)
def test_the_rule(n, max_epochs, batch_size):
    budget = training_budget(n, max_epochs, batch_size)
    assert type(budget.max_epochs) is type(budget.batch_size) is int
    if batch_size == "auto":
        assert 16 <= budget.batch_size <= 64
        # A fiftieth, where that is between both.
        assert budget.batch_size in {16, 64, n // 50}
    else:
        assert budget.batch_size == batch_size
    if max_epochs != "auto":
        assert budget.max_epochs == max_epochs
        return
    steps = math.ceil(n / budget.batch_size)
    assert budget.max_epochs >= 2
    assert budget.max_epochs * steps >= 200
    # And no epoch more than it takes.
    assert budget.max_epochs == 2 or (budget.max_epochs - 1) * steps < 200


@given(n=counts)
def test_more_series_are_not_fewer_steps_by_more_than_an_epoch(n):
    now, then = training_budget(n), training_budget(n + 1)
    assert then.max_epochs <= now.max_epochs
    assert then.batch_size >= now.batch_size


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (16, (200, 16)),
        (17, (100, 16)),
        (50, (50, 16)),
        (1000, (4, 20)),
        (3200, (4, 64)),
    ],
)
def test_by_hand(n, expected):
    assert training_budget(n) == expected


STOPPING = {
    "early_stopping": True,
    "validation_fraction": 0.5,
    "n_iter_no_change": 10**6,
}


@pytest.mark.parametrize("stopping", [{}, STOPPING], ids=["all", "half"])
def test_the_classifier_keeps_to_it(make, stopping):
    X, y = make_series(36)
    seen = []

    class Steps(Callback):
        def on_batch_end(self, net, training=False, batch=None, **kwargs):
            if training:
                seen.append(len(batch[1]))

    classifier = make(
        max_epochs="auto",
        batch_size="auto",
        callbacks=[Steps()],
        **stopping,
    ).fit(X, y)
    # Of the series that are trained on: 36, or the half of them.
    n = 18 if stopping else 36
    assert classifier.n_iter_ == training_budget(n).max_epochs
    assert len(seen) >= 200
    assert sum(seen) == n * classifier.n_iter_
    assert max(seen) == 16
