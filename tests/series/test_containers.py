# SPDX-License-Identifier: Apache-2.0
"""Containers that users of other libraries keep series and labels in."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils._testing import assert_array_equal

from sklearn_v2s import V2SClassifier
from sklearn_v2s.series.containers import as_arrays, label_array

SERIES = np.random.default_rng(0).normal(size=(6, 2, 9))
LABELS = np.array([0, 1, 0, 1, 0, 1])


def quick(**parameters):
    return V2SClassifier(
        source="tc-resnet:untrained",
        views="replicas",
        source_output="embedding",
        max_epochs=0,
        random_state=0,
        **parameters,
    )


def nested(collection):
    """As sktime's users have them: cells are whole series."""
    rows = [[pd.Series(channel) for channel in series] for series in collection]
    return pd.DataFrame(rows, columns=["x", "y"])


def index_of_two_levels(collection):
    conversion = pytest.importorskip("aeon.utils.conversion")
    return conversion.convert_collection(collection, "pd-multiindex")


def list_of_arrays(collection):
    return list(collection)


def rows_of_objects(collection):
    return nested(collection).to_numpy()


CONVERSIONS = [nested, index_of_two_levels, list_of_arrays, rows_of_objects]


@pytest.mark.parametrize("convert", CONVERSIONS)
def test_a_collection_in_another_container_gives_the_same_predictions(convert):
    converted = convert(SERIES)
    expected = quick().fit(SERIES, LABELS).predict_proba(SERIES)
    found = quick().fit(converted, LABELS).predict_proba(converted)
    assert_array_equal(found, expected)


@pytest.mark.parametrize("convert", CONVERSIONS)
def test_unequal_series_in_another_container(convert):
    unequal = [series[:, : 5 + number % 3] for number, series in enumerate(SERIES)]
    converted = as_arrays(convert(unequal))
    assert len(converted) == len(unequal)
    for found, expected in zip(converted, unequal, strict=True):
        assert_array_equal(found, expected)


def test_an_index_of_two_levels_keeps_the_order_of_the_series():
    index = pd.MultiIndex.from_product([["b", "a"], range(3)])
    frame = pd.DataFrame({"x": np.arange(6.0)}, index=index)
    assert_array_equal(as_arrays(frame), [[[0, 1, 2]], [[3, 4, 5]]])


def test_a_frame_of_numbers_keeps_the_names_of_its_columns():
    frame = pd.DataFrame(SERIES[:, 0], columns=list("abcdefghi"))
    assert quick().fit(frame, LABELS).feature_names_in_.tolist() == list("abcdefghi")


def test_channels_of_different_lengths_in_one_row():
    frame = pd.DataFrame({"x": [pd.Series([1.0, 2])], "y": [pd.Series([1.0, 2, 3])]})
    with pytest.raises(ValueError, match=r"series 0: its channels have \[2, 3\]"):
        as_arrays(frame)


class OfAnotherLibrary:
    """Refuses to become an array, as xarray's Dataset does."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("several variables")


def test_a_type_that_is_no_array_is_named():
    text = r"X is a .*OfAnotherLibrary.*several variables.*Accepted are an array-like"
    with pytest.raises(TypeError, match=text):
        quick().fit(OfAnotherLibrary(), LABELS)


@pytest.mark.parametrize(
    ("X", "name"),
    [
        ((row for row in SERIES), "generator"),
        ({"a": SERIES}, "dict"),
        ("series.csv", "str"),
        (None, "NoneType"),
        ({1, 2}, "set"),
        (3.0, "float"),
    ],
    ids=lambda value: str(value)[:9],
)
def test_what_is_no_collection_is_named(X, name):
    with pytest.raises(TypeError, match=f"X is a {name}. Accepted are an array-like"):
        quick().fit(X, LABELS)


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.astype(">f8"),
        np.asfortranarray,
        lambda X: X[:, ::-1].copy()[:, ::-1],
        lambda X: tuple(map(tuple, X)),
        torch.from_numpy,
        lambda X: pd.DataFrame(X, index=range(50, 56)).astype("Float64"),
    ],
    ids=["bytes swapped", "columns", "reversed", "tuples", "tensor", "nullable"],
)
def test_the_form_in_memory_does_not_matter(convert):
    X = SERIES[:, 0].copy()
    expected = quick().fit(X, LABELS).predict_proba(X)
    X.setflags(write=False)
    found = quick().fit(convert(X), LABELS).predict_proba(convert(X))
    assert_array_equal(found, expected)


TIMES = np.arange(54).reshape(6, 9)


@pytest.mark.parametrize(
    "X",
    [
        TIMES.astype("datetime64[s]"),
        TIMES.astype("timedelta64[s]"),
        pd.DataFrame(TIMES.astype("datetime64[s]")),
        list(TIMES.astype("timedelta64[s]")),
        [row[: 9 - number % 2] for number, row in enumerate(TIMES.astype("M8[s]"))],
        np.ma.masked_array(TIMES.astype("timedelta64[s]")),
    ],
    ids=["dates", "durations", "frame", "list", "unequal", "masked"],
)
def test_times_are_no_values_of_a_series(X):
    with pytest.raises(TypeError, match="which are times, not the values"):
        quick().fit(X, LABELS)


def test_masked_values_are_missing_values():
    masked = np.ma.masked_greater(SERIES[:, 0], 0.5)
    with pytest.raises(ValueError, match="missing values"):
        quick().fit(masked, LABELS)
    filled = masked.filled(np.nan)
    expected = quick(missing="interpolate").fit(filled, LABELS).predict_proba(filled)
    found = quick(missing="interpolate").fit(masked, LABELS).predict_proba(masked)
    assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("y", "error", "text"),
    [
        ([b"a", b"b"] * 3, TypeError, "type bytes.*decode"),
        (np.array([b"a", b"b"] * 3, dtype=object), TypeError, "type bytes.*decode"),
        (["a", "b", None] * 2, ValueError, "2 of 6 labels.*first at position 2"),
        ([0, np.nan, 1] * 2, ValueError, "2 of 6 labels.*first at position 1"),
        (pd.Series([pd.NA, 1, 2] * 2, dtype="Int64"), ValueError, "at position 0"),
        (np.array([1, "a"] * 3, dtype=object), TypeError, r"\['int', 'str'\]"),
    ],
    ids=["bytes", "objects", "none", "nan", "nullable", "mixed"],
)
def test_labels_that_are_refused(y, error, text):
    with pytest.raises(error, match=text):
        quick().fit(SERIES, y)


@pytest.mark.parametrize(
    ("dtype", "kind"), [("Int64", "i"), ("UInt8", "u"), ("boolean", "b")]
)
def test_nullable_labels_of_pandas_stay_what_they_are(dtype, kind):
    labels = pd.Series(LABELS, dtype=dtype)
    fitted = quick().fit(SERIES, labels)
    assert fitted.classes_.dtype.kind == kind
    assert_array_equal(fitted.classes_, [0, 1])
    assert fitted.predict(SERIES).dtype == fitted.classes_.dtype


def test_other_labels_are_left_as_they_are():
    labels = np.array(["a", "b"])
    assert label_array(labels) is labels
    assert label_array(None) is None


def unequal(lengths, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(2, length)).cumsum(1) for length in lengths]


def test_a_longer_series_is_resampled_and_that_is_said_once():
    fitted = quick().fit(unequal([5, 9, 7, 9, 8, 6]), LABELS)
    longer = unequal([12, 9, 17])
    with pytest.warns(UserWarning, match=r"2 of 3 series .* 9 time points.*17") as seen:
        found = fitted.predict_proba(longer)
    assert len(seen) == 1
    times = [np.linspace(0, series.shape[1] - 1, 9) for series in longer]
    resampled = [
        np.stack([np.interp(at, np.arange(len(c)), c) for c in series])
        for at, series in zip(times, longer, strict=True)
    ]
    assert_array_equal(found, fitted.predict_proba(resampled))


def test_the_official_parts_of_japanese_vowels():
    datasets = pytest.importorskip("aeon.datasets")
    X, y = datasets.load_japanese_vowels("train")
    X_test, y_test = datasets.load_japanese_vowels("test")
    fitted = V2SClassifier(views="tone", random_state=0).fit(X, y)
    with pytest.warns(UserWarning, match="1 of 370 series have more than 26"):
        predicted = fitted.predict(X_test)
    # Nine speakers: that many right answers by chance have a probability below 1e-30.
    assert np.mean(predicted == y_test) > 0.5


@pytest.mark.parametrize("normalization", ["global", "series", None])
def test_a_channel_without_any_value_is_silent(normalization):
    X = SERIES.copy()
    X[1, 0] = np.nan
    model = quick(missing="interpolate", normalization=normalization)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = model.fit(X, LABELS)
    silent = fitted._normalizer.transform(X)[1, 0]
    assert_array_equal(silent, np.zeros(9))
    assert np.isfinite(fitted.predict_proba(X)).all()
