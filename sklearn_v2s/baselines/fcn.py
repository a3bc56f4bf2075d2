# SPDX-License-Identifier: Apache-2.0
"""The baseline without a source: a convolutional network from scratch."""

import numpy as np
import torch
from torch import nn

from sklearn_v2s.baselines.modules import Head, TimeMean, glorot
from sklearn_v2s.baselines.network import NetworkClassifier

__all__ = ["FCNClassifier"]

# Filters and their lengths in the three layers.
_LAYERS = ((128, 8), (256, 5), (128, 3))


class FCNClassifier(NetworkClassifier):
    """Fully convolutional network, trained from scratch: the baseline without a source.

    Three convolutions along time (128 filters of length 8, 256 of length 5, 128 of
    length 3), each with batch normalisation and ReLU, the mean over time, and a linear
    layer.

    Parameters
    ----------
    max_epochs : int, default=50
        Passes over the training data.
    batch_size : int or "auto", default="auto"
        Series for a step, at most; an epoch has steps of equal size. Batch
        normalisation needs 2 or more. ``"auto"`` takes a tenth of the series, but 2 at
        least and 16 at most, as the publication does.
    lr : float, default=0.001
        Learning rate.
    lr_schedule : {"constant", "cosine"}, default="cosine"
        Schedule of the learning rate.
    weight_decay : float, default=0.01
        Of AdamW.
    early_stopping : bool, default=False
        Hold out a stratified part of the training data and return the epoch with the
        least loss there.
    validation_fraction : float, default=0.1
        Share of each class to hold out.
    n_iter_no_change : int, default=20
        Stop after so many epochs without a better validation loss.
    class_weight : dict, "balanced" or None, default=None
        Factors of the sample weights by class.
    normalization : {"global", "series"} or None, default="global"
        Remove mean and scale of the training data, of each series, or nothing.
    missing : {"error", "interpolate"}, default="error"
        What to do with NaN.
    precision : {"float32", "float64"}, default="float32"
        Arithmetic of the network.
    device : str or torch.device, default="auto"
        Where to compute; ``"auto"`` takes CUDA, XPU, MPS or CPU, the first there is.
    random_state : int, RandomState instance or None, default=None
        Of initial weights, order and validation part.
    verbose : int, default=0
        1 shows a progress bar over the epochs.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The target classes.
    module_ : nn.Sequential
        Normalised series to logits, on the CPU.
    history_ : list of dict
        Losses, accuracies and seconds of each epoch.
    n_iter_ : int
        Epochs trained.
    n_features_in_ : int
        Values of a series, over all channels.
    n_timepoints_in_, n_channels_in_ : int
        Shape of a series.
    unequal_length_ : bool
        Whether `fit` saw series of unequal length; shorter ones are then allowed.

    See Also
    --------
    TransferClassifier : Fine-tunes a source.

    Notes
    -----
    Series of unequal length are padded with the mean of the training data. The mean
    over time takes the padding in. Adam with a cosine schedule needs fewer epochs than
    the 2000 of the publication, whose learning rate falls when the loss stands still.

    References
    ----------
    Wang, Yan, Oates. Time series classification from scratch with deep neural
    networks: a strong baseline. IJCNN 2017. arXiv:1611.06455.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import FCNClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 50)).cumsum(axis=1)
    >>> y = np.where(X[:, -1] > 0, "up", "down")
    >>> classifier = FCNClassifier(max_epochs=1, random_state=0).fit(X, y)
    >>> classifier.predict_proba(X).shape
    (20, 2)
    """

    def _new_parts(self, generator: torch.Generator) -> tuple[nn.Module, nn.Module]:
        layers: list[nn.Module] = []
        n_channels = self.n_channels_in_
        for n_filters, length in _LAYERS:
            layers += [
                # As many time points come out as go in, be it a single one.
                nn.ZeroPad1d(((length - 1) // 2, length // 2)),
                glorot(nn.Conv1d, n_channels, n_filters, length, generator=generator),
                nn.BatchNorm1d(n_filters),
                nn.ReLU(),
            ]
            n_channels = n_filters
        return nn.Identity(), nn.Sequential(*layers, TimeMean())

    def _new_head(
        self, features: np.ndarray, weight: np.ndarray, generator: torch.Generator
    ) -> Head:
        sizes = features.shape[1], len(self.classes_)
        return Head(glorot(nn.Linear, *sizes, generator=generator))
