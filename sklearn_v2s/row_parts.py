# SPDX-License-Identifier: Apache-2.0
"""A pass of gradients through a frozen source on a CPU, by some rows on each thread.

Operation by operation, the threads of a CPU wait for each other after each of them, and
a time step of a recurrent layer has little for any of them. Rows of a batch have
nothing to do with each other in a frozen source, so each thread takes some of them all
the way, there and back.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sklearn_v2s.threads import single_threads

__all__ = ["one_thread", "pass_in_parts", "row_threads"]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Rows of a part. Always the same, so that sums are formed in the same order for any
# number of threads and of perturbations that are heard at once.
_ROWS = 16
# The threads that `row_threads` started for a thread.
_started = threading.local()


@contextmanager
def row_threads() -> Iterator[None]:
    """Have threads ready, as many as torch may use, for all passes within.

    Without them the parts of a pass come one after another.

    Examples
    --------
    >>> from sklearn_v2s.row_parts import row_threads
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
    """Let torch compute on one thread, if `row_threads` has some that do the work.

    What is left is small, and threads of torch that have done their share of an
    operation keep a core busy for a while with waiting for the next one.
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
    source: Callable[..., Sequence[Tensor]],
    rows: Sequence[Tensor | None],
    learned: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Return ``source(*rows, *learned)``, computed for some of the rows at a time.

    Parameters
    ----------
    source : callable
        Whose outputs have a row for each of `rows`, which depends on no other row.
        Nothing that it reads has a gradient but `learned`.
    rows : sequence of Tensor of shape (batch, ...) or None
        What differs between the rows, without gradients.
    learned : sequence of Tensor
        What all rows share, with gradients or without.

    Returns
    -------
    tuple of Tensor
        The outputs, equal to those of one pass up to rounding. Their gradients have no
        gradients.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.row_parts import pass_in_parts
    >>> factor = torch.tensor(2.0, requires_grad=True)
    >>> rows = torch.arange(40.0)
    >>> (products,) = pass_in_parts(lambda x, a: (a * x,), [rows], [factor])
    >>> products.sum().backward()
    >>> products[3], factor.grad
    (tensor(6., grad_fn=<SelectBackward0>), tensor(780.))
    """
    return _Parts.apply(source, rows, *learned)


class _Parts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        source: Callable[..., Sequence[Tensor]],
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
                return own, source(*part, *own)

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
                # For whoever asked for the graph of all to be kept.
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
