# SPDX-License-Identifier: Apache-2.0
"""Training of the perturbation: losses, gradients, stopping, and what is left of it."""

import copy
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch.utils.data import DataLoader

from sklearn_v2s.label_mapping import (
    BayesianLabelMapping,
    ContiguousLabelMapping,
    IterativeLabelMapping,
    LinearLabelMapping,
    RandomLabelMapping,
)
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.reprogramming import Perturbation, ReprogrammedSource, collect_outputs
from sklearn_v2s.sources.attrnn import build_attrnn
from sklearn_v2s.sources.contract import SourceOutputs, freeze
from sklearn_v2s.sources.front_end import FRONT_ENDS
from sklearn_v2s.training import (
    LinearHead,
    MatrixHead,
    RowsOnDevice,
    TargetModule,
    build_net,
    keep_batch,
    mapping_input,
    stratified_validation_rows,
)
from tests.tiny_source import TinySource

CPU = torch.device("cpu")


# --- a small training ----------------------------------------------------------------


def make_data(n=12, n_classes=3, n_timepoints=30, seed=0):
    """Return series that tell classes apart by their frequency, and the classes."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % n_classes
    time = np.arange(n_timepoints) / n_timepoints
    waves = np.sin(2 * np.pi * (3 * codes[:, None] + 2) * time)
    return (waves + 0.3 * rng.normal(size=waves.shape))[:, None, :], codes


def make_module(
    mapping,
    series,
    codes,
    *,
    source=None,
    seeds=(0,),
    source_output="logits",
    mask=False,
    n_segments=3,
    dtype=torch.float64,
    **parameters,
):
    """Return a module with a mapping fitted to what the source says at the start."""
    source = freeze((source or TinySource()).to(dtype))
    placement = ReplicaPlacement(
        source.input_length, 1, series.shape[2], n_segments=n_segments
    )
    perturbation = Perturbation(
        source.input_length,
        [torch.Generator().manual_seed(seed) for seed in seeds],
        mask=placement.mask() if mask else None,
        **parameters,
    )
    reprogrammed = ReprogrammedSource(source, placement, perturbation).to(dtype)
    outputs = collect_outputs(reprogrammed, series)
    features = mapping_input(outputs, source_output, mapping.reads_logits)
    mapping.fit(features, codes)
    if mapping.reads_logits:
        head = MatrixHead(mapping)
    else:
        head = LinearHead(mapping, features.shape[1], codes.max() + 1)
    return TargetModule(reprogrammed, head.to(dtype), source_output)


def make_net(module, mapping, n_train, validation=None, **parameters):
    if validation is not None:
        validation = as_input(*validation)
    defaults = {
        "n_iter_no_change": 100,
        "max_epochs": 5,
        "batch_size": 4,
        "lr": 0.05,
        "source_lr": 0.01,
        "lr_schedule": "constant",
        "l2": 0.0,
        "seed": 0,
        "device": CPU,
        "verbose": 0,
        "callbacks": None,
    }
    return build_net(module, mapping, n_train, validation, **(defaults | parameters))


def as_input(series, codes, weight=None):
    """Return X and y of a net, with weights of mean 1 as the estimator gives them."""
    weight = np.ones(len(codes)) if weight is None else np.asarray(weight, float)
    return {
        "series": series,
        "row": np.arange(len(codes)),
        "sample_weight": weight / weight.mean(),
    }, codes


def train(net, series, codes, weight=None, epochs=None):
    return net.partial_fit(*as_input(series, codes, weight), epochs=epochs)


def tensors(X, y):
    return {name: torch.as_tensor(value) for name, value in X.items()}, torch.as_tensor(
        y
    )


def loss_of(net, series, codes, weight=None, training=False):
    """Return the loss of all rows as the net computes it for one batch."""
    X, y = tensors(*as_input(series, codes, weight))
    net.module_.train(training)
    return net.get_loss(net.infer(X), y, X=X, training=training)


def test_batches_are_those_of_rows_loaded_one_by_one():
    X, y = as_input(*make_data(), weight=np.arange(1, 13))
    options = {"batch_size": 5, "shuffle": True}
    plain, ours = (
        DataLoader(rows, generator=torch.Generator().manual_seed(3), **options, **more)
        for rows, more in (
            (Dataset(X, y), {}),
            (RowsOnDevice(X, y, torch.zeros(1)), {"collate_fn": keep_batch}),
        )
    )
    for _ in range(2):
        for (expected, codes), (found, found_codes) in zip(plain, ours, strict=True):
            assert_array_equal(found_codes, codes)
            assert found.keys() == expected.keys()
            for name, values in expected.items():
                assert_array_equal(found[name], values.to(found[name].dtype))
            assert found["series"].dtype == torch.float32
            assert found["row"].dtype == torch.int64
    one, code = RowsOnDevice(X, y, torch.zeros(1, dtype=torch.float64))[4]
    assert_array_equal(one["series"], X["series"][4])
    assert code == y[4]


def test_the_net_predicts_without_labels():
    series, codes = make_data()
    module = make_module(mapping := RandomLabelMapping(random_state=0), series, codes)
    net = make_net(module, mapping, 12)
    X, _ = as_input(series, codes)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(series))
    assert_allclose(net.forward(X), expected, rtol=1e-12)


def test_losses_of_batches_become_numbers_when_the_epoch_is_over():
    seen = []

    class Watch(Callback):
        def on_batch_end(self, net, training, **kwargs):
            name = "train_loss" if training else "valid_loss"
            seen.append((name, net.history[-1, "batches", -1, name]))

        def on_epoch_end(self, net, **kwargs):
            for name in ("train_loss", "valid_loss"):
                batches = net.history[-1, "batches"]
                now = [row[name] for row in batches if name in row]
                assert all(isinstance(loss, float) for loss in now)
                assert now == [loss.item() for kind, loss in seen if kind == name]
                sizes = [row[name[:6] + "batch_size"] for row in batches if name in row]
                mean = np.average(now, weights=sizes)
                assert_allclose(net.history[-1, name], mean, rtol=1e-12)
            seen.clear()

    series, codes = make_data()
    module = make_module(mapping := RandomLabelMapping(random_state=0), series, codes)
    net = make_net(module, mapping, 12, (series, codes), callbacks=[Watch()])
    train(net, series, codes, epochs=2)
    assert len(net.history) == 2


def delta_of(module):
    return module.reprogrammed.perturbation.delta.detach().clone()


def small_training(mapping=None, validation=None, callbacks=None, **parameters):
    """Return everything of a training on the small data that is about to start."""
    series, codes = make_data()
    mapping = mapping or ContiguousLabelMapping()
    own = ("seeds", "source_output", "mask", "dropout", "train_gain", "init_scale")
    of_module = {key: parameters.pop(key) for key in own if key in parameters}
    module = make_module(mapping, series, codes, **of_module)
    net = make_net(
        module, mapping, len(codes), validation, callbacks=callbacks, **parameters
    )
    return SimpleNamespace(
        net=net, module=module, mapping=mapping, series=series, codes=codes
    )


# --- what a mapping reads ------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_mappings_read_words_averaged_or_all_views_side_by_side(kind):
    rng = np.random.default_rng(0)
    logits, embedding = rng.normal(size=(5, 2, 4)), rng.normal(size=(5, 2, 3))
    outputs = SourceOutputs(kind(logits), kind(embedding))
    flat = {
        "logits": np.hstack([logits[:, 0], logits[:, 1]]),
        "embedding": np.hstack([embedding[:, 0], embedding[:, 1]]),
    }
    flat["both"] = np.hstack([flat["logits"], flat["embedding"]])
    for source_output, expected in flat.items():
        read = mapping_input(outputs, source_output, reads_logits=False)
        assert isinstance(read, type(kind(logits)))
        assert_array_equal(read, expected)
        words = mapping_input(outputs, source_output, reads_logits=True)
        assert_allclose(words, (logits[:, 0] + logits[:, 1]) / 2, rtol=1e-15)


# --- the loss ------------------------------------------------------------------------


def loss_by_hand(module, mapping, series, codes, weight):
    """Equations 3 and 4, word by word."""
    logits = collect_outputs(module.reprogrammed, series).logits.mean(axis=1)
    groups = mapping.source_indices_
    total = 0.0
    for row, code, w in zip(logits, codes, weight, strict=True):
        if mapping.aggregation == "probability":
            words = np.exp(row) / np.exp(row).sum()
            score = sum(words[s] for s in groups[code]) / len(groups[code])
        else:
            means = [sum(row[s] for s in group) / len(group) for group in groups]
            score = np.exp(means[code]) / np.exp(means).sum()
        total += -w * np.log(score)
    return total / np.sum(weight)


@pytest.mark.parametrize("aggregation", ["probability", "logit"])
@pytest.mark.parametrize("n_classes", [2, 3, 5])  # of 12 words, 5 classes leave 2 over
@pytest.mark.parametrize("n_views", [1, 2])
def test_the_loss_is_that_of_equations_3_and_4(aggregation, n_classes, n_views):
    series, codes = make_data(n_classes=n_classes)
    mapping = RandomLabelMapping(aggregation=aggregation, random_state=0)
    module = make_module(mapping, series, codes, seeds=range(n_views))
    assert mapping.source_indices_.size == 12 // n_classes * n_classes
    net = make_net(module, mapping, len(codes))
    for weight in (np.ones(len(codes)), np.arange(1.0, len(codes) + 1)):
        expected = loss_by_hand(module, mapping, series, codes, weight)
        loss = loss_of(net, series, codes, weight)
        assert loss.item() == pytest.approx(expected, rel=1e-12)
        # In training there is no other term unless asked for.
        loss = loss_of(net, series, codes, weight, training=True)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("aggregation", ["probability", "logit"])
@pytest.mark.parametrize("make", [RandomLabelMapping, BayesianLabelMapping])
def test_the_matrix_head_is_the_mapping(make, aggregation):
    rng = np.random.default_rng(0)
    logits, codes = 3 * rng.normal(size=(20, 12)), np.arange(20) % 5
    mapping = make(aggregation=aggregation).fit(logits, codes)
    scores = MatrixHead(mapping)(torch.tensor(logits)).exp()
    assert_allclose(scores, mapping.transform(logits), rtol=1e-13)


def test_the_loss_stays_finite_where_all_words_of_a_class_are_unlikely():
    mapping = ContiguousLabelMapping().fit(np.eye(4), [0, 1, 0, 1])
    logits = torch.tensor([[1e4, 0, 0, 0]], dtype=torch.float64, requires_grad=True)
    score = MatrixHead(mapping)(logits)[0, 1]
    # (e^0 + e^0) / 2 of e^10000
    assert score.item() == pytest.approx(-1e4)
    score.backward()
    # Both of its words are wanted equally, and the first one not at all.
    assert_allclose(logits.grad, [[-1.0, 0.0, 0.5, 0.5]], atol=1e-9)


@pytest.mark.parametrize("solver", ["ridge", "logistic"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_linear_head_starts_as_the_fitted_mapping(solver, n_classes):
    rng = np.random.default_rng(0)
    codes = np.arange(30) % n_classes
    features = rng.normal(5.0, 2.0, (30, 8)) + codes[:, None]
    mapping = LinearLabelMapping(solver=solver).fit(features, codes)
    head = LinearHead(mapping, 8, n_classes)
    with torch.no_grad():
        scores = head(torch.tensor(features)).exp()
        assert_allclose(scores, mapping.transform(features), rtol=1e-12)
        # In single precision the same up to that precision.
        single = head.float()(torch.tensor(features, dtype=torch.float32)).exp()
    assert_allclose(single, scores, atol=1e-5)


def test_the_linear_head_starts_at_zero_beside_a_mapping_of_another_kind():
    head = LinearHead(object(), 3, 4)
    scores = head(torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator()))
    assert_allclose(scores.detach().exp(), 0.25)


def test_heads_keep_the_precision_of_the_mapping():
    mapping = ContiguousLabelMapping().fit(np.eye(6), [0, 1, 0, 1, 0, 1])
    assert_array_equal(MatrixHead(mapping).to(torch.float64).weights, mapping.weights_)
    head = MatrixHead(mapping).float()
    head.read(mapping)
    assert head.weights.dtype == torch.float32


def test_a_head_never_writes_into_its_mapping():
    mapping = ContiguousLabelMapping().fit(np.eye(6), [0, 1, 0, 1, 0, 1])
    before = mapping.weights_.copy()
    head = MatrixHead(mapping)
    head.load_state_dict({"weights": torch.zeros_like(head.weights)})
    assert_array_equal(mapping.weights_, before)


@pytest.mark.parametrize("mask", [True, False])
def test_the_penalty_is_that_of_what_is_added_and_only_in_training(mask):
    job = small_training(mask=mask, l2=0.04)
    plain = loss_of(job.net, job.series, job.codes)
    penalised = loss_of(job.net, job.series, job.codes, training=True)
    delta = delta_of(job.module)[0]
    if mask:
        delta = delta[job.module.reprogrammed.placement.mask()]
    expected = 0.04 * sum(value**2 for value in delta.tolist())
    assert (penalised - plain).item() == pytest.approx(expected, rel=1e-9)


def test_a_linear_head_is_decayed_in_training():
    job = small_training(LinearLabelMapping())
    plain = loss_of(job.net, job.series, job.codes)
    penalised = loss_of(job.net, job.series, job.codes, training=True)
    expected = 1e-3 * (job.module.head.weight**2).sum().item()
    assert expected > 0
    assert (penalised - plain).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mapping", [ContiguousLabelMapping(), LinearLabelMapping()])
def test_an_integer_weight_is_a_repetition(mapping):
    counts = np.array([1, 2, 3, 1, 1, 4, 2, 1, 1, 3, 1, 2])
    series, codes = make_data()
    results = []
    for rows, weight in (
        (np.arange(12), counts),
        (np.arange(12).repeat(counts), None),
    ):
        job = small_training(
            copy.deepcopy(mapping), batch_size=100, dropout=0.3, l2=0.01
        )
        train(job.net, series[rows], codes[rows], weight)
        results.append((delta_of(job.module), job.net.history[:, "train_loss"]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-10)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-10)
    unweighted = small_training(mapping, batch_size=100, dropout=0.3, l2=0.01)
    train(unweighted.net, series, codes)
    assert (delta_of(unweighted.module) - results[0][0]).abs().max() > 1e-3


def test_the_history_holds_the_losses_that_it_names():
    held_out = make_data(n=6, seed=1)
    weight = np.arange(1.0, 13.0)
    job = small_training(validation=held_out, batch_size=100, l2=0.04, dropout=0.0)
    # Without the penalty, so that the two can be compared.
    before = loss_of(job.net, job.series, job.codes, weight).item()
    with_penalty = loss_of(job.net, job.series, job.codes, weight, training=True).item()
    assert with_penalty > before + 1e-3
    train(job.net, job.series, job.codes, weight, epochs=1)
    after = loss_of(job.net, *held_out).item()
    assert job.net.history[-1, "train_loss"] == pytest.approx(before, rel=1e-12)
    assert job.net.history[-1, "valid_loss"] == pytest.approx(after, rel=1e-12)


# --- the gradient --------------------------------------------------------------------


def make_attrnn(n_classes=36):
    """Return an untrained AttRNN with kapre's front end, in which no part is idle."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = build_attrnn(
            FRONT_ENDS["kapre"], [f"word{position}" for position in range(n_classes)]
        )
        for name, tensor in source.network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.3, 2.0)
            elif name.endswith(("running_mean", "norm1.weight", "norm2.weight")):
                tensor.normal_(0.5, 0.5)
            elif tensor.is_floating_point():
                tensor.normal_(0.0, 0.25)
    return source


@pytest.mark.parametrize(
    "mapping", [RandomLabelMapping(random_state=0), LinearLabelMapping()]
)
def test_the_gradient_through_the_real_source_is_that_of_finite_differences(mapping):
    series, codes = make_data(n=4, n_classes=2, n_timepoints=140)
    module = make_module(
        mapping,
        series,
        codes,
        source=make_attrnn(),
        source_output="logits" if mapping.reads_logits else "embedding",
        mask=True,
        dropout=0.2,
        input_gain=0.3,
        train_gain=True,
        init_scale=0.1,
    )
    net = make_net(module, mapping, len(codes), l2=0.01)
    perturbation = module.reprogrammed.perturbation
    states = [generator.get_state() for generator in perturbation.generators]

    def loss():
        for generator, state in zip(perturbation.generators, states, strict=True):
            generator.set_state(state)
        return loss_of(net, series, codes, weight=[1, 2, 3, 4], training=True)

    loss().backward()
    directions = torch.Generator().manual_seed(1)
    for parameter in [perturbation.delta] * 4 + [perturbation.log_gain]:
        direction = torch.randn(
            parameter.shape, generator=directions, dtype=torch.float64
        )
        exact = (parameter.grad * direction).sum().item()
        assert abs(exact) > 1e-3
        errors = []
        # A step must be so small that none of 400,000 ReLUs turns on or off on the way;
        # should one do so in the first step, it will not in the second.
        for step in (1e-8, 1e-9):
            with torch.no_grad():
                parameter += step * direction
                ahead = loss().item()
                parameter -= 2 * step * direction
                behind = loss().item()
                parameter += step * direction
            errors.append(abs((ahead - behind) / (2 * step) / exact - 1))
        assert min(errors) < 1e-5


# --- the source ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [TinySource, make_attrnn])
@pytest.mark.parametrize("mapping", [IterativeLabelMapping(), LinearLabelMapping()])
def test_training_changes_no_bit_of_the_source(make, mapping):
    series, codes = make_data(n=4, n_classes=2)
    source = make()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    module = make_module(mapping, series, codes, source=source, dtype=torch.float32)
    start = delta_of(module)
    net = make_net(module, mapping, 4, validation=(series, codes), max_epochs=2)
    train(net, series, codes)
    assert not torch.equal(delta_of(module), start)
    assert module.reprogrammed.source is source
    after = source.state_dict()
    assert after.keys() == before.keys()
    assert any(name.endswith("running_var") for name in after)
    for name, value in after.items():
        assert value.numpy().tobytes() == before[name].numpy().tobytes(), name
    for parameter in source.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad


def test_the_optimiser_sees_the_perturbation_and_the_linear_head_alone():
    names = {
        (ContiguousLabelMapping, False): ["delta"],
        (ContiguousLabelMapping, True): ["delta", "log_gain"],
        (LinearLabelMapping, False): ["delta", "weight", "bias"],
    }
    for (make, train_gain), expected in names.items():
        job = small_training(make(), train_gain=train_gain)
        learnable = dict(job.net.get_all_learnable_params())
        assert [name.split(".")[-1] for name in learnable] == expected
        (group,) = job.net.optimizer_.param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in learnable.values()]
        assert job.net.module_ is job.module


def test_training_makes_the_loss_smaller():
    for mapping in (ContiguousLabelMapping(), LinearLabelMapping()):
        job = small_training(mapping, max_epochs=15)
        before = loss_of(job.net, job.series, job.codes).item()
        train(job.net, job.series, job.codes)
        # A learned mapping separates this data before any training.
        assert loss_of(job.net, job.series, job.codes).item() < 0.75 * before


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
    job.net.forget_training()
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
    job = small_training(seeds=seeds, seed=seed, dropout=0.3, **parameters)
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
    net.forget_training()
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
    job.net.forget_training()
    assert not any(module.training for module in job.module.modules())


def test_the_callbacks_of_the_user_are_kept_and_called_again():
    spy = SpyRate()
    job = small_training(callbacks=[spy], max_epochs=2)
    train(job.net, job.series, job.codes)
    job.net.forget_training()
    train(job.net, job.series, job.codes, epochs=1)
    assert len(spy.rates) == 9


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


# --- devices -------------------------------------------------------------------------


def test_the_moments_of_the_optimiser_move_and_its_count_stays():
    job = small_training(max_epochs=1)
    train(job.net, job.series, job.codes)
    job.net.hold_optimizer_on("meta")
    (state,) = job.net.optimizer_.state.values()
    assert {name: value.device.type for name, value in state.items()} == {
        "step": "cpu",
        "exp_avg": "meta",
        "exp_avg_sq": "meta",
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", [IterativeLabelMapping, LinearLabelMapping])
def test_an_accelerator_trains_the_same(make):
    series, codes = make_data()
    deltas = []
    for device in (CPU, torch.device("cuda")):
        mapping = make()
        module = make_module(mapping, series, codes, dropout=0.3, seeds=(0, 1))
        module.to(device)
        module.reprogrammed.hear_with(freeze(TinySource().double()).to(device))
        net = make_net(module, mapping, 12, make_data(n=6), device=device)
        train(net, series, codes)
        net.module_.to("cpu")
        net.hold_optimizer_on("cpu")
        deltas.append(delta_of(module))
    torch.testing.assert_close(*deltas, rtol=0, atol=1e-8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_host_waits_once_an_epoch_however_many_steps_there_are():
    device = torch.device("cuda")
    waits = []
    for batch_size in (12, 3):
        series, codes = make_data()
        mapping = RandomLabelMapping(random_state=0)
        module = make_module(mapping, series, codes, dropout=0.3).to(device)
        module.reprogrammed.hear_with(freeze(TinySource().double()).to(device))
        net = make_net(module, mapping, 12, device=device, batch_size=batch_size)
        # Whatever is allocated or loaded once.
        train(net, series, codes, epochs=1)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                train(net, series, codes, epochs=1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchroniz" in str(each.message) for each in caught))
    assert waits[0] == waits[1] > 0
