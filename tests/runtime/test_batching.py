# SPDX-License-Identifier: Apache-2.0
"""Passes that fit into memory, and what happens where they do not."""

import io
import re
import sys
import warnings
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_v2s import V2SClassifier
from sklearn_v2s.runtime.batching import free_bytes, run_in_batches, showing_progress
from tests.small import make_series

CPU = torch.device("cpu")


@given(count=st.integers(0, 50), size=st.integers(1, 60), room=st.integers(1, 60))
def test_all_rows_once_and_in_order(count, size, room):
    done, sizes = [], []

    def run(rows, size):
        sizes.append(size)
        if rows.stop - rows.start > room:
            raise torch.OutOfMemoryError("no room\nand more")
        done.extend(range(rows.start, rows.stop))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_in_batches(run, count, size, CPU)
    assert done == list(range(count))
    assert len(caught) == (min(count, size) > room)
    assert all(later <= size for size, later in pairwise(sizes))


def test_a_host_without_memory_is_a_memory_error():
    def run(rows, size):
        raise RuntimeError("could not create a primitive")

    with pytest.raises(MemoryError, match="not enough memory for 4 series in one pass"):
        run_in_batches(run, 9, 4, CPU)

    def fail(rows, size):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run_in_batches(fail, 9, 4, CPU)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_where_somebody_asked_and_looks(monkeypatch):
    for stream, shown, expected in (
        (Terminal(), True, True),
        (Terminal(), False, False),
        (io.StringIO(), True, False),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        with showing_progress(shown):
            run_in_batches(lambda rows, size: None, 5, 2, CPU)
        assert ("forward pass, series" in stream.getvalue()) == expected
        assert ("0/5" in stream.getvalue()) == expected
        # It ends with the block.
        before = stream.getvalue()
        run_in_batches(lambda rows, size: None, 5, 2, CPU)
        assert stream.getvalue() == before


def test_a_fit_shows_its_forward_passes(monkeypatch):
    X, y = make_series(n=8)
    for verbose in (0, 1):
        monkeypatch.setattr(sys, "stderr", stream := Terminal())
        V2SClassifier(verbose=verbose, max_epochs=0, random_state=0).fit(X, y).predict(
            X
        )
        # Replicas, tone, wave and slope.
        assert stream.getvalue().count("0/8") == 4 * verbose


def test_the_warning_says_what_happens():
    def run(rows, size):
        if rows.stop - rows.start > 2:
            raise torch.OutOfMemoryError("tried to allocate 9 GiB\nstatistics")

    message = (
        "cpu has no memory left for 8 series in one pass (tried to allocate 9 GiB). "
        "Going on with 4 at a time, and fewer if needed."
    )
    with pytest.warns(UserWarning, match=re.escape(message)) as caught:
        run_in_batches(run, 20, 8, CPU)
    assert len(caught) == 1


def test_not_even_one_row():
    def run(rows, size):
        raise torch.OutOfMemoryError("full")

    with (
        pytest.warns(UserWarning, match="no memory left"),
        pytest.raises(torch.OutOfMemoryError, match="full") as caught,
    ):
        run_in_batches(run, 4, 4, CPU)
    assert "Not even one of the series fits on cpu." in caught.value.__notes__


def test_other_errors_are_not_tried_again():
    calls = []

    def run(rows, size):
        calls.append(rows)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run_in_batches(run, 4, 2, CPU)
    assert len(calls) == 1


def test_nobody_says_how_much_a_cpu_has_left():
    assert free_bytes(CPU) is None
