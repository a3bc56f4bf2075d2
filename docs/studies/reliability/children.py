# SPDX-License-Identifier: Apache-2.0
"""Faults are brought about in forked processes, which may die of them."""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["count", "in_child", "start_child"]

_SECONDS = 120.0
_MOST_EXAMPLES = 5


def start_child(work: Callable[[], Any], output: int | None = None) -> int:
    """Start a forked process; return its number.

    All is imported already, so that it takes no time, and a limit of memory is one of
    the work alone.

    Parameters
    ----------
    work : callable
        What it does; the process then ends with code 0, or 1 after an exception.
    output : int, default=None
        Descriptor that gets what `work` returns, as JSON; None throws it away.

    Returns
    -------
    int
        For `os.waitpid`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        found = work()
        if output is not None:
            with open(output, "w", encoding="utf-8") as stream:
                json.dump(found, stream)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # Nothing that the parent would do at its end.
        os._exit(code)


def in_child(work: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """Return the outcome of some work, and its error, from a process of its own.

    Parameters
    ----------
    work : callable
        Returns both.

    Returns
    -------
    tuple of (str, str)
        Both, or ``"crash"`` or ``"took too long"`` and how the process ended.
    """
    reader, writer = os.pipe()
    child = start_child(work, writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:
        # What it returns fits into the buffer of the pipe: it ends without a reader.
        deadline = time.monotonic() + _SECONDS
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "took too long", f"{_SECONDS:.0f} s"
            time.sleep(0.002)
        answer = stream.read()
    if ended[1] == 0:
        outcome, error = json.loads(answer)
        return outcome, error
    return "crash", f"wait status {ended[1]}"


def count(outcomes: Iterable[tuple[str, str]], right: Iterable[str]) -> dict[str, Any]:
    """Count outcomes.

    Parameters
    ----------
    outcomes : iterable of (str, str)
        Outcome and error of each try.
    right : iterable of str
        Outcomes that are as they should be.

    Returns
    -------
    dict
        ``"tried"``, ``"outcomes"``, ``"wrong"``, and examples of errors.
    """
    counted: Counter[str] = Counter()
    examples: list[list[str]] = []
    for outcome, error in outcomes:
        counted[outcome] += 1
        most = 1 if outcome in right else _MOST_EXAMPLES
        if error and counted[outcome] <= most:
            examples.append([outcome, error[:300]])
    return {
        "tried": counted.total(),
        "outcomes": dict(counted),
        "wrong": counted.total() - sum(counted[outcome] for outcome in right),
        "examples": examples,
    }
