# SPDX-License-Identifier: Apache-2.0
"""A device that is not the CPU, on machines that have none.

Its tensors call themselves of the device ``meta``, so that code takes the branches of
an accelerator, but each holds its values on the CPU, where torch computes with them. As
an accelerator does, it refuses operations on its own tensors together with those of
the host, and it counts where the host would wait for it.
"""

import contextlib
import itertools
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._C import _disabled_torch_function_impl, _DisableTorchDispatch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from sklearn_v2s import devices

__all__ = ["NAME", "PretendDevice", "pretend_device"]

NAME = "meta"
_DEVICE = torch.device(NAME)
_aten = torch.ops.aten
# What answers the host by the values of a tensor, so that it must wait for them.
_ANSWERS = {
    _aten._local_scalar_dense.default,
    _aten.equal.default,
    _aten.nonzero.default,
    _aten.masked_select.default,
}
_COPIES = {_aten._to_copy.default, _aten.copy_.default}


class _There(Tensor):
    """A tensor of the pretended device; `inner` has its values."""

    inner: Tensor
    __torch_function__ = _disabled_torch_function_impl

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied: Tensor = self.detach().clone()
            if isinstance(self, nn.Parameter):
                copied = nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        return memo[id(self)]


def _shell(inner: Tensor) -> Tensor:
    """Return what the code is to see of values on the pretended device."""
    with _DisableTorchDispatch(), torch.inference_mode(False):
        empty = torch.empty_strided(
            inner.shape, inner.stride(), dtype=inner.dtype, device=NAME
        )
        found = Tensor._make_subclass(_There, empty)
    found.inner = inner
    return found


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, _There) else value


class _Computes(TorchDispatchMode):
    """Run each operation of torch where its tensors are."""

    def __init__(self, device: "PretendDevice") -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given, spec = tree_flatten((args, kwargs or {}))
        tensors = [value for value in given if isinstance(value, Tensor)]
        there = [value for value in tensors if isinstance(value, _There)]
        # As torch has them on every device: a number may come from the host.
        here = [v for v in tensors if not isinstance(v, _There) and v.dim() > 0]
        made_there = self._made_there(func, args, kwargs or {})
        if func in _COPIES:
            self._count_copy(func, args, made_there)
        elif there and here:
            raise RuntimeError(f"{func}: tensors on different devices, {NAME} and cpu")
        if there and (func in _ANSWERS or self._counts_rows(func, args)):
            self.device.wait()
        if not there and not made_there:
            return func(*args, **(kwargs or {}))
        if there and func._can_decompose():
            with self:
                found = func.decompose(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        plain_args, plain_kwargs = tree_unflatten(
            [torch.device("cpu") if v == _DEVICE else _inner(v) for v in given]
            if made_there is not None
            else [_inner(v) for v in given],
            spec,
        )
        result = func(*plain_args, **plain_kwargs)
        if func._schema.is_mutable:
            return self._changed(func, args, kwargs or {}, result)
        if made_there is False:
            return result
        found, _ = tree_flatten(result)
        if not self.device.has_float64 and any(
            value.dtype == torch.float64 for value in found if isinstance(value, Tensor)
        ):
            raise TypeError(f"{func}: {NAME} has no float64")
        return tree_map(
            lambda value: _shell(value) if isinstance(value, Tensor) else value, result
        )

    @staticmethod
    def _counts_rows(func: Any, args: Any) -> bool:
        """Return whether a mask decides the shape of what an operation returns."""
        return func is _aten.index.Tensor and any(
            index is not None and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
        )

    @staticmethod
    def _made_there(func: Any, args: Any, kwargs: Any) -> bool | None:
        """Return whether the result is asked for there; None where nothing is said."""
        for place, argument in enumerate(func._schema.arguments):
            if argument.name == "device":
                value = kwargs.get("device")
                if not argument.kwarg_only and place < len(args):
                    value = args[place]
                return None if value is None else torch.device(value) == _DEVICE
        return None

    def _count_copy(self, func: Any, args: Any, made_there: bool | None) -> None:
        """Count a wait where a copy crosses between host and device."""
        if func is _aten.copy_.default:
            from_there, to_there = (isinstance(args[k], _There) for k in (1, 0))
        else:
            from_there = isinstance(args[0], _There)
            to_there = from_there if made_there is None else made_there
        if from_there != to_there and not self.device.sending:
            self.device.wait()

    @staticmethod
    def _changed(func: Any, args: Any, kwargs: Any, result: Any) -> Any:
        """Return what an operation has changed, as it was given, and what is new."""
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        changed = iter(
            given[argument.name]
            for argument in func._schema.arguments
            if argument.alias_info is not None
            and argument.alias_info.is_write
            and given.get(argument.name) is not None
        )
        results = result if isinstance(result, tuple) else (result,)
        found = tuple(
            next(changed)
            if returned.alias_info is not None
            else _shell(value)
            if isinstance(value, Tensor)
            else value
            for value, returned in zip(results, func._schema.returns, strict=True)
        )
        for value in (*changed, *found):
            if isinstance(value, _There) and value.stride() != value.inner.stride():
                # What the code sees of the tensor has to change its shape as well.
                with _DisableTorchDispatch():
                    func(*args, **kwargs)
        return found if isinstance(result, tuple) else found[0]


class _Calls(TorchFunctionMode):
    """See to the calls that do not reach `_Computes` as operations."""

    def __init__(self, device: "PretendDevice") -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.tolist and isinstance(args[0], _There):
            self.device.wait()
            return args[0].inner.tolist()
        out = None if kwargs is None else kwargs.get("out")
        if func is torch.matmul and isinstance(out, _There):
            # It writes to the memory of `out` by other ways than its operations.
            return out.copy_(func(*args))
        return func(*args, **(kwargs or {}))


def _keeping_identity(apply: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Let parameters stay the same objects when their module moves.

    So they do on an accelerator, and an optimiser that refers to them goes on.
    """

    def moving(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return apply(module, *args, **kwargs)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    return moving


class PretendDevice:
    """What the pretended device has seen.

    Parameters
    ----------
    has_float64 : bool
        MPS has none.

    Attributes
    ----------
    waits : Counter
        How often the host would have waited, by the place in the library.
    sending : bool
        Whether `sklearn_v2s.runtime.devices.send` is copying, from pinned memory.
    """

    def __init__(self, has_float64: bool) -> None:
        self.has_float64 = has_float64
        self.waits: Counter[str] = Counter()
        self.sending = False

    def wait(self) -> None:
        """Count a wait."""
        ours = [
            f"{frame.filename.rpartition('sklearn_v2s/')[2]}:{frame.name}"
            for frame in traceback.extract_stack()
            if "sklearn_v2s/" in frame.filename
        ]
        self.waits[ours[-1] if ours else "elsewhere"] += 1

    def send(self, values: Tensor, device: torch.device) -> Tensor:
        """Copy as `sklearn_v2s.runtime.devices.send` does, without waiting."""
        self.sending = True
        try:
            return values.to(device)
        finally:
            self.sending = False


@contextlib.contextmanager
def pretend_device(has_float64: bool = True) -> Iterator[PretendDevice]:
    """Let ``device="meta"`` be a device to compute on.

    Parameters
    ----------
    has_float64 : bool, default=True
        Whether it computes in double precision.

    Yields
    ------
    PretendDevice
        What it sees.
    """
    device = PretendDevice(has_float64)
    resolve = devices.resolve_device

    def resolve_device(asked: str | torch.device) -> torch.device:
        return _DEVICE if str(asked) == NAME else resolve(asked)

    pretended = {resolve: resolve_device, devices.send: device.send}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "_apply", _keeping_identity(nn.Module._apply))
        of_kind = SimpleNamespace(device_count=lambda: 1, synchronize=lambda: None)
        patch.setattr(torch, NAME, of_kind, raising=False)
        ours = [m for name, m in sys.modules.items() if name.startswith("sklearn_v2s.")]
        for module, (plain, other) in itertools.product(ours, pretended.items()):
            if getattr(module, plain.__name__, None) is plain:
                patch.setattr(module, plain.__name__, other)
        with _Computes(device), _Calls(device):
            yield device
