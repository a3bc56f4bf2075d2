# SPDX-License-Identifier: Apache-2.0
"""Threads that compute beside each other instead of sharing out each operation."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

__all__ = ["single_threads"]


@contextmanager
def single_threads(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """Start threads in each of which torch computes on one thread.

    Parameters
    ----------
    n_threads : int
        How many.

    Yields
    ------
    ThreadPoolExecutor
        Closed at the end, when all its work is done.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.threads import single_threads
    >>> with single_threads(2) as threads:
    ...     threads.submit(torch.get_num_threads).result()
    1
    """
    before = torch.get_num_threads()
    threads = ThreadPoolExecutor(n_threads, initializer=_use_one_thread)
    try:
        with threads:
            yield threads
    finally:
        # What a thread sets is also what threads that begin later start with.
        torch.set_num_threads(before)


def _use_one_thread() -> None:
    # Asked first: torch gives a thread its number at the first question or operation,
    # and would not heed what was set before.
    torch.get_num_threads()
    torch.set_num_threads(1)
