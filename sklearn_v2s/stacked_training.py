# SPDX-License-Identifier: Apache-2.0
"""Gradient training of many independent perturbations in one pass.

The source is frozen and looks at each row of a batch by itself, so that any number of
trainings can share its passes: a row hears the perturbation of its own run, each run
has a loss of its own, and Adam works on each value alone. What comes out equals the
separate trainings that `sklearn_v2s.training` drives by skorch.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from sklearn_v2s.chunking import free_bytes, run_in_chunks
from sklearn_v2s.devices import send
from sklearn_v2s.reprogramming import Perturbation
from sklearn_v2s.sources.contract import SourceOutputs
from sklearn_v2s.stacked_runs import PartOnDevice, Run, SeriesPool, TrainingPlan
from sklearn_v2s.threads import single_threads
from sklearn_v2s.training import mean_loss

__all__ = ["StackedPerturbation", "train_stacked"]

# What a source may take for each sample of a waveform on its way forward and back, in
# bytes, at least twice what those shipped do.
_BYTES_OF_SAMPLE = 1024


class StackedPerturbation(Perturbation):
    """The perturbations of several runs as one, each with its own dropout.

    Parameters
    ----------
    parts : sequence of Perturbation
        On one device, with the same mask. Their generators are used, their values
        copied.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.reprogramming import Perturbation
    >>> from sklearn_v2s.stacked_training import StackedPerturbation
    >>> parts = [
    ...     Perturbation(400, [torch.Generator().manual_seed(0)], dropout=dropout)
    ...     for dropout in (0.0, 0.5)
    ... ]
    >>> added = StackedPerturbation(parts).added()
    >>> (added == 0).any(dim=1)
    tensor([False,  True])
    """

    def __init__(self, parts: Sequence[Perturbation]) -> None:
        first = parts[0]
        super().__init__(first.delta.shape[1], [torch.Generator()])
        self.mask = first.mask
        self.generators = [generator for part in parts for generator in part.generators]
        self.rates = [part.dropout for part in parts for _ in part.generators]
        self.dropout = max(self.rates)
        self.delta = nn.Parameter(torch.cat([part.delta.detach() for part in parts]))
        log_gain = torch.cat([part.log_gain.detach() for part in parts])
        if isinstance(first.log_gain, nn.Parameter):
            self.log_gain = nn.Parameter(log_gain)
        else:
            self.log_gain = log_gain

    def added(self) -> Tensor:
        """Return what is added in this step, of shape (G, input_length)."""
        delta = self.effective()
        if self.dropout == 0.0:
            return delta
        # Drawn on the CPU, so that every device sees the same masks.
        keep = torch.ones(delta.shape)
        for row, generator, rate in zip(keep, self.generators, self.rates, strict=True):
            if rate > 0.0:
                row.copy_(torch.rand(len(row), generator=generator) >= rate)
        kept_share = torch.tensor(
            [[1.0 - rate] for rate in self.rates], dtype=torch.float64
        )
        keep, kept_share = (
            send(values.to(delta.dtype), delta.device) for values in (keep, kept_share)
        )
        return delta * keep / kept_share


def train_stacked(
    runs: Sequence[Run], plan: TrainingPlan, runs_per_pass: int | None = None
) -> None:
    """Train perturbations side by side.

    A run's result does not depend on the others. A CPU takes one run at a time through
    the source, and as many runs side by side as torch may have threads: to pass more
    rows at once gains nothing there, and so each result is that of a separate training
    to the last bit. On other devices as many runs pass at once as there is room for.

    Parameters
    ----------
    runs : sequence of Run
        On one device, of one source and one placement, with as many perturbations
        each; all of them validate, or none. Their modules and histories are changed.
    plan : TrainingPlan
        How to train them.
    runs_per_pass : int, default=None
        How many go through the source at once; None decides as said above.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.stacked_runs import Part, Run, TrainingPlan
    >>> from sklearn_v2s.stacked_training import train_stacked
    >>> X = np.random.default_rng(0).normal(size=(8, 1, 30))
    >>> y = np.arange(8) % 2
    >>> part = Part(X, np.empty((8, 0)), y, np.ones(8))
    >>> words = V2SClassifier.from_paper(max_epochs=0, random_state=0)
    >>> modules = [words.fit(X, y).net_.module_ for _ in range(2)]
    >>> runs = [Run(module, part, None, seed=0) for module in modules]
    >>> train_stacked(runs, TrainingPlan(1, 8, 0.05, "constant", 0.0, 10))
    >>> deltas = [module.reprogrammed.perturbation.delta for module in modules]
    >>> torch.equal(*deltas)
    True
    """
    delta = runs[0].module.reprogrammed.perturbation.delta
    on_cpu = delta.device.type == "cpu"
    n_threads = min(torch.get_num_threads(), len(runs)) if on_cpu else 1
    series = SeriesPool(runs)
    if runs_per_pass is None:
        runs_per_pass = 1 if on_cpu else _runs_per_pass(delta, plan.batch_size)
    stopped = threading.Event()
    by_steps: dict[int, list[Run]] = {}
    for run in runs:
        by_steps.setdefault(-(-len(run.train) // plan.batch_size), []).append(run)
    stacks = [
        _Stack(equals[start::n_threads], series, plan, runs_per_pass, stopped)
        for equals in by_steps.values()
        for start in range(min(n_threads, len(equals)))
    ]
    if n_threads == 1:
        for stack in stacks:
            stack.train()
        return
    with single_threads(n_threads) as threads:
        try:
            for training in [threads.submit(stack.train) for stack in stacks]:
                training.result()
        finally:
            # Broken off, or all of them are done.
            stopped.set()


def _runs_per_pass(delta: Tensor, batch_size: int) -> int:
    """Return how many runs may pass at once, by the memory that a device has left."""
    free = free_bytes(delta.device)
    if free is None:
        return 1
    return max(1, free // (_BYTES_OF_SAMPLE * delta.numel() * batch_size))


class _Share(NamedTuple):
    """What one run hears in a pass: positions in one of its parts."""

    run: int
    part: PartOnDevice
    positions: Tensor


class _Stack:
    """Runs of equal numbers of steps, in lockstep."""

    def __init__(
        self,
        runs: Sequence[Run],
        series: SeriesPool,
        plan: TrainingPlan,
        runs_per_pass: int,
        stopped: threading.Event,
    ) -> None:
        self.runs, self.series, self.plan = runs, series, plan
        self.runs_per_pass, self.stopped = runs_per_pass, stopped
        perturbations = [run.module.reprogrammed.perturbation for run in runs]
        self.n_views = len(perturbations[0].delta)
        self.perturbation = StackedPerturbation(perturbations)
        self.device = self.perturbation.delta.device
        self.heads = [list(run.module.head.parameters()) for run in runs]
        self.loaders: list[DataLoader[Any]] = [
            # As skorch draws the order; a row's number stands for the row.
            DataLoader(
                range(len(run.train)),  # type: ignore[arg-type]
                batch_size=plan.batch_size,
                shuffle=True,
                generator=torch.Generator().manual_seed(run.seed),
            )
            for run in runs
        ]

    def train(self) -> None:
        """Train all runs and hand the results to their modules."""
        learned = [
            *self.perturbation.parameters(),
            *(value for head in self.heads for value in head),
        ]
        optimizer = torch.optim.Adam(learned, lr=self.plan.lr)
        scheduler = None
        if self.plan.lr_schedule == "cosine":
            total = self.plan.max_epochs * len(self.loaders[0])
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, T_max=total
            )
        best = [_Best(self._state(index)) for index in range(len(self.runs))]
        active = list(range(len(self.runs)))
        for epoch in range(1, self.plan.max_epochs + 1):
            losses = []
            for shares in self._steps(active):
                if self.stopped.is_set():
                    return
                optimizer.zero_grad()
                sizes = torch.tensor([len(share.positions) for share in shares])
                losses.append(self._backward(shares) * send(sizes, self.device))
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
            sums = torch.stack(losses).sum(0).tolist()
            validation = self._validate(active)
            for index, total_loss in zip(active, sums, strict=True):
                run = self.runs[index]
                row = {"epoch": epoch, "train_loss": total_loss / len(run.train)}
                if index in validation:
                    row["valid_loss"] = validation[index]
                run.history.append(row)
                if best[index].improves(row):
                    best[index].keep(epoch, self._state(index))
            # Further steps of a run that stops here change nothing that is kept.
            active = [
                index
                for index in active
                if epoch - best[index].epoch < self.plan.n_iter_no_change
            ]
            if not active:
                break
        for index, kept in enumerate(best):
            self._hand_out(index, kept.state)

    def _steps(self, active: list[int]) -> Iterator[list[_Share]]:
        """Yield what the runs hear in each step of an epoch."""
        size = self.plan.batch_size
        orders = [
            send(torch.cat(list(self.loaders[index])), self.device).split(size)
            for index in active
        ]
        for positions in zip(*orders, strict=True):
            yield [
                _Share(index, self.series.part(self.runs[index].train), chosen)
                for index, chosen in zip(active, positions, strict=True)
            ]

    def _groups(self, shares: list[_Share]) -> Tensor:
        """Return the rows of the stacked perturbation that belong to runs."""
        first = torch.tensor([share.run for share in shares]) * self.n_views
        groups = first.unsqueeze(1) + torch.arange(self.n_views)
        return send(groups.flatten(), self.device)

    def _state(self, index: int) -> list[Tensor]:
        """Return a copy of what a run has learned so far."""
        groups = slice(index * self.n_views, (index + 1) * self.n_views)
        return [
            *(v.detach()[groups].clone() for v in self.perturbation.parameters()),
            *(value.detach().clone() for value in self.heads[index]),
        ]

    def _hand_out(self, index: int, state: list[Tensor]) -> None:
        perturbation = self.runs[index].module.reprogrammed.perturbation
        own = [*perturbation.parameters(), *self.heads[index]]
        with torch.no_grad():
            for value, result in zip(own, state, strict=True):
                value.copy_(result)

    def _pass(self, shares: list[_Share], hear: Callable[[list[_Share]], None]) -> None:
        """Hear shares in parts that pass at once, smaller ones once there is no room.

        `hear` is asked for the first of the same shares again if it ran out of memory.
        """
        self.runs_per_pass = run_in_chunks(
            lambda chosen, size: hear(shares[chosen]),
            len(shares),
            self.runs_per_pass,
            self.device,
            "runs",
        )

    def _losses(
        self, shares: list[_Share], added: Tensor, gain: Tensor
    ) -> list[Tensor]:
        """Return the weighted mean of -log P(y|x) of each run of a pass."""
        # Where a run has fewer rows than others, some series stands in, not to be read.
        rows = pad_sequence([share.part.rows[share.positions] for share in shares])
        heard = self.series.hear(
            rows.repeat_interleave(self.n_views, dim=1), added, gain
        )
        losses = []
        for column, (index, part, positions) in enumerate(shares):
            groups = slice(column * self.n_views, (column + 1) * self.n_views)
            own = SourceOutputs(*(value[: len(positions), groups] for value in heard))
            fixed = part.fixed[positions] if part.fixed.shape[1] else None
            log_scores = self.runs[index].module.read(own, fixed)
            losses.append(
                mean_loss(log_scores, part.codes[positions], part.weight[positions])
            )
        return losses

    def _backward(self, shares: list[_Share]) -> Tensor:
        """Set the gradients of the sum of the runs' losses with their penalties.

        Returns the losses without penalties, as the history of a single run has them.
        """
        perturbation = self.perturbation
        outer = [
            (value, torch.zeros_like(value))
            for value in (perturbation.added(), perturbation.gain)
        ]
        found: list[Tensor] = []

        def there_and_back(chosen: list[_Share]) -> None:
            for learned in (self.heads[share.run] for share in chosen):
                for parameter in learned:
                    # A pass that ran out of memory may have got this far.
                    parameter.grad = None
            groups = self._groups(chosen)
            # Leaves, so that what a pass has computed goes when it is over.
            inner = [
                value.detach()[groups].requires_grad_(value.requires_grad)
                for value, _ in outer
            ]
            penalties = [self.runs[share.run].module.head.penalty() for share in chosen]
            losses = torch.stack(self._losses(chosen, *inner))
            (losses.sum() + torch.stack(penalties).sum()).backward()
            for (_, slope), value in zip(outer, inner, strict=True):
                if value.grad is not None:
                    slope[groups] = value.grad
            found.append(losses.detach())

        self._pass(shares, there_and_back)
        penalty = self.plan.l2 * perturbation.effective().square().sum()
        outer = [pair for pair in outer if pair[0].requires_grad]
        torch.autograd.backward(
            [penalty, *(value for value, _ in outer)],
            [torch.ones_like(penalty), *(slope for _, slope in outer)],
        )
        return torch.cat(found)

    @torch.no_grad()
    def _validate(self, active: list[int]) -> dict[int, float]:
        """Return the loss of each run on its validation rows, without dropout."""
        size = self.plan.batch_size
        batches = []
        for index in active:
            validation = self.runs[index].validation
            if validation is not None:
                positions = torch.arange(len(validation), device=self.device)
                part = self.series.part(validation)
                batches += [_Share(index, part, some) for some in positions.split(size)]
        if not batches:
            return {}
        added, gain = self.perturbation.effective(), self.perturbation.gain
        losses: list[Tensor] = []

        def hear(chosen: list[_Share]) -> None:
            groups = self._groups(chosen)
            losses.extend(self._losses(chosen, added[groups], gain[groups]))

        self._pass(batches, hear)
        sums = dict.fromkeys(active, 0.0)
        counts = dict.fromkeys(active, 0)
        for share, loss in zip(batches, torch.stack(losses).tolist(), strict=True):
            # Averaged as skorch does.
            sums[share.run] += loss * len(share.positions)
            counts[share.run] += len(share.positions)
        return {index: sums[index] / counts[index] for index in active}


class _Best:
    """The state of a run to return: the last, or the one that validates best."""

    def __init__(self, state: list[Tensor]) -> None:
        self.loss = np.inf
        self.keep(0, state)

    def improves(self, row: dict[str, float]) -> bool:
        """Return whether the state after an epoch is the one to return so far."""
        if "valid_loss" not in row:
            return True
        better = row["valid_loss"] < self.loss
        if better:
            self.loss = row["valid_loss"]
        return better

    def keep(self, epoch: int, state: list[Tensor]) -> None:
        """Remember a state."""
        self.epoch, self.state = epoch, state
