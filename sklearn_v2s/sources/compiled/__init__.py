# SPDX-License-Identifier: Apache-2.0
"""Layers with constant weights, compiled for the CPU at hand where numba is installed.

Each has a twin in torch, in `sklearn_v2s.sources`, which calls it where
`takes_compiled_form` says so.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

__all__ = ["compiled_layers", "takes_compiled_form"]

_asked = threading.local()


@contextmanager
def compiled_layers() -> Iterator[None]:
    """Let layers that this thread passes through run as compiled code.

    For trainings: a single gradient is not worth some seconds of compilation, which a
    machine needs once.

    Examples
    --------
    >>> from sklearn_v2s.sources.compiled import compiled_layers
    >>> with compiled_layers():
    ...     pass
    """
    before = getattr(_asked, "compiled", False)
    _asked.compiled = True
    try:
        yield
    finally:
        _asked.compiled = before


def takes_compiled_form(features: Tensor, *weights: Tensor) -> bool:
    """Return whether a layer is to run as compiled code.

    Parameters
    ----------
    features : Tensor
        What the layer reads.
    *weights : Tensor
        Its weights.

    Returns
    -------
    bool
        True within `compiled_layers` for float32 on a CPU, where the features have a
        gradient and the weights have none, with numba installed. Without a gradient
        torch is about as quick.
    """
    return (
        getattr(_asked, "compiled", False)
        and torch.is_grad_enabled()
        and features.requires_grad
        and all(
            value.dtype == torch.float32 and value.device.type == "cpu"
            for value in (features, *weights)
        )
        and not any(value.requires_grad for value in weights)
        and _numba_is_installed()
    )


@cache
def _numba_is_installed() -> bool:
    return find_spec("numba") is not None
