# SPDX-License-Identifier: Apache-2.0
"""The two convolutions of AttRNN in the form that costs a CPU least.

Ten maps of a clip are ten times its features. Convolution libraries write them to
memory and read them back between any two steps, which takes most of the time. Here the
steps are done for a few clips after another, whose maps stay in the cache, and the
backward pass computes the maps again instead of keeping them.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sklearn_v2s.sources.fast.compiled import takes_compiled_form

if TYPE_CHECKING:
    from sklearn_v2s.sources.fast.convolutions_kernels import Kernels

__all__ = ["convolve_frozen", "frozen_on_cpu"]

# Clips whose maps fit into a cache of about a MiB: 4 x 10 x 125 x 80 x 4 bytes.
_CHUNK = 4


def frozen_on_cpu(*layers: nn.Module) -> bool:
    """Return whether `convolve_frozen` may stand in for these layers.

    Parameters
    ----------
    *layers : nn.Module
        Convolutions and batch normalisations.

    Returns
    -------
    bool
        True if nothing in them is trained or follows the data, on a CPU.
    """
    return not any(layer.training for layer in layers) and not any(
        parameter.requires_grad or parameter.device.type != "cpu"
        for layer in layers
        for parameter in layer.parameters()
    )


def convolve_frozen(
    features: Tensor,
    conv1: nn.Conv2d,
    norm1: nn.BatchNorm2d,
    conv2: nn.Conv2d,
    norm2: nn.BatchNorm2d,
) -> Tensor:
    """Return ``norm2(relu(conv2(norm1(relu(conv1(features))))))``.

    Parameters
    ----------
    features : Tensor of shape (batch, n_frames, n_mels)
        Log-mel features.
    conv1, conv2 : nn.Conv2d
        From 1 to n and from n to 1 maps, with kernels of the same odd length along
        time and of width 1, padded to keep the length.
    norm1, norm2 : nn.BatchNorm2d
        In evaluation mode.

    Returns
    -------
    Tensor of shape (batch, n_frames, n_mels)
        What enters the recurrent layers; equal to the plain layers up to rounding.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.attrnn import AttRNN
    >>> from sklearn_v2s.sources.networks.time_convolutions import convolve_frozen
    >>> network = AttRNN(n_classes=3).requires_grad_(False).eval()
    >>> layers = network.conv1, network.norm1, network.conv2, network.norm2
    >>> convolve_frozen(torch.zeros(2, 125, 80), *layers).shape
    torch.Size([2, 125, 80])
    """
    assert conv1.bias is not None
    scale1, shift1 = _affine(norm1)
    scale2, shift2 = _affine(norm2)
    kernel2 = conv2.weight[0, :, :, 0]
    # What the shift of the first normalisation becomes: less at both ends, for the
    # padding of the second convolution is not shifted.
    constant = shift1[None, :, None].expand(1, -1, features.shape[1])
    offset = functional.conv1d(
        constant, kernel2[None], conv2.bias, padding=kernel2.shape[1] // 2
    )
    constants = (
        conv1.weight.flatten(1),
        conv1.bias,
        kernel2 * scale1[:, None],
        offset.flatten(),
        scale2,
        shift2,
    )
    compiled = takes_compiled_form(features, *constants)
    return _TimeConvolutions.apply(compiled, features, *constants)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return factor and summand of a batch normalisation in evaluation mode."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - scale * norm.running_mean


class _TimeConvolutions(torch.autograd.Function):
    """Weights are constants; only the features have a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        compiled: bool,
        features: Tensor,
        kernel1: Tensor,
        bias1: Tensor,
        kernel2: Tensor,
        offset: Tensor,
        scale: Tensor,
        shift: Tensor,
    ) -> Tensor:
        features = features.contiguous()
        summed = torch.empty_like(features)
        read = features, kernel1, bias1, kernel2, offset
        if compiled:
            arrays = [value.contiguous().numpy() for value in read]
            _kernels(features, kernel1).forward(*arrays, summed.numpy())
        else:
            _forward(*read, summed)
        ctx.compiled = compiled
        ctx.save_for_backward(features, summed, kernel1, bias1, kernel2, scale)
        return torch.addcmul(shift, summed, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, summed, kernel1, bias1, kernel2, scale = ctx.saved_tensors
        found = torch.empty_like(features)
        read = gradient * scale, features, summed, kernel1, bias1, kernel2
        if ctx.compiled:
            arrays = [value.contiguous().numpy() for value in read]
            _kernels(features, kernel1).backward(*arrays, found.numpy())
        else:
            _backward(*read, found)
        return None, found, *[None] * 6


def _forward(
    features: Tensor,
    kernel1: Tensor,
    bias1: Tensor,
    kernel2: Tensor,
    offset: Tensor,
    summed: Tensor,
) -> None:
    for rows, chunk in zip(summed.split(_CHUNK), features.split(_CHUNK), strict=True):
        maps = _maps(chunk, kernel1, bias1)
        both = _sum_shifted(kernel2.T @ maps, chunk.shape[1:])
        torch.add(both, offset[:, None], out=rows)
    summed.relu_()


def _backward(
    gradient: Tensor,
    features: Tensor,
    summed: Tensor,
    kernel1: Tensor,
    bias1: Tensor,
    kernel2: Tensor,
    found: Tensor,
) -> None:
    # Correlation and convolution are each other's transpose.
    flipped1, flipped2 = kernel1.flip(1), kernel2.flip(1)
    # The slope of a rectifier is the sign of what it returns: products with booleans
    # take a CPU several times as long.
    gradient = gradient * summed.sign()
    for rows, chunk, above in zip(
        found.split(_CHUNK), features.split(_CHUNK), gradient.split(_CHUNK), strict=True
    ):
        slopes = flipped2 @ _shifted(above, kernel2.shape[1])
        slopes *= _maps(chunk, kernel1, bias1).sign_()
        rows.copy_(_sum_shifted(flipped1.T @ slopes, chunk.shape[1:]))


def _kernels(features: Tensor, kernel: Tensor) -> "Kernels":
    from sklearn_v2s.sources.fast.convolutions_kernels import compile_kernels

    return compile_kernels(features.shape[2], *kernel.shape)


def _shifted(chunk: Tensor, n_taps: int) -> Tensor:
    """Return what each tap of a kernel sees, of shape (batch, n_taps, T * F)."""
    reach = n_taps // 2
    padded = functional.pad(chunk, (0, 0, reach, reach))
    length = chunk.shape[1]
    return torch.stack(
        [padded[:, tap : tap + length].flatten(1) for tap in range(n_taps)], dim=1
    )


def _maps(chunk: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Return relu(conv1(chunk)), of shape (batch, n_maps, T * F)."""
    weights = kernel.expand(len(chunk), -1, -1)
    seen = _shifted(chunk, kernel.shape[1])
    return torch.baddbmm(bias[None, :, None], weights, seen).relu_()


def _sum_shifted(taps: Tensor, shape: torch.Size) -> Tensor:
    """Add up (batch, n_taps, T * F), each tap moved to where its kernel reads."""
    taps = taps.unflatten(2, shape)
    n_taps, length = taps.shape[1:3]
    reach = n_taps // 2
    total = taps[:, reach].clone()
    for tap in range(n_taps):
        move = tap - reach
        if 0 < abs(move) < length:
            to = slice(max(0, -move), length - max(0, move))
            of = slice(max(0, move), length - max(0, -move))
            total[:, to] += taps[:, tap, of]
    return total
