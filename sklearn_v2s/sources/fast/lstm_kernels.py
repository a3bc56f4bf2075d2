# SPDX-License-Identifier: Apache-2.0
"""A bidirectional LSTM with constant weights, compiled for the CPU at hand by numba.

Deep-learning libraries also compute the gradients of the weights, which takes a third
of the work, and keep what the backward pass needs in memory that they read and write
several times. Here a few rows at a time walk through all time steps, in buffers that
stay in the cache, and only the inputs have a gradient.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sklearn_v2s.sources.fast.jit import inline, jit

__all__ = ["ROWS", "Kernels", "compile_kernels", "padded_size"]

# Rows that go through the time steps together: their gates, 16 x 256 x 4 bytes, stay
# in the innermost cache.
ROWS = 16
# The product of matrices takes so many rows and columns at once: sixteen products for
# eight loads.
_TILE = 4
_Array = npt.NDArray[np.float32]

_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)
# Lambert's continued fraction of tanh, x / (1 + x^2 / (3 + x^2 / (5 + ...))), ended at
# 25: both polynomials in x^2, divided by their constant.
_SCALE = 7905853580625
_P1, _P2, _P3, _P4, _P5, _P6 = (
    np.float32(factor / _SCALE)
    for factor in (1159525191825, 41247931725, 523783260, 2552550, 4095, 1)
)
_Q1, _Q2, _Q3, _Q4, _Q5, _Q6 = (
    np.float32(factor / _SCALE)
    for factor in (3794809718700, 252070693875, 5237832600, 41351310, 120120, 91)
)
# tanh(x) is 1 from here on, in float32.
_SATURATED = np.float32(9)


class Kernels(NamedTuple):
    """Both passes, for one size of a layer.

    Attributes
    ----------
    forward : callable
        Takes inputs (batch, T, F), flat weights of inputs, states and padding,
        (`padded_size` of F + H, 4 H), those of sigmoid gates halved, their bias (4 H),
        room for the tanh of gates (T, rows, 4 H), for cells (T, rows, H) and for states
        (batch, T, 2, H), the first row of the batch and the direction, 1 for backward
        in time.
    backward : callable
        Takes the gradient (batch, T, 2, H) of the states, flat weights as torch has
        them, (4 H, F + H), gates and cells, room for the gradient of the inputs,
        (2, batch, T, F), and the same last two.
    """

    forward: Callable[..., None]
    backward: Callable[..., None]


def padded_size(size: int) -> int:
    """Return the next size that the product of matrices can take.

    Parameters
    ----------
    size : int
        Number of rows, or of what is summed over.

    Returns
    -------
    int
        The next multiple of 4.
    """
    return -(-size // _TILE) * _TILE


@inline
def _tanh(x: Any) -> Any:
    x = min(max(x, -_SATURATED), _SATURATED)
    y = x * x
    above = ((((((_P6 * y + _P5) * y + _P4) * y) + _P3) * y + _P2) * y + _P1) * y
    below = ((((((_Q6 * y + _Q5) * y + _Q4) * y) + _Q3) * y + _Q2) * y + _Q1) * y
    return x * (above + _ONE) / (below + _ONE)


@inline
def _add_product(
    left: Any, right: Any, total: Any, n_inner: int, stride: int, n_outer: int
) -> None:
    """Add ``left @ right`` to `total`, all of them flat.

    Rows of `left` are `stride` values apart. Constant sizes let the compiler see
    that rows do not overlap, without which it would not vectorise.
    """
    for row in range(0, len(left) // stride, 4):
        first = left[row * stride : (row + 1) * stride]
        second = left[(row + 1) * stride : (row + 2) * stride]
        third = left[(row + 2) * stride : (row + 3) * stride]
        fourth = left[(row + 3) * stride : (row + 4) * stride]
        into = total[row * n_outer : (row + 4) * n_outer]
        for k in range(0, n_inner, 4):
            a0, a1, a2, a3 = first[k : k + 4]
            b0, b1, b2, b3 = second[k : k + 4]
            c0, c1, c2, c3 = third[k : k + 4]
            d0, d1, d2, d3 = fourth[k : k + 4]
            of = right[k * n_outer : (k + 4) * n_outer]
            for j in range(n_outer):
                r0, r1 = of[j], of[j + n_outer]
                r2, r3 = of[j + 2 * n_outer], of[j + 3 * n_outer]
                into[j] += a0 * r0 + a1 * r1 + a2 * r2 + a3 * r3
                into[j + n_outer] += b0 * r0 + b1 * r1 + b2 * r2 + b3 * r3
                into[j + 2 * n_outer] += c0 * r0 + c1 * r1 + c2 * r2 + c3 * r3
                into[j + 3 * n_outer] += d0 * r0 + d1 * r1 + d2 * r2 + d3 * r3


@inline
def _step_cells(
    gate: Any, own: Any, hidden_size: int, at_state: int, at_cell: int
) -> None:
    """Set cells and states of a row from the tanh of its gates."""
    for j in range(hidden_size):
        # A sigmoid is a tanh of half the argument.
        enter = _HALF + _HALF * gate[j]
        forget = _HALF + _HALF * gate[j + hidden_size]
        leave = _HALF + _HALF * gate[j + 3 * hidden_size]
        cell = forget * own[j + at_cell] + enter * gate[j + 2 * hidden_size]
        own[j + at_cell] = cell
        own[j + at_state] = leave * _tanh(cell)


@inline
def _step_slopes(
    gate: Any,
    cell: Any,
    earlier: Any,
    above: Any,
    after: Any,
    own: Any,
    hidden_size: int,
    at_cell: int,
) -> None:
    """Set the gradients of gates and cells of a row."""
    for j in range(hidden_size):
        enter = _HALF + _HALF * gate[j]
        forget = _HALF + _HALF * gate[j + hidden_size]
        new = gate[j + 2 * hidden_size]
        leave = _HALF + _HALF * gate[j + 3 * hidden_size]
        squashed = _tanh(cell[j])
        slope = (above[j] + after[j]) * leave
        of_cell = own[j + at_cell] + slope * (_ONE - squashed * squashed)
        own[j] = of_cell * new * enter * (_ONE - enter)
        own[j + hidden_size] = of_cell * earlier[j] * forget * (_ONE - forget)
        own[j + 2 * hidden_size] = of_cell * enter * (_ONE - new * new)
        own[j + 3 * hidden_size] = slope * squashed * (_ONE - leave)
        own[j + at_cell] = of_cell * forget


@lru_cache
def compile_kernels(n_features: int, hidden_size: int) -> Kernels:
    """Compile both passes; what was compiled once on a machine is read from a file.

    Parameters
    ----------
    n_features : int
        F, what the layer reads at each time step.
    hidden_size : int
        H, the units of each direction.

    Returns
    -------
    Kernels
        For arrays of float32.
    """
    n_gates = 4 * hidden_size
    n_inner = padded_size(n_features + hidden_size)
    n_outer = n_features + hidden_size
    # Rows of what is worked on: inputs, states and padding, then cells; gradients of
    # gates, then of cells. At constant places of one array, they cannot overlap.
    forward_width = n_inner + hidden_size
    backward_width = n_gates + hidden_size

    @jit
    def forward(
        inputs: _Array,
        weight: _Array,
        bias: _Array,
        gates: _Array,
        cells: _Array,
        states: _Array,
        first: int,
        direction: int,
    ) -> None:
        n_steps, n_rows, _ = gates.shape
        filled = min(n_rows, len(inputs) - first)
        work = np.zeros(n_rows * forward_width, np.float32)
        total = np.empty(n_rows * n_gates, np.float32)
        for step in range(n_steps):
            time = n_steps - 1 - step if direction else step
            for row in range(filled):
                seen, start = inputs[first + row, time], row * forward_width
                for j in range(n_features):
                    work[start + j] = seen[j]
            for row in range(n_rows):
                for j in range(n_gates):
                    total[row * n_gates + j] = bias[j]
            _add_product(work, weight, total, n_inner, forward_width, n_gates)
            gate = gates[time].ravel()
            for j in range(len(gate)):
                gate[j] = _tanh(total[j])
            for row in range(filled):
                own = work[row * forward_width : (row + 1) * forward_width]
                read = gate[row * n_gates : (row + 1) * n_gates]
                _step_cells(read, own, hidden_size, n_features, n_inner)
                cell = cells[time, row]
                state = states[first + row, time, direction]
                for j in range(hidden_size):
                    cell[j] = own[j + n_inner]
                    state[j] = own[j + n_features]

    @jit
    def backward(
        gradient: _Array,
        weight: _Array,
        gates: _Array,
        cells: _Array,
        found: _Array,
        first: int,
        direction: int,
    ) -> None:
        n_steps, n_rows, _ = gates.shape
        filled = min(n_rows, len(gradient) - first)
        work = np.zeros(n_rows * backward_width, np.float32)
        of_read = np.zeros(n_rows * n_outer, np.float32)
        start_cell = np.zeros(hidden_size, np.float32)
        for step in range(n_steps):
            time = step if direction else n_steps - 1 - step
            last = step == n_steps - 1
            before = time if last else (time + 1 if direction else time - 1)
            for row in range(filled):
                after = of_read[row * n_outer + n_features : (row + 1) * n_outer]
                _step_slopes(
                    gates[time, row],
                    cells[time, row],
                    start_cell if last else cells[before, row],
                    gradient[first + row, time, direction],
                    after,
                    work[row * backward_width : (row + 1) * backward_width],
                    hidden_size,
                    n_gates,
                )
            for j in range(len(of_read)):
                of_read[j] = _ZERO
            _add_product(work, weight, of_read, n_gates, backward_width, n_outer)
            for row in range(filled):
                of_inputs, start = found[direction, first + row, time], row * n_outer
                for j in range(n_features):
                    of_inputs[j] = of_read[start + j]

    return Kernels(forward, backward)
