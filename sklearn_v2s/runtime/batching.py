# SPDX-License-Identifier: Apache-2.0
"""Passes over many series in batches that fit into the memory of a device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from tqdm import tqdm

from sklearn_v2s.runtime.user_warnings import warn_user

__all__ = ["free_bytes", "run_in_batches", "showing_progress"]

_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def showing_progress(shown: bool) -> Iterator[None]:
    """Let `run_in_batches` show a progress bar on standard error, on a terminal only.

    Parameters
    ----------
    shown : bool
        False hides the bars, as outside of the context.
    """
    token = _SHOWN.set(shown)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory a device has left.

    Parameters
    ----------
    device : torch.device
        Any.

    Returns
    -------
    int or None
        Bytes, including those that torch has reserved but does not use; None where it
        is not known, as for a CPU.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + held)


def run_in_batches(
    run: Callable[[slice, int], None],
    count: int,
    size: int,
    device: torch.device,
    what: str = "series",
) -> int:
    """Call a function batch by batch, with smaller batches once a device is full.

    Parameters
    ----------
    run : callable
        Called with the rows of a batch and the batch size, which the last batch may not
        fill. After an out-of-memory error it is called again for fewer of these rows.
    count : int
        Number of rows.
    size : int
        Batch size at the start. It is halved each time the device runs out of memory,
        with a warning the first time.
    device : torch.device
        Where the function computes.
    what : str, default="series"
        What the rows are, for messages.

    Returns
    -------
    int
        The batch size that fitted.

    Raises
    ------
    torch.OutOfMemoryError
        If a single row does not fit.
    MemoryError
        If the memory of the host is full.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.runtime.batching import run_in_batches
    >>> run_in_batches(lambda rows, size: print(rows), 5, 3, torch.device("cpu"))
    slice(0, 3, None)
    slice(3, 5, None)
    3
    """
    hidden = None if _SHOWN.get() else True
    with tqdm(
        total=count, desc=f"forward pass, {what}", disable=hidden, leave=False
    ) as bar:
        start, warned = 0, False
        while start < count:
            rows = slice(start, min(count, start + size))
            reason = None
            try:
                run(rows, size)
            except torch.OutOfMemoryError as error:
                tried = rows.stop - rows.start
                if tried == 1:
                    error.add_note(f"Not even one of the {what} fits on {device}.")
                    raise
                reason = str(error).partition("\n")[0]
            except RuntimeError as error:
                # All that oneDNN says where the host has no memory left.
                if "could not create a primitive" not in str(error):
                    raise
                raise MemoryError(
                    f"not enough memory for {rows.stop - rows.start} {what} in one "
                    f"pass ({error})."
                ) from error
            if reason is None:
                bar.update(rows.stop - start)
                start = rows.stop
                continue
            # Not in the handler: the error keeps what the pass had computed so far.
            size = tried // 2
            if device.type == "cuda":
                torch.cuda.empty_cache()
            if not warned:
                warned = True
                warn_user(
                    f"{device} has no memory left for {tried} {what} in one pass "
                    f"({reason}). Going on with {size} at a time, and fewer if needed.",
                )
    return size
