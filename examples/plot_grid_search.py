# SPDX-License-Identifier: Apache-2.0
"""
Mapping size and dropout by grid search
=======================================

The paper tunes how many source classes stand for each target class, and the dropout of
the perturbation. scikit-learn's `GridSearchCV` does it, on the training part only.
"""

# %%
# The paper's setting
# -------------------
#
# `V2SClassifier.from_paper` is Algorithm 1: the perturbation is trained by gradient,
# and each class has a random group of source classes. The paper trains for 100 epochs
# of larger batches; to keep this example short there are 10 here.

import time

import matplotlib.pyplot as plt
from sklearn.model_selection import GridSearchCV

from sklearn_v2s import V2SClassifier, V2SClassifierCV
from sklearn_v2s.datasets import load_ucr

X_train, y_train = load_ucr("ItalyPowerDemand", "train")
X_test, y_test = load_ucr("ItalyPowerDemand", "test")
X_test, y_test = X_test[:300], y_test[:300]
classifier = V2SClassifier.from_paper(
    n_segments=8,
    max_epochs=10,
    batch_size=16,
    early_stopping=False,
    random_state=0,
)

# %%
# The search
# ----------
#
# The source has 43 classes: for two target classes, up to 21 for each.

grid = {"mapping_size": [1, 5, 21], "dropout": [0.0, 0.3]}
start = time.perf_counter()
search = GridSearchCV(classifier, grid, cv=2).fit(X_train, y_train)
print(f"{time.perf_counter() - start:.1f} s, best {search.best_params_}")
print(f"accuracy in cross-validation {search.best_score_:.3f}")
print(f"accuracy on the test part {search.score(X_test, y_test):.3f}")

# %%
# Each number below is a mean over two folds of 33 series: one series more is worth
# 0.015. Settings that differ by less are equally good, and so short a training has not
# converged: the order may change with its length.

results = search.cv_results_
sizes, rates = grid["mapping_size"], grid["dropout"]
scores = {
    (params["dropout"], params["mapping_size"]): score
    for params, score in zip(results["params"], results["mean_test_score"], strict=True)
}
table = [[scores[rate, size] for size in sizes] for rate in rates]
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
image = axes.imshow(table, vmin=0, vmax=1)
for row, values in enumerate(table):
    for column, value in enumerate(values):
        colour = "white" if value < 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
axes.set_xticks(range(len(sizes)), sizes)
axes.set_yticks(range(len(rates)), rates)
axes.set(title="accuracy in cross-validation", xlabel="mapping_size", ylabel="dropout")
figure.colorbar(image)

# %%
# The same, with shared work
# --------------------------
#
# `V2SClassifierCV` finds what `GridSearchCV` finds, but no forward pass through the
# frozen source is computed twice: where no perturbation is trained, as here, the source
# outputs of a series are computed once for all folds and mapping sizes.

by_logits = V2SClassifier(
    source_output="logits", label_mapping="frequency", max_epochs=0, random_state=0
)
grid = {"mapping_size": [1, 5, 21], "n_segments": [1, 8]}
for search in (
    GridSearchCV(by_logits, grid, cv=5),
    V2SClassifierCV(by_logits, **grid, cv=5),
):
    start = time.perf_counter()
    search.fit(X_train, y_train)
    print(
        f"{type(search).__name__:<16}{time.perf_counter() - start:.1f} s, "
        f"best {search.best_params_}, accuracy {search.best_score_:.3f}"
    )

# %%
# And the defaults?
# -----------------
#
# They read all views by a linear map, train the perturbation for 200 steps on each half
# of the data, and have nothing that must be tuned.

default = V2SClassifier(random_state=0).fit(X_train, y_train)
print(f"accuracy on the test part {default.score(X_test, y_test):.3f}")
plt.show()
