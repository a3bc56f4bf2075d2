# SPDX-License-Identifier: Apache-2.0
"""Training of the perturbation: batches, losses, gradients."""

import copy
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch.utils.data import DataLoader

from sklearn_v2s.label_mapping import (
    ContiguousLabelMapping,
    IterativeLabelMapping,
    LinearLabelMapping,
    RandomLabelMapping,
)
from sklearn_v2s.perturbation import collect_outputs
from sklearn_v2s.sources.contract import SourceOutputs
from sklearn_v2s.sources.front_end import FRONT_ENDS
from sklearn_v2s.sources.networks.attrnn import build_attrnn
from sklearn_v2s.training.net import RowsOnDevice, keep_batch
from sklearn_v2s.views.source_views import read_outputs
from tests.small_training import (
    CPU,
    as_input,
    delta_of,
    loss_of,
    make_data,
    make_module,
    make_net,
    small_training,
    train,
)
from tests.tiny_source import TinySource, draw_parameters

# --- batches -------------------------------------------------------------------------


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
        read = read_outputs(outputs, source_output, mean_logits=False)
        assert isinstance(read, type(kind(logits)))
        assert_array_equal(read, expected)
        means = read_outputs(outputs, source_output, mean_logits=True)
        assert_allclose(means, (logits[:, 0] + logits[:, 1]) / 2, rtol=1e-15)


# --- the loss ------------------------------------------------------------------------


def loss_by_hand(module, mapping, series, codes, weight):
    """Equations 3 and 4, term by term."""
    logits = collect_outputs(module.reprogrammed, series).logits.mean(axis=1)
    groups = mapping.source_indices_
    total = 0.0
    for row, code, w in zip(logits, codes, weight, strict=True):
        if mapping.aggregation == "probability":
            proba = np.exp(row) / np.exp(row).sum()
            score = sum(proba[s] for s in groups[code]) / len(groups[code])
        else:
            means = [sum(row[s] for s in group) / len(group) for group in groups]
            score = np.exp(means[code]) / np.exp(means).sum()
        total += -w * np.log(score)
    return total / np.sum(weight)


@pytest.mark.parametrize("aggregation", ["probability", "logit"])
@pytest.mark.parametrize("n_classes", [2, 3, 5])  # 5 of 12 source classes leave 2 over
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
        # In training there is no other term by default.
        loss = loss_of(net, series, codes, weight, training=True)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


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
        draw_parameters(source.network)
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

        def value_at(step, parameter=parameter, direction=direction):
            with torch.no_grad():
                parameter += step * direction
                value = loss().item()
                parameter -= step * direction
            return value

        # Steps that change next to nothing but the rounding show how large that is.
        values = [value_at(number * 1e-15) for number in range(8)]
        rounding = max(values) - min(values)
        ratios = []
        # A step must be so small that none of 400,000 ReLUs turns on or off on the way;
        # should one do so in the first step, it will not in the last.
        for step in (1e-7, 1e-8, 1e-9):
            slope = (value_at(step) - value_at(-step)) / (2 * step)
            # Each value is off by the rounding; without a kink the curvature adds what
            # is of second order in the step, less than a millionth.
            bound = rounding / (step * abs(exact)) + 1e-6
            if bound < 1e-3:
                ratios.append(abs(slope / exact - 1) / bound)
        assert ratios, "rounding hides the slope at every step"
        assert min(ratios) < 1


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


# --- devices -------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", [IterativeLabelMapping, LinearLabelMapping])
def test_an_accelerator_trains_the_same(make):
    series, codes = make_data()
    deltas = []
    for device in (CPU, torch.device("cuda")):
        mapping = make()
        module = make_module(mapping, series, codes, dropout=0.3, seeds=(0, 1))
        net = make_net(module.on(device), mapping, 12, make_data(n=6))
        train(net, series, codes)
        net.finish(module)
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
        module = make_module(mapping, series, codes, dropout=0.3).on(device)
        net = make_net(module, mapping, 12, batch_size=batch_size)
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
