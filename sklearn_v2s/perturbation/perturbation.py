# SPDX-License-Identifier: Apache-2.0
"""The perturbation: what Voice2Series learns by gradient."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sklearn_v2s.runtime.devices import is_on, to_device

__all__ = ["Perturbation"]


class Perturbation(nn.Module):
    """G perturbations, each added to the placed series.

    The waveform of group ``g`` is ``gain[g] * placed + mask * dropout(delta[g])``
    (equation 1, with a gain for the series). Groups never interact: each has its own
    random generator, so that what a group draws does not depend on the number of
    groups.

    Parameters
    ----------
    input_length : int
        Length of the waveform, in samples.
    generators : sequence of torch.Generator
        One for each of the G groups; they draw the initial values and the dropout.
    init_scale : float, default=0.01936
        The initial values are uniform in ``[-init_scale, init_scale]``.
    mask : Tensor of shape (input_length,), default=None
        The M of equation 1: 0 where a series sits. None means 1 everywhere.
    dropout : float, default=0.0
        Share of the perturbation's samples that are zeroed in a training step, the same
        samples for the whole batch. Off in evaluation mode.
    input_gain : float, default=1.0
        Factor of the placed series.
    train_gain : bool, default=False
        Learn the factor too.

    Attributes
    ----------
    delta : nn.Parameter of shape (G, input_length)
        The perturbations.
    log_gain : Tensor of shape (G,)
        Logarithm of the gain; a parameter if it is learned.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, equation 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.perturbation import Perturbation
    >>> generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    >>> perturbation = Perturbation(16000, generators)
    >>> perturbation(torch.zeros(5, 16000)).shape
    torch.Size([2, 5, 16000])
    """

    log_gain: Tensor
    mask: Tensor | None

    def __init__(
        self,
        input_length: int,
        generators: Sequence[torch.Generator],
        *,
        init_scale: float = 0.01936,
        mask: Tensor | None = None,
        dropout: float = 0.0,
        input_gain: float = 1.0,
        train_gain: bool = False,
    ) -> None:
        super().__init__()
        self.generators = list(generators)
        self.dropout = dropout
        initial = torch.stack(
            [
                torch.rand(input_length, generator=generator) * 2.0 - 1.0
                for generator in self.generators
            ]
        )
        self.delta = nn.Parameter(initial * init_scale)
        log_gain = torch.full((len(self.generators),), input_gain).log()
        if train_gain:
            self.log_gain = nn.Parameter(log_gain)
        else:
            self.register_buffer("log_gain", log_gain)
        self.register_buffer("mask", mask if mask is None else mask.float())

    @property
    def gain(self) -> Tensor:
        """Factor of the placed series, of shape (G,)."""
        return self.log_gain.exp()

    def effective(self) -> Tensor:
        """Return what is added at prediction, of shape (G, input_length)."""
        return self.delta if self.mask is None else self.delta * self.mask

    def added(self) -> Tensor:
        """Return what is added in this step, of shape (G, input_length)."""
        delta = self.effective()
        if not self.training or self.dropout == 0.0:
            return delta
        # Drawn on the CPU, so that the masks are the same on every device.
        keep = torch.stack(
            [
                torch.rand(delta.shape[1], generator=generator) >= self.dropout
                for generator in self.generators
            ]
        )
        kept = to_device(keep, delta.device).to(delta.dtype)
        return delta * kept / (1.0 - self.dropout)

    def forward(self, placed: Tensor) -> Tensor:
        """Return the reprogrammed waveforms.

        Parameters
        ----------
        placed : Tensor of shape (batch, input_length) or (G, batch, input_length)
            Placed series: the same for all groups, or a batch for each.

        Returns
        -------
        Tensor of shape (G, batch, input_length)
            The input of the source.
        """
        return self.gain[:, None, None] * placed + self.added()[:, None, :]

    def groups(self, numbers: Sequence[int]) -> "Perturbation":
        """Return a copy with some of the perturbations.

        Parameters
        ----------
        numbers : sequence of int
            Which.

        Returns
        -------
        Perturbation
            With its own values; it draws from the same generators.
        """
        shared = {id(generator): generator for generator in self.generators}
        some = copy.deepcopy(self, shared)
        some.generators = [self.generators[number] for number in numbers]
        rows = list(numbers)
        some.delta = nn.Parameter(self.delta.detach()[rows].clone())
        log_gain = self.log_gain.detach()[rows].clone()
        if isinstance(self.log_gain, nn.Parameter):
            some.log_gain = nn.Parameter(log_gain)
        else:
            some.log_gain = log_gain
        return some

    def set_groups(self, numbers: Sequence[int], values: "Perturbation") -> None:
        """Take over the values of what `groups` returned.

        Parameters
        ----------
        numbers : sequence of int
            Which.
        values : Perturbation
            Their values, on any device.
        """
        with torch.no_grad():
            self.delta[list(numbers)] = values.delta.to(self.delta)
            self.log_gain[list(numbers)] = values.log_gain.to(self.log_gain)

    def on(self, device: torch.device) -> "Perturbation":
        """Return this module if it is on that device, else a copy there.

        A copy draws from the same generators, so that a training on a device moves
        them on as one on the CPU does.
        """
        if is_on(self.delta, device):
            return self
        shared = {id(generator): generator for generator in self.generators}
        return copy.deepcopy(self, shared).to(device)
