# SPDX-License-Identifier: Apache-2.0
"""Forward and backward passes on a CPU, split by rows over threads.

If the threads of a CPU share each operation, they wait for each other after every one,
and a time step of a recurrent layer is too small to share. The rows of a batch are
independent of each other in a frozen source, so each thread takes some of them through
the whole forward and backward pass.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["one_thread", "pass_in_parts", "row_threads", "single_threads"]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Rows of a part. A constant, so that sums are formed in the same order for any number
# of threads and of perturbations.
_ROWS = 16
# The threads that `row_threads` started for a thread.
_started = threading.local()


@contextmanager
def row_threads() -> Iterator[None]:
    """Start as many threads as torch may use, for all passes inside the context.

    Outside of it the parts of a pass are computed one after another.

    Examples
    --------
    >>> from sklearn_v2s.runtime.row_parts import row_threads
    >>> with row_threads():
    ...     pass
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        yield
        return
    before = getattr(_started, "threads", None)
    with single_threads(n_threads) as _started.threads:
        try:
            yield
        finally:
            _started.threads = before


@contextmanager
def one_thread() -> Iterator[None]:
    """Restrict torch to one thread while `row_threads` is active.

    What is left to torch is small, and its idle threads spin for a while, which takes
    the cores away from the threads that work.
    """
    if getattr(_started, "threads", None) is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pass_in_parts(
    function: Callable[..., Sequence[Tensor]],
    rows: Sequence[Tensor | None],
    learned: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Return ``function(*rows, *learned)``, computed for some of the rows at a time.

    Parameters
    ----------
    function : callable
        Returns tensors with one row for each row of the input, which depends on no
        other row. Nothing that it reads may require a gradient but `learned`.
    rows : sequence of Tensor of shape (batch, ...) or None
        Inputs that are split by rows, without gradients.
    learned : sequence of Tensor
        Inputs that all rows share, with gradients or without.

    Returns
    -------
    tuple of Tensor
        The outputs, equal to those of one pass up to rounding. They can be
        differentiated once.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.runtime.row_parts import pass_in_parts
    >>> factor = torch.tensor(2.0, requires_grad=True)
    >>> rows = torch.arange(40.0)
    >>> (products,) = pass_in_parts(lambda x, a: (a * x,), [rows], [factor])
    >>> products.sum().backward()
    >>> products[3], factor.grad
    (tensor(6., grad_fn=<SelectBackward0>), tensor(780.))
    """
    return _Parts.apply(function, rows, *learned)


class _Parts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[..., Sequence[Tensor]],
        rows: Sequence[Tensor | None],
        *learned: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.wanted = [value.requires_grad for value in learned]

        def run(part: Sequence[Tensor | None]) -> tuple[list[Tensor], Sequence[Tensor]]:
            own = [
                value.detach().requires_grad_(wanted)
                for value, wanted in zip(learned, ctx.wanted, strict=True)
            ]
            with torch.enable_grad():
                return own, function(*part, *own)

        n_parts = -(-len(next(of for of in rows if of is not None)) // _ROWS)
        parts = zip(
            *([None] * n_parts if of is None else of.split(_ROWS) for of in rows),
            strict=True,
        )
        ctx.parts = _each(run, parts)
        outputs = zip(*(outputs for _, outputs in ctx.parts), strict=True)
        return tuple(torch.cat(of_parts).detach() for of_parts in outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        known = [index for index, given in enumerate(gradients) if given is not None]
        above = zip(
            *(of.split(_ROWS) for of in gradients if of is not None), strict=True
        )

        def run(task: tuple[Any, Sequence[Tensor]]) -> Sequence[Tensor]:
            (own, outputs), of_outputs = task
            return torch.autograd.grad(
                [outputs[index] for index in known],
                [value for value in own if value.requires_grad],
                of_outputs,
                materialize_grads=True,
                # The caller may have asked for the whole graph to be kept.
                retain_graph=True,
            )

        found = _each(run, zip(ctx.parts, above, strict=True))
        sums = (torch.stack(of_parts).sum(0) for of_parts in zip(*found, strict=True))
        learned = (next(sums) if wanted else None for wanted in ctx.wanted)
        return None, None, *learned


def _each(call: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> list[_Result]:
    """Return what each task gives, in their order."""
    threads = getattr(_started, "threads", None)
    return list(map(call, tasks) if threads is None else threads.map(call, tasks))


@contextmanager
def single_threads(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """Start threads in each of which torch computes on one thread.

    Parameters
    ----------
    n_threads : int
        How many.

    Yields
    ------
    ThreadPoolExecutor
        Closed at the end, when all its work is done.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.runtime.row_parts import single_threads
    >>> with single_threads(2) as threads:
    ...     threads.submit(torch.get_num_threads).result()
    1
    """
    before = torch.get_num_threads()
    threads = ThreadPoolExecutor(n_threads, initializer=_use_one_thread)
    try:
        with threads:
            yield threads
    finally:
        # What a thread sets is also what threads that begin later start with.
        torch.set_num_threads(before)


def _use_one_thread() -> None:
    # Asked first: torch gives a thread its number at the first question or operation,
    # and would not heed what was set before.
    torch.get_num_threads()
    torch.set_num_threads(1)
