# SPDX-License-Identifier: Apache-2.0
"""The course of a training: validation, stopping, what follows it, what is left."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback

from sklearn_v2s.label_mapping import (
    ContiguousLabelMapping,
    IterativeLabelMapping,
    LinearLabelMapping,
)
from sklearn_v2s.perturbation import collect_outputs
from sklearn_v2s.training.train import stratified_validation_rows
from tests.small_training import (
    as_input,
    delta_of,
    make_data,
    make_module,
    make_net,
    small_training,
    train,
)

# --- the validation part -------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
    st.integers(0, 2**31),
)
def test_the_validation_part_is_stratified(y, fraction, seed):
    y = np.array(y)
    sizes = np.bincount(y)
    assume(sizes.max() > 1)
    rows = stratified_validation_rows(y, fraction, np.random.default_rng(seed))
    assert_array_equal(rows, np.unique(rows))
    for label in np.unique(y):
        held_out = (y[rows] == label).sum()
        if sizes[label] == 1:
            assert held_out == 0
            continue
        # At least one, and one is left to train on; else as near as rows allow.
        assert 1 <= held_out <= sizes[label] - 1
        if 1 <= fraction * sizes[label] <= sizes[label] - 1:
            assert abs(held_out - fraction * sizes[label]) <= 0.5
    again = stratified_validation_rows(y, fraction, np.random.default_rng(seed))
    assert_array_equal(rows, again)


def test_another_seed_holds_out_other_rows():
    y = np.arange(100) % 2
    parts = {
        tuple(stratified_validation_rows(y, 0.2, np.random.default_rng(seed)))
        for seed in range(5)
    }
    assert len(parts) == 5
    # Every row can be chosen.
    often = [
        stratified_validation_rows(y, 0.2, np.random.default_rng(seed))
        for seed in range(60)
    ]
    assert len(np.unique(np.concatenate(often))) == 100


def test_no_class_with_a_row_to_spare_is_an_error():
    with pytest.raises(
        ValueError, match=r"early_stopping=True needs a class.*2 samples"
    ):
        stratified_validation_rows(np.arange(4), 0.1, np.random.default_rng(0))


# --- stopping ------------------------------------------------------------------------


class Spy(Callback):
    """Note the state at the beginning of the training and at each epoch's end."""

    def on_train_begin(self, net, **kwargs):
        self.states = [copy.deepcopy(net.module_.state_dict())]

    def on_epoch_end(self, net, **kwargs):
        self.states.append(copy.deepcopy(net.module_.state_dict()))


class Spoil(Callback):
    """Ruin the perturbation at the beginning of every epoch from one on."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) >= self.epoch:
            with torch.no_grad():
                delta = net.module_.reprogrammed.perturbation.delta
                delta.copy_(torch.linspace(-9, 9, delta.numel()).reshape(delta.shape))


class Interrupt(Callback):
    """Press Ctrl-C in one epoch, at its end or after so many batches of it."""

    def __init__(self, epoch, batch=None, error=KeyboardInterrupt):
        self.epoch = epoch
        self.batch = batch
        self.error = error

    def on_epoch_end(self, net, **kwargs):
        if self.batch is None and len(net.history) == self.epoch:
            raise self.error

    def on_batch_end(self, net, training=False, **kwargs):
        here = len(net.history) == self.epoch and training
        if here and len(net.history[-1, "batches"]) == self.batch:
            raise self.error


def assert_state(module, expected):
    state = module.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(state[name], value), name


def stopping(*callbacks, validate=True, weight=None, **parameters):
    """Return a small training, each epoch better than the last unless it is spoilt.

    It is slow and validated on its own training data, which holds for any source.
    """
    validation = make_data() if validate else None
    spy = Spy()
    job = small_training(
        validation=validation,
        callbacks=[spy, *callbacks],
        **({"max_epochs": 12, "lr": 0.001} | parameters),
    )
    job.spy = spy
    train(job.net, job.series, job.codes, weight)
    return job


@pytest.mark.parametrize("patience", [1, 3])
@pytest.mark.parametrize("make", [ContiguousLabelMapping, LinearLabelMapping])
def test_early_stopping_returns_the_best_epoch(patience, make):
    job = stopping(Spoil(5), n_iter_no_change=patience, mapping=make())
    losses = job.net.history[:, "valid_loss"]
    assert np.argmin(losses) + 1 == job.net.kept_epoch_ == 4
    assert len(losses) == 4 + patience
    assert_state(job.module, job.spy.states[4])
    assert not torch.equal(delta_of(job.module), delta_of_state(job.spy.states[3]))
    assert job.net.stopped_early_ is True
    assert job.net.interrupted_ is False


def delta_of_state(state):
    return state["reprogrammed.perturbation.delta"]


def test_without_a_stop_the_best_epoch_is_returned_too():
    job = stopping(Spoil(5), n_iter_no_change=100, max_epochs=7)
    assert len(job.net.history) == 7
    assert_state(job.module, job.spy.states[4])
    assert job.net.stopped_early_ is False
    assert job.net.interrupted_ is False


def test_an_improvement_renews_the_patience():
    # Better in each epoch: the last one is kept and nothing stops.
    job = stopping(n_iter_no_change=1, max_epochs=6)
    losses = job.net.history[:, "valid_loss"]
    assert (np.diff(losses) < 0).all()
    assert job.net.kept_epoch_ == len(losses) == 6
    assert_state(job.module, job.spy.states[6])


def test_a_training_that_only_gets_worse_returns_where_it_began():
    # A loss that is no number is never better.
    class Break(Callback):
        def on_epoch_begin(self, net, **kwargs):
            with torch.no_grad():
                net.module_.reprogrammed.perturbation.delta.fill_(torch.nan)

    job = stopping(Break(), n_iter_no_change=2)
    assert len(job.net.history) == 2
    assert_state(job.module, job.spy.states[0])


@pytest.mark.parametrize(
    ("interrupt", "kept"),
    [
        (Interrupt(3), 3),
        (Interrupt(3, batch=1), 2),
        (Interrupt(3, batch=3), 2),
        (Interrupt(1, batch=1), 0),
        (Interrupt(1), 1),
    ],
    ids=["end", "batch", "last-batch", "first-batch", "first-end"],
)
@pytest.mark.parametrize("validate", [True, False])
def test_an_interruption_keeps_the_last_whole_epoch(interrupt, kept, validate):
    # Where there is a validation part, it finds each epoch better than the last.
    job = stopping(interrupt, validate=validate)
    assert job.net.interrupted_ is True
    assert job.net.stopped_early_ is False
    assert job.net.kept_epoch_ == kept
    assert_state(job.module, job.spy.states[kept])
    assert [row["epoch"] for row in job.net.history] == list(range(1, kept + 1))
    assert all("train_loss" in row for row in job.net.history)
    assert any(
        not torch.equal(delta_of_state(job.spy.states[0]), value)
        for value in [delta_of(job.module)]
    ) == (kept > 0)


def test_an_interruption_returns_the_best_epoch_where_one_is_known():
    job = stopping(Spoil(4), Interrupt(6))
    assert job.net.interrupted_ is True
    assert len(job.net.history) == 6
    assert_state(job.module, job.spy.states[3])


@pytest.mark.parametrize(
    ("callbacks", "kept"), [([], 4), ([Interrupt(4, 1)], 3), ([Interrupt(3, 1)], 2)]
)
def test_a_second_training_goes_on_counting(callbacks, kept):
    job = following(*callbacks, validate=False, max_epochs=2)
    before = job.spy.states
    train(job.net, job.series, job.codes, epochs=2)
    assert job.net.kept_epoch_ == len(job.net.history) == kept
    states = before + job.spy.states[1:]
    assert_state(job.module, states[kept])
    assert_array_equal(job.mapping.weights_, job.module.head.weights)


def test_a_training_that_ends_by_itself_is_not_interrupted():
    job = stopping(validate=False, max_epochs=3)
    assert job.net.interrupted_ is False
    assert_state(job.module, job.spy.states[3])
    # An interruption of one call is not remembered in the next.
    job = stopping(Interrupt(2), validate=False)
    assert job.net.interrupted_ is True
    train(job.net, job.series, job.codes, epochs=1)
    assert job.net.interrupted_ is False


def test_another_exception_is_passed_on():
    with pytest.raises(ZeroDivisionError):
        stopping(Interrupt(2, error=ZeroDivisionError))


# --- mappings that follow the training -----------------------------------------------


class SpyMapping(Callback):
    """Note, at each epoch's beginning, what a fresh fit gives and what the head has."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.fits, self.heads = [], []
        self.data = X, y

    def on_epoch_begin(self, net, **kwargs):
        X, y = self.data
        outputs = collect_outputs(net.module_.reprogrammed, X["series"])
        mapping = IterativeLabelMapping(mapping_size=2)
        mapping.fit(outputs.logits.mean(1), y, sample_weight=X["sample_weight"])
        self.fits.append(mapping.weights_)
        self.heads.append(net.module_.head.weights.numpy().copy())


def following(*callbacks, **parameters):
    """Return a training in which the mapping changes from epoch to epoch."""
    spy = SpyMapping()
    job = stopping(
        spy,
        *callbacks,
        mapping=IterativeLabelMapping(mapping_size=2),
        weight=np.arange(12.0, 0.0, -1.0),
        lr=0.3,
        dropout=0.3,
        seeds=(0, 1),
        **parameters,
    )
    job.fits, job.heads = spy.fits, spy.heads
    return job


def test_a_mapping_is_fitted_again_in_each_epoch_without_dropout():
    job = following(validate=False, max_epochs=6)
    assert len(job.heads) == 6
    assert_array_equal(job.heads, job.fits)
    assert len({weights.tobytes() for weights in job.fits}) > 1


@pytest.mark.parametrize(
    ("callbacks", "parameters", "kept"),
    [
        ([], {"validate": False, "max_epochs": 6}, 6),
        ([Interrupt(4)], {"validate": False}, 4),
        ([Interrupt(4, batch=2)], {"validate": False}, 3),
        ([Spoil(4)], {"n_iter_no_change": 3, "max_epochs": 9}, None),
    ],
    ids=["end", "interrupt", "within", "early-stopping"],
)
def test_the_mapping_that_is_left_belongs_to_the_epoch_that_is_kept(
    callbacks, parameters, kept
):
    job = following(*callbacks, **parameters)
    if kept is None:
        kept = int(np.argmin(job.net.history[:, "valid_loss"])) + 1
        assert 1 <= kept < len(job.net.history)
    assert job.net.kept_epoch_ == kept
    assert_array_equal(job.mapping.weights_, job.fits[kept - 1])
    assert_array_equal(job.module.head.weights, job.fits[kept - 1])
    assert_array_equal(job.module.head.weights, job.spy.states[kept]["head.weights"])


def test_before_the_first_whole_epoch_the_first_mapping_is_left():
    series, codes = make_data()
    mapping = IterativeLabelMapping()
    module = make_module(mapping, series, codes)
    # Not what a fit to the present outputs would give.
    mapping.weights_ = np.roll(mapping.weights_, 1, axis=0)
    module.head.read(mapping)
    expected = mapping.weights_.copy()
    net = make_net(module, mapping, 12, callbacks=[Interrupt(1, batch=1)])
    train(net, series, codes)
    assert_array_equal(mapping.weights_, expected)
    assert_array_equal(module.head.weights, expected)


@pytest.mark.parametrize("absent", ["class", "weight"])
def test_a_mapping_keeps_a_class_that_this_part_of_the_data_lacks(absent):
    job = small_training(IterativeLabelMapping())
    part, weight = slice(None), None
    if absent == "class":
        part = job.codes != 1
    else:
        weight = (job.codes != 1).astype(float)
    train(job.net, job.series[part], job.codes[part], weight, epochs=2)
    assert job.mapping.weights_.shape == (12, 3)
    assert_array_equal(job.mapping.classes_, [0, 1, 2])
    assert job.module.head.weights.shape == (12, 3)


def test_a_mapping_counts_the_weights_as_they_were_given():
    seen = []

    class Recording(IterativeLabelMapping):
        def fit(self, source_scores, y, sample_weight=None, classes=None):
            seen.append(sample_weight)
            return super().fit(source_scores, y, sample_weight, classes)

    job = small_training(Recording())
    X, y = as_input(job.series, job.codes, np.arange(1.0, 13.0))
    job.net.partial_fit(X, y, epochs=1)
    assert_array_equal(seen[-1], X["sample_weight"])
    job.net.partial_fit(X | {"count": np.arange(1.0, 13.0)}, y, epochs=1)
    assert_array_equal(seen[-1], np.arange(1.0, 13.0))


def test_other_mappings_are_left_alone():
    for mapping in (ContiguousLabelMapping(), LinearLabelMapping()):
        job = small_training(mapping)
        before = copy.deepcopy(vars(mapping))
        train(job.net, job.series, job.codes)
        assert vars(mapping).keys() == before.keys()
        for name, value in vars(mapping).items():
            assert_array_equal(value, before[name])


def test_a_mapping_that_is_no_matrix_cannot_follow():
    class Following(LinearLabelMapping):
        refit_each_epoch = True

    job = small_training(Following())
    train(job.net, job.series, job.codes, epochs=1)
    assert len(job.net.history) == 1


# --- the learning rate ---------------------------------------------------------------


class SpyRate(Callback):
    """Note the learning rate of each step."""

    def __init__(self):
        self.rates = []

    def on_batch_begin(self, net, training=False, **kwargs):
        if training:
            self.rates.append(net.optimizer_.param_groups[0]["lr"])


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_the_cosine_schedule_runs_over_all_steps(batch_size):
    spy = SpyRate()
    job = small_training(
        validation=make_data(n=6),
        callbacks=[spy],
        batch_size=batch_size,
        lr_schedule="cosine",
        lr=0.05,
        max_epochs=4,
    )
    train(job.net, job.series, job.codes)
    n_steps = 4 * -(-12 // batch_size)
    steps = np.arange(n_steps)
    assert_allclose(spy.rates, 0.025 * (1 + np.cos(np.pi * steps / n_steps)), rtol=1e-9)
    assert job.net.optimizer_.param_groups[0]["lr"] < 1e-12


def test_a_constant_rate_stays():
    spy = SpyRate()
    job = small_training(callbacks=[spy], max_epochs=4)
    train(job.net, job.series, job.codes)
    assert spy.rates == [0.05] * 12


def test_a_net_for_no_epochs_can_be_built():
    job = small_training(lr_schedule="cosine", max_epochs=0)
    start = delta_of(job.module)
    train(job.net, job.series, job.codes)
    assert torch.equal(delta_of(job.module), start)
    assert len(job.net.history) == 0


# --- randomness ----------------------------------------------------------------------


def trained_delta(seed=0, seeds=(0, 1), **parameters):
    job = small_training(seeds=seeds, shuffle_seed=seed, dropout=0.3, **parameters)
    train(job.net, job.series, job.codes)
    return delta_of(job.module)


def test_the_seed_decides():
    first = trained_delta()
    np.random.random(3)  # noqa: NPY002
    torch.rand(3)
    assert torch.equal(trained_delta(), first)
    assert not torch.equal(trained_delta(seed=1), first)
    assert not torch.equal(trained_delta(seeds=(0, 2)), first)
    # A validation part that decides nothing moves nothing.
    with_validation = trained_delta(validation=make_data(n=6), max_epochs=1)
    assert torch.equal(with_validation, trained_delta(max_epochs=1))


def test_the_order_of_the_batches_changes_from_epoch_to_epoch():
    class SpyOrder(Callback):
        def on_train_begin(self, net, **kwargs):
            self.orders = []

        def on_epoch_begin(self, net, **kwargs):
            self.orders.append([])

        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            self.orders[-1] += batch[0]["sample_weight"].tolist()

    spy = SpyOrder()
    job = small_training(callbacks=[spy], max_epochs=3)
    weight = np.arange(1.0, 13.0)
    train(job.net, job.series, job.codes, weight)
    for order in spy.orders:
        assert sorted(order) == pytest.approx(weight / weight.mean())
    assert len({tuple(order) for order in spy.orders}) == 3


@pytest.mark.parametrize("validation", [None, make_data(n=6)], ids=["whole", "split"])
def test_the_global_generators_are_left_alone(validation):
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    job = small_training(
        IterativeLabelMapping(), validation, lr_schedule="cosine", dropout=0.3
    )
    train(job.net, job.series, job.codes)
    assert torch.equal(torch.get_rng_state(), before[0])
    after = np.random.get_state()  # noqa: NPY002
    for one, other in zip(after, before[1], strict=True):
        assert_array_equal(one, other)


# --- what is left of a training ------------------------------------------------------


def finished(n, mapping=None, epochs=3):
    """Return a net with everything that holds training data, and that data."""
    series, codes = make_data(n=n, seed=5)
    validation = make_data(n=n, seed=6)
    mapping = mapping or IterativeLabelMapping()
    module = make_module(mapping, series, codes, dropout=0.3)
    net = make_net(
        module,
        mapping,
        n,
        validation,
        lr_schedule="cosine",
        verbose=1,
        max_epochs=epochs,
    )
    train(net, series, codes)
    net.finish(net.module_)
    return net, series, validation[0]


def test_a_pickle_holds_nothing_of_the_training_data():
    sizes = {}
    for n in (6, 60):
        net, *data = finished(n)
        blob = pickle.dumps(net)
        sizes[n] = len(blob)
        for series in data:
            for dtype in (np.float64, np.float32):
                for row in series[:, 0, :2].astype(dtype):
                    assert row.tobytes() not in blob
    assert abs(sizes[60] - sizes[6]) < 200
    for callback in (b"KeepState", b"RefitMapping", b"EpochProgress", b"LRScheduler"):
        assert callback not in blob


@pytest.mark.parametrize("mapping", [ContiguousLabelMapping(), LinearLabelMapping()])
def test_a_pickled_net_predicts_and_goes_on_as_the_original(mapping):
    net, series, _ = finished(6, mapping)
    again = pickle.loads(pickle.dumps(net))
    X, y = make_data(n=6, seed=9)
    with torch.no_grad():
        expected = net.module_(torch.tensor(series))
        assert torch.equal(again.module_(torch.tensor(series)), expected)
    for one in (net, again):
        train(one, X, y, epochs=2)
    assert torch.equal(delta_of(again.module_), delta_of(net.module_))
    assert [row["epoch"] for row in net.history] == [1, 2, 3, 4, 5]


def test_a_finished_net_is_in_the_mode_of_prediction():
    # Or predictions in two threads would switch it under each other.
    job = small_training(max_epochs=1)
    train(job.net, job.series, job.codes)
    assert job.module.training
    job.net.finish(job.module)
    parts = job.module, job.module.head, *job.module.reprogrammed.perturbation.modules()
    assert not any(part.training for part in parts)


def test_the_progress_bar_is_on_standard_error_and_only_if_asked_for(capsys):
    for verbose in (0, 1):
        job = small_training(verbose=verbose, max_epochs=2)
        train(job.net, job.series, job.codes)
        shown = capsys.readouterr()
        assert shown.out == ""
        assert ("epochs of training" in shown.err) == bool(verbose)
        assert ("train_loss" in shown.err) == bool(verbose)


def test_the_progress_bar_shows_the_epoch_at_which_a_training_stops(capsys):
    job = stopping(Spoil(5), n_iter_no_change=2, verbose=1)
    assert len(job.net.history) == 6
    assert "6/12" in capsys.readouterr().err
