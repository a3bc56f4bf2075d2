# SPDX-License-Identifier: Apache-2.0
"""How long a training lasts where the user does not say: in steps, not in epochs.

A perturbation moves by about the learning rate in each step of Adam, so that steps, not
passes over the data, decide how far it comes. Twenty epochs of fifty series at a batch
size of 64 are twenty steps; of ten thousand series they are three thousand.
"""

from typing import Literal, NamedTuple

__all__ = ["MIN_EPOCHS", "N_STEPS", "Budget", "training_budget"]

#: Steps of a training, at least.
N_STEPS = 200
#: Passes over the data, at least: every series is seen that often.
MIN_EPOCHS = 2
# Series for each step: more where there are many.
_SMALLEST_BATCH, _LARGEST_BATCH, _BATCHES = 16, 64, 50


class Budget(NamedTuple):
    """Length of a training.

    Attributes
    ----------
    max_epochs : int
        Passes over the data.
    batch_size : int
        Series for each step.
    """

    max_epochs: int
    batch_size: int


def training_budget(
    n: int,
    max_epochs: int | Literal["auto"] = "auto",
    batch_size: int | Literal["auto"] = "auto",
) -> Budget:
    """Return how many epochs of which batches a training takes.

    Parameters
    ----------
    n : int
        Number of series.
    max_epochs : int or "auto", default="auto"
        ``"auto"`` takes as many as give 200 steps, and at least 2.
    batch_size : int or "auto", default="auto"
        ``"auto"`` takes a fiftieth of the series, at least 16 and at most 64.

    Returns
    -------
    Budget
        Both as integers.

    Examples
    --------
    >>> from sklearn_v2s.training.budget import training_budget
    >>> training_budget(20)
    Budget(max_epochs=100, batch_size=16)
    >>> training_budget(10_000)
    Budget(max_epochs=2, batch_size=64)
    """
    size = min(max(n // _BATCHES, _SMALLEST_BATCH), _LARGEST_BATCH)
    if batch_size != "auto":
        size = batch_size
    steps_per_epoch = -(-n // size)
    epochs = max(MIN_EPOCHS, -(-N_STEPS // steps_per_epoch))
    return Budget(epochs if max_epochs == "auto" else max_epochs, size)
