# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a part of a program."""

import sys
from pathlib import Path

__all__ = ["PeakMemory"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def _resident_peak() -> int:
    """Return the largest resident size since the last reset, in KiB."""
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    # Not at the top: Windows has no such module.
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def _reset_peak() -> None:
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        # Other systems keep one peak for the life of a process; a later run then
        # reports at least what an earlier one took.
        return


class PeakMemory:
    """Resident memory beyond what the process held when this object was made.

    Memory that one run leaves to the allocator counts for the next run too, so a figure
    can be too high but not too low.

    Examples
    --------
    >>> from sklearn_v2s.benchmark.memory import PeakMemory
    >>> memory = PeakMemory()
    >>> memory.restart()
    >>> block = bytearray(64 * 2**20)
    >>> block[::4096] = bytes(16384)  # writes to each page
    >>> memory.peak_mib() > 32
    True
    """

    def __init__(self) -> None:
        _reset_peak()
        self._start = _resident_peak()

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
