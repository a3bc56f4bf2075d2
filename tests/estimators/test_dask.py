# SPDX-License-Identifier: Apache-2.0
"""A grid search on the workers of a Dask cluster, and the example that shows one."""

import os
import runpy
from pathlib import Path

import distributed
import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV

from tests.small import WORDS, make_classifier, make_series
from tests.tiny_source import TinySource

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plot_dask.py"


def score_and_process(estimator, X, y):
    """Return accuracy, log-likelihood and the process in which they were computed."""
    truth = np.searchsorted(estimator.classes_, y)
    own = estimator.predict_log_proba(X)[np.arange(len(y)), truth]
    return {
        "accuracy": estimator.score(X, y),
        "likelihood": own.mean(),
        "process": os.getpid(),
    }


def search(n_jobs=None):
    X, y = make_series(n=36)
    return GridSearchCV(
        make_classifier(TinySource(), max_epochs=2, **WORDS),
        {"mapping_size": [1, 3], "dropout": [0.0, 0.3]},
        cv=2,
        scoring=score_and_process,
        refit="likelihood",
        n_jobs=n_jobs,
    ).fit(X, y)


@pytest.fixture(scope="module")
def client():
    """Return a client of two worker processes that talk over the loopback."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_grid_search_on_two_workers_equals_one_in_this_process(client):
    local = search(n_jobs=1)
    with joblib.parallel_config(backend="dask"):
        spread = search()
    for metric in ("accuracy", "likelihood"):
        for split in (0, 1):
            column = f"split{split}_test_{metric}"
            assert_array_equal(spread.cv_results_[column], local.cv_results_[column])
    # The settings do differ, or equal scores would say nothing.
    assert len(set(local.cv_results_["split0_test_likelihood"])) == 4
    assert spread.best_params_ == local.best_params_
    X, _ = make_series(n=36)
    assert_array_equal(spread.predict_proba(X), local.predict_proba(X))

    columns = [f"split{split}_test_process" for split in (0, 1)]
    here = {process for name in columns for process in local.cv_results_[name]}
    assert here == {os.getpid()}
    there = {process for name in columns for process in spread.cv_results_[name]}
    # Two workers took part, unless one of them was quick enough for all.
    assert there <= set(client.run(os.getpid).values())


def test_a_worker_that_imports_the_example_starts_no_cluster_of_its_own(monkeypatch):
    def start(*args, **kwargs):
        raise AssertionError("the example starts a cluster when it is imported")

    monkeypatch.setattr(distributed, "LocalCluster", start)
    monkeypatch.setattr(GridSearchCV, "fit", start)
    # The name under which a process that is spawned imports the program.
    names = runpy.run_path(str(EXAMPLE), run_name="__mp_main__")
    assert callable(names["search"]) and "spread" not in names
    with pytest.raises(AssertionError, match="starts a cluster"):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
