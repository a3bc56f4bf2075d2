# SPDX-License-Identifier: Apache-2.0
"""Bad input: each a clear error, or handled as documented."""

import random
import re

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_v2s import V2SClassifier, V2STransformer
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.sources import CheckpointError, SourceContractError, SourceOutputs
from sklearn_v2s.sources.registry import shipped_checkpoint
from tests.small import WORDS, make_classifier, make_series
from tests.tiny_source import TinySource


@pytest.fixture
def make(tiny_source):
    """Return a function that makes classifiers on the tiny source."""

    def make_on_tiny_source(**parameters):
        return make_classifier(tiny_source, **({"max_epochs": 1} | parameters))

    return make_on_tiny_source


def changed(X, value):
    """Return X with one value replaced."""
    X = X.astype(np.result_type(X, type(value)))
    X[3, 5] = value
    return X


# --- X -------------------------------------------------------------------------------

# What is wrong with X, how it is made from good series, and what the error says.
BAD_X = {
    "NaN": (lambda X: changed(X, np.nan), ValueError, "X contains NaN"),
    "infinity": (lambda X: changed(X, np.inf), ValueError, "X contains infinity"),
    "minus infinity": (lambda X: changed(X, -np.inf), ValueError, "contains infinity"),
    "NaN in channels": (
        lambda X: np.stack([X, changed(X, np.nan)], axis=1),
        ValueError,
        "X contains NaN",
    ),
    "NaN in an unequal list": (
        lambda X: [*X[:-1], np.array([1.0, np.nan])],
        ValueError,
        "X contains NaN: series 35 has 1 missing values. Set missing='interpolate'",
    ),
    "no series": (lambda X: X[:0], ValueError, "0 sample"),
    "no series of channels": (lambda X: X[:0, None], ValueError, "0 sample"),
    "no time points": (lambda X: X[:, :0], ValueError, "0 feature"),
    "no time points of channels": (lambda X: X[:, None, :0], ValueError, "shape"),
    "an empty list": (lambda X: [], ValueError, "1D array"),
    "an empty series in a list": (
        lambda X: [*X[:-1], np.array([])],
        ValueError,
        "X, series 35: .*0 feature",
    ),
    "one series without its axis": (lambda X: X[0], ValueError, "1D array"),
    "a number": (lambda X: 3.0, TypeError, "X is a float. Accepted are"),
    "None": (lambda X: None, TypeError, "X is a NoneType. Accepted are"),
    "four dimensions": (
        lambda X: X[:, None, None],
        ValueError,
        r"shape \(36, 1, 1, 24\); allowed are",
    ),
    "complex": (lambda X: X + 1j, ValueError, "Complex data not supported"),
    "complex channels": (lambda X: X[:, None] + 1j, ValueError, "Complex"),
    "sparse": (lambda X: scipy.sparse.csr_array(X), TypeError, "[Ss]parse"),
    "strings": (
        lambda X: X.astype(str).astype("U3") + "x",
        ValueError,
        "string|numeric",
    ),
    "objects that are no numbers": (
        lambda X: changed(X.astype(object), {}),
        TypeError,
        "a real number, not 'dict'",
    ),
    "different numbers of channels": (
        lambda X: [np.zeros((1, 9)), *[np.zeros((2, 9))] * 35],
        ValueError,
        r"different numbers of channels: \[1, 2\]",
    ),
    "channels of different lengths": (
        lambda X: [[[1.0, 2.0], [1.0]], *[[[1.0, 2.0], [1.0, 2.0]]] * 35],
        ValueError,
        "X holds a series whose channels have different lengths",
    ),
    "series and numbers": (
        lambda X: [1.0, *X[1:]],
        ValueError,
        "X mixes series and single values",
    ),
    "values whose variance overflows": (
        lambda X: 1e200 * X,
        ValueError,
        r"X has values as large as .*e\+200.*Scale the series down",
    ),
}


@pytest.mark.parametrize("kind", BAD_X)
def test_a_bad_x_is_a_clear_error_in_fit(make, tiny_source, kind):
    spoil, error, message = BAD_X[kind]
    X, y = make_series()
    bad = spoil(X)
    classifier = make()
    with pytest.raises(error, match=message):
        classifier.fit(bad, y)
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    with pytest.raises(error, match=message):
        V2STransformer(tiny_source, device="cpu").fit(bad)


AT_PREDICT = [kind for kind in BAD_X if "variance" not in kind]


@pytest.mark.parametrize("kind", AT_PREDICT)
@pytest.mark.parametrize("method", ["predict", "reprogram"])
def test_a_bad_x_is_an_error_after_fit(make, kind, method):
    spoil, error, message = BAD_X[kind]
    X, y = make_series()
    fitted = make(max_epochs=0).fit(X, y)
    with pytest.raises(error, match=message):
        getattr(fitted, method)(spoil(X))
    assert len(fitted.predict(X)) == 36


def test_objects_that_are_numbers_are_read_as_such(make):
    X, y = make_series()
    expected = make().fit(X, y).predict_proba(X)
    fitted = make().fit(X.astype(object), y)
    assert_array_equal(fitted.predict_proba(X.astype(object)), expected)


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.float16, bool])
def test_numbers_of_any_kind_are_series(make, kind):
    X, y = make_series()
    X = (10 * X + 50).astype(kind)
    expected = make().fit(X.astype(float), y).predict_proba(X.astype(float))
    assert_array_equal(make().fit(X, y).predict_proba(X), expected)


def test_one_sample_is_one_class_and_an_error(make):
    X, y = make_series()
    with pytest.raises(ValueError, match="one class"):
        make().fit(X[:1], y[:1])
    assert make().fit(X, y).predict(X[:1]).shape == (1,)


@pytest.mark.parametrize("mapping", ["linear", "random", "bayesian"])
def test_one_time_point_is_a_series(make, mapping):
    X, y = make_series(n_timepoints=1)
    X = X + 3.0 * y[:, None]
    output = "embedding" if mapping == "linear" else "logits"
    fitted = make(label_mapping=mapping, source_output=output, n_segments="auto")
    probabilities = fitted.fit(X, y).predict_proba(X)
    assert np.isfinite(probabilities).all()
    assert len(np.unique(probabilities)) > 2


@pytest.mark.parametrize("normalization", ["global", "series", None])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_series_give_constant_predictions(make, normalization, value):
    X, y = np.full((12, 24), value), np.arange(12) % 2
    fitted = make(normalization=normalization).fit(X, y)
    probabilities = fitted.predict_proba(X)
    assert np.isfinite(probabilities).all()
    assert np.ptp(probabilities, axis=0).max() < 1e-6


def test_one_constant_series_among_others_is_a_series(make):
    X, y = make_series()
    X[4] = 2.5
    for normalization in ("global", "series"):
        fitted = make(normalization=normalization).fit(X, y)
        assert np.isfinite(fitted.predict_proba(X)).all()


def test_values_too_large_for_float32_name_the_remedy(make):
    X, y = make_series()
    with pytest.raises(
        ValueError, match=r"normalization=None.*precision='float32'.*'global'"
    ):
        make(normalization=None).fit(1e40 * X, y)
    fitted = make(normalization="series").fit(1e40 * X, y)
    assert np.isfinite(fitted.predict_proba(1e40 * X)).all()
    fitted = make(normalization=None).fit(X, y)
    with pytest.raises(ValueError, match="NaN or infinity for series"):
        fitted.predict(1e40 * X)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 23), "23 features.*24 features"),
        ((5, 25), "25 features.*24 features"),
        ((5, 1, 23), "23 time points.*expecting 24 time points"),
        ((5, 2, 24), "2 channels.*expecting 1 channels"),
        ((5, 2, 12), "2 channels.*expecting 1 channels"),
    ],
)
def test_another_shape_at_predict_names_both(make, shape, message):
    X, y = make_series()
    fitted = make(max_epochs=0).fit(X, y)
    for method in ("predict", "predict_proba", "decision_function", "source_outputs"):
        with pytest.raises(ValueError, match=message):
            getattr(fitted, method)(np.zeros(shape))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 48), "1 channels.*expecting 2 channels"),
        ((5, 3, 24), "3 channels.*expecting 2 channels"),
        ((5, 2, 23), "23 time points.*expecting 24"),
    ],
)
def test_another_shape_than_two_channels_names_both(make, shape, message):
    X, y = make_series(n_channels=2)
    fitted = make(max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match=message):
        fitted.predict(np.zeros(shape))


def test_missing_values_at_both_ends_and_within_are_interpolated(make):
    X, y = make_series()
    X[2, 0] = X[3, 5] = X[4, -1] = np.nan
    fitted = make(missing="interpolate").fit(X, y)
    assert np.isfinite(fitted.predict_proba(X)).all()
    X[7] = np.nan
    with pytest.raises(ValueError, match=r"series 7.*all values are missing"):
        fitted.predict(X)
    with pytest.raises(ValueError, match=r"series 7.*all values are missing"):
        make(missing="interpolate").fit(X, y)


# --- y and weights -------------------------------------------------------------------

BAD_Y = {
    "too short": (lambda y: y[:-1], ValueError, "inconsistent.*36, 35"),
    "too long": (lambda y: np.append(y, 0), ValueError, "inconsistent.*36, 37"),
    "continuous": (lambda y: y + 0.5, ValueError, "Unknown label type: continuous"),
    "NaN": (lambda y: np.where(y == 1, np.nan, 0.0), ValueError, "y contains NaN"),
    "infinity": (lambda y: np.where(y == 1, np.inf, 0.0), ValueError, "infinity"),
    "two columns": (lambda y: np.stack([y, y], 1), ValueError, r"shape \(36, 2\)"),
    "None": (lambda y: None, ValueError, "requires y"),
    "one class": (lambda y: 0 * y, ValueError, "only one class: 0"),
    "one class of strings": (lambda y: ["a"] * 36, ValueError, "only one class: 'a'"),
    "mixed types": (
        lambda y: np.where(y == 0, "a", np.array(1, dtype=object)),
        TypeError,
        r"types \['int', 'str'\], which have no common order",
    ),
    "missing": (
        lambda y: np.where(y == 0, "a", None),
        ValueError,
        "18 of 36 labels are missing",
    ),
    "objects": (
        lambda y: np.array([object() for _ in y]),
        ValueError,
        "Unknown label type",
    ),
    "complex": (lambda y: y + 1j, ValueError, "[Cc]omplex|Unknown label type"),
}


@pytest.mark.parametrize("kind", BAD_Y)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("unequal", [False, True])
def test_a_bad_y_is_a_clear_error(make, kind, method, unequal):
    spoil, error, message = BAD_Y[kind]
    X, y = make_series()
    series = [*X[:-1], X[-1, :20]] if unequal else X
    with pytest.raises(error, match=message):
        getattr(make(), method)(series, spoil(y))


BAD_WEIGHTS = {
    "negative": (lambda w: -w, r"sample_weight has the negative value -1\.0"),
    "zero": (lambda w: 0 * w, "sample_weight has only zero values"),
    "NaN": (lambda w: w * np.nan, "sample_weight contains NaN"),
    "infinity": (lambda w: w * np.inf, "sample_weight contains infinity"),
    "too short": (
        lambda w: w[1:],
        r"sample_weight has shape \(35,\), expected \(36,\)",
    ),
    "a column": (lambda w: w[:, None], r"sample_weight has shape \(36, 1\)"),
    "strings": (lambda w: ["a"] * 36, "could not convert string"),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_weights_are_a_clear_error(make, kind, method):
    spoil, message = BAD_WEIGHTS[kind]
    X, y = make_series()
    with pytest.raises(ValueError, match=message):
        getattr(make(), method)(X, y, sample_weight=spoil(np.ones(36)))


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({2: 1.0}, r"class_weight names the classes \[2\].*\[0, 1\]"),
        ({0: -1.0}, r"class_weight\[0\]=-1\.0"),
        ({0: np.nan}, r"class_weight\[0\]=nan"),
        ({0: "heavy"}, r"class_weight\[0\]='heavy'"),
        ({0: 0.0, 1: 0.0}, "class_weight=.*no sample"),
    ],
)
def test_bad_class_weights_are_a_clear_error(make, class_weight, message):
    X, y = make_series()
    with pytest.raises(ValueError, match=message):
        make(class_weight=class_weight).fit(X, y)


# --- parameters ----------------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["random", "contiguous", "frequency", "iterative"])
@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, r"'mapping_size' .*Got 0"),
        (-1, r"'mapping_size' .*Got -1"),
        (7, r"mapping_size=7 for 2 target classes.*largest.*is 6"),
    ],
)
def test_a_bad_mapping_size_is_a_clear_error(make, mapping, size, message):
    X, y = make_series()
    classifier = make(**(WORDS | {"label_mapping": mapping, "mapping_size": size}))
    with pytest.raises(ValueError, match=message):
        classifier.fit(X, y)


def test_more_classes_than_words_is_a_clear_error(make):
    X, y = make_series(n_classes=13, n=39)
    with pytest.raises(ValueError, match=r"n_features = 12.*13 target classes"):
        make(**WORDS).fit(X, y)
    assert make(label_mapping="linear").fit(X, y).predict_proba(X).shape == (39, 13)


@pytest.mark.parametrize("n_segments", [17, 10**9])
def test_too_many_segments_name_the_largest_number(make, n_segments):
    X, y = make_series()
    with pytest.raises(ValueError, match=rf"n_segments={n_segments}.*largest.*is 16"):
        make(n_segments=n_segments).fit(X, y)
    assert make(n_segments=16).fit(X, y).reprogram(X).shape == (36, 2, 400)


def test_more_channels_than_samples_is_a_clear_error(make):
    with pytest.raises(ValueError, match=r"401 channels.*at most 400"):
        make().fit(np.zeros((4, 401, 1)), [0, 1, 0, 1])


@pytest.mark.parametrize("estimator", [V2SClassifier, V2STransformer])
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("abacus", "device='abacus'.*allowed here.*cpu"),
        ("meta", "device='meta'.*not available.*cpu"),
        ("cuda:99", "device='cuda:99'.*not available"),
    ],
)
def test_an_unknown_device_is_a_clear_error(tiny_source, estimator, device, message):
    X, y = make_series()
    with pytest.raises(ValueError, match=message):
        estimator(tiny_source, device=device).fit(X, y).source_outputs(X)


def test_a_class_in_place_of_a_mapping_is_a_clear_error(make):
    X, y = make_series()
    with pytest.raises(TypeError, match="instance"):
        make(label_mapping=LinearLabelMapping).fit(X, y)


# Values that no parameter takes, but for those that take any value of a type.
WRONG = [object(), "no such option", [], -1.5, float("nan"), b"bytes", {1, 2}]
ALLOWED = {
    "class_weight": (dict,),
    "callbacks": (list,),
    "device": (str,),
    "memory": (str,),
    "views": (list,),
}


CONSTRAINED = [
    pytest.param(estimator, name, id=f"{estimator.__name__}-{name}")
    for estimator in (V2SClassifier, V2STransformer)
    for name in estimator._parameter_constraints
    # A source is checked by loading it; see below.
    if name not in {"source", "tone_source", "wave_source"}
]


@pytest.mark.parametrize("estimator", [V2SClassifier, V2STransformer])
def test_every_parameter_is_constrained(estimator):
    assert set(estimator._parameter_constraints) == set(estimator().get_params())


@pytest.mark.parametrize(("estimator", "name"), CONSTRAINED)
def test_a_wrong_value_of_any_parameter_names_it(tiny_source, estimator, name):
    X, y = make_series()
    for value in WRONG:
        if isinstance(value, ALLOWED.get(name, ())):
            continue
        classifier = estimator(tiny_source).set_params(**{name: value})
        message = rf"The '{name}' parameter of {estimator.__name__} must be"
        with pytest.raises(ValueError, match=message) as seen:
            classifier.fit(X, y)
        assert f"Got {value!r} instead" in str(seen.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dropout", [1, 1.0, 1.5, -0.1, None, "0.1"]),
        ("n_views", [0, 1.5, None]),
        ("n_segments", [0, 2.0, None, "automatic"]),
        ("input_gain", [0, -1.0, None, np.inf]),
        ("init_scale", [-0.1, None, np.inf]),
        ("max_epochs", [-1, 1.5, None]),
        ("batch_size", [0, 1.5, None]),
        ("lr", [0, -0.1, None, np.inf, "fast"]),
        ("lr_schedule", ["linear", None]),
        ("l2", [-0.1, None, np.inf]),
        ("validation_fraction", [0, 1, 0.0, 1.0, None]),
        ("n_iter_no_change", [0, None]),
        ("mapping_size", [0, 1.5, "all"]),
        ("source_output", ["words", None]),
        ("label_mapping", ["guess", None, 3]),
        ("normalization", ["channel", True]),
        ("missing", ["drop", None]),
        ("precision", ["float16", 32, torch.float32]),
        ("class_weight", ["heavy", 3]),
        ("early_stopping", [None, "yes", 2]),
        ("warm_start", [None, "yes"]),
        ("mask", [None, "yes"]),
        ("train_gain", [None, "yes"]),
        ("verbose", [-1, "loud"]),
        ("callbacks", ["bar", print]),
        ("random_state", ["seed", -1, 1.5]),
        ("device", [0, None]),
    ],
)
def test_values_at_and_beyond_the_bounds_are_named(make, name, values):
    X, y = make_series()
    for value in values:
        with pytest.raises(ValueError, match=f"'{name}' parameter") as seen:
            make(**{name: value}).fit(X, y)
        assert f"Got {value!r} instead" in str(seen.value)


@pytest.mark.parametrize("callback", ["foo", ("bar", 3), int])
def test_what_is_no_callback_is_named(make, callback):
    X, y = make_series()
    with pytest.raises(TypeError, match=r"callbacks holds .* allowed are skorch callb"):
        make(callbacks=[callback]).fit(X, y)


def test_an_unknown_parameter_is_an_error():
    with pytest.raises(TypeError, match="loudness"):
        V2SClassifier(loudness=3)


# --- without fit ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        "predict",
        "predict_proba",
        "predict_log_proba",
        "decision_function",
        "reprogram",
        "source_outputs",
        "save",
    ],
)
def test_without_fit_every_method_says_so(make, method, tmp_path):
    X, _ = make_series()
    argument = tmp_path / "model.safetensors" if method == "save" else X
    with pytest.raises(NotFittedError, match="V2SClassifier instance is not fitted"):
        getattr(make(), method)(argument)


# --- sources -------------------------------------------------------------------------


class NoGradient(TinySource):
    def forward(self, waveform):
        with torch.no_grad():
            return super().forward(waveform)


class Tuple(TinySource):
    def forward(self, waveform):
        return tuple(super().forward(waveform))


class TooManyLogits(TinySource):
    def forward(self, waveform):
        logits, embedding = super().forward(waveform)
        return SourceOutputs(torch.cat([logits, logits], 1), embedding)


class SumOverBatch(TinySource):
    def forward(self, waveform):
        logits, embedding = super().forward(waveform)
        return SourceOutputs(logits.sum(0), embedding)


class NotFinite(TinySource):
    def forward(self, waveform):
        logits, embedding = super().forward(waveform)
        return SourceOutputs(logits, embedding / 0.0)


class Failing(TinySource):
    def forward(self, waveform):
        raise RuntimeError("microphone is broken")


def without(attribute):
    source = TinySource()
    delattr(source, attribute)
    return source


def with_length(length):
    source = TinySource()
    source.input_length = length
    return source


BAD_SOURCES = {
    "no module": (lambda: 3, "must be a torch.nn.Module.*got int"),
    "None": (lambda: None, "got NoneType"),
    "a class": (lambda: TinySource, "got type"),
    "a function": (lambda: make_series, "got function"),
    "a plain module": (lambda: nn.Linear(400, 12), "no attribute 'sample_rate'"),
    "no classes": (lambda: without("classes"), "no attribute 'classes'"),
    "no size": (lambda: without("embedding_size"), "no attribute 'embedding_size'"),
    "no length": (lambda: without("input_length"), "no attribute 'input_length'"),
    "length zero": (lambda: with_length(0), "input_length.*positive int, got 0"),
    "length as float": (lambda: with_length(400.0), r"positive int, got 400\.0"),
    "too short a length": (lambda: with_length(7), r"failed.*shape \(2, 7\)"),
    "no gradient": (NoGradient, "logits must be differentiable"),
    "a tuple": (Tuple, "returned tuple; return SourceOutputs"),
    "too many logits": (TooManyLogits, r"logits.*\(2, 12\), got \(2, 24\)"),
    "no batch": (SumOverBatch, r"logits.*\(2, 12\), got \(12,\)"),
    "infinite embedding": (NotFinite, "embedding must be finite"),
    "an exception": (Failing, "failed on a waveform.*microphone is broken"),
}


@pytest.mark.parametrize("kind", BAD_SOURCES)
@pytest.mark.parametrize("estimator", [V2SClassifier, V2STransformer])
def test_a_source_that_breaks_the_contract_is_a_clear_error(kind, estimator):
    build, message = BAD_SOURCES[kind]
    X, y = make_series()
    with pytest.raises(SourceContractError, match=message):
        estimator(build()).fit(X, y)


@pytest.mark.parametrize("estimator", [V2SClassifier, V2STransformer])
@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("atrnn", ValueError, "unknown source 'atrnn'. Choose one of .*'attrnn'"),
        ("", ValueError, "unknown source ''"),
        ("no/such/file.safetensors", FileNotFoundError, "no/such/file"),
        ("model.h5", ValueError, r"unknown source 'model\.h5'"),
    ],
)
def test_an_unknown_source_is_a_clear_error(estimator, source, error, message):
    X, y = make_series()
    with pytest.raises(error, match=message):
        estimator(source).fit(X, y)


def test_a_damaged_checkpoint_as_source_is_a_clear_error(tmp_path):
    X, y = make_series()
    content = shipped_checkpoint("attrnn")[0].read_bytes()
    path = tmp_path / "damaged.safetensors"
    rng = random.Random(0)
    damages = [content[: len(content) // 2], b"", b"not a checkpoint"]
    for _ in range(10):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damages.append(bytes(flipped))
    for damaged in damages:
        path.write_bytes(damaged)
        for estimator in (V2SClassifier, V2STransformer):
            with pytest.raises(CheckpointError, match=re.escape(str(path))):
                estimator(str(path)).fit(X, y)
            with pytest.raises(CheckpointError, match=re.escape(str(path))):
                estimator(path).fit(X, y)


@pytest.mark.parametrize("parameter", ["tone_source", "wave_source"])
@pytest.mark.parametrize(
    ("value", "error"),
    [("nowhere", ValueError), (3, SourceContractError), ("no.safetensors", OSError)],
)
def test_an_error_says_which_source_it_is_of(make, parameter, value, error):
    X, y = make_series()
    view = parameter.removesuffix("_source")
    classifier = make(views=["replicas", view])
    classifier.set_params(**{parameter: value})
    with pytest.raises(error, match=f"^{parameter}: "):
        classifier.fit(X, y)
