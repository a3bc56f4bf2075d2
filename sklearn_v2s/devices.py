# SPDX-License-Identifier: Apache-2.0
"""Choice of the device to compute on."""

import torch

__all__ = ["resolve_device"]


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
    >>> from sklearn_v2s.devices import resolve_device
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
