# SPDX-License-Identifier: Apache-2.0
"""Where layers with constant weights run as code that numba compiles for the CPU."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

__all__ = ["compiled_layers", "takes_compiled_form"]

_context = threading.local()


@contextmanager
def compiled_layers() -> Iterator[None]:
    """Run layers in this thread as compiled code, where they have such a form.

    For trainings: a single gradient is not worth the seconds of compilation that a
    machine needs once.

    Examples
    --------
    >>> from sklearn_v2s.sources.fast.compiled import compiled_layers
    >>> with compiled_layers():
    ...     pass
    """
    before = getattr(_context, "compiled", False)
    _context.compiled = True
    try:
        yield
    finally:
        _context.compiled = before


def takes_compiled_form(features: Tensor, *weights: Tensor) -> bool:
    """Return whether a layer is to run as compiled code.

    Parameters
    ----------
    features : Tensor
        Input of the layer.
    *weights : Tensor
        Its weights.

    Returns
    -------
    bool
        True within `compiled_layers` for float32 on a CPU, where the features have a
        gradient and the weights have none, with numba installed. Without a gradient
        torch is about as fast.
    """
    return (
        getattr(_context, "compiled", False)
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
