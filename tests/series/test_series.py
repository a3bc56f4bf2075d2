# SPDX-License-Identifier: Apache-2.0
"""Series of every shape and kind that users bring, and their normalisation."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin

from sklearn_v2s.series import SeriesNormalizer, check_series, interpolate_missing

quick = settings(max_examples=50, deadline=None)
nan, inf = np.nan, np.inf


class Model(ClassifierMixin, BaseEstimator):
    """An estimator that checks as the package's own do."""

    def __init__(self, missing="error"):
        self.missing = missing

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing == "interpolate"
        return tags

    def read(self, X, y="no_validation", reset=False):
        """Return the series of X, checked."""
        return check_series(self, X, y, reset=reset, missing=self.missing)[0]


def fitted(X, missing="error"):
    """Return a model that has seen X in fit."""
    model = Model(missing)
    model.read(X, reset=True)
    return model


def objects(*series):
    """Return a one-dimensional array of arrays."""
    array = np.empty(len(series), dtype=object)
    for number, one in enumerate(series):
        array[number] = one
    return array


def shape_of(model):
    """Return what a fit has remembered."""
    return model.n_channels_in_, model.n_timepoints_in_, model.n_features_in_


# --- kinds of X ----------------------------------------------------------------------

TABLE = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    "X",
    [
        TABLE,
        TABLE.tolist(),
        TABLE.astype(np.float32),
        TABLE.astype(int),
        TABLE.astype(object),
        np.asfortranarray(TABLE),
        TABLE[::-1][::-1],
        pd.DataFrame(TABLE),
        torch.tensor(TABLE),
        TABLE[:, None, :],
        TABLE[:, None, :].tolist(),
        TABLE[:, None, :].astype(object),
        torch.tensor(TABLE)[:, None, :],
        list(TABLE),
        tuple(TABLE),
        objects(*TABLE),
        objects(*TABLE[:, None, :]),
        [row.tolist() for row in TABLE],
        [pd.Series(row) for row in TABLE],
    ],
    ids=lambda X: f"{type(X).__name__}-{np.ndim(X)}-{getattr(X, 'dtype', '')}",
)
def test_the_same_data_in_many_forms(X):
    model = Model()
    series = model.read(X, reset=True)
    assert series.dtype == np.float64
    assert_array_equal(series, TABLE[:, None, :])
    assert shape_of(model) == (1, 4, 4)
    assert model.unequal_length_ is False
    assert_array_equal(model.read(X), TABLE[:, None, :])
    assert_array_equal(model.read(TABLE[:, None, :]), TABLE[:, None, :])


def test_booleans_are_numbers():
    series = Model().read([[True, False], [False, False]], reset=True)
    assert_array_equal(series, [[[1.0, 0.0]], [[0.0, 0.0]]])


@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist, torch.tensor])
def test_channels_of_one_length(convert):
    X = np.arange(24.0).reshape(2, 3, 4)
    model = Model()
    assert_array_equal(model.read(convert(X), reset=True), X)
    assert shape_of(model) == (3, 4, 12)


@pytest.mark.parametrize("container", [list, tuple, lambda cases: objects(*cases)])
@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist, torch.tensor])
def test_series_of_unequal_length_end_in_nan(container, convert):
    cases = [np.array([1.0, 2.0, 3.0]), np.array([4.0]), np.array([5.0, 6.0])]
    X = container([convert(case) for case in cases])
    model = Model()
    series = model.read(X, reset=True)
    expected = [[[1, 2, 3]], [[4, nan, nan]], [[5, 6, nan]]]
    assert_array_equal(series, expected)
    assert shape_of(model) == (1, 3, 3)
    assert model.unequal_length_ is True
    assert_array_equal(model.read(X), expected)


def test_channels_of_series_of_unequal_length():
    X = [np.ones((2, 3)), 2 * np.ones((2, 5))]
    model = Model()
    series = model.read(X, reset=True)
    assert_array_equal(series[0], [[1, 1, 1, nan, nan]] * 2)
    assert_array_equal(series[1], 2 * np.ones((2, 5)))
    assert shape_of(model) == (2, 5, 10)


def test_one_channel_may_be_written_with_or_without_its_axis():
    series = Model().read([np.ones((1, 3)), np.ones(2)], reset=True)
    assert_array_equal(series, [[[1, 1, 1]], [[1, 1, nan]]])


def test_the_input_is_left_as_it_is():
    X = np.array([[1.0, nan, 3.0]])
    table, ragged = X.copy(), [X[0].copy(), X[0, :2].copy()]
    fitted(table, "interpolate")
    fitted(ragged, "interpolate")
    assert_array_equal(table, X)
    assert_array_equal(ragged[0], X[0])
    assert_array_equal(ragged[1], X[0, :2])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "Expected 2D array, got 1D"),
        ([1.0, 2.0], "Expected 2D array, got 1D"),
        (np.ones(4), "Expected 2D array, got 1D"),
        (objects(1.0, 2.0), "Expected 2D array, got 1D"),
        (pd.Series([1.0, 2.0]), "Expected"),
        (
            np.ones((2, 3, 4, 5)),
            r"shape \(2, 3, 4, 5\); allowed are \(n, n_timepoints\)",
        ),
        (np.ones((2, 0, 4)), r"shape \(2, 0, 4\); allowed.*at least one channel"),
        (np.ones((2, 3, 0)), r"shape \(2, 3, 0\); allowed.*one time point"),
        (np.ones((2, 0)), "0 feature"),
        (np.ones((0, 4)), "0 sample"),
        (np.ones((0, 2, 4)), "0 sample"),
        ([[], [1.0]], "X, series 0: .*0 feature"),
        ([[1.0], []], "X, series 1: .*0 feature"),
        (np.ones((2, 4)) * 1j, "Complex data not supported"),
        (np.ones((2, 3, 4)) * 1j, "Complex data not supported"),
        ([[1.0], [1j, 2.0]], "X, series 1: Complex data not supported"),
        ([["a", "b"], ["c", "d"]], "strings"),
        ([["1", "2"], ["3", "4"]], "strings"),
        ([["1", "2"], ["3"]], "X, series 0: .*strings"),
        ([[1.0, 2.0], ["a"]], "X, series 1: .*strings"),
        (["up", "down"], "Expected 2D array, got 1D"),
        (np.array([["a", "b"]], dtype=object), "could not convert string"),
        (np.array([[["a", "b"]]], dtype=object), "could not convert string"),
        ([[[1, 2], [3]], [[1, 2], [3, 4]]], "channels have different lengths"),
        ([[1.0, 2.0], 3.0], "mixes series and single values"),
        ([None, [1.0, 2.0]], "mixes series and single values"),
        (objects(np.ones(2), None), "mixes series and single values"),
        ([np.ones((2, 3)), np.ones(4)], r"different numbers of channels: \[1, 2\]"),
        ([np.ones((2, 3)), np.ones((2, 3, 4))], "X, series 1: Found array with dim 3"),
    ],
    ids=lambda value: repr(value)[:40],
)
@pytest.mark.parametrize("missing", ["error", "interpolate"])
def test_what_is_no_series_is_refused(X, message, missing):
    with pytest.raises(ValueError, match=message):
        Model(missing).read(X, reset=True)


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.coo_array])
@pytest.mark.parametrize(
    "seen", [TABLE, [TABLE[0], TABLE[1, :2]]], ids=["table", "list"]
)
def test_sparse_input_is_refused(make, seen):
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        Model().read(make(TABLE), reset=True)
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        fitted(seen).read(make(TABLE))


@pytest.mark.parametrize("value", [inf, -inf])
@pytest.mark.parametrize("missing", ["error", "interpolate"])
@pytest.mark.parametrize("form", ["table", "stack", "list"])
def test_infinity_is_refused(value, missing, form):
    table = np.array([[1.0, 2.0, 3.0], [1.0, value, 3.0]])
    forms = {"table": table, "stack": table[:, None], "list": [[1.0, 2.0], table[1]]}
    where = "X, series 1" if form == "list" else "X"
    with pytest.raises(ValueError, match=f"{where}.*contains infinity"):
        Model(missing).read(forms[form], reset=True)


# --- y -------------------------------------------------------------------------------

FORMS = {
    "table": TABLE,
    "stack": np.ones((3, 2, 4)),
    "list": [[1.0], [1.0, 2.0], [3.0]],
}


@pytest.mark.parametrize("form", FORMS)
def test_y_is_checked_with_x(form):
    model, X = Model(), FORMS[form]
    _, y = check_series(model, X, ["a", "b", "a"], reset=True, missing="error")
    assert_array_equal(y, ["a", "b", "a"])
    for wrong, message in (
        (["a", "b"], "inconsistent numbers of samples"),
        (None, "requires y to be passed"),
        ([1.0, nan, 2.0], "NaN"),
        (np.ones((3, 2)), "1d array"),
    ):
        with pytest.raises(ValueError, match=message):
            check_series(model, X, wrong, reset=True, missing="error")


# --- missing values ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "filled"),
    [
        ([1, nan, 3], [1, 2, 3]),
        ([1, nan, nan, 7], [1, 3, 5, 7]),
        ([nan, nan, 3, 4], [3, 3, 3, 4]),
        ([1, 2, nan, nan], [1, 2, 2, 2]),
        ([nan, 5, nan], [5, 5, 5]),
        ([1, 2, 3], [1, 2, 3]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("form", ["table", "stack", "list"])
def test_missing_values_are_interpolated(values, filled, form):
    # A second channel or series, to see that nothing leaks from one to the other.
    other = [10.0] * len(values)
    if form == "table":
        X, expected = [values, other], [[filled], [other]]
    elif form == "stack":
        X, expected = (
            [[other, values], [values, other]],
            [
                [other, filled],
                [filled, other],
            ],
        )
    else:
        X, expected = [values, [10.0]], [[filled], [[10.0] + [nan] * (len(values) - 1)]]
    model = Model("interpolate")
    assert_allclose(model.read(X, reset=True), expected, rtol=1e-15)
    assert_allclose(model.read(X), expected, rtol=1e-15)


@quick
@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=8),
        elements=st.one_of(st.just(nan), st.floats(-10, 10)),
    )
)
def test_interpolation_follows_a_plain_loop(series):
    series[:, :, 0] = np.nan_to_num(series[:, :, 0])
    before = series.copy()
    filled = interpolate_missing(series)
    assert_array_equal(series, before)
    for i, c, t in np.ndindex(series.shape):
        values = series[i, c]
        if not np.isnan(values[t]):
            assert filled[i, c, t] == values[t]
            continue
        left = max(s for s in range(t) if not np.isnan(values[s]))
        after = [s for s in range(t, len(values)) if not np.isnan(values[s])]
        share = (t - left) / (after[0] - left) if after else 0.0
        right = values[after[0]] if after else values[left]
        expected = (1 - share) * values[left] + share * right
        assert filled[i, c, t] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("X", "place"),
    [
        ([[1.0, 2.0], [nan, nan]], "series 1"),
        (np.array([[[nan, nan], [nan, nan]]]), "series 0"),
        ([[1.0, 2.0, 3.0], [1.0], [nan, nan]], "series 2"),
        ([np.ones((2, 3)), np.array([[nan], [nan]])], "series 1"),
    ],
    ids=["table", "stack", "list", "channels"],
)
def test_a_series_without_any_value_is_named(X, place):
    with pytest.raises(ValueError, match=f"X, {place}: all values are missing"):
        Model("interpolate").read(X, reset=True)


@pytest.mark.parametrize("form", ["table", "stack", "list", "frame"])
def test_missing_values_are_an_error_unless_asked_for(form):
    table = np.array([[1.0, 2.0], [nan, 3.0]])
    forms = {
        "table": table,
        "stack": table[:, None],
        "list": [[1.0, 2.0, 3.0], table[1]],
        "frame": pd.DataFrame(table),
    }
    with pytest.raises(
        ValueError,
        match=r"X contains NaN: series 1 has 1 missing.*missing='interpolate'",
    ):
        Model().read(forms[form], reset=True)
    model = fitted(np.ones_like(table) if form != "list" else [[1.0] * 3, [1.0]])
    with pytest.raises(
        ValueError,
        match=r"X contains NaN: series 1 has 1 missing.*missing='interpolate'",
    ):
        model.read(forms[form])


@pytest.mark.parametrize("missing", ["error", "interpolate"])
def test_a_short_series_is_the_same_by_itself_and_in_a_batch(missing):
    model = fitted([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]], missing)
    together = model.read([[5.0, 6.0], [1.0, 2.0, 3.0]])[0]
    assert_array_equal(together, [[5, 6, nan, nan]])
    for single in ([[5.0, 6.0]], np.array([[5.0, 6.0]]), np.array([[[5.0, 6.0]]])):
        assert_array_equal(model.read(single)[0], together)


def test_a_short_series_with_a_gap_is_filled_and_still_ends():
    model = fitted([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]], "interpolate")
    assert_array_equal(model.read([[5.0, nan, 7.0]]), [[[5, 6, 7, nan]]])
    assert_array_equal(model.read([[5.0, 6.0, nan]]), [[[5, 6, 6, nan]]])


# --- shapes at prediction ------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "X", "message"),
    [
        (TABLE, np.ones((1, 5)), "X has 5 features, but Model is expecting 4 features"),
        (TABLE, np.ones((1, 1, 5)), "X has 5 time points.*Model.*expecting 4 time"),
        (TABLE, np.ones((1, 2, 4)), "X has 2 channels.*Model.*expecting 1 channels"),
        (TABLE, [[1.0], [1.0, 2.0]], "series of unequal length.*Model.*expecting 4"),
        (TABLE, [[1.0], [1.0] * 4], "series of unequal length.*Model.*expecting 4"),
        (np.ones((1, 2, 4)), np.ones((1, 8)), "X has 1 channels.*Model.*expecting 2"),
        (np.ones((1, 2, 4)), np.ones((1, 4)), "X has 4 features.*Model.*expecting 8"),
        (np.ones((1, 2, 4)), np.ones((1, 2, 3)), "3 time points.*Model.*expecting 4"),
        (np.ones((1, 2, 4)), np.ones((1, 1, 8)), "X has 1 channels.*expecting 2"),
        ([[1.0] * 3, [1.0]], np.ones((1, 2, 3)), "X has 2 channels.*expecting 1"),
        ([[1.0] * 3, [1.0]], np.ones(3), "Expected 2D array, got 1D"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_other_shapes_at_prediction_are_refused(seen, X, message):
    with pytest.raises(ValueError, match=message):
        fitted(seen).read(X)


def test_names_of_columns_are_remembered_checked_and_forgotten():
    frame = pd.DataFrame(TABLE, columns=list("abcd"))
    model = fitted(frame)
    assert_array_equal(model.feature_names_in_, list("abcd"))
    assert_array_equal(model.read(frame), TABLE[:, None])
    with pytest.raises(ValueError, match="feature names should match"):
        model.read(frame[list("dcba")])
    for other in (np.ones((2, 1, 3)), [[1.0], [1.0, 2.0]], TABLE):
        model = fitted(frame)
        model.read(other, reset=True)
        assert not hasattr(model, "feature_names_in_")


# --- normalisation -------------------------------------------------------------------


def normalise(mode, series, weight=None):
    return SeriesNormalizer(mode).fit(series, weight).transform(series)


def example(seed=0, n=6, n_channels=2, n_timepoints=9):
    rng = np.random.default_rng(seed)
    return rng.normal(3.0, 2.0, (n, n_channels, n_timepoints))


def test_global_makes_each_channel_standard_over_the_training_data():
    series = example() * np.array([[1.0], [50.0]]) + np.array([[0.0], [7.0]])
    normal = normalise("global", series)
    assert_allclose(normal.mean(axis=(0, 2)), 0, atol=1e-14)
    assert_allclose(normal.std(axis=(0, 2)), 1, rtol=1e-14)
    # What is new is measured with what was learned.
    learned = SeriesNormalizer("global").fit(series)
    moved = learned.transform(series + 1.0) - learned.transform(series)
    assert_allclose(moved * learned.scale_, 1.0, rtol=1e-12)


def test_series_makes_each_channel_of_each_series_standard():
    series = example() * np.logspace(-3, 3, 6)[:, None, None]
    normal = normalise("series", series)
    assert_allclose(normal.mean(axis=2), 0, atol=1e-13)
    assert_allclose(normal.std(axis=2), 1, rtol=1e-13)


def test_none_leaves_the_values_alone():
    series = example()
    assert_array_equal(normalise(None, series), series)


@pytest.mark.parametrize("mode", ["global", "series", None])
def test_the_end_of_a_shorter_series_is_silent_and_counts_for_nothing(mode):
    series = example(n_timepoints=9)
    series[::2, :, 4:] = nan
    normal = normalise(mode, series)
    assert (normal[::2, :, 4:] == 0).all()
    assert np.isfinite(normal).all()
    if mode == "global":
        for channel in range(2):
            known = ~np.isnan(series[:, channel])
            values = series[:, channel][known]
            expected = (values - values.mean()) / values.std()
            assert_allclose(normal[:, channel][known], expected, rtol=1e-12)
    if mode == "series":
        short = normalise(mode, series[::2, :, :4])
        assert_allclose(normal[::2, :, :4], short, rtol=1e-13)


@quick
@given(
    st.lists(st.integers(0, 4), min_size=6, max_size=6).filter(any),
    st.booleans(),
    st.integers(0, 99),
)
def test_an_integer_weight_is_a_repetition(counts, unequal, seed):
    series = example(seed)
    if unequal:
        series[::2, :, 5:] = nan
    counts = np.array(counts)
    weighted = SeriesNormalizer("global").fit(series, counts.astype(float))
    repeated = SeriesNormalizer("global").fit(series.repeat(counts, axis=0))
    assert_allclose(weighted.mean_, repeated.mean_, rtol=1e-12)
    assert_allclose(weighted.scale_, repeated.scale_, rtol=1e-12)


@pytest.mark.parametrize("mode", ["global", "series"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3, 1e-8, 1e8 / 3, -1e8 / 7])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 7), (2000, 3, 11), (3, 2, 9999)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_constant_series_becomes_silence(mode, value, shape, order):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        normal = normalise(mode, np.full(shape, value, order=order))
    # What rounding leaves of the mean is not blown up.
    assert np.abs(normal).max() <= 1e-7


def test_one_constant_channel_does_not_touch_the_other():
    series = example()
    flat = series.copy()
    flat[:, 1] = 0.1
    normal = normalise("global", flat)
    assert_array_equal(normal[:, 0], normalise("global", series)[:, 0])
    assert_allclose(normal[:, 1], 0, atol=1e-15)


@pytest.mark.parametrize("mode", ["global", "series"])
@pytest.mark.parametrize(
    ("level", "scale"),
    [(0, 1e-8), (0, 1e8), (1e-8, 1e-8), (-1, 1e-8), (-1, 1e8), (1e8, 1e-3), (1e8, 1e8)],
)
def test_level_and_scale_do_not_matter(mode, level, scale):
    series = example()
    normal = normalise(mode, scale * series + level)
    rounding = 1e-15 * max(abs(level) / scale, 1.0)
    assert_allclose(normal, normalise(mode, series), atol=100 * rounding)


def test_a_small_variation_on_a_large_level_is_no_constant():
    series = 1e8 + 1e-6 * np.round(example() * 4)
    assert normalise("global", series).std() == pytest.approx(1.0, rel=1e-6)
