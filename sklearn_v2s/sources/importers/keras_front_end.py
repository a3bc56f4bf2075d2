# SPDX-License-Identifier: Apache-2.0
"""The front end that a Keras file of AttRNN weights holds."""

from typing import Any, NamedTuple

import numpy as np

from sklearn_v2s.sources.checkpoint import CheckpointError
from sklearn_v2s.sources.front_end import FRONT_ENDS, FrontEndConfig
from sklearn_v2s.sources.importers.keras_file import (
    DescribedLayer,
    KerasFile,
    KerasLayer,
)

__all__ = ["is_mel_layer", "read_front_end"]

_DFT_TOLERANCE = 1e-4
# The front end of the later release is written out, operation by operation.
_OPERATIONS = (
    *("signal.stft", "math.abs", "tensordot", "__operators__.add", "math.log"),
    *("math.reduce_mean", "math.subtract", "math.reduce_std", "math.truediv"),
    "expand_dims",
)


class _FileFrontEnd(NamedTuple):
    """The front end of a file: name of the preset, values it states, mel matrix."""

    preset: str
    values: dict[str, Any]
    mel_matrix: np.ndarray


def _same_padding(length: int, n_fft: int, hop_length: int) -> int:
    """Return the zeros that give a frame for each started hop, as TensorFlow does."""
    n_frames = -(-length // hop_length)
    return max((n_frames - 1) * hop_length + n_fft - length, 0)


def _written_out_front_end(
    operations: list[DescribedLayer], input_length: int
) -> _FileFrontEnd:
    found = tuple(operation.config["function"] for operation in operations)
    if found != _OPERATIONS:
        raise CheckpointError(
            f"its front end computes {found}; known is only {_OPERATIONS}."
        )
    stft, _, tensordot, add, *_ = (operation.arguments for operation in operations)
    n_fft, hop_length = stft["frame_length"], stft["frame_step"]
    window = stft.get("window_fn", "hann_window")
    if stft.get("fft_length") not in (None, n_fft) or window != "hann_window":
        raise CheckpointError(
            f"its spectrogram has frame_length={n_fft!r}, "
            f"fft_length={stft.get('fft_length')!r} and window_fn={window!r}; known is "
            "only fft_length=frame_length with window_fn='hann_window'."
        )
    mel_matrix = np.array(tensordot["b"], dtype=np.float32)
    padding = _same_padding(input_length, n_fft, hop_length)
    values = {
        "n_fft": n_fft,
        "hop_length": hop_length,
        "pad_left": 0,
        "pad_right": padding if stft.get("pad_end") else 0,
        "n_mels": mel_matrix.shape[1],
        "power": 1.0,
        "compression": "log",
        "log_offset": add["y"],
    }
    return _FileFrontEnd("speech-cmd-recognition", values, mel_matrix)


def _check_dft_kernels(layer: KerasLayer, kernels: list[np.ndarray]) -> None:
    n_fft, n_bins = kernels[0].shape[0], kernels[0].shape[-1]
    time = np.arange(n_fft)
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * time / n_fft)
    angle = 2.0 * np.pi * (np.outer(time, np.arange(n_bins)) % n_fft) / n_fft
    for kernel, wave in zip(kernels, (np.cos(angle), np.sin(angle)), strict=True):
        expected = (window[:, None] * wave).reshape(n_fft, 1, 1, n_bins)
        # The sign is a matter of convention and gone in the power spectrum.
        if kernel.shape != expected.shape or not any(
            np.allclose(sign * kernel, expected, atol=_DFT_TOLERANCE)
            for sign in (1.0, -1.0)
        ):
            raise CheckpointError(
                f"the DFT kernels of layer {layer.name!r} are not a Fourier transform "
                "with a periodic Hann window. If they were trained, the file cannot "
                "be imported: the front end here computes the transform itself."
            )


def _kapre_front_end(
    layer: KerasLayer, described: list[DescribedLayer], input_length: int
) -> _FileFrontEnd:
    kernels = [weight for weight in layer.weights.values() if weight.ndim == 4]
    matrices = [weight for weight in layer.weights.values() if weight.ndim == 2]
    if len(kernels) != 2 or len(matrices) != 1:
        shapes = {name: weight.shape for name, weight in layer.weights.items()}
        raise CheckpointError(
            f"layer {layer.name!r} has the weights {shapes}; expected kapre's two DFT "
            "kernels (n_dft, 1, 1, n_bins) and one mel matrix (n_bins, n_mels)."
        )
    _check_dft_kernels(layer, kernels)
    values: dict[str, Any] = {
        "n_fft": kernels[0].shape[0],
        "n_mels": matrices[0].shape[1],
        "power": 2.0,
        "compression": "decibel",
    }
    for config in (
        described_layer.config
        for described_layer in described
        if described_layer.kind == "Melspectrogram"
    ):
        padding = _same_padding(input_length, config["n_dft"], config["n_hop"])
        values |= {
            "sample_rate": config["sr"],
            "hop_length": config["n_hop"],
            "pad_left": padding // 2,
            "pad_right": padding - padding // 2,
            "f_min": config["fmin"],
            "f_max": config["fmax"],
        }
    return _FileFrontEnd("kapre", values, matrices[0])


def is_mel_layer(layer: KerasLayer) -> bool:
    """Tell whether a layer is one of kapre, which keeps DFT kernels as weights."""
    return "kernel" not in layer.weights and any(
        weight.ndim == 4 for weight in layer.weights.values()
    )


def _find(file: KerasFile, input_length: int) -> _FileFrontEnd | None:
    described = file.described or []
    operations = [layer for layer in described if layer.kind == "TFOpLambda"]
    if operations:
        return _written_out_front_end(operations, input_length)
    for layer in file.layers:
        if is_mel_layer(layer):
            return _kapre_front_end(layer, described, input_length)
    return None


def read_front_end(
    file: KerasFile, front_end: FrontEndConfig | None
) -> tuple[FrontEndConfig | None, np.ndarray | None]:
    """Return the front end of a file, checked against what the file holds about it.

    Parameters
    ----------
    file : KerasFile
        Its weights and its description.
    front_end : FrontEndConfig or None
        What the user asks for; None means the preset that the file calls for.

    Returns
    -------
    front_end : FrontEndConfig or None
        None if it is not known.
    mel_matrix : ndarray of shape (n_bins, n_mels) or None
        The matrix of the file, if it has one.

    Raises
    ------
    CheckpointError
        If the file says something else, or computes what no front end here does.
    """
    found = _find(file, (front_end or FrontEndConfig()).input_length)
    if found is None:
        return front_end, None
    config = front_end or FRONT_ENDS[found.preset]
    different = [
        f"{name} is {value!r} in the file and {getattr(config, name)!r} here"
        for name, value in found.values.items()
        if value != getattr(config, name)
    ]
    if different:
        raise CheckpointError(
            f"its front end is another one: {'; '.join(different)}. Give front_end a "
            "FrontEndConfig with the values of the file."
        )
    matrix = found.mel_matrix
    if matrix.shape != (config.n_bins, config.n_mels) or not (
        np.isfinite(matrix).all() and (matrix >= 0.0).all()
    ):
        raise CheckpointError(
            f"its mel matrix has the shape {matrix.shape}, or weights that are "
            f"negative or not finite; expected ({config.n_bins}, {config.n_mels})."
        )
    return config, matrix
