# SPDX-License-Identifier: Apache-2.0
"""
A source of which only the outputs are available
================================================

A web service, or a program without source code, returns probabilities and nothing
else: no weights, no gradients. `BlackBoxV2SClassifier` learns from these outputs, and
counts the queries that it needs.
"""

# %%
# The service
# -----------
#
# A function from waveforms to the probabilities of 43 source classes stands for it.
# Behind it is the shipped recogniser, of which nothing but this function is used.

import matplotlib.pyplot as plt
import numpy as np
import torch

from sklearn_v2s import BlackBoxV2SClassifier
from sklearn_v2s.sources import load_source

recogniser = load_source("attrnn")


def query(waveforms):
    """Return probabilities of shape (n, 43) of waveforms of shape (n, 16000)."""
    with torch.inference_mode():
        logits = [
            recogniser(part).logits for part in torch.from_numpy(waveforms).split(32)
        ]
        return torch.softmax(torch.cat(logits), dim=1).numpy()


# %%
# Learning from queries
# ---------------------
#
# Waves of one, two or three periods in noise. A step queries the source for a batch
# with the present perturbation and with small changes of it in two random directions;
# the differences of the loss estimate its gradient, which Adam uses. Each target class
# has five source classes, those predicted most often for its series before training.

rng = np.random.default_rng(0)
angles = np.linspace(0, 2 * np.pi, 60)


def make_waves(n):
    """Return noisy waves, and how many periods they have."""
    y = np.arange(n) % 3 + 1
    phases = rng.uniform(0, 2 * np.pi, size=(n, 1))
    return np.sin(y[:, None] * angles + phases) + rng.normal(scale=0.3, size=(n, 60)), y


X_train, y_train = make_waves(60)
X_test, y_test = make_waves(90)

setting = {"mapping_size": 5, "random_state": 0}
silent = BlackBoxV2SClassifier(query, init_scale=0.0, max_iter=0, **setting)
start = BlackBoxV2SClassifier(query, max_iter=0, **setting)
trained = BlackBoxV2SClassifier(query, max_queries=4000, **setting)
scores = {}
for name, classifier in (
    ("no perturbation", silent),
    ("random", start),
    ("trained", trained),
):
    scores[name] = classifier.fit(X_train, y_train).score(X_test, y_test)
    print(
        f"{name}: accuracy {scores[name]:.3f}, loss {classifier.loss_:.2f}, "
        f"{classifier.n_queries_} queries"
    )

# %%
# The course of the training
# --------------------------
#
# Each loss is that of another batch: that of all series would cost a query for each.
# Training ends when the budget of queries is used up.

queries = [row["n_queries"] for row in trained.history_]
losses = np.array([row["loss"] for row in trained.history_])
smooth = np.convolve(losses, np.ones(5) / 5, mode="valid")
time = np.arange(trained.input_length) / recogniser.sample_rate

figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
axes[0].plot(queries, losses, color="0.7", label="batch")
axes[0].plot(queries[2:-2], smooth, label="mean of five")
axes[0].set(title="training", xlabel="queries", ylabel="loss")
axes[0].legend()
axes[1].bar_label(axes[1].bar(list(scores), list(scores.values())), fmt="%.2f")
axes[1].axhline(1 / 3, color="0.5", linewidth=0.8)
axes[1].set(title="test accuracy (line: chance)", ylim=(0, 1.1))
begin = slice(round(0.02 * recogniser.sample_rate))
axes[2].plot(time[begin], trained.reprogram(X_test[:1])[0, begin], label="reprogrammed")
axes[2].plot(time[begin], trained.perturbation_[begin], label="perturbation")
axes[2].set(title="a waveform, its first 20 ms", xlabel="time (s)", ylabel="value")
axes[2].legend(loc="upper right")
plt.show()
