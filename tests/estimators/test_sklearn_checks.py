# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's own checks of estimators."""

from functools import partial

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator

from sklearn_v2s import V2SClassifier, V2STransformer

QUICK, TRAINED = V2SClassifier(max_epochs=0), V2SClassifier(max_epochs=1)
# Checks whose tolerance is finer than the rounding of float32. They run with
# precision="float64"; all others run in float32.
IN_FLOAT64 = {
    "check_sample_weight_equivalence_on_dense_data": (
        "asks for 1e-9; repeated rows make batches of another size, whose sums float32 "
        "rounds otherwise: 4e-7 in predict_proba"
    ),
    "check_methods_subset_invariance": (
        "asks for 1e-7; of a series alone the convolutions of tc-resnet make other "
        "sums than of a batch, and logits of size 5 are off by 5e-6"
    ),
}
# A training takes steps of some series each: repeated rows make other batches. In one
# batch weights and repetitions agree, see test_classifier_mappings.py.
NOT_TRAINED = {"check_sample_weight_equivalence_on_dense_data"}
# The whole training of the default: what it must not forget, change or depend on.
OF_DEFAULT = {
    "check_classifiers_one_label",
    "check_dict_unchanged",
    "check_fit_idempotent",
    "check_fit2d_1sample",
}


def check_name(check) -> str:
    return check.func.__name__ if isinstance(check, partial) else check.__name__


def cases():
    attrnn = V2STransformer("attrnn", source_output="embedding")
    for name, estimator in {
        "quick": QUICK,
        "trained": TRAINED,
        "default": V2SClassifier(),
        "transformer": V2STransformer(),
        "transformer on AttRNN": attrnn,
    }.items():
        for estimator_, check in estimator_checks_generator(estimator):
            of = check_name(check)
            if name == "trained" and of in NOT_TRAINED:
                continue
            if name == "default" and of not in OF_DEFAULT:
                continue
            if estimator is attrnn and of != "check_methods_subset_invariance":
                continue
            single = estimator is attrnn or of not in IN_FLOAT64
            yield pytest.param(estimator_, check, single, id=f"{name}-{of}")


@pytest.mark.parametrize(("estimator", "check", "single"), list(cases()))
def test_the_estimators_pass_the_checks_of_scikit_learn(estimator, check, single):
    if not single:
        estimator = clone(estimator).set_params(precision="float64")
    check(estimator)


def test_the_checks_are_those_of_scikit_learn():
    generated = {check_name(check) for _, check in estimator_checks_generator(QUICK)}
    assert generated >= {*IN_FLOAT64, *NOT_TRAINED, *OF_DEFAULT}
