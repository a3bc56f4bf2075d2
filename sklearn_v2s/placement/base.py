# SPDX-License-Identifier: Apache-2.0
"""The contract of a placement."""

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["MaskedPlacement", "Placement"]


class Placement(Protocol):
    """Turns a batch of series into waveforms."""

    input_length: int

    def place(self, series: Tensor) -> Tensor:
        """Return waveforms (batch, input_length) of (batch, channels, time points)."""


@runtime_checkable
class MaskedPlacement(Placement, Protocol):
    """A placement that leaves the same samples of every waveform zero."""

    def mask(self) -> Tensor:
        """Return a boolean tensor (input_length,), True where no series is placed."""
