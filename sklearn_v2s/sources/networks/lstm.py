# SPDX-License-Identifier: Apache-2.0
"""Bidirectional LSTM layers with frozen weights, in the form that costs a CPU least.

Where numba is installed, a layer that is only passed through on the way to a gradient
of its inputs runs as compiled code that leaves out the gradients of its weights.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sklearn_v2s.sources.fast.compiled import takes_compiled_form

if TYPE_CHECKING:
    from sklearn_v2s.sources.fast.lstm_kernels import Kernels

__all__ = ["lstm_forward"]


def lstm_forward(features: Tensor, lstm: nn.LSTM) -> Tensor:
    """Return the states of a bidirectional layer at all time steps.

    Parameters
    ----------
    features : Tensor of shape (batch, n_frames, n_features)
        What the layer reads.
    lstm : nn.LSTM
        One bidirectional layer with the batch first.

    Returns
    -------
    Tensor of shape (batch, n_frames, 2 * hidden_size)
        Equal to ``lstm(features)[0]`` up to rounding.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.lstm import lstm_forward
    >>> lstm = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    >>> lstm_forward(torch.zeros(2, 5, 3), lstm).shape
    torch.Size([2, 5, 8])
    """
    if takes_compiled_form(features, *lstm.parameters()):
        return _CompiledLSTM.apply(features, *_merged_weights(lstm))
    return lstm(features)[0]


def _merged_weights(lstm: nn.LSTM) -> tuple[Tensor, Tensor]:
    """Return weights (2, 4 H, F + H) and biases (2, 4 H) of both directions."""
    weights, biases = [], []
    for suffix in ("", "_reverse"):
        parts = [
            getattr(lstm, f"{kind}_{of}_l0{suffix}")
            for kind in ("weight", "bias")
            for of in ("ih", "hh")
        ]
        weights.append(torch.cat(parts[:2], dim=1))
        biases.append(parts[2] + parts[3])
    return torch.stack(weights), torch.stack(biases)


class _CompiledLSTM(torch.autograd.Function):
    """Weights are constants; only the features have a gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
        from sklearn_v2s.sources.fast.lstm_kernels import ROWS, padded_size

        batch, n_frames, n_features = features.shape
        hidden_size = biases.shape[1] // 4
        kernels = _kernels(n_features, hidden_size)
        # tanh(x / 2) gives the sigmoid of x; the third gate has a tanh of x.
        halves = torch.full((4, hidden_size), 0.5)
        halves[2] = 1
        scale = halves.flatten()
        inner = n_features + hidden_size
        scaled = torch.zeros(2, padded_size(inner), 4 * hidden_size)
        scaled[:, :inner] = (weights * scale[:, None]).transpose(1, 2)
        bias = (biases * scale).numpy()
        flat = scaled.flatten(1).numpy()
        inputs = features.detach().contiguous().numpy()
        states = torch.empty(batch, n_frames, 2, hidden_size)
        into = states.numpy()
        rows = min(ROWS, padded_size(batch))
        n_parts = -(-batch // rows)
        gates = torch.empty(2, n_parts, n_frames, rows, 4 * hidden_size)
        cells = torch.empty(2, n_parts, n_frames, rows, hidden_size)
        gates_, cells_ = gates.numpy(), cells.numpy()

        for way, number in np.ndindex(2, n_parts):
            kernels.forward(
                inputs,
                flat[way],
                bias[way],
                gates_[way, number],
                cells_[way, number],
                into,
                number * rows,
                way,
            )
        ctx.save_for_backward(weights, gates, cells)
        return states.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, gates, cells = ctx.saved_tensors
        batch, n_frames, _ = gradient.shape
        rows, hidden_size = cells.shape[3:]
        n_features = weights.shape[2] - hidden_size
        kernels = _kernels(n_features, hidden_size)
        above = gradient.contiguous().view(batch, n_frames, 2, hidden_size).numpy()
        flat, gates, cells = weights.flatten(1).numpy(), gates.numpy(), cells.numpy()
        found = torch.empty(2, batch, n_frames, n_features)
        into = found.numpy()

        for way, number in np.ndindex(gates.shape[:2]):
            part = gates[way, number], cells[way, number]
            kernels.backward(above, flat[way], *part, into, number * rows, way)
        return found[0].add_(found[1]), None, None


def _kernels(n_features: int, hidden_size: int) -> "Kernels":
    from sklearn_v2s.sources.fast.lstm_kernels import compile_kernels

    return compile_kernels(n_features, hidden_size)
