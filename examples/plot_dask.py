# SPDX-License-Identifier: Apache-2.0
"""
Scale a grid search out
=======================

A grid search is many independent fits. joblib hands them to the
workers of a Dask cluster: the same lines serve two processes and a hundred machines.
"""

# %%
# A search
# --------
#
# Waves of one, two or three periods, and the paper's way to classify them: by the
# logits of a recogniser, with a trained perturbation. Every fit has its seed, so that
# it does not matter where and in which order they run.

import time
from importlib import import_module

import joblib
import matplotlib.pyplot as plt
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV

from sklearn_v2s import V2SClassifier

rng = np.random.default_rng(0)
angles = np.linspace(0, 2 * np.pi, 60)
y = np.arange(30) % 3 + 1
phases = rng.uniform(0, 2 * np.pi, size=(30, 1))
X = np.sin(y[:, None] * angles + phases) + rng.normal(scale=0.3, size=(30, 60))

classifier = V2SClassifier.from_paper(n_segments=8, max_epochs=3, random_state=0)
grid = {"mapping_size": [2, 14], "dropout": [0.0, 0.3]}


def search():
    """Return a fitted grid search; joblib's configuration says where it runs."""
    return GridSearchCV(classifier, grid, cv=2).fit(X, y)


# %%
# Here, and on a cluster
# ----------------------
#
# ``LocalCluster`` starts two worker processes on this machine. On a real cluster the
# address of its scheduler takes its place, ``Client("tcp://...")``, and the workers
# need the same packages. To start processes takes seconds: it is worth it for searches
# that take minutes, unlike this one.
#
# A worker process begins by importing the file that started it. What is behind the
# ``if`` runs only where the file is the program, and not once more in each worker.

if __name__ == "__main__":
    start = time.perf_counter()
    local_search = search()
    print(f"one process: {time.perf_counter() - start:.1f} s")

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as local,
        Client(local) as client,
        joblib.parallel_config(backend="dask"),
    ):
        # A worker's first fit would import PyTorch: let that be over.
        client.run(import_module, "sklearn_v2s")
        start = time.perf_counter()
        spread = search()
        print(f"two workers: {time.perf_counter() - start:.1f} s")

# %%
# The same result
# ---------------
#
# Not nearly the same: the scores of all settings on all folds are equal.

if __name__ == "__main__":
    scores = spread.cv_results_["mean_test_score"]
    same = np.array_equal(scores, local_search.cv_results_["mean_test_score"])
    print(f"equal scores: {same}; best {spread.best_params_}, {spread.best_score_:.3f}")

    sizes, dropouts = grid["mapping_size"], grid["dropout"]
    table = np.empty((len(sizes), len(dropouts)))
    for setting, score in zip(spread.cv_results_["params"], scores, strict=True):
        row = sizes.index(setting["mapping_size"])
        table[row, dropouts.index(setting["dropout"])] = score
    figure, axes = plt.subplots(figsize=(4.5, 3.5), layout="constrained")
    image = axes.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), score in np.ndenumerate(table):
        colour = "w" if score > 0.6 else "k"
        axes.text(column, row, f"{score:.2f}", ha="center", va="center", color=colour)
    axes.set(
        title="accuracy in cross-validation",
        xlabel="dropout",
        ylabel="mapping_size",
        xticks=range(len(dropouts)),
        xticklabels=dropouts,
        yticks=range(len(sizes)),
        yticklabels=sizes,
    )
    figure.colorbar(image, label="accuracy")
    plt.show()
