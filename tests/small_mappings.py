# SPDX-License-Identifier: Apache-2.0
"""Each label mapping, data to fit it to, and when two fits are the same."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_v2s.label_mapping import (
    BayesianLabelMapping,
    ContiguousLabelMapping,
    FrequencyLabelMapping,
    IterativeLabelMapping,
    LinearLabelMapping,
    RandomLabelMapping,
)

GROUPS = [
    RandomLabelMapping(random_state=0),
    ContiguousLabelMapping(),
    FrequencyLabelMapping(),
    IterativeLabelMapping(),
]
SOURCE_CLASS_MAPPINGS = [
    *GROUPS,
    BayesianLabelMapping(),
    BayesianLabelMapping(plus=True),
]
LINEAR = [LinearLabelMapping(), LinearLabelMapping(solver="logistic")]
ALL = [*SOURCE_CLASS_MAPPINGS, *LINEAR]

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
each = pytest.mark.parametrize("mapping", ALL, ids=repr)
each_source_class = pytest.mark.parametrize("mapping", SOURCE_CLASS_MAPPINGS, ids=repr)
each_group = pytest.mark.parametrize("mapping", GROUPS, ids=repr)
each_linear = pytest.mark.parametrize("mapping", LINEAR, ids=repr)
each_solver = pytest.mark.parametrize("solver", ["ridge", "logistic"])

# Short and long blocks, a single feature, and both sides of the limit of 32.
SIZES = [31, 32, 1, 50, 6]
BLOCKS = pytest.mark.parametrize(
    "sizes", [SIZES, [120], [1] * 9, [2, 3, 1], [40, 33]], ids=str
)


def make_data(seed=0, n=30, k=9, c=3):
    """Return scores that tell c classes apart with some errors, and all c labels."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(c), rng.integers(0, c, n - c)])
    centres = rng.normal(size=(c, k))
    return 1.5 * centres[codes] + rng.normal(size=(n, k)), codes


def make_block_data(n=24, sizes=SIZES, n_classes=3, seed=0):
    """Return features whose blocks are of very different scales, and classes."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n)])[:n]
    d = sum(sizes)
    centres = rng.normal(size=(n_classes, d))
    # Series that are louder than others, as responses of kernels are.
    loudness = rng.uniform(0.3, 3, size=(n, 1))
    rows = loudness * (0.7 * centres[codes] + rng.normal(size=(n, d)))
    return rows * rng.uniform(0.01, 100, size=d) + rng.normal(size=d), codes


def float_state(mapping):
    """Return the fitted numbers of a mapping, by name."""
    return {
        name: np.asarray(value)
        for name, value in vars(mapping).items()
        if name.endswith("_") and name not in {"classes_", "n_iter_"}
    }


def tolerance(mapping):
    """Return what rounding may do: an iterative solver stops within `tol`."""
    iterative = getattr(mapping, "solver", None) == "logistic"
    return {"rtol": 1e-4, "atol": 1e-5} if iterative else {"rtol": 1e-6, "atol": 1e-8}


def assert_same_fit(first, second):
    assert_array_equal(first.classes_, second.classes_)
    expected = float_state(second)
    assert float_state(first).keys() == expected.keys()
    for name, value in float_state(first).items():
        assert_allclose(value, expected[name], **tolerance(first), err_msg=name)
