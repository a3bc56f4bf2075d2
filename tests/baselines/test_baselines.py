# SPDX-License-Identifier: Apache-2.0
"""The neural baselines: what they learn, and that they leave everything else alone."""

import contextlib
import copy
import io
import pickle
import random
import warnings
from itertools import chain

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from sklearn_v2s import FCNClassifier, TransferClassifier
from sklearn_v2s.baselines import network
from sklearn_v2s.baselines.network import EvenBatches
from sklearn_v2s.benchmark.methods import resolve_method
from sklearn_v2s.sources import (
    SourceModel,
    SourceOutputs,
    load_source,
    register_source,
)
from tests.estimators.test_sklearn_checks import check_name
from tests.small import make_series
from tests.tiny_source import TinySource

# Every parameter that decides a result: the defaults may change.
SETTING = {
    "max_epochs": 3,
    "batch_size": 16,
    "lr": 0.01,
    "lr_schedule": "cosine",
    "weight_decay": 0.01,
    "early_stopping": False,
    "validation_fraction": 0.2,
    "n_iter_no_change": 5,
    "class_weight": None,
    "normalization": "global",
    "missing": "error",
    "precision": "float32",
    "device": "cpu",
    "random_state": 0,
}


def make_transfer(**parameters):
    source = parameters.pop("source", None) or TinySource()
    setting = SETTING | {"source_lr": 0.003, "n_segments": 3, "freeze_source": False}
    return TransferClassifier(source, **(setting | parameters))


def make_fcn(**parameters):
    return FCNClassifier(**(SETTING | parameters))


both = pytest.mark.parametrize("make", [make_transfer, make_fcn])


def global_numpy_state():
    return np.random.get_state()[1].copy()  # noqa: NPY002


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- learning ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "parameters", "least"),
    [
        pytest.param(make_transfer, {}, 0.8, id="fine-tuning"),
        pytest.param(make_transfer, {"freeze_source": True}, 0.65, id="probe"),
        pytest.param(make_fcn, {"max_epochs": 5}, 0.9, id="fcn"),
    ],
)
def test_it_learns_what_it_has_not_seen(make, parameters, least):
    X, y = make_series(n=150, n_classes=3)
    fitted = make(**({"max_epochs": 15} | parameters)).fit(X[:90], y[:90])
    # The share of a class is a third.
    assert fitted.score(X[90:], y[90:]) > least
    assert len(np.unique(fitted.predict(X[90:]))) == 3
    losses = [row["train_loss"] for row in fitted.history_]
    assert losses[-1] < 0.7 * losses[0]


def test_fine_tuning_the_shipped_source_is_no_constant_predictor(shared):
    # The paper prints 49.33 for this data set, which is the share of one class.
    data = np.loadtxt(shared / "ucr" / "GunPoint" / "GunPoint_TRAIN.tsv")
    X, y = data[:, 1:], data[:, 0]
    learner = TransferClassifier(max_epochs=8, device="cpu", random_state=0)
    predicted = learner.fit(X[:34], y[:34]).predict(X[34:])
    assert np.mean(predicted == y[34:]) > 0.75
    assert len(np.unique(predicted)) == 2


def test_training_the_source_fits_better_than_a_layer_on_top():
    X, y = make_series(n=60, n_classes=3)
    # With no scale of its own, noise hides the classes from the frozen source.
    X = X + np.random.default_rng(1).normal(size=X.shape)
    tuned = make_transfer(max_epochs=30).fit(X, y)
    probe = make_transfer(max_epochs=30, freeze_source=True).fit(X, y)
    assert tuned.history_[-1]["train_loss"] < 0.5 * probe.history_[-1]["train_loss"]


def test_several_channels_are_all_read():
    X, y = make_series(n_channels=3)
    for make in (make_transfer, make_fcn):
        fitted = make().fit(X, y)
        assert (fitted.n_channels_in_, fitted.n_timepoints_in_) == (3, 24)
        for channel in range(3):
            moved = X.copy()
            moved[:, channel] = moved[:, channel, ::-1]
            assert not np.allclose(fitted.predict_proba(moved), fitted.predict_proba(X))


# --- the source ----------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [False, True])
def test_the_shared_source_stays_bit_identical(freeze):
    X, y = make_series(n=6)
    shared = load_source("attrnn")
    before, modes = state_of(shared), [part.training for part in shared.modules()]
    learner = TransferClassifier(
        freeze_source=freeze, max_epochs=2, device="cpu", random_state=0
    )
    fitted = learner.fit(X, y)
    again = clone(learner).fit(X, y)
    assert load_source("attrnn") is shared
    assert changed(before, shared.state_dict()) == set()
    assert [part.training for part in shared.modules()] == modes
    assert not any(weight.requires_grad for weight in shared.parameters())
    # Nor do two fits share weights.
    pointers = [
        {weight.data_ptr() for weight in module.parameters()}
        for module in (shared, fitted.module_, again.module_)
    ]
    assert not (pointers[0] & pointers[1] or pointers[1] & pointers[2])


def test_the_module_that_was_handed_in_stays_as_it_is():
    source = TinySource()
    before = state_of(source)
    fitted = make_transfer(source=source).fit(*make_series())
    assert changed(before, source.state_dict()) == set()
    assert fitted.source is source


def test_all_weights_on_the_way_to_the_embedding_are_trained():
    source = TinySource()
    before = state_of(source)
    fitted = make_transfer(source=source).fit(*make_series())
    found = changed(before, fitted.module_.encoder.network.state_dict())
    expected = {name for name in before if not name.startswith("output.")}
    # Batch normalisation was in training mode: its statistics have moved.
    assert found == expected
    assert {"norm.running_mean", "norm.weight", "lstm.weight_hh_l0"} <= found


def test_a_frozen_source_keeps_its_weights_and_statistics():
    source = TinySource()
    fitted = make_transfer(source=source, freeze_source=True).fit(*make_series())
    (_, embedding) = fitted.module_.fixed
    assert changed(state_of(source), embedding.network.state_dict()) == set()
    assert fitted.module_.head.linear.weight.abs().max() > 0


def test_the_source_learns_at_its_own_rate():
    X, y = make_series()
    source = TinySource()
    still = make_transfer(source=source, source_lr=1e-9, weight_decay=0).fit(X, y)
    fast = make_transfer(source=source, source_lr=1e-2, weight_decay=0).fit(X, y)
    start = source.conv.weight
    for fitted, low, high in ((still, 0, 1e-6), (fast, 1e-3, 1)):
        moved = fitted.module_.encoder.network.conv.weight - start
        assert low <= moved.abs().max() <= high
        assert fitted.module_.head.linear.weight.abs().max() > 1e-3


def test_a_front_end_with_weights_is_trained_too():
    class FrontEnd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, waveform):
            return waveform * self.scale

    network = TinySource()
    source = SourceModel(FrontEnd(), network, network.classes, input_length=400)
    fitted = make_transfer(source=source).fit(*make_series())
    assert fitted.module_.encoder.network.front_end.scale.item() != 1.0
    assert source.front_end.scale.item() == 1.0


def test_dropout_inside_a_source_draws_from_the_random_state():
    class Dropping(TinySource):
        def forward(self, waveform):
            logits, embedding = super().forward(waveform)
            dropped = nn.functional.dropout(embedding, 0.5, self.training)
            return SourceOutputs(logits, dropped)

    X, y = make_series()
    learner = make_transfer(source=Dropping())
    first, second = learner.fit(X, y), clone(learner).fit(X, y)
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    plain = make_transfer().fit(X, y)
    assert not np.allclose(first.predict_proba(X), plain.predict_proba(X))


def test_replicas_that_do_not_fit():
    X, y = make_series(n=6)
    with pytest.raises(ValueError, match="largest n_segments for this length is 16"):
        make_transfer(n_segments=17).fit(X, y)
    long, _ = make_series(n=6, n_timepoints=500)
    with pytest.warns(UserWarning, match="resampled to 400 points"):
        make_transfer(n_segments="auto").fit(long, y)


# --- labels, shapes and values of series ---------------------------------------------


@both
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(np.array([-1, 1]), id="minus one and one"),
        pytest.param(np.array([3, 4, 5, 6, 7, 8]), id="3 to 8"),
        pytest.param(np.array(["down", "up"]), id="strings"),
    ],
)
def test_labels_of_any_kind_give_the_same_predictions_up_to_their_names(make, names):
    X, codes = make_series(n_classes=len(names))
    plain, named = make().fit(X, codes), make().fit(X, names[codes])
    assert_array_equal(named.classes_, names)
    assert_array_equal(named.predict_proba(X), plain.predict_proba(X))
    assert_array_equal(named.predict(X), names[plain.predict(X)])
    assert len(np.unique(named.predict(X))) > 1


@both
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_class_may_have_one_sample(make, early_stopping):
    X, y = make_series(n=31)
    y[7] = 2
    fitted = make(early_stopping=early_stopping).fit(X, y)
    assert_array_equal(fitted.classes_, [0, 1, 2])
    assert np.isfinite(fitted.predict_proba(X)).all()


@both
def test_one_class_alone_is_an_error(make):
    X, _ = make_series(n=6)
    with pytest.raises(ValueError, match="only one class: 'up'"):
        make().fit(X, ["up"] * 6)


@both
@pytest.mark.parametrize("n", [2, 3, 9])
@pytest.mark.parametrize("n_timepoints", [1, 2])
def test_series_of_a_single_time_point_and_batches_with_one_left_over(
    make, n, n_timepoints
):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = y[:, None] + 0.1 * rng.normal(size=(n, n_timepoints))
    fitted = make(max_epochs=25, batch_size=min(n, 4)).fit(X, y)
    assert np.isfinite(fitted.predict_proba(X)).all()
    if n > 3:
        assert_array_equal(fitted.predict(X), y)


@both
def test_the_only_row_that_class_weights_leave(make):
    X = np.array([[0.0], [1.0]])
    fitted = make(class_weight={0: 0.0}).fit(X, [0, 1])
    assert np.isfinite(fitted.predict_proba(X)).all()


@given(
    n_rows=st.integers(2, 60),
    batch_size=st.integers(2, 70),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=50, deadline=None)
def test_batches_hold_every_row_once_and_never_one_alone(n_rows, batch_size, seed):
    batches = EvenBatches(n_rows, batch_size, seed)
    first, second = list(batches), list(batches)
    for epoch in (first, second):
        assert sorted(chain.from_iterable(epoch)) == list(range(n_rows))
        sizes = [len(batch) for batch in epoch]
        assert len(sizes) == len(batches)
        assert min(sizes) >= 2
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= max(batch_size, 3)
    assert list(EvenBatches(n_rows, batch_size, seed)) == first
    if n_rows > 20:
        assert first != second


@both
def test_constant_series_and_constant_data(make):
    X, y = make_series()
    X[3] = 2.0
    assert np.isfinite(make().fit(X, y).predict_proba(X)).all()
    flat = make().fit(np.full((10, 8), 5.0), np.arange(10) % 2)
    probabilities = flat.predict_proba(np.full((2, 8), 5.0))
    # Nothing tells the classes apart. How far from even the probabilities end is for
    # rounding to say, for Adam makes a full step of any gradient: but nobody is sure.
    assert_allclose(probabilities[0], probabilities[1], rtol=1e-6)
    assert probabilities.min() > 0.05


@both
def test_missing_values(make):
    X, y = make_series()
    gaps = X.copy()
    gaps[::3, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make().fit(gaps, y)
    fitted = make(missing="interpolate").fit(gaps, y)
    assert np.isfinite(fitted.predict_proba(gaps)).all()
    filled = X.copy()
    filled[::3, 5] = (X[::3, 4] + X[::3, 6]) / 2
    assert_allclose(fitted.predict_proba(gaps), fitted.predict_proba(filled), atol=1e-6)


@both
def test_series_of_unequal_length(make):
    X, y = make_series()
    cut = [series[: 24 - position % 5] for position, series in enumerate(X)]
    fitted = make().fit(cut, y)
    assert fitted.unequal_length_
    assert fitted.predict_proba([X[0, :7]]).shape == (1, 2)


@both
def test_values_that_are_too_large(make):
    X, y = make_series()
    with pytest.raises(ValueError, match=r"diverged.*normalization=None"):
        make(normalization=None).fit(X * 1e300, y)
    fitted = make().fit(X, y)
    with pytest.raises(ValueError, match="returned NaN or infinity for series with"):
        fitted.predict(X * 1e300)


@both
def test_diverged_training_is_an_error_and_changes_nothing(make):
    X, y = make_series()
    learner = make().fit(X, y)
    before = learner.predict_proba(X)
    learner.set_params(lr=1e30)
    with pytest.raises(ValueError, match=r"diverged.*lr=1e\+30"):
        learner.fit(X[::-1], y)
    assert_array_equal(learner.predict_proba(X), before)


@both
@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"batch_size": 1}, "'batch_size' parameter .* must be an int in the range"),
        ({"max_epochs": 0}, "'max_epochs' parameter"),
        ({"lr_schedule": "step"}, "'lr_schedule' parameter .*'cosine'"),
        ({"device": "abacus"}, "device='abacus' is no device"),
        ({"class_weight": {7: 1.0}}, r"names the classes \[7\]"),
    ],
)
def test_parameters_out_of_range(make, parameters, text):
    X, y = make_series(n=6)
    with pytest.raises(ValueError, match=text):
        make(**parameters).fit(X, y)


# --- weights -------------------------------------------------------------------------


@both
def test_weights_of_zero_and_scale_of_weights(make):
    X, y = make_series()
    weight = np.ones(len(y))
    weight[:8] = 0
    part = make().fit(X[8:], y[8:])
    weighted = make().fit(X, y, sample_weight=weight)
    assert_array_equal(weighted.predict_proba(X), part.predict_proba(X))
    scaled = make().fit(X, y, sample_weight=4 * weight)
    assert_array_equal(scaled.predict_proba(X), part.predict_proba(X))


@both
def test_class_weights_are_sample_weights(make):
    X, y = make_series(n=36)
    y[:10] = 0
    balanced = make(class_weight="balanced").fit(X, y)
    expected = make().fit(X, y, sample_weight=compute_sample_weight("balanced", y))
    assert_allclose(
        balanced.predict_proba(X), expected.predict_proba(X), rtol=1e-4, atol=1e-6
    )
    # Where nothing tells the classes apart, the weights decide.
    noise = np.random.default_rng(0).normal(size=(60, 5))
    codes = np.arange(60) % 2
    for heavy in (0, 1):
        fitted = make(class_weight={heavy: 1e3, 1 - heavy: 1e-4}).fit(noise, codes)
        assert np.mean(fitted.predict(noise) == heavy) > 0.9


# --- training ------------------------------------------------------------------------


@both
def test_same_random_state_same_result_and_no_global_state_is_touched(make):
    X, y = make_series()
    before = torch.get_rng_state(), global_numpy_state(), random.getstate()
    first = make(early_stopping=True).fit(X, y).predict_proba(X)
    torch.rand(3, generator=torch.Generator().manual_seed(4))
    second = make(early_stopping=True).fit(X, y).predict_proba(X)
    assert_array_equal(first, second)
    assert torch.equal(before[0], torch.get_rng_state())
    assert_array_equal(before[1], global_numpy_state())
    assert before[2] == random.getstate()
    torch.manual_seed(99)
    assert_array_equal(make(early_stopping=True).fit(X, y).predict_proba(X), first)
    torch.set_rng_state(before[0])
    other = make(early_stopping=True, random_state=1).fit(X, y).predict_proba(X)
    assert not np.array_equal(other, first)


@both
def test_early_stopping_returns_the_best_epoch_of_a_part_held_out(make, monkeypatch):
    X, y = make_series(n=40)
    held = []
    choose = network.stratified_validation_rows

    def remember(*args):
        held.append(choose(*args))
        return held[-1]

    monkeypatch.setattr(network, "stratified_validation_rows", remember)
    # Labels without sense: the validation loss soon rises.
    y = np.random.default_rng(5).permutation(y)
    fitted = make(
        early_stopping=True,
        max_epochs=40,
        n_iter_no_change=3,
        lr_schedule="constant",
    ).fit(X, y)
    losses = [row["valid_loss"] for row in fitted.history_]
    best = int(np.argmin(losses))
    assert fitted.n_iter_ == best + 1 + 3 < 40
    (rows,) = held
    assert len(rows) == 8
    proba = fitted.predict_proba(X[rows])
    assert_allclose(
        -np.log(proba[np.arange(8), y[rows]]).mean(), losses[best], rtol=1e-4
    )


@both
@pytest.mark.parametrize("when", ["within an epoch", "before the first one ends"])
def test_an_interruption_keeps_the_last_complete_epoch(make, monkeypatch, when):
    X, y = make_series()
    steps = {"within an epoch": 8, "before the first one ends": 2}[when]
    step = network.BaselineNet.train_step
    taken = []

    def interrupted(net, *args, **kwargs):
        taken.append(1)
        if len(taken) == steps:
            raise KeyboardInterrupt
        return step(net, *args, **kwargs)

    # 36 series are three batches of 12.
    complete = (steps - 1) // 3
    with monkeypatch.context() as patch:
        patch.setattr(network.BaselineNet, "train_step", interrupted)
        with pytest.warns(UserWarning, match=f"after {complete} complete epochs of 5"):
            fitted = make(max_epochs=5, lr_schedule="constant").fit(X, y)
    assert fitted.n_iter_ == complete
    if complete:
        whole = make(max_epochs=complete, lr_schedule="constant").fit(X, y)
        assert_array_equal(fitted.predict_proba(X), whole.predict_proba(X))
    else:
        assert np.isfinite(fitted.predict_proba(X)).all()


@both
def test_schedule_and_weight_decay_change_the_result(make):
    X, y = make_series()
    results = [
        make(**parameters).fit(X, y).predict_proba(X)
        for parameters in ({}, {"lr_schedule": "constant"}, {"weight_decay": 1.0})
    ]
    assert not np.allclose(results[0], results[1])
    assert not np.allclose(results[0], results[2])


@both
def test_verbose_shows_a_bar(make, capsys):
    X, y = make_series(n=8)
    make(verbose=1, max_epochs=2).fit(X, y)
    assert "2/2" in capsys.readouterr().err


# --- prediction ----------------------------------------------------------------------


@both
def test_predictions_do_not_depend_on_their_neighbours(make):
    X, y = make_series(n=140)
    fitted = make(precision="float64", max_epochs=1).fit(X, y)
    together = fitted.predict_proba(X)
    alone = np.concatenate([fitted.predict_proba(X[i : i + 1]) for i in (0, 70, 139)])
    assert_allclose(alone, together[[0, 70, 139]], rtol=1e-10)
    assert not fitted.module_.training
    assert_allclose(together.sum(axis=1), 1)
    scores = fitted.decision_function(X)
    assert_array_equal(scores > 0, fitted.predict(X) == 1)


@both
def test_float64_computes_in_float64(make):
    X, y = make_series()
    fitted = make(precision="float64").fit(X, y)
    kinds = {value.dtype for value in fitted.module_.parameters()}
    assert kinds == {torch.float64}
    coarse = make().fit(X, y)
    assert not np.array_equal(fitted.predict_proba(X), coarse.predict_proba(X))
    assert_allclose(fitted.predict_proba(X), coarse.predict_proba(X), atol=0.02)


def test_the_fcn_is_the_published_one():
    X, y = make_series(n=8, n_channels=2)
    module = make_fcn(max_epochs=1).fit(X, y).module_
    shapes = [
        tuple(part.weight.shape)
        for part in module.modules()
        if isinstance(part, nn.Conv1d | nn.Linear)
    ]
    assert shapes == [(128, 2, 8), (256, 128, 5), (128, 256, 3), (2, 128)]
    kinds = [type(part).__name__ for part in module.encoder]
    block = ["ZeroPad1d", "Conv1d", "BatchNorm1d", "ReLU"]
    assert kinds == [*block * 3, "TimeMean"]
    maps = module.encoder[:-1](torch.zeros(1, 2, 24))
    assert maps.shape == (1, 128, 24)
    # Every position of the first layer sees 3 points before it and 4 after it.
    point = torch.zeros(1, 2, 24)
    point[0, 0, 10] = 1.0
    first = module.encoder[:2]
    reached = (first(point) != first(torch.zeros(1, 2, 24))).any(dim=1)[0]
    assert_array_equal(np.flatnonzero(reached), np.arange(6, 14))


# --- together with others ------------------------------------------------------------


@both
def test_pickle_joblib_copy_and_clone(make):
    X, y = make_series()
    fitted = make().fit(X, y)
    expected = fitted.predict_proba(X)
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    for twin in (
        pickle.loads(pickle.dumps(fitted)),
        joblib.load(file),
        copy.deepcopy(fitted),
    ):
        assert_array_equal(twin.predict_proba(X), expected)
        assert_array_equal(twin.fit(X, y).predict_proba(X), expected)
    assert not hasattr(clone(fitted), "module_")


@pytest.mark.parametrize("freeze", [False, True])
def test_a_pickle_holds_the_weights_of_the_copy(freeze):
    X, y = make_series(n=6)
    fitted = TransferClassifier(
        freeze_source=freeze, max_epochs=1, device="cpu", random_state=0
    ).fit(X, y)
    # The shipped source itself would be pickled by its name.
    twin = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(twin.predict_proba(X), fitted.predict_proba(X))
    assert changed(state_of(fitted.module_), twin.module_.state_dict()) == set()
    assert len(pickle.dumps(fitted)) < 3e6


@both
def test_results_do_not_depend_on_n_jobs(make):
    X, y = make_series(n=24)
    learner = make(max_epochs=1)
    alone = cross_val_predict(learner, X, y, cv=2, method="predict_proba")
    with joblib.parallel_config("threading"):
        threads = cross_val_predict(
            learner, X, y, cv=2, method="predict_proba", n_jobs=2
        )
    assert_allclose(threads, alone, atol=1e-6)
    search = GridSearchCV(learner, {"lr": [0.01, 0.1]}, cv=2).fit(X, y)
    assert search.best_params_["lr"] in (0.01, 0.1)


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_dropout_leaves_the_generator_of_an_accelerator_as_it_was(name, monkeypatch):
    # The functions of torch, on a generator that stands for that of the device.
    there = torch.Generator().manual_seed(5)
    monkeypatch.setattr(torch.cuda, "default_generators", (there,))
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    for function, result in (
        ("_lazy_init", lambda: None),
        ("_lazy_call", lambda call, **_: call()),
        ("current_device", lambda: 0),
    ):
        monkeypatch.setattr(torch.cuda.random, function, result)
    before, drawn = there.get_state(), []
    for _ in range(2):
        with network.seeded(3, torch.device(name)):
            drawn.append(torch.rand(2, generator=there).tolist())
        assert torch.equal(there.get_state(), before)
    expected = torch.rand(2, generator=torch.Generator().manual_seed(3)).tolist()
    assert drawn == [expected, expected]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both
def test_an_accelerator_gives_about_the_same(make):
    X, y = make_series()
    fitted = make(device="cuda").fit(X, y)
    assert {part.device.type for part in fitted.module_.parameters()} == {"cpu"}
    expected = make().fit(X, y).predict_proba(X)
    assert_allclose(fitted.predict_proba(X), expected, atol=0.05)


@pytest.mark.parametrize(
    ("name", "kind"), [("fine-tuning", TransferClassifier), ("fcn", FCNClassifier)]
)
def test_the_benchmark_knows_them(name, kind):
    method = resolve_method(name)
    assert method.make(7, 1).get_params() == kind(random_state=7).get_params()
    assert type(method.make(7, 1)) is kind
    assert method.probabilities == "largest"


def test_fitting_warns_of_nothing():
    X, y = make_series()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for make in (make_transfer, make_fcn):
            make(early_stopping=True).fit(X, y).predict(X)


# --- scikit-learn's own checks -------------------------------------------------------

# Faster than the defaults. A name, because a module has not the same pickle twice.
CHECKED = {"max_epochs": 8, "batch_size": 64, "lr": 0.02}
# Checks whose tolerance is finer than the rounding of float32.
IN_FLOAT64 = {
    "check_methods_subset_invariance",
    "check_methods_sample_order_invariance",
}
WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
# Weights are factors of the loss. The statistics of batch normalisation and the steps
# of an epoch count rows, so that a series with weight 2 is not the series twice. The
# linear probe on all rows at once has neither.
PROBE = {"freeze_source": True, "batch_size": 1000, "precision": "float64"}


def failing_by_design(estimator):
    if isinstance(estimator, TransferClassifier):
        return {}
    return {WEIGHTS: "batch normalisation and the steps of an epoch count rows"}


@parametrize_with_checks(
    [
        make_transfer(source="tiny-for-checks", source_lr=0.01, **CHECKED),
        make_fcn(**CHECKED),
    ],
    expected_failed_checks=failing_by_design,
)
def test_the_baselines_pass_the_checks_of_scikit_learn(
    estimator, check, forget_sources
):
    forget_sources()
    register_source("tiny-for-checks", TinySource)
    if check_name(check) in IN_FLOAT64:
        estimator.set_params(precision="float64")
    if check_name(check) == WEIGHTS and isinstance(estimator, TransferClassifier):
        estimator.set_params(**PROBE)
    check(estimator)
