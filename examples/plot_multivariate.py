# SPDX-License-Identifier: Apache-2.0
"""
Several channels, unequal lengths, missing values
=================================================

Series need not be one row of numbers of one length. The data here come with aeon.
"""

# %%
# Several channels
# ----------------
#
# BasicMotions has six channels of a smart watch, three of acceleration and three of
# rotation, while its wearer stands, walks, runs or plays badminton. `X` has the shape
# (series, channels, time points).

import matplotlib.pyplot as plt
import numpy as np
from aeon.datasets import load_basic_motions, load_japanese_vowels

from sklearn_v2s import V2SClassifier
from sklearn_v2s.placement import ReplicaPlacement

X_train, y_train = load_basic_motions(split="train")
X_test, y_test = load_basic_motions(split="test")
print(X_train.shape, sorted(set(y_train)))
classifier = V2SClassifier(max_epochs=0, random_state=0).fit(X_train, y_train)
print(f"accuracy {classifier.score(X_test, y_test):.3f}")

# %%
# The channels share the second of sound: each has its replicas in a part of its own.
# `ReplicaPlacement` says where.

row = np.flatnonzero(y_test == "running")[0]
waveform = classifier.reprogram(X_test[[row]])[0, 0]
placement = ReplicaPlacement(len(waveform), *X_test.shape[1:])
share = len(waveform) // X_test.shape[1]
figure, axes = plt.subplots(2, 1, figsize=(9, 5), layout="constrained")
axes[0].plot(X_test[row].T, linewidth=0.8)
axes[0].set(title="a series of class running", xlabel="time point", ylabel="value")
axes[1].plot(waveform, color="0.8", linewidth=0.4)
for channel, start in placement.spans():
    times = np.arange(start, start + placement.segment_length)
    axes[1].plot(times, waveform[times], color=f"C{channel}", linewidth=0.8)
channels = np.arange(X_test.shape[1])
axes[1].set_xticks((channels + 0.5) * share, [f"channel {each}" for each in channels])
axes[1].set(
    title="input of the source model: replicas, and the perturbation (grey)",
    ylabel="amplitude",
)

# %%
# Unequal lengths
# ---------------
#
# JapaneseVowels: nine speakers say two vowels, 12 coefficients in 7 to 29 steps of
# time. Hand in a list of series; after the end of a series the waveform is zero.
# A series longer than all training series has to be cut or resampled.

X_train, y_train = load_japanese_vowels(split="train")
X_test, y_test = load_japanese_vowels(split="test")
lengths = [series.shape[1] for series in X_train]
longest = max(lengths)
print(f"{len(X_train)} series of {min(lengths)} to {longest} time points")
X_test = [series[:, :longest] for series in X_test]
classifier = V2SClassifier(max_epochs=0, random_state=0).fit(X_train, y_train)
print(f"accuracy {classifier.score(X_test, y_test):.3f}")

# %%
# Missing values
# --------------
#
# NaN is an error unless ``missing="interpolate"`` asks for straight lines across the
# gaps. Here a third of all values is missing.

X_train, y_train = load_basic_motions(split="train")
X_test, y_test = load_basic_motions(split="test")
rng = np.random.default_rng(0)
for X in (X_train, X_test):
    X[rng.random(X.shape) < 1 / 3] = np.nan
classifier = V2SClassifier(missing="interpolate", max_epochs=0, random_state=0)
accuracy = classifier.fit(X_train, y_train).score(X_test, y_test)
print(f"accuracy with a third of the values missing {accuracy:.3f}")
plt.show()
