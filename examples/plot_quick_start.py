# SPDX-License-Identifier: Apache-2.0
"""
Quick start
===========

Train `V2SClassifier` on a dataset of the UCR archive, predict, look at the
probabilities and at the input of the source model, and save the result to a file.
"""

# %%
# Train and score
# ---------------
#
# GunPoint is the path of a hand that draws a gun or only points. It comes with aeon, so
# that nothing is downloaded; `load_ucr` finds other datasets of the archive by name,
# in a folder of yours or in aeon's cache.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, log_loss

from sklearn_v2s import V2SClassifier
from sklearn_v2s.datasets import load_ucr
from sklearn_v2s.sources import load_source

X_train, y_train = load_ucr("GunPoint", "train")
X_test, y_test = load_ucr("GunPoint", "test")
print(X_train.shape, X_test.shape)

classifier = V2SClassifier(random_state=0).fit(X_train, y_train)
proba = classifier.predict_proba(X_test)
print(f"accuracy {classifier.score(X_test, y_test):.3f}")
print(f"log-loss {log_loss(y_test, proba):.3f}")

# %%
# The series, and the predicted probabilities
# -------------------------------------------
#
# On the right each test series is a point, at the probability of its true class. Those
# left of the line are wrong.

right = proba[np.arange(len(y_test)), np.searchsorted(classifier.classes_, y_test)]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for number, name in enumerate(classifier.classes_):
    own = y_test == name
    colour = f"C{number}"
    axes[0].plot(X_test[own][:10, 0].T, color=colour, linewidth=0.8)
    axes[0].plot([], color=colour, label=f"class {name}")
    axes[1].plot(right[own], np.flatnonzero(own), ".", color=colour)
axes[0].set(title="ten series of each class", xlabel="time point", ylabel="value")
axes[0].legend()
axes[1].axvline(0.5, color="0.5", linewidth=0.8)
axes[1].set(
    title="test series",
    xlabel="probability of the true class",
    ylabel="number of the series",
    xlim=(0, 1.02),
)

# %%

ConfusionMatrixDisplay.from_predictions(y_test, classifier.predict(X_test))
plt.title("test part")

# %%
# The input of the source model
# -----------------------------
#
# In the view ``"replicas"`` a series is repeated within one second of sound, and a
# perturbation is added: random here, as ``max_epochs=0`` is the default. The user
# guide describes the other views.

source = load_source("attrnn")
milliseconds = 1000 * np.arange(source.input_length) / source.sample_rate
waveform = classifier.reprogram(X_test[:1])[0, 0]
figure, axes = plt.subplots(2, 1, figsize=(9, 4.5), layout="constrained")
axes[0].plot(milliseconds, waveform, linewidth=0.4)
axes[0].set(title="one second of sound", ylabel="amplitude")
axes[1].plot(milliseconds, waveform, linewidth=0.8)
axes[1].set(
    title="its first replica",
    xlabel="time [ms]",
    ylabel="amplitude",
    xlim=(-1, 21),
)

# %%
# Save it
# -------
#
# The file holds tensors and JSON, no pickle. The source model is stored by its name and
# SHA-256 only.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "gunpoint.safetensors"
    classifier.save(path)
    print(f"{path.stat().st_size / 1024:.0f} KiB")
    again = V2SClassifier.load(path)
print(np.array_equal(again.predict_proba(X_test), proba))
plt.show()
