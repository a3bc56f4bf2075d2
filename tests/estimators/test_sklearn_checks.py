# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's own checks of estimators, with the default settings."""

from functools import partial

from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_v2s import V2SClassifier, V2STransformer

# Checks whose tolerance is finer than the rounding of float32. They run with
# precision="float64"; all others run with the defaults.
IN_FLOAT64 = {
    "check_sample_weight_equivalence_on_dense_data": (
        "asks for 1e-9; repeated rows make batches of another size, whose sums float32 "
        "rounds otherwise: 4e-7 in predict_proba"
    ),
}


def check_name(check) -> str:
    return check.func.__name__ if isinstance(check, partial) else check.__name__


@parametrize_with_checks([V2SClassifier(), V2STransformer()])
def test_the_estimators_pass_the_checks_of_scikit_learn(estimator, check):
    if check_name(check) in IN_FLOAT64:
        estimator = clone(estimator).set_params(precision="float64")
    check(estimator)
