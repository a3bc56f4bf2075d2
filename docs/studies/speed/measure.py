# SPDX-License-Identifier: Apache-2.0
"""What a measure is, what it finds, and how both sides are timed in turns."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

__all__ = [
    "COLUMNS",
    "MOST_RUNS",
    "Found",
    "Measure",
    "Setting",
    "Target",
    "Unavailable",
    "make_waves",
    "shares_of_operators",
    "time_in_turns",
]

COLUMNS = (
    "name", "ratio", "ours", "other", "unit", "target", "met", "conditions", "device",
    "machine", "threads", "versions", "seeds", "date", "error",
)  # fmt: skip

# Seconds after which two long sides are not run again, and the most runs of short ones.
_ENOUGH_SECONDS = 20.0
MOST_RUNS = 15


class Unavailable(RuntimeError):
    """A measure cannot be taken here; the message gives the reason."""


@dataclass(frozen=True)
class Setting:
    """What all measures need to know.

    Attributes
    ----------
    device : torch.device
        Where ours computes, and the other side where it can.
    data : Path or None
        Folder of datasets in UCR layout.
    datasets : tuple of str
        Those to take; empty means all.
    threads : int
        Of every library.
    seed : int
        Of data and estimators.
    scale : float
        Factor of the sizes; below 1 a trial that does not measure speed.
    """

    device: torch.device
    data: Path | None = None
    datasets: tuple[str, ...] = ()
    threads: int = 1
    seed: int = 0
    scale: float = 1.0

    def sized(self, count: int, least: int) -> int:
        """Return a size of the benchmark, smaller in a trial."""
        return max(least, round(count * self.scale)) if self.scale < 1 else count


@dataclass(frozen=True)
class Target:
    """What a measure is to reach.

    Attributes
    ----------
    of : {"ratio", "ours"}
        What is looked at.
    bound : float
        The value.
    at_least : bool
        Or at most.
    """

    of: Literal["ratio", "ours"]
    bound: float
    at_least: bool

    def describe(self, unit: str) -> str:
        """Return the target as text."""
        sign = ">=" if self.at_least else "<="
        return f"{self.of} {sign} {self.bound:g}" + (
            f" {unit}" if self.of == "ours" else ""
        )

    def is_met(self, found: "Found") -> bool:
        """Return whether what was found reaches the target."""
        value = found.ratio if self.of == "ratio" else found.ours
        if value is None or not found.valid:
            return False
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass
class Found:
    """What a measure found.

    Attributes
    ----------
    ours : float
        Median of ours.
    other : float, default=None
        Median of what it is compared with.
    unit : str, default="s"
        Of both.
    conditions : dict
        Shapes, repetitions and whatever else matters, of JSON types.
    valid : bool, default=True
        False where both sides did not give the same: no target is met then.
    """

    ours: float
    other: float | None = None
    unit: str = "s"
    conditions: dict[str, Any] = field(default_factory=dict)
    valid: bool = True

    @property
    def ratio(self) -> float | None:
        """How many times the other side takes what ours takes."""
        return None if self.other is None else self.other / self.ours


@dataclass(frozen=True)
class Measure:
    """One row.

    Attributes
    ----------
    name : str
        Names the row in the file.
    run : callable
        From the rows so far, by name, to what was found; raises `Unavailable` where it
        cannot.
    target : Target or None
        What it is to reach.
    derived : bool, default=False
        Computed from other rows, each time anew.
    """

    name: str
    run: Callable[[dict[str, dict[str, str]]], Found]
    target: Target | None = None
    derived: bool = False


def time_in_turns(
    sides: Sequence[Callable[[], Any]],
    device: torch.device,
    enough_seconds: float = _ENOUGH_SECONDS,
    most_runs: int = MOST_RUNS,
    warm_up: bool = True,
) -> tuple[list[float], int]:
    """Run several things in turns and return their median seconds.

    In turns, so that whatever else the machine does meets all of them alike.

    Parameters
    ----------
    sides : sequence of callable
        What to run.
    device : torch.device
        Waited for before a clock is read.
    enough_seconds : float, default=20.0
        No further round starts after so many seconds of clocked runs.
    most_runs : int, default=15
        Most rounds; there is at least one.
    warm_up : bool, default=True
        Run each once before, without a clock.

    Returns
    -------
    medians : list of float
        Seconds of each side.
    runs : int
        Rounds.

    Examples
    --------
    >>> import torch
    >>> from docs.studies.speed.measure import time_in_turns
    >>> calls = []
    >>> sides = [lambda: calls.append("a"), lambda: calls.append("b")]
    >>> medians, runs = time_in_turns(sides, torch.device("cpu"), most_runs=2)
    >>> runs, "".join(calls)
    (2, 'ababab')
    """
    if warm_up:
        for side in sides:
            side()
    seconds: list[list[float]] = [[] for _ in sides]
    while len(seconds[0]) < most_runs:
        for side, taken in zip(sides, seconds, strict=True):
            _wait_for(device)
            start = time.perf_counter()
            side()
            _wait_for(device)
            taken.append(time.perf_counter() - start)
        if sum(map(sum, seconds)) >= enough_seconds:
            break
    return [float(np.median(taken)) for taken in seconds], len(seconds[0])


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def shares_of_operators(
    run: Callable[[], Any], groups: dict[str, tuple[str, ...]]
) -> dict[str, float]:
    """Return the shares of a CPU's time that operators of torch take, by its profiler.

    Parameters
    ----------
    run : callable
        What to run, once.
    groups : dict of str to tuple of str
        Name of a group to the names of its operators.

    Returns
    -------
    dict of str to float
        Share of each group, and ``"rest"``.

    Examples
    --------
    >>> import torch
    >>> from docs.studies.speed.measure import shares_of_operators
    >>> a = torch.ones(300, 300)
    >>> shares = shares_of_operators(lambda: a @ a, {"products": ("aten::mm",)})
    >>> sorted(shares)
    ['products', 'rest']
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        run()
    taken = dict.fromkeys(groups, 0.0)
    total = 0.0
    for event in profiler.key_averages():
        total += event.self_cpu_time_total
        for group, names in groups.items():
            if event.key in names:
                taken[group] += event.self_cpu_time_total
    shares = {group: round(time / total, 3) for group, time in taken.items()}
    return shares | {"rest": round(1 - sum(shares.values()), 3)}


def make_waves(
    n: int, n_timepoints: int, seed: int, n_classes: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy sines of random phase, a frequency for each class, and the classes.

    Parameters
    ----------
    n, n_timepoints : int
        Shape.
    seed : int
        Of phases and noise.
    n_classes : int, default=2
        Classes 0, 1, ..., of equal size.

    Returns
    -------
    X : ndarray of shape (n, n_timepoints)
        Series.
    y : ndarray of shape (n,)
        Classes.

    Examples
    --------
    >>> from docs.studies.speed.measure import make_waves
    >>> X, y = make_waves(4, 30, seed=0)
    >>> X.shape, y.tolist()
    ((4, 30), [0, 1, 0, 1])
    """
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    angle = np.linspace(0.0, 6 * np.pi, n_timepoints)
    phase = rng.uniform(0.0, 2 * np.pi, size=(n, 1))
    X = np.sin((1 + 0.5 * y[:, None]) * angle + phase)
    X += rng.normal(scale=0.7, size=X.shape)
    return X, y
