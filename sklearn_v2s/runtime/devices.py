# SPDX-License-Identifier: Apache-2.0
"""Choice of the device to compute on."""

import multiprocessing

import torch
from torch import Tensor

from sklearn_v2s.runtime.user_warnings import warn_user

__all__ = ["is_on", "resolve_device", "to_device", "warn_of_sharing"]


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that a ``device`` parameter means.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes the first of CUDA, XPU, MPS and CPU that is there.

    Returns
    -------
    torch.device
        Usable on this machine.

    Raises
    ------
    ValueError
        If the device is unknown or not there; names what is.

    Examples
    --------
    >>> from sklearn_v2s.runtime.devices import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "xpu": torch.xpu.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    available = [name for name, found in present.items() if found]
    if device == "auto":
        return torch.device(available[0])
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is no device of torch; allowed here: "
            f"{['auto', *available]}."
        ) from error
    if resolved.type not in available:
        raise ValueError(
            f"device={str(device)!r} is not available on this machine; allowed here: "
            f"{['auto', *available]}."
        )
    count = getattr(torch, resolved.type).device_count()
    if resolved.index is not None and resolved.index >= count:
        raise ValueError(
            f"device={str(device)!r} is not available on this machine, which has "
            f"{count} of that kind; allowed here: {['auto', *available]}, with an "
            f"index of {resolved.type} below {count}."
        )
    return resolved


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device, without blocking on CUDA.

    CUDA copies asynchronously from pinned memory only.

    Parameters
    ----------
    values : Tensor
        On the CPU.
    device : torch.device
        Where to copy it.

    Returns
    -------
    Tensor
        On the device.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.runtime.devices import to_device
    >>> to_device(torch.arange(3), torch.device("cpu"))
    tensor([0, 1, 2])
    """
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def warn_of_sharing(device: torch.device) -> None:
    """Warn where several processes are about to take turns on one accelerator.

    Parameters
    ----------
    device : torch.device
        What this process computes on.

    Warns
    -----
    UserWarning
        If this is a worker process, as of ``n_jobs=2``, and its accelerator is the only
        one. Python shows it once in each process.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.runtime.devices import warn_of_sharing
    >>> warn_of_sharing(torch.device("cpu"))
    """
    if device.type == "cpu" or multiprocessing.parent_process() is None:
        return
    if getattr(torch, device.type).device_count() == 1:
        warn_user(
            f"several processes (n_jobs) share one {device.type} device: they wait for "
            "each other, and each holds its own memory there. Use n_jobs=1, "
            "V2SClassifierCV, which computes source outputs once, or device='cpu'.",
        )


def is_on(tensor: Tensor, device: torch.device) -> bool:
    """Return whether a tensor lies on a device, which may lack an index.

    Parameters
    ----------
    tensor : Tensor
        Any.
    device : torch.device
        Such as ``torch.device("cuda")``, which any index of CUDA satisfies.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.runtime.devices import is_on
    >>> is_on(torch.zeros(1), torch.device("cpu"))
    True
    """
    found = tensor.device
    return found.type == device.type and device.index in (None, found.index)
