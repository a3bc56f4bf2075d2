# SPDX-License-Identifier: Apache-2.0
"""Many series in passes that fit into the memory of a device."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from tqdm import tqdm

__all__ = ["free_bytes", "run_in_chunks", "showing_progress"]

_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def showing_progress(shown: bool) -> Iterator[None]:
    """Let `run_in_chunks` show a bar on standard error, if that is a terminal.

    Parameters
    ----------
    shown : bool
        Whether to.
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
        Bytes, with those that torch holds without using them; None where nobody says,
        as for a CPU.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + held)


def run_in_chunks(
    run: Callable[[slice, int], None],
    count: int,
    size: int,
    device: torch.device,
    what: str = "series",
) -> int:
    """Run something for all rows, for fewer at a time where a device is full.

    Parameters
    ----------
    run : callable
        Gets the rows of a pass and the size of a pass, which the last may not fill. It
        is called again for the first of the same rows if it ran out of memory.
    count : int
        Number of rows.
    size : int
        Rows for each pass at the start. Each time the device has no memory left it is
        halved, and the first time the user is warned.
    device : torch.device
        Which that is.
    what : str, default="series"
        What the rows are, for messages.

    Returns
    -------
    int
        The size that found room.

    Raises
    ------
    torch.OutOfMemoryError
        If not even one row finds room.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.chunking import run_in_chunks
    >>> run_in_chunks(lambda rows, size: print(rows), 5, 3, torch.device("cpu"))
    slice(0, 3, None)
    slice(3, 5, None)
    3
    """
    hidden = None if _SHOWN.get() else True
    with tqdm(total=count, desc=f"hearing {what}", disable=hidden, leave=False) as bar:
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
                warnings.warn(
                    f"{device} has no memory left for {tried} {what} in one pass "
                    f"({reason}). Going on with {size} at a time, and fewer if needed.",
                    UserWarning,
                    stacklevel=3,
                )
    return size
