# SPDX-License-Identifier: Apache-2.0
"""Predictions stay what they were, on every machine.

The tolerances follow from the arithmetic. Source outputs in float32 are off by some
1e-6 of their size from one processor to another. The ridge mapping may divide by the
root of its smallest relative penalty, 1e-7, which makes some 3e-3 of a score of it; a
probability moves by at most a quarter of what its log-odds do. In float64 nothing is
left of that but the counts of the views "wave" and "slope", where a response that
equals a threshold up to rounding may fall on either side: a share of 128 time points
moves by 1/128, a tenth of its deviation, in one of some 5,000 features that have a norm
of 1 together, so by 1e-3 of the root mean square of the scores, and a probability by
about as much where the temperature makes log-odds of 5 of it. A few such responses are
allowed. A training in float32 starts with steps of the full learning rate in the
direction of each sign (Adam), also where a gradient is nothing but rounding: those of
the default are pinned in float64 therefore. A change of a seed, view or placement moves
probabilities by more than a tenth.
"""

import json

import numpy as np
import pytest

from tests.stored_predictions import (
    CASES,
    COUNTING,
    DOUBLE,
    ESTIMATORS,
    FILE,
    continued,
    datasets,
    feature_sums,
    predict,
)

STORED = json.loads(FILE.read_text(encoding="utf-8"))
VALUES = {
    (case["dataset"], case["estimator"]): np.array(case["values"])
    for case in STORED["cases"]
}
TOLERANCE_DOUBLE, TOLERANCE_SINGLE, TOLERANCE_TRAINED_SINGLE = 1e-4, 5e-3, 2e-2


def _tolerance(estimator: str) -> float:
    if estimator == "trained in float32":
        return TOLERANCE_TRAINED_SINGLE
    exact = estimator in DOUBLE and estimator not in COUNTING
    return TOLERANCE_DOUBLE if exact else TOLERANCE_SINGLE


@pytest.mark.parametrize(("dataset", "estimator"), CASES)
def test_probabilities_are_those_that_are_stored(dataset: str, estimator: str) -> None:
    probabilities = predict(dataset, estimator)
    if probabilities is None:
        pytest.skip(f"needs ../shared/ucr/{dataset}, which is not there")
    np.testing.assert_allclose(
        probabilities, VALUES[dataset, estimator], rtol=0, atol=_tolerance(estimator)
    )


def test_every_case_is_stored() -> None:
    assert set(VALUES) == set(CASES)
    assert {estimator for _, estimator in CASES} == set(ESTIMATORS)


def test_a_training_goes_on_as_it_did() -> None:
    np.testing.assert_allclose(
        continued(), STORED["continued"], rtol=0, atol=TOLERANCE_DOUBLE
    )


def test_features_are_those_that_are_stored() -> None:
    # Means over hundreds of features: rounding averages out.
    np.testing.assert_allclose(
        feature_sums(), STORED["feature_sums"], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "changed",
    [{"random_state": 1}, {"views": ["replicas", "wave"]}, {"normalization": "series"}],
    ids=str,
)
def test_a_change_would_be_noticed(changed: dict[str, object]) -> None:
    X, y, X_test, _ = datasets()["cylinder-bell-funnel"]  # type: ignore[misc]
    moved = ESTIMATORS["default of 0.1.0"]().set_params(**changed).fit(X, y)
    stored = VALUES["cylinder-bell-funnel", "default of 0.1.0"]
    difference = moved.predict_proba(X_test) - stored
    assert np.abs(difference).max() > 2 * TOLERANCE_SINGLE
