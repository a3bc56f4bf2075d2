# SPDX-License-Identifier: Apache-2.0
"""
Explain a prediction
====================

Which time points of a series determined the prediction of `V2SClassifier`, and which
part of its input the source model attended to.
"""

# %%
# Bumps and dips
# --------------
#
# Noisy series with one event each: a bump or a dip, somewhere in the middle third. The
# right answer to "which time points mattered?" is known.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_v2s import V2SClassifier, V2SExplanationDisplay
from sklearn_v2s.explain import attribute_series


def make_events(n, rng, n_timepoints=90, width=12):
    """Return series, labels and the first time point of each event."""
    y = np.where(np.arange(n) % 2 == 0, "bump", "dip")
    X = rng.normal(scale=0.3, size=(n, n_timepoints))
    third = n_timepoints // 3
    starts = rng.integers(third, 2 * third - width, size=n)
    event = 2.0 * np.hanning(width)
    for row, label, start in zip(X, y, starts, strict=True):
        row[start : start + width] += event if label == "bump" else -event
    return X, y, starts


rng = np.random.default_rng(0)
X_train, y_train, _ = make_events(60, rng)
X_test, y_test, starts = make_events(60, rng)
classifier = V2SClassifier(max_epochs=0, random_state=0).fit(X_train, y_train)
print(f"accuracy {classifier.score(X_test, y_test):.3f}")

# %%
# One prediction
# --------------
#
# The upper four panels show the source model at work in the view ``"replicas"``: the
# waveform, its attention over time, its spectrogram, and which part of it speaks for
# the class. The last panel goes back to the series: windows are hidden one after the
# other, and the colour shows how far the class's log-odds fall.
# That holds for all views together.

V2SExplanationDisplay.from_estimator(classifier, X_test[0], cam="hires-cam")
print(f"the event begins at time point {starts[0]}")

# %%
# The view ``"tone"`` turns the series into a pitch, which the spectrogram shows.
# Gradients are faster than occlusion, but only replicas and tone have any: the other
# views count how often thresholds are exceeded.

V2SExplanationDisplay.from_estimator(
    classifier, X_test[0], view="tone", cam="hires-cam", method="gradient"
)

# %%
# Is it right?
# ------------
#
# Over the test series, occlusion should give the time points of the event more than
# their share.

shares = []
for series, start in zip(X_test[:20], starts[:20], strict=True):
    values = np.maximum(attribute_series(classifier, series).values[0], 0.0)
    shares.append(values[start : start + 12].sum() / values.sum())
print(f"share of the event: {np.mean(shares):.2f}, by chance {12 / 90:.2f}")
plt.show()
