# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a part of a program."""

import gc
import sys
from pathlib import Path

__all__ = ["PeakMemory"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def _status(entry: str) -> int | None:
    """Return an entry of the kernel's account of this process, in KiB."""
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{entry}:"):
                return int(line.split()[1])
    return None


def _resident_peak() -> int:
    """Return the largest resident size since the last reset, in KiB."""
    known = _status("VmHWM")
    if known is not None:
        return known
    # Not at the top: Windows has no such module.
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def _reset_peak() -> None:
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        # Other systems, and some sandboxes, keep one peak for the life of a process; a
        # later run then reports at least what an earlier one took.
        return


class PeakMemory:
    """Resident memory beyond what the process held when this object was made.

    Memory that one run leaves to the allocator counts for the next run too, and so does
    an earlier peak where the system cannot reset it: such figures are too high.
    A process that releases what it held before has figures that are too low. For an
    exact one, give the run a process of its own.

    Examples
    --------
    >>> from sklearn_v2s.benchmark.memory import PeakMemory
    >>> memory = PeakMemory()
    >>> memory.restart()
    >>> block = bytearray(256 * 2**20)
    >>> block[::4096] = bytes(65536)  # writes to each page
    >>> memory.peak_mib() > 64
    True
    """

    def __init__(self) -> None:
        # Garbage that goes away later would hide as much of what a run takes.
        gc.collect()
        _reset_peak()
        # Not the peak, which a system may not let us reset: what a run takes below an
        # earlier peak would count as nothing.
        resident = _status("VmRSS")
        self._start = _resident_peak() if resident is None else resident

    def restart(self) -> None:
        """Forget the peak so far."""
        _reset_peak()

    def peak_mib(self) -> float:
        """Return the peak since the last `restart`.

        Returns
        -------
        float
            In MiB, at least 0.
        """
        return max(0, _resident_peak() - self._start) / 1024
