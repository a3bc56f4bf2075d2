# SPDX-License-Identifier: Apache-2.0
"""
Against MiniRocket
==================

`V2SClassifier` and aeon's MiniRocket, both with their defaults, on three datasets
that come with aeon: accuracy, log-loss and seconds on one thread.
"""

# %%
# A fair comparison
# -----------------
#
# MiniRocket ends in a ridge classifier, whose probabilities are 0 and 1. A single error
# then makes the log-loss large, which is no fault of the kernels. So its decision
# scores are calibrated here by the rule of `V2SClassifier`, by
# cross-validation on the training part. What that costs is not in the seconds, and
# neither is the compilation of aeon's kernels at their first use.

import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from aeon.classification.convolution_based import MiniRocketClassifier
from sklearn.metrics import accuracy_score, log_loss

from sklearn_v2s import V2SClassifier
from sklearn_v2s.benchmark.calibration import CalibratedHead, find_head
from sklearn_v2s.datasets import load_ucr


def probabilities(classifier, X_train, y_train, X_test):
    """Return probabilities of the classes of a fitted classifier."""
    if isinstance(classifier, V2SClassifier):
        return classifier.predict_proba(X_test)
    found = find_head(classifier)
    head = CalibratedHead(found.head).fit(found.transform(X_train), y_train)
    return head.predict_proba(found.transform(X_test))


measures = ("accuracy", "log-loss", "seconds")
datasets = ("GunPoint", "ItalyPowerDemand", "ArrowHead")
rows = {"V2SClassifier": [], "MiniRocket": []}
for dataset in datasets:
    X_train, y_train = load_ucr(dataset, "train")
    X_test, y_test = load_ucr(dataset, "test")
    for name, classifier in {
        "V2SClassifier": V2SClassifier(random_state=0),
        "MiniRocket": MiniRocketClassifier(random_state=0),
    }.items():
        # One thread for both: numba, which aeon runs on, sets torch's number too.
        torch.set_num_threads(1)
        # Once for the compilation, and for the source models to be read.
        classifier.fit(X_train[:20], y_train[:20]).predict(X_test[:2])
        start = time.perf_counter()
        predicted = classifier.fit(X_train, y_train).predict(X_test)
        seconds = time.perf_counter() - start
        proba = probabilities(classifier, X_train, y_train, X_test)
        loss = log_loss(y_test, proba, labels=classifier.classes_)
        rows[name].append((accuracy_score(y_test, predicted), loss, seconds))

print(f"{'dataset':<18}{'classifier':<15}{'accuracy':>9}{'log-loss':>10}{'seconds':>9}")
for number, dataset in enumerate(datasets):
    for name, results in rows.items():
        accuracy, loss, seconds = results[number]
        print(f"{dataset:<18}{name:<15}{accuracy:>9.3f}{loss:>10.3f}{seconds:>9.2f}")

# %%
# One seed and three small datasets are no benchmark: the differences of accuracy are a
# few test series. The pages on results have many datasets and seeds, measured by
# ``v2s benchmark accuracy``.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
places = np.arange(len(datasets))
for column, (measure, panel) in enumerate(zip(measures, axes, strict=True)):
    for shift, (name, results) in zip((-0.2, 0.2), rows.items(), strict=True):
        heights = [row[column] for row in results]
        panel.bar(places + shift, heights, width=0.4, label=name)
    panel.set_xticks(places, datasets, fontsize="small")
    panel.set_title(measure)
axes[0].set_ylim(0, 1)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()
