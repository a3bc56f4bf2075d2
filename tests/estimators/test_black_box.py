# SPDX-License-Identifier: Apache-2.0
"""Sources that can only be queried: gradients from values, the classifier."""

import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import approx_fprime
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_v2s import BlackBoxV2SClassifier
from sklearn_v2s.label_mapping import RandomLabelMapping
from sklearn_v2s.perturbation.zeroth_order import random_basis, zeroth_order_gradient
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.training import zeroth_order
from tests.estimators.test_sklearn_checks import IN_FLOAT64, check_name
from tests.small import make_series
from tests.tiny_source import TinySource

LENGTH = 400
N_SOURCE_CLASSES = 12
WEIGHTS = np.random.default_rng(0).normal(scale=0.2, size=(LENGTH, N_SOURCE_CLASSES))
TINY = TinySource(LENGTH, N_SOURCE_CLASSES).eval()
# Every parameter that decides a result: the defaults may change.
SETTING = {
    "input_length": LENGTH,
    "source_output": "probabilities",
    "n_segments": 3,
    "mask": False,
    "input_gain": 1.0,
    "init_scale": 0.1,
    "label_mapping": "frequency",
    "mapping_size": 2,
    "rank": 16,
    "n_directions": 4,
    "smoothing": 0.01,
    "max_iter": 60,
    "max_queries": None,
    "batch_size": 24,
    "lr": 0.1,
    "class_weight": None,
    "normalization": "global",
    "missing": "error",
    "precision": "float32",
    "random_state": 0,
}


def tiny_logits(waveforms):
    """Return what the tiny source says; a function, as pickle wants it."""
    with torch.inference_mode():
        like = next(TINY.parameters())
        return TINY(torch.from_numpy(waveforms).to(like)).logits.numpy()


def tiny_probabilities(waveforms):
    logits = tiny_logits(waveforms).astype(np.float64)
    parts = np.exp(logits - logits.max(axis=1, keepdims=True))
    return parts / parts.sum(axis=1, keepdims=True)


class Cheap:
    """Gives probabilities of a layer of random weights: quick, and in float64.

    An object, for the name of a function has its address in it, and test processes
    must agree on the names of their tests.
    """

    def __call__(self, waveforms):
        scores = np.tanh(np.asarray(waveforms, dtype=np.float64)) @ WEIGHTS
        return 1 / (1 + np.exp(-scores))

    def __repr__(self):
        return "cheap"


cheap = Cheap()


class Counter:
    """Count waveforms and calls, and remember the kind and shape of each."""

    def __init__(self, source=tiny_probabilities):
        self.source = source
        self.shapes = []
        self.kinds = set()

    def __call__(self, waveforms):
        self.shapes.append(waveforms.shape)
        self.kinds.add(waveforms.dtype)
        return self.source(waveforms)

    # clone copies objects: this one is to go on counting.
    def __deepcopy__(self, memo):
        return self

    @property
    def n_queries(self):
        return sum(shape[0] for shape in self.shapes)


def make(source=tiny_probabilities, **parameters):
    return BlackBoxV2SClassifier(source, **(SETTING | parameters))


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


# --- the gradient --------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 2**32))
def test_the_gradient_of_a_linear_loss_is_exact(size, times, seed):
    rng = np.random.default_rng(seed)
    slope, point = rng.normal(size=(2, size))
    value, gradient = zeroth_order_gradient(
        lambda points: points @ slope + 3,
        point,
        n_directions=times * size,
        smoothing=0.1,
        rng=rng,
    )
    assert_allclose(value, point @ slope + 3)
    assert_allclose(gradient, slope, atol=1e-10)


@pytest.mark.parametrize("n_directions", [1, 4, 7])
def test_the_estimate_is_unbiased_and_its_noise_is_that_of_a_projection(n_directions):
    rng = np.random.default_rng(0)
    slope = np.arange(1.0, 6.0)
    estimates = np.array(
        [
            zeroth_order_gradient(
                lambda points: points @ slope,
                np.zeros(5),
                n_directions=n_directions,
                smoothing=1.0,
                rng=rng,
            )[1]
            for _ in range(4000)
        ]
    )
    assert_allclose(estimates.mean(axis=0), slope, atol=0.4)
    # d/q for up to d orthogonal directions; of 7, two are in a second set of 5.
    expected = {1: 5.0, 4: 5 / 4, 7: (5**2 * 1 + 2 * 2 * 5 + 2 * 5) / 7**2}
    sizes = np.square(estimates).sum(axis=1) / np.square(slope).sum()
    assert_allclose(sizes.mean(), expected[n_directions], rtol=0.05)


def test_the_directions_are_on_the_unit_sphere_and_the_smoothing_scales_them():
    seen = []

    def loss(points):
        seen.append(points)
        return np.zeros(len(points))

    point = np.arange(6.0)
    value, gradient = zeroth_order_gradient(
        loss, point, n_directions=8, smoothing=0.25, rng=np.random.default_rng(0)
    )
    (points,) = seen
    assert_array_equal(points[0], point)
    steps = (points[1:] - point) / 0.25
    assert_allclose(steps[:6] @ steps[:6].T, np.eye(6), atol=1e-12)
    assert_allclose(steps[6:] @ steps[6:].T, np.eye(2), atol=1e-12)
    assert value == 0 and not gradient.any()


def test_it_agrees_with_autograd_through_a_source():
    source = TinySource(LENGTH).double().eval()
    rng = np.random.default_rng(0)
    basis = torch.from_numpy(random_basis(np.ones(LENGTH, bool), 16, rng))
    placed = torch.from_numpy(rng.normal(size=(6, LENGTH)))
    codes = torch.arange(6) % 3

    def loss(coefficients):
        logits = source(placed + basis @ coefficients).logits
        return torch.nn.functional.cross_entropy(logits, codes)

    def losses(points):
        with torch.no_grad():
            return np.array([float(loss(torch.from_numpy(point))) for point in points])

    point = 0.1 * rng.normal(size=16)
    leaf = torch.from_numpy(point).requires_grad_()
    (exact,) = torch.autograd.grad(loss(leaf), leaf)
    exact = exact.numpy()
    # The oracle itself, against differences that we did not write.
    differences = approx_fprime(point, lambda p: losses(p[None])[0], 1e-6)
    assert cosine(exact, differences) > 0.9999

    def estimate(n_directions):
        return zeroth_order_gradient(
            losses, point, n_directions=n_directions, smoothing=1e-4, rng=rng
        )[1]

    assert_allclose(estimate(16), exact, rtol=0.01, atol=1e-3 * np.abs(exact).max())
    # A projection to q of d random directions has the cosine sqrt(q / d), nearly.
    for n_directions in (4, 8):
        cosines = [cosine(estimate(n_directions), exact) for _ in range(60)]
        expected = np.sqrt(n_directions / 16)
        assert_allclose(np.mean(cosines), expected, atol=0.07)
        assert min(cosines) > 0


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_basis_is_orthogonal_masked_and_in_units_of_the_amplitude(data):
    length = data.draw(st.integers(2, 60))
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    )
    mask[data.draw(st.integers(0, length - 1))] = True
    rank = data.draw(st.integers(1, int(mask.sum())))
    basis = random_basis(mask, rank, np.random.default_rng(0))
    assert basis.shape == (length, rank)
    assert not basis[~mask].any()
    coefficients = np.random.default_rng(1).normal(size=rank)
    root_mean_square = np.sqrt(np.mean((basis @ coefficients)[mask] ** 2))
    assert_allclose(root_mean_square, np.sqrt(np.mean(coefficients**2)))


# --- learning ------------------------------------------------------------------------


def test_training_lowers_the_loss_and_beats_no_perturbation():
    X, y = make_series(n=150, n_classes=3)
    train, test = slice(0, 60), slice(60, None)
    silent = make(init_scale=0.0, max_iter=0).fit(X[train], y[train])
    assert not silent.perturbation_.any()
    trained, untrained = [], []
    for seed in range(3):
        classifier = make(rank=32, max_iter=120, random_state=seed)
        fitted = clone(classifier).fit(X[train], y[train])
        start = classifier.set_params(max_iter=0).fit(X[train], y[train])
        assert fitted.initial_loss_ == start.loss_
        assert fitted.loss_ < start.loss_ - 0.3
        assert fitted.loss_ < silent.loss_ - 0.1
        losses = [row["loss"] for row in fitted.history_]
        assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1
        trained.append(fitted.score(X[test], y[test]))
        untrained.append(start.score(X[test], y[test]))
    # By chance, a third.
    assert np.mean(trained) > 0.65
    assert np.mean(trained) > np.mean(untrained) + 0.15
    assert np.mean(trained) > silent.score(X[test], y[test]) + 0.15


def test_the_loss_is_that_of_the_mapped_scores_of_what_reprogram_returns():
    X, y = make_series(n=30, n_classes=3)
    fitted = make(max_iter=3, mapping_size=4).fit(X, y)
    proba = tiny_probabilities(fitted.reprogram(X))
    # Each of three classes has four of the twelve: the scores sum to 1 / 4.
    scores = proba @ fitted.label_mapping_.weights_
    assert_allclose(scores.sum(axis=1), 0.25, rtol=1e-6)
    assert_allclose(fitted.predict_proba(X), 4 * scores, rtol=1e-5)
    assert_allclose(fitted.loss_, -np.log(scores[np.arange(30), y]).mean(), rtol=1e-5)
    assert_allclose(fitted.loss_ - np.log(4), log_loss(y, 4 * scores), rtol=1e-5)


def test_reprogram_adds_the_perturbation_to_placed_series():
    X, y = make_series(n=12)
    fitted = make(max_iter=2, mask=True, input_gain=0.5, n_segments=4).fit(X, y)
    placement = ReplicaPlacement(LENGTH, 1, X.shape[1], 4)
    placed = placement.place(torch.from_numpy((X - X.mean()) / X.std())[:, None])
    placed = placed.numpy()
    assert_allclose(fitted.reprogram(X), 0.5 * placed + fitted.perturbation_, atol=1e-6)
    free = placement.mask().numpy()
    assert not fitted.perturbation_[~free].any()
    assert fitted.perturbation_[free].all()


def test_the_start_has_the_amplitude_that_is_asked_for():
    X, y = make_series(n=12)
    for scale in (0.0, 0.3):
        start = make(max_iter=0, init_scale=scale).fit(X, y).perturbation_
        assert_allclose(np.sqrt(np.mean(start**2)), scale, rtol=1e-6)


def test_steps_are_those_of_adam_with_a_rate_that_falls_as_a_cosine(monkeypatch):
    points = []

    def constant_gradient(loss, point, **parameters):
        points.append(point.copy())
        return 0.0, np.array([5.0, -0.1, 2.0])

    monkeypatch.setattr(zeroth_order, "zeroth_order_gradient", constant_gradient)
    X, y = make_series(n=12)
    make(rank=3, max_iter=8, lr=0.1).fit(X, y)
    # Adam goes as far as the rate in each coordinate where the gradient is constant.
    rates = 0.1 * (1 + np.cos(np.pi * np.arange(7) / 8)) / 2
    assert_allclose(
        np.diff(points, axis=0), rates[:, None] * [-1, 1, -1], rtol=1e-5, atol=1e-9
    )


def test_steps_that_do_not_help_are_dropped():
    X, y = make_series(n=30)
    start = make(max_iter=0).fit(X, y)
    # Steps a thousand times too long end anywhere.
    wild = make(lr=100.0, max_iter=5).fit(X, y)
    assert wild.n_iter_ == 5
    assert wild.loss_ == wild.initial_loss_ == start.loss_
    assert_array_equal(wild.perturbation_, start.perturbation_)


def test_logits_and_their_probabilities_are_the_same_source():
    X, y = make_series(n=30)
    told = make(max_iter=5).fit(X, y)
    scored = make(tiny_logits, source_output="logits", max_iter=5).fit(X, y)
    assert_allclose(scored.perturbation_, told.perturbation_, atol=1e-4)
    assert_allclose(scored.predict_proba(X), told.predict_proba(X), atol=1e-4)


def test_probabilities_need_not_sum_to_one():
    X, y = make_series(n=30)
    one = make(max_iter=3).fit(X, y)
    percent = make(lambda w: 100 * tiny_probabilities(w), max_iter=3).fit(X, y)
    assert_allclose(percent.predict_proba(X), one.predict_proba(X), rtol=1e-5)
    # Source classes of probability 0 have no logarithm.
    silent = make(lambda w: np.eye(N_SOURCE_CLASSES)[np.zeros(len(w), int)], max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proba = silent.fit(X, y).predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1)


MAPPINGS = ["random", "contiguous", "frequency", "iterative", "bayesian", "linear"]


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_every_label_mapping_can_be_named(mapping):
    X, y = make_series(n=60)
    fitted = make(label_mapping=mapping, max_iter=20).fit(X, y)
    assert fitted.loss_ < fitted.initial_loss_
    assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)
    name = type(fitted.label_mapping_).__name__.lower()
    assert name == f"{mapping}labelmapping"


def test_word_mappings_stay_and_others_are_fitted_to_the_trained_perturbation():
    X, y = make_series(n=36, n_classes=3)

    def outcome(max_iter, mapping):
        fitted = make(label_mapping=mapping, max_iter=max_iter).fit(X, y)
        # Else the steps were dropped, and the mapping is that of the start.
        assert max_iter == 0 or fitted.loss_ < fitted.initial_loss_
        logits = np.log(tiny_probabilities(fitted.reprogram(X)))
        again = clone(fitted.label_mapping_).fit(logits, y)
        kept = fitted.label_mapping_.transform(logits)
        return fitted, kept, again.transform(logits)

    fitted, kept, again = outcome(30, "linear")
    assert_allclose(kept, again, rtol=1e-4)
    fitted, kept, again = outcome(30, "iterative")
    assert_allclose(kept, again, rtol=1e-6)
    fitted, _, _ = outcome(30, "frequency")
    start, _, _ = outcome(0, "frequency")
    assert_array_equal(
        fitted.label_mapping_.source_indices_, start.label_mapping_.source_indices_
    )


def test_a_mapping_of_the_users_own_is_cloned():
    X, y = make_series(n=20)
    mapping = RandomLabelMapping(mapping_size=3, random_state=5)
    fitted = make(label_mapping=mapping, max_iter=1).fit(X, y)
    assert not hasattr(mapping, "classes_")
    # An instance keeps its own size.
    assert fitted.label_mapping_.mapping_size_ == 3
    assert fitted.label_mapping_.random_state == 5


# --- queries -------------------------------------------------------------------------


def test_every_query_is_counted_and_calls_are_small():
    X, y = make_series(n=60, n_classes=3)
    counter = Counter()
    fitted = make(counter, max_iter=7, batch_size=20, n_directions=5).fit(X, y)
    # 20 draws from parts of 3 series never meet twice: 7 steps of 6 waveforms each,
    # the mapping and the final comparison.
    assert fitted.n_queries_ == counter.n_queries == 60 + 7 * 6 * 20 + 60
    assert [row["n_queries"] for row in fitted.history_] == [
        60 + 120 * step for step in range(1, 8)
    ]
    assert {shape[1:] for shape in counter.shapes} == {(LENGTH,)}
    assert counter.kinds == {np.dtype("float32")}
    fitted.predict(X)
    assert counter.n_queries == fitted.n_queries_ + 60
    many = Counter()
    make(many, max_iter=2, batch_size=60, n_directions=9).fit(X, y)
    assert max(shape[0] for shape in many.shapes) <= 256
    exact = Counter(cheap)
    make(exact, max_iter=0, precision="float64").fit(X, y)
    assert exact.kinds == {np.dtype("float64")}


@settings(max_examples=25, deadline=None)
@given(
    st.integers(24, 900),
    st.integers(1, 30),
    st.integers(1, 5),
    st.sampled_from(["frequency", "iterative", "linear"]),
)
def test_the_budget_is_never_exceeded(max_queries, batch_size, n_directions, mapping):
    X, y = make_series(n=24)
    counter = Counter(cheap)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fitted = make(
            counter,
            max_queries=max_queries,
            batch_size=batch_size,
            n_directions=n_directions,
            label_mapping=mapping,
            max_iter=20,
        ).fit(X, y)
    assert fitted.n_queries_ == counter.n_queries <= max_queries
    assert len(fitted.history_) == fitted.n_iter_ <= 20
    if fitted.n_iter_ < 20 and mapping == "frequency":
        # What is left would not have been enough for one step more.
        step = (n_directions + 1) * min(batch_size, 24)
        assert 24 * 2 + (fitted.n_iter_ + 1) * step > max_queries


def test_a_budget_without_room_is_said():
    X, y = make_series(n=24)
    with pytest.warns(UserWarning, match=r"max_queries=50 allows no step.* 48 queries"):
        fitted = make(max_queries=50).fit(X, y)
    assert fitted.n_iter_ == 0 and fitted.n_queries_ == 24
    with pytest.raises(ValueError, match=r"max_queries=23 is not .* 24 or more"):
        make(max_queries=23).fit(X, y)
    # No steps are wanted: no warning.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(max_queries=24, max_iter=0).fit(X, y)


# --- what the source returns ---------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (lambda w: np.ones(len(w)), r"shape \(24,\) for 24 waveforms; .*\(24, n_sourc"),
        (lambda w: np.ones((len(w) - 1, 3)), r"shape \(23, 3\) for 24 waveforms"),
        (lambda w: np.ones((len(w), 0)), r"shape \(24, 0\) for 24"),
        (lambda w: np.ones((len(w), 3, 2)), r"shape \(24, 3, 2\)"),
        (lambda w: np.full((len(w), 4), np.nan), "NaN or infinity .*values up to"),
        (lambda w: np.full((len(w), 4), np.inf), "NaN or infinity"),
        (lambda w: tiny_logits(w) - 99, "negative value -.*source_output='logits'"),
        (lambda w: None, "returned NoneType, which is no array|shape"),
        (lambda w: [["yes", "no"]] * len(w), "returned list, which is no array"),
        (lambda w: [[1, 2], [3]], "returned list, which is no array"),
    ],
)
def test_wrong_outputs_are_reported(source, text):
    X, y = make_series(n=24)
    with pytest.raises(ValueError, match=f"source returned.*{text}|{text}"):
        make(source).fit(X, y)


def test_outputs_of_other_classes_are_reported():
    X, y = make_series(n=24)
    sizes = iter([12, 12, 11])
    with pytest.raises(ValueError, match=r"returned 11 scores .* but 12 before"):
        make(lambda w: np.ones((len(w), next(sizes)))).fit(X, y)
    fitted = make(max_iter=1).fit(X, y)
    fitted.source = lambda w: tiny_probabilities(w)[:, :5]
    with pytest.raises(ValueError, match=r"returned 5 scores .* but 12 before"):
        fitted.predict(X)


def test_outputs_may_be_lists_or_tensors():
    X, y = make_series(n=24)
    expected = make(max_iter=2).fit(X, y).predict_proba(X)
    for convert in (lambda p: p.tolist(), torch.from_numpy):
        fitted = make(lambda w, c=convert: c(tiny_probabilities(w)), max_iter=2)
        assert_array_equal(fitted.fit(X, y).predict_proba(X), expected)


def test_an_error_of_the_source_is_its_own_and_leaves_the_fit_before():
    X, y = make_series(n=24)
    fitted = make(max_iter=2).fit(X, y)
    before = fitted.predict_proba(X)

    def broken(waveforms):
        raise ConnectionError("no connection")

    with pytest.raises(ConnectionError, match="no connection"):
        fitted.set_params(source=broken).fit(X[:12], y[:12])
    assert_array_equal(
        fitted.set_params(source=tiny_probabilities).predict_proba(X), before
    )


# --- bad parameters ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"source": "attrnn"}, "'source' parameter .* must be a callable"),
        ({"source_output": "embedding"}, "'source_output' parameter"),
        ({"input_length": 0}, "'input_length' parameter"),
        ({"rank": 401}, "rank=401 is more than the 400 samples .* 1 to 400"),
        ({"rank": 360, "mask": True}, "rank=360 is more than the 328 .*mask=False"),
        ({"n_directions": 0}, "'n_directions' parameter"),
        ({"smoothing": 0.0}, "'smoothing' parameter"),
        ({"max_queries": 0}, "'max_queries' parameter"),
        ({"mapping_size": 7}, "mapping_size=7 for 2 target classes"),
        ({"n_segments": 17}, "n_segments=17 replicas .* is 16"),
    ],
)
def test_parameters_out_of_range(parameters, text):
    X, y = make_series(n=24)
    with pytest.raises(ValueError, match=text):
        make().set_params(**parameters).fit(X, y)


def test_a_module_is_no_black_box(tiny_source):
    X, y = make_series(n=8)
    with pytest.raises(TypeError, match=r"source is a TinySource, an nn.Module"):
        make(tiny_source).fit(X, y)


def test_nan_is_an_error_or_filled():
    X, y = make_series(n=24)
    gap = X.copy()
    gap[3, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make(max_iter=1).fit(gap, y)
    filled = X.copy()
    filled[3, 5] = (X[3, 4] + X[3, 6]) / 2
    interpolated = make(missing="interpolate", max_iter=2).fit(gap, y)
    assert_allclose(
        interpolated.predict_proba(gap),
        make(max_iter=2).fit(filled, y).predict_proba(filled),
        rtol=1e-5,
    )


# --- as an estimator -----------------------------------------------------------------


def test_labels_of_any_kind_and_a_class_of_one_series():
    X, codes = make_series(n=31, n_classes=3)
    codes = np.where(codes == 2, 0, codes)
    codes[7] = 2
    expected = make(max_iter=4).fit(X, codes).predict_proba(X)
    for labels in (np.array([-1, 1, 5]), np.array(["a", "b", "c"])):
        fitted = make(max_iter=4).fit(X, labels[codes])
        assert_array_equal(fitted.classes_, labels)
        assert_array_equal(fitted.predict_proba(X), expected)
        assert set(fitted.predict(X)) <= set(labels)
    two = make(max_iter=4).fit(X, np.where(codes == 0, -1, 1))
    assert_array_equal(two.classes_, [-1, 1])
    assert two.decision_function(X).shape == (31,)


def test_channels_and_unequal_length():
    X, y = make_series(n=24, n_channels=2)
    fitted = make(max_iter=2, n_segments="auto").fit(X, y)
    assert fitted.predict_proba(X).shape == (24, 2)
    ragged = [series[:, : 24 - i % 3] for i, series in enumerate(X)]
    unequal = make(max_iter=2, n_segments="auto").fit(ragged, y)
    assert unequal.unequal_length_
    assert unequal.predict_proba([X[0, :, :20], X[1]]).shape == (2, 2)


def test_long_series_are_resampled_with_a_warning():
    X, y = make_series(n=12, n_timepoints=500)
    with pytest.warns(UserWarning, match="resampled to 400 points"):
        make(max_iter=1, n_segments=1).fit(X, y)


def test_same_random_state_same_result_and_no_global_state_is_touched():
    X, y = make_series()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    first = make(max_iter=6).fit(X, y)
    assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()
    second = make(max_iter=6).fit(X, y)
    assert_array_equal(first.perturbation_, second.perturbation_)
    assert first.history_ == second.history_
    other = make(max_iter=6, random_state=1).fit(X, y)
    assert not np.array_equal(first.perturbation_, other.perturbation_)


def test_weights_are_repetitions_and_the_order_does_not_matter():
    X, y = make_series(n=30, n_classes=3)
    weight = np.random.default_rng(0).integers(0, 4, size=30)
    setting = {"source": cheap, "precision": "float64", "max_iter": 15}
    weighted = make(**setting).fit(X, y, sample_weight=weight)
    rows = np.random.default_rng(1).permutation(np.repeat(np.arange(30), weight))
    repeated = make(**setting).fit(X[rows], y[rows])
    assert weighted.history_ != []
    assert_allclose(weighted.perturbation_, repeated.perturbation_, atol=1e-9)
    assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-7, atol=1e-10
    )
    plain = make(**setting).fit(X, y)
    assert np.abs(plain.perturbation_ - weighted.perturbation_).max() > 1e-3
    scaled = make(**setting).fit(X, y, sample_weight=weight / 4)
    assert_allclose(scaled.perturbation_, weighted.perturbation_, atol=1e-9)


def test_class_weights_decide_where_nothing_else_does():
    noise = np.random.default_rng(0).normal(size=(40, 5))
    codes = np.arange(40) % 2
    for heavy in (0, 1):
        weight = {heavy: 1e3, 1 - heavy: 1e-3}
        fitted = make(class_weight=weight, label_mapping="linear", max_iter=3)
        assert np.mean(fitted.fit(noise, codes).predict(noise) == heavy) > 0.9


def test_it_pickles_with_a_function_by_its_name():
    X, y = make_series(n=24)
    fitted = make(max_iter=2).fit(X, y)
    content = pickle.dumps(fitted)
    # The perturbation and little else: no basis of 16 noises, no weights.
    assert len(content) < LENGTH * 8 + 8000
    again = pickle.loads(content)
    assert again.source is tiny_probabilities
    assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_grid_search_in_two_processes_finds_what_one_finds():
    X, y = make_series(n=36)
    grid = {"mapping_size": [1, 3], "rank": [4, 8]}
    one, two = (
        GridSearchCV(make(max_iter=3), grid, cv=2, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    )
    assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )
    assert one.best_params_ == two.best_params_


def black_box_for_checks():
    return make(
        cheap,
        label_mapping="linear",
        n_segments="auto",
        mapping_size=None,
        max_iter=5,
        batch_size=16,
    )


@parametrize_with_checks([black_box_for_checks()])
def test_it_passes_the_checks_of_scikit_learn(estimator, check):
    if check_name(check) in IN_FLOAT64:
        estimator = clone(estimator).set_params(precision="float64")
    check(estimator)
