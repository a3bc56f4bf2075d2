# SPDX-License-Identifier: Apache-2.0
"""Scores of a benchmark run, all from labels, predictions and probabilities."""

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, recall_score

__all__ = ["expected_calibration_error", "score_predictions"]


def expected_calibration_error(
    correct: np.ndarray, confidence: np.ndarray, n_bins: int = 15
) -> float:
    """Return the expected calibration error of the predicted labels.

    The confidences are sorted into bins of equal width, open on the left; the error is
    the mean over the bins, weighted by their sizes, of the distance between accuracy
    and mean confidence.

    Parameters
    ----------
    correct : ndarray of bool of shape (n,)
        Whether a prediction is right.
    confidence : ndarray of shape (n,)
        Probability of the predicted label, in [0, 1].
    n_bins : int, default=15
        Number of bins.

    Returns
    -------
    float
        In [0, 1], 0 for perfect calibration.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger. On calibration of modern neural networks. ICML 2017,
    equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.benchmark.metrics import expected_calibration_error
    >>> correct = np.array([True, True, False, False])
    >>> round(expected_calibration_error(correct, np.full(4, 0.9)), 3)
    0.4
    """
    # The edges that end a bin; the bin of a confidence is the first edge not below it.
    edges = np.arange(1, n_bins) / n_bins
    bins = np.searchsorted(edges, confidence)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(correct))


def score_predictions(
    y: np.ndarray, proba: np.ndarray, predicted: np.ndarray, classes: np.ndarray
) -> dict[str, float]:
    """Score predictions of a test part.

    Parameters
    ----------
    y : ndarray of shape (n,)
        True labels.
    proba : ndarray of shape (n, n_classes)
        Probabilities.
    predicted : ndarray of shape (n,)
        Predicted labels; accuracy is theirs, not that of the largest probability.
    classes : ndarray of shape (n_classes,)
        Labels of the columns of `proba`, sorted.

    Returns
    -------
    dict of str to float
        ``accuracy``; ``balanced_accuracy``, the mean recall of the classes in `y`;
        ``log_loss`` in nats, with probabilities clipped as scikit-learn does; ``ece``,
        `expected_calibration_error` with 15 bins. A class of `y` that is not in
        `classes` counts as one of probability 0.

    Raises
    ------
    ValueError
        If a probability is not finite or negative, or a row does not sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.benchmark.metrics import score_predictions
    >>> y = np.array([1, 2, 2, 2])
    >>> proba = np.tile([0.25, 0.75], (4, 1))
    >>> scores = score_predictions(y, proba, np.full(4, 2), np.array([1, 2]))
    >>> {name: round(score, 3) for name, score in scores.items()}
    {'accuracy': 0.75, 'balanced_accuracy': 0.5, 'log_loss': 0.562, 'ece': 0.0}
    """
    proba = np.asarray(proba, dtype=np.float64)
    sums = proba.sum(axis=1)
    if not (proba >= 0).all() or not np.allclose(sums, 1, atol=1e-4):
        raise ValueError(
            "proba must hold finite numbers >= 0 with rows that sum to 1; their least "
            f"number is {proba.min()} and their sums are from {sums.min()} to "
            f"{sums.max()}. Mend predict_proba of this method."
        )
    # Arithmetic in float32 leaves sums that scikit-learn warns of.
    proba = proba / sums[:, None]
    labels = np.union1d(classes, y)
    columns = np.searchsorted(labels, classes)
    padded = np.zeros((len(y), len(labels)))
    padded[:, columns] = proba
    confidence = padded[np.arange(len(y)), np.searchsorted(labels, predicted)]
    return {
        "accuracy": float(accuracy_score(y, predicted)),
        "balanced_accuracy": float(
            recall_score(y, predicted, labels=np.unique(y), average="macro")
        ),
        "log_loss": float(log_loss(y, padded, labels=labels)),
        "ece": expected_calibration_error(predicted == y, confidence),
    }
