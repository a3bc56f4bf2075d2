# SPDX-License-Identifier: Apache-2.0
"""Passes in parts of the rows, on one thread and on several."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_v2s import V2SClassifier
from sklearn_v2s.runtime.row_parts import (
    one_thread,
    pass_in_parts,
    row_threads,
    single_threads,
)
from sklearn_v2s.sources.networks.attrnn import AttRNN


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def draw(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def source(rows, numbers, factor, shift):
    """Two outputs of rows with what they share, neither linear in it."""
    number = torch.zeros(len(rows), 1) if numbers is None else numbers[:, None]
    first = torch.tanh(rows * factor + number)
    return first, (first * shift).sum(1).square()


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 50),
    numbered=st.booleans(),
    used=st.sampled_from([(0,), (1,), (0, 1)]),
    seed=st.integers(0, 99),
)
def test_outputs_and_gradients_are_those_of_one_pass(batch, numbered, used, seed):
    rows = draw(batch, 3, seed=seed), torch.arange(batch) if numbered else None
    learned = [draw(3, seed=seed + 1), draw(1, seed=seed + 2)]
    for value in learned:
        value.requires_grad_()
    wanted = learned if 1 in used else learned[:1]
    results = []
    for outputs in (
        pass_in_parts(source, rows, learned),
        source(*rows, *learned),
    ):
        above = [draw(*outputs[index].shape, seed=index) for index in used]
        gradients = torch.autograd.grad([outputs[i] for i in used], wanted, above)
        results.append([*outputs, *gradients])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-11, rtol=1e-11)


def test_what_has_no_gradient_gets_none():
    factor, shift = draw(3).requires_grad_(), draw(1)
    outputs = pass_in_parts(source, [draw(20, 3), None], [factor, shift])
    outputs[1].sum().backward()
    assert factor.grad is not None
    assert shift.grad is None


def test_a_graph_that_is_kept_gives_the_gradient_again():
    learned = draw(3).requires_grad_(), draw(1).requires_grad_()
    total = pass_in_parts(source, [draw(20, 3), None], learned)[1].sum()
    first = torch.autograd.grad(total, learned, retain_graph=True)
    second = torch.autograd.grad(total, learned)
    assert all(map(torch.equal, first, second))


@pytest.mark.usefixtures("two_threads")
def test_threads_change_nothing_but_the_time():
    heard_by = set()

    def noted(*arguments):
        heard_by.add(threading.get_ident())
        assert torch.get_num_threads() == 1
        # Long enough for the other thread to take a part.
        threading.Event().wait(0.02)
        return source(*arguments)

    learned = draw(3).requires_grad_(), draw(1).requires_grad_()
    rows = draw(64, 3), torch.arange(64)
    results = []
    with row_threads():
        outputs = pass_in_parts(noted, rows, learned)
        assert len(heard_by) == 2
        assert threading.get_ident() not in heard_by
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        results.append([*outputs, *torch.autograd.grad(outputs[1].sum(), learned)])
    with one_thread():
        # No one else computes.
        assert torch.get_num_threads() == 2
    outputs = pass_in_parts(source, rows, learned)
    results.append([*outputs, *torch.autograd.grad(outputs[1].sum(), learned)])
    assert all(map(torch.equal, *results))


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_part_is_the_error_of_the_pass():
    def fails(rows, factor):
        raise ValueError("not these rows")

    factor = draw(3).requires_grad_()
    with row_threads(), pytest.raises(ValueError, match="not these rows"):
        pass_in_parts(fails, [draw(40, 3)], [factor])
    assert torch.get_num_threads() == 2


def test_a_single_thread_starts_no_other():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        running = threading.active_count()
        with row_threads():
            pass_in_parts(source, [draw(40, 3), None], [draw(3), draw(1)])
            assert threading.active_count() == running
    finally:
        torch.set_num_threads(before)


def test_single_threads():
    before = torch.get_num_threads()
    # A product large enough that torch would share it out.
    square = torch.ones(300, 300)

    def number_of_threads():
        torch.mm(square, square)
        return torch.get_num_threads()

    with single_threads(2) as threads:
        asked = [threads.submit(number_of_threads) for _ in range(8)]
        assert {future.result() for future in asked} == {1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_training_does_not_depend_on_the_threads(early_stopping, monkeypatch):
    forward = AttRNN.forward
    threads = set()

    def noted(self, features):
        if features.requires_grad:
            threads.add(threading.get_ident())
        return forward(self, features)

    monkeypatch.setattr(AttRNN, "forward", noted)
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = rng.normal(size=(40, 30)) + y[:, None]
    before = torch.get_num_threads()
    fitted = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            classifier = V2SClassifier.from_paper(
                max_epochs=2,
                n_segments=2,
                batch_size=20,
                early_stopping=early_stopping,
                random_state=0,
            )
            threads.clear()
            fitted.append(classifier.fit(X, y))
            assert (threading.get_ident() in threads) == (n_threads == 1)
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    first, second = (
        classifier.model_.reprogrammed.perturbation.delta for classifier in fitted
    )
    assert torch.equal(first, second)
    np.testing.assert_array_equal(
        *(classifier.predict_proba(X) for classifier in fitted)
    )
